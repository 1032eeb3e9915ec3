//! Ends ops that leave the buffer without having been written: netted, expired, evicted, withdrawn, returned, refused. Each end
//! is counted once and answered once.

use super::{Accumulator, arrivals::Arrival, store::Cold};
use crate::rules::{
    batch::{ErrorKind, SinkError},
    outcome::{AckError, End, Outcome, Returned, Waiter, Waiters},
    panics,
    time::Timestamp,
};

/// The rest of an op whose slot is free again.
pub(super) struct Removed<T, A> {
    /// `None` if a merge has used it up, or a sink has it.
    op: Option<T>,
    epoch: u32,
    pub(super) attempts: u32,
    pub(super) in_doubt: bool,
    waiters: Waiters<A>,
}

/// Why an op is given up.
#[derive(Debug, Clone, Copy)]
pub(super) enum GivenUp {
    /// The destination refused it, or it can't be sent.
    Refused,
    /// Its retries are used up, or an outage has lasted too long.
    Exhausted,
}

impl<T, R: Clone, A> Accumulator<T, R, A> {
    /// Takes out every op that waits and satisfies the predicate.
    pub(crate) fn withdraw(&mut self, mut wanted: impl FnMut(&T) -> bool, now: Timestamp) -> Vec<T> {
        let mut gone = Vec::new();
        for slot in self.waiting_by_age() {
            match panics::catch(|| wanted(self.nodes[slot].waiting_op())) {
                Ok(true) => gone.extend(self.finish_queued(slot, End::Withdrawn, now)),
                Ok(false) => {}
                // An op about which the predicate can't tell stays where it is.
                Err(panic) => drop(self.caught("a predicate", &*panic)),
            }
        }
        self.discard(wanted);
        gone
    }

    /// The slots of all ops that wait, in the order in which they came. Afterwards each has a node of its own.
    pub(super) fn waiting_by_age(&mut self) -> Vec<u32> {
        if let Some(only) = self.schedule.partitions_mut().only_mut() {
            only.queue.materialize(&mut self.nodes, &self.rules.order);
        }
        let waiting = self.nodes.iter().filter(|(_, node)| node.op.is_some());
        let mut waiting: Vec<(u64, u32)> = waiting.map(|(slot, node)| (node.seq, slot)).collect();
        waiting.sort_unstable();
        waiting.into_iter().map(|(_, slot)| slot).collect()
    }

    /// Gives back everything that waits: the shutdown is over.
    pub(crate) fn return_waiting(&mut self, now: Timestamp) {
        for slot in self.waiting_by_age() {
            let id = self.nodes[slot].partition;
            self.dequeue(slot);
            self.return_op(slot, false, now);
            self.reschedule(id, now);
        }
    }

    /// Gives an op back that stands in no queue.
    pub(super) fn return_op(&mut self, slot: u32, in_flight: bool, now: Timestamp) {
        let seq = self.nodes[slot].seq;
        let gone = self.remove_node(slot);
        let in_doubt = in_flight || gone.in_doubt;
        let why = AckError::Returned { in_flight, in_doubt };
        if let Some(op) = self.settle_node(gone, End::Returned, Err(why), None, now) {
            self.outbox.give_back(seq, Returned::new(op, in_flight, in_doubt));
        }
    }

    /// Ends an op that stands in a queue. Gives it back, unless a merge has used it up.
    pub(super) fn finish_queued(&mut self, slot: u32, end: End, now: Timestamp) -> Option<T> {
        self.dequeue(slot);
        let id = self.nodes[slot].partition;
        let op = self.finish_dequeued(slot, end, now);
        self.reschedule_shortened(id, now);
        op
    }

    /// Ends an op that stands in no queue.
    pub(super) fn finish_dequeued(&mut self, slot: u32, end: End, now: Timestamp) -> Option<T> {
        let error = match end {
            End::Netted => AckError::Netted,
            End::Expired => AckError::Expired,
            End::Evicted => AckError::Evicted,
            End::Withdrawn => AckError::Withdrawn,
            _ => unreachable!("the other ends have ways of their own"),
        };
        let gone = self.remove_node(slot);
        if gone.in_doubt {
            return self.end_in_doubt(gone, end, now);
        }
        self.settle_node(gone, end, Err(error), None, now)
    }

    /// Ends an op that an earlier attempt may have landed: whatever kept it from being tried again, it is in doubt.
    fn end_in_doubt(&mut self, gone: Removed<T, A>, end: End, now: Timestamp) -> Option<T> {
        let error = SinkError::ambiguous(format!("an attempt may have landed before it was {end}"));
        let attempts = gone.attempts;
        let op = self.settle_node(gone, End::InDoubt, Err(AckError::InDoubt(error.clone())), Some(&error), now)?;
        if end == End::Withdrawn {
            return Some(op);
        }
        self.outbox.dead_letter(op, error, attempts, End::InDoubt);
        None
    }

    /// Refuses an op that stands in a queue.
    pub(super) fn refuse_queued(&mut self, slot: u32, error: &SinkError, now: Timestamp) {
        self.give_up_queued(slot, GivenUp::Refused, error, now);
    }

    /// Refuses an op that stands in no queue.
    pub(super) fn refuse_dequeued(&mut self, slot: u32, error: &SinkError, now: Timestamp) {
        self.give_up_dequeued(slot, GivenUp::Refused, error, now);
    }

    /// Gives up an op that stands in a queue.
    pub(super) fn give_up_queued(&mut self, slot: u32, why: GivenUp, error: &SinkError, now: Timestamp) {
        self.dequeue(slot);
        let id = self.nodes[slot].partition;
        self.give_up_dequeued(slot, why, error, now);
        self.reschedule_shortened(id, now);
    }

    /// Gives up an op that stands in no queue: a dead letter, unless a merge has used it up.
    pub(super) fn give_up_dequeued(&mut self, slot: u32, why: GivenUp, error: &SinkError, now: Timestamp) {
        let gone = self.remove_node(slot);
        let attempts = gone.attempts;
        // An attempt that may have landed makes it in doubt, whatever came after.
        let (end, why) = if gone.in_doubt {
            (End::InDoubt, AckError::InDoubt(error.clone()))
        } else {
            match why {
                GivenUp::Refused => (End::Refused, AckError::Refused(error.clone())),
                GivenUp::Exhausted => (End::Exhausted, AckError::Exhausted(error.clone())),
            }
        };
        if let Some(op) = self.settle_node(gone, end, Err(why), Some(error), now) {
            self.outbox.dead_letter(op, error.clone(), attempts, end);
        }
    }

    /// Takes a waiting op out of its queue and out of reach of merges. Its partition has to be placed afterwards.
    pub(super) fn dequeue(&mut self, slot: u32) {
        let id = self.nodes[slot].partition;
        self.schedule.queue_mut(id).remove(&mut self.nodes, slot);
        self.ledger.dequeued(1);
        self.unlink_key(slot);
    }

    /// Frees the slot of an op that stands in no queue.
    pub(super) fn remove_node(&mut self, slot: u32) -> Removed<T, A> {
        let node = &mut self.nodes[slot];
        let (op, epoch) = (node.op.take(), node.epoch);
        let Cold { waiters, history, .. } = self.nodes.take_cold(slot);
        let (attempts, in_doubt) = history.map_or((0, false), |history| (history.attempts, history.in_doubt));
        self.nodes.remove(slot);
        Removed { op, epoch, attempts, in_doubt, waiters }
    }

    /// Counts an op's end and tells its callers.
    pub(super) fn settle_node(
        &mut self,
        gone: Removed<T, A>,
        end: End,
        result: Result<R, AckError>,
        error: Option<&SinkError>,
        now: Timestamp,
    ) -> Option<T> {
        self.ledger.ended(gone.epoch, end, error, 1);
        self.answer(gone.waiters, end, gone.attempts, result, now);
        gone.op
    }

    /// Prepares the answers to all who wait for an op. The last one gets the result itself, the others copies.
    pub(super) fn answer(
        &mut self,
        waiters: Waiters<A>,
        end: End,
        attempts: u32,
        result: Result<R, AckError>,
        now: Timestamp,
    ) {
        let last = match waiters {
            Waiters::None => return self.discard(result),
            Waiters::One(waiter) => waiter,
            Waiters::Many(many) => {
                let mut all = many.into_all();
                let Some(last) = all.pop() else { return self.discard(result) };
                for waiter in all {
                    let copy = self.copied(panics::catch(|| result.clone()));
                    self.answer_one(waiter, end, attempts, copy, now);
                }
                last
            }
        };
        self.answer_one(last, end, attempts, result, now);
    }

    fn answer_one(&mut self, to: Waiter<A>, end: End, attempts: u32, result: Result<R, AckError>, now: Timestamp) {
        match to {
            Waiter::Caller { token, sent_at, ended } => {
                let (end, latency) = (ended.unwrap_or(end), now.since(sent_at));
                self.outbox.answer(token, Outcome { result, end, attempts, latency });
            }
            Waiter::DedupKey(key) => self.complete_key(key, attempts, result),
        }
    }

    /// The copy of a result. If cloning its receipt has panicked, the caller is told that the op may have landed, and never
    /// that it was lost.
    pub(super) fn copied(
        &mut self,
        copy: Result<Result<R, AckError>, Box<dyn std::any::Any + Send>>,
    ) -> Result<R, AckError> {
        copy.unwrap_or_else(|panic| {
            let error = self.caught("cloning a receipt", &*panic).with_kind(ErrorKind::Ambiguous);
            Err(AckError::InDoubt(error))
        })
    }

    /// Drops a value of the user. A panic in its destructor is counted, and ends here.
    #[inline]
    pub(super) fn discard<V>(&mut self, value: V) {
        if let Err(panic) = panics::discard(value) {
            drop(self.caught("a destructor", &*panic));
        }
    }

    /// Counts a panic of a function of the user, and remembers what it said for the log.
    pub(super) fn caught(&mut self, what: &str, panic: &(dyn std::any::Any + Send)) -> SinkError {
        self.ledger.counters().panics += 1;
        self.outbox.panicked(what, panic)
    }

    /// A function of the user panicked over an op that has not been queued yet.
    pub(super) fn refuse_arrival(
        &mut self,
        arrival: Arrival<T, A>,
        epoch: u32,
        panic: &(dyn std::any::Any + Send),
        now: Timestamp,
    ) {
        let error = self.caught("a stage", panic);
        self.ledger.ended(epoch, End::Refused, Some(&error), 1);
        let waiters = Waiters::of(arrival.token, arrival.at);
        self.answer(waiters, End::Refused, 0, Err(AckError::Refused(error.clone())), now);
        self.outbox.dead_letter(arrival.op, error, 0, End::Refused);
    }
}
