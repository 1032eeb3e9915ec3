//! The second look at a batch that was cut some time ago, since its intent had to be synced, and is about to be written. The leader
//! of a durable log leaves out what has expired meanwhile, or takes the whole batch back.
#![cfg(feature = "durable")]

use super::{
    Accumulator, Cut,
    cut::{Unwanted, unwanted_by},
    settle::Retries,
};
use crate::rules::time::Timestamp;

impl<T, R: Clone, A> Accumulator<T, R, A> {
    /// Ends the ops of a batch that have expired since it was cut, as the cut does, and takes them out of the batch. Ops with a
    /// verdict stay. Returns the indexes that the ops had, in order.
    pub(crate) fn leave_out_expired(&mut self, cut: &mut Cut<T, R, A>, now: Timestamp) -> Vec<usize> {
        let Some(expiry) = &self.rules.expiry else {
            return Vec::new();
        };
        let pending = cut.batch.pending().indexed();
        let unwanted: Vec<(usize, Unwanted)> =
            pending.filter_map(|(i, op)| Some((i, unwanted_by(expiry, op, now)?))).collect();
        if unwanted.is_empty() {
            return Vec::new();
        }
        let Cut { batch, slots, taken, size, .. } = cut;
        self.materialize(taken, slots);
        let (ops, verdicts) = batch.parts();
        let mut gone = Vec::with_capacity(unwanted.len());
        let mut unwanted = unwanted.into_iter().peekable();
        let (all_ops, all_slots) = (std::mem::take(ops), std::mem::take(slots));
        for (i, (op, slot)) in all_ops.into_iter().zip(all_slots).enumerate() {
            match unwanted.next_if(|(at, _)| *at == i) {
                None => {
                    ops.push(op);
                    slots.push(slot);
                }
                Some((_, why)) => {
                    self.nodes[slot].op = Some(op);
                    self.end_dequeued_unwanted(slot, why, now);
                    gone.push(i);
                }
            }
        }
        verdicts.leave_out(&gone);
        // A batch that lands says nothing of the size that it was cut with.
        size.is_full = false;
        self.ledger.counters().left_out(gone.len());
        gone
    }

    /// Takes back a batch of which no op is left.
    pub(crate) fn take_back_empty(&mut self, mut cut: Box<Cut<T, R, A>>, now: Timestamp) {
        let id = cut.partition;
        self.settle_quota(&mut cut, now);
        self.batch_returned(id);
        self.reschedule(id, now);
        self.keep(cut);
    }

    /// Takes back a batch that was not written, at no cost to its ops.
    pub(crate) fn take_back_unwritten(&mut self, mut cut: Box<Cut<T, R, A>>, now: Timestamp) {
        let id = cut.partition;
        self.settle_quota(&mut cut, now);
        self.batch_returned(id);
        let Cut { batch, slots, taken, .. } = &mut *cut;
        self.materialize(taken, slots);
        let (ops, _) = batch.parts();
        self.ledger.counters().left_out(ops.len());
        for (op, slot) in ops.drain(..).zip(&*slots) {
            self.nodes[*slot].op = Some(op);
        }
        self.take_back(id, &Retries::unwritten(std::mem::take(slots)), now);
        self.reschedule(id, now);
        self.keep(cut);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::rules::{
        accumulator::{Arrival, Policy, Written},
        batch::SinkError,
        config::limits::Limits,
        outcome::End,
        stage::Stages,
    };

    /// A number, and when it expires, in seconds.
    type Op = (u32, Option<u64>);
    type Buffer = Accumulator<Op, (), u32>;

    fn buffer() -> Buffer {
        let stages = Stages::new()
            .expire_at(|op: &Op| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(op.1?)))
            .on_clock(|time| at(time.duration_since(SystemTime::UNIX_EPOCH).expect("not before 1970").as_secs()));
        let policy = Policy { idempotent: true, ..Policy::default() };
        Accumulator::new(stages, &Limits::new(5), policy)
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::some().checked_add(Duration::from_secs(seconds)).expect("in range")
    }

    fn push(buffer: &mut Buffer, ops: &[Op]) {
        ops.iter().for_each(|op| buffer.push(Arrival { op: *op, at: at(0), token: Some(op.0) }, at(0)));
    }

    fn ends(buffer: &mut Buffer) -> Vec<(u32, End)> {
        let (_, answers) = buffer.take_ended();
        answers.iter().map(|answer| (answer.token, answer.outcome.end())).collect()
    }

    fn conserved(buffer: &Buffer) {
        let stats = buffer.stats();
        assert_eq!(stats.accepted, stats.ended() + stats.waiting + stats.in_flight, "{stats:?}");
    }

    /// Goal: what has expired since the cut is taken out and ends as expired, and verdicts stay with their ops. Method: a batch with
    /// an op that was refused before, and one that may have landed.
    #[test]
    fn expired_ops_are_taken_out_of_a_batch() {
        let mut buffer = buffer();
        buffer.push_in_doubt((1, Some(5)), vec![(1, at(0))], 1, at(0));
        push(&mut buffer, &[(2, Some(5)), (3, None), (4, Some(5)), (5, Some(9))]);
        let mut cut = buffer.cut(at(0)).expect("it is full");
        cut.batch.refuse(2, SinkError::refused("no"));
        assert!(buffer.leave_out_expired(&mut cut, at(4)).is_empty());
        assert_eq!(cut.batch.len(), 5);
        assert_eq!(buffer.leave_out_expired(&mut cut, at(5)), [0, 1, 3]);
        assert_eq!(cut.batch.ops(), [(3, None), (5, Some(9))]);
        assert!(cut.batch.pending().eq(&[(5, Some(9))]));
        assert_eq!(ends(&mut buffer), [(1, End::InDoubt), (2, End::Expired), (4, End::Expired)]);
        assert_eq!((buffer.stats().in_flight, buffer.stats().written), (2, 2));
        conserved(&buffer);
        let _ = cut.batch.accept_all();
        buffer.settle(cut, Written::Answered, at(6));
        assert_eq!(ends(&mut buffer), [(3, End::Refused), (5, End::Delivered)]);
        conserved(&buffer);
    }

    /// Goal: a batch that goes as a whole frees its slot and its partition. Method: all expire, and another batch follows.
    #[test]
    fn a_batch_that_is_empty_frees_its_slot() {
        let mut buffer = buffer();
        push(&mut buffer, &[(1, Some(5)), (2, Some(5))]);
        let mut cut = buffer.cut(at(0)).expect("nothing lingers");
        push(&mut buffer, &[(3, None)]);
        assert!(buffer.cut(at(0)).is_none(), "a partition has one batch in flight");
        assert_eq!(buffer.leave_out_expired(&mut cut, at(5)), [0, 1]);
        assert!(cut.batch.is_empty());
        buffer.take_back_empty(cut, at(5));
        conserved(&buffer);
        let cut = buffer.cut(at(5)).expect("the partition is free");
        assert_eq!(cut.batch.ops(), [(3, None)]);
    }

    /// Goal: a batch that goes back is in front of what came later, as new as it was. Method: it does, and is cut again.
    #[test]
    fn a_batch_that_was_not_written_goes_back() {
        let mut buffer = buffer();
        push(&mut buffer, &[(1, None), (2, Some(5))]);
        let cut = buffer.cut(at(0)).expect("nothing lingers");
        push(&mut buffer, &[(3, None)]);
        buffer.take_back_unwritten(cut, at(1));
        assert_eq!((buffer.stats().waiting, buffer.stats().in_flight, buffer.stats().retries), (3, 0, 0));
        conserved(&buffer);
        let mut cut = buffer.cut(at(5)).expect("no backoff");
        assert_eq!((cut.batch.ops(), cut.batch.attempt()), (&[(1, None), (3, None)][..], 1));
        assert_eq!(ends(&mut buffer), [(2, End::Expired)]);
        let _ = cut.batch.accept_all();
        buffer.settle(cut, Written::Answered, at(6));
        assert_eq!(ends(&mut buffer), [(1, End::Delivered), (3, End::Delivered)]);
        conserved(&buffer);
    }
}
