//! [`Arena`]: the slots that ops live in from accept to settle. Queues and batches name an op by its slot. The slot freed last is
//! used first, so that memory stays warm.

use std::{
    mem,
    ops::{Index, IndexMut},
};

use super::{
    node::{NONE, Node, NodeMeta},
    side_table::{Cold, History, SideTable},
};
use crate::rules::{outcome::Waiters, stats::latency::Latency, time::Timestamp};

#[derive(Debug)]
pub(crate) struct Arena<T, A> {
    slots: Vec<Node<T>>,
    side_table: SideTable<A>,
    /// The first of the free slots, which are chained by `next`.
    free: u32,
    len: usize,
}

impl<T, A> Arena<T, A> {
    pub(crate) fn new() -> Self {
        Self { slots: Vec::new(), side_table: SideTable::new(), free: NONE, len: 0 }
    }

    /// How many are in use.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The slot that the next `insert` will use.
    pub(crate) fn vacant(&self) -> u32 {
        if self.free == NONE { self.slots.len() as u32 } else { self.free }
    }

    /// Occupies the vacant slot. The op itself follows, unless a batch has it.
    #[inline(always)]
    pub(crate) fn insert(&mut self, meta: NodeMeta) -> u32 {
        let slot = self.vacant() as usize;
        self.len += 1;
        if slot == self.slots.len() {
            self.slots.push(Node::blank());
        }
        let node = &mut self.slots[slot];
        if self.free != NONE {
            self.free = node.next;
        }
        node.is_occupied = true;
        node.seq = meta.seq;
        node.at = meta.at;
        node.partition = meta.partition;
        node.level = meta.level;
        node.weight = meta.weight;
        node.urgent = meta.urgent;
        node.epoch = meta.epoch;
        slot as u32
    }

    /// Frees a slot. Whoever wants what the node owns has taken it out.
    #[inline]
    pub(crate) fn remove(&mut self, slot: u32) {
        let node = &mut self.slots[slot as usize];
        debug_assert!(node.is_occupied, "a slot is freed once");
        debug_assert!(node.op.is_none() && node.conflate.is_none() && !node.has_cold, "it owns nothing any more");
        node.is_occupied = false;
        node.next = self.free;
        self.free = slot;
        self.len -= 1;
    }

    /// The cold state of an op, if it has some.
    #[inline]
    pub(crate) fn cold(&self, slot: u32) -> Option<&Cold<A>> {
        if self.slots[slot as usize].has_cold { self.side_table.get(slot) } else { None }
    }

    /// The same, to change it.
    pub(crate) fn cold_mut(&mut self, slot: u32) -> &mut Cold<A> {
        self.slots[slot as usize].has_cold = true;
        self.side_table.get_mut(slot)
    }

    /// Notes who waits for an op that has just come.
    #[inline]
    pub(crate) fn set_waiters(&mut self, slot: u32, waiters: Waiters<A>) {
        // Most ops bring none.
        if !matches!(waiters, Waiters::None) {
            self.cold_mut(slot).waiters = waiters;
        }
    }

    /// Takes the cold state of an op.
    #[inline]
    pub(crate) fn take_cold(&mut self, slot: u32) -> Cold<A> {
        let node = &mut self.slots[slot as usize];
        if !mem::take(&mut node.has_cold) {
            return Cold::EMPTY;
        }
        self.side_table.take(slot)
    }

    /// The op of the same key that waits and is the next older one, if any.
    pub(crate) fn older(&self, slot: u32) -> u32 {
        self.cold(slot).map_or(NONE, |cold| cold.older)
    }

    /// The same for the next newer one.
    pub(crate) fn newer_neighbor(&self, slot: u32) -> u32 {
        self.cold(slot).map_or(NONE, |cold| cold.newer_neighbor)
    }

    /// How often the op was handed to the sink and came back.
    pub(crate) fn attempts(&self, slot: u32) -> u32 {
        self.history(slot).map_or(0, |history| history.attempts)
    }

    /// Whether an earlier attempt may have landed.
    pub(crate) fn in_doubt(&self, slot: u32) -> bool {
        self.history(slot).is_some_and(|history| history.in_doubt)
    }

    /// The history of an op that a write has brought back.
    pub(crate) fn history(&self, slot: u32) -> Option<&History> {
        self.cold(slot)?.history.as_deref()
    }

    /// The same, to change it.
    pub(crate) fn history_mut(&mut self, slot: u32) -> &mut History {
        self.cold_mut(slot).history.get_or_insert_default()
    }

    /// Where the time of an op went that was cut at `cut`, and then written for so long; and nanoseconds for which the quota held
    /// it up besides.
    pub(crate) fn spent(&self, slot: u32, cut: Timestamp, writing: u64, now: Timestamp) -> (Latency, u64) {
        let came = self[slot].at;
        let Some(&History { backing_off, quota, writing, .. }) = self.history(slot) else {
            return (Latency { waiting: cut.nanos_since(came), backing_off: 0, writing }, 0);
        };
        let waiting = now.nanos_since(came).saturating_sub(backing_off).saturating_sub(writing);
        let held = quota.min(waiting);
        (Latency { waiting: waiting - held, backing_off, writing }, held)
    }

    pub(crate) fn capacity(&self) -> usize {
        self.slots.capacity()
    }

    /// The node in a slot, if one lives there.
    pub(crate) fn get(&self, slot: u32) -> Option<&Node<T>> {
        self.slots.get(slot as usize).filter(|node| node.is_occupied)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Node<T>)> {
        self.slots.iter().enumerate().filter(|(_, node)| node.is_occupied).map(|(slot, node)| (slot as u32, node))
    }
}

impl<T, A> Index<u32> for Arena<T, A> {
    type Output = Node<T>;

    fn index(&self, slot: u32) -> &Node<T> {
        &self.slots[slot as usize]
    }
}

impl<T, A> IndexMut<u32> for Arena<T, A> {
    fn index_mut(&mut self, slot: u32) -> &mut Node<T> {
        &mut self.slots[slot as usize]
    }
}
