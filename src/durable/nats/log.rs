//! [`NatsLog`]: a log whose frames are in streams of JetStream and whose ledger is in PostgreSQL. `Nats` opens one.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use futures::future::BoxFuture;
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{appender::Appender, frames::Frames};
use crate::{
    durable::{
        frame::{Entry, Frame, Packer},
        ledger::{Ledger, ShardSession, lookups::Marked},
        log::{
            self, Answer, Found, Lease, Log, LogError, Purge, Record, Size, StoredFrame, TermState, Work,
            callers::Callers,
            followers::Followers,
            lead::{IdRun, Lead, News, Reach},
            local::nanos,
            search,
            store::{LetterRow, OutcomeRow, Stored},
        },
        members::Members,
        postgres::ids,
    },
    rules::outcome::OpId,
};

pub(super) struct NatsLog {
    pub(super) shards: u16,
    pub(super) ledger: Arc<Ledger>,
    pub(super) frames: Arc<Frames>,
    pub(super) members: Arc<Members>,
    pub(super) followers: Arc<Followers>,
    pub(super) appender: Appender,
    pub(super) callers: Arc<Callers>,
    /// Canceled when the log is left.
    pub(super) closed: CancellationToken,
    pub(super) tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl NatsLog {
    /// Begins a term, if this process has the lease. An error behind the commit says that the epoch may have gone up.
    async fn begin_term(&self, shard: u16) -> Stored<TermState> {
        if self.members.is_removed() {
            return Err(LogError::Closed);
        }
        let of_shard = self.frames.shard(shard)?;
        // From here on the reader delivers the frames of all processes.
        of_shard.term_begins(of_shard.losses());
        let began = self.begin_reading(shard).await;
        if began.is_err() {
            of_shard.term_ended();
        }
        began
    }

    async fn begin_reading(&self, shard: u16) -> Stored<TermState> {
        let next = self.frames.end(shard).await?;
        let state = self.ledger.begin(shard, next).await?;
        let unknown = |error: LogError| match error {
            LogError::Failed(why) => LogError::Unknown(why),
            error => error,
        };
        let last = state.settled.last().map_or(0, |(_, last)| last + 1);
        // An earlier leader may have read what was stored since.
        let next = self.frames.end_at_least(shard, state.cursor.max(last)).await.map_err(unknown)?;
        self.frames.reach(shard).await.map_err(unknown)?;
        if !self.frames.kept.read(shard, 0, 1).await.map_err(unknown)?.is_empty() {
            self.frames.has_kept(shard);
            self.frames.kept.remove_settled(shard, state.cursor, &state.settled);
        }
        self.frames.shard(shard)?.settled.notify_one();
        Ok(TermState { next, ..state })
    }

    /// Frames from a position on, as many as are read at a time, and whether these are all.
    async fn read_rest(&self, shard: u16, from: u64) -> Stored<(Vec<StoredFrame>, bool)> {
        let frames = self.frames.read(shard, from, search::READ).await?;
        let is_all = (frames.len() as u64) < search::READ;
        Ok((frames, is_all))
    }
}

/// Puts the op of a dead letter at the end of the log, and then removes the letter. The op has the id that the letter names, and
/// its leader is told that the id may repeat: so it takes effect once, however often this is done.
pub(super) async fn come_back(ledger: &Ledger, appender: &Appender, marked: Marked) -> Result<OpId, LogError> {
    let Marked { from, to, op, schema } = marked;
    let entry = Entry { producer: to.producer(), number: to.number(), handle: 0, may_repeat: true, withdraws: false };
    let mut packer = Packer::new(appender.me);
    packer.push(entry, &op);
    let frame: Frame = packer.seal(0, nanos(appender.frames.clock.now()), schema);
    appender.store_letter(from.shard(), &frame).await?;
    ledger.discard_surely(from).await;
    Ok(to)
}

/// The delivery of all frames to the leader of a shard in this process, which ends with the lead.
struct Delivery {
    frames: Arc<Frames>,
    shard: u16,
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Ok(of_shard) = self.frames.shard(self.shard) {
            of_shard.term_ended();
        }
    }
}

impl Drop for NatsLog {
    /// A log that is dropped without a word is left all the same.
    fn drop(&mut self) {
        self.closed.cancel();
    }
}

impl Log for NatsLog {
    fn now(&self) -> SystemTime {
        self.frames.clock.now()
    }

    fn producer(&self) -> u64 {
        self.members.me
    }

    fn follow(&self, shard: u16) -> mpsc::UnboundedReceiver<StoredFrame> {
        self.followers.follow(shard)
    }

    fn append(&self, shard: u16, frames: Arc<dyn log::Frames>) {
        self.appender.append(shard, frames);
    }

    fn callers(&self) -> Arc<Callers> {
        Arc::clone(&self.callers)
    }

    fn try_lead(&self, shard: u16) -> Option<Lead> {
        let lead = self.members.try_lead(shard)?;
        let delivery = Delivery { frames: Arc::clone(&self.frames), shard };
        Some(lead.with(ShardSession::new(&self.ledger, shard)).with(delivery))
    }

    fn news(&self, shard: u16) -> Arc<News> {
        self.members.news(shard)
    }

    fn press(&self, shard: u16) {
        self.members.press(shard);
    }

    fn has_company(&self) -> bool {
        self.members.has_company()
    }

    fn is_member(&self, producer: u64) -> bool {
        self.members.is_member(producer)
    }

    fn ended(&self, shard: u16, ids: Vec<IdRun>) -> Answer<'_, Vec<OutcomeRow>> {
        Box::pin(async move { self.ledger.ended(shard, &ids).await })
    }

    fn reach(&self, shard: u16) -> Answer<'_, Reach> {
        Box::pin(async move {
            if self.members.is_removed() {
                return Err(LogError::Closed);
            }
            self.frames.shard(shard)?.check_term()?;
            // The position first: what is settled later has been read before.
            let next = self.frames.next(shard)?;
            let (cursor, paused) = self.frames.reach(shard).await?;
            Ok(Reach { next, cursor, paused })
        })
    }

    fn end(&self, shard: u16) -> Answer<'_, u64> {
        Box::pin(self.frames.end(shard))
    }

    fn set_paused(&self, shard: u16, paused: bool) -> Answer<'_, u64> {
        Box::pin(async move {
            let under_way = self.ledger.set_paused(shard, paused).await?;
            self.members.recorded(shard);
            Ok(under_way)
        })
    }

    fn holds(&self, id: OpId) -> Answer<'_, bool> {
        Box::pin(async move {
            self.frames.sync(id.shard()).await?;
            let read = move |from, limit| self.frames.reading(id.shard(), from, limit);
            self.frames.kept.holds(id, read).await
        })
    }

    fn begin(&self, shard: u16) -> Answer<'_, TermState> {
        Box::pin(self.begin_term(shard))
    }

    fn read(&self, shard: u16, from: u64) -> Answer<'_, Vec<StoredFrame>> {
        Box::pin(self.frames.read(shard, from, search::READ))
    }

    fn record(&self, record: Arc<Record>) -> Answer<'_, ()> {
        Box::pin(async move { self.ledger.record(&record).await })
    }

    /// The work has no connection to write by.
    fn transact(&self, _lease: Lease, work: Box<dyn Work>) {
        work.end(Err(LogError::Failed("the log's ledger is in PostgreSQL: use Term::postgres".to_owned())));
    }

    fn find(&self, id: OpId) -> Answer<'_, Found> {
        Box::pin(async move {
            if id.shard() >= self.shards {
                return Ok(Found::Forgotten);
            }
            match self.ledger.find(id).await? {
                Some(row) => Ok(Found::Ended(row)),
                None => self.frames.kept.find(id.shard(), id.producer(), id.number()).await,
            }
        })
    }

    /// Messages of a stream can't be made smaller: `upkeep` keeps what is left of old ones.
    fn compact(&self, _shard: u16, _sparse: Vec<u64>) -> Answer<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    fn purge(&self, shard: u16, purge: Purge) -> Answer<'_, bool> {
        Box::pin(async move {
            let unread = Box::pin(self.read_rest(shard, purge.unread));
            ids::purge(&self.frames.kept, &self.ledger, shard, &purge, unread).await
        })
    }

    fn letters(&self, shard: u16, after: Option<(u64, u64)>, limit: usize) -> Answer<'_, Vec<LetterRow>> {
        Box::pin(self.ledger.letters(shard, after, limit))
    }

    fn discard(&self, id: OpId) -> Answer<'_, bool> {
        Box::pin(self.ledger.discard(id))
    }

    fn requeue(&self, id: OpId, number: u64) -> Answer<'_, Option<OpId>> {
        let (ledger, appender) = (Arc::clone(&self.ledger), self.appender.clone());
        // In a task of its own, so that a caller that gives up leaves nothing half done.
        let requeue = tokio::spawn(async move {
            match ledger.mark(id, (appender.me, number)).await? {
                Some(marked) => come_back(&ledger, &appender, marked).await.map(Some),
                None => Ok(None),
            }
        });
        Box::pin(async move { requeue.await.unwrap_or(Err(LogError::Closed)) })
    }

    fn ledger(&self) -> Option<&Ledger> {
        Some(&self.ledger)
    }

    fn size(&self) -> Size {
        let Size { bytes, commits } = self.members.size();
        Size { bytes, commits: commits + self.ledger.commits() }
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.closed.cancel();
            let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
            // A task that has panicked is gone as well.
            futures::future::join_all(tasks).await;
            self.ledger.close().await;
            self.frames.kept.end().await;
            self.frames.checkpoints.end().await;
        })
    }
}
