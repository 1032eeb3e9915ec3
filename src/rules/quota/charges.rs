//! [`Charges`]: what was drawn from a window of time, and when each part of it stops counting. A charge stays until no window
//! of the venue that a call sent now may fall into can hold it any more.

use std::collections::VecDeque;

use crate::rules::time::Timestamp;

/// Charges that come within this part of the window count as one, made at the last of them: one 4096th. This bounds memory.
pub(super) const GRAINS: u64 = 4096;

/// Charges of one window of time.
#[derive(Debug, Clone)]
pub(super) struct Charges {
    /// Oldest first.
    entries: VecDeque<Entry>,
    /// Sum of the entries' costs.
    sum: u64,
    span: Span,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// When the first of its charges was made.
    first: Timestamp,
    /// When the last one was.
    at: Timestamp,
    cost: u64,
}

/// How long a charge counts. Times in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) window: u64,
    /// The most by which one call may take longer to the venue than another.
    pub(super) jitter: u64,
    /// Where the venue's windows begin, if they are fixed and that is known.
    pub(super) alignment: Option<Alignment>,
}

/// Where the fixed windows of a venue begin.
#[derive(Debug, Clone, Copy)]
pub(super) struct Alignment {
    /// A moment at which a window begins.
    pub(super) boundary: Timestamp,
    /// The most by which the venue's clock differs, in nanoseconds.
    pub(super) skew: u64,
}

impl Alignment {
    /// The first boundary after `at`.
    fn next(&self, at: Timestamp, window: u64) -> Timestamp {
        let window = window.max(1);
        let (at, boundary) = (at.nanos(), self.boundary.nanos());
        let next = if at >= boundary {
            boundary.saturating_add(((at - boundary) / window + 1).saturating_mul(window))
        } else {
            boundary - (boundary - at - 1) / window * window
        };
        Timestamp::from_nanos(next)
    }
}

impl Span {
    /// When a charge made at `at` stops counting.
    ///
    /// A rolling window of the venue holds it for the window and the jitter. A fixed one holds it until the next boundary
    /// that the call can't have come after, by whichever clock is later.
    fn expiry(&self, at: Timestamp) -> Timestamp {
        let rolling = at.plus_nanos(self.window.saturating_add(self.jitter));
        let fixed = self.alignment.as_ref().map(|alignment| {
            let latest = at.plus_nanos(alignment.skew.saturating_add(self.jitter));
            alignment.next(latest, self.window).plus_nanos(alignment.skew)
        });
        fixed.map_or(rolling, |fixed| fixed.min(rolling))
    }
}

impl Charges {
    pub(super) fn new(span: Span) -> Self {
        Self { entries: VecDeque::new(), sum: 0, span }
    }

    pub(super) fn window(&self) -> u64 {
        self.span.window
    }

    /// When a charge made at `at` stops counting.
    #[cfg(feature = "durable")]
    pub(super) fn expiry(&self, at: Timestamp) -> Timestamp {
        self.span.expiry(at)
    }

    pub(super) fn jitter(&self) -> u64 {
        self.span.jitter
    }

    /// The venue has shown that its windows do not begin where they were thought to: each counts as rolling from now on.
    pub(super) fn distrust_alignment(&mut self) {
        self.span.alignment = None;
    }

    /// Forgets what does not count any more.
    pub(super) fn advance(&mut self, now: Timestamp) {
        while let Some(oldest) = self.entries.front()
            && self.span.expiry(oldest.at) <= now
        {
            self.sum -= oldest.cost;
            self.entries.pop_front();
        }
    }

    pub(super) fn used(&self, now: Timestamp) -> u64 {
        let expired = self.entries.iter().take_while(|entry| self.span.expiry(entry.at) <= now);
        self.sum - expired.map(|entry| entry.cost).sum::<u64>()
    }

    pub(super) fn add(&mut self, cost: u64, now: Timestamp) {
        self.sum = self.sum.saturating_add(cost);
        let grain = self.span.window / GRAINS;
        match self.entries.back_mut() {
            Some(last) if now.nanos_since(last.first) <= grain => {
                (last.at, last.cost) = (last.at.max(now), last.cost.saturating_add(cost));
            }
            _ => self.entries.push_back(Entry { first: now, at: now, cost }),
        }
    }

    /// Takes back what was added last. Other batchers may have added less since.
    pub(super) fn undo(&mut self, cost: u64) {
        let mut left = cost;
        while left > 0
            && let Some(last) = self.entries.back_mut()
        {
            let less = left.min(last.cost);
            left -= less;
            (self.sum, last.cost) = (self.sum - less, last.cost - less);
            if last.cost == 0 {
                self.entries.pop_back();
            }
        }
    }

    /// Makes the count what the venue says it is. The oldest charges go first, so that the rest counts for longest.
    pub(super) fn correct(&mut self, used: u64, now: Timestamp) {
        if let Some(more) = used.checked_sub(self.sum) {
            if more > 0 {
                self.add(more, now);
            }
            return;
        }
        while self.sum > used
            && let Some(oldest) = self.entries.front_mut()
        {
            let less = oldest.cost.min(self.sum - used);
            (self.sum, oldest.cost) = (self.sum - less, oldest.cost - less);
            if oldest.cost == 0 {
                self.entries.pop_front();
            }
        }
    }

    /// When no more than `most` is left of what has been drawn so far.
    pub(super) fn falls_to(&self, most: u64) -> Option<Timestamp> {
        let mut left = self.sum;
        self.entries.iter().find_map(|entry| {
            left -= entry.cost;
            (left <= most).then(|| self.span.expiry(entry.at))
        })
    }

    /// The greatest even rate, in units per nanosecond, that meets no limit before all that counts now has expired.
    pub(super) fn sustainable(&self, limit: u64, now: Timestamp) -> f64 {
        let long_run = match self.span.alignment {
            Some(_) => f64::INFINITY,
            None => limit as f64 / (self.span.window.saturating_add(self.span.jitter)).max(1) as f64,
        };
        let mut counted = self.sum;
        self.entries.iter().fold(long_run, |rate, entry| {
            let until = self.span.expiry(entry.at).nanos_since(now).max(1);
            let left = limit.saturating_sub(counted);
            counted -= entry.cost;
            rate.min(left as f64 / until as f64)
        })
    }
}
