//! An op leaves the buffer without having been written: netted, expired, evicted, withdrawn, returned. In comes a
//! slot and the way it ends, out come the answers to its callers.

use std::time::Instant;

use super::{Accumulator, SHRINK_ABOVE, node::Node};
use crate::{
    ack::{AckError, End, Waiter, Waiters},
    dead_letter::DeadLetter,
    panics,
    sink::SinkError,
    worker::Returned,
};

impl<T, R: Clone> Accumulator<T, R> {
    /// Takes out every op that waits and satisfies the predicate.
    pub(crate) fn withdraw(&mut self, mut wanted: impl FnMut(&T) -> bool, now: Instant) -> Vec<T> {
        let mut waiting: Vec<(u64, u32)> = Vec::new();
        for (slot, node) in &self.nodes {
            let Some(op) = &node.op else { continue };
            match panics::catch(|| wanted(op)) {
                Ok(true) => waiting.push((node.seq, slot as u32)),
                Ok(false) => {}
                // An op about which the predicate can't tell stays where it is.
                Err(_) => self.counters.panics += 1,
            }
        }
        waiting.sort_unstable();
        waiting.into_iter().filter_map(|(_, slot)| self.end_waiting(slot, End::Withdrawn, now)).collect()
    }

    /// Gives back everything that waits: the shutdown is over.
    pub(crate) fn return_waiting(&mut self, now: Instant) {
        let mut waiting: Vec<(u64, u32)> = self
            .nodes
            .iter()
            .filter(|(_, node)| node.op.is_some())
            .map(|(slot, node)| (node.seq, slot as u32))
            .collect();
        waiting.sort_unstable();
        for (_, slot) in waiting {
            let in_doubt = self.nodes[slot as usize].in_doubt();
            if let Some(op) = self.end_waiting(slot, End::Returned, now) {
                self.returned.push(Returned::new(op, false, in_doubt));
            }
        }
    }

    /// The task is being killed: whatever is accepted and not settled is lost, with notice.
    pub(crate) fn lose_all(&mut self, now: Instant) -> usize {
        let slots: Vec<u32> = self.nodes.iter().map(|(slot, _)| slot as u32).collect();
        let lost = slots.len();
        for slot in slots {
            if self.nodes[slot as usize].op.is_some() {
                self.end_waiting(slot, End::Lost, now);
            } else {
                self.end_unqueued(slot, End::Lost, now);
            }
        }
        self.batches_in_flight = 0;
        lost
    }

    /// Ends an op that stands in a queue. Gives it back, unless a merge has used it up.
    pub(super) fn end_waiting(&mut self, slot: u32, end: End, now: Instant) -> Option<T> {
        self.unqueue(slot);
        let id = self.nodes[slot as usize].partition;
        let op = self.end_unqueued(slot, end, now);
        self.place(id, now);
        op
    }

    /// Ends an op that stands in no queue.
    pub(super) fn end_unqueued(&mut self, slot: u32, end: End, now: Instant) -> Option<T> {
        let error = match end {
            End::Netted => AckError::Netted,
            End::Expired => AckError::Expired,
            End::Evicted => AckError::Evicted,
            End::Withdrawn => AckError::Withdrawn,
            End::Returned => AckError::Returned { in_flight: false },
            _ => AckError::Lost,
        };
        let node = self.remove_node(slot);
        self.settle_node(node, end, Err(error), None, now)
    }

    /// Gives up an op that stands in a queue.
    pub(super) fn refuse_waiting(&mut self, slot: u32, error: &SinkError, now: Instant) {
        self.unqueue(slot);
        let id = self.nodes[slot as usize].partition;
        self.refuse_unqueued(slot, error, now);
        self.place(id, now);
    }

    /// Gives up an op that stands in no queue: a dead letter, unless a merge has used it up.
    pub(super) fn refuse_unqueued(&mut self, slot: u32, error: &SinkError, now: Instant) {
        let node = self.remove_node(slot);
        let attempts = node.attempts();
        // An attempt that may have landed makes it in doubt, whatever came after.
        let (end, why) = if node.in_doubt() {
            (End::InDoubt, AckError::InDoubt(error.clone()))
        } else {
            (End::Refused, AckError::Refused(error.clone()))
        };
        if let Some(op) = self.settle_node(node, end, Err(why), Some(error), now) {
            self.letters.push(DeadLetter::new(op, error.clone(), attempts, end == End::InDoubt));
        }
    }

    /// Takes a waiting op out of its queue and out of reach of merges. Its partition has to be placed afterwards.
    pub(super) fn unqueue(&mut self, slot: u32) {
        let id = self.nodes[slot as usize].partition;
        self.partitions[id as usize].queue.remove(&mut self.nodes, slot);
        self.waiting -= 1;
        self.leave_key(slot);
    }

    pub(super) fn remove_node(&mut self, slot: u32) -> Node<T, R> {
        let node = self.nodes.remove(slot as usize);
        self.release_level(node.level);
        if self.nodes.is_empty() && self.nodes.capacity() > SHRINK_ABOVE {
            self.nodes = slab::Slab::new();
        }
        node
    }

    /// Counts an op's end and tells its callers.
    pub(super) fn settle_node(
        &mut self,
        node: Node<T, R>,
        end: End,
        result: Result<R, AckError>,
        error: Option<&SinkError>,
        now: Instant,
    ) -> Option<T> {
        let attempts = node.attempts();
        self.tally(node.epoch, end, error);
        self.answer(node.waiters, end, attempts, result, now);
        node.op
    }

    /// Counts an op out: in the statistics, for the flushes that cover it, and for the room that it took.
    pub(super) fn tally(&mut self, epoch: u64, end: End, error: Option<&SinkError>) {
        self.flushes.end(epoch, end, error);
        self.counters.ended.add(end);
        self.settled += 1;
    }

    /// Tells everyone who waits for an op what became of it.
    pub(super) fn answer(
        &mut self,
        waiters: Waiters<R>,
        end: End,
        attempts: u32,
        result: Result<R, AckError>,
        now: Instant,
    ) {
        waiters.for_each(|waiter| match waiter {
            Waiter::Caller { ack, ended } => ack.answer(now, ended.unwrap_or(end), attempts, result.clone()),
            Waiter::Memory(key) => self.remember_fate(key, attempts, result.clone()),
        });
    }

    /// A function of the user panicked over an op that has not been queued yet.
    pub(super) fn refuse_arrival(
        &mut self,
        op: T,
        waiters: Waiters<R>,
        epoch: u64,
        panic: &(dyn std::any::Any + Send),
        now: Instant,
    ) {
        self.counters.panics += 1;
        let error = panics::refusal("a stage", panic);
        self.tally(epoch, End::Refused, Some(&error));
        self.answer(waiters, End::Refused, 0, Err(AckError::Refused(error.clone())), now);
        self.letters.push(DeadLetter::new(op, error, 0, false));
    }
}
