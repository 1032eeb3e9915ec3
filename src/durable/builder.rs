//! [`Durable`]: the builder. `join` opens the log, checks settings against it, and spawns ingress and leaders.

use std::{
    fmt,
    sync::{Arc, Mutex, atomic::AtomicU64},
    time::Duration,
};

use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{
    codec::{Codec, Json, OpCodec},
    command::Command,
    engine::Engine,
    error::JoinError,
    ingress::Ingress,
    joined::Joined,
    letters,
    permits::Permits,
    settings::{MakeRouter, OnUndecodable, Settings},
    shared::{Router, Shard, Shared, name_of},
    stats::ShardStats,
    tally::Tallies,
    term::{Account, Leader, QuotaRecipe, Term},
    waiters::Waiters,
    withdraw::Requests,
};
use crate::{
    rules::{
        config::{limits::Limits, retry::Retry},
        outcome::DeadLetter,
        quota::Quota,
        stage::Stages,
    },
    sink::Sink,
};

/// Builds a durable batcher: one whose ops are in a log when they are accepted, and survive the process.
///
/// Only engine and sink are required. Ops are JSON unless [`codec`](Self::codec) says otherwise.
///
/// # Examples
///
/// ```
/// # #[cfg(feature = "testing")]
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use roundlot::{Batch, Stages, durable::Durable, sink_fn, stage, testing::MemoryLog};
///
/// let orders = Durable::new("orders", MemoryLog::new())
///     .stages(|| Stages::new().partition_by(|order: &String| order.len()))
///     .limits(500)
///     .sink(|_term| {
///         sink_fn(|batch: &mut Batch<String, u64>| {
///             Box::pin(async move { Ok(batch.accept_all_with(|_, order| order.len() as u64)) })
///         })
///     })
///     .join()
///     .await?;
/// let desk = orders.handle();
///
/// let ack = desk.submit("buy 5".to_owned()).await?; // it is in the log
/// let id = ack.id();                                // by which it can be asked for after a crash
/// assert_eq!(ack.await?, 5);                        // and so is its outcome
/// assert!(desk.outcome(id).await?.is_ended());
/// orders.leave().await?;
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "testing"))]
/// # fn main() {}
/// ```
#[must_use = "a durable batcher does nothing until it has joined its log"]
pub struct Durable<T, E, C = Json, F = ()> {
    engine: E,
    codec: C,
    sink: F,
    settings: Settings<T>,
}

impl<T: Send + 'static, E: Engine> Durable<T, E> {
    /// A batcher on the log of this name. A file holds logs of many names.
    pub fn new(name: impl Into<Arc<str>>, engine: E) -> Self {
        let settings = Settings::new(name.into());
        Self { engine, codec: Json, sink: (), settings }
    }
}

impl<T: Send + 'static, E: Engine, C, F> Durable<T, E, C, F> {
    fn with(self, settings: impl FnOnce(Settings<T>) -> Settings<T>) -> Self {
        Self { settings: settings(self.settings), ..self }
    }

    /// The rules that apply to ops while they wait. The recipe is called once per term and shard.
    ///
    /// [`expire_at`](Stages::expire_at) takes the place of [`expire_by`](Stages::expire_by), and ids that of
    /// [`dedup_by`](Stages::dedup_by).
    pub fn stages(self, recipe: impl Fn() -> Stages<T> + Send + Sync + 'static) -> Self {
        self.with(|settings| Settings { recipe: Arc::new(recipe), ..settings })
    }

    /// Splits the log into parts that are led by themselves, by the partition key of the stages: `bytes` returns the bytes of
    /// a key, whose FNV-1a hash decides. The number and the bytes are fixed for the life of the log.
    pub fn shards<K: 'static, B: AsRef<[u8]>>(
        self,
        shards: u16,
        bytes: impl Fn(&K) -> B + Send + Sync + 'static,
    ) -> Self {
        let router: MakeRouter<T> = Box::new(move |stages| Router::new(stages, bytes));
        let shard_key = std::any::type_name::<K>();
        self.with(|settings| Settings { shards, router: Some(router), shard_key, ..settings })
    }

    /// Sets the limits of size, age and number. `max_pending` is the one bound that callers feel.
    pub fn limits(self, limits: impl Into<Limits>) -> Self {
        let limits = limits.into();
        self.with(|settings| Settings { limits, ..settings })
    }

    /// How often and when to try again, as for a [`Batcher`](crate::Batcher). Attempts of an op that is not in doubt begin anew after a crash.
    pub fn retry(self, retry: Retry) -> Self {
        self.with(|settings| Settings { retry, ..settings })
    }

    /// Sets the limits of the destination, as for a [`Batcher`](crate::Batcher): a recipe, called once per term and shard. What each
    /// batch draws is in the log, with its intent or transaction, so that a restart begins with what was used. Each of several
    /// shards has its share of every bucket, rounded down; of a bucket with keys it has all, and so the key of the shards must
    /// imply the keys of the bucket. A bucket that is [`shared`](Quota::shared) with other batchers belongs to the process and
    /// begins anew with it. With several shards a sink must not [report](crate::QuotaReport::used) what the destination counts for all of
    /// them: that would fill the share of one.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[cfg(feature = "testing")]
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::time::Duration;
    /// # use roundlot::{Quota, durable::Durable, testing::{MemoryLog, Recorder}};
    /// # let (log, recorder) = (MemoryLog::new(), Recorder::new());
    /// # let sink = recorder.clone();
    /// let orders = Durable::new("orders", log)
    ///     .quota(|| Quota::new().ops(300, Duration::from_secs(10)))
    ///     .sink(move |_| sink.clone())
    ///     .join()
    ///     .await?;
    /// orders.handle().send_all(vec!["buy 5".to_owned(); 310]).await?;
    /// # tokio::time::sleep(Duration::from_secs(9)).await;
    /// # assert!((150..=300).contains(&recorder.len()));
    /// # orders.leave().await?;
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "testing"))]
    /// # fn main() {}
    /// ```
    pub fn quota(self, recipe: impl Fn() -> Quota<T> + Send + Sync + 'static) -> Self {
        let quota: Option<QuotaRecipe<T>> = Some(Arc::new(recipe));
        self.with(|settings| Settings { quota, ..settings })
    }

    /// Sets the destination of dead letters: any [`Sink`] of them. A letter stays in the log until the sink has accepted it, so
    /// that it may come twice after a crash. A sink that fails is tried again, up to a minute later.
    pub fn dead_letters(self, sink: impl Sink<DeadLetter<T>>) -> Self {
        let letters = Some(sink.boxed());
        self.with(|settings| Settings { letters, ..settings })
    }

    /// How ops and receipts become bytes.
    pub fn codec<D>(self, codec: D) -> Durable<T, E, D, F> {
        let Self { engine, sink, settings, .. } = self;
        Durable { engine, codec, sink, settings }
    }

    /// How long a send waits for the log before its op is in doubt: 5 s by default, and 6 minutes at most.
    pub fn append_timeout(self, append_timeout: Duration) -> Self {
        self.with(|settings| Settings { append_timeout, ..settings })
    }

    /// How long the work of a transactional sink may take: 1 s by default. Then it is undone. It concerns SQL alone: work that
    /// hangs outside of it holds up the log.
    pub fn transaction_timeout(self, transaction_timeout: Duration) -> Self {
        self.with(|settings| Settings { transaction_timeout, ..settings })
    }

    /// How far the wall clock may be behind the newest op in the log: 2 s by default. While it is behind by more, and for ten
    /// steady seconds after a jump, nothing is sent by a shard whose stages [`expire_at`](Stages::expire_at).
    pub fn max_skew(self, max_skew: Duration) -> Self {
        self.with(|settings| Settings { max_skew, ..settings })
    }

    /// How long outcomes are kept, one hour by default. An op can be sent again under its id, and asked for, for as long.
    pub fn horizon(self, horizon: Duration) -> Self {
        self.with(|settings| Settings { horizon, ..settings })
    }

    /// Sets the policy for an op that the codec can't decode. The default is to hold the shard, or, if the sink is
    /// [`Idempotent`](crate::sink::Guarantee::Idempotent), to refuse the op.
    pub fn on_undecodable(self, on_undecodable: OnUndecodable) -> Self {
        self.with(|settings| Settings { on_undecodable: Some(on_undecodable), ..settings })
    }

    /// The sink of each term and shard.
    pub fn sink<S, G: Fn(Term) -> S + Clone + Send + Sync + 'static>(self, sink: G) -> Durable<T, E, C, G> {
        let Self { engine, codec, settings, .. } = self;
        Durable { engine, codec, sink, settings }
    }

    /// Opens the log, recovers what waits in it, and starts. Ops found in the log are under way when this returns.
    ///
    /// # Errors
    ///
    /// Names what contradicts itself or the log. Nothing has been sent then.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped leaves the log again.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime with time enabled.
    pub async fn join<R, S>(self) -> Result<Joined<T, R>, JoinError>
    where
        R: Clone + Send + 'static,
        C: Codec<T> + Codec<R>,
        F: Fn(Term) -> S + Clone + Send + Sync + 'static,
        S: Sink<T, R>,
    {
        let Self { engine, codec, sink, settings } = self;
        let stages = (settings.recipe)();
        settings.check(&stages)?;
        let (exceeds_limit, divided_buckets) = settings.quota_facts();
        let Settings { name, recipe, shards, router, limits, retry, quota, letters, on_undecodable, .. } = settings;
        let weigh = stages.weight.clone();
        let conflation_key = stages.conflate.as_ref().map(|conflate| conflate.index.key_type());
        let router = match router {
            Some(make) if shards > 1 => Some(make(stages).ok_or(JoinError::ShardKey(settings.shard_key))?),
            _ => None,
        };
        let log = engine.open(name.to_string(), shards).await?.log;
        let codec: Arc<dyn OpCodec<T, R>> = Arc::new(codec);
        let mut parts = Parts { shards: Vec::new(), commands: Vec::new() };
        for shard in 0..shards {
            let name = name_of(&name, shard, shards).into();
            parts.add(Ingress::new(name, Arc::clone(&log), shard, codec.op_schema()));
        }
        let shared = Arc::new(Shared {
            name,
            waiters: Waiters::new(log.producer()),
            log,
            codec,
            permits: Arc::new(Permits::new(limits.max_pending)),
            tallies: Tallies::default(),
            weigh,
            conflation_key,
            exceeds_limit,
            divided_buckets,
            limits: Mutex::new(limits),
            append_timeout: settings.append_timeout,
            transaction_timeout: settings.transaction_timeout,
            max_skew: settings.max_skew,
            horizon: settings.horizon,
            letters: Notify::new(),
            router,
            shards: parts.shards,
        });
        let (stop, abort) = (CancellationToken::new(), CancellationToken::new());
        let (mut leaders, mut all_ready) = (Vec::new(), Vec::new());
        for (shard, commands) in (0..).zip(parts.commands) {
            let leader = Leader {
                shared: Arc::clone(&shared),
                shard,
                recipe: Arc::clone(&recipe),
                retry: retry.clone(),
                quota: quota.clone(),
                on_undecodable,
                commands,
                stop: stop.clone(),
                abort: abort.clone(),
                account: Account::new(),
            };
            let (ready, is_ready) = oneshot::channel();
            leaders.push(tokio::spawn(leader.run(sink.clone(), ready)));
            all_ready.push(is_ready);
        }
        if let Some(sink) = letters {
            leaders.push(tokio::spawn(letters::post(Arc::clone(&shared), sink, stop.clone())));
        }
        let joined = Joined::new(shared, leaders, stop, abort);
        began(joined, all_ready).await
    }
}

/// Waits until all first terms have begun. If one did not, frees the log, so that it can be joined again at once.
async fn began<T: Send + 'static, R: Clone + Send + 'static>(
    joined: Joined<T, R>,
    all_ready: Vec<oneshot::Receiver<Result<(), JoinError>>>,
) -> Result<Joined<T, R>, JoinError> {
    for is_ready in all_ready {
        let began = is_ready.await.unwrap_or(Err(JoinError::Open("its leader is gone".to_owned())));
        if let Err(error) = began {
            let _ = joined.leave().within(Duration::ZERO).await;
            return Err(error);
        }
    }
    Ok(joined)
}

/// The parts of each shard, on their way to those who own them.
struct Parts<T> {
    shards: Vec<Shard<T>>,
    commands: Vec<mpsc::UnboundedReceiver<Command<T>>>,
}

impl<T> Parts<T> {
    fn add(&mut self, ingress: Arc<Ingress>) {
        let (commands, obeyed) = mpsc::unbounded_channel();
        let (next_number, stats) = (AtomicU64::new(1), Mutex::new(ShardStats::default()));
        let (quota, requests) = (Mutex::default(), Requests::new());
        self.shards.push(Shard { ingress, commands, requests, pressed: Notify::new(), next_number, stats, quota });
        self.commands.push(obeyed);
    }
}

impl<T, E, C, F> fmt::Debug for Durable<T, E, C, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Durable")
            .field("name", &self.settings.name)
            .field("shards", &self.settings.shards)
            .field("limits", &self.settings.limits)
            .finish_non_exhaustive()
    }
}
