//! [`Bucket`]: one limit of a venue.

use std::{
    fmt,
    time::{Duration, Instant},
};

use super::{
    account::boundary_of,
    numbers::{Kind, Numbers, per_unit},
    window::Window,
};
use crate::rules::{
    config::limits::LimitsError,
    stage::{BoxIndex, IntoKey, KeyIndex},
    time::Timestamp,
};

/// One limit of a venue: how much may be used, and how the venue forgets. [`Quota::bucket`](crate::Quota::bucket) takes it.
///
/// An op costs 1 unless [`Quota::cost`](crate::Quota::cost) says otherwise. With [`per_call`](Self::per_call) a call has a
/// cost, and its ops have none.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use roundlot::{Bucket, Quota, Stages};
///
/// struct Order { symbol: &'static str }
///
/// let quota = Quota::<Order>::new()
///     .bucket("orders", Bucket::rolling(300, Duration::from_secs(10)))
///     .bucket("calls", Bucket::fixed(1200, Duration::from_secs(60)).per_call(1))
///     .bucket("pair", Bucket::decaying(60, 1.0).by(|order: &Order| order.symbol));
/// let stages = Stages::new().partition_by(|order: &Order| order.symbol);
/// # let sink = roundlot::sink_fn(|batch: &mut roundlot::Batch<Order>| Box::pin(async move { Ok(batch.accept_all()) }));
/// assert!(roundlot::Batcher::new(sink).stages(stages).quota(quota).try_split().is_ok());
/// ```
#[must_use = "a bucket does nothing until a quota gets it"]
pub struct Bucket<T> {
    /// `None` if they come from a file.
    pub(super) numbers: Option<Numbers>,
    pub(super) key: Option<BoxIndex<T>>,
    pub(super) call_cost: Option<CallCost>,
    pub(super) boundary: Option<Timestamp>,
}

/// Cost of a call, by the number of ops in it.
pub(super) type CallCost = Box<dyn Fn(usize) -> u64 + Send>;

impl<T> Bucket<T> {
    fn new(kind: Kind, limit: u64) -> Self {
        Self { numbers: Some(Numbers::new(kind, limit)), key: None, call_cost: None, boundary: None }
    }

    /// At most `limit` within any span of time as long as `window`.
    pub fn rolling(limit: u64, window: Duration) -> Self {
        Self::new(Kind::Rolling { window }, limit)
    }

    /// At most `limit` within each window of the venue's clock, which begin at the multiples of `window` since 1970 (UTC).
    ///
    /// The windows are known as well as the clocks agree: see [`skew`](Self::skew) and [`aligned_to`](Self::aligned_to). A
    /// charge counts in each window that its call may fall into. Windows that are shorter than twice the skew therefore count
    /// as rolling, which the venue allows as well. They also do after a
    /// [`Throttled`](crate::ErrorKind::Throttled) answer, which shows that the clocks disagree.
    pub fn fixed(limit: u64, window: Duration) -> Self {
        Self::new(Kind::Fixed { window }, limit)
    }

    /// A counter that must not exceed `limit`, and falls by `per_second`.
    pub fn decaying(limit: u64, per_second: f64) -> Self {
        Self::new(Kind::Decaying { per_unit: per_unit(per_second) }, limit)
    }

    /// A bucket whose numbers stand in a configuration file, under the same name: [`Batcher::config`](crate::Batcher::config)
    /// has them, or [`Quota::configure`](crate::Quota::configure). A batcher without them is not built.
    pub fn configured() -> Self {
        Self { numbers: None, key: None, call_cost: None, boundary: None }
    }

    /// Counts each key by itself. An op whose key is `None` does not count.
    ///
    /// Needs [`partition_by`](crate::Stages::partition_by), with a key that implies this one. Otherwise an op whose key has
    /// nothing left would hold up ops of other keys behind it.
    pub fn by<K: IntoKey>(self, key: impl Fn(&T) -> K + Send + 'static) -> Self {
        Self { key: Some(Box::new(KeyIndex::new(move |op: &T| key(op).into_key()))), ..self }
    }

    /// Lets each call cost so much, whatever is in it. Its ops then cost nothing, unless
    /// [`Quota::cost`](crate::Quota::cost) says so.
    pub fn per_call(self, cost: u64) -> Self {
        self.change(|numbers| numbers.per_call = Some(cost))
    }

    /// Lets a call cost what the function returns for the number of its ops, such as `1 + n / 40`. Its ops then cost nothing,
    /// unless [`Quota::cost`](crate::Quota::cost) says so. More ops must not cost less.
    pub fn per_call_by(self, cost: impl Fn(usize) -> u64 + Send + 'static) -> Self {
        Self { call_cost: Some(Box::new(cost)), ..self }
    }

    /// The most by which one call may take longer to the venue than another; 50 ms by default. A window lasts longer by it.
    pub fn jitter(self, jitter: Duration) -> Self {
        self.change(|numbers| numbers.jitter = jitter)
    }

    /// The most by which the venue's clock may differ from that of this machine; 1 s by default. For fixed windows.
    pub fn skew(self, skew: Duration) -> Self {
        self.change(|numbers| numbers.skew = skew)
    }

    /// A moment at which a fixed window begins, where windows do not begin at the multiples of their length since 1970.
    pub fn aligned_to(self, boundary: impl Into<Instant>) -> Self {
        Self { boundary: Some(Timestamp::from(boundary.into())), ..self }
    }

    /// Lets batches use all that is left at once. By default the first half of a window is free, and what is left of it is
    /// spread evenly over the rest, so that calls come steadily where they are scarce.
    pub fn unpaced(self) -> Self {
        self.change(|numbers| numbers.paced = false)
    }

    /// The bucket as one that several quotas share: its numbers, or what is wrong with it, and its state. `unix` is the time since 1970.
    pub(crate) fn into_window(self, unix: Duration, now: Timestamp) -> (Result<Numbers, LimitsError>, Window) {
        let wrong = |what: &str| LimitsError::new("quota", format!("has a shared bucket that {what}"));
        let Self { numbers, key, call_cost, boundary } = self;
        let checked = match &numbers {
            None => Err(wrong("has no numbers")),
            Some(_) if key.is_some() => Err(wrong("counts by key")),
            Some(_) if call_cost.is_some() => Err(wrong("has a function for the cost of a call")),
            Some(numbers) => numbers.check().map(|()| numbers.clone()).map_err(|problem| wrong(&problem)),
        };
        let numbers = numbers.unwrap_or_else(|| Numbers::new(Kind::Rolling { window: Duration::ZERO }, 1));
        let boundary = boundary.unwrap_or_else(|| boundary_of(numbers.kind, unix, now));
        (checked, Window::new(&numbers, boundary, now))
    }

    /// Changes the numbers; a bucket that gets its own from a file has nothing to change.
    fn change(mut self, change: impl FnOnce(&mut Numbers)) -> Self {
        if let Some(numbers) = &mut self.numbers {
            change(numbers);
        }
        self
    }
}

impl<T> fmt::Debug for Bucket<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket")
            .field("numbers", &self.numbers)
            .field("by", &self.key.is_some())
            .finish_non_exhaustive()
    }
}
