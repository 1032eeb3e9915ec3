//! [`Limits`]: how large, how old and how many, in code and in files. Checked when read and when a batcher is built.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::rules::config::duration::Span;

/// The least default of `max_pending`: large enough for bursts, small enough not to be felt in memory.
const DEFAULT_PENDING: usize = 65_536;

/// The most that `max_pending` may be: room is counted with a sign.
const MOST_PENDING: usize = usize::MAX >> 3;

/// The most that `max_items` may be: a slot in the buffer is numbered with 32 bits.
const MOST_ITEMS: usize = u32::MAX as usize / 2;

/// Ops in a batch, at most, unless the user says otherwise: of the powers of two, the one that loses least over the cells of
/// the simulator, 3.4 % of the throughput in the mean. 256 loses 5.9 %, 1,024 6.3 %, 16,384 13.7 %.
const DEFAULT_ITEMS: usize = 512;

/// Long enough for a sink to finish, short enough for a supervisor that kills after 30 seconds or more.
const DEFAULT_SHUTDOWN: Duration = Duration::from_secs(30);

/// Limits of a batcher, or of a batched stream.
///
/// Made from code, from anything that converts into it, or from a configuration file; either way the same names:
///
/// | setting | default | meaning |
/// |---|---|---|
/// | `max_items` | 512 | ops in a batch, at most |
/// | `max_weight` | none | weight of a batch, at most; needs [`weigh_by`](crate::Stages::weigh_by) |
/// | `linger` | 0 | how long the oldest op may wait for others; zero: cut whenever a slot is free |
/// | `max_pending` | 65,536, or `2 * max_items` if more | ops accepted and not yet settled, at most |
/// | `max_in_flight` | 1 | batches being written at once, at most; one per partition |
/// | `overflow` | `wait` | what happens to a send when `max_pending` is reached |
/// | `write_timeout` | none | how long one write may take; past it its ops are ambiguous |
/// | `shutdown_timeout` | 30 s | how long the drain of a shutdown may take |
/// | `adaptive` | false | whether batches are kept below a size from which on they take more time per op |
/// | `adaptive_floor` | 1 | the smallest cap that `adaptive` may hold or try |
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use roundlot::{Limits, Overflow};
///
/// let limits = Limits::new(500).linger(Duration::from_millis(10)).max_pending(100_000).overflow(Overflow::Reject);
/// assert!(limits.check().is_ok());
///
/// let same: Limits = toml::from_str(
///     r#"
///     max_items = 500
///     linger = "10ms"
///     max_pending = 100000
///     overflow = "reject"
///     "#,
/// )?;
/// assert_eq!(same, limits);
///
/// let error = toml::from_str::<Limits>("max_items = 0").unwrap_err();
/// assert!(error.to_string().contains("max_items"));
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked", into = "Unchecked")]
#[must_use = "limits do nothing until a batcher or a stream gets them"]
#[non_exhaustive]
pub struct Limits {
    /// Ops in a batch, at most.
    pub max_items: usize,
    /// Weight of a batch, at most, if there is a cap.
    pub max_weight: Option<usize>,
    /// How long the oldest op may wait for others.
    pub linger: Duration,
    /// Ops accepted and not yet settled, at most.
    pub max_pending: usize,
    /// Batches being written at once, at most.
    pub max_in_flight: usize,
    /// Policy for a send when `max_pending` is reached.
    pub overflow: Overflow,
    /// How long one write may take, if there is an end to it.
    pub write_timeout: Option<Duration>,
    /// How long the drain of a shutdown may take.
    pub shutdown_timeout: Duration,
    /// Whether the time of writes lowers the cap on the size of a batch.
    pub adaptive: bool,
    /// The smallest cap that the time of writes may lead to.
    pub adaptive_floor: usize,
}

/// Policy for a send when `max_pending` ops are accepted and not yet settled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Overflow {
    /// `send` waits for room, first come first served; `try_send` gives the op back as full. Nothing is lost.
    #[default]
    Wait,
    /// `send` and `try_send` give the op back as full.
    Reject,
    /// The op that has waited longest makes room and ends as evicted. No sender waits: up to 65,536 ops more than
    /// `max_pending` may wait for the task to take them in. Beyond that a send is given back as full.
    EvictOldest,
    /// The oldest op of the lowest priority makes room and ends as evicted; that may be the new one. Otherwise like
    /// [`EvictOldest`](Self::EvictOldest).
    EvictLowest,
}

impl Overflow {
    pub(crate) fn evicts(self) -> bool {
        matches!(self, Self::EvictOldest | Self::EvictLowest)
    }
}

/// Limits that contradict themselves or each other, or what they are used with.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{field} {problem}")]
pub struct LimitsError {
    field: &'static str,
    problem: String,
}

impl LimitsError {
    pub(crate) fn new(field: &'static str, problem: impl Into<String>) -> Self {
        Self { field, problem: problem.into() }
    }

    pub(crate) fn unweighed() -> Self {
        Self::new("max_weight", "needs a weigh_by stage, which says what an op weighs")
    }

    /// The name of the setting that is wrong.
    pub fn field(&self) -> &'static str {
        self.field
    }
}

impl Limits {
    /// Batches of at most `max_items` ops, and the defaults for all else.
    ///
    /// A cap that is too small costs throughput under load, since each call has a cost of its own. Before simulated
    /// destinations, fixed caps lose to the best one in hindsight, in the mean over 24 destinations and 11 loads: 16 loses 48 %,
    /// 128 12 %, 256 6 %, 512 3 %. Beyond, batches grow with the load and lose only where a destination takes more time per op in
    /// large ones: 1,024 loses 6 %, 16,384 14 %, and 16,384 with [`adaptive`](Self::adaptive) 3 %. A destination with costly calls
    /// wants a larger cap than the default. The figures are printed by
    /// `cargo run --release -p roundlot-bench --bin simulator -- --seeds 101,102,103,104,105`.
    pub fn new(max_items: usize) -> Self {
        Self {
            max_items,
            max_weight: None,
            linger: Duration::ZERO,
            max_pending: default_pending(max_items),
            max_in_flight: 1,
            overflow: Overflow::Wait,
            write_timeout: None,
            shutdown_timeout: DEFAULT_SHUTDOWN,
            adaptive: false,
            adaptive_floor: 1,
        }
    }

    /// The largest number of ops in a batch. At least 1. A `max_pending` that is the default follows.
    pub fn max_items(self, max_items: usize) -> Self {
        let is_default = self.max_pending == default_pending(self.max_items);
        let max_pending = if is_default { default_pending(max_items) } else { self.max_pending };
        Self { max_items, max_pending, ..self }
    }

    /// The largest total weight of a batch, in whatever unit [`Stages::weigh_by`](crate::Stages::weigh_by) returns.
    pub fn max_weight(self, max_weight: usize) -> Self {
        Self { max_weight: Some(max_weight), ..self }
    }

    /// How long the oldest waiting op of a partition may wait for others.
    ///
    /// Zero is natural batching: a batch is cut whenever a slot is free, so batches grow exactly while the sink is
    /// busy. [`Duration::MAX`] waits until something else makes the partition due.
    pub fn linger(self, linger: Duration) -> Self {
        Self { linger, ..self }
    }

    /// The largest number of ops that are accepted and not yet settled: waiting, backing off or being written.
    ///
    /// A small buffer of a few batches stays in the caches of the CPU: senders that outrun the sink then get through 1.3 to
    /// 1.8 times as many ops as with the default of 65,536. A large buffer takes longer bursts before it pushes back.
    pub fn max_pending(self, max_pending: usize) -> Self {
        Self { max_pending, ..self }
    }

    /// The largest number of batches being written at once. Each partition has at most one, so a batcher without
    /// [`partition_by`](crate::Stages::partition_by) writes one at a time.
    pub fn max_in_flight(self, max_in_flight: usize) -> Self {
        Self { max_in_flight, ..self }
    }

    /// Policy for a send when `max_pending` is reached.
    pub fn overflow(self, overflow: Overflow) -> Self {
        Self { overflow, ..self }
    }

    /// How long one write may take. One that takes longer is dropped, and what has no verdict by then is ambiguous.
    pub fn write_timeout(self, write_timeout: Duration) -> Self {
        Self { write_timeout: Some(write_timeout), ..self }
    }

    /// How long the drain of a shutdown may take, unless [`within`](crate::Shutdown::within) says otherwise.
    pub fn shutdown_timeout(self, shutdown_timeout: Duration) -> Self {
        Self { shutdown_timeout, ..self }
    }

    /// Whether batches are kept below a size from which on they take more time per op. Off by default.
    ///
    /// A batcher whose destination takes an op in the same time, or in less, in a larger batch needs no such cap: with a linger
    /// of zero, its batches grow as far as the load wants. Some destinations take more time per op beyond some size. Before
    /// those, a batcher that falls behind writes larger batches, and so falls behind further.
    ///
    /// When switched on, larger batches are tried step by step, while ops queue up. Where they seem to take more time per op,
    /// sizes are compared in pairs of writes, and one is held as the cap once the next larger one is proven worse. The cap is
    /// compared with others for ever, and let go when it proves nothing any more. Compared with natural batching this costs
    /// 1 to 2 % of the throughput where it finds nothing, by small batches at the start and comparisons after slow writes.
    /// [`Stats::size`](crate::Stats::size) has the cap and its reason. Before a destination whose times scatter by more than
    /// a factor of two, finding a size takes some ten seconds of load.
    ///
    /// A batched stream has no writes, so this changes nothing there.
    ///
    /// # Examples
    ///
    /// ```
    /// use roundlot::Limits;
    ///
    /// let limits = Limits::new(10_000).adaptive(true).adaptive_floor(50);
    /// assert!(limits.check().is_ok());
    /// assert!(limits.max_items(20).check().is_err(), "the floor is above the cap");
    /// ```
    pub fn adaptive(self, adaptive: bool) -> Self {
        Self { adaptive, ..self }
    }

    /// The smallest cap, in ops, that [`adaptive`](Self::adaptive) may hold or try: at least 1, which is the default, and at
    /// most `max_items`. Failures may lower the cap further.
    pub fn adaptive_floor(self, adaptive_floor: usize) -> Self {
        Self { adaptive_floor, ..self }
    }

    /// Checks the limits by themselves. Called when they are read from a file, when a batcher is built, and by
    /// [`set_limits`](crate::Handle::set_limits).
    ///
    /// `max_pending` may be below `max_items`: the buffer is then cut when it is full.
    ///
    /// # Errors
    ///
    /// Names the first setting that is out of range.
    pub fn check(&self) -> Result<(), LimitsError> {
        let at_least_one = [
            ("max_items", self.max_items),
            ("max_weight", self.max_weight.unwrap_or(1)),
            ("max_pending", self.max_pending),
            ("max_in_flight", self.max_in_flight),
            ("adaptive_floor", self.adaptive_floor),
        ];
        if let Some((field, _)) = at_least_one.into_iter().find(|(_, value)| *value == 0) {
            return Err(LimitsError::new(field, "must be at least 1"));
        }
        if self.max_pending > MOST_PENDING {
            return Err(LimitsError::new("max_pending", format!("must be at most {MOST_PENDING}")));
        }
        if self.adaptive_floor > self.max_items {
            return Err(LimitsError::new("adaptive_floor", format!("must be at most max_items, {}", self.max_items)));
        }
        if self.write_timeout.is_some_and(|limit| limit.is_zero()) {
            return Err(LimitsError::new("write_timeout", "must be longer than zero"));
        }
        Ok(())
    }

    /// `max_items`, cut down to what a slot number can hold.
    pub(crate) fn items(&self) -> usize {
        self.max_items.min(MOST_ITEMS)
    }

    pub(crate) fn weight(&self) -> usize {
        self.max_weight.unwrap_or(usize::MAX)
    }
}

/// Two batches' worth at least, so that one fills while the other is written.
fn default_pending(max_items: usize) -> usize {
    DEFAULT_PENDING.max(max_items.saturating_mul(2)).min(MOST_PENDING)
}

/// Batches of at most 512 ops: of all caps, the one that loses least before simulated destinations of many kinds.
impl Default for Limits {
    fn default() -> Self {
        Self::new(DEFAULT_ITEMS)
    }
}

impl From<usize> for Limits {
    fn from(max_items: usize) -> Self {
        Self::new(max_items)
    }
}

impl From<(usize, Duration)> for Limits {
    fn from((max_items, linger): (usize, Duration)) -> Self {
        Self::new(max_items).linger(linger)
    }
}

/// The settings as they stand in a file, before anybody has looked at them together.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    #[serde(default = "default_items")]
    max_items: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_weight: Option<usize>,
    #[serde(default)]
    linger: Span,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_pending: Option<usize>,
    #[serde(default = "one")]
    max_in_flight: usize,
    #[serde(default)]
    overflow: Overflow,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    write_timeout: Option<Span>,
    #[serde(default = "default_shutdown")]
    shutdown_timeout: Span,
    #[serde(default)]
    adaptive: bool,
    #[serde(default = "one")]
    adaptive_floor: usize,
}

fn default_items() -> usize {
    DEFAULT_ITEMS
}

fn one() -> usize {
    1
}

fn default_shutdown() -> Span {
    Span(DEFAULT_SHUTDOWN)
}

impl TryFrom<Unchecked> for Limits {
    type Error = LimitsError;

    fn try_from(file: Unchecked) -> Result<Self, LimitsError> {
        let limits = Self {
            max_items: file.max_items,
            max_weight: file.max_weight,
            linger: file.linger.0,
            max_pending: file.max_pending.unwrap_or_else(|| default_pending(file.max_items)),
            max_in_flight: file.max_in_flight,
            overflow: file.overflow,
            write_timeout: file.write_timeout.map(|span| span.0),
            shutdown_timeout: file.shutdown_timeout.0,
            adaptive: file.adaptive,
            adaptive_floor: file.adaptive_floor,
        };
        limits.check()?;
        Ok(limits)
    }
}

impl From<Limits> for Unchecked {
    fn from(limits: Limits) -> Self {
        Self {
            max_items: limits.max_items,
            max_weight: limits.max_weight,
            linger: Span(limits.linger),
            max_pending: Some(limits.max_pending),
            max_in_flight: limits.max_in_flight,
            overflow: limits.overflow,
            write_timeout: limits.write_timeout.map(Span),
            shutdown_timeout: Span(limits.shutdown_timeout),
            adaptive: limits.adaptive,
            adaptive_floor: limits.adaptive_floor,
        }
    }
}

#[cfg(test)]
#[path = "limits_tests.rs"]
mod tests;
