//! [`Queue`]: the ops of one partition in the order in which they leave: a list per level, by arrival within it. The lists run
//! through the nodes themselves, so a queue owns next to nothing. That of a batcher without stages has a tail of ops without
//! nodes behind them, its fast path.

use smallvec::SmallVec;

use super::{
    arena::Arena,
    fast_path::{FastPath, QueuedRun, TakenRuns},
    fifo::Fifo,
    node::{NONE, Node},
};
use crate::rules::{outcome::Waiters, stage::Order, time::Timestamp};

#[derive(Debug, Clone, Copy)]
struct Level {
    id: u32,
    head: u32,
    tail: u32,
}

#[derive(Debug)]
pub(crate) struct Queue<T, A> {
    /// Greatest first, none of them empty.
    levels: SmallVec<[Level; 4]>,
    /// Ops that leave after all of the levels.
    fast_path: Option<Box<FastPath<T, A>>>,
    /// Ops of the levels and of the fast path.
    len: usize,
    /// Weight of the ops of the levels. Ops of the fast path have none.
    weight: usize,
    urgent: usize,
    /// Ops that have been tried before, or were part of a batch that is being split: they do not linger again.
    retried: usize,
}

/// Where a queue stands among others: the partition with the least `SortKey` goes first.
///
/// A number of which the parts compare in order: the rank, so that greater is less, the order of arrival, and the slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SortKey(u128);

impl SortKey {
    /// The key of the only partition there is, if all of it waits in the fast path.
    const FAST_PATH: Self = Self::new(0, 0, NONE);

    const fn new(rank: u32, seq: u64, slot: u32) -> Self {
        Self((!rank as u128) << 96 | (seq as u128) << 32 | slot as u128)
    }

    fn slot(self) -> u32 {
        self.0 as u32
    }

    /// The same as a number, which is less for what goes first.
    pub(crate) fn number(self) -> u128 {
        self.0
    }
}

impl<T, A> Default for Queue<T, A> {
    fn default() -> Self {
        Self { levels: SmallVec::new(), fast_path: None, len: 0, weight: 0, urgent: 0, retried: 0 }
    }
}

impl<T, A> Queue<T, A> {
    /// A queue with a fast path, for ops of which no stage has anything to say.
    pub(crate) fn with_fast_path() -> Self {
        Self { fast_path: Some(Box::new(FastPath::new())), ..Self::default() }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn weight(&self) -> usize {
        self.weight
    }

    pub(crate) fn is_urgent(&self) -> bool {
        self.urgent > 0
    }

    pub(crate) fn is_retried(&self) -> bool {
        self.retried > 0
    }

    /// Puts a node at the end of its level: it is newer than all that wait. Says whether it is the only one there.
    #[inline]
    pub(crate) fn append(&mut self, nodes: &mut Arena<T, A>, order: &Order, slot: u32) -> bool {
        let node = &mut nodes[slot];
        // Most ops are of a low level.
        let Some(level) = self.levels.iter_mut().rev().find(|level| level.id == node.level) else {
            self.insert(nodes, order, slot, false);
            return true;
        };
        (node.prev, node.next) = (level.tail, NONE);
        nodes[level.tail].next = slot;
        level.tail = slot;
        self.count_node(nodes, slot);
        false
    }

    #[inline]
    fn count_node(&mut self, nodes: &Arena<T, A>, slot: u32) {
        let node = &nodes[slot];
        self.len += 1;
        self.weight = self.weight.saturating_add(node.weight);
        self.urgent += usize::from(node.urgent);
        self.retried += usize::from(nodes.history(slot).is_some());
    }

    /// Puts a node in its place. `comes_back` says from which end to look for it: an op that comes back is older than
    /// almost all that wait, any other is newer.
    pub(crate) fn insert(&mut self, nodes: &mut Arena<T, A>, order: &Order, slot: u32, comes_back: bool) {
        self.count_node(nodes, slot);
        let node = &nodes[slot];
        let (seq, level) = (node.seq, node.level);
        let rank = order.rank(level);
        let at = self.levels.iter().position(|other| order.rank(other.id) <= rank).unwrap_or(self.levels.len());
        if self.levels.get(at).is_none_or(|other| other.id != level) {
            self.levels.insert(at, Level { id: level, head: slot, tail: slot });
            link(nodes, NONE, slot);
            link(nodes, slot, NONE);
            return;
        }
        let level = &mut self.levels[at];
        let seq_of = |slot: u32| nodes[slot].seq;
        let (prev, next) = if comes_back {
            let mut next = level.head;
            while next != NONE && seq_of(next) < seq {
                next = nodes[next].next;
            }
            (if next == NONE { level.tail } else { nodes[next].prev }, next)
        } else {
            let mut prev = level.tail;
            while prev != NONE && seq_of(prev) > seq {
                prev = nodes[prev].prev;
            }
            (prev, if prev == NONE { level.head } else { nodes[prev].next })
        };
        link(nodes, prev, slot);
        link(nodes, slot, next);
        if prev == NONE {
            level.head = slot;
        }
        if next == NONE {
            level.tail = slot;
        }
    }

    /// Counts a node anew that stays where it is and had another weight and urgency.
    pub(crate) fn recount(&mut self, weight: usize, urgent: bool, node: &Node<T>) {
        self.weight = self.weight.saturating_sub(weight).saturating_add(node.weight);
        self.urgent = self.urgent - usize::from(urgent) + usize::from(node.urgent);
    }

    /// Takes nodes out, from the first one on, up to one that has a [`Cold`](super::side_table::Cold), or of which `take` says
    /// that it stays.
    #[inline]
    pub(crate) fn drain(&mut self, nodes: &mut Arena<T, A>, mut take: impl FnMut(u32, &mut Node<T>) -> bool) {
        while let Some(level) = self.levels.first_mut() {
            while level.head != NONE {
                let node = &mut nodes[level.head];
                if node.has_cold || !take(level.head, node) {
                    node.prev = NONE;
                    return;
                }
                level.head = node.next;
                self.len -= 1;
                self.weight = self.weight.saturating_sub(node.weight);
                self.urgent -= usize::from(node.urgent);
            }
            self.levels.remove(0);
        }
        // Weights may have saturated; an empty queue weighs nothing.
        self.weight = 0;
    }

    /// Takes a node out, wherever it stands.
    #[inline]
    pub(crate) fn remove(&mut self, nodes: &mut Arena<T, A>, slot: u32) {
        let node = &nodes[slot];
        let (prev, next, level) = (node.prev, node.next, node.level);
        self.len -= 1;
        self.urgent -= usize::from(node.urgent);
        self.retried -= usize::from(nodes.history(slot).is_some());
        self.weight = match self.len {
            // Weights may have saturated; an empty queue weighs nothing.
            0 => 0,
            _ => self.weight.saturating_sub(node.weight),
        };
        let listed = self.levels.iter().position(|other| other.id == level);
        let at = listed.expect("the level of a queued op is listed");
        let level = &mut self.levels[at];
        if prev == NONE {
            level.head = next;
        }
        if next == NONE {
            level.tail = prev;
        }
        link(nodes, prev, next);
        if level.head == NONE {
            self.levels.remove(at);
        }
    }

    /// The slot of what leaves next; `None` if only ops without a node are left.
    pub(crate) fn next(&self, nodes: &Arena<T, A>, order: &Order, now: Timestamp) -> Option<u32> {
        match order.aging {
            // Without aging the first level is first: the common case.
            None => self.levels.first().map(|level| level.head),
            Some(_) => self.head(nodes, order, now).map(SortKey::slot),
        }
    }

    /// The key of the op that leaves next, by which queues are compared.
    pub(crate) fn head(&self, nodes: &Arena<T, A>, order: &Order, now: Timestamp) -> Option<SortKey> {
        let head = |level: &Level| {
            let node = &nodes[level.head];
            let rank = order.aged(level.id, now.since(node.at));
            SortKey::new(rank, node.seq, level.head)
        };
        let head = match order.aging {
            None => self.levels.first().map(head),
            Some(_) => self.levels.iter().map(head).min(),
        };
        head.or_else(|| (self.len > 0).then_some(SortKey::FAST_PATH))
    }

    /// When age will next move one of the heads up, if it can still rise.
    pub(crate) fn rises_at(&self, nodes: &Arena<T, A>, order: &Order, now: Timestamp) -> Option<Timestamp> {
        let after = order.aging?;
        let top = order.top();
        let rises = self.levels.iter().filter_map(|level| {
            let at = nodes[level.head].at;
            let age = now.since(at);
            if order.aged(level.id, age) >= top {
                return None;
            }
            let steps = u32::try_from(age.as_nanos() / after.as_nanos() + 1).ok()?;
            at.checked_add(after.checked_mul(steps)?)
        });
        rises.min()
    }

    /// The order of arrival of the op that arrived first, and when it was sent.
    pub(crate) fn oldest(&self, nodes: &Arena<T, A>) -> Option<(u64, Timestamp)> {
        let heads = self.levels.iter().map(|level| &nodes[level.head]);
        let oldest = heads.map(|head| (head.seq, head.at)).min_by_key(|(seq, _)| *seq);
        // All that have a node came before those that have none.
        oldest.or_else(|| self.fast_path.as_ref()?.first())
    }
}

/// The fast path.
impl<T, A> Queue<T, A> {
    /// Where the ops and tokens of runs go that [`record`](Self::record) tells of.
    #[inline]
    pub(crate) fn fast_path(&mut self) -> (&mut Fifo<T>, &mut Fifo<A>) {
        self.fast_path.as_mut().expect(NO_FAST_PATH).contents()
    }

    /// Notes what is known of ops that have been put into the fast path. Returns how many they are.
    pub(crate) fn record(&mut self, runs: impl Iterator<Item = QueuedRun>) -> usize {
        let fast_path = self.fast_path.as_mut().expect(NO_FAST_PATH);
        let mut count = 0;
        for run in runs {
            count += run.count;
            fast_path.record(run);
        }
        self.len += count;
        count
    }

    /// Takes ops out of the fast path, at most so many. Returns how many.
    #[inline]
    pub(crate) fn take_runs(&mut self, most: usize, ops: &mut Vec<T>, into: &mut TakenRuns<A>) -> usize {
        let count = self.fast_path.as_mut().map_or(0, |fast_path| fast_path.take(most, ops, into));
        self.len -= count;
        count
    }

    /// Gives all ops of the fast path nodes of their own, since one of them may be picked out.
    pub(crate) fn materialize(&mut self, nodes: &mut Arena<T, A>, order: &Order) {
        let Some(fast_path) = self.fast_path.as_mut().filter(|fast_path| !fast_path.is_empty()) else {
            return;
        };
        self.len -= fast_path.len();
        let all = fast_path.take_all();
        for (op, meta, token) in all {
            let slot = nodes.insert(meta);
            nodes.set_waiters(slot, Waiters::of(token, meta.at));
            nodes[slot].op = Some(op);
            self.append(nodes, order, slot);
        }
    }

    /// Room for how many ops the fast path has, beyond those that wait.
    pub(crate) fn excess_capacity(&self) -> usize {
        let fast_path = self.fast_path.as_ref().filter(|fast_path| fast_path.is_empty());
        fast_path.map_or(0, |fast_path| fast_path.capacity())
    }

    /// Gives memory of the fast path back that is not in use.
    pub(crate) fn shrink(&mut self) {
        if let Some(fast_path) = self.fast_path.as_mut().filter(|fast_path| fast_path.is_empty()) {
            **fast_path = FastPath::new();
        }
    }
}

const NO_FAST_PATH: &str = "only the queue of a batcher without stages takes runs";

fn link<T, A>(nodes: &mut Arena<T, A>, prev: u32, next: u32) {
    if prev != NONE {
        nodes[prev].next = next;
    }
    if next != NONE {
        nodes[next].prev = prev;
    }
}
