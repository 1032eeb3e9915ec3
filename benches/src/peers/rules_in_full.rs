//! The three rules by hand with most duties of a batcher, and every type known to the compiler.
//!
//! The file estimates the cost of roundlot if its rules were type parameters. Beyond `rules_by_hand`:
//!
//! * an op can be removed from the middle of its list;
//! * an op stays known until its batch is settled;
//! * the time of each op in the buffer is counted;
//! * a function of the user may panic;
//! * the partition with the best op is cut first.
//!
//! There are no retries, deadlines, weights, limits, acks or flushes. The row `rules` calls it.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
};

use hashbrown::HashMap;

use crate::op::Op;

/// The number of levels of priority, as in the mix of ops.
const LEVELS: usize = 4;

/// The index that marks the end of a list; no node has it.
const NONE: u32 = u32::MAX;

/// An op between its push and its settling.
struct Node {
    /// The latest op of the key; `None` from the cut on.
    op: Option<Op>,
    partition: u32,
    level: u8,
    /// The neighbors in the list of its level, or `NONE`.
    prev: u32,
    next: u32,
    /// The time of the push.
    at: u64,
    /// The order of arrival.
    seq: u64,
}

/// The waiting ops of one level of a partition, in order of arrival.
#[derive(Clone, Copy)]
struct List {
    head: u32,
    tail: u32,
}

/// The waiting ops of a symbol.
struct Partition {
    /// The list per level.
    lists: [List; LEVELS],
    /// The number of waiting ops.
    len: usize,
    /// Whether a batch is cut and not settled.
    in_flight: bool,
    /// The version of its last entry in the heap. Entries with other versions are void.
    version: u64,
}

/// The rank of a partition: the greatest level first, and within a level the earliest op.
type Rank = (u8, Reverse<u64>);

/// Ops by partition, level and key, from the push to the settling.
#[derive(Default)]
pub struct InFull {
    partitions: Vec<Partition>,
    /// The partition per symbol.
    symbols: HashMap<u32, u32>,
    /// The node of the waiting op per partition and key.
    keys: HashMap<(u32, u64), u32>,
    nodes: Vec<Node>,
    /// Nodes without an op.
    free: Vec<u32>,
    /// Ranks, partitions and versions of partitions that may be cut.
    due: BinaryHeap<(Rank, u32, u64)>,
    counts: Counts,
}

/// Counts of ops so far.
#[derive(Debug, Default)]
pub struct Counts {
    pub accepted: u64,
    pub conflated: u64,
    pub delivered: u64,
    /// Ops whose partition or key function panicked.
    pub refused: u64,
    /// Ops that wait now.
    pub waiting: usize,
    /// The time in the buffer of all delivered ops together.
    pub waited: u128,
    /// The longest time in the buffer of a delivered op.
    pub longest: u64,
}

/// A batch in flight.
pub struct Cut {
    pub ops: Vec<Op>,
    /// The nodes of the ops.
    slots: Vec<u32>,
    partition: u32,
    /// The time of the cut.
    at: u64,
}

impl InFull {
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Takes in an op that arrived at the time `at`.
    pub fn push(&mut self, op: Op, at: u64) {
        self.counts.accepted += 1;
        let seq = self.counts.accepted;
        let Ok((partition, found)) = catch_unwind(AssertUnwindSafe(|| self.look_up(&op))) else {
            self.counts.refused += 1;
            return;
        };
        let level = op.level;
        if let Some(slot) = found {
            self.counts.conflated += 1;
            let node = &mut self.nodes[slot as usize];
            node.op = Some(op);
            if level > node.level {
                self.unlink(slot);
                self.nodes[slot as usize].level = level;
                self.link(slot);
            }
            return;
        }
        self.keys.insert((partition, op.key), self.free.last().copied().unwrap_or(self.nodes.len() as u32));
        let node = Node { op: Some(op), partition, level, prev: NONE, next: NONE, at, seq };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.nodes[slot as usize] = node;
                slot
            }
            None => {
                self.nodes.push(node);
                self.nodes.len() as u32 - 1
            }
        };
        self.counts.waiting += 1;
        self.partitions[partition as usize].len += 1;
        self.link(slot);
    }

    /// Finds the partition of an op, and the waiting node of its key.
    fn look_up(&mut self, op: &Op) -> (u32, Option<u32>) {
        let partitions = &mut self.partitions;
        let partition = *self.symbols.entry(op.symbol).or_insert_with(|| {
            let lists = [List { head: NONE, tail: NONE }; LEVELS];
            partitions.push(Partition { lists, len: 0, in_flight: false, version: 0 });
            partitions.len() as u32 - 1
        });
        (partition, self.keys.get(&(partition, op.key)).copied())
    }

    /// Links a node into its list by order of arrival, searching from the tail.
    fn link(&mut self, slot: u32) {
        let nodes = &mut self.nodes;
        let Node { level, seq, partition, .. } = nodes[slot as usize];
        let list = &mut self.partitions[partition as usize].lists[usize::from(level)];
        let mut prev = list.tail;
        while prev != NONE && nodes[prev as usize].seq > seq {
            prev = nodes[prev as usize].prev;
        }
        let after = if prev == NONE { &mut list.head } else { &mut nodes[prev as usize].next };
        let next = mem::replace(after, slot);
        let before = if next == NONE { &mut list.tail } else { &mut nodes[next as usize].prev };
        *before = slot;
        (nodes[slot as usize].prev, nodes[slot as usize].next) = (prev, next);
        if prev == NONE {
            self.rank(partition, level);
        }
    }

    fn unlink(&mut self, slot: u32) {
        let nodes = &mut self.nodes;
        let Node { prev, next, level, partition, .. } = nodes[slot as usize];
        let list = &mut self.partitions[partition as usize].lists[usize::from(level)];
        *(if prev == NONE { &mut list.head } else { &mut nodes[prev as usize].next }) = next;
        *(if next == NONE { &mut list.tail } else { &mut nodes[next as usize].prev }) = prev;
    }

    /// Enters a partition into the heap, if it may be cut and this level is its best.
    fn rank(&mut self, id: u32, level: u8) {
        let partition = &mut self.partitions[id as usize];
        if !partition.in_flight && partition.best() == Some(usize::from(level)) {
            partition.version += 1;
            let head = partition.lists[usize::from(level)].head;
            let rank = (level, Reverse(self.nodes[head as usize].seq));
            self.due.push((rank, id, partition.version));
        }
    }

    /// Cuts a batch of at most `most` ops from the best partition, or returns `None` if no partition is due.
    pub fn cut(&mut self, most: usize, at: u64) -> Option<Cut> {
        let id = loop {
            let (_, id, version) = self.due.pop()?;
            if self.partitions[id as usize].version == version {
                break id;
            }
        };
        let partition = &mut self.partitions[id as usize];
        let most = most.min(partition.len);
        let (mut ops, mut slots) = (Vec::with_capacity(most), Vec::with_capacity(most));
        for list in partition.lists.iter_mut().rev() {
            while list.head != NONE && ops.len() < most {
                let node = &mut self.nodes[list.head as usize];
                if let Some(op) = node.op.take() {
                    self.keys.remove(&(id, op.key));
                    ops.push(op);
                }
                slots.push(list.head);
                list.head = node.next;
            }
            *(if list.head == NONE { &mut list.tail } else { &mut self.nodes[list.head as usize].prev }) = NONE;
        }
        partition.len -= ops.len();
        partition.in_flight = true;
        self.counts.waiting -= ops.len();
        Some(Cut { ops, slots, partition: id, at })
    }

    /// Settles a batch: all its ops count as delivered, and its partition may be cut again.
    pub fn settle(&mut self, cut: Cut) {
        for slot in cut.slots {
            let waited = cut.at.saturating_sub(self.nodes[slot as usize].at);
            self.counts.waited += u128::from(waited);
            self.counts.longest = self.counts.longest.max(waited);
            self.counts.delivered += 1;
            self.free.push(slot);
        }
        let partition = &mut self.partitions[cut.partition as usize];
        partition.in_flight = false;
        if let Some(best) = partition.best() {
            self.rank(cut.partition, best as u8);
        }
    }
}

impl Partition {
    /// The greatest level with waiting ops.
    fn best(&self) -> Option<usize> {
        self.lists.iter().rposition(|list| list.head != NONE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_partition_leaves_first_with_the_latest_of_each_key() {
        let mut rules = InFull::default();
        let op = |id, symbol, key, level| Op { symbol, key, level, ..Op::numbered(id) };
        let ops = [op(1, 0, 7, 0), op(2, 1, 8, 1), op(3, 1, 9, 1), op(4, 0, 7, 3), op(5, 1, 8, 0), op(6, 0, 6, 0)];
        ops.into_iter().for_each(|op| rules.push(op, op.id));
        let mut next = |most| {
            let cut = rules.cut(most, 10)?;
            let ids: Vec<u64> = cut.ops.iter().map(|op| op.id).collect();
            rules.settle(cut);
            Some(ids)
        };
        assert_eq!(
            [next(1), next(1), next(9), next(9)].map(Option::unwrap_or_default),
            [vec![4], vec![5], vec![3], vec![6],]
        );
        assert_eq!(next(9), None);
        let Counts { accepted, conflated, delivered, refused, waiting, waited, longest } = rules.counts;
        assert_eq!((accepted, conflated, delivered, refused, waiting), (6, 2, 4, 0, 0));
        assert_eq!((waited, longest), (9 + 8 + 7 + 4, 9));
    }
}
