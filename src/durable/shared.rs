//! [`Shared`]: what handles, ingress and leaders of one durable batcher have in common.

use std::{
    any::{Any, TypeId},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Notify, mpsc};

use super::{
    codec::OpCodec,
    command::Command,
    error::Left,
    ingress::Ingress,
    log::{Found, Log, LogError},
    permits::Permits,
    shard_quota::ShardQuota,
    stats::{ShardStats, Stats},
    tally::Tallies,
    term::PAUSE,
    waiters::Waiters,
    withdraw::Requests,
};
use crate::{
    driver::clock,
    rules::{
        config::limits::Limits,
        outcome::OpId,
        quota::Predicate,
        stable_hash::fnv1a,
        stage::{Stages, Weigh},
    },
};

pub(crate) struct Shared<T, R> {
    pub(crate) name: Arc<str>,
    pub(crate) log: Arc<dyn Log>,
    pub(crate) codec: Arc<dyn OpCodec<T, R>>,
    pub(crate) permits: Arc<Permits>,
    pub(crate) waiters: Waiters<R>,
    pub(crate) tallies: Tallies,
    pub(crate) weigh: Option<Weigh<T>>,
    /// The type of the keys that the stages conflate by.
    pub(crate) conflation_key: Option<TypeId>,
    /// Whether an op costs more than the quota ever allows.
    pub(crate) exceeds_limit: Option<Predicate<T>>,
    /// Whether each shard has a part of the limit of a bucket, for each bucket of the quota.
    pub(crate) divided_buckets: Vec<bool>,
    pub(crate) limits: Mutex<Limits>,
    pub(crate) append_timeout: Duration,
    pub(crate) transaction_timeout: Duration,
    pub(crate) max_skew: Duration,
    /// Notified when dead letters are in the log.
    pub(crate) letters: Notify,
    /// How long outcomes are kept.
    pub(crate) horizon: Duration,
    /// `None` if there is one shard.
    pub(crate) router: Option<Router<T>>,
    pub(crate) shards: Vec<Shard<T>>,
}

/// The name of a shard of a log with so many.
pub(crate) fn name_of(log: &str, shard: u16, shards: u16) -> String {
    if shards == 1 { log.to_owned() } else { format!("{log}-{shard}") }
}

/// One shard, as the handles see it.
pub(crate) struct Shard<T> {
    pub(crate) ingress: Arc<Ingress>,
    pub(crate) commands: mpsc::UnboundedSender<Command<T>>,
    pub(crate) requests: Requests,
    /// Notified when a caller waits for a permit: all that waits is due.
    pub(crate) pressed: Notify,
    /// The number of the next op of this process.
    pub(crate) next_number: AtomicU64,
    pub(crate) stats: Mutex<ShardStats>,
    pub(crate) quota: Mutex<ShardQuota>,
}

impl<T, R> Shared<T, R> {
    pub(crate) fn shard(&self, shard: u16) -> &Shard<T> {
        &self.shards[usize::from(shard)]
    }

    pub(crate) fn next_id(&self, shard: u16) -> OpId {
        let number = self.shard(shard).next_number.fetch_add(1, Ordering::Relaxed);
        OpId::new(self.log.producer(), shard, number)
    }

    pub(crate) fn shard_of(&self, op: &T) -> u16 {
        self.router.as_ref().map_or(0, |router| router.shard_of(op, self.shards.len() as u16))
    }

    /// The name of a shard, in logs and metrics.
    pub(crate) fn name_of(&self, shard: u16) -> String {
        name_of(&self.name, shard, self.shards.len() as u16)
    }

    /// Asks the log about an op until it can tell.
    pub(crate) async fn find(&self, id: OpId) -> Result<Found, Left> {
        loop {
            match self.log.find(id).await {
                Err(error) if error.is_passing() || matches!(error, LogError::Unknown(_)) => {
                    tokio::time::sleep(PAUSE.0).await;
                }
                found => return found.map_err(|_| Left),
            }
        }
    }

    pub(crate) fn limits(&self) -> MutexGuard<'_, Limits> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn stats(&self) -> Stats {
        let mut stats = Stats { max_pending: self.permits.max() as u64, ..Stats::default() };
        let now = clock::now();
        for shard in &self.shards {
            shard.stats().add_to(&mut stats, now);
        }
        let size = self.log.size();
        (stats.log_bytes, stats.commits) = (size.bytes, size.commits);
        stats.quota = ShardQuota::sum(self.shards.iter().map(|shard| shard.quota().clone()), &self.divided_buckets);
        stats
    }
}

impl<T> Shard<T> {
    pub(crate) fn stats(&self) -> MutexGuard<'_, ShardStats> {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn quota(&self) -> MutexGuard<'_, ShardQuota> {
        self.quota.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Finds the shard of an op, by its partition key.
pub(crate) struct Router<T> {
    /// Only the partition key is asked for; the functions of stages may be called by one thread at a time.
    stages: Mutex<Stages<T>>,
    hash: HashKey,
}

/// The hash of a key, which is of the type of the partition key.
pub(crate) type HashKey = Box<dyn Fn(&dyn Any) -> Option<u64> + Send + Sync>;

impl<T> Router<T> {
    /// `None` if the stages have no partition key, or one of another type.
    pub(crate) fn new<K: 'static, B: AsRef<[u8]>>(
        stages: Stages<T>,
        bytes: impl Fn(&K) -> B + Send + Sync + 'static,
    ) -> Option<Self> {
        let index = stages.partition.as_ref()?;
        if index.key_type() != TypeId::of::<K>() {
            return None;
        }
        let hash = move |key: &dyn Any| key.downcast_ref::<K>().map(|key| fnv1a(bytes(key).as_ref()));
        Some(Self { stages: Mutex::new(stages), hash: Box::new(hash) })
    }

    fn shard_of(&self, op: &T, shards: u16) -> u16 {
        let mut hash = 0;
        let stages = self.stages.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = &stages.partition {
            index.with_key(op, &mut |key| hash = (self.hash)(key).unwrap_or_default());
        }
        (hash % u64::from(shards)) as u16
    }
}
