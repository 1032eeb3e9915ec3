//! [`Halving`]: the cap as failures decide it, which full batches that land raise again. It is never above the limit that the
//! user set, and never below 1. [`BatchSize`](super::BatchSize) owns it and tells it how each write ended.
//!
//! A batch that fails comes back whole and grows while it waits, so one that failed by its size would never pass again. The
//! answer is a search for the largest size that passes: failures halve, landings close half of the distance to the size that
//! failed, and that size is probed again after more and more landings. Halving on loss and probing for more are those of TCP
//! (Jacobson, SIGCOMM 1988; RFC 5681).

use crate::rules::stats::CapReason;

/// Failures in a row that lower the cap.
const FAILURES_IN_A_ROW: u32 = 2;

/// The search ends where the cap is within this share of the size that failed: one twentieth.
const CLOSE_ENOUGH: usize = 20;

/// The share by which a full batch that lands raises the cap: one twentieth.
const GROWTH: usize = 20;

/// The most full batches that land between two probes of a size that failed.
const MAX_PROBE_INTERVAL: u32 = 1024;

/// How a write failed that may have failed by its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The destination failed, or did not answer. The size may have nothing to do with it.
    Unclear,
    /// The destination says that the batch is too large.
    TooLarge {
        /// The number of ops that the destination takes, if it says so.
        limit: Option<usize>,
    },
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Halving {
    /// The limit that the user set.
    most: usize,
    /// The cap in force.
    cap: usize,
    /// The smallest size that failed and has not landed since.
    ceiling: Option<usize>,
    /// The destination said that the ceiling is too large.
    was_refused: bool,
    /// The largest size that landed, below the ceiling.
    largest: usize,
    /// Failed writes since one landed that shows that their size passes.
    failures: u32,
    /// The size that a batch has to have to show so: any, unless a size was refused.
    shown_by: usize,
    /// Full batches that have to land between two probes of the ceiling.
    probe_interval: u32,
    /// Full batches that have to land before the next probe.
    until_probe: u32,
}

impl Halving {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            cap: most,
            ceiling: None,
            was_refused: false,
            largest: 0,
            failures: 0,
            shown_by: 0,
            probe_interval: 1,
            until_probe: 0,
        }
    }

    /// The most ops that a batch may hold.
    #[inline]
    pub(super) fn cap(&self) -> usize {
        self.cap
    }

    /// Whether failures have lowered the cap.
    pub(super) fn is_lowered(&self) -> bool {
        self.cap < self.most
    }

    /// Whether failures have no effect on the cap any more.
    pub(super) fn is_free(&self) -> bool {
        !self.is_lowered() && self.ceiling.is_none()
    }

    /// Why the cap is what it is.
    pub(super) fn reason(&self) -> CapReason {
        match self.ceiling {
            _ if !self.is_lowered() => CapReason::Free,
            Some(_) if self.was_refused => CapReason::Refused,
            _ => CapReason::Halved,
        }
    }

    /// The smallest size that the destination called too large, and that has not landed since.
    pub(super) fn too_large(&self) -> Option<usize> {
        self.ceiling.filter(|_| self.was_refused)
    }

    /// The user has set another limit.
    pub(super) fn set_most(&mut self, most: usize) {
        let was_free = self.is_free();
        self.most = most;
        self.set_cap(if was_free { most } else { self.cap });
    }

    /// A batch of this size has landed.
    #[inline]
    pub(super) fn landed(&mut self, size: usize) {
        if size >= self.shown_by {
            (self.failures, self.shown_by) = (0, 0);
        }
        if self.is_free() {
            // The way of most batchers, always.
            return;
        }
        self.raise(size);
    }

    #[cold]
    fn raise(&mut self, size: usize) {
        if self.ceiling.is_some_and(|ceiling| ceiling <= size) {
            (self.ceiling, self.probe_interval) = (None, 1);
        }
        self.largest = self.largest.max(size);
        if size < self.cap {
            // A batch that was not full tells nothing of a larger one.
            return;
        }
        let cap = match self.ceiling {
            Some(ceiling) if ceiling - self.cap > ceiling.div_ceil(CLOSE_ENOUGH) => {
                let half = self.cap + (ceiling - self.cap) / 2;
                // A size that was refused always is; one that failed may have had bad luck, and more of it when larger.
                if self.was_refused { half } else { half.min(self.cap + self.cap.div_ceil(GROWTH)) }
            }
            Some(ceiling) if self.until_probe == 0 => ceiling,
            Some(_) => {
                self.until_probe -= 1;
                self.cap
            }
            None if self.cap < self.largest => self.cap.saturating_mul(2).min(self.largest),
            None => self.cap.saturating_add(self.cap.div_ceil(GROWTH)),
        };
        self.set_cap(cap);
    }

    /// A batch of this size has failed as a whole.
    #[cold]
    pub(super) fn failed(&mut self, size: usize, failure: Failure) {
        if size <= 1 {
            // The op itself is at fault, or the destination.
            return;
        }
        self.failures = self.failures.saturating_add(1);
        let is_refused = failure != Failure::Unclear;
        if is_refused {
            // Its halves land next, which shows nothing.
            self.shown_by = size;
        }
        if self.ceiling.is_some_and(|ceiling| ceiling <= size) && size <= self.cap {
            // A probe. What landed before it still does.
            self.probe_interval = (self.probe_interval * 2).min(MAX_PROBE_INTERVAL);
            return self.fall_to(size, self.largest, is_refused);
        }
        match failure {
            Failure::TooLarge { limit: Some(limit) } if limit < size => {
                self.fall_to(limit.saturating_add(1), limit, is_refused)
            }
            // One that was cut before the cap was lowered is no news.
            _ if self.failures >= FAILURES_IN_A_ROW && size <= self.cap => self.fall_to(size, size / 2, is_refused),
            _ => {}
        }
    }

    /// Lowers ceiling and cap after a failure at `ceiling`.
    fn fall_to(&mut self, ceiling: usize, cap: usize, is_refused: bool) {
        if self.ceiling.is_none_or(|before| ceiling <= before) {
            (self.ceiling, self.was_refused) = (Some(ceiling), is_refused);
        }
        let ceiling = self.ceiling.map_or(ceiling, |before| before.min(ceiling));
        self.largest = self.largest.min(ceiling - 1);
        self.until_probe = self.probe_interval;
        self.set_cap(cap.min(self.cap));
    }

    fn set_cap(&mut self, cap: usize) {
        self.cap = cap.clamp(1, self.most);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Writes full batches to a destination that takes so many ops.
    fn write(size: &mut Halving, limit: usize, writes: usize) -> usize {
        let mut failed = 0;
        for _ in 0..writes {
            let cap = size.cap();
            if cap <= limit {
                size.landed(cap);
            } else {
                failed += 1;
                size.failed(cap, Failure::TooLarge { limit: None });
            }
        }
        failed
    }

    #[test]
    fn the_largest_size_that_passes_is_found_and_kept() {
        for limit in [1, 2, 3, 7, 100, 300, 5000] {
            let mut size = Halving::new(16_384);
            write(&mut size, limit, 100);
            assert!(size.cap() + limit.div_ceil(CLOSE_ENOUGH) >= limit, "{} of {limit}", size.cap());
            let failed = write(&mut size, limit, 10_000);
            assert!(failed <= 25, "{failed} failures before a limit of {limit}");
        }
    }

    #[test]
    fn a_limit_that_is_told_is_obeyed_at_once() {
        let mut size = Halving::new(1000);
        size.failed(1000, Failure::TooLarge { limit: Some(700) });
        assert_eq!((size.cap(), size.ceiling), (700, Some(701)));
    }

    #[test]
    fn one_failure_alone_changes_nothing() {
        let mut size = Halving::new(1000);
        for _ in 0..100 {
            size.failed(1000, Failure::Unclear);
            size.landed(1000);
        }
        assert_eq!(size.cap(), 1000);
    }

    /// Goal: a destination that failed at every size is used in full soon after it is back. Method: failures down to
    /// batches of 1, then landings.
    #[test]
    fn the_cap_recovers_from_failures_that_were_nobodys_size() {
        let mut size = Halving::new(16_384);
        for _ in 0..100 {
            size.failed(size.cap(), Failure::Unclear);
        }
        let landings = (0..1000).take_while(|_| {
            size.landed(size.cap());
            size.is_lowered()
        });
        let count = landings.count();
        assert!(count < 160, "{count} landings");
    }

    #[test]
    fn a_batch_that_was_cut_before_the_cap_fell_does_not_lower_it_again() {
        let mut size = Halving::new(1000);
        (0..2).for_each(|_| size.failed(1000, Failure::Unclear));
        assert_eq!(size.cap(), 500);
        (0..5).for_each(|_| size.failed(1000, Failure::Unclear));
        assert_eq!(size.cap(), 500);
    }

    proptest! {
        /// Goal: whatever happens, the cap stays within its bounds, and below the ceiling except for a probe of it. Method:
        /// random ends of random sizes.
        #[test]
        fn the_cap_stays_within_its_bounds(steps in prop::collection::vec((0u8..5, 1usize..3000, 1usize..2000), 0..300)) {
            let (mut size, mut most) = (Halving::new(1000), 1000);
            for (what, at, other) in steps {
                match what {
                    0 => size.landed(at),
                    1 => size.failed(at, Failure::Unclear),
                    2 => size.failed(at, Failure::TooLarge { limit: None }),
                    3 => size.failed(at, Failure::TooLarge { limit: Some(other) }),
                    _ => {
                        most = other;
                        size.set_most(other);
                    }
                }
                prop_assert!((1..=most).contains(&size.cap()), "{size:?}");
                prop_assert!(size.ceiling.is_none_or(|ceiling| size.cap() <= ceiling), "{size:?}");
            }
        }
    }
}
