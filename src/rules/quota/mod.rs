//! [`Quota`]: the limits of a venue, as a recipe. [`Budget`] is its running state, which the accumulator asks at each cut.

mod account;
mod bucket;
mod budget;
mod charges;
mod config;
mod decay;
mod foreign_use;
mod held;
#[cfg(feature = "durable")]
pub(crate) mod kept;
mod keyed;
mod numbers;
mod report;
#[cfg(test)]
mod tests;
mod window;

use std::{collections::HashSet, fmt, sync::Arc, time::Duration};

pub use bucket::Bucket;
pub(crate) use budget::{Budget, Charge, Drawn};
pub use config::QuotaConfig;
pub(crate) use numbers::Numbers;
pub use report::QuotaReport;
pub(crate) use report::Reports;
pub(crate) use window::Window;

use crate::rules::{config::limits::LimitsError, time::Timestamp};

/// The limits of a venue, as named [`Bucket`]s. [`Batcher::quota`](crate::Batcher::quota) takes them.
///
/// A batch is trimmed at the cut to what is left, and what is over stays in the buffer, where it can still be conflated,
/// netted, expired or withdrawn. If nothing is left for the op that is next, its partition waits, and partitions that draw from other
/// buckets go on. Flushes, shutdowns and retries wait for the quota, too.
///
/// Costs are charged when a batch is cut. They are given back only if the venue says so: a sink reports what the venue says by
/// [`Batch::quota`](crate::Batch::quota).
///
/// # Examples
///
/// The limits of a venue that counts orders, calls, and a counter per pair. Emergency orders keep a tenth of each to themselves.
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use roundlot::{Batch, Batcher, Bucket, Quota, Stages, sink_fn};
///
/// #[derive(Clone)]
/// struct Order { symbol: &'static str, is_emergency: bool }
///
/// let quota = Quota::new()
///     .bucket("orders_10s", Bucket::rolling(300, Duration::from_secs(10)))
///     .bucket("calls_1m", Bucket::fixed(1200, Duration::from_secs(60)).per_call(1))
///     .bucket("pair", Bucket::decaying(60, 1.0).by(|order: &Order| order.symbol))
///     .reserve(0.1, |order: &Order| order.is_emergency);
///
/// # let venue = sink_fn(|batch: &mut Batch<Order>| Box::pin(async move { Ok(batch.accept_all()) }));
/// let (desk, worker) = Batcher::new(venue)
///     .stages(Stages::new().partition_by(|order: &Order| order.symbol))
///     .quota(quota)
///     .spawn();
/// desk.send_all(vec![Order { symbol: "XBTUSD", is_emergency: false }; 20]).await?;
/// desk.flush().await?;
/// assert_eq!(desk.stats().quota["orders_10s"].used, 20);
/// # worker.shutdown().await?;
/// # Ok(())
/// # }
/// ```
#[doc(alias = "rate limit")]
#[doc(alias = "throttle")]
#[must_use = "a quota does nothing until a batcher gets it"]
pub struct Quota<T> {
    buckets: Vec<(Arc<str>, Source<T>)>,
    costs: Vec<(Arc<str>, Cost<T>)>,
    /// In millionths.
    reserve: u32,
    matters: Option<Predicate<T>>,
    /// The first mistake in the calls that built it.
    error: Option<LimitsError>,
}

/// Cost of an op. Shared with the handles, which refuse an op that costs more than there ever is.
type Cost<T> = Arc<dyn Fn(&T) -> u64 + Send + Sync>;

/// A predicate of ops, such as whether one may draw from the reserve.
pub(crate) type Predicate<T> = Arc<dyn Fn(&T) -> bool + Send + Sync>;

/// State of a bucket: its own, or shared with other batchers.
enum Source<T> {
    Own(Bucket<T>),
    Shared(Arc<dyn Pool>),
}

/// A window that several batchers draw from. A driver implements it with a lock.
pub(crate) trait Pool: Send + Sync {
    /// Calls the function with the window, which nothing else changes meanwhile.
    fn with(&self, draw: &mut dyn FnMut(&mut Window));

    /// The numbers that it began with, or what is wrong with it.
    fn numbers(&self) -> Result<&Numbers, &LimitsError>;
}

/// The most buckets of a quota. Each costs a check per op.
const MAX_BUCKETS: usize = 64;

/// The unit of the reserve.
const MILLION: u32 = 1_000_000;

impl<T> Quota<T> {
    /// No limit.
    pub fn new() -> Self {
        Self { buckets: Vec::new(), costs: Vec::new(), reserve: 0, matters: None, error: None }
    }

    /// Adds a limit. Statistics, metrics, files and the reports of sinks speak of it by its name.
    pub fn bucket(mut self, name: impl Into<Arc<str>>, bucket: Bucket<T>) -> Self {
        self.buckets.push((name.into(), Source::Own(bucket)));
        self
    }

    /// Allows so many ops within any span of time as long as `window`: a rolling bucket named `ops`.
    pub fn ops(self, limit: u64, window: Duration) -> Self {
        self.bucket("ops", Bucket::rolling(limit, window))
    }

    /// Allows so many calls within any span of time as long as `window`: a rolling bucket named `calls`.
    pub fn calls(self, limit: u64, window: Duration) -> Self {
        self.bucket("calls", Bucket::rolling(limit, window).per_call(1))
    }

    pub(crate) fn pool(mut self, name: Arc<str>, pool: Arc<dyn Pool>) -> Self {
        self.buckets.push((name, Source::Shared(pool)));
        self
    }

    /// Sets the cost of an op in the bucket of that name, where it is not 1. An op of cost zero does not wait for the bucket.
    /// The function is called when a batch is cut, anew for each attempt, so that the cost may change with time.
    ///
    /// An op that costs more than the bucket ever holds is given back at `send`, as
    /// [`TooHeavy`](crate::SendError::TooHeavy). One that does so later, since the venue lowered the limit, is refused.
    pub fn cost(mut self, bucket: impl Into<Arc<str>>, cost: impl Fn(&T) -> u64 + Send + Sync + 'static) -> Self {
        self.costs.push((bucket.into(), Arc::new(cost)));
        self
    }

    /// Keeps a part of each bucket, such as 0.1, for the ops that matter by this predicate. These ops are also not paced. The same ops
    /// should come first by [`priority_by`](crate::Stages::priority_by): an op that matters does not overtake others
    /// within its partition.
    pub fn reserve(mut self, part: f64, matters: impl Fn(&T) -> bool + Send + Sync + 'static) -> Self {
        if !(0.0..1.0).contains(&part) {
            self.error = Some(LimitsError::new("quota", "must have a reserve of at least 0 and less than 1"));
        }
        self.reserve = (part * f64::from(MILLION)).round() as u32;
        self.matters = Some(Arc::new(matters));
        self
    }

    /// Takes the numbers of its buckets from a file. Buckets of the code that the file does not name keep theirs.
    ///
    /// # Errors
    ///
    /// Names a bucket that the file has and the code has not, or one that is shared: a shared bucket has its numbers from
    /// where it is made.
    pub fn configure(mut self, file: &QuotaConfig) -> Result<Self, LimitsError> {
        for (name, numbers) in file.buckets() {
            match self.buckets.iter_mut().find(|(known, _)| **known == *name) {
                Some((_, Source::Own(bucket))) => bucket.numbers = Some(numbers.clone()),
                Some((_, Source::Shared(_))) => return Err(about(name, "is shared, and has its numbers elsewhere")),
                None => return Err(about(name, "is in the file, and not in the code")),
            }
        }
        if let Some(reserve) = file.reserve() {
            if self.matters.is_none() {
                return Err(LimitsError::new("quota", "has a reserve in the file, and none in the code"));
            }
            self.reserve = reserve;
        }
        Ok(self)
    }

    /// Checks buckets, costs and reserve, and that keyed buckets have partitions.
    pub(crate) fn check(&self, has_partitions: bool) -> Result<(), LimitsError> {
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        if self.buckets.len() > MAX_BUCKETS {
            return Err(LimitsError::new("quota", format!("must have at most {MAX_BUCKETS} buckets")));
        }
        let mut names = HashSet::new();
        for (name, source) in &self.buckets {
            if !names.insert(&**name) {
                return Err(about(name, "exists twice"));
            }
            let (numbers, is_keyed) = match source {
                Source::Shared(pool) => (pool.numbers().map_err(LimitsError::clone)?, false),
                Source::Own(Bucket { numbers: Some(numbers), key, .. }) => (numbers, key.is_some()),
                Source::Own(_) => return Err(about(name, "is in the code, and not in the file")),
            };
            numbers.check().map_err(|problem| about(name, &problem))?;
            if is_keyed && !has_partitions {
                let problem = "counts by key, and so needs partition_by with a key that implies it: \
                               otherwise a key that has nothing left holds up all others";
                return Err(about(name, problem));
            }
            if account::least_of(source, self.has_cost(name)) > numbers.limit - self.reserved(numbers.limit) {
                return Err(about(name, "is too small for a call of one op, without its reserve"));
            }
        }
        match self.costs.iter().find(|(name, _)| !names.contains(&**name)) {
            Some((name, _)) => Err(about(name, "has a cost, and is no bucket")),
            None => Ok(()),
        }
    }

    fn has_cost(&self, bucket: &str) -> bool {
        self.costs.iter().any(|(name, _)| &**name == bucket)
    }

    /// Part of a limit that is kept for the ops that matter.
    fn reserved(&self, limit: u64) -> u64 {
        part_of(limit, self.reserve)
    }

    /// A predicate by which a handle refuses an op that costs more than there ever is; `None` if no op does.
    pub(crate) fn exceeds_limit(&self) -> Option<Predicate<T>>
    where
        T: 'static,
    {
        let costs = self.buckets.iter().filter_map(|(name, source)| {
            let (_, cost) = self.costs.iter().find(|(known, _)| known == name)?;
            let (limit, call) = (source.numbers()?.limit, account::least_of(source, true));
            let ordinary = limit - self.reserved(limit);
            Some((Arc::clone(cost), limit.saturating_sub(call), ordinary.saturating_sub(call)))
        });
        let costs: Vec<(Cost<T>, u64, u64)> = costs.collect();
        let matters = self.matters.clone();
        (!costs.is_empty()).then(|| -> Predicate<T> {
            Arc::new(move |op| {
                let all_of_it = matters.as_ref().is_some_and(|matters| matters(op));
                costs.iter().any(|(cost, all, ordinary)| cost(op) > if all_of_it { *all } else { *ordinary })
            })
        })
    }

    /// Begins to count. `unix` is the time since 1970 that it is now, which fixed windows are aligned to.
    pub(crate) fn start(self, unix: Duration, now: Timestamp) -> Budget<T> {
        Budget::new(self, unix, now)
    }
}

impl<T> Source<T> {
    fn numbers(&self) -> Option<&Numbers> {
        match self {
            Self::Own(bucket) => bucket.numbers.as_ref(),
            Self::Shared(pool) => pool.numbers().ok(),
        }
    }
}

fn about(bucket: &str, problem: &str) -> LimitsError {
    LimitsError::new("quota", format!("bucket `{bucket}` {problem}"))
}

/// A part in millionths of a limit, rounded up.
fn part_of(limit: u64, millionths: u32) -> u64 {
    let part = (u128::from(limit) * u128::from(millionths)).div_ceil(u128::from(MILLION));
    u64::try_from(part).unwrap_or(limit)
}

impl<T> Default for Quota<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for Quota<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.buckets.iter().map(|(name, _)| &**name).collect();
        f.debug_struct("Quota").field("buckets", &names).finish_non_exhaustive()
    }
}
