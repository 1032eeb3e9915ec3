//! [`Stages`]: the recipe, which rules apply to ops while they wait. The accumulator follows it, whether a batcher or a stream
//! drives it.
//!
//! An op passes dedup, partition, conflate, priority; all rules hold across each other.

mod index;
mod key;
mod levels;
mod merge;

use std::{
    fmt,
    hash::Hash,
    sync::{Arc, OnceLock},
    time::{Duration, Instant, SystemTime},
};

pub(crate) use index::{BoxIndex, Found, KeyIndex};
pub use key::IntoKey;
pub(crate) use levels::Order;
pub use merge::{Merge, first, latest};

use crate::rules::{
    config::limits::{Limits, LimitsError},
    time::Timestamp,
};
use levels::{BoxLevels, LevelTable};

/// The rules that apply to ops while they wait, each empty at first. Calls may come in any order and mean the same.
///
/// | rule | emits | holds an op back until | completes |
/// |---|---|---|---|
/// | [`partition_by`](Self::partition_by) | batches of one key | its own key is full or due | when all partitions are empty |
/// | [`conflate_by`](Self::conflate_by) | one op per key | - | - |
/// | [`dedup_by`](Self::dedup_by) | the first op per key and window | - | - |
/// | [`priority_by`](Self::priority_by) | the greatest level first | greater ones have left | - |
/// | [`urgent_by`](Self::urgent_by) | at once, with what waits in the partition | - | - |
/// | [`expire_by`](Self::expire_by), [`expire_at`](Self::expire_at) | what is still wanted | - | - |
/// | [`weigh_by`](Self::weigh_by) | batches within `max_weight` | there is weight left in a batch | - |
///
/// The functions are called once or more per op, on the task that owns the buffer, and should be cheap and depend on
/// the op alone. A panic in one of them ends the op it was called for as refused; the batcher lives on.
///
/// # Examples
///
/// ```
/// use roundlot::{Stages, stage};
/// use roundlot::market::TradeOp;
///
/// let stages = Stages::<TradeOp>::new()
///     .partition_by(|op| (op.symbol(), op.side()))
///     .conflate_by(|op| op.conflation_key(), TradeOp::merge)
///     .priority_by(|op| op.priority());
/// ```
#[must_use = "stages do nothing until a batcher or a stream gets them"]
pub struct Stages<T> {
    pub(crate) partition: Option<BoxIndex<T>>,
    pub(crate) together: bool,
    pub(crate) conflate: Option<Conflate<T>>,
    pub(crate) dedup: Option<Dedup<T>>,
    pub(crate) priority: Option<BoxLevels<T>>,
    /// How ops that wait compare.
    pub(crate) order: Order,
    pub(crate) urgent: Option<BoxRule<T, bool>>,
    pub(crate) expiry: Option<BoxRule<T, Option<Timestamp>>>,
    /// Whether expiry goes by the time of day.
    pub(crate) expires_at: bool,
    /// Set by the driver, as rules know no clock.
    wall_clock: Arc<OnceLock<WallClock>>,
    pub(crate) weight: Option<Weigh<T>>,
}

pub(crate) type BoxRule<T, V> = Box<dyn Fn(&T) -> V + Send>;

/// Turns a time of day into a timestamp.
type WallClock = Box<dyn Fn(SystemTime) -> Timestamp + Send + Sync>;

/// Shared with the handles, which refuse an op that is too heavy at the door.
pub(crate) type Weigh<T> = Arc<dyn Fn(&T) -> usize + Send + Sync>;

pub(crate) struct Conflate<T> {
    pub(crate) index: BoxIndex<T>,
    pub(crate) merge: BoxMerge<T>,
}

/// Leaves of the op that waits and of the newer one what the two have become.
pub(crate) type BoxMerge<T> = Box<dyn Fn(&mut Option<T>, &mut Option<T>) + Send>;

pub(crate) struct Dedup<T> {
    pub(crate) index: BoxIndex<T>,
    pub(crate) window: Duration,
}

impl<T> Stages<T> {
    /// No rules: one queue, first in, first out.
    pub fn new() -> Self {
        Self {
            partition: None,
            together: false,
            conflate: None,
            dedup: None,
            priority: None,
            order: Order::default(),
            urgent: None,
            expiry: None,
            expires_at: false,
            wall_clock: Arc::default(),
            weight: None,
        }
    }

    /// Gives each key a queue of its own, with its own deadline and fullness. A batch never mixes two partitions.
    ///
    /// At most one batch of a partition is in flight, so the order within it holds with many writes at once and
    /// through retries. Partitions that are empty are forgotten, but for 128 at most: a million symbols seen once cost
    /// nothing afterwards.
    pub fn partition_by<K>(mut self, key: impl Fn(&T) -> K + Send + 'static) -> Self
    where
        K: Hash + Eq + Send + 'static,
    {
        self.partition = Some(Box::new(KeyIndex::new(move |op: &T| Some(key(op)))));
        self
    }

    /// Lets one partition that is due make all of them due: fewer, larger rounds instead of many small ones.
    pub fn together(mut self) -> Self {
        self.together = true;
        self
    }

    /// Merges an op into the one that already waits under the same key of its partition.
    ///
    /// `merge(waiting, newer)` says what waits on, see [`Merge`]; [`latest`] and [`first`] are ready. The survivor
    /// keeps the place and the linger clock of the op that waited, and moves up if the newer one has the higher
    /// priority. Callers who wait for either op learn the survivor's fate. An op in flight is never merged into; if it
    /// comes back to be tried again, it is merged with what came in meanwhile.
    ///
    /// An op in doubt is never merged: an ambiguous attempt may have landed it, so it can be neither replaced nor netted. It
    /// is sent again, before anything newer of its key, or ends in doubt.
    ///
    /// The key is an `Option`, where `None` means never merged, or for the usual types the key itself: see [`IntoKey`].
    #[doc(alias = "coalesce")]
    #[doc(alias = "debounce")]
    pub fn conflate_by<K, M>(
        mut self,
        key: impl Fn(&T) -> K + Send + 'static,
        merge: impl Fn(T, T) -> M + Send + 'static,
    ) -> Self
    where
        K: IntoKey,
        M: Into<Merge<T>>,
    {
        self.conflate = Some(Conflate {
            index: Box::new(KeyIndex::new(move |op: &T| key(op).into_key())),
            merge: Box::new(move |waiting, newer| merge::in_place(&merge, waiting, newer)),
        });
        self
    }

    /// Does not queue an op whose key has been seen in its partition within `window`, whatever became of the first.
    ///
    /// The caller of the repeat learns the first one's fate. The window counts from the first op and a repeat does not
    /// prolong it. Keys are remembered for the window, at most [`REMEMBERED_KEYS`] of
    /// them: then the oldest is forgotten early.
    ///
    /// The key is an `Option`, where `None` means never a repeat, or for the usual types the key itself: see
    /// [`IntoKey`].
    #[doc(alias = "dedupe")]
    #[doc(alias = "distinct")]
    pub fn dedup_by<K>(mut self, key: impl Fn(&T) -> K + Send + 'static, window: Duration) -> Self
    where
        K: IntoKey,
    {
        self.dedup = Some(Dedup { index: Box::new(KeyIndex::new(move |op: &T| key(op).into_key())), window });
        self
    }

    /// Lets the greatest level leave first, and within a level what arrived first; across partitions, the partition
    /// with the best head goes first.
    ///
    /// Levels are meant to be few, as levels of priority are: the cost of an op grows with their number.
    pub fn priority_by<L>(mut self, level: impl Fn(&T) -> L + Send + 'static) -> Self
    where
        L: Ord + Send + 'static,
    {
        self.priority = Some(Box::new(LevelTable::new(level)));
        self
    }

    /// Moves an op up one level each time it has waited `after`, so that nothing waits for ever. Needs
    /// [`priority_by`](Self::priority_by). One level up is the next greater one that ops have come with.
    pub fn aging(mut self, after: Duration) -> Self {
        self.order.aging = Some(after);
        self
    }

    /// Makes a partition due at once when an op comes that satisfies the predicate.
    pub fn urgent_by(mut self, urgent: impl Fn(&T) -> bool + Send + 'static) -> Self {
        self.urgent = Some(Box::new(urgent));
        self
    }

    /// Never sends an op at or past the instant that is returned for it; its caller is told that it expired.
    ///
    /// Expiry is checked when a batch is cut, which a partition is when it is due: so also after a backoff, a pause or an
    /// outage. No timer watches each op. An op that lingers past its instant therefore keeps its place in `max_pending`, and
    /// its caller hears of the expiry when the partition is due.
    ///
    /// An op in doubt, which an earlier ambiguous attempt may have landed, ends in doubt and not as expired.
    ///
    /// Return an instant that the op carries. `Instant::now()` plus a time to live never comes, since the function is called
    /// anew at each check. `None` never expires. Both `std::time::Instant` and `tokio::time::Instant` will do.
    #[doc(alias = "ttl")]
    pub fn expire_by<I>(mut self, deadline: impl Fn(&T) -> Option<I> + Send + 'static) -> Self
    where
        I: Into<Instant>,
    {
        self.expiry = Some(Box::new(move |op| deadline(op).map(|instant| Timestamp::from(instant.into()))));
        self.expires_at = false;
        self
    }

    /// Never sends an op at or past this time of day: as [`expire_by`](Self::expire_by), which it replaces, for a time that an
    /// op carries as a message does. A durable batcher takes only this one, since no log can carry an `Instant`.
    ///
    /// The wall clock is read at each check, so that a step of it counts at once. `None` never expires.
    pub fn expire_at(mut self, deadline: impl Fn(&T) -> Option<SystemTime> + Send + 'static) -> Self {
        let clock = Arc::clone(&self.wall_clock);
        let timestamp = move |time| clock.get().map_or(Timestamp::END, |clock| clock(time));
        self.expiry = Some(Box::new(move |op| deadline(op).map(&timestamp)));
        self.expires_at = true;
        self
    }

    /// Sets the driver's clock, which turns times of day into timestamps.
    pub(crate) fn on_clock(self, clock: impl Fn(SystemTime) -> Timestamp + Send + Sync + 'static) -> Self {
        // Set already if a stream got more stages: it is the same clock.
        let _ = self.wall_clock.set(Box::new(clock));
        self
    }

    /// Gives each op a weight, in bytes or cost or whatever [`Limits::max_weight`] caps per batch. An op heavier than
    /// the cap is given back at `send`. One that outgrows the cap by merging, or when the cap is lowered, is refused: a dead
    /// letter.
    pub fn weigh_by(mut self, weight: impl Fn(&T) -> usize + Send + Sync + 'static) -> Self {
        self.weight = Some(Arc::new(weight));
        self
    }

    /// Whether no rule has anything to say of an op as it comes; expiry is asked at the cut.
    pub(crate) fn asks_nothing_on_arrival(&self) -> bool {
        let Self { partition, conflate, dedup, priority, urgent, weight, .. } = self;
        partition.is_none()
            && conflate.is_none()
            && dedup.is_none()
            && priority.is_none()
            && urgent.is_none()
            && weight.is_none()
    }

    /// Whether no rule has anything to say of an op, ever.
    pub(crate) fn asks_nothing(&self) -> bool {
        self.asks_nothing_on_arrival() && self.expiry.is_none()
    }

    /// Whether rules and limits fit each other.
    pub(crate) fn check(&self, limits: &Limits) -> Result<(), LimitsError> {
        limits.check()?;
        if limits.max_weight.is_some() && self.weight.is_none() {
            return Err(LimitsError::unweighed());
        }
        if self.order.aging.is_some() && self.priority.is_none() {
            return Err(LimitsError::new("aging", "needs a priority_by stage, whose levels an op moves up"));
        }
        if self.order.aging.is_some_and(|after| after.is_zero()) {
            return Err(LimitsError::new("aging", "must be longer than zero"));
        }
        Ok(())
    }
}

/// How many keys [`Stages::dedup_by`] remembers at most: with keys of 16 bytes some 100 MB, which is a bound and not
/// a plan. Beyond it the oldest key is forgotten before its window ends.
pub const REMEMBERED_KEYS: usize = 1 << 20;

impl<T> Default for Stages<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for Stages<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stages")
            .field("partition_by", &self.partition.is_some())
            .field("together", &self.together)
            .field("conflate_by", &self.conflate.is_some())
            .field("dedup_by", &self.dedup.as_ref().map(|dedup| dedup.window))
            .field("priority_by", &self.priority.is_some())
            .field("aging", &self.order.aging)
            .field("urgent_by", &self.urgent.is_some())
            .field("expire_by", &(self.expiry.is_some() && !self.expires_at))
            .field("expire_at", &self.expires_at)
            .field("weigh_by", &self.weight.is_some())
            .finish()
    }
}
