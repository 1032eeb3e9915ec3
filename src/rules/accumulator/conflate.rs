//! Merges two ops of one key: an arriving op into a waiting one, or a returning op with the oldest of its key that waits. The
//! user's function decides; the survivor stands in the place of the older op.

use std::mem;

use super::{
    Accumulator,
    store::{NONE, NodeMeta},
};
use crate::rules::{
    batch::SinkError,
    outcome::{AckError, End, Waiter, Waiters},
    panics,
    time::Timestamp,
};

impl<T, R: Clone, A> Accumulator<T, R, A> {
    /// An op that has just come meets the one that waits under its key.
    pub(super) fn conflate_arrival(
        &mut self,
        waiting: u32,
        op: T,
        meta: NodeMeta,
        waiters: Waiters<A>,
        now: Timestamp,
    ) {
        let mut newer = Some(op);
        let in_doubt = self.nodes.in_doubt(waiting);
        if let Err(error) = self.merge(waiting, &mut newer, in_doubt) {
            self.ledger.ended(meta.epoch, End::Refused, Some(&error), 1);
            self.answer(waiters, End::Refused, 0, Err(AckError::Refused(error.clone())), now);
            return self.refuse_queued(waiting, &error, now);
        }
        match (&self.nodes[waiting].op, newer) {
            (Some(_), None) => {
                self.ledger.ended(meta.epoch, End::Conflated, None, 1);
                self.take_over(waiting, waiters);
                self.reposition(waiting, meta.level, now);
            }
            (Some(_), newer @ Some(_)) => {
                let slot = self.nodes.insert(meta);
                waiters.dedup_keys().for_each(|key| self.dedup.moved(key, slot));
                self.nodes.set_waiters(slot, waiters);
                self.nodes[slot].op = newer;
                self.move_key(waiting, slot);
                self.link(waiting, slot);
                self.raise_older(slot);
                self.enqueue_new(slot, now);
                let id = self.nodes[waiting].partition;
                self.reorder_due(id, now);
            }
            (None, newer) => {
                self.discard(newer);
                self.ledger.ended(meta.epoch, End::Netted, None, 1);
                self.answer(waiters, End::Netted, 0, Err(AckError::Netted), now);
                let op = self.finish_queued(waiting, End::Netted, now);
                self.discard(op);
            }
        }
    }

    /// An op that comes back meets what waits under its key, the newest of which is given. All of it is newer, so it is
    /// merged with the oldest: a stale value must not leave after a newer one.
    pub(super) fn merge_returned(&mut self, slot: u32, newest: u32, now: Timestamp) {
        let mut oldest = newest;
        while self.nodes.older(oldest) != NONE {
            oldest = self.nodes.older(oldest);
        }
        let in_doubt = self.nodes.in_doubt(slot) || self.nodes.in_doubt(oldest);
        let mut newer = self.nodes[oldest].op.take();
        if let Err(error) = self.merge(slot, &mut newer, in_doubt) {
            self.ledger.dequeued(1);
            self.refuse_dequeued(slot, &error, now);
            self.dequeue(oldest);
            return self.refuse_dequeued(oldest, &error, now);
        }
        match (&self.nodes[slot].op, newer) {
            (Some(_), None) => {
                let id = self.nodes[slot].partition;
                self.schedule.queue_mut(id).remove(&mut self.nodes, oldest);
                self.ledger.dequeued(1);
                self.link(slot, self.nodes.newer_neighbor(oldest));
                self.move_key(oldest, slot);
                let level = self.merge_into(slot, oldest);
                match self.reevaluate(slot, level) {
                    None => self.requeue(slot),
                    Some(error) => {
                        self.ledger.dequeued(1);
                        self.unlink_key(slot);
                        self.refuse_dequeued(slot, &error, now);
                    }
                }
            }
            (Some(_), newer @ Some(_)) => {
                self.nodes[oldest].op = newer;
                self.requeue(slot);
                self.link(slot, oldest);
                self.raise_older(oldest);
            }
            (None, newer) => {
                self.discard(newer);
                self.ledger.dequeued(1);
                let op = self.finish_dequeued(slot, End::Netted, now);
                self.discard(op);
                self.dequeue(oldest);
                let op = self.finish_dequeued(oldest, End::Netted, now);
                self.discard(op);
            }
        }
    }

    /// The key by which `from` can be merged with finds `to` from now on.
    pub(super) fn move_key(&mut self, from: u32, to: u32) {
        let hash = self.nodes[from].conflate.take();
        if let (Some(hash), Some(conflate)) = (hash, &mut self.rules.conflate) {
            conflate.index.rebind(hash, from, to);
            self.nodes[to].conflate = Some(hash);
        }
    }

    /// Asks the user's function what becomes of an op that waits and a newer one: of each, whether it is still there
    /// afterwards. Neither is if the function panics, which uses both up.
    ///
    /// An op in doubt may have landed: it can be neither replaced nor netted, only sent again, before the newer one.
    fn merge(&mut self, waiting: u32, newer: &mut Option<T>, in_doubt: bool) -> Result<(), SinkError> {
        if in_doubt {
            return Ok(());
        }
        let merge = &self.rules.conflate.as_ref().expect("only conflated ops meet").merge;
        let waiting = &mut self.nodes[waiting].op;
        let merged = panics::catch(|| merge(waiting, newer));
        merged.map_err(|panic| self.caught("a merge function", &*panic))
    }

    /// Two ops of one key wait apart. Either may be `NONE`.
    pub(super) fn link(&mut self, older: u32, newer_neighbor: u32) {
        if newer_neighbor != NONE {
            self.nodes.cold_mut(newer_neighbor).older = older;
        }
        if older != NONE {
            self.nodes.cold_mut(older).newer_neighbor = newer_neighbor;
            self.align_send_times(older);
        }
    }

    /// Sees to it that what is newer under a key was sent later, too. It may have been sent before, if its sender waited
    /// for room, and age would then lift it above the older one.
    fn align_send_times(&mut self, slot: u32) {
        let (at, mut next) = (self.nodes[slot].at, self.nodes.newer_neighbor(slot));
        while next != NONE && self.nodes[next].at < at {
            self.nodes[next].at = at;
            next = self.nodes.newer_neighbor(next);
        }
    }

    /// An op is no longer there to be merged with; what comes next under its key meets the next in age, if any.
    #[inline]
    pub(super) fn unlink_key(&mut self, slot: u32) {
        let mut older = NONE;
        if self.nodes[slot].has_cold {
            let cold = self.nodes.cold_mut(slot);
            let newer_neighbor = mem::replace(&mut cold.newer_neighbor, NONE);
            older = mem::replace(&mut cold.older, NONE);
            self.link(older, newer_neighbor);
        }
        if older != NONE {
            self.move_key(slot, older);
        } else if let (Some(hash), Some(conflate)) = (self.nodes[slot].conflate.take(), &mut self.rules.conflate) {
            conflate.index.unbind(hash, slot);
        }
    }

    /// Moves the ops that wait apart from `slot`, and are older, up to its level at least: within a key, nothing leaves
    /// after something newer, whatever the priorities.
    pub(super) fn raise_older(&mut self, slot: u32) {
        let level = self.nodes[slot].level;
        let mut next = self.nodes.older(slot);
        while let Some(node) = self.nodes.get(next) {
            let order = &self.rules.order;
            if order.rank(node.level) >= order.rank(level) {
                return;
            }
            let (slot, id) = (next, node.partition);
            next = self.nodes.older(slot);
            self.schedule.queue_mut(id).remove(&mut self.nodes, slot);
            self.nodes[slot].level = level;
            self.insert(slot, false);
            self.list_victim(slot);
        }
    }

    /// Ends a newer op, which is in no queue, by merging it into an older one, whose node takes its waiters over.
    /// Returns the level of the newer one.
    fn merge_into(&mut self, into: u32, newer: u32) -> u32 {
        let node = &self.nodes[newer];
        let (epoch, level) = (node.epoch, node.level);
        let waiters = self.nodes.take_cold(newer).waiters;
        self.nodes.remove(newer);
        self.ledger.ended(epoch, End::Conflated, None, 1);
        self.take_over(into, waiters);
        level
    }

    /// Lets those who wait for an op that was merged into another wait for that.
    fn take_over(&mut self, into: u32, newer: Waiters<A>) {
        if let (false, Waiters::None) = (self.nodes[into].has_cold, &newer) {
            return;
        }
        let waiters = &mut self.nodes.cold_mut(into).waiters;
        waiters.mark(End::Conflated);
        newer.for_each(|waiter| {
            if let Waiter::DedupKey(key) = waiter {
                self.dedup.moved(key, into);
            }
            waiters.add(waiter);
        });
    }

    /// The survivor of a merge is in the node of the op that waited, which keeps its place or moves up.
    fn reposition(&mut self, slot: u32, newer_level: u32, now: Timestamp) {
        let order = &self.rules.order;
        let node = &self.nodes[slot];
        let rises = order.rank(newer_level) > order.rank(node.level);
        if !rises && self.rules.weight.is_none() && self.rules.urgent.is_none() {
            // The way of most: nothing by which it is placed has changed.
            return self.cost_changed(slot, now);
        }
        let id = node.partition;
        let (weight, urgent) = (node.weight, node.urgent);
        if rises {
            self.schedule.queue_mut(id).remove(&mut self.nodes, slot);
        }
        let problem = self.reevaluate(slot, newer_level);
        if rises {
            self.insert(slot, false);
            self.list_victim(slot);
            self.raise_older(slot);
        } else {
            self.schedule.queue_mut(id).recount(weight, urgent, &self.nodes[slot]);
        }
        match problem {
            None => self.reschedule(id, now),
            Some(error) => self.refuse_queued(slot, &error, now),
        }
    }

    /// Notes what the rules say of the survivor of a merge. Says what is wrong with it, if anything: it may have become
    /// too heavy to ever leave.
    fn reevaluate(&mut self, slot: u32, newer_level: u32) -> Option<SinkError> {
        let order = &self.rules.order;
        let node = &mut self.nodes[slot];
        if order.rank(newer_level) > order.rank(node.level) {
            node.level = newer_level;
        }
        let op = node.waiting_op();
        let asked = panics::catch(|| {
            let weight = self.rules.weight.as_ref().map_or(1, |weigh| weigh(op));
            (weight, self.rules.urgent.as_ref().is_some_and(|urgent| urgent(op)))
        });
        match asked {
            Ok((weight, urgent)) => {
                node.weight = weight;
                node.urgent |= urgent;
                (weight > self.caps.weight).then(|| self.too_heavy(weight))
            }
            Err(panic) => Some(self.caught("a stage", &*panic)),
        }
    }
}
