//! The slots that ops live in from accept to settle. In comes an op, out comes the number of its slot, by which queues and
//! batches speak of it. Slots are used again, last freed first, so that memory stays warm.

use std::{
    hint::black_box,
    ops::{Index, IndexMut},
};

use super::node::{NONE, Newcomer, Node};
use crate::ack::Waiters;

#[derive(Debug)]
pub(crate) struct Nodes<T, R> {
    slots: Vec<Node<T, R>>,
    /// The first of the free slots, which are chained by `next`.
    free: u32,
    len: usize,
}

impl<T, R> Nodes<T, R> {
    pub(crate) fn new() -> Self {
        Self { slots: Vec::new(), free: NONE, len: 0 }
    }

    /// How many are in use.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The slot that the next `insert` will use.
    pub(crate) fn vacant(&self) -> u32 {
        if self.free == NONE { self.slots.len() as u32 } else { self.free }
    }

    /// Gives a newcomer, whose op may be elsewhere, the slot that was vacant.
    #[inline(always)]
    pub(crate) fn insert(&mut self, op: impl Into<Option<T>>, newcomer: Newcomer<R>) -> u32 {
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
        node.op = op.into();
        node.seq = newcomer.seq;
        node.at = newcomer.at;
        node.partition = newcomer.partition;
        node.level = newcomer.level;
        node.weight = newcomer.weight;
        node.urgent = newcomer.urgent;
        node.epoch = newcomer.epoch;
        // A blank node has none, and most ops bring none.
        if !matches!(newcomer.waiters, Waiters::None) {
            node.waiters = newcomer.waiters;
        }
        slot as u32
    }

    /// Frees a slot. Whoever wants what the node owns has taken it out.
    #[inline]
    pub(crate) fn remove(&mut self, slot: u32) {
        let node = &mut self.slots[slot as usize];
        debug_assert!(node.is_live, "a slot is freed once");
        debug_assert!(node.is_blank(), "what a node owns is taken out first");
        node.is_live = false;
        node.next = self.free;
        self.free = slot;
        self.len -= 1;
    }

    /// Reads a slot from end to end, as far as a merge does, so that it is in the cache by then.
    pub(crate) fn fetch(&self, slot: u32) {
        if let Some(node) = self.slots.get(slot as usize) {
            black_box((node.op.is_some(), node.history.is_some(), node.level));
        }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.slots.capacity()
    }

    /// The node in a slot, if one lives there.
    pub(crate) fn get_mut(&mut self, slot: u32) -> Option<&mut Node<T, R>> {
        self.slots.get_mut(slot as usize).filter(|node| node.is_live)
    }

    pub(crate) fn get(&self, slot: u32) -> Option<&Node<T, R>> {
        self.slots.get(slot as usize).filter(|node| node.is_live)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Node<T, R>)> {
        self.slots.iter().enumerate().filter(|(_, node)| node.is_live).map(|(slot, node)| (slot as u32, node))
    }
}

impl<T, R> Index<u32> for Nodes<T, R> {
    type Output = Node<T, R>;

    fn index(&self, slot: u32) -> &Node<T, R> {
        &self.slots[slot as usize]
    }
}

impl<T, R> IndexMut<u32> for Nodes<T, R> {
    fn index_mut(&mut self, slot: u32) -> &mut Node<T, R> {
        &mut self.slots[slot as usize]
    }
}
