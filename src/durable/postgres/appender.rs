//! [`Appender`]: the task that appends the frames of this process, all shards in one session. Frames that come while a transaction is
//! under way share the next one. A leader of this process is told of them in the order of the log, before their callers are.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::append::{AppendRequest, Appending, RequeueRequest};
use crate::{
    durable::{
        ledger::session::Slot,
        log::{
            Frames, LogError, StoredFrame,
            followers::Followers,
            local::{Asker, nanos},
            store::Stored,
        },
        members::{Clock, Members},
    },
    sink::postgres::Server,
};

/// Bytes of frames in one transaction, about: some tenths of a second on a slow disk.
const MAX_BYTES: usize = 8_000_000;

/// A process that is stopped with tails locked lets go of them after this, so that no other one waits longer. An answer that takes
/// longer is none.
const SETTINGS: &str = "SET idle_in_transaction_session_timeout TO '2s'; SET statement_timeout TO '20s'";

/// A request to append.
pub(super) enum Job {
    Frames { shard: u16, frames: Arc<dyn Frames>, asker: Asker },
    Requeue { moved: RequeueRequest, reply: oneshot::Sender<Stored<Option<StoredFrame>>> },
}

pub(super) struct Appender {
    pub(super) appending: Appending,
    pub(super) frames: Arc<super::frames::Frames>,
    pub(super) server: Arc<Server>,
    pub(super) clock: Arc<Clock>,
    pub(super) followers: Arc<Followers>,
    pub(super) members: Arc<Members>,
}

impl Appender {
    /// Appends until the log is closed. What comes later is refused.
    pub(super) async fn run(self, mut jobs: mpsc::UnboundedReceiver<Job>, closed: CancellationToken) {
        let mut slot = Slot::with(SETTINGS);
        let mut waiting = Vec::new();
        loop {
            tokio::select! {
                biased;
                () = closed.cancelled() => break,
                job = jobs.recv() => match job {
                    Some(job) => waiting.push(job),
                    None => break,
                },
            }
            // Callers that were answered just now send again first.
            tokio::task::yield_now().await;
            while let Ok(job) = jobs.try_recv() {
                waiting.push(job);
            }
            let turn = self.turn(&mut slot, std::mem::take(&mut waiting));
            tokio::select! {
                biased;
                () = closed.cancelled() => break,
                () = turn => {}
            }
        }
        slot.end().await;
        jobs.close();
        // Dropped, they are answered: the log is closed.
    }

    /// Carries out all requests.
    async fn turn(&self, slot: &mut Slot, jobs: Vec<Job>) {
        let (mut asked, mut askers, mut bytes) = (Vec::new(), Vec::new(), 0);
        for job in jobs {
            match job {
                Job::Requeue { moved, reply } => {
                    let result = self.requeue(slot, &moved).await;
                    // A caller that gave up hears nothing.
                    let _ = reply.send(result);
                }
                Job::Frames { shard, frames, asker } => match frames.frame() {
                    None => asker.answer(Ok(())),
                    Some(frame) => {
                        bytes += frame.bytes.len();
                        asked.push(AppendRequest { shard, frame });
                        askers.push(asker);
                        if bytes >= MAX_BYTES {
                            self.append(slot, std::mem::take(&mut asked), std::mem::take(&mut askers)).await;
                            bytes = 0;
                        }
                    }
                },
            }
        }
        self.append(slot, asked, askers).await;
    }

    /// Stores frames in one transaction, and answers.
    async fn append(&self, slot: &mut Slot, asked: Vec<AppendRequest>, askers: Vec<Asker>) {
        if asked.is_empty() {
            return;
        }
        let answers = match self.store(slot, &asked).await {
            Ok(answers) => answers,
            Err(error) => asked.iter().map(|_| Err(error.clone())).collect(),
        };
        // Told again of a frame that was stored before, since a commit of unknown result tells no leader.
        let stored =
            asked.iter().zip(&answers).filter_map(|(asked, answer)| Some((asked.shard, answer.as_ref().ok()?)));
        stored.clone().for_each(|(shard, frame)| self.followers.tell(shard, frame));
        self.members.stored(stored.map(|(shard, _)| shard));
        askers.into_iter().zip(answers).for_each(|(asker, answer)| asker.answer(answer.map(drop)));
    }

    async fn store(&self, slot: &mut Slot, asked: &[AppendRequest]) -> Stored<Vec<Stored<StoredFrame>>> {
        let mut in_use = slot.ready(&self.server).await?;
        let stored = self.appending.store(in_use.client()?, asked, nanos(self.clock.now())).await;
        match &stored {
            Ok(_) => in_use.done(),
            Err(LogError::Unknown(_)) => {}
            Err(_) => {
                in_use.undo().await;
                self.frames.end_stuck().await;
            }
        }
        if stored.is_ok() {
            self.members.committed();
        }
        stored
    }

    async fn requeue(&self, slot: &mut Slot, moved: &RequeueRequest) -> Stored<Option<StoredFrame>> {
        let mut in_use = slot.ready(&self.server).await?;
        let stored = self.appending.requeue(in_use.client()?, moved, nanos(self.clock.now())).await;
        match &stored {
            Ok(_) => in_use.done(),
            Err(LogError::Unknown(_)) => {}
            Err(_) => in_use.undo().await,
        }
        if let Ok(Some(frame)) = &stored {
            self.members.committed();
            self.followers.tell(moved.letter.shard(), frame);
            self.members.stored([moved.letter.shard()]);
        }
        stored
    }
}
