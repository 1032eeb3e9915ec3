//! [`Staged`]: a stream of single items under the rules of [`Stages`]. Which item goes next is decided when it is polled.

use std::{
    fmt,
    hash::Hash,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use futures::{Stream, stream::FusedStream};
use tokio::task::coop;

use super::{Batched, StreamDriver, driver::ITEMS_PER_POLL};
use crate::rules::{
    config::limits::{Limits, LimitsError},
    stage::{IntoKey, Merge, Stages},
    stats::Stats,
};

/// A stream of single items under the rules of [`Stages`], from [`BatchExt::stages`](crate::BatchExt::stages).
///
/// The rules have the names and the meaning that they have there. Calls may come in any order and mean the same, but for
/// [`aging`](Self::aging), which comes after [`priority_by`](Self::priority_by). All of them panic once an item has been
/// taken in.
///
/// # Examples
///
/// A consumer that takes its time gets the newest value of each key, what matters first:
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use std::time::Duration;
/// use futures::StreamExt;
/// use roundlot::{BatchExt, Limits, stage};
///
/// let feed = || futures::stream::iter([("ETH", 1), ("BTC", 2), ("ETH", 3), ("ETH", 3)]);
/// let rules = feed()
///     .stages()
///     .dedup_by(|quote| *quote, Duration::from_secs(1))
///     .conflate_by(|quote| quote.0, stage::latest)
///     .priority_by(|quote| quote.0 == "BTC");
/// assert_eq!(rules.collect::<Vec<_>>().await, [("BTC", 2), ("ETH", 3)]);
///
/// // The same, in batches.
/// let mut batches = feed().stages().conflate_by(|quote| quote.0, stage::latest).batched(Limits::new(100));
/// assert_eq!(batches.next().await.unwrap(), [("ETH", 3), ("BTC", 2)]);
/// # }
/// ```
#[must_use = "streams do nothing unless polled"]
pub struct Staged<S, T> {
    driver: StreamDriver<S, T>,
}

/// Maximum number of items that wait: as many as one poll takes in, so that one poll can fill the buffer.
const MAX_WAITING: usize = ITEMS_PER_POLL;

/// The limits of single items: each is a batch, due at once.
pub(super) fn one_by_one() -> Limits {
    Limits::new(1).max_pending(MAX_WAITING)
}

impl<S, T> Staged<S, T>
where
    S: Stream<Item = T>,
{
    pub(super) fn new(source: S) -> Self {
        Self { driver: StreamDriver::new(source, Stages::new(), &one_by_one()) }
    }

    fn with(self, rule: impl FnOnce(Stages<T>) -> Stages<T>) -> Self {
        let limits = one_by_one();
        let checked = |stages| {
            let stages = rule(stages);
            stages.check(&limits).unwrap_or_else(|error| panic!("invalid stages of a stream: {error}"));
            stages
        };
        let driver = self.driver.with_stages(checked, &limits);
        Self { driver: driver.expect("a rule must be chosen before the stream has taken in an item") }
    }

    /// Gives each key a queue of its own, as [`Stages::partition_by`] does.
    ///
    /// For single items it matters only to [`conflate_by`](Self::conflate_by) and [`dedup_by`](Self::dedup_by), whose keys
    /// hold within a partition. Their order is that of one queue.
    pub fn partition_by<K>(self, key: impl Fn(&T) -> K + Send + 'static) -> Self
    where
        K: Hash + Eq + Send + 'static,
    {
        self.with(|stages| stages.partition_by(key))
    }

    /// Lets one partition that is due make all of them due, as [`Stages::together`] does. It matters only to
    /// [`batched`](Self::batched): a single item is due at once.
    pub fn together(self) -> Self {
        self.with(Stages::together)
    }

    /// Merges an item into the one that already waits under the same key, as [`Stages::conflate_by`] does.
    ///
    /// An item that was emitted no longer waits, so nothing is merged while the consumer keeps up.
    #[doc(alias = "coalesce")]
    #[doc(alias = "debounce")]
    pub fn conflate_by<K, M>(
        self,
        key: impl Fn(&T) -> K + Send + 'static,
        merge: impl Fn(T, T) -> M + Send + 'static,
    ) -> Self
    where
        K: IntoKey,
        M: Into<Merge<T>>,
    {
        self.with(|stages| stages.conflate_by(key, merge))
    }

    /// Does not emit an item whose key has been seen within `window`, as [`Stages::dedup_by`] does. The window counts
    /// from the poll that took the first item in.
    #[doc(alias = "dedupe")]
    #[doc(alias = "distinct")]
    pub fn dedup_by<K>(self, key: impl Fn(&T) -> K + Send + 'static, window: Duration) -> Self
    where
        K: IntoKey,
    {
        self.with(|stages| stages.dedup_by(key, window))
    }

    /// Lets the greatest level leave first, as [`Stages::priority_by`] does, among the items that wait.
    pub fn priority_by<L>(self, level: impl Fn(&T) -> L + Send + 'static) -> Self
    where
        L: Ord + Send + 'static,
    {
        self.with(|stages| stages.priority_by(level))
    }

    /// Moves an item up one level each time it has waited `after`, as [`Stages::aging`] does.
    ///
    /// # Panics
    ///
    /// If there is no [`priority_by`](Self::priority_by) yet, or `after` is zero.
    pub fn aging(self, after: Duration) -> Self {
        self.with(|stages| stages.aging(after))
    }

    /// Makes a partition due at once when such an item comes, as [`Stages::urgent_by`] does. It matters only to
    /// [`batched`](Self::batched): a single item is due at once. What is to overtake others has a greater level of
    /// [`priority_by`](Self::priority_by).
    pub fn urgent_by(self, urgent: impl Fn(&T) -> bool + Send + 'static) -> Self {
        self.with(|stages| stages.urgent_by(urgent))
    }

    /// Never emits an item at or past the instant that is returned for it, as [`Stages::expire_by`] does. It is checked
    /// when the item is next to leave; until then it keeps its place among those that wait.
    #[doc(alias = "ttl")]
    pub fn expire_by<I>(self, deadline: impl Fn(&T) -> Option<I> + Send + 'static) -> Self
    where
        I: Into<Instant>,
    {
        self.with(|stages| stages.expire_by(deadline))
    }

    /// Gives each item a weight, as [`Stages::weigh_by`] does. It matters only to [`batched`](Self::batched), whose
    /// [`Limits::max_weight`] caps it: a single item has no cap.
    pub fn weigh_by(self, weight: impl Fn(&T) -> usize + Send + Sync + 'static) -> Self {
        self.with(|stages| stages.weigh_by(weight))
    }

    /// Groups the items into batches, as [`BatchExt::batched`](crate::BatchExt::batched) does under the same rules.
    ///
    /// Items that were taken in already stay, and so does what [`dedup_by`](Self::dedup_by) remembers.
    ///
    /// # Panics
    ///
    /// If limits and rules contradict each other; see [`try_batched`](Self::try_batched).
    pub fn batched(self, limits: impl Into<Limits>) -> Batched<S, T> {
        self.try_batched(limits).unwrap_or_else(|error| panic!("invalid batched stream: {error}"))
    }

    /// Like [`batched`](Self::batched), for limits that may be wrong.
    ///
    /// # Errors
    ///
    /// Names the setting that contradicts itself or another.
    pub fn try_batched(self, limits: impl Into<Limits>) -> Result<Batched<S, T>, LimitsError> {
        self.driver.with_limits(&limits.into()).map(Batched::new)
    }

    /// Counters and gauges, as for a batcher: each item that was emitted counts as a batch.
    pub fn stats(&self) -> Stats {
        self.driver.stats()
    }

    /// Gives the rules up: the stream, pinned where it is, if it has not ended; and the items that wait, oldest first.
    pub fn into_parts(self) -> (Option<Pin<Box<S>>>, Vec<T>) {
        self.driver.into_parts()
    }
}

impl<S, T> Stream for Staged<S, T>
where
    S: Stream<Item = T>,
{
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        // A channel of tokio seems empty once the task's budget is spent. Items would then leave without a look at newer ones.
        ready!(pin!(coop::consume_budget()).poll(cx));
        self.driver.poll_batch(cx, |batch| batch.pop().expect("a batch has an item"))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, None)
    }
}

impl<S, T> FusedStream for Staged<S, T>
where
    S: Stream<Item = T>,
{
    fn is_terminated(&self) -> bool {
        self.driver.has_ended()
    }
}

impl<S, T> Unpin for Staged<S, T> {}

impl<S, T> fmt::Debug for Staged<S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Staged").field("has_ended", &self.driver.is_source_done()).finish_non_exhaustive()
    }
}
