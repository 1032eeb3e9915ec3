//! [`Schedule`]: where partitions wait, for their linger, their backoff or a free slot. It answers which partition to cut next and
//! when to look again.

use super::{Accumulator, partition::Slot, store::Heap, store::SortKey};
use crate::rules::{batch::CutBy, time::Timestamp};

/// A partition stands in at most one of the first three heaps; in none while it is empty or being written.
#[derive(Debug)]
pub(crate) struct Schedule {
    /// Not due. Ordered by the arrival of the oldest op, and so, but for senders that raced, by deadline, since the linger
    /// is the same for all.
    lingering: Heap<u64>,
    /// Ordered by the end of the backoff.
    backing_off: Heap<Timestamp>,
    /// Ordered by the op that would leave next.
    due: Heap<SortKey>,
    /// Those of `due` whose place will change by age, ordered by when.
    aging: Heap<Timestamp>,
    /// Ops that arrived before these are due, for the reason that names them.
    pub(crate) flush_below: u64,
    pub(crate) pressure_below: u64,
    pub(crate) together_below: u64,
    /// Everything is due, now and later.
    pub(crate) closing: bool,
    /// The version of the levels by which `due` is ordered.
    levels_version: u64,
}

impl Schedule {
    pub(crate) fn new() -> Self {
        Self {
            lingering: Heap::new(),
            backing_off: Heap::new(),
            due: Heap::new(),
            aging: Heap::new(),
            flush_below: 0,
            pressure_below: 0,
            together_below: 0,
            closing: false,
            levels_version: 0,
        }
    }

    fn remove(&mut self, partition: u32, from: Slot) {
        match from {
            Slot::Unscheduled => {}
            Slot::Lingering => self.lingering.remove(partition),
            Slot::BackingOff => self.backing_off.remove(partition),
            Slot::Due => {
                self.due.remove(partition);
                self.aging.remove(partition);
            }
        }
    }

    fn due_below(&self) -> u64 {
        if self.closing { u64::MAX } else { self.flush_below.max(self.pressure_below).max(self.together_below) }
    }

    pub(crate) fn shrink(&mut self) {
        self.lingering.shrink();
        self.backing_off.shrink();
        self.due.shrink();
        self.aging.shrink();
    }
}

impl<T, R: Clone> Accumulator<T, R> {
    /// Puts a partition where it belongs by now, or lets it rest. To be called whenever its state has changed.
    pub(super) fn reschedule(&mut self, id: u32, now: Timestamp) {
        let partition = &mut self.partitions[id as usize];
        if partition.in_flight || (partition.queue.is_empty() && self.fast_path.is_empty()) {
            self.schedule.remove(id, std::mem::take(&mut partition.slot));
            partition.oldest = None;
            if !partition.in_flight {
                // Nothing is left of what failed or was split.
                partition.backing_off = None;
                partition.parts.clear();
            }
            if partition.is_idle() {
                self.rest(id);
            }
            return;
        }
        // All that stand in the queue came before what is in the fast path.
        let oldest = partition.queue.oldest(&self.nodes).or_else(|| self.fast_path.first());
        partition.oldest = oldest;
        if let Some(until) = partition.backing_off {
            if now < until {
                self.move_to(id, Slot::BackingOff);
                self.schedule.backing_off.set(id, until);
                return;
            }
            partition.backing_off = None;
        }
        if self.due_by(id, now).is_some() {
            self.move_to(id, Slot::Due);
            self.rank_due(id, now);
            if self.rules.together {
                self.schedule.together_below = self.next_seq;
            }
        } else {
            self.move_to(id, Slot::Lingering);
            self.schedule.lingering.set(id, oldest.map_or(0, |(seq, _)| seq));
        }
    }

    fn move_to(&mut self, id: u32, slot: Slot) {
        let from = std::mem::replace(&mut self.partitions[id as usize].slot, slot);
        if from != slot {
            self.schedule.remove(id, from);
        }
    }

    /// Orders a due partition among the others by the op that it would send next.
    fn rank_due(&mut self, id: u32, now: Timestamp) {
        let order = &self.rules.order;
        let queue = &self.partitions[id as usize].queue;
        let head = queue.head(&self.nodes, order, now).unwrap_or(SortKey::FAST_PATH);
        if order.aging.is_some() {
            match queue.rises_at(&self.nodes, order, now) {
                Some(at) => self.schedule.aging.set(id, at),
                None => self.schedule.aging.remove(id),
            }
        }
        self.schedule.due.set(id, head);
    }

    /// Why the partition is to be cut, or `None` if it is not. Its backoff and its flight are another matter.
    pub(super) fn due_by(&self, id: u32, now: Timestamp) -> Option<CutBy> {
        let partition = &self.partitions[id as usize];
        let (seq, at) = partition.oldest?;
        let queue = &partition.queue;
        let schedule = &self.schedule;
        if queue.is_retried() {
            Some(CutBy::Retry)
        } else if self.queued(id) >= self.max_items || queue.weight() >= self.max_weight {
            Some(CutBy::Full)
        } else if queue.is_urgent() {
            Some(CutBy::Urgent)
        } else if schedule.closing {
            Some(CutBy::Close)
        } else if seq < schedule.flush_below {
            Some(CutBy::Flush)
        } else if self.lingers_until(at).is_some_and(|until| until <= now) {
            Some(CutBy::Linger)
        } else if seq < schedule.pressure_below {
            Some(CutBy::Pressure)
        } else if seq < schedule.together_below {
            Some(CutBy::Together)
        } else {
            None
        }
    }

    /// `None`: for ever.
    fn lingers_until(&self, since: Timestamp) -> Option<Timestamp> {
        since.checked_add(self.limits.linger)
    }

    /// Moves every partition whose time has come to where it belongs.
    pub(super) fn advance(&mut self, now: Timestamp) {
        while let Some((until, id)) = self.schedule.backing_off.peek()
            && until <= now
        {
            self.reschedule(id, now);
        }
        // With `together`, the first one that is due raises the bar for those after it.
        while let Some((seq, id)) = self.schedule.lingering.peek()
            && (seq < self.schedule.due_below() || self.due_by(id, now).is_some())
        {
            self.reschedule(id, now);
        }
        if self.rules.order.version != self.schedule.levels_version {
            self.schedule.levels_version = self.rules.order.version;
            let due: Vec<u32> = self.schedule.due.slots().collect();
            due.into_iter().for_each(|id| self.rank_due(id, now));
        }
        while let Some((at, id)) = self.schedule.aging.peek()
            && at <= now
        {
            self.rank_due(id, now);
        }
    }

    /// The partition to cut next.
    pub(super) fn next_due(&self) -> Option<u32> {
        self.schedule.due.peek().map(|(_, id)| id)
    }

    /// Whether a partition lingers, and is not due.
    pub(super) fn is_lingering(&self, id: u32) -> bool {
        self.partitions[id as usize].slot == Slot::Lingering
    }

    /// Orders a partition that is due anew, since a better op may have joined it.
    pub(super) fn reorder_due(&mut self, id: u32, now: Timestamp) {
        if self.partitions[id as usize].slot == Slot::Due {
            self.rank_due(id, now);
        }
    }

    /// When to call [`cut`](Self::cut) again if nothing else happens before; `None` if never. That nothing is cut
    /// while no slot is free needs no timer.
    pub(crate) fn deadline(&self, now: Timestamp) -> Option<Timestamp> {
        if self.is_blocked() || self.waiting == 0 {
            return None;
        }
        if let Some(until) = self.gate.frozen_until(now) {
            return Some(until);
        }
        if !self.schedule.due.is_empty() {
            return Some(now);
        }
        let lingering = self.schedule.lingering.peek().and_then(|(_, id)| {
            let (_, at) = self.partitions[id as usize].oldest?;
            self.lingers_until(at)
        });
        let backing_off = self.schedule.backing_off.peek().map(|(until, _)| until);
        lingering.into_iter().chain(backing_off).min()
    }
}
