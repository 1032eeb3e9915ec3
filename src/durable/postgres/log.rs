//! [`PostgresLog`]: a log whose frames, leases and settlements are in one database. `PostgreSql` opens one.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use futures::future::BoxFuture;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use super::{
    append::{Appending, RequeueRequest},
    appender::{Appender, Job},
    frames::{Frames, LedgerFrames},
    heartbeat::Heartbeat,
    ids, schema,
    tables::Tables,
};
use crate::{
    durable::{
        error::JoinError,
        ledger::{self, Ledger, LetterBytes, ShardSession, session},
        log::{
            self, Answer, Found, Lease, Log, LogError, Purge, Record, Size, StoredFrame, TermState, Work,
            callers::Callers,
            followers::Followers,
            lead::{IdRun, Lead, Membership, News, Reach},
            local::Asker,
            store::{LetterRow, OutcomeRow, Stored},
        },
        members::{Clock, Members},
        settled::Settled,
        step::Step,
    },
    rules::outcome::OpId,
    sink::postgres::Postgres,
};

/// Settings of `PostgreSql`, as a log needs them.
pub(super) struct Settings {
    pub(super) server: Postgres,
    pub(super) lease: Duration,
    /// Bytes of frames above which none is stored.
    pub(super) room: u64,
    /// Bytes of dead letters above which none is stored.
    pub(super) letter_room: u64,
}

pub(super) struct PostgresLog {
    shards: u16,
    ledger: Arc<Ledger>,
    frames: Arc<Frames>,
    members: Arc<Members>,
    clock: Arc<Clock>,
    followers: Arc<Followers>,
    jobs: mpsc::UnboundedSender<Job>,
    callers: Arc<Callers>,
    /// Canceled when the log is left.
    closed: CancellationToken,
    /// Appender and heartbeat, until the log is left.
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl PostgresLog {
    /// Joins the log of this name, and makes it if there is none.
    pub(super) async fn join(settings: &Settings, name: &str, shards: u16) -> Result<Self, JoinError> {
        let server = Arc::new(session::server(&settings.server)?);
        let mut session = session::connect(&server).await?;
        let found = schema::join(&mut session, name, shards, settings.lease).await?;
        let tables = Arc::new(Tables { schema: found.schema.clone(), log: found.log });
        let membership = Membership { log: found.log as u16, producer: found.producer };
        let (clock, members) = (Arc::<Clock>::default(), Members::new(membership, settings.lease, shards));
        let frames = Frames::new(Arc::clone(&tables), Arc::clone(&clock), &server);
        let ledger_frames = Arc::new(LedgerFrames { frames: Arc::clone(&frames), members: Arc::clone(&members) });
        let letters = (LetterBytes::of_many(settings.letter_room), ledger::patience(settings.lease));
        let ledger = Arc::new(Ledger::new(Arc::clone(&server), session, found, shards, ledger_frames, letters));
        let [of_heartbeat, of_appender] =
            [(); 2].map(|()| (Arc::clone(&tables), Arc::clone(&server), Arc::clone(&clock)));
        let (tables, of_server, of_clock) = of_heartbeat;
        let heartbeat = Heartbeat::begin(Arc::clone(&members), tables, of_server, of_clock).await?;
        let (tables, server, of_clock) = of_appender;
        let appending =
            Appending { tables, ledger: Arc::clone(&ledger), producer: membership.producer, room: settings.room };
        let followers = Arc::new(Followers::new(shards));
        let appender = Appender {
            appending,
            frames: Arc::clone(&frames),
            server,
            clock: of_clock,
            followers: Arc::clone(&followers),
            members: Arc::clone(&members),
        };
        let (jobs, asked) = mpsc::unbounded_channel();
        let closed = CancellationToken::new();
        let tasks =
            vec![tokio::spawn(appender.run(asked, closed.clone())), tokio::spawn(heartbeat.run(closed.clone()))];
        let (callers, tasks) = (Arc::default(), Mutex::new(tasks));
        Ok(Self { shards, ledger, frames, members, clock, followers, jobs, callers, closed, tasks })
    }

    /// Begins a term, if this process has the lease. An error behind the commit says that the epoch may have gone up.
    async fn begin_term(&self, shard: u16) -> Stored<TermState> {
        if self.members.is_removed() {
            return Err(LogError::Closed);
        }
        let (next, holder) = self.frames.tail(shard).await?;
        if holder != self.members.me {
            return Err(LogError::Fenced);
        }
        let state = match self.ledger.begin(shard, next).await {
            Err(error @ LogError::Failed(_)) => {
                self.frames.end_stuck().await;
                return Err(error);
            }
            state => state?,
        };
        let tail = self.frames.tail(shard).await;
        let (next, _) = tail.map_err(|error| match error {
            LogError::Failed(why) => LogError::Unknown(why),
            error => error,
        })?;
        let last = state.settled.last().map_or(0, |(_, last)| last + 1);
        if state.cursor.max(last) > next {
            return Err(LogError::Damaged("positions are settled that the log has not reached".to_owned()));
        }
        self.frames.remove_settled(shard, state.cursor, &state.settled);
        Ok(TermState { next, ..state })
    }
}

impl Drop for PostgresLog {
    /// A log that is dropped without a word is left all the same.
    fn drop(&mut self) {
        self.closed.cancel();
    }
}

impl Log for PostgresLog {
    fn now(&self) -> SystemTime {
        self.clock.now()
    }

    fn producer(&self) -> u64 {
        self.members.me
    }

    fn follow(&self, shard: u16) -> mpsc::UnboundedReceiver<StoredFrame> {
        self.followers.follow(shard)
    }

    fn append(&self, shard: u16, frames: Arc<dyn log::Frames>) {
        let asker = Asker::new(Arc::clone(&frames));
        // If the appender is gone, the asker answers.
        let _ = self.jobs.send(Job::Frames { shard, frames, asker });
    }

    fn callers(&self) -> Arc<Callers> {
        Arc::clone(&self.callers)
    }

    fn try_lead(&self, shard: u16) -> Option<Lead> {
        let lead = self.members.try_lead(shard)?;
        Some(lead.with(ShardSession::new(&self.ledger, shard)))
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
            let (next, cursor, paused) = self.frames.reach(shard).await?;
            Ok(Reach { next, cursor, paused })
        })
    }

    fn set_paused(&self, shard: u16, paused: bool) -> Answer<'_, u64> {
        Box::pin(async move {
            let under_way = self.ledger.set_paused(shard, paused).await?;
            self.members.recorded(shard);
            Ok(under_way)
        })
    }

    fn holds(&self, id: OpId) -> Answer<'_, bool> {
        let read = move |from, limit| self.frames.reading(id.shard(), from, limit);
        Box::pin(self.frames.holds(id, read))
    }

    fn begin(&self, shard: u16) -> Answer<'_, TermState> {
        Box::pin(self.begin_term(shard))
    }

    fn read(&self, shard: u16, from: u64) -> Answer<'_, Vec<StoredFrame>> {
        Box::pin(self.frames.read_some(shard, from))
    }

    fn record(&self, record: Arc<Record>) -> Answer<'_, ()> {
        Box::pin(async move { self.ledger.record(&record).await })
    }

    /// The work has no connection to write by.
    fn transact(&self, _lease: Lease, work: Box<dyn Work>) {
        work.end(Err(LogError::Failed("the log is in PostgreSQL: use Term::postgres".to_owned())));
    }

    fn find(&self, id: OpId) -> Answer<'_, Found> {
        Box::pin(async move {
            if id.shard() >= self.shards {
                return Ok(Found::Forgotten);
            }
            match self.ledger.find(id).await? {
                Some(row) => Ok(Found::Ended(row)),
                None => self.frames.find(id.shard(), id.producer(), id.number()).await,
            }
        })
    }

    fn compact(&self, shard: u16, sparse: Vec<u64>) -> Answer<'_, ()> {
        Box::pin(async move {
            // Without them the next term compacts.
            let Some((cursor, settled)) = self.ledger.known(shard).await? else { return Ok(()) };
            Step::Compaction.before();
            self.frames.compact(shard, &sparse, &Settled::new(cursor, &settled)).await?;
            Step::Compaction.after();
            Ok(())
        })
    }

    fn purge(&self, shard: u16, purge: Purge) -> Answer<'_, bool> {
        Box::pin(async move {
            let unread = Box::pin(self.frames.read_rest(shard, purge.unread));
            ids::purge(&self.frames, &self.ledger, shard, &purge, unread).await
        })
    }

    fn letters(&self, shard: u16, after: Option<(u64, u64)>, limit: usize) -> Answer<'_, Vec<LetterRow>> {
        Box::pin(self.ledger.letters(shard, after, limit))
    }

    fn discard(&self, id: OpId) -> Answer<'_, bool> {
        Box::pin(self.ledger.discard(id))
    }

    fn requeue(&self, id: OpId, number: u64) -> Answer<'_, Option<OpId>> {
        let (reply, answer) = oneshot::channel();
        let new = OpId::new(self.members.me, id.shard(), number);
        let asked = self.jobs.send(Job::Requeue { moved: RequeueRequest { letter: id, number }, reply });
        Box::pin(async move {
            asked.map_err(|_| LogError::Closed)?;
            let moved = answer.await.unwrap_or(Err(LogError::Closed))?;
            Ok(moved.map(|_| new))
        })
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
            self.frames.end().await;
        })
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
