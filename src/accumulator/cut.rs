//! The moment of decision: a due partition is cut, now that the sink can take it. In comes `now`, out comes a
//! [`Cut`] to write, or nothing. Next room: the sink, and then `settle`.

use std::iter;

use super::{Accumulator, lane::Stretch};
use crate::{
    ack::{AckSender, End},
    batch::{Batch, CutBy},
    moment::Moment,
    panics,
};

/// A batch on its way, with what the buffer needs to take it back. When it is settled its memory is used again.
pub(crate) struct Cut<T, R> {
    pub(crate) batch: Batch<T, R>,
    /// The node of each op of the batch.
    pub(super) slots: Vec<u32>,
    /// What is known of the ops after those.
    pub(super) stretches: Vec<Stretch>,
    /// Of those of them whose callers wait for the verdict.
    pub(super) acks: Vec<AckSender<R>>,
    pub(super) partition: u32,
    pub(super) at: Moment,
}

impl<T, R: Clone> Accumulator<T, R> {
    /// Cuts the best due partition, if one is due and may be cut: a slot is free, nobody has paused the batcher, and
    /// the sink has not asked for a pause.
    pub(crate) fn cut(&mut self, now: Moment) -> Option<Box<Cut<T, R>>> {
        if self.is_blocked() || self.frozen_until.is_some_and(|until| now < until) {
            return None;
        }
        self.frozen_until = None;
        self.advance(now);
        while let Some(id) = self.next_due() {
            let taken = self.take(id, now);
            self.place(id, now);
            if taken.is_some() {
                return taken;
            }
            // All that it held had expired. What became due meanwhile is looked at in the same round.
            self.advance(now);
        }
        None
    }

    /// Takes the next batch out of one partition. `None` if nothing in it may be sent any more.
    fn take(&mut self, id: u32, now: Moment) -> Option<Box<Cut<T, R>>> {
        let cut_by = self.due_by(id, now)?;
        let mut cut = self.spares.pop().unwrap_or_default();
        let Cut { batch, slots, stretches, acks, .. } = &mut *cut;
        let (ops, _) = batch.parts();
        let partition = &mut self.partitions[id as usize];
        let cap = partition.cap(self.max_items);
        // The lane hands its ops over in bulk.
        ops.reserve(cap.min(partition.queue.len()));
        let (mut weight, mut attempt) = (0usize, 1);
        self.cuts += 1;
        let has_keys = self.rules.conflate.is_some();
        while ops.len() < cap {
            let Some(slot) = self.partitions[id as usize].queue.next(&self.nodes, &self.rules.order, now) else {
                break;
            };
            // First of all, since one that has expired must not let the next of its key in, either.
            if self.nodes[slot].behind == self.cuts {
                break;
            }
            if self.rules.expiry.is_some() && !self.may_be_sent(slot, now) {
                continue;
            }
            let more = self.nodes[slot].weight;
            if weight.saturating_add(more) > self.max_weight {
                if ops.is_empty() {
                    let error = self.too_heavy(more);
                    self.unqueue(slot);
                    self.refuse_unqueued(slot, &error, now);
                    continue;
                }
                break;
            }
            weight += more;
            if has_keys {
                let younger = self.nodes[slot].younger;
                if let Some(younger) = self.nodes.get_mut(younger) {
                    younger.behind = self.cuts;
                }
                self.leave_key(slot);
            }
            self.waiting -= 1;
            self.partitions[id as usize].queue.pop(&mut self.nodes, slot);
            attempt = attempt.max(self.nodes[slot].attempts() + 1);
            ops.push(self.take_op(slot));
            slots.push(slot);
        }
        let more = self.lane.len().min(cap - ops.len());
        if more > 0 {
            self.lane.take(more, ops, stretches, acks);
            self.waiting -= more;
            weight += more;
        }
        let count = ops.len();
        if count == 0 {
            self.keep(cut);
            return None;
        }
        batch.renew(cut_by, attempt);
        (cut.partition, cut.at) = (id, now);
        let left = self.queued(id);
        let partition = &mut self.partitions[id as usize];
        partition.in_flight = true;
        partition.cut(count, left);
        self.batches_in_flight += 1;
        self.counters.cut(cut_by, count, weight, &self.limits);
        Some(cut)
    }

    /// Whether an op is still wanted. Ends it if not.
    fn may_be_sent(&mut self, slot: u32, now: Moment) -> bool {
        let Some(expiry) = &self.rules.expiry else {
            return true;
        };
        let op = self.nodes[slot].waiting_op();
        match panics::catch(|| expiry(op)) {
            Ok(Some(deadline)) if Moment::from(deadline) <= now => {
                self.unqueue(slot);
                self.end_unqueued(slot, End::Expired, now);
                false
            }
            Ok(_) => true,
            Err(panic) => {
                let error = self.caught("a stage", &*panic);
                self.unqueue(slot);
                self.refuse_unqueued(slot, &error, now);
                false
            }
        }
    }
}

impl<T> Accumulator<T, ()> {
    /// Cuts a batch and hands it over to whoever polls the stream: for them, it is delivered.
    pub(crate) fn hand_over(&mut self, now: Moment) -> Option<Vec<T>> {
        let mut cut = self.cut(now)?;
        let Cut { batch, slots, stretches, partition, .. } = &mut *cut;
        let partition = *partition;
        let ops = std::mem::take(batch.parts().0);
        self.deliver_all(slots, &mut iter::repeat(()), now, 0, now);
        slots.clear();
        for stretch in stretches.drain(..) {
            self.deliver_stretch(stretch, &mut iter::empty(), &mut iter::empty(), now, 0, now);
        }
        self.batches_in_flight -= 1;
        self.partitions[partition as usize].in_flight = false;
        self.place(partition, now);
        self.keep(cut);
        Some(ops)
    }
}

impl<T, R> Default for Cut<T, R> {
    /// No batch yet, but memory for one.
    fn default() -> Self {
        let batch = Batch::new(Vec::new(), CutBy::Full, 1);
        Self { batch, slots: Vec::new(), stretches: Vec::new(), acks: Vec::new(), partition: 0, at: Moment::END }
    }
}

impl<T, R> Cut<T, R> {
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
        let now = Moment::now();
        let mut buffer = Accumulator::<u64, ()>::new(Stages::new(), Limits::new(10_000), Policy::default());
        (0..10_000).for_each(|op| buffer.push(Arrival { op, at: now, ack: None }, now));
        let mut cut = buffer.cut(now).expect("it is full");
        buffer.trim();
        assert!(!buffer.has_excess());
        let _ = cut.batch.accept_all();
        buffer.settle(cut, Written::Answered, now);
        assert!(buffer.has_excess());
        buffer.trim();
        assert!(!buffer.has_excess());
    }
}
