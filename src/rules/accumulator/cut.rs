//! Cuts a batch: takes the ops of the best due partition, up to the caps, without expired ones. Called by the driver when a
//! slot is free; [`Cut`] carries what `settle` needs later.

use std::{any::Any, iter};

use super::{
    Accumulator,
    quota::Fit,
    resize::CutSize,
    store::{NONE, TakenRuns},
};
use crate::rules::{
    batch::{Batch, CutBy},
    outcome::End,
    panics,
    quota::Charge,
    stage::{BoxRule, Order, Stages},
    time::Timestamp,
};

/// A batch on its way, with what the buffer needs to take it back. When it is settled its memory is used again.
pub(crate) struct Cut<T, R, A> {
    pub(crate) batch: Batch<T, R>,
    /// The node of each op of the batch.
    pub(super) slots: Vec<u32>,
    /// The ops after those, which have no node.
    pub(super) taken: TakenRuns<A>,
    pub(super) partition: u32,
    pub(super) at: Timestamp,
    /// The gate's number of freezes at the cut.
    pub(super) mark: u64,
    /// Windows of the quota that the batch was charged in.
    pub(super) charges: Vec<Charge>,
    pub(super) size: CutSize,
}

impl<T, R: Clone, A> Accumulator<T, R, A> {
    /// Cuts the best due partition, if one is due and may be cut: a slot is free, the batcher is not paused, and
    /// the sink has not asked for a pause.
    pub(crate) fn cut(&mut self, now: Timestamp) -> Option<Box<Cut<T, R, A>>> {
        if self.is_blocked() || self.gate.frozen_until(now).is_some() {
            return None;
        }
        loop {
            // A partition may hold nothing but expired ops. Others may have become due meanwhile.
            let (schedule, view) = self.scheduling();
            schedule.advance(&view, now);
            let id = schedule.next_due()?;
            if self.is_spent(now) {
                return None;
            }
            let mut held_until = None;
            let taken = self.take(id, now, &mut held_until);
            self.reschedule(id, now);
            self.release_saved(id, taken.is_some(), now);
            if taken.is_some() {
                return taken;
            }
            if let Some(until) = held_until {
                self.schedule.hold(id, until, now);
            }
        }
    }

    /// Takes the next batch out of one partition. `None` if nothing in it may be sent any more, or if the quota has too little
    /// left, which is then asked again at `held_until`.
    fn take(&mut self, id: u32, now: Timestamp, held_until: &mut Option<Timestamp>) -> Option<Box<Cut<T, R, A>>> {
        let cut_by = self.schedule.due_by(id, &self.caps, now)?;
        let mut cut = self.spares.pop().unwrap_or_default();
        let partition = &mut self.schedule.partitions_mut()[id];
        let (allowed, waiting) = (partition.cap(self.caps.items), partition.queue.len());
        let cap = whole_pages(allowed, waiting, self.policy.page);
        // The fast path hands its ops over in bulk.
        cut.batch.parts().0.reserve(cap.min(waiting));
        let number = self.ledger.begin_cut();
        let (mut weight, mut attempt) = (0usize, 1);
        loop {
            let unwanted = self.take_run(id, cap, &mut cut, &mut weight, now);
            let (ops, _) = cut.batch.parts();
            if ops.len() == cap {
                break;
            }
            let Some(slot) = self.schedule.queue(id).next(&self.nodes, &self.rules.order, now) else {
                break;
            };
            // First of all, since one that has expired must not let the next of its key in, either.
            if self.nodes.cold(slot).is_some_and(|cold| cold.older_cut == number) {
                break;
            }
            let ask = || unwanted_by(self.rules.expiry.as_ref()?, self.nodes[slot].waiting_op(), now);
            if let Some(why) = unwanted.or_else(ask) {
                self.end_unwanted(slot, why, now);
                continue;
            }
            match self.fit(slot, ops.len(), weight, &mut cut.charges, now) {
                Fit::Fits => {}
                Fit::Full => break,
                Fit::Waits(until) => {
                    *held_until = Some(until);
                    break;
                }
                Fit::Refused(error) => {
                    self.dequeue(slot);
                    self.refuse_dequeued(slot, &error, now);
                    continue;
                }
            }
            weight = weight.saturating_add(self.nodes[slot].weight);
            let newer_neighbor = self.nodes.newer_neighbor(slot);
            if newer_neighbor != NONE {
                self.nodes.cold_mut(newer_neighbor).older_cut = number;
            }
            self.dequeue(slot);
            attempt = attempt.max(self.nodes.attempts(slot) + 1);
            ops.push(self.take_op(slot));
            cut.slots.push(slot);
        }
        let Cut { batch, taken, .. } = &mut *cut;
        let (ops, _) = batch.parts();
        let more = self.schedule.queue_mut(id).take_runs(cap - ops.len(), ops, taken);
        self.ledger.dequeued(more);
        weight = weight.saturating_add(more);
        let count = ops.len();
        if count == 0 {
            self.keep(cut);
            return None;
        }
        batch.renew(cut_by, attempt);
        (cut.partition, cut.at, cut.mark) = (id, now, self.gate.mark());
        self.schedule.partitions_mut()[id].batch_left(count);
        cut.size = self.batch_left(count == cap && allowed == self.caps.items && waiting >= allowed);
        let fill = self.caps.fill(count, weight);
        self.ledger.counters().cut(cut_by, count, fill);
        self.note_held(id, &cut, held_until.is_some(), now);
        Some(cut)
    }

    /// Takes the ops that come next as far as nothing is remarkable about them: the way of most. Says why the one after
    /// them is not to be sent, if it was asked.
    fn take_run(
        &mut self,
        id: u32,
        cap: usize,
        cut: &mut Cut<T, R, A>,
        weight: &mut usize,
        now: Timestamp,
    ) -> Option<Unwanted> {
        let Stages { expiry, order: Order { aging: None, .. }, conflate, .. } = &mut self.rules else {
            return None;
        };
        if self.quota.is_some() {
            return None;
        }
        let (ops, _) = cut.batch.parts();
        let (before, mut unwanted) = (ops.len(), None);
        let max_weight = self.caps.weight;
        self.schedule.queue_mut(id).drain(&mut self.nodes, |slot, node| {
            let heavier = weight.saturating_add(node.weight);
            if ops.len() == cap || heavier > max_weight {
                return false;
            }
            if let Some(expiry) = expiry
                && let Some(why) = unwanted_by(expiry, node.waiting_op(), now)
            {
                unwanted = Some(why);
                return false;
            }
            *weight = heavier;
            if let (Some(hash), Some(conflate)) = (node.conflate.take(), &mut *conflate) {
                conflate.index.unbind(hash, slot);
            }
            ops.extend(node.op.take());
            cut.slots.push(slot);
            true
        });
        self.ledger.dequeued(ops.len() - before);
        unwanted
    }

    /// Whether an op still fits into a batch of so many ops and so much weight. Charges it if it does.
    #[inline]
    fn fit(&mut self, slot: u32, ops: usize, weight: usize, charges: &mut Vec<Charge>, now: Timestamp) -> Fit {
        let more = self.nodes[slot].weight;
        if weight.saturating_add(more) <= self.caps.weight {
            return self.charge(slot, ops, charges, now);
        }
        if ops > 0 { Fit::Full } else { Fit::Refused(self.too_heavy(more)) }
    }

    fn end_unwanted(&mut self, slot: u32, why: Unwanted, now: Timestamp) {
        self.dequeue(slot);
        self.end_dequeued_unwanted(slot, why, now);
    }

    /// Ends an op that stands in no queue and is not to be sent.
    pub(super) fn end_dequeued_unwanted(&mut self, slot: u32, why: Unwanted, now: Timestamp) {
        match why {
            Unwanted::Expired => {
                let op = self.finish_dequeued(slot, End::Expired, now);
                self.discard(op);
            }
            Unwanted::Panicked(panic) => {
                let error = self.caught("a stage", &*panic);
                self.refuse_dequeued(slot, &error, now);
            }
        }
    }
}

/// How many ops to cut, where a part of a page costs the destination as much as a whole one.
fn whole_pages(cap: usize, waiting: usize, page: Option<usize>) -> usize {
    match page {
        Some(page) if cap.min(waiting) > page && page > 0 => cap.min(waiting) / page * page,
        _ => cap,
    }
}

/// Why an op is not to be sent.
pub(super) enum Unwanted {
    Expired,
    /// Unknown, since the user's function panicked.
    Panicked(Box<dyn Any + Send>),
}

pub(super) fn unwanted_by<T>(expiry: &BoxRule<T, Option<Timestamp>>, op: &T, now: Timestamp) -> Option<Unwanted> {
    match panics::catch(|| expiry(op)) {
        Ok(deadline) => deadline.is_some_and(|deadline| deadline <= now).then_some(Unwanted::Expired),
        Err(panic) => Some(Unwanted::Panicked(panic)),
    }
}

impl<T> Accumulator<T, (), ()> {
    /// Cuts a batch and returns what `take` moves out of it, which counts as delivered; `take` must leave no op.
    pub(crate) fn hand_over<B>(&mut self, now: Timestamp, take: impl FnOnce(&mut Vec<T>) -> B) -> Option<B> {
        let mut cut = self.cut(now)?;
        let Cut { batch, slots, taken, .. } = &mut *cut;
        let handed_over = take(batch.parts().0);
        self.deliver_all(slots, taken, &mut iter::repeat(()), now, 0, now);
        self.batch_returned(cut.partition);
        self.reschedule(cut.partition, now);
        self.keep(cut);
        Some(handed_over)
    }
}

impl<T, R, A> Default for Cut<T, R, A> {
    /// No batch yet, but memory for one.
    fn default() -> Self {
        let batch = Batch::new(Vec::new(), CutBy::Full, 1);
        Self {
            batch,
            slots: Vec::new(),
            taken: TakenRuns::new(),
            partition: 0,
            at: Timestamp::END,
            mark: 0,
            charges: Vec::new(),
            size: CutSize::default(),
        }
    }
}

impl<T, R, A> Cut<T, R, A> {
    pub(crate) fn len(&self) -> usize {
        self.batch.len()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::*, *};

    /// Goal: a large batch costs no memory afterwards. Method: one is in flight while the driver tidies up, and comes back.
    #[test]
    fn the_memory_of_a_large_batch_is_given_back() {
        let now = Timestamp::some();
        let mut buffer = Accumulator::<u64, (), ()>::new(Stages::new(), &Limits::new(10_000), Policy::default());
        (0..10_000).for_each(|op| buffer.push(Arrival { op, at: now, token: None }, now));
        let mut cut = buffer.cut(now).expect("it is full");
        buffer.shrink();
        assert!(!buffer.has_excess_capacity());
        let _ = cut.batch.accept_all();
        buffer.settle(cut, Written::Answered, now);
        assert!(buffer.has_excess_capacity());
        buffer.shrink();
        assert!(!buffer.has_excess_capacity());
    }
}
