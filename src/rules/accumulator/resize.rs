//! The size of batches: what a write that has ended says about it, and what follows for the partitions that wait. Called when a
//! batch is settled, and when the limits change.

use super::{Accumulator, Written};
use crate::rules::{
    adaptive::{CapEvent, Failure, Landing},
    batch::{ErrorKind, SinkError},
    time::Timestamp,
};

/// How the size of a batch came about, to be handed back when its write has ended.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct CutSize {
    /// The cap in force.
    pub(super) cap: usize,
    /// The cap alone, or whole pages of it, decided the size.
    pub(super) is_full: bool,
    /// Writes in flight, this one included.
    pub(super) in_flight: usize,
}

/// How a write failed, if its size may have to do with it. Outages and quotas are of no size.
fn failure_by_size(error: &SinkError) -> Option<Failure> {
    match error.kind() {
        ErrorKind::TooLarge => Some(Failure::TooLarge { limit: error.max_items() }),
        ErrorKind::Transient | ErrorKind::Ambiguous if !error.is_outage() => Some(Failure::Unclear),
        _ => None,
    }
}

impl<T, R: Clone, A> Accumulator<T, R, A> {
    /// A batch has left. `is_full`: the cap alone, or whole pages of it, decided its size.
    pub(super) fn batch_left(&mut self, is_full: bool) -> CutSize {
        self.ledger.batch_left();
        CutSize { cap: self.caps.items, is_full, in_flight: self.ledger.batches_in_flight() }
    }

    /// A batch of `size` ops has landed as a whole, in so many nanoseconds.
    #[inline]
    pub(super) fn size_landed(&mut self, size: usize, cut: CutSize, nanos: u64, now: Timestamp) {
        let CutSize { cap, is_full, in_flight } = cut;
        if let Some(event) = self.size.landed(&Landing { size, cap, is_full, nanos, in_flight }, now) {
            self.tell(event);
        }
    }

    /// No op of a batch of `size` ops has landed.
    pub(super) fn size_failed(&mut self, size: usize, written: &Written) {
        if let Written::Failed(error) = written
            && let Some(failure) = failure_by_size(error)
            && let Some(event) = self.size.failed(size, failure)
        {
            self.tell(event);
        }
    }

    #[cold]
    fn tell(&mut self, event: CapEvent) {
        self.outbox.notices().caps.add(event);
    }

    /// Obeys the size of batches that is in force by now.
    pub(super) fn resize(&mut self, now: Timestamp) {
        let before = std::mem::replace(&mut self.caps.items, self.size.cap());
        if self.caps.items < before {
            // Partitions that linger may be full by now.
            self.reschedule_all(now);
        }
    }

    /// Puts every partition where it belongs: few wait at a time, and limits change rarely.
    #[cold]
    pub(super) fn reschedule_all(&mut self, now: Timestamp) {
        let all: Vec<u32> = self.schedule.partitions().ids().collect();
        for id in all {
            // Forgetting one partition may have made room for another.
            if self.schedule.partitions().contains(id) {
                self.reschedule(id, now);
            }
        }
    }
}
