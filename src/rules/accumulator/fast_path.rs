//! [`Lane`]: the fast path for batchers without stages: a FIFO with one record per run of ops. An op becomes a node when it is
//! evicted, withdrawn or retried.

use std::collections::VecDeque;

use super::{Accumulator, prefetch::GROUP, store::Fifo, store::Newcomer};
use crate::rules::{
    accumulator::{Arrivals, Run},
    outcome::{AckSender, Answer, End, Outcome, Waiters},
    stats::spent::Spent,
    time::Moment,
};

/// Ops that came one after the other and of which the same is known.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stretch {
    pub(super) count: usize,
    /// Order of arrival of the first.
    pub(super) seq: u64,
    pub(super) at: Moment,
    /// Which flush covers them.
    pub(super) epoch: u32,
    /// Their callers wait for the verdicts.
    pub(super) acked: bool,
}

#[derive(Debug)]
pub(super) struct Lane<T, R> {
    ops: Fifo<T>,
    /// Acks of the ops that have one, in the order of the ops.
    acks: Fifo<AckSender<R>>,
    stretches: VecDeque<Stretch>,
}

impl<T, R> Lane<T, R> {
    pub(super) fn new() -> Self {
        Self { ops: Fifo::new(), acks: Fifo::new(), stretches: VecDeque::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.ops.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Order of arrival of the first, and when it was sent.
    pub(super) fn first(&self) -> Option<(u64, Moment)> {
        self.stretches.front().map(|stretch| (stretch.seq, stretch.at))
    }

    /// Takes the first `count` ops.
    pub(super) fn take(
        &mut self,
        count: usize,
        ops: &mut Vec<T>,
        stretches: &mut Vec<Stretch>,
        acks: &mut Vec<AckSender<R>>,
    ) {
        self.ops.take(count, ops);
        let (mut missing, mut acked) = (count, 0);
        while missing > 0 {
            let first = self.stretches.front_mut().expect("each op is in a stretch");
            let next = first.split_off(missing.min(first.count));
            if first.count == 0 {
                self.stretches.pop_front();
            }
            missing -= next.count;
            acked += if next.acked { next.count } else { 0 };
            stretches.push(next);
        }
        self.acks.take(acked, acks);
    }

    /// Room for how many it has, of ops or of stretches.
    pub(super) fn capacity(&self) -> usize {
        self.ops.capacity().max(self.acks.capacity()).max(self.stretches.capacity())
    }
}

impl Stretch {
    /// The first `count` ops of the stretch, which begins behind them now.
    fn split_off(&mut self, count: usize) -> Self {
        let first = Self { count, ..*self };
        self.count -= count;
        self.seq += count as u64;
        first
    }
}

impl<T, R: Clone> Accumulator<T, R> {
    /// Whether no rule has anything to say of any op, so that [`accept_all`](Self::accept_all) takes them.
    pub(crate) fn is_plain(&self) -> bool {
        self.is_plain
    }

    /// Accepts all ops of these runs, which hold permits, with their acks. Only for a batcher that is plain.
    pub(crate) fn accept_all(
        &mut self,
        ops: &mut Vec<T>,
        acks: &mut Vec<AckSender<R>>,
        runs: impl Iterator<Item = Run>,
        now: Moment,
    ) {
        let was_empty = self.queued(0) == 0;
        self.lane.ops.append(ops);
        self.lane.acks.append(acks);
        runs.for_each(|run| self.count_in(run));
        self.lined_up(was_empty, now);
    }

    /// Takes in the ops of a run, which come next.
    pub(crate) fn accept(&mut self, run: Run, arrivals: &mut Arrivals<'_, T, R>, now: Moment) {
        if self.is_plain {
            let (ops, acks) = arrivals.all_of(&run);
            return self.line_up(run, ops, acks, now);
        }
        let mut left = run.count as usize;
        while left > 0 {
            // As many as come before the next look ahead.
            let looked_at = (arrivals.len() - 1) % GROUP + 1;
            if looked_at == GROUP && self.looks_ahead() {
                self.look_ahead(arrivals.ops());
            }
            let some = left.min(looked_at);
            (0..some).for_each(|_| self.push(arrivals.next(&run), now));
            left -= some;
        }
    }

    /// Puts the ops of a run into the lane.
    pub(super) fn line_up(
        &mut self,
        run: Run,
        ops: impl Iterator<Item = T>,
        acks: impl Iterator<Item = AckSender<R>>,
        now: Moment,
    ) {
        let was_empty = self.queued(0) == 0;
        self.lane.ops.extend(ops);
        self.lane.acks.extend(acks);
        self.count_in(run);
        self.lined_up(was_empty, now);
    }

    /// Notes what is known of ops that have been put into the lane.
    fn count_in(&mut self, run: Run) {
        let Run { count, at, acked, .. } = run;
        let count = count as usize;
        let (seq, epoch) = (self.next_seq, self.flushes.accept(count as u64));
        self.next_seq += count as u64;
        self.counters.accepted += count as u64;
        self.pending += count;
        self.waiting += count;
        match self.lane.stretches.back_mut() {
            Some(last) if (last.at, last.epoch, last.acked) == (at, epoch, acked) => last.count += count,
            _ => self.lane.stretches.push_back(Stretch { count, seq, at, epoch, acked }),
        }
    }

    fn lined_up(&mut self, was_empty: bool, now: Moment) {
        if was_empty || (self.queued(0) >= self.max_items && self.is_lingering(0)) {
            self.place(0, now);
        }
        self.press_if_full();
    }

    /// How many ops of a partition wait.
    #[inline]
    pub(super) fn queued(&self, id: u32) -> usize {
        // While the lane is in use there is no partition but one.
        self.partitions[id as usize].queue.len() + self.lane.len()
    }

    /// The ops of a stretch have landed.
    pub(super) fn deliver_stretch(
        &mut self,
        stretch: Stretch,
        acks: &mut impl Iterator<Item = AckSender<R>>,
        receipts: &mut impl Iterator<Item = R>,
        at: Moment,
        writing: u64,
        now: Moment,
    ) {
        let Stretch { count, at: sent_at, epoch, acked, .. } = stretch;
        let spent = Spent { waiting: at.nanos_since(sent_at), backing_off: 0, writing };
        self.counters.time(spent, count as u64);
        self.tally(epoch, End::Delivered, None, count as u64);
        if !acked {
            receipts.take(count).for_each(|receipt| self.discard(receipt));
            return;
        }
        let latency = now.since(sent_at);
        self.answers.extend(acks.take(count).zip(receipts).map(|(to, receipt)| {
            let outcome = Outcome { result: Ok(receipt), end: End::Delivered, attempts: 1, latency };
            Answer::new(to, outcome)
        }));
    }

    /// Gives the ops of stretches, which a batch holds, nodes of their own.
    pub(super) fn part(
        &mut self,
        stretches: impl Iterator<Item = Stretch>,
        acks: &mut impl Iterator<Item = AckSender<R>>,
        slots: &mut Vec<u32>,
    ) {
        for Stretch { count, seq, at, epoch, acked } in stretches {
            for seq in seq..seq + count as u64 {
                let waiters = Waiters::of(if acked { acks.next() } else { None }, at);
                let op = Newcomer { seq, at, partition: 0, level: 0, weight: 1, urgent: false, epoch };
                let slot = self.nodes.insert(op);
                self.nodes.set_waiters(slot, waiters);
                slots.push(slot);
            }
        }
    }

    /// Moves all that wait in the lane to nodes of their own, since one of them may be picked out.
    pub(super) fn clear_lane(&mut self) {
        if self.lane.is_empty() {
            return;
        }
        let Lane { ops, acks, stretches } = std::mem::replace(&mut self.lane, Lane::new());
        let mut slots = Vec::new();
        self.part(stretches.into_iter(), &mut acks.into_iter(), &mut slots);
        for (op, slot) in ops.into_iter().zip(slots) {
            self.nodes[slot].op = Some(op);
            self.partitions[0].queue.append(&mut self.nodes, &self.rules.order, slot);
        }
    }
}
