//! [`Partition`]: the queue of one key, and what keeps it from being cut. At most one batch of it is in flight, so that its
//! order holds. [`Partitions`] has them all; idle ones are kept for a while and then forgotten. The schedule owns it.

use std::{
    collections::VecDeque,
    mem,
    num::NonZeroU64,
    ops::{Index, IndexMut},
};

use slab::Slab;

use super::store::Queue;
use crate::rules::time::Timestamp;

/// Where a partition stands in the schedule.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Slot {
    /// The partition is empty, or a batch of it is being written.
    #[default]
    Unscheduled,
    /// The partition lingers, and is not due.
    Lingering,
    BackingOff,
    /// The partition is due, and the quota has too little left for its next op.
    Held,
    Due,
}

#[derive(Debug)]
pub(super) struct Partition<T, A> {
    pub(super) queue: Queue<T, A>,
    /// Hash by which the table of keys finds it; `None` for the one partition of a batcher that has no keys.
    hash: Option<NonZeroU64>,
    pub(super) in_flight: bool,
    pub(super) backing_off: Option<Timestamp>,
    /// Sizes of the parts that a batch was split into, the next one last. Empty: no part is smaller than the limits say.
    parts: Vec<usize>,
    /// Listed as idle, though it may be in use again.
    in_idle_list: bool,
    /// How many keys of the dedup window name this partition.
    remembered: usize,
    pub(super) slot: Slot,
    /// When its oldest op came, as far as it lingers: order of arrival, and time of sending.
    pub(super) oldest: Option<(u64, Timestamp)>,
    /// Since when the quota holds it up.
    held_since: Option<Timestamp>,
}

impl<T, A> Partition<T, A> {
    fn new(hash: Option<NonZeroU64>, queue: Queue<T, A>) -> Self {
        Self {
            queue,
            hash,
            in_flight: false,
            backing_off: None,
            parts: Vec::new(),
            in_idle_list: false,
            remembered: 0,
            slot: Slot::Unscheduled,
            oldest: None,
            held_since: None,
        }
    }

    /// Nothing would be lost if it were forgotten.
    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty() && !self.in_flight && self.remembered == 0
    }

    /// How many ops the next batch may hold.
    pub(super) fn cap(&mut self, max_items: usize) -> usize {
        if !self.queue.is_retried() {
            // None of the ops is left that the parts were made for.
            self.parts.clear();
        }
        self.parts.last().map_or(max_items, |part| max_items.min(*part))
    }

    /// Remembers that `count` ops that failed together are to be tried in two halves.
    pub(super) fn split(&mut self, count: usize) {
        self.parts.extend([count / 2, count - count / 2].into_iter().filter(|part| *part > 0));
    }

    /// Notes that a batch of so many ops has left, counted against the part that it was meant for.
    pub(super) fn batch_left(&mut self, count: usize) {
        self.in_flight = true;
        if self.queue.is_empty() {
            return self.parts.clear();
        }
        if let Some(part) = self.parts.last_mut() {
            *part = part.saturating_sub(count);
            if *part == 0 {
                self.parts.pop();
            }
        }
    }

    /// The quota lets no op of it pass from now on.
    pub(super) fn held(&mut self, now: Timestamp) {
        self.held_since.get_or_insert(now);
    }

    /// A batch of it passes. Returns since when the quota had held it up; `is_trimmed`: it still holds up the rest.
    pub(super) fn passes(&mut self, is_trimmed: bool, now: Timestamp) -> Option<Timestamp> {
        std::mem::replace(&mut self.held_since, is_trimmed.then_some(now))
    }

    /// Forgets since when the quota held it up: no op waits any more.
    pub(super) fn clear_held(&mut self) {
        self.held_since = None;
    }

    /// Nothing is left of what failed or was split.
    pub(super) fn clear_failures(&mut self) {
        self.backing_off = None;
        self.parts.clear();
    }

    /// A key of the dedup window names it from now on.
    pub(super) fn remember_key(&mut self) {
        self.remembered += 1;
    }

    /// One that did does not any more.
    pub(super) fn forget_key(&mut self) {
        self.remembered -= 1;
    }
}

/// All partitions, by number.
#[derive(Debug)]
pub(super) struct Partitions<T, A> {
    all: Slab<Partition<T, A>>,
    /// Partitions in the order in which they became idle. Some may be in use again.
    idle: VecDeque<u32>,
}

/// Idle partitions that are kept.
pub(super) const MAX_IDLE: usize = if cfg!(test) { 2 } else { 128 };

impl<T, A> Partitions<T, A> {
    pub(super) fn new() -> Self {
        Self { all: Slab::new(), idle: VecDeque::new() }
    }

    /// Adds the one partition of a batcher that has no keys.
    pub(super) fn add_only(&mut self, queue: Queue<T, A>) {
        self.all.insert(Partition::new(None, queue));
    }

    /// The number that the next partition will get.
    pub(super) fn vacant(&self) -> u32 {
        self.all.vacant_key() as u32
    }

    /// Adds the partition of a key.
    pub(super) fn add(&mut self, hash: NonZeroU64) {
        self.all.insert(Partition::new(Some(hash), Queue::default()));
    }

    /// The one partition of a batcher that has no keys.
    pub(super) fn only(&self) -> Option<&Partition<T, A>> {
        self.all.get(0).filter(|partition| partition.hash.is_none())
    }

    /// The same, to change it.
    pub(super) fn only_mut(&mut self) -> Option<&mut Partition<T, A>> {
        self.all.get_mut(0).filter(|partition| partition.hash.is_none())
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = u32> {
        self.all.iter().map(|(id, _)| id as u32)
    }

    pub(super) fn contains(&self, id: u32) -> bool {
        self.all.contains(id as usize)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn capacity(&self) -> usize {
        self.all.capacity()
    }

    /// Lists a partition that has become idle, unless it is the only one there can be.
    pub(super) fn list_idle(&mut self, id: u32) {
        let partition = &mut self[id];
        if partition.hash.is_some() && !mem::replace(&mut partition.in_idle_list, true) {
            self.idle.push_back(id);
        }
    }

    /// Forgets idle ones until so many are listed; `unbind` removes each from the table of keys. One that is in use by now is
    /// not forgotten, and will be listed again.
    pub(super) fn forget_idle(&mut self, keep: usize, mut unbind: impl FnMut(NonZeroU64, u32)) {
        while self.idle.len() > keep
            && let Some(id) = self.idle.pop_front()
        {
            let partition = &mut self[id];
            partition.in_idle_list = false;
            if partition.is_idle()
                && let Some(hash) = self.all.remove(id as usize).hash
            {
                unbind(hash, id);
            }
        }
    }

    /// Whether more are listed as idle than are to be kept.
    #[inline]
    pub(super) fn has_surplus(&self) -> bool {
        self.idle.len() > MAX_IDLE
    }

    /// Gives memory back; all have been forgotten.
    pub(super) fn shrink(&mut self) {
        self.all = Slab::new();
    }
}

impl<T, A> Index<u32> for Partitions<T, A> {
    type Output = Partition<T, A>;

    #[inline]
    fn index(&self, id: u32) -> &Partition<T, A> {
        &self.all[id as usize]
    }
}

impl<T, A> IndexMut<u32> for Partitions<T, A> {
    #[inline]
    fn index_mut(&mut self, id: u32) -> &mut Partition<T, A> {
        &mut self.all[id as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::{super::*, *};

    fn buffer() -> Accumulator<u32, (), ()> {
        Accumulator::new(Stages::new().partition_by(|op: &u32| *op), &Limits::new(10), Policy::default())
    }

    /// Sends one op all the way.
    fn pass(buffer: &mut Accumulator<u32, (), ()>, op: u32) {
        let now = Timestamp::some();
        buffer.push(Arrival { op, at: now, token: None }, now);
        assert_eq!(buffer.hand_over(now, mem::take), Some(vec![op]));
    }

    fn count(buffer: &Accumulator<u32, (), ()>) -> usize {
        buffer.schedule.partitions().ids().count()
    }

    /// Goal: keys seen once cost nothing afterwards. Method: many of them, one after the other.
    #[test]
    fn few_idle_partitions_are_kept() {
        let mut buffer = buffer();
        (0..1000).for_each(|op| pass(&mut buffer, op));
        assert_eq!(count(&buffer), MAX_IDLE);
        buffer.shrink();
        assert_eq!((count(&buffer), buffer.schedule.partitions().idle.len()), (0, 0));
    }

    /// Goal: a partition that is in use is not forgotten, although it was idle once. Method: one is, while others come and
    /// go.
    #[test]
    fn a_partition_in_use_is_not_forgotten() {
        let (mut buffer, now) = (buffer(), Timestamp::some());
        pass(&mut buffer, 0);
        buffer.set_paused(true);
        buffer.push(Arrival { op: 0, at: now, token: None }, now);
        let others = 1..=2 * MAX_IDLE as u32;
        others.clone().for_each(|op| buffer.push(Arrival { op, at: now, token: None }, now));
        assert_eq!(buffer.withdraw(|op| *op > 0, now).len(), others.count());
        buffer.set_paused(false);
        assert_eq!(buffer.hand_over(now, mem::take), Some(vec![0]));
        assert_eq!(count(&buffer), MAX_IDLE);
    }
}
