//! [`FastPath`]: the fast path for batchers without stages: a FIFO with one record per run of ops. An op becomes a node when it is
//! evicted, withdrawn or retried.

use std::collections::VecDeque;

use super::{Accumulator, store::Fifo, store::NodeMeta};
use crate::rules::{
    accumulator::{Arrivals, Run},
    outcome::{AckSender, Answer, End, Outcome, Waiters},
    stats::latency::Latency,
    time::Timestamp,
};

/// Ops that came one after the other and of which the same is known.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QueuedRun {
    pub(super) count: usize,
    /// Order of arrival of the first.
    pub(super) seq: u64,
    pub(super) at: Timestamp,
    /// Which flush covers them.
    pub(super) epoch: u32,
    /// Their callers wait for the verdicts.
    pub(super) acked: bool,
}

#[derive(Debug)]
pub(super) struct FastPath<T, R> {
    ops: Fifo<T>,
    /// Acks of the ops that have one, in the order of the ops.
    acks: Fifo<AckSender<R>>,
    runs: VecDeque<QueuedRun>,
}

impl<T, R> FastPath<T, R> {
    pub(super) fn new() -> Self {
        Self { ops: Fifo::new(), acks: Fifo::new(), runs: VecDeque::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.ops.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Order of arrival of the first, and when it was sent.
    pub(super) fn first(&self) -> Option<(u64, Timestamp)> {
        self.runs.front().map(|run| (run.seq, run.at))
    }

    /// Takes the first `count` ops.
    pub(super) fn take(
        &mut self,
        count: usize,
        ops: &mut Vec<T>,
        runs: &mut Vec<QueuedRun>,
        acks: &mut Vec<AckSender<R>>,
    ) {
        self.ops.take(count, ops);
        let (mut missing, mut acked) = (count, 0);
        while missing > 0 {
            let first = self.runs.front_mut().expect("each op is in a run");
            let next = first.split_off(missing.min(first.count));
            if first.count == 0 {
                self.runs.pop_front();
            }
            missing -= next.count;
            acked += if next.acked { next.count } else { 0 };
            runs.push(next);
        }
        self.acks.take(acked, acks);
    }

    /// Room for how many it has, of ops or of runs.
    pub(super) fn capacity(&self) -> usize {
        self.ops.capacity().max(self.acks.capacity()).max(self.runs.capacity())
    }
}

impl QueuedRun {
    /// The first `count` ops of the run, which begins behind them now.
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
        now: Timestamp,
    ) {
        let was_empty = self.queued(0) == 0;
        self.fast_path.ops.append(ops);
        self.fast_path.acks.append(acks);
        runs.for_each(|run| self.record_run(run));
        self.appended(was_empty, now);
    }

    /// Takes in the ops of a run, which come next.
    pub(crate) fn accept(&mut self, run: Run, arrivals: &mut Arrivals<'_, T, R>, now: Timestamp) {
        if self.is_plain {
            let (ops, acks) = arrivals.all_of(&run);
            return self.append_run(run, ops, acks, now);
        }
        (0..run.count).for_each(|_| self.push(arrivals.next(&run), now));
    }

    /// Puts the ops of a run into the fast path.
    pub(super) fn append_run(
        &mut self,
        run: Run,
        ops: impl Iterator<Item = T>,
        acks: impl Iterator<Item = AckSender<R>>,
        now: Timestamp,
    ) {
        let was_empty = self.queued(0) == 0;
        self.fast_path.ops.extend(ops);
        self.fast_path.acks.extend(acks);
        self.record_run(run);
        self.appended(was_empty, now);
    }

    /// Notes what is known of ops that have been put into the fast path.
    fn record_run(&mut self, run: Run) {
        let Run { count, at, acked, .. } = run;
        let count = count as usize;
        let (seq, epoch) = (self.next_seq, self.flushes.accept(count as u64));
        self.next_seq += count as u64;
        self.counters.accepted += count as u64;
        self.pending += count;
        self.waiting += count;
        match self.fast_path.runs.back_mut() {
            Some(last) if (last.at, last.epoch, last.acked) == (at, epoch, acked) => last.count += count,
            _ => self.fast_path.runs.push_back(QueuedRun { count, seq, at, epoch, acked }),
        }
    }

    fn appended(&mut self, was_empty: bool, now: Timestamp) {
        if was_empty || (self.queued(0) >= self.max_items && self.is_lingering(0)) {
            self.reschedule(0, now);
        }
        self.press_if_full();
    }

    /// How many ops of a partition wait.
    #[inline]
    pub(super) fn queued(&self, id: u32) -> usize {
        // While the fast path is in use there is no partition but one.
        self.partitions[id as usize].queue.len() + self.fast_path.len()
    }

    /// The ops of a run have landed.
    pub(super) fn deliver_run(
        &mut self,
        run: QueuedRun,
        acks: &mut impl Iterator<Item = AckSender<R>>,
        receipts: &mut impl Iterator<Item = R>,
        at: Timestamp,
        writing: u64,
        now: Timestamp,
    ) {
        let QueuedRun { count, at: sent_at, epoch, acked, .. } = run;
        let spent = Latency { waiting: at.nanos_since(sent_at), backing_off: 0, writing };
        self.counters.time(spent, count as u64);
        self.count_outcome(epoch, End::Delivered, None, count as u64);
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

    /// Gives the ops of runs, which a batch holds, nodes of their own.
    pub(super) fn materialize(
        &mut self,
        runs: impl Iterator<Item = QueuedRun>,
        acks: &mut impl Iterator<Item = AckSender<R>>,
        slots: &mut Vec<u32>,
    ) {
        for QueuedRun { count, seq, at, epoch, acked } in runs {
            for seq in seq..seq + count as u64 {
                let waiters = Waiters::of(if acked { acks.next() } else { None }, at);
                let op = NodeMeta { seq, at, partition: 0, level: 0, weight: 1, urgent: false, epoch };
                let slot = self.nodes.insert(op);
                self.nodes.set_waiters(slot, waiters);
                slots.push(slot);
            }
        }
    }

    /// Moves all that wait in the fast path to nodes of their own, since one of them may be picked out.
    pub(super) fn materialize_all(&mut self) {
        if self.fast_path.is_empty() {
            return;
        }
        let FastPath { ops, acks, runs } = std::mem::replace(&mut self.fast_path, FastPath::new());
        let mut slots = Vec::new();
        self.materialize(runs.into_iter(), &mut acks.into_iter(), &mut slots);
        for (op, slot) in ops.into_iter().zip(slots) {
            self.nodes[slot].op = Some(op);
            self.partitions[0].queue.append(&mut self.nodes, &self.rules.order, slot);
        }
    }
}
