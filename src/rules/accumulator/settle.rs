//! Settles a batch that the sink has returned: delivers, refuses, or puts ops back in front of their partition, where all rules
//! hold for them again. The driver calls [`Accumulator::settle`] once per [`Cut`].

use std::time::Duration;

use super::{Accumulator, Cut, finish::GivenUp, store::TakenRuns};
use crate::rules::{
    batch::{ErrorKind, SinkError, verdicts::Verdict},
    outcome::{AckError, End, Waiters},
    panics,
    stage::Found,
    stats::counters::WaitSums,
    time::Timestamp,
};

/// How a write ended.
#[derive(Debug)]
pub(crate) enum Written {
    /// The sink says that each op has its verdict.
    Answered,
    /// Ops without a verdict have this one.
    Failed(SinkError),
    /// The message of the panic. Ops without a verdict are in doubt.
    Panicked(String),
    /// The shutdown was over first.
    Aborted,
}

/// The ops of a batch that go back into the buffer.
#[derive(Default)]
pub(super) struct Retries {
    slots: Vec<u32>,
    /// Ops among them that failed, and were not only part of a batch that is being split.
    failed: u64,
    /// The first error of those.
    error: Option<SinkError>,
    /// Ops among them that met an outage, which is no failure of theirs.
    held: u64,
}

impl Retries {
    /// Ops of a batch that was not written.
    #[cfg(feature = "durable")]
    pub(super) fn unwritten(slots: Vec<u32>) -> Self {
        Self { slots, ..Self::default() }
    }
}

/// Says what becomes of an op that has no receipt.
enum Disposition {
    Again(SinkError),
    /// Back into the buffer, at no cost to the op, until the outage is over.
    Hold,
    /// Back into the buffer as a part of a batch that is being split.
    Split,
    GiveUp(GivenUp, SinkError),
    Return {
        in_flight: bool,
    },
    Lose(SinkError),
}

impl<T, R: Clone, A> Accumulator<T, R, A> {
    /// Takes a batch back.
    pub(crate) fn settle(&mut self, mut cut: Box<Cut<T, R, A>>, written: Written, now: Timestamp) {
        let (id, at, mark) = (cut.partition, cut.at, cut.mark);
        self.settle_quota(&mut cut, now);
        let Cut { batch, slots, taken, size, .. } = &mut *cut;
        let (ops, verdicts) = batch.parts();
        self.batch_returned(id);
        let writing = now.nanos_since(at);
        let all_accepted = verdicts.receipts(ops.len()).is_some();
        if all_accepted {
            self.size_landed(ops.len(), *size, writing, now);
        } else if verdicts.are_none() {
            self.size_failed(ops.len(), &written);
        }
        self.hear(verdicts, &written, mark, now);
        let rest = match written {
            Written::Answered if all_accepted => None,
            written => self.rest_of(written, now),
        };
        let outage = rest.iter().chain(verdicts.errors()).find(|error| error.is_outage()).cloned();
        let given_up = outage.as_ref().is_some_and(|error| self.met_outage(mark, error, now));
        if let Some(receipts) = verdicts.receipts(ops.len()) {
            // The way of most batches: the ops themselves are not needed any more.
            if let Err(panic) = panics::discard_all(ops) {
                drop(self.caught("a destructor", &*panic));
            }
            self.deliver_all(slots, taken, &mut receipts.drain(..), at, writing, now);
        } else {
            self.materialize(taken, slots);
            let verdicts = verdicts.list(ops.len());
            let unanswered = verdicts.iter().filter(|verdict| matches!(verdict, Verdict::Pending)).count();
            let split = unanswered > 0 && ops.len() > 1 && rest.as_ref().is_some_and(|error| self.splits(error));
            let mut retries = Retries::default();
            for ((op, verdict), slot) in ops.drain(..).zip(verdicts.drain(..)).zip(slots.drain(..)) {
                let (error, is_rest, again_anyway) = match verdict {
                    Verdict::Accepted(receipt) => {
                        self.discard(op);
                        self.deliver(slot, receipt, at, writing, now);
                        continue;
                    }
                    Verdict::Failed(error) => (Some(error), false, false),
                    Verdict::Again(error) => (Some(error), false, true),
                    Verdict::Pending => (rest.clone(), true, false),
                };
                self.nodes[slot].op = Some(op);
                let is_blameless = error.as_ref().is_some_and(|error| error.kind() == ErrorKind::Outage);
                self.record_attempt(slot, writing, is_blameless || (split && is_rest));
                let disposition = match error {
                    None => Disposition::Return { in_flight: true },
                    Some(_) if split && is_rest => Disposition::Split,
                    Some(error) if given_up && error.is_outage() => self.give_up(slot, error),
                    Some(error) => self.failed(slot, error, again_anyway, now),
                };
                self.dispose(disposition, slot, &mut retries, now);
            }
            if split {
                self.schedule.partitions_mut()[id].split(unanswered);
                self.ledger.counters().splits += 1;
            }
            self.take_back(id, &retries, now);
        }
        self.resize(now);
        self.reschedule(id, now);
        if let Some(error) = outage.filter(|_| given_up) {
            self.give_up_waiting(&error, now);
        }
        self.keep(cut);
    }

    /// A batch of this partition has come back.
    pub(super) fn batch_returned(&mut self, id: u32) {
        self.ledger.batch_returned();
        self.schedule.partitions_mut()[id].in_flight = false;
    }

    /// Gives ops that a batch holds nodes of their own, since some of them go back.
    pub(super) fn materialize(&mut self, taken: &mut TakenRuns<A>, slots: &mut Vec<u32>) {
        for (meta, token) in taken.each() {
            let slot = self.nodes.insert(meta);
            self.nodes.set_waiters(slot, Waiters::of(token, meta.at));
            slots.push(slot);
        }
    }

    fn dispose(&mut self, disposition: Disposition, slot: u32, retries: &mut Retries, now: Timestamp) {
        match disposition {
            Disposition::Again(error) => {
                retries.slots.push(slot);
                retries.failed += 1;
                retries.error.get_or_insert(error);
            }
            Disposition::Hold => {
                retries.slots.push(slot);
                retries.held += 1;
            }
            Disposition::Split => retries.slots.push(slot),
            Disposition::GiveUp(why, error) => {
                self.time_node(slot, now);
                self.give_up_dequeued(slot, why, &error, now);
            }
            Disposition::Return { in_flight } => self.return_op(slot, in_flight, now),
            Disposition::Lose(error) => self.lose(slot, &error, now),
        }
    }

    /// The verdict on the ops that have none; `None` gives them back.
    fn rest_of(&mut self, written: Written, now: Timestamp) -> Option<SinkError> {
        let error = match written {
            Written::Aborted => return None,
            Written::Answered => SinkError::ambiguous("the sink gave no verdict"),
            Written::Panicked(message) => {
                self.ledger.counters().panics += 1;
                let message = format!("the sink panicked: {message}");
                self.outbox.notices().panicked(|| message.clone());
                SinkError::ambiguous(message)
            }
            Written::Failed(error) => error,
        };
        // An error about the destination as a whole counts even where every op has a verdict of its own.
        match error.kind() {
            ErrorKind::Throttled { retry_after } => self.throttle(now, retry_after),
            ErrorKind::Fenced => self.gate.fenced = true,
            ErrorKind::Closed => self.gate.peer_left = true,
            _ => {}
        }
        Some(error)
    }

    /// Whether an error of a whole batch of several ops is answered by halving it.
    fn splits(&self, error: &SinkError) -> bool {
        match error.kind() {
            ErrorKind::TooLarge => true,
            ErrorKind::Refused => self.policy.bisect,
            _ => false,
        }
    }

    fn failed(&mut self, slot: u32, error: SinkError, again_anyway: bool, now: Timestamp) -> Disposition {
        let last = self.nodes.attempts(slot) >= self.policy.backoff.max_attempts();
        let mut again = again_anyway;
        match error.kind() {
            ErrorKind::Throttled { retry_after } => {
                self.throttle(now, retry_after);
                again = true;
            }
            ErrorKind::Transient => again = true,
            ErrorKind::Outage => return Disposition::Hold,
            ErrorKind::Ambiguous => {
                self.nodes.history_mut(slot).in_doubt |= !self.policy.is_certain;
                again |= self.policy.idempotent;
            }
            ErrorKind::Fenced => {
                self.gate.fenced = true;
                return Disposition::Return { in_flight: false };
            }
            ErrorKind::Closed => {
                self.gate.peer_left = true;
                return Disposition::Return { in_flight: false };
            }
            ErrorKind::Lost if !again => return Disposition::Lose(error),
            ErrorKind::Lost | ErrorKind::Refused | ErrorKind::TooLarge => {}
        }
        match (again, last) {
            (true, false) => Disposition::Again(error),
            (true, true) => Disposition::GiveUp(GivenUp::Exhausted, error),
            (false, _) => Disposition::GiveUp(GivenUp::Refused, error),
        }
    }

    /// Gives an op up over an outage that lasted too long. A lost connection may have landed it.
    fn give_up(&mut self, slot: u32, error: SinkError) -> Disposition {
        if let Some(notice) = &mut self.outbox.notices().outage {
            notice.given_up += 1;
        }
        self.nodes.history_mut(slot).in_doubt |= error.kind() == ErrorKind::Ambiguous && !self.policy.is_certain;
        Disposition::GiveUp(GivenUp::Exhausted, error)
    }

    fn record_attempt(&mut self, slot: u32, writing: u64, split: bool) {
        let history = self.nodes.history_mut(slot);
        // Being in a batch that was too large is not the op's failure.
        history.attempts += u32::from(!split);
        history.writing += writing;
    }

    /// All ops of a batch have landed.
    pub(super) fn deliver_all(
        &mut self,
        slots: &mut Vec<u32>,
        taken: &mut TakenRuns<A>,
        receipts: &mut impl Iterator<Item = R>,
        at: Timestamp,
        writing: u64,
        now: Timestamp,
    ) {
        self.deliver_nodes(slots, receipts, at, writing, now);
        slots.clear();
        let TakenRuns { runs, tokens } = taken;
        let mut tokens = tokens.drain(..);
        for run in runs.drain(..) {
            self.deliver_run(run, &mut tokens, receipts, at, writing, now);
        }
    }

    /// Settles the ops that have a node. Those without a side-table entry cost one counter update per flush epoch.
    fn deliver_nodes(
        &mut self,
        slots: &[u32],
        receipts: &mut impl Iterator<Item = R>,
        at: Timestamp,
        writing: u64,
        now: Timestamp,
    ) {
        let mut waited = WaitSums::default();
        let (mut epoch, mut count) = (0, 0);
        for (&slot, receipt) in slots.iter().zip(receipts) {
            let node = &self.nodes[slot];
            if node.has_cold {
                self.deliver(slot, receipt, at, writing, now);
                continue;
            }
            let (of, sent) = (node.epoch, node.at);
            if of != epoch {
                self.ledger.ended(epoch, End::Delivered, None, count);
                (epoch, count) = (of, 0);
            }
            count += 1;
            self.ledger.counters().waited(at.nanos_since(sent), writing, &mut waited);
            self.nodes.remove(slot);
            self.discard(receipt);
        }
        self.ledger.ended(epoch, End::Delivered, None, count);
        self.ledger.counters().time_all(&waited, writing);
    }

    pub(super) fn deliver(&mut self, slot: u32, receipt: R, at: Timestamp, writing: u64, now: Timestamp) {
        if self.nodes.history(slot).is_some() {
            self.record_attempt(slot, writing, false);
        }
        let (spent, held) = self.nodes.spent(slot, at, writing, now);
        self.ledger.counters().time_held(spent, held);
        let mut gone = self.remove_node(slot);
        gone.attempts = gone.attempts.max(1);
        self.settle_node(gone, End::Delivered, Ok(receipt), None, now);
    }

    fn lose(&mut self, slot: u32, error: &SinkError, now: Timestamp) {
        let gone = self.remove_node(slot);
        let attempts = gone.attempts;
        if let Some(op) = self.settle_node(gone, End::Lost, Err(AckError::Lost), Some(error), now) {
            self.outbox.dead_letter(op, error.clone(), attempts, End::Lost);
        }
    }

    fn time_node(&mut self, slot: u32, now: Timestamp) {
        let (spent, held) = self.nodes.spent(slot, now, 0, now);
        self.ledger.counters().time_held(spent, held);
    }

    /// Puts ops that are to be tried again back in front of their partition. It backs off, unless all of them were only
    /// part of a batch that is being split.
    pub(super) fn take_back(&mut self, id: u32, retries: &Retries, now: Timestamp) {
        let mut delay = Duration::ZERO;
        self.ledger.counters().retries += retries.failed + retries.held;
        let attempts = retries.slots.iter().map(|slot| self.nodes.attempts(*slot)).max().unwrap_or(1);
        if retries.failed > 0 {
            delay = self.policy.backoff.delay(attempts);
        }
        // A backoff beyond the clock's range is one for ever.
        let until = now.checked_add(delay).unwrap_or(Timestamp::END);
        let thawed = self.gate.frozen_until(now).unwrap_or(now);
        let backing_off = until.max(thawed).nanos_since(now);
        if retries.held > 0
            && let Some(notice) = &mut self.outbox.notices().outage
        {
            notice.ops += retries.held;
        }
        if let Some(error) = &retries.error {
            let pause = Duration::from_nanos(backing_off);
            self.outbox.notices().retry(retries.failed, attempts + 1, pause, error);
        }
        self.schedule.partitions_mut()[id].backing_off = (!delay.is_zero()).then_some(until);
        // The last goes first, so that each finds its place at the front.
        for slot in retries.slots.iter().rev() {
            self.ledger.queued(1);
            let history = self.nodes.history_mut(*slot);
            history.backing_off = history.backing_off.saturating_add(backing_off);
            self.reinsert(*slot, now);
        }
    }

    /// Puts one op back, merged with what has come in under its key meanwhile.
    fn reinsert(&mut self, slot: u32, now: Timestamp) {
        match self.meets_on_return(slot) {
            Err(error) => {
                self.ledger.dequeued(1);
                self.refuse_dequeued(slot, &error, now);
            }
            Ok(Found::Unkeyed) => self.requeue(slot),
            Ok(Found::Fresh) => {
                self.bind_conflation(slot);
                self.requeue(slot);
            }
            Ok(Found::At(newer)) => self.merge_returned(slot, newer, now),
        }
    }

    /// Which op waits under the key of one that comes back.
    fn meets_on_return(&mut self, slot: u32) -> Result<Found, SinkError> {
        let Some(conflate) = &mut self.rules.conflate else {
            return Ok(Found::Unkeyed);
        };
        let node = &self.nodes[slot];
        let found = panics::catch(|| conflate.index.find(node.partition, node.waiting_op()));
        found.map_err(|panic| self.caught("a stage", &*panic))
    }

    pub(super) fn requeue(&mut self, slot: u32) {
        self.insert(slot, true);
        self.list_victim(slot);
    }
}
