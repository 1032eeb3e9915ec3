//! [`Schedule`]: the partitions, and where each waits: for its linger, its backoff or a free slot. It answers which one to cut
//! next and when to look again. A partition stands where its state says, once it is rescheduled after each change.

use super::{
    caps::Caps,
    partition::{Partition, Partitions, Slot},
    store::{Arena, Heap, Queue, SortKey},
};
use crate::rules::{batch::CutBy, stage::Order, time::Timestamp};

/// A partition stands in at most one of the first four heaps; in none while it is empty or being written.
#[derive(Debug)]
pub(super) struct Schedule<T, A> {
    partitions: Partitions<T, A>,
    /// Not due. Ordered by the arrival of the oldest op, and so, but for senders that raced, by deadline, since the linger
    /// is the same for all.
    lingering: Heap<u64>,
    /// Ordered by the end of the backoff.
    backing_off: Heap<Timestamp>,
    /// Due, but held up by the quota. Ordered by when to ask it again.
    held: Heap<Timestamp>,
    /// Ordered by the op that would leave next.
    due: Heap<SortKey>,
    /// Members of `due` whose place will change by age, ordered by when.
    aging: Heap<Timestamp>,
    /// Ops that arrived before these are due, for the reason that names them.
    flush_below: u64,
    pressure_below: u64,
    together_below: u64,
    /// Everything is due, now and later.
    closing: bool,
    /// The version of the levels by which `due` is ordered.
    levels_version: u64,
}

/// The state outside of the schedule that decides where a partition stands.
#[derive(Debug)]
pub(super) struct View<'a, T, A> {
    pub(super) nodes: &'a Arena<T, A>,
    pub(super) order: &'a Order,
    pub(super) caps: &'a Caps,
    /// Once one partition is due, all are that wait.
    pub(super) together: bool,
    /// Order of arrival of the next op.
    pub(super) next_seq: u64,
}

impl<T, A> Schedule<T, A> {
    pub(super) fn new() -> Self {
        Self {
            partitions: Partitions::new(),
            lingering: Heap::new(),
            backing_off: Heap::new(),
            held: Heap::new(),
            due: Heap::new(),
            aging: Heap::new(),
            flush_below: 0,
            pressure_below: 0,
            together_below: 0,
            closing: false,
            levels_version: 0,
        }
    }

    #[inline]
    pub(super) fn partitions(&self) -> &Partitions<T, A> {
        &self.partitions
    }

    #[inline]
    pub(super) fn partitions_mut(&mut self) -> &mut Partitions<T, A> {
        &mut self.partitions
    }

    /// The ops of a partition that wait.
    #[inline]
    pub(super) fn queue(&self, id: u32) -> &Queue<T, A> {
        &self.partitions[id].queue
    }

    /// The same, to change it. The partition has to be rescheduled afterwards.
    #[inline]
    pub(super) fn queue_mut(&mut self, id: u32) -> &mut Queue<T, A> {
        &mut self.partitions[id].queue
    }

    /// Makes what came before this op due, since a caller flushes.
    pub(super) fn flush_below(&mut self, seq: u64) {
        self.flush_below = seq;
    }

    /// The same, since callers wait for permits.
    pub(super) fn press_below(&mut self, seq: u64) {
        self.pressure_below = seq;
    }

    /// The same, since one partition is due and all are to go together.
    pub(super) fn gather_below(&mut self, seq: u64) {
        self.together_below = seq;
    }

    /// Makes everything due, now and later.
    pub(super) fn close(&mut self) {
        self.closing = true;
    }

    /// Puts a partition where it belongs by now, or lists it as idle. To be called whenever its state has changed.
    pub(super) fn reschedule(&mut self, id: u32, view: &View<'_, T, A>, now: Timestamp) {
        let partition = &mut self.partitions[id];
        if partition.in_flight || partition.queue.is_empty() {
            let slot = std::mem::take(&mut partition.slot);
            partition.oldest = None;
            if !partition.in_flight {
                partition.clear_failures();
                partition.clear_held();
            }
            let is_idle = partition.is_idle();
            self.remove(id, slot);
            if is_idle {
                self.partitions.list_idle(id);
            }
            return;
        }
        let oldest = partition.queue.oldest(view.nodes);
        partition.oldest = oldest;
        if let Some(until) = partition.backing_off {
            if now < until {
                self.move_to(id, Slot::BackingOff);
                self.backing_off.set(id, until);
                return;
            }
            partition.backing_off = None;
        }
        if self.due_by(id, view.caps, now).is_some() {
            self.move_to(id, Slot::Due);
            self.rank_due(id, view, now);
            if view.together {
                self.together_below = view.next_seq;
            }
        } else {
            self.move_to(id, Slot::Lingering);
            self.lingering.set(id, oldest.map_or(0, |(seq, _)| seq));
        }
    }

    fn move_to(&mut self, id: u32, slot: Slot) {
        let from = std::mem::replace(&mut self.partitions[id].slot, slot);
        if from != slot {
            self.remove(id, from);
        }
    }

    fn remove(&mut self, id: u32, from: Slot) {
        match from {
            Slot::Unscheduled => {}
            Slot::Lingering => self.lingering.remove(id),
            Slot::BackingOff => self.backing_off.remove(id),
            Slot::Held => self.held.remove(id),
            Slot::Due => {
                self.due.remove(id);
                self.aging.remove(id);
            }
        }
    }

    /// Orders a due partition among the others by the op that it would send next.
    fn rank_due(&mut self, id: u32, view: &View<'_, T, A>, now: Timestamp) {
        let queue = &self.partitions[id].queue;
        if view.order.aging.is_some() {
            match queue.rises_at(view.nodes, view.order, now) {
                Some(at) => self.aging.set(id, at),
                None => self.aging.remove(id),
            }
        }
        if let Some(head) = queue.head(view.nodes, view.order, now) {
            self.due.set(id, head);
        }
    }

    /// Orders a partition that is due anew, since a better op may have joined it.
    pub(super) fn reorder_due(&mut self, id: u32, view: &View<'_, T, A>, now: Timestamp) {
        match self.partitions[id].slot {
            Slot::Due => self.rank_due(id, view, now),
            // The quota may have enough for the better one.
            Slot::Held => self.reschedule(id, view, now),
            Slot::Unscheduled | Slot::Lingering | Slot::BackingOff => {}
        }
    }

    /// Keeps a partition that is due back until then, since the quota has too little left for its next op.
    pub(super) fn hold(&mut self, id: u32, until: Timestamp, now: Timestamp) {
        if self.partitions[id].slot == Slot::Due {
            self.move_to(id, Slot::Held);
            self.held.set(id, until);
            self.partitions[id].held(now);
        }
    }

    /// Lets the quota be asked anew for all partitions that it holds up.
    pub(super) fn release_held(&mut self, view: &View<'_, T, A>, now: Timestamp) {
        while let Some((_, id)) = self.held.peek() {
            self.reschedule(id, view, now);
        }
    }

    /// Why the partition is to be cut, or `None` if it is not. Its backoff and its flight are another matter.
    pub(super) fn due_by(&self, id: u32, caps: &Caps, now: Timestamp) -> Option<CutBy> {
        let Partition { oldest, queue, .. } = &self.partitions[id];
        let (seq, at) = (*oldest)?;
        if queue.is_retried() {
            Some(CutBy::Retry)
        } else if caps.is_full(queue.len(), queue.weight()) {
            Some(CutBy::Full)
        } else if queue.is_urgent() {
            Some(CutBy::Urgent)
        } else if self.closing {
            Some(CutBy::Close)
        } else if seq < self.flush_below {
            Some(CutBy::Flush)
        } else if at.checked_add(caps.linger).is_some_and(|until| until <= now) {
            Some(CutBy::Linger)
        } else if seq < self.pressure_below {
            Some(CutBy::Pressure)
        } else if seq < self.together_below {
            Some(CutBy::Together)
        } else {
            None
        }
    }

    fn due_below(&self) -> u64 {
        if self.closing { u64::MAX } else { self.flush_below.max(self.pressure_below).max(self.together_below) }
    }

    /// Moves every partition whose time has come to where it belongs.
    pub(super) fn advance(&mut self, view: &View<'_, T, A>, now: Timestamp) {
        while let Some((until, id)) = self.backing_off.peek()
            && until <= now
        {
            self.reschedule(id, view, now);
        }
        while let Some((until, id)) = self.held.peek()
            && until <= now
        {
            self.reschedule(id, view, now);
        }
        // With `together`, the first one that is due raises the bar for those after it.
        while let Some((seq, id)) = self.lingering.peek()
            && (seq < self.due_below() || self.due_by(id, view.caps, now).is_some())
        {
            self.reschedule(id, view, now);
        }
        if view.order.version != self.levels_version {
            self.levels_version = view.order.version;
            let due: Vec<u32> = self.due.slots().collect();
            due.into_iter().for_each(|id| self.rank_due(id, view, now));
        }
        while let Some((at, id)) = self.aging.peek()
            && at <= now
        {
            self.rank_due(id, view, now);
        }
    }

    /// The partition to cut next.
    #[inline]
    pub(super) fn next_due(&self) -> Option<u32> {
        self.due.peek().map(|(_, id)| id)
    }

    /// Whether a partition lingers, and is not due.
    #[inline]
    pub(super) fn is_lingering(&self, id: u32) -> bool {
        self.partitions[id].slot == Slot::Lingering
    }

    /// When the first partition is to be looked at again: its linger or its backoff is over, or the quota may have enough for it. `None`
    /// if none is.
    pub(super) fn next_look(&self, caps: &Caps) -> Option<Timestamp> {
        let lingering = self.lingering.peek().and_then(|(_, id)| {
            let (_, at) = self.partitions[id].oldest?;
            // A linger beyond the clock's range is one for ever.
            at.checked_add(caps.linger)
        });
        let backing_off = self.backing_off.peek().map(|(until, _)| until);
        let held = self.held.peek().map(|(until, _)| until);
        lingering.into_iter().chain(backing_off).chain(held).min()
    }

    /// Gives memory back; there are no partitions any more.
    pub(super) fn shrink(&mut self) {
        self.partitions.shrink();
        self.lingering.shrink();
        self.backing_off.shrink();
        self.held.shrink();
        self.due.shrink();
        self.aging.shrink();
    }
}
