//! [`Local`]: a [`Log`] on one machine: the rules, run by an engine that has transactions. `join` opens one.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use futures::future::BoxFuture;
use tokio::sync::mpsc;

use super::{
    Answer, Found, Frames, Lease, Log, LogError, Purge, Record, Size, StoredFrame, TermState, Work,
    callers::Callers,
    follow,
    lead::{IdRun, Lead, Membership, News, Reach},
    rules,
    store::{LetterRow, OutcomeRow, Store, Stored, shard_key},
    turns::{Job, Turns, fails_turn},
};
use crate::{durable::step::Step, rules::outcome::OpId};

/// An engine, apart from its transactions.
pub(crate) trait Engine: Send + Sync + 'static {
    fn now(&self) -> SystemTime;

    /// Bytes of the log, and transactions committed by this process.
    fn size(&self) -> Size;

    /// This process has joined a log.
    fn joined(&self, member: Membership);

    /// The processes that have joined a log, in order.
    fn members(&self, log: u16) -> Vec<Membership>;

    /// Whether a process has joined a log. One that has just joined is known.
    fn is_alive(&self, member: Membership) -> bool;

    /// Takes the lead of a shard, by its key, if it is free and this process is the one to have it.
    fn try_lead(&self, shard: u32, member: Membership) -> Option<Lead>;

    /// Notices of what other processes do in a shard.
    fn news(&self, shard: u32) -> Arc<News>;

    /// Asks the process that leads a shard to make due all that waits.
    fn press(&self, shard: u32);

    /// Gives the log up to other processes.
    fn close(&self) -> BoxFuture<'_, ()>;
}

pub(crate) struct Local<E> {
    engine: Arc<E>,
    turns: Turns,
    log: u16,
    producer: u64,
    /// The leaders of this process, by shard.
    followers: Vec<Follower>,
}

/// The way of new frames to the leader of a shard.
type Follower = Arc<Mutex<Option<mpsc::UnboundedSender<StoredFrame>>>>;

/// Nanoseconds since 1970.
pub(crate) fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

impl<E: Engine> Local<E> {
    /// Joins the log of this name, and makes it if there is none.
    pub(crate) async fn join(engine: Arc<E>, turns: Turns, name: &str, shards: u16) -> Result<Self, LogError> {
        let name = name.to_owned();
        let joining = turns.run(
            move |store| {
                let (log, producer) = rules::join(store, &name, shards)?;
                for shard in 0..shards {
                    rules::introduce(store, shard_key(log, shard), producer)?;
                }
                Ok((log, producer))
            },
            drop_ref,
        );
        let (log, producer) = joining.await?;
        engine.joined(Membership { log, producer });
        Ok(Self::new(engine, turns, log, producer, shards))
    }

    /// A log that has been joined.
    pub(crate) fn new(engine: Arc<E>, turns: Turns, log: u16, producer: u64, shards: u16) -> Self {
        let followers = (0..shards).map(|_| Follower::default()).collect();
        Self { engine, turns, log, producer, followers }
    }

    /// Runs a rule on a shard in the next transaction.
    #[cfg(all(feature = "durable-file", feature = "postgres"))]
    pub(crate) fn run<V, F>(&self, shard: u16, mut rule: F) -> Answer<'static, V>
    where
        V: Send + 'static,
        F: FnMut(&mut dyn Store, u32) -> Stored<V> + Send + 'static,
    {
        let key = self.key(shard);
        self.turns.run(move |store| rule(store, key), drop_ref)
    }

    /// Runs a rule that adds a frame to a shard, and tells the leader of it.
    #[cfg(all(feature = "durable-file", feature = "postgres"))]
    pub(crate) fn add_frame<F>(&self, shard: u16, mut rule: F) -> Answer<'static, StoredFrame>
    where
        F: FnMut(&mut dyn Store, u32) -> Stored<StoredFrame> + Send + 'static,
    {
        let (key, stored) = (self.key(shard), self.stored(shard));
        self.turns.run(move |store| rule(store, key), move |frame: &StoredFrame| stored(frame.clone()))
    }

    fn key(&self, shard: u16) -> u32 {
        shard_key(self.log, shard)
    }

    fn membership(&self) -> Membership {
        Membership { log: self.log, producer: self.producer }
    }

    /// Tells the leader of a new frame. Called by the engine, in the order of the log.
    fn stored(&self, shard: u16) -> impl FnOnce(StoredFrame) + Send + use<E> {
        let follower = self.followers.get(usize::from(shard)).cloned();
        move |frame| {
            let follower = follower.as_ref().map(|follower| follower.lock().unwrap_or_else(PoisonError::into_inner));
            if let Some(sender) = follower.as_ref().and_then(|follower| follower.as_ref()) {
                // A leader that is gone reads the log when its next term begins.
                let _ = sender.send(frame);
            }
        }
    }
}

/// Work of a sink on its way through a transaction.
struct Transact<E> {
    shard: u32,
    lease: Lease,
    engine: Arc<E>,
    work: Box<dyn Work>,
    value: Option<Stored<bool>>,
}

impl<E: Engine> Job for Transact<E> {
    fn run(&mut self, store: &mut dyn Store) -> Result<(), LogError> {
        let now = nanos(self.engine.now());
        let value = rules::transact(store, self.shard, self.lease, &mut *self.work, now);
        let result = fails_turn(&value);
        self.value = Some(value);
        result
    }

    fn end(self: Box<Self>, committed: Result<(), LogError>) {
        let Self { work, value, .. } = *self;
        work.end(committed.and_then(|()| value.unwrap_or(Err(LogError::Closed))));
    }
}

fn drop_ref<V>(_value: &V) {}

/// Answers frames once, also if the engine drops the request.
pub(crate) struct Asker(Option<Arc<dyn Frames>>);

impl Asker {
    pub(crate) fn new(frames: Arc<dyn Frames>) -> Self {
        Self(Some(frames))
    }

    pub(crate) fn answer(mut self, result: Result<(), LogError>) {
        if let Some(frames) = self.0.take() {
            frames.answer(result);
        }
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        if let Some(frames) = self.0.take() {
            frames.answer(Err(LogError::Closed));
        }
    }
}

impl<E: Engine> Log for Local<E> {
    fn now(&self) -> SystemTime {
        self.engine.now()
    }

    fn producer(&self) -> u64 {
        self.producer
    }

    fn follow(&self, shard: u16) -> mpsc::UnboundedReceiver<StoredFrame> {
        let (sender, frames) = mpsc::unbounded_channel();
        if let Some(follower) = self.followers.get(usize::from(shard)) {
            *follower.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        }
        frames
    }

    fn append(&self, shard: u16, frames: Arc<dyn Frames>) {
        let (key, engine, stored) = (self.key(shard), Arc::clone(&self.engine), self.stored(shard));
        let asker = Asker::new(Arc::clone(&frames));
        self.turns.push(
            move |store| {
                let Some(frame) = frames.frame() else { return Ok(None) };
                rules::append(store, key, &frame, nanos(engine.now())).map(Some)
            },
            // Told again of a frame that was stored before, since a commit of unknown result tells no leader.
            move |frame: &Option<StoredFrame>| {
                if let Some(frame) = frame.clone() {
                    stored(frame);
                }
            },
            move |result| asker.answer(result.map(drop)),
        );
    }

    fn callers(&self) -> Arc<Callers> {
        self.turns.callers()
    }

    fn try_lead(&self, shard: u16) -> Option<Lead> {
        self.engine.try_lead(self.key(shard), self.membership())
    }

    fn news(&self, shard: u16) -> Arc<News> {
        self.engine.news(self.key(shard))
    }

    fn press(&self, shard: u16) {
        self.engine.press(self.key(shard));
    }

    fn has_company(&self) -> bool {
        self.engine.members(self.log).len() > 1
    }

    fn is_member(&self, producer: u64) -> bool {
        let member = Membership { log: self.log, producer };
        member == self.membership() || self.engine.is_alive(member)
    }

    fn ended(&self, shard: u16, ids: Vec<IdRun>) -> Answer<'_, Vec<OutcomeRow>> {
        let key = self.key(shard);
        self.turns.read(move |store| follow::ended(store, key, &ids))
    }

    fn reach(&self, shard: u16) -> Answer<'_, Reach> {
        let key = self.key(shard);
        self.turns.read(move |store| follow::reach(store, key))
    }

    fn set_paused(&self, shard: u16, paused: bool) -> Answer<'_, u64> {
        let key = self.key(shard);
        self.turns.run(move |store| follow::set_paused(store, key, paused), drop_ref)
    }

    fn holds(&self, id: OpId) -> Answer<'_, bool> {
        let key = self.key(id.shard());
        self.turns.read(move |store| follow::holds(store, key, id.producer(), id.number()))
    }

    fn begin(&self, shard: u16) -> Answer<'_, TermState> {
        let key = self.key(shard);
        self.turns.run(move |store| rules::begin(store, key), drop_ref)
    }

    fn read(&self, shard: u16, from: u64) -> Answer<'_, Vec<StoredFrame>> {
        let key = self.key(shard);
        self.turns.read(move |store| rules::read(store, key, from))
    }

    fn record(&self, record: Arc<Record>) -> Answer<'_, ()> {
        let (key, engine) = (self.key(record.shard), Arc::clone(&self.engine));
        self.turns.run(move |store| rules::record(store, key, &record, nanos(engine.now())), drop_ref)
    }

    fn transact(&self, lease: Lease, work: Box<dyn Work>) {
        let (shard, engine) = (self.key(lease.shard), Arc::clone(&self.engine));
        self.turns.hand(Box::new(Transact { shard, lease, engine, work, value: None }));
    }

    fn find(&self, id: OpId) -> Answer<'_, Found> {
        let (key, known) = (self.key(id.shard()), usize::from(id.shard()) < self.followers.len());
        let find = move |store: &mut dyn Store| match known {
            true => rules::find(store, key, id.producer(), id.number()),
            false => Ok(Found::Forgotten),
        };
        self.turns.read(find)
    }

    fn compact(&self, shard: u16, frames: Vec<u64>) -> Answer<'_, ()> {
        let key = self.key(shard);
        self.turns.run(
            move |store| {
                Step::Compaction.before();
                rules::compact(store, key, &frames)
            },
            |()| Step::Compaction.after(),
        )
    }

    fn purge(&self, shard: u16, purge: Purge) -> Answer<'_, bool> {
        let key = self.key(shard);
        self.turns.run(move |store| rules::purge(store, key, &purge), drop_ref)
    }

    fn letters(&self, shard: u16, after: Option<(u64, u64)>, limit: usize) -> Answer<'_, Vec<LetterRow>> {
        let key = self.key(shard);
        self.turns.read(move |store| store.letters(key, after, limit))
    }

    fn discard(&self, id: OpId) -> Answer<'_, bool> {
        let key = self.key(id.shard());
        self.turns.run(move |store| rules::discard(store, key, id.producer(), id.number()), drop_ref)
    }

    fn requeue(&self, id: OpId, number: u64) -> Answer<'_, Option<OpId>> {
        let (key, to) = (self.key(id.shard()), (self.producer, number));
        let (engine, stored) = (Arc::clone(&self.engine), self.stored(id.shard()));
        let from = (id.producer(), id.number());
        let moving = self.turns.run(
            move |store| rules::requeue(store, key, from, to, nanos(engine.now())),
            move |frame: &Option<StoredFrame>| {
                if let Some(frame) = frame.clone() {
                    stored(frame);
                }
            },
        );
        let new = OpId::new(to.0, id.shard(), number);
        Box::pin(async move { Ok(moving.await?.map(|_| new)) })
    }

    fn size(&self) -> Size {
        self.engine.size()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.engine.close()
    }
}
