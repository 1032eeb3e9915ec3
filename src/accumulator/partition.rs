//! One partition: its queue, and what keeps it from being cut. In come ops of one key, out comes the reason to cut.

use std::num::NonZeroU64;

use crate::moment::Moment;

use super::queue::Queue;

/// Where a partition stands in the schedule.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Place {
    /// It is empty, or being written.
    #[default]
    Nowhere,
    /// It waits for company.
    Lingering,
    BackingOff,
    Due,
}

#[derive(Debug, Default)]
pub(crate) struct Partition {
    pub(crate) queue: Queue,
    /// By which the table of keys finds it; `None` for the one partition of a batcher that has no keys.
    pub(crate) hash: Option<NonZeroU64>,
    /// At most one batch of a partition is being written, so that its order holds.
    pub(crate) in_flight: bool,
    pub(crate) backing_off: Option<Moment>,
    /// Sizes of the parts that a batch was split into, the next one last. Empty: no part is smaller than the limits say.
    pub(crate) parts: Vec<usize>,
    /// It is in the list of those that rest, though it may be in use again.
    pub(crate) rests: bool,
    /// How many remembered keys name this partition.
    pub(crate) remembered: usize,
    pub(crate) place: Place,
    /// When its oldest op came, as far as it lingers: order of arrival, and time of sending.
    pub(crate) oldest: Option<(u64, Moment)>,
}

impl Partition {
    /// Nothing would be lost if it were forgotten.
    pub(crate) fn is_idle(&self) -> bool {
        self.queue.is_empty() && !self.in_flight && self.remembered == 0
    }

    /// How many ops the next batch may hold.
    pub(crate) fn cap(&mut self, max_items: usize) -> usize {
        if !self.queue.is_retried() {
            // None of the ops is left that the parts were made for.
            self.parts.clear();
        }
        self.parts.last().map_or(max_items, |part| max_items.min(*part))
    }

    /// Remembers that `count` ops that failed together are to be tried in two halves.
    pub(crate) fn split(&mut self, count: usize) {
        self.parts.extend([count / 2, count - count / 2].into_iter().filter(|part| *part > 0));
    }

    /// Counts what was cut against the part that it was meant for; `left` says how much still waits.
    pub(crate) fn cut(&mut self, count: usize, left: usize) {
        if left == 0 {
            return self.parts.clear();
        }
        if let Some(part) = self.parts.last_mut() {
            *part = part.saturating_sub(count);
            if *part == 0 {
                self.parts.pop();
            }
        }
    }
}
