//! The way of ops on which no stage has anything to say: in runs, through the fast path of the one queue. The driver calls it
//! for a whole batch of arrivals at once; [`Accumulator::push`] does for one.

use std::iter;

use super::{Accumulator, Arrivals, Intake, Run, ledger::Entry, store::QueuedRun};
use crate::rules::{
    outcome::{Answer, End, Outcome},
    stats::latency::Latency,
    time::Timestamp,
};

/// The one partition.
const ONLY: u32 = 0;

impl<T, R: Clone, A> Accumulator<T, R, A> {
    /// Whether no rule has anything to say of any op, so that [`accept_all`](Self::accept_all) takes them.
    pub(crate) fn is_plain(&self) -> bool {
        self.intake == Intake::Plain
    }

    /// Accepts all ops of these runs, which hold permits, with their tokens. Only for a batcher that is plain.
    pub(crate) fn accept_all(
        &mut self,
        ops: &mut Vec<T>,
        tokens: &mut Vec<A>,
        runs: impl Iterator<Item = Run>,
        now: Timestamp,
    ) {
        let was_empty = self.schedule.queue(ONLY).is_empty();
        let (queued_ops, queued_tokens) = self.schedule.queue_mut(ONLY).fast_path();
        queued_ops.append(ops);
        queued_tokens.append(tokens);
        self.record(runs);
        self.appended(was_empty, now);
    }

    /// Takes in the ops of a run, which come next.
    pub(crate) fn accept(&mut self, run: Run, arrivals: &mut Arrivals<'_, T, A>, now: Timestamp) {
        if self.is_plain() {
            let (ops, tokens) = arrivals.all_of(&run);
            return self.append_run(run, ops, tokens, now);
        }
        (0..run.count).for_each(|_| self.push(arrivals.next(&run), now));
    }

    /// Puts the ops of a run into the fast path.
    pub(super) fn append_run(
        &mut self,
        run: Run,
        ops: impl Iterator<Item = T>,
        tokens: impl Iterator<Item = A>,
        now: Timestamp,
    ) {
        let was_empty = self.schedule.queue(ONLY).is_empty();
        let (queued_ops, queued_tokens) = self.schedule.queue_mut(ONLY).fast_path();
        queued_ops.extend(ops);
        queued_tokens.extend(tokens);
        self.record(iter::once(run));
        self.appended(was_empty, now);
    }

    /// Notes what is known of ops that have been put into the fast path.
    fn record(&mut self, runs: impl Iterator<Item = Run>) {
        let Entry { mut seq, epoch } = self.ledger.next();
        let runs = runs.map(|Run { count, at, has_tokens, .. }| {
            let run = QueuedRun { count: count as usize, seq, at, epoch, has_tokens };
            seq += u64::from(count);
            run
        });
        let count = self.schedule.queue_mut(ONLY).record(runs);
        self.ledger.accept(count);
        self.ledger.queued(count);
    }

    fn appended(&mut self, was_empty: bool, now: Timestamp) {
        let is_full = self.schedule.queue(ONLY).len() >= self.caps.items;
        if was_empty || (is_full && self.schedule.is_lingering(ONLY)) {
            self.reschedule(ONLY, now);
        }
        self.press_if_full();
    }

    /// The ops of a run have landed.
    pub(super) fn deliver_run(
        &mut self,
        run: QueuedRun,
        tokens: &mut impl Iterator<Item = A>,
        receipts: &mut impl Iterator<Item = R>,
        at: Timestamp,
        writing: u64,
        now: Timestamp,
    ) {
        let QueuedRun { count, at: sent_at, epoch, has_tokens, .. } = run;
        let spent = Latency { waiting: at.nanos_since(sent_at), backing_off: 0, writing };
        self.ledger.counters().time(spent, count as u64);
        self.ledger.ended(epoch, End::Delivered, None, count);
        if !has_tokens {
            receipts.take(count).for_each(|receipt| self.discard(receipt));
            return;
        }
        let latency = now.since(sent_at);
        self.outbox.answer_all(tokens.take(count).zip(receipts).map(|(token, receipt)| {
            Answer::new(token, Outcome { result: Ok(receipt), end: End::Delivered, attempts: 1, latency })
        }));
    }
}
