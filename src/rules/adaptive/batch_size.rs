//! [`BatchSize`]: the cap in force, the smaller one of what failures and what the time of writes allow. It is never above
//! `max_items`, and never below 1. The accumulator owns it.

use super::{
    by_time::{ByTime, Landing, Proof},
    halving::{Failure, Halving},
};
use crate::rules::{
    config::limits::Limits,
    stats::{CapReason, SizeStats},
    time::Timestamp,
};

/// A change of the cap that a log should tell.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum CapEvent {
    /// Failures have lowered a cap that was free.
    Lowered { cap: usize, failed: usize },
    /// The cap that failures had lowered is free again.
    Restored { cap: usize },
    /// Larger batches are proven to take more time per op, so that the cap is held.
    Held(Proof),
    /// They are not any more.
    Released(Proof),
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct BatchSize {
    halving: Halving,
    /// `None` unless the user switched it on.
    by_time: Option<Box<ByTime>>,
    /// The cap between tests. The one in force differs while sizes are compared.
    settled: usize,
    /// Changes of the settled cap so far.
    changes: u64,
}

impl BatchSize {
    pub(crate) fn new(limits: &Limits) -> Self {
        let halving = Halving::new(limits.items());
        let by_time = limits.adaptive.then(|| Box::new(ByTime::new(limits.items(), limits.adaptive_floor)));
        let mut size = Self { halving, by_time, settled: 0, changes: 0 };
        size.settled = size.settled_cap();
        size
    }

    /// The most ops that a batch may hold.
    #[inline]
    pub(crate) fn cap(&self) -> usize {
        let cap = self.halving.cap();
        self.by_time.as_ref().map_or(cap, |by_time| by_time.cap().min(cap))
    }

    /// The cap, and why it is what it is.
    pub(crate) fn stats(&self) -> SizeStats {
        let reason = match &self.by_time {
            Some(by_time) if by_time.is_comparing() => CapReason::Test,
            Some(by_time) if by_time.cap() < self.halving.cap() => {
                if by_time.is_held() {
                    CapReason::Held
                } else {
                    CapReason::Test
                }
            }
            _ => self.halving.reason(),
        };
        let too_large = self.halving.too_large().map(|size| size as u64);
        SizeStats { cap: self.cap() as u64, reason, changes: self.changes, too_large }
    }

    /// The user has set other limits.
    pub(crate) fn set_limits(&mut self, limits: &Limits) {
        self.halving.set_most(limits.items());
        let (most, floor) = (self.halving.cap(), limits.adaptive_floor);
        match &mut self.by_time {
            Some(by_time) if limits.adaptive => by_time.set_bounds(most, floor),
            by_time => *by_time = limits.adaptive.then(|| Box::new(ByTime::new(most, floor))),
        }
        self.count_change();
    }

    /// A batch has landed as a whole.
    #[inline]
    pub(crate) fn landed(&mut self, landing: &Landing, now: Timestamp) -> Option<CapEvent> {
        if self.halving.is_free() && self.by_time.is_none() {
            // The way of most batchers, always.
            self.halving.landed(landing.size);
            return None;
        }
        self.search(landing, now)
    }

    #[cold]
    fn search(&mut self, landing: &Landing, now: Timestamp) -> Option<CapEvent> {
        let was_free = self.halving.is_free();
        self.halving.landed(landing.size);
        let restored = !was_free && self.halving.is_free();
        let mut event = restored.then(|| CapEvent::Restored { cap: self.halving.cap() });
        if let Some(by_time) = &mut self.by_time {
            by_time.set_most(self.halving.cap());
            event = by_time.landed(landing, now).or(event);
        }
        self.count_change();
        event
    }

    /// A batch of this size has failed as a whole.
    #[cold]
    pub(crate) fn failed(&mut self, size: usize, failure: Failure) -> Option<CapEvent> {
        let was_lowered = self.halving.is_lowered();
        self.halving.failed(size, failure);
        let cap = self.halving.cap();
        if let Some(by_time) = &mut self.by_time {
            by_time.set_most(cap);
        }
        self.count_change();
        (!was_lowered && self.halving.is_lowered()).then_some(CapEvent::Lowered { cap, failed: size })
    }

    fn settled_cap(&self) -> usize {
        let cap = self.halving.cap();
        self.by_time.as_ref().map_or(cap, |by_time| by_time.settled_cap().min(cap))
    }

    fn count_change(&mut self) {
        let settled = self.settled_cap();
        self.changes += u64::from(settled != self.settled);
        self.settled = settled;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn landing(size: usize) -> Landing {
        Landing { size, cap: size, is_full: true, nanos: 1_000_000, in_flight: 1 }
    }

    /// Goal: a log tells once that the cap fell and once that it is free. Method: two failures, then landings.
    #[test]
    fn a_cap_that_falls_and_recovers_is_told_once_each_way() {
        let (mut size, now) = (BatchSize::new(&Limits::new(1000)), Timestamp::some());
        assert_eq!(size.failed(1000, Failure::Unclear), None);
        assert_eq!(size.failed(1000, Failure::Unclear), Some(CapEvent::Lowered { cap: 500, failed: 1000 }));
        assert_eq!(size.failed(500, Failure::Unclear), None);
        let events: Vec<CapEvent> = (0..500).filter_map(|_| size.landed(&landing(size.cap()), now)).collect();
        assert_eq!(events, [CapEvent::Restored { cap: 1000 }]);
    }

    #[test]
    fn the_setting_can_be_switched_on_and_off() {
        let mut size = BatchSize::new(&Limits::new(10_000));
        assert_eq!((size.cap(), size.stats().reason), (10_000, CapReason::Free));
        size.set_limits(&Limits::new(10_000).adaptive(true));
        assert!(size.cap() < 10_000, "larger batches have to be tried first");
        assert_eq!((size.stats().reason, size.stats().changes), (CapReason::Test, 1));
        size.set_limits(&Limits::new(10_000));
        assert_eq!((size.cap(), size.stats().reason, size.stats().changes), (10_000, CapReason::Free, 2));
    }
}
