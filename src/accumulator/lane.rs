//! Where ops wait of which no rule has anything to say: in order of arrival, and what is known of them is known of whole
//! stretches. In come runs of ops, out come the next ones. An op gets a node of its own only when something happens to
//! it: it is evicted, withdrawn, or comes back from a write that failed.

use std::{collections::VecDeque, vec};

use super::{
    Accumulator,
    ahead::GROUP,
    fifo::Fifo,
    node::{Arrival, Newcomer},
};
use crate::{
    ack::{AckSender, End, Waiters},
    command::{Command, Run},
    counters::Spent,
    inbox::Taken,
    moment::Moment,
};

/// Ops that came one after the other and of which the same is known.
#[derive(Debug)]
pub(crate) struct Stretch<R> {
    pub(super) count: usize,
    /// Order of arrival of the first.
    pub(super) seq: u64,
    pub(super) at: Moment,
    /// Which flush covers them.
    pub(super) epoch: u64,
    /// Who waits for the verdict on the only one.
    pub(super) ack: Option<AckSender<R>>,
}

#[derive(Debug)]
pub(super) struct Lane<T, R> {
    ops: Fifo<T>,
    stretches: VecDeque<Stretch<R>>,
}

impl<T, R> Lane<T, R> {
    pub(super) fn new() -> Self {
        Self { ops: Fifo::new(), stretches: VecDeque::new() }
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
    pub(super) fn take(&mut self, count: usize, ops: &mut Vec<T>, stretches: &mut Vec<Stretch<R>>) {
        self.ops.take(count, ops);
        let mut missing = count;
        while missing > 0 {
            let first = self.stretches.front_mut().expect("each op is in a stretch");
            if first.count > missing {
                stretches.push(first.split_off(missing));
                break;
            }
            missing -= first.count;
            stretches.extend(self.stretches.pop_front());
        }
    }

    /// Room for how many it has, of ops or of stretches.
    pub(super) fn capacity(&self) -> usize {
        self.ops.capacity().max(self.stretches.capacity())
    }
}

impl<R> Stretch<R> {
    /// The first `count` ops of a longer stretch, which begins behind them now. Nobody waits for either.
    fn split_off(&mut self, count: usize) -> Self {
        let first = Self { count, ack: None, ..*self };
        self.count -= count;
        self.seq += count as u64;
        first
    }
}

impl<T, R: Clone> Accumulator<T, R> {
    /// Takes in what came in one go, if it is nothing but ops and no rule has anything to say of them. Otherwise it is
    /// left as it is.
    pub(crate) fn accept_all(&mut self, taken: &mut Taken<T, R>, now: Moment) -> bool {
        let is_plain = |command: &Command<T, R>| matches!(command, Command::Ops(run) if run.paid);
        if !self.is_plain || !taken.commands.iter().all(is_plain) {
            return false;
        }
        let was_empty = self.queued(0) == 0;
        self.lane.ops.append(&mut taken.ops);
        for command in taken.commands.drain(..) {
            if let Command::Ops(run) = command {
                self.count_in(run);
            }
        }
        self.lined_up(was_empty, now);
        true
    }

    /// Takes in the ops of a run, which come next in `ops`.
    pub(crate) fn accept(&mut self, mut run: Run<R>, ops: &mut vec::Drain<'_, T>, now: Moment) {
        if self.is_plain {
            return self.line_up(run, ops, now);
        }
        for _ in 0..run.count {
            if ops.len().is_multiple_of(GROUP) && self.looks_ahead() {
                self.look_ahead(ops.as_slice());
            }
            let op = ops.next().expect("a run has as many ops as it counts");
            self.push(Arrival { op, at: run.at, ack: run.ack.take() }, now);
        }
    }

    /// Puts the ops of a run into the lane, which come next in `ops`.
    pub(super) fn line_up(&mut self, run: Run<R>, ops: &mut impl Iterator<Item = T>, now: Moment) {
        let was_empty = self.queued(0) == 0;
        self.lane.ops.extend(ops.take(run.count as usize));
        self.count_in(run);
        self.lined_up(was_empty, now);
    }

    /// Notes what is known of ops that have been put into the lane.
    fn count_in(&mut self, run: Run<R>) {
        let Run { count, at, ack, .. } = run;
        let count = count as usize;
        let (seq, epoch) = (self.next_seq, self.flushes.accept(count as u64));
        self.next_seq += count as u64;
        self.counters.accepted += count as u64;
        self.pending += count;
        self.waiting += count;
        match self.lane.stretches.back_mut() {
            Some(last) if last.at == at && last.epoch == epoch && last.ack.is_none() && ack.is_none() => {
                last.count += count;
            }
            _ => self.lane.stretches.push_back(Stretch { count, seq, at, epoch, ack }),
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
        stretch: Stretch<R>,
        receipts: &mut impl Iterator<Item = R>,
        at: Moment,
        writing: u64,
        now: Moment,
    ) {
        let Stretch { count, epoch, ack, .. } = stretch;
        let spent = Spent { waiting: at.nanos_since(stretch.at), backing_off: 0, writing };
        self.counters.time(spent, count as u64);
        self.tally(epoch, End::Delivered, None, count as u64);
        match ack {
            None => receipts.take(count).for_each(drop),
            Some(ack) => {
                let answer = receipts.next().map(|receipt| ack.answer(now, End::Delivered, 1, Ok(receipt)));
                self.answers.extend(answer);
            }
        }
    }

    /// Gives the ops of stretches, which a batch holds, nodes of their own.
    pub(super) fn part(&mut self, stretches: impl Iterator<Item = Stretch<R>>, slots: &mut Vec<u32>) {
        for Stretch { count, seq, at, epoch, mut ack } in stretches {
            for seq in seq..seq + count as u64 {
                let waiters = Waiters::of(ack.take());
                let op = Newcomer { seq, at, partition: 0, level: 0, weight: 1, urgent: false, epoch, waiters };
                slots.push(self.nodes.insert(None, op));
            }
        }
    }

    /// Moves all that wait in the lane to nodes of their own, since one of them may be picked out.
    pub(super) fn clear_lane(&mut self) {
        if self.lane.is_empty() {
            return;
        }
        let Lane { ops, stretches } = std::mem::replace(&mut self.lane, Lane::new());
        let mut slots = Vec::new();
        self.part(stretches.into_iter(), &mut slots);
        for (op, slot) in ops.into_iter().zip(slots) {
            self.nodes[slot].op = Some(op);
            self.partitions[0].queue.append(&mut self.nodes, &self.rules.order, slot);
        }
    }
}
