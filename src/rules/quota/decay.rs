//! [`Decay`]: a counter that falls steadily, as those of Kraken do. Kept as the moment at which it will be empty, which is the
//! theoretical arrival time of the generic cell rate algorithm (ITU-T I.371).

use crate::rules::time::Timestamp;

#[derive(Debug, Clone)]
pub(super) struct Decay {
    /// When the venue's counter is empty at the latest.
    empty_at: Timestamp,
    /// Nanoseconds in which the counter falls by one.
    per_unit: u64,
    /// The most by which one call may take longer to the venue than another, in nanoseconds.
    jitter: u64,
}

impl Decay {
    pub(super) fn new(per_unit: u64, jitter: u64, now: Timestamp) -> Self {
        Self { empty_at: now, per_unit: per_unit.max(1), jitter }
    }

    pub(super) fn jitter(&self) -> u64 {
        self.jitter
    }

    /// Nanoseconds in which so much decays.
    fn time_of(&self, units: u64) -> u64 {
        units.saturating_mul(self.per_unit)
    }

    pub(super) fn used(&self, now: Timestamp) -> u64 {
        self.empty_at.nanos_since(now).div_ceil(self.per_unit)
    }

    pub(super) fn add(&mut self, cost: u64, now: Timestamp) {
        // A call that is on its way for longer than those behind it brings them closer together.
        let from = self.empty_at.max(now.plus_nanos(self.jitter));
        self.empty_at = from.plus_nanos(self.time_of(cost));
    }

    /// Takes back what was added, whatever other batchers have added since. A lift by the jitter stays.
    pub(super) fn undo(&mut self, cost: u64) {
        self.empty_at = self.falls_to(cost);
    }

    pub(super) fn correct(&mut self, used: u64, now: Timestamp) {
        self.empty_at = now.plus_nanos(self.time_of(used));
    }

    /// When no more than `most` is left of what has been drawn so far.
    pub(super) fn falls_to(&self, most: u64) -> Timestamp {
        Timestamp::from_nanos(self.empty_at.nanos().saturating_sub(self.time_of(most)))
    }

    /// Nanoseconds in which a counter that stands at `limit` becomes empty.
    pub(super) fn window(&self, limit: u64) -> u64 {
        self.time_of(limit)
    }

    /// A rate, in units per nanosecond, at which the counter approaches `limit` and does not meet it.
    pub(super) fn sustainable(&self, limit: u64, now: Timestamp) -> f64 {
        let level = (self.empty_at.nanos_since(now) as f64 / self.window(limit).max(1) as f64).min(1.0);
        (2.0 - level) / self.per_unit as f64
    }
}
