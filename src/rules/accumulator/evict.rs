//! [`Victims`]: which waiting op makes room in a full buffer. It exists only while the overflow policy evicts.
//!
//! Each list is in order of arrival and may name ops that no longer wait. They are skipped when they come up, and removed
//! before they outnumber the others.

use std::collections::{HashMap, VecDeque};

use super::{Accumulator, store::Arena};
use crate::rules::{config::limits::Overflow, outcome::End, stage::Order, time::Timestamp};

#[derive(Debug)]
pub(super) struct Victims {
    by_level: bool,
    lists: HashMap<u32, VecDeque<Entry>>,
    listed: usize,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    seq: u64,
    slot: u32,
}

impl Victims {
    pub(super) fn for_policy(overflow: Overflow) -> Option<Self> {
        let by_level = match overflow {
            Overflow::EvictOldest => false,
            Overflow::EvictLowest => true,
            Overflow::Wait | Overflow::Reject => return None,
        };
        Some(Self { by_level, lists: HashMap::new(), listed: 0 })
    }

    fn list<T, A>(&mut self, nodes: &Arena<T, A>, slot: u32) {
        let node = &nodes[slot];
        let list = self.lists.entry(if self.by_level { node.level } else { 0 }).or_default();
        let entry = Entry { seq: node.seq, slot };
        // Most are newer than all before them; what comes back or moves up is not.
        let at = list.partition_point(|other| other.seq < node.seq);
        // A survivor of a merge is listed already.
        if list.get(at).is_none_or(|other| other.seq != node.seq) {
            list.insert(at, entry);
            self.listed += 1;
        }
    }

    fn waits<T, A>(&self, nodes: &Arena<T, A>, level: u32, entry: Entry) -> bool {
        nodes
            .get(entry.slot)
            .is_some_and(|node| node.seq == entry.seq && node.op.is_some() && (!self.by_level || node.level == level))
    }

    fn next<T, A>(&mut self, nodes: &Arena<T, A>, order: &Order) -> Option<u32> {
        let mut levels: Vec<u32> = self.lists.keys().copied().collect();
        levels.sort_unstable_by_key(|level| order.rank(*level));
        for level in levels {
            while let Some(entry) = self.lists.get(&level).and_then(|list| list.front()).copied() {
                if self.waits(nodes, level, entry) {
                    return Some(entry.slot);
                }
                self.lists.get_mut(&level).and_then(VecDeque::pop_front);
                self.listed -= 1;
            }
            self.lists.remove(&level);
        }
        None
    }

    fn clean<T, A>(&mut self, nodes: &Arena<T, A>) {
        let mut lists = std::mem::take(&mut self.lists);
        for (level, list) in &mut lists {
            list.retain(|entry| self.waits(nodes, *level, *entry));
        }
        lists.retain(|_, list| !list.is_empty());
        self.listed = lists.values().map(VecDeque::len).sum();
        self.lists = lists;
    }
}

/// Stale entries tolerated before a clean-up.
const STALE: usize = 64;

impl<T, R: Clone, A> Accumulator<T, R, A> {
    /// Notes that an op waits and may be asked to make room.
    pub(super) fn list_victim(&mut self, slot: u32) {
        let Some(victims) = &mut self.victims else {
            return;
        };
        victims.list(&self.nodes, slot);
        if victims.listed > 2 * self.nodes.len() + STALE {
            victims.clean(&self.nodes);
        }
    }

    /// Lists all that wait, after the policy has changed.
    pub(super) fn set_victims(&mut self, overflow: Overflow) {
        self.victims = Victims::for_policy(overflow);
        self.choose_intake();
        self.waiting_by_age().into_iter().for_each(|slot| self.list_victim(slot));
    }

    /// Lets one op that waits make room. Says whether one was found: all may be in flight.
    pub(crate) fn evict(&mut self, now: Timestamp) -> bool {
        if self.victims.is_none() {
            // The policy has changed while the op that needs room was on its way; the new one will be told in a moment.
            self.set_victims(Overflow::EvictOldest);
        }
        let victim = self.victims.as_mut().and_then(|victims| victims.next(&self.nodes, &self.rules.order));
        if let Some(slot) = victim {
            let op = self.finish_queued(slot, End::Evicted, now);
            self.discard(op);
        }
        victim.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::rules::{
        accumulator::{Arrival, Policy},
        config::limits::Limits,
        stage::{Stages, latest},
    };

    /// Goal: an op that is merged again and again is listed once. Method: many updates of one key.
    #[test]
    fn survivors_of_merges_do_not_pile_up() {
        let stages = Stages::new().conflate_by(|_: &u32| 0, latest);
        let limits = Limits::new(10).linger(Duration::MAX).overflow(Overflow::EvictOldest);
        let mut buffer = Accumulator::<u32, (), ()>::new(stages, &limits, Policy::default());
        let now = Timestamp::some();
        (0..1000).for_each(|op| buffer.push(Arrival { op, at: now, token: None }, now));
        assert_eq!(buffer.victims.as_ref().map(|victims| victims.listed), Some(1));
    }

    /// Goal: ops that are to evict before the task has heard of it cost no more than those after. Method: the list is made
    /// once, and stays; its order is that of arrival.
    #[test]
    fn the_list_is_made_with_the_first_op_that_needs_room() {
        let limits = Limits::new(10).linger(Duration::MAX);
        let mut buffer = Accumulator::<u32, (), ()>::new(Stages::new(), &limits, Policy::default());
        let now = Timestamp::some();
        (0..3).for_each(|op| buffer.push(Arrival { op, at: now, token: None }, now));
        assert!(buffer.evict(now));
        assert!(buffer.victims.is_some());
        assert!(buffer.evict(now));
        assert_eq!(buffer.withdraw(|_| true, now), [2]);
    }
}
