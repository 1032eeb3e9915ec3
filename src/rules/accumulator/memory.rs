//! Memory of an accumulator: that of batches is used again, and that of bursts is given back.

use super::{Accumulator, Cut, dedup::DedupWindow, store::Arena};

/// Batches whose memory is kept for the next ones.
const SPARES: usize = 64;

/// Entries of a list for which memory is kept while there are none.
const MAX_RETAINED: usize = 2048;

impl<T, R, A> Accumulator<T, R, A> {
    /// Keeps the memory of a batch for another one.
    pub(super) fn keep(&mut self, settled: Box<Cut<T, R, A>>) {
        if self.spares.len() < SPARES {
            self.spares.push(settled);
        }
    }

    /// Whether it has memory that a burst has left behind.
    pub(crate) fn has_excess_capacity(&self) -> bool {
        let Self { nodes, schedule, dedup, spares, outbox, ledger, .. } = self;
        let partitions = schedule.partitions();
        (nodes.len() == 0 && nodes.capacity() > MAX_RETAINED)
            || partitions.only().is_some_and(|only| only.queue.excess_capacity() > MAX_RETAINED)
            || (dedup.is_empty() && dedup.capacity() > MAX_RETAINED)
            || outbox.capacity() > MAX_RETAINED
            || (ledger.pending() == 0 && dedup.is_empty() && partitions.capacity() > MAX_RETAINED)
            || spares.iter().any(|cut| cut.batch.capacity() > MAX_RETAINED)
    }

    /// Gives memory back that a burst has left behind. To be called by a driver that has nothing to do.
    pub(crate) fn shrink(&mut self) {
        self.spares = Vec::new();
        self.outbox.shrink();
        if self.nodes.len() == 0 {
            self.nodes = Arena::new();
            self.rules.conflate.iter_mut().for_each(|conflate| conflate.index.shrink());
        }
        if self.dedup.is_empty() {
            self.dedup = DedupWindow::new();
            self.rules.dedup.iter_mut().for_each(|dedup| dedup.index.shrink());
        }
        self.forget_idle(0);
        if let Some(only) = self.schedule.partitions_mut().only_mut() {
            only.queue.shrink();
        }
        if self.schedule.partitions().is_empty() {
            self.schedule.shrink();
            self.rules.partition.iter_mut().for_each(|index| index.shrink());
        }
    }
}
