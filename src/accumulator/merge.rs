//! Two ops of one key meet: a newer one comes in, or an older one comes back. In come both, out comes what the user's
//! merge function makes of them, in the place of the older one.

use super::{
    Accumulator,
    node::{NONE, Newcomer},
};
use crate::{
    ack::{AckError, End, Waiter, Waiters},
    moment::Moment,
    panics,
    sink::SinkError,
    stage::Merge,
};

impl<T, R: Clone> Accumulator<T, R> {
    /// An op that has just come meets the one that waits under its key.
    pub(super) fn meet(&mut self, waiting: u32, op: T, newcomer: Newcomer<R>, now: Moment) {
        let in_doubt = self.nodes[waiting].in_doubt();
        let waiting_op = self.take_op(waiting);
        match self.merge(waiting_op, op, in_doubt) {
            Ok(Merge::Into(op)) => {
                self.tally(newcomer.epoch, End::Conflated, None, 1);
                self.take_over(waiting, newcomer.waiters);
                self.survive(waiting, op, newcomer.level, now);
            }
            Ok(Merge::Net) => {
                self.tally(newcomer.epoch, End::Netted, None, 1);
                self.answer(newcomer.waiters, End::Netted, 0, Err(AckError::Netted), now);
                self.end_waiting(waiting, End::Netted, now);
            }
            Ok(Merge::Apart { waiting: old, newer: new }) => {
                let newer = self.nodes.vacant();
                newcomer.waiters.memories().for_each(|key| self.memory.moved(key, newer));
                self.nodes.insert(new, newcomer);
                self.nodes[waiting].op = Some(old);
                self.hand_key_over(waiting, newer);
                self.link(waiting, newer);
                self.lift_older(newer);
                self.enqueue_new(newer, now);
                let id = self.nodes[waiting].partition;
                self.joined(id, now);
            }
            Err(error) => {
                self.tally(newcomer.epoch, End::Refused, Some(&error), 1);
                self.answer(newcomer.waiters, End::Refused, 0, Err(AckError::Refused(error.clone())), now);
                self.refuse_waiting(waiting, &error, now);
            }
        }
    }

    /// An op that comes back meets what waits under its key, the youngest of which is given. All of it is newer, so it is
    /// merged with the eldest: a stale value must not leave after a newer one.
    pub(super) fn merge_returned(&mut self, slot: u32, youngest: u32, now: Moment) {
        let mut eldest = youngest;
        while self.nodes[eldest].older != NONE {
            eldest = self.nodes[eldest].older;
        }
        let in_doubt = self.nodes[slot].in_doubt() || self.nodes[eldest].in_doubt();
        let (older, newer) = (self.take_op(slot), self.take_op(eldest));
        match self.merge(older, newer, in_doubt) {
            Ok(Merge::Into(op)) => {
                let id = self.nodes[slot].partition;
                self.partitions[id as usize].queue.remove(&mut self.nodes, eldest);
                self.waiting -= 1;
                let younger = self.nodes[eldest].younger;
                self.link(slot, younger);
                self.hand_key_over(eldest, slot);
                let level = self.absorb(slot, eldest);
                match self.renew(slot, op, level) {
                    None => self.requeue(slot),
                    Some(error) => {
                        self.waiting -= 1;
                        self.leave_key(slot);
                        self.refuse_unqueued(slot, &error, now);
                    }
                }
            }
            Ok(Merge::Net) => {
                self.waiting -= 1;
                self.end_unqueued(slot, End::Netted, now);
                self.unqueue(eldest);
                self.end_unqueued(eldest, End::Netted, now);
            }
            Ok(Merge::Apart { waiting, newer }) => {
                self.nodes[slot].op = Some(waiting);
                self.nodes[eldest].op = Some(newer);
                self.requeue(slot);
                self.link(slot, eldest);
                self.lift_older(eldest);
            }
            Err(error) => {
                self.waiting -= 1;
                self.refuse_unqueued(slot, &error, now);
                self.unqueue(eldest);
                self.refuse_unqueued(eldest, &error, now);
            }
        }
    }

    /// The key by which `from` can be merged with finds `to` from now on.
    fn hand_key_over(&mut self, from: u32, to: u32) {
        let hash = self.nodes[from].conflate.take();
        if let (Some(hash), Some(conflate)) = (hash, &mut self.rules.conflate) {
            conflate.index.rebind(hash, from, to);
            self.nodes[to].conflate = Some(hash);
        }
    }

    /// Asks the user's function what becomes of two ops, which it uses up if it panics.
    ///
    /// An op in doubt may have landed: it can be neither replaced nor netted, only sent again, before the newer one.
    fn merge(&mut self, older: T, newer: T, in_doubt: bool) -> Result<Merge<T>, SinkError> {
        if in_doubt {
            return Ok(Merge::Apart { waiting: older, newer });
        }
        let merge = &self.rules.conflate.as_ref().expect("only conflated ops meet").merge;
        let merged = panics::catch(|| merge(older, newer));
        merged.map_err(|panic| self.caught("a merge function", &*panic))
    }

    /// Two ops of one key wait apart. Either may be `NONE`.
    fn link(&mut self, older: u32, younger: u32) {
        if let Some(node) = self.nodes.get_mut(older) {
            node.younger = younger;
        }
        if let Some(node) = self.nodes.get_mut(younger) {
            node.older = older;
        }
    }

    /// An op is no longer there to be merged with; what comes next under its key meets the next in age, if any.
    #[inline]
    pub(super) fn leave_key(&mut self, slot: u32) {
        let Some(conflate) = &mut self.rules.conflate else {
            return;
        };
        let node = &mut self.nodes[slot];
        let (older, younger) = (node.older, node.younger);
        if (older, younger) == (NONE, NONE) {
            // The way of most: no other op of its key waits.
            if let Some(hash) = node.conflate.take() {
                conflate.index.unbind(hash, slot);
            }
            return;
        }
        (node.older, node.younger) = (NONE, NONE);
        match node.conflate {
            Some(_) if older != NONE => self.hand_key_over(slot, older),
            Some(hash) => {
                node.conflate = None;
                conflate.index.unbind(hash, slot);
            }
            None => {}
        }
        self.link(older, younger);
    }

    /// Moves the ops that wait apart from `slot`, and are older, up to its level at least: within a key, nothing leaves
    /// after something newer, whatever the priorities.
    fn lift_older(&mut self, slot: u32) {
        let level = self.nodes[slot].level;
        let mut next = self.nodes[slot].older;
        while let Some(node) = self.nodes.get(next) {
            let order = &self.rules.order;
            if order.rank(node.level) >= order.rank(level) {
                return;
            }
            let (slot, id) = (next, node.partition);
            next = node.older;
            self.partitions[id as usize].queue.remove(&mut self.nodes, slot);
            self.nodes[slot].level = level;
            self.insert(slot, false);
            self.list_victim(slot);
        }
    }

    /// Ends a newer op, which is in no queue, by merging it into an older one, whose node takes its waiters over.
    /// Returns the level of the newer one.
    fn absorb(&mut self, into: u32, newer: u32) -> u32 {
        let node = &mut self.nodes[newer];
        let (epoch, level, waiters) = (node.epoch, node.level, node.waiters.take());
        node.history = None;
        (node.older, node.younger) = (NONE, NONE);
        self.nodes.remove(newer);
        self.tally(epoch, End::Conflated, None, 1);
        self.take_over(into, waiters);
        level
    }

    /// Lets those who wait for an op that was merged into another wait for that.
    fn take_over(&mut self, into: u32, newer: Waiters<R>) {
        let waiters = &mut self.nodes[into].waiters;
        if let (Waiters::None, Waiters::None) = (&*waiters, &newer) {
            return;
        }
        waiters.mark(End::Conflated);
        newer.for_each(|waiter| {
            if let Waiter::Memory(key) = waiter {
                self.memory.moved(key, into);
            }
            waiters.add(waiter);
        });
    }

    /// Puts the survivor of a merge into the node of the op that waited, which keeps its place or moves up.
    fn survive(&mut self, slot: u32, op: T, newer_level: u32, now: Moment) {
        let order = &self.rules.order;
        let node = &mut self.nodes[slot];
        if self.rules.weight.is_none()
            && self.rules.urgent.is_none()
            && order.rank(newer_level) <= order.rank(node.level)
        {
            // The way of most: nothing by which it is placed has changed.
            node.op = Some(op);
            return;
        }
        let id = node.partition;
        let (weight, urgent) = (node.weight, node.urgent);
        let rises = order.rank(newer_level) > order.rank(node.level);
        if rises {
            self.partitions[id as usize].queue.remove(&mut self.nodes, slot);
        }
        let problem = self.renew(slot, op, newer_level);
        if rises {
            self.insert(slot, false);
            self.list_victim(slot);
            self.lift_older(slot);
        } else {
            self.partitions[id as usize].queue.recount(weight, urgent, &self.nodes[slot]);
        }
        match problem {
            None => self.place(id, now),
            Some(error) => self.refuse_waiting(slot, &error, now),
        }
    }

    /// Gives a node the survivor of a merge and what the rules say of it. Says what is wrong with it, if anything: it may
    /// have become too heavy to ever leave.
    fn renew(&mut self, slot: u32, op: T, newer_level: u32) -> Option<SinkError> {
        let order = &self.rules.order;
        let node = &mut self.nodes[slot];
        if order.rank(newer_level) > order.rank(node.level) {
            node.level = newer_level;
        }
        let asked = panics::catch(|| {
            let weight = self.rules.weight.as_ref().map_or(1, |weigh| weigh(&op));
            (weight, self.rules.urgent.as_ref().is_some_and(|urgent| urgent(&op)))
        });
        node.op = Some(op);
        match asked {
            Ok((weight, urgent)) => {
                node.weight = weight;
                node.urgent |= urgent;
                (weight > self.max_weight).then(|| self.too_heavy(weight))
            }
            Err(panic) => Some(self.caught("a stage", &*panic)),
        }
    }
}
