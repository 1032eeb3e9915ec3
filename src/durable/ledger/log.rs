//! [`LedgerLog`]: the log of a file that has a ledger. Frames, ids of processes and floors of forgotten ids are in the file, all
//! else in the ledger. `File` opens one.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use futures::future::BoxFuture;
use tokio::sync::mpsc;

use super::{FrameStore, Ledger, LetterBytes, lookups::Marked};
use crate::{
    durable::{
        error::JoinError,
        frame::Entry,
        log::{
            Answer, Found, Frames, Lease, Log, LogError, Purge, Record, Size, StoredFrame, TermState, Work,
            callers::Callers,
            frames,
            lead::{IdRun, Lead, Membership, News, Reach},
            local::{Engine, Local, nanos},
            rules::PURGE,
            store::{LetterRow, OutcomeRow},
            turns::Turns,
        },
        step::Step,
    },
    rules::outcome::OpId,
    sink::postgres::Postgres,
};

struct LedgerLog<E> {
    ledger: Arc<Ledger>,
    local: Arc<Local<E>>,
}

/// The frames of the log, as its ledger sees them.
struct Filed<E> {
    local: Local<E>,
    /// Runs that are settled and whose frames could not be removed, by shard. They are tried again with the next.
    behind: Arc<Mutex<Behind>>,
}

/// Runs of positions, by shard.
type Behind = HashMap<u16, Vec<(u64, u64)>>;

/// Joins a log whose frames are in an engine on this machine, and its ledger.
pub(crate) async fn open<E: Engine>(
    engine: Arc<E>,
    turns: Turns,
    settings: &Postgres,
    name: &str,
    shards: u16,
    max_letter_bytes: u64,
) -> Result<Arc<dyn Log>, JoinError> {
    let (of, fresh) = (name.to_owned(), RandomState::new().hash_one(SystemTime::now()));
    let paired = turns.run(move |store| frames::pair(store, &of, shards, fresh), |_| {}).await?;
    let local = |producer| Local::new(Arc::clone(&engine), turns.clone(), paired.log, producer, shards);
    let letters = LetterBytes::of_one_process(max_letter_bytes);
    // The ledger gives this process its number, and appends nothing.
    let frames_of_ledger = Arc::new(Filed { local: local(0), behind: Arc::default() });
    let (ledger, producer) = Ledger::join(settings, name, shards, paired, frames_of_ledger, letters).await?;
    let of = name.to_owned();
    turns.run(move |store| frames::introduce(store, &of, producer), |()| {}).await?;
    engine.joined(Membership { log: paired.log, producer });
    let (ledger, local) = (Arc::new(ledger), Arc::new(local(producer)));
    for shard in 0..shards {
        for marked in ledger.marked(shard).await? {
            come_back(&ledger, &local, marked).await?;
        }
    }
    Ok(Arc::new(LedgerLog { ledger, local }))
}

impl<E: Engine> FrameStore for Filed<E> {
    fn now(&self) -> u64 {
        nanos(self.local.now())
    }

    fn ops(&self, shard: u16, positions: Vec<u64>) -> Answer<'_, Vec<Vec<u8>>> {
        self.local.run(shard, move |store, key| frames::ops(store, key, &positions))
    }

    fn forget(&self, shard: u16, cursor: u64, mut runs: Vec<(u64, u64)>) {
        let behind = Arc::clone(&self.behind);
        runs.extend(behind.lock().unwrap_or_else(PoisonError::into_inner).remove(&shard).into_iter().flatten());
        let of_rule = runs.clone();
        let forgetting = self.local.run(shard, move |store, key| frames::forget(store, key, cursor, &of_rule));
        tokio::spawn(async move {
            if forgetting.await.is_err() {
                let mut behind = behind.lock().unwrap_or_else(PoisonError::into_inner);
                behind.entry(shard).or_default().extend(runs);
            }
        });
    }
}

/// Puts the op of a dead letter at the end of the log, and then removes the letter. The op has the id that the letter names, and
/// its leader is told that the id may repeat: so it takes effect once, however often this is done.
async fn come_back<E: Engine>(ledger: &Ledger, local: &Local<E>, marked: Marked) -> Result<OpId, LogError> {
    let Marked { from, to, op, schema } = marked;
    let entry = Entry { producer: to.producer(), number: to.number(), handle: 0, may_repeat: true, withdraws: false };
    let now = nanos(local.now());
    local.add_frame(from.shard(), move |store, key| frames::push_op(store, key, entry, (&op, schema), now)).await?;
    ledger.discard_surely(from).await;
    Ok(to)
}

/// The answer to what only a process asks for that follows another one.
fn of_one_process<V: Send + 'static>() -> Answer<'static, V> {
    Box::pin(async { Err(LogError::Failed("a log with a ledger is of one process".to_owned())) })
}

impl<E: Engine> Log for LedgerLog<E> {
    fn now(&self) -> SystemTime {
        self.local.now()
    }

    fn producer(&self) -> u64 {
        self.local.producer()
    }

    fn follow(&self, shard: u16) -> mpsc::UnboundedReceiver<StoredFrame> {
        self.local.follow(shard)
    }

    fn append(&self, shard: u16, frames: Arc<dyn Frames>) {
        self.local.append(shard, frames);
    }

    fn callers(&self) -> Arc<Callers> {
        self.local.callers()
    }

    fn try_lead(&self, shard: u16) -> Option<Lead> {
        self.local.try_lead(shard)
    }

    fn news(&self, shard: u16) -> Arc<News> {
        self.local.news(shard)
    }

    fn press(&self, shard: u16) {
        self.local.press(shard);
    }

    fn has_company(&self) -> bool {
        self.local.has_company()
    }

    fn is_member(&self, producer: u64) -> bool {
        self.local.is_member(producer)
    }

    fn ended(&self, _shard: u16, _ids: Vec<IdRun>) -> Answer<'_, Vec<OutcomeRow>> {
        of_one_process()
    }

    fn reach(&self, _shard: u16) -> Answer<'_, Reach> {
        of_one_process()
    }

    fn end(&self, shard: u16) -> Answer<'_, u64> {
        self.local.end(shard)
    }

    fn set_paused(&self, _shard: u16, _paused: bool) -> Answer<'_, u64> {
        of_one_process()
    }

    fn holds(&self, _id: OpId) -> Answer<'_, bool> {
        of_one_process()
    }

    fn begin(&self, shard: u16) -> Answer<'_, TermState> {
        Box::pin(async move {
            let state = self.ledger.begin(shard, self.local.reach(shard).await?.next).await?;
            let of_rule = state.clone();
            let next = self.local.run(shard, move |store, key| frames::begin(store, key, &of_rule)).await?;
            Ok(TermState { next, ..state })
        })
    }

    fn read(&self, shard: u16, from: u64) -> Answer<'_, Vec<StoredFrame>> {
        self.local.read(shard, from)
    }

    fn record(&self, record: Arc<Record>) -> Answer<'_, ()> {
        Box::pin(async move { self.ledger.record(&record).await })
    }

    /// The work has no connection to write by.
    fn transact(&self, _lease: Lease, work: Box<dyn Work>) {
        work.end(Err(LogError::Failed("the log has a ledger in PostgreSQL: use Term::postgres".to_owned())));
    }

    fn find(&self, id: OpId) -> Answer<'_, Found> {
        Box::pin(async move {
            if let Some(row) = self.ledger.find(id).await? {
                return Ok(Found::Ended(row));
            }
            let (producer, number) = (id.producer(), id.number());
            self.local.run(id.shard(), move |store, key| frames::find(store, key, producer, number)).await
        })
    }

    fn compact(&self, shard: u16, sparse: Vec<u64>) -> Answer<'_, ()> {
        Box::pin(async move {
            // Without them the next term compacts.
            let Some((cursor, settled)) = self.ledger.known(shard).await? else { return Ok(()) };
            Step::Compaction.before();
            let compacting =
                self.local.run(shard, move |store, key| frames::compact(store, key, &sparse, (cursor, &settled)));
            compacting.await?;
            Step::Compaction.after();
            Ok(())
        })
    }

    /// The ids are forgotten first: an id whose outcome is gone is never new.
    fn purge(&self, shard: u16, purge: Purge) -> Answer<'_, bool> {
        Box::pin(async move {
            let before = purge.before;
            self.ledger.remove_charges(shard, purge.now).await?;
            let old = self.ledger.outcomes_before(shard, before, &purge.open, PURGE).await?;
            if old.is_empty() {
                return Ok(false);
            }
            let is_full = old.len() == PURGE;
            let floors = self.local.run(shard, move |store, key| frames::forget_ids(store, key, &purge, &old)).await?;
            if floors.is_empty() {
                return Ok(false);
            }
            self.ledger.remove_outcomes(shard, &floors, before).await?;
            Ok(is_full)
        })
    }

    fn letters(&self, shard: u16, after: Option<(u64, u64)>, limit: usize) -> Answer<'_, Vec<LetterRow>> {
        Box::pin(self.ledger.letters(shard, after, limit))
    }

    fn discard(&self, id: OpId) -> Answer<'_, bool> {
        Box::pin(self.ledger.discard(id))
    }

    fn requeue(&self, id: OpId, number: u64) -> Answer<'_, Option<OpId>> {
        let (ledger, local) = (Arc::clone(&self.ledger), Arc::clone(&self.local));
        // In a task of its own, so that a caller that gives up leaves nothing half done.
        let requeue = tokio::spawn(async move {
            match ledger.mark(id, (local.producer(), number)).await? {
                Some(marked) => come_back(&ledger, &local, marked).await.map(Some),
                None => Ok(None),
            }
        });
        Box::pin(async move { requeue.await.unwrap_or(Err(LogError::Closed)) })
    }

    fn ledger(&self) -> Option<&Ledger> {
        Some(&self.ledger)
    }

    fn size(&self) -> Size {
        let Size { bytes, commits } = self.local.size();
        Size { bytes, commits: commits + self.ledger.commits() }
    }

    /// The sessions end before the file is free for another process.
    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.ledger.close().await;
            self.local.close().await;
        })
    }
}
