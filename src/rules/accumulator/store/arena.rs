//! [`Nodes`]: the slots that ops live in from accept to settle. Queues and batches name an op by its slot. The slot freed last is
//! used first, so that memory stays warm.

use std::{
    hint::black_box,
    mem,
    ops::{Index, IndexMut},
};

use super::{
    node::{NONE, Newcomer, Node},
    side_table::{Extra, Extras, History},
};
use crate::rules::{outcome::Waiters, stats::spent::Spent, time::Moment};

#[derive(Debug)]
pub(crate) struct Nodes<T, R> {
    slots: Vec<Node<T>>,
    extras: Extras<R>,
    /// The first of the free slots, which are chained by `next`.
    free: u32,
    len: usize,
}

impl<T, R> Nodes<T, R> {
    pub(crate) fn new() -> Self {
        Self { slots: Vec::new(), extras: Extras::new(), free: NONE, len: 0 }
    }

    /// How many are in use.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The slot that the next `insert` will use.
    pub(crate) fn vacant(&self) -> u32 {
        if self.free == NONE { self.slots.len() as u32 } else { self.free }
    }

    /// Gives a newcomer the slot that was vacant. Its op follows, unless it is elsewhere.
    #[inline(always)]
    pub(crate) fn insert(&mut self, newcomer: Newcomer) -> u32 {
        let slot = self.vacant() as usize;
        self.len += 1;
        if slot == self.slots.len() {
            self.slots.push(Node::blank());
        }
        let node = &mut self.slots[slot];
        if self.free != NONE {
            self.free = node.next;
        }
        node.is_live = true;
        node.seq = newcomer.seq;
        node.at = newcomer.at;
        node.partition = newcomer.partition;
        node.level = newcomer.level;
        node.weight = newcomer.weight;
        node.urgent = newcomer.urgent;
        node.epoch = newcomer.epoch;
        slot as u32
    }

    /// Frees a slot. Whoever wants what the node owns has taken it out.
    #[inline]
    pub(crate) fn remove(&mut self, slot: u32) {
        let node = &mut self.slots[slot as usize];
        debug_assert!(node.is_live, "a slot is freed once");
        debug_assert!(node.op.is_none() && node.conflate.is_none() && !node.has_extra, "it owns nothing any more");
        node.is_live = false;
        node.next = self.free;
        self.free = slot;
        self.len -= 1;
    }

    /// What an op may have that most have not.
    #[inline]
    pub(crate) fn extra(&self, slot: u32) -> Option<&Extra<R>> {
        if self.slots[slot as usize].has_extra { self.extras.get(slot) } else { None }
    }

    /// The same, to add to it.
    pub(crate) fn extra_mut(&mut self, slot: u32) -> &mut Extra<R> {
        self.slots[slot as usize].has_extra = true;
        self.extras.get_mut(slot)
    }

    /// Notes who waits for an op that has just come.
    #[inline]
    pub(crate) fn set_waiters(&mut self, slot: u32, waiters: Waiters<R>) {
        // Most ops bring none.
        if !matches!(waiters, Waiters::None) {
            self.extra_mut(slot).waiters = waiters;
        }
    }

    /// Takes what an op has that most have not.
    #[inline]
    pub(crate) fn take_extra(&mut self, slot: u32) -> Extra<R> {
        let node = &mut self.slots[slot as usize];
        if !mem::take(&mut node.has_extra) {
            return Extra::NOTHING;
        }
        self.extras.take(slot)
    }

    /// The op of the same key that waits and is the next older one, if any.
    pub(crate) fn older(&self, slot: u32) -> u32 {
        self.extra(slot).map_or(NONE, |extra| extra.older)
    }

    /// The same for the next younger one.
    pub(crate) fn younger(&self, slot: u32) -> u32 {
        self.extra(slot).map_or(NONE, |extra| extra.younger)
    }

    /// How often the op was handed to the sink and came back.
    pub(crate) fn attempts(&self, slot: u32) -> u32 {
        self.history(slot).map_or(0, |history| history.attempts)
    }

    /// Whether an earlier attempt may have landed.
    pub(crate) fn in_doubt(&self, slot: u32) -> bool {
        self.history(slot).is_some_and(|history| history.in_doubt)
    }

    /// What the op has been through, if a write has brought it back.
    pub(crate) fn history(&self, slot: u32) -> Option<&History> {
        self.extra(slot)?.history.as_deref()
    }

    /// The same, to add to it.
    pub(crate) fn history_mut(&mut self, slot: u32) -> &mut History {
        self.extra_mut(slot).history.get_or_insert_default()
    }

    /// Where the time of an op went that was cut at `cut`, and then written for so long.
    pub(crate) fn spent(&self, slot: u32, cut: Moment, writing: u64, now: Moment) -> Spent {
        let came = self[slot].at;
        let Some(&History { backing_off, writing, .. }) = self.history(slot) else {
            return Spent { waiting: cut.nanos_since(came), backing_off: 0, writing };
        };
        let waiting = now.nanos_since(came).saturating_sub(backing_off).saturating_sub(writing);
        Spent { waiting, backing_off, writing }
    }

    /// Reads the lines that a slot begins and ends on, so that they are in the cache when it is merged with.
    pub(crate) fn fetch(&self, slot: u32) {
        if let Some(node) = self.slots.get(slot as usize) {
            black_box((node.level, node.partition));
        }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.slots.capacity()
    }

    /// The node in a slot, if one lives there.
    pub(crate) fn get(&self, slot: u32) -> Option<&Node<T>> {
        self.slots.get(slot as usize).filter(|node| node.is_live)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Node<T>)> {
        self.slots.iter().enumerate().filter(|(_, node)| node.is_live).map(|(slot, node)| (slot as u32, node))
    }
}

impl<T, R> Index<u32> for Nodes<T, R> {
    type Output = Node<T>;

    fn index(&self, slot: u32) -> &Node<T> {
        &self.slots[slot as usize]
    }
}

impl<T, R> IndexMut<u32> for Nodes<T, R> {
    fn index_mut(&mut self, slot: u32) -> &mut Node<T> {
        &mut self.slots[slot as usize]
    }
}
