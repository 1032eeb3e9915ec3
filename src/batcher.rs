//! [`Batcher`]: the builder, the only file that knows all rings. It checks stages against limits, makes inbox, accumulator and
//! actor, and returns a [`Handle`] and the owner of the task.

use std::{fmt, marker::PhantomData, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    driver::{
        actor::{Actor, DeadLetterRoute},
        clock,
        handle::Handle,
        inbox::{Inbox, door::Door},
        metrics::{Meter, Namespace},
        worker::{Summary, TellStop, Worker, WorkerFuture},
    },
    rules::{
        accumulator::{Accumulator, Policy},
        config::{
            batcher_config::BatcherConfig,
            limits::{Limits, LimitsError, Overflow},
            retry::Retry,
        },
        outcome::DeadLetter,
        quota::{Quota, QuotaConfig},
        stage::Stages,
    },
    sink::Sink,
};

/// Builds a batching actor: a task that owns the buffer, and a [`Handle`] to send operations to it.
///
/// Only the sink is required. Without [`limits`](Self::limits) a batch holds up to 512 ops and is cut whenever the sink
/// is free.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use roundlot::{Batch, Batcher, Limits, Retry, Stages, sink_fn, stage};
///
/// struct Tick { symbol: &'static str, price: u64 }
///
/// let show = sink_fn(|batch: &mut Batch<Tick>| {
///     Box::pin(async move {
///         for tick in batch.pending() {
///             println!("{} {}", tick.symbol, tick.price);
///         }
///         Ok(batch.accept_all())
///     })
/// });
/// let (desk, worker) = Batcher::new(show)
///     .stages(Stages::new().conflate_by(|tick: &Tick| tick.symbol, stage::latest))
///     .limits(Limits::new(500).linger(Duration::from_millis(10)))
///     .retry(Retry::exponential(Duration::from_millis(50), Duration::from_secs(5)))
///     .spawn();
///
/// desk.send(Tick { symbol: "BTCUSDT", price: 1 }).await?;
/// desk.send(Tick { symbol: "BTCUSDT", price: 2 }).await?;
/// let summary = worker.shutdown().await?;
/// assert_eq!((summary.stats.outcomes.delivered, summary.stats.outcomes.conflated), (1, 1));
/// # Ok(())
/// # }
/// ```
#[doc(alias = "buffer")]
#[doc(alias = "group commit")]
#[must_use = "a batcher does nothing until it is spawned"]
pub struct Batcher<T, R, S> {
    sink: S,
    name: Arc<str>,
    stages: Stages<T>,
    limits: Limits,
    policy: Policy,
    quota: Option<Quota<T>>,
    quota_file: QuotaConfig,
    letters: PrepareLetters<T>,
    /// `None` if it is a part of something that has metrics of its own.
    metrics: Option<Namespace>,
    stop: CancellationToken,
    receipts: PhantomData<fn() -> R>,
}

/// Makes the dead letters' own batcher, by the name of the main one; its task, if it has one, runs inside that one's.
type PrepareLetters<T> = Box<dyn FnOnce(&str) -> (DeadLetterRoute<T>, Option<WorkerFuture<DeadLetter<T>>>) + Send>;

/// A batcher that is built and not yet running.
struct Parts<T, R> {
    handle: Handle<T, R>,
    stop: TellStop,
    task: BoxFuture<'static, Summary<T>>,
}

impl<T, R, S> Batcher<T, R, S>
where
    T: Send + 'static,
    R: Clone + Send + 'static,
    S: Sink<T, R>,
{
    /// A batcher that writes to `sink`.
    pub fn new(sink: S) -> Self {
        Self {
            sink,
            name: Arc::from("batcher"),
            stages: Stages::new(),
            limits: Limits::default(),
            policy: Policy::default(),
            quota: None,
            quota_file: QuotaConfig::default(),
            letters: Box::new(|_| (DeadLetterRoute::Discard, None)),
            metrics: Some(Namespace::Ops),
            stop: CancellationToken::new(),
            receipts: PhantomData,
        }
    }

    /// The name under which logs and metrics speak of it. The default is `batcher`. Give each its own: the metrics of two
    /// that share a name overwrite each other.
    pub fn name(self, name: impl Into<Arc<str>>) -> Self {
        Self { name: name.into(), ..self }
    }

    /// The rules that apply to ops while they wait.
    pub fn stages(self, stages: Stages<T>) -> Self {
        Self { stages, ..self }
    }

    /// Sets the limits of size, age and number. Takes `500`, `(500, Duration::from_millis(2))`, or the full [`Limits`].
    pub fn limits(self, limits: impl Into<Limits>) -> Self {
        Self { limits: limits.into(), ..self }
    }

    /// Sets limits, retries and the numbers of the quota at once: as [`limits`](Self::limits), [`retry`](Self::retry) and
    /// [`quota`](Self::quota) do, from one section of a configuration file. Spawn it by [`try_spawn`](Self::try_spawn), which tells what contradicts the stages.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use roundlot::{Batch, Batcher, BatcherConfig, sink_fn};
    /// # let sink = sink_fn(|batch: &mut Batch<u32>| Box::pin(async move { Ok(batch.accept_all()) }));
    /// let config: BatcherConfig = toml::from_str("[limits]\nmax_items = 500\nmax_weight = 1000")?;
    /// let error = Batcher::new(sink).config(config).try_spawn().unwrap_err();
    /// assert!(error.to_string().starts_with("max_weight needs a weigh_by stage"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn config(self, config: BatcherConfig) -> Self {
        let BatcherConfig { limits, retry, quota } = config;
        Self { quota_file: quota, ..self.limits(limits).retry(retry) }
    }

    /// Keeps to what the destination allows. Batches are trimmed at the cut to what is left, and what is over waits in the
    /// buffer. See [`Quota`].
    pub fn quota(self, quota: Quota<T>) -> Self {
        Self { quota: Some(quota), ..self }
    }

    /// How often and when to try again. The policy governs:
    ///
    /// * ops that failed with [`Transient`](crate::ErrorKind::Transient) or [`Throttled`](crate::ErrorKind::Throttled), and,
    ///   if the batcher is [`idempotent`](Self::idempotent), with [`Ambiguous`](crate::ErrorKind::Ambiguous): an attempt each;
    /// * ops for which the sink called [`Batch::retry`](crate::Batch::retry): an attempt each;
    /// * an outage of the destination ([`SinkError::outage`](crate::SinkError::outage),
    ///   [`SinkError::connection_lost`](crate::SinkError::connection_lost)): the whole batcher freezes with the same backoff, and
    ///   an op that was not sent loses no attempt;
    /// * the longest freeze that a `Throttled` answer may ask for: [`Retry::max_freeze`].
    pub fn retry(self, retry: Retry) -> Self {
        let policy = Policy { backoff: retry.start(), ..self.policy };
        Self { policy, ..self }
    }

    /// Says that an op may be written twice without harm, so that what is [`Ambiguous`](crate::ErrorKind::Ambiguous) is
    /// tried again, too. Without it an ambiguous op ends in doubt: a timed out order that is sent again is a second order.
    pub fn idempotent(self) -> Self {
        let policy = Policy { idempotent: true, ..self.policy };
        Self { policy, ..self }
    }

    /// Halves a batch that is refused as a whole, until the refused ops stand alone: for a sink that can only say yes or
    /// no to all of it. Every half is written on its own, so refusing must have no effect.
    pub fn bisect(self) -> Self {
        let policy = Policy { bisect: true, ..self.policy };
        Self { policy, ..self }
    }

    /// Sets the destination of ops that were given up or are in doubt: any [`Sink`] of [`DeadLetter`]s. Without one
    /// they are dropped, counted and logged.
    ///
    /// Dead letters have a buffer of their own, of 65,536, and are drained within the time of the shutdown. A
    /// dead-letter sink that is slow, fails or panics therefore stalls no sender and no write. A letter that finds the
    /// buffer full is counted in [`dead_letters_lost`](crate::Stats::dead_letters_lost); letters left at the end are
    /// in the [`Summary`].
    ///
    /// In logs that buffer has the batcher's name with `-letters` behind it. Its metrics begin with `roundlot_dead_letters_`, so
    /// that sums over all batchers count each op once.
    pub fn dead_letters(self, sink: impl Sink<DeadLetter<T>>) -> Self {
        let prepare = move |name: &str| {
            let mut batcher = Batcher::new(sink)
                .name(format!("{name}-letters"))
                .limits(Limits::default().overflow(Overflow::Reject).shutdown_timeout(Duration::MAX));
            batcher.letters = Box::new(|_| (DeadLetterRoute::Collect, None));
            batcher.metrics = Some(Namespace::DeadLetters);
            let (handle, task) = batcher.split();
            (DeadLetterRoute::Forward(handle), Some(task))
        };
        Self { letters: Box::new(prepare), ..self }
    }

    /// Keeps dead letters out of the log above debug level: for a batcher that is a part of something which counts them.
    pub(crate) fn letters_unwanted(self) -> Self {
        Self { letters: Box::new(|_| (DeadLetterRoute::Decline, None)), ..self }
    }

    /// Drains the batcher and ends it when `token` is canceled.
    pub fn stop_on(self, token: CancellationToken) -> Self {
        Self { stop: token, ..self }
    }

    /// Starts the batcher on the current runtime.
    ///
    /// # Panics
    ///
    /// If limits and stages contradict each other, or outside of a Tokio runtime with time enabled. Where settings come
    /// from a file, use [`try_spawn`](Self::try_spawn).
    pub fn spawn(self) -> (Handle<T, R>, Worker<T>) {
        self.try_spawn().unwrap_or_else(|error| panic!("invalid batcher: {error}"))
    }

    /// Like [`spawn`](Self::spawn), for settings that may be wrong.
    ///
    /// # Errors
    ///
    /// Names the setting that contradicts itself or another.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime with time enabled.
    pub fn try_spawn(self) -> Result<(Handle<T, R>, Worker<T>), LimitsError> {
        let Parts { handle, stop, task } = self.build()?;
        Ok((handle, Worker::new(tokio::spawn(task), stop)))
    }

    /// Returns the handle, and the task as a future to be polled by hand: in tests, in simulations, or inside of a task of
    /// the caller's.
    ///
    /// Poll it inside a Tokio runtime with time enabled. The task yields now and then; let the runtime run between polls, or
    /// the task is not woken.
    ///
    /// # Panics
    ///
    /// If limits and stages contradict each other; see [`try_split`](Self::try_split).
    pub fn split(self) -> (Handle<T, R>, WorkerFuture<T>) {
        self.try_split().unwrap_or_else(|error| panic!("invalid batcher: {error}"))
    }

    /// Like [`split`](Self::split), for settings that may be wrong.
    ///
    /// # Errors
    ///
    /// Names the setting that contradicts itself or another.
    pub fn try_split(self) -> Result<(Handle<T, R>, WorkerFuture<T>), LimitsError> {
        let Parts { handle, task, .. } = self.build()?;
        Ok((handle, WorkerFuture::new(task)))
    }

    fn build(self) -> Result<Parts<T, R>, LimitsError> {
        let Self { sink, name, stages, limits, policy, quota, quota_file, letters, metrics, stop, .. } = self;
        stages.check(&limits)?;
        let quota = match quota {
            Some(quota) => Some(quota.configure(&quota_file)?),
            None => (!quota_file.is_empty()).then(|| Quota::from(quota_file)),
        };
        quota.iter().try_for_each(|quota| quota.check(stages.partition.is_some()))?;
        if limits.max_in_flight > 1 && stages.partition.is_none() {
            warn!(batcher = %name, "max_in_flight is more than 1 without partition_by: one batch is written at a time");
        }
        let exceeds_limit = quota.as_ref().and_then(Quota::exceeds_limit);
        let inbox = Arc::new(Inbox::new(&limits, Door::new(stages.weight.clone(), limits.weight(), exceeds_limit)));
        let handle = Handle::first(Arc::clone(&inbox));
        let stopped = Arc::clone(&inbox);
        let tell_stop: TellStop = Arc::new(move |within| stopped.update_control(|control| control.stop(within, false)));

        let policy = Policy { page: sink.page(), ..policy };
        let stages = stages.on_clock(clock::time_of_day);
        let mut accumulator = Accumulator::new(stages, &limits, policy);
        if let Some(metrics) = metrics {
            accumulator.counters().report_to(Meter::new(metrics, &name));
        }
        if let Some(quota) = quota {
            accumulator.set_quota(quota.start(clock::unix(), clock::now()));
            // The series of its buckets exist from now on.
            let stats = accumulator.stats();
            accumulator.counters().publish(&stats);
        }
        let (letters, letters_task) = letters(&name);
        let actor = Actor::new(name, sink, inbox, accumulator, limits, letters, stop);
        let task: BoxFuture<'static, Summary<T>> = match letters_task {
            None => Box::pin(actor.run()),
            Some(letters) => Box::pin(async move {
                let (mut summary, letters) = futures::join!(actor.run(), letters);
                let returned = letters.returned.into_iter().map(|letter| letter.op);
                let dead = letters.dead_letters.into_iter().map(|letter| letter.op);
                summary.dead_letters.extend(returned.chain(dead));
                summary.stats.dead_letters_lost += letters.stats.dead_letters_lost;
                summary
            }),
        };
        Ok(Parts { handle, stop: tell_stop, task })
    }
}

impl<T, R, S> fmt::Debug for Batcher<T, R, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batcher")
            .field("name", &self.name)
            .field("stages", &self.stages)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
