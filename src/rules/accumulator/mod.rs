//! [`Accumulator`]: the rules as one state machine. It knows what waits, merges, is due and is cut, and what becomes of a batch
//! that returns. `now` comes in, a deadline goes out, so that the actor and the stream can both drive it, and tests can step it.
//!
//! Its state has owners, each with an invariant of its own, and a file per thing that happens to an op:
//!
//! | owner | invariant |
//! |---|---|
//! | [`Ledger`] | an accepted op is pending until it has ended, and waits or is in flight meanwhile |
//! | [`Outbox`] | what has been decided is kept until the driver has taken it |
//! | [`Caps`] | says what the limits say that were set last |
//! | [`Gate`] | is shut while no batch may be cut at all |
//! | [`BatchSize`] | is the largest batch that the destination is known to take, within the limit |
//! | [`Budget`] | charges a batch in every bucket of the quota, or in none, before it leaves |
//! | [`Arena`] | an op with a node keeps its slot from accept to end |
//! | [`Schedule`] | a partition stands where its queue, its backoff and its flight say |
//! | [`DedupWindow`] | a key is known from its first op until its window is over and that op has ended |
//! | [`Victims`] | lists every op that waits, while the policy evicts |

mod admit;
mod arrivals;
mod caps;
mod conflate;
mod cut;
mod dedup;
mod evict;
mod finish;
mod gate;
mod ledger;
mod memory;
mod notices;
mod outage;
mod outbox;
mod partition;
mod plain;
mod quota;
mod resize;
mod schedule;
#[cfg(feature = "durable")]
mod second_look;
mod settle;
mod store;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use arrivals::{Arrival, Arrivals, Run};
pub(crate) use cut::Cut;
pub(crate) use notices::{CapNotices, Notices, OutageNotice};
pub(crate) use settle::Written;

use crate::rules::{
    adaptive::BatchSize,
    config::{limits::Limits, retry::Backoff},
    outcome::{Answer, DeadLetter, Returned},
    quota::Budget,
    stage::Stages,
    stats::{
        Stats,
        counters::Counters,
        flush::{CompletedFlush, Flush},
    },
    time::Timestamp,
};
use caps::Caps;
use dedup::DedupWindow;
use evict::Victims;
use gate::Gate;
use ledger::Ledger;
use outbox::Outbox;
use partition::MAX_IDLE;
use schedule::{Schedule, View};
use store::{Arena, Queue};

/// Decides what becomes of an op that failed.
#[derive(Debug, Default)]
pub(crate) struct Policy {
    pub(crate) backoff: Backoff,
    /// An op whose write was ambiguous may be tried again.
    pub(crate) idempotent: bool,
    /// An op without a verdict has not landed, since it is known otherwise what has.
    pub(crate) is_certain: bool,
    /// A batch that is refused as a whole is halved until the refused ops stand alone.
    pub(crate) bisect: bool,
    /// Ops in a page of the destination, if it has pages.
    pub(crate) page: Option<usize>,
}

/// The way of an op into the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Intake {
    /// The fast path: no stage has anything to say of any op, ever, and no op is evicted.
    Plain,
    /// No stage is asked as an op comes.
    Unasked,
    Asked,
}

/// See the module's text. `A` is a token that may ride with an op: it is handed back with the op's end, whatever that is.
pub(crate) struct Accumulator<T, R, A> {
    rules: Stages<T>,
    intake: Intake,
    caps: Caps,
    policy: Policy,
    /// Every op that is accepted and has not ended, waiting or in flight, but for those of the fast path.
    nodes: Arena<T, A>,
    schedule: Schedule<T, A>,
    dedup: DedupWindow<R>,
    /// `None` unless the policy evicts.
    victims: Option<Victims>,
    gate: Gate,
    size: BatchSize,
    quota: Option<Box<Budget<T>>>,
    ledger: Ledger,
    outbox: Outbox<T, R, A>,
    /// The memory of batches that are settled, for the next ones.
    #[expect(clippy::vec_box, reason = "they move in and out of the writes, and are large")]
    spares: Vec<Box<Cut<T, R, A>>>,
}

/// Ops for so many full batches are enough to choose from where they are spread over partitions.
const ENOUGH_BATCHES: usize = 4;

impl<T, R: Clone, A> Accumulator<T, R, A> {
    pub(crate) fn new(rules: Stages<T>, limits: &Limits, policy: Policy) -> Self {
        let victims = Victims::for_policy(limits.overflow);
        let mut schedule = Schedule::new();
        if rules.partition.is_none() {
            let queue = if rules.asks_nothing() { Queue::with_fast_path() } else { Queue::default() };
            schedule.partitions_mut().add_only(queue);
        }
        let size = BatchSize::new(limits);
        let mut accumulator = Self {
            rules,
            intake: Intake::Asked,
            caps: Caps { items: size.cap(), ..limits.into() },
            policy,
            nodes: Arena::new(),
            schedule,
            dedup: DedupWindow::new(),
            victims,
            gate: Gate::default(),
            size,
            quota: None,
            ledger: Ledger::new(),
            outbox: Outbox::default(),
            spares: Vec::new(),
        };
        accumulator.choose_intake();
        accumulator
    }

    pub(crate) fn stages(&self) -> &Stages<T> {
        &self.rules
    }

    /// The stages as they were given, to change them. No op has come yet.
    pub(crate) fn into_stages(self) -> Stages<T> {
        debug_assert_eq!(self.ledger.stats().accepted, 0, "the tables of the stages name ops");
        self.rules
    }

    fn choose_intake(&mut self) {
        self.intake = match &self.rules {
            rules if rules.asks_nothing() && self.victims.is_none() && self.quota.is_none() => Intake::Plain,
            rules if rules.asks_nothing_on_arrival() => Intake::Unasked,
            _ => Intake::Asked,
        };
    }

    /// Makes everything that was accepted so far due; `flush` is done when all of it has ended.
    pub(crate) fn flush(&mut self, flush: Flush) {
        self.schedule.flush_below(self.ledger.next_seq());
        self.ledger.flush(flush);
    }

    /// Flushes that are done.
    pub(crate) fn flushed(&mut self) -> Vec<CompletedFlush> {
        self.ledger.completed_flushes()
    }

    /// Makes everything that waits due, since callers wait for permits.
    pub(crate) fn press(&mut self) {
        self.schedule.press_below(self.ledger.next_seq());
    }

    /// Whether as many ops are pending as may be.
    pub(crate) fn is_full(&self) -> bool {
        self.ledger.pending() >= self.caps.pending
    }

    /// A full buffer never sits out its linger.
    fn press_if_full(&mut self) {
        if self.is_full() {
            self.press();
        }
    }

    /// Makes everything due, now and later.
    pub(crate) fn close(&mut self) {
        self.schedule.close();
    }

    pub(crate) fn set_paused(&mut self, paused: bool) {
        self.gate.paused = paused;
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.gate.paused
    }

    /// Obeys other limits from the next cut on.
    pub(crate) fn set_limits(&mut self, limits: &Limits, now: Timestamp) {
        // An op that was to evict another may have changed the policy already.
        if limits.overflow != self.caps.overflow || limits.overflow.evicts() != self.victims.is_some() {
            self.set_victims(limits.overflow);
        }
        self.size.set_limits(limits);
        self.caps = Caps { items: self.size.cap(), ..limits.into() };
        self.press_if_full();
        self.reschedule_all(now);
    }

    pub(crate) fn stats(&self) -> Stats {
        let (paused, in_outage) = (self.gate.paused, self.gate.is_in_outage());
        let (max_pending, size) = (self.caps.pending as u64, self.size.stats());
        let quota = self.quota.as_ref().map(|quota| quota.stats(self.ledger.quota_time())).unwrap_or_default();
        Stats { paused, in_outage, max_pending, size, quota, ..self.ledger.stats() }
    }

    pub(crate) fn counters(&mut self) -> &mut Counters {
        self.ledger.counters()
    }

    /// How many permits were freed since they were last taken.
    pub(crate) fn settled(&self) -> usize {
        self.ledger.settled()
    }

    pub(crate) fn take_settled(&mut self) -> usize {
        self.ledger.take_settled()
    }

    pub(crate) fn take_letters(&mut self) -> Vec<DeadLetter<T>> {
        self.outbox.take_letters()
    }

    /// Events since it was last called, for the log.
    pub(crate) fn take_notices(&mut self) -> Option<Box<Notices>> {
        self.outbox.take_notices()
    }

    /// Swaps the tokens of ops that have ended for the empty `into`.
    pub(crate) fn take_answers(&mut self, into: &mut Vec<Answer<A, R>>) {
        self.outbox.take_answers(into);
    }

    /// Whether callers wait to be told something that is known.
    pub(crate) fn owes_answers(&self) -> bool {
        self.outbox.has_answers() || self.ledger.has_completed_flushes()
    }

    /// Ops given back, in the order in which they came.
    pub(crate) fn take_returned(&mut self) -> Vec<Returned<T>> {
        self.outbox.take_returned()
    }

    /// Whether nothing waits and nothing is in flight.
    pub(crate) fn is_empty(&self) -> bool {
        self.ledger.pending() == 0
    }

    /// Whether there is no hurry to take in more: the batch that goes next is full or, where ops are spread over
    /// partitions, a few times as many wait as it may hold. Even more would outgrow the caches of the CPU.
    pub(crate) fn has_enough(&self) -> bool {
        let items = self.caps.items;
        self.is_full()
            || self.schedule.next_due().is_some_and(|id| {
                self.ledger.waiting() >= items.saturating_mul(ENOUGH_BATCHES) || self.schedule.queue(id).len() >= items
            })
    }

    /// Whether the sink said that a newer leader exists.
    pub(crate) fn is_fenced(&self) -> bool {
        self.gate.fenced
    }

    /// When to call [`cut`](Self::cut) again if nothing else happens before; `None` if never. That nothing is cut
    /// while no slot is free needs no timer.
    pub(crate) fn deadline(&self, now: Timestamp) -> Option<Timestamp> {
        if self.is_blocked() || self.ledger.waiting() == 0 {
            return None;
        }
        if let Some(until) = self.gate.frozen_until(now) {
            return Some(until);
        }
        if self.schedule.next_due().is_some() {
            return Some(self.quota.as_ref().and_then(|quota| quota.closed_until(now)).unwrap_or(now));
        }
        self.schedule.next_look(&self.caps)
    }
}

impl<T, R, A> Accumulator<T, R, A> {
    /// Puts a partition where it belongs by now. To be called whenever its state has changed.
    fn reschedule(&mut self, id: u32, now: Timestamp) {
        let (schedule, view) = self.scheduling();
        schedule.reschedule(id, &view, now);
        if schedule.partitions().has_surplus() {
            self.forget_idle(MAX_IDLE);
        }
    }

    /// The same, after an op has ended that waited.
    fn reschedule_shortened(&mut self, id: u32, now: Timestamp)
    where
        R: Clone,
    {
        self.reschedule(id, now);
        self.release_saved(id, false, now);
    }

    /// Orders a partition that is due anew, since a better op may have joined it.
    fn reorder_due(&mut self, id: u32, now: Timestamp) {
        let (schedule, view) = self.scheduling();
        schedule.reorder_due(id, &view, now);
    }

    /// The schedule, and what it looks at besides.
    #[inline]
    fn scheduling(&mut self) -> (&mut Schedule<T, A>, View<'_, T, A>) {
        let Self { schedule, nodes, rules, caps, ledger, .. } = self;
        let (order, together, next_seq) = (&rules.order, rules.together, ledger.next_seq());
        (schedule, View { nodes, order, caps, together, next_seq })
    }

    /// Forgets idle partitions until so many are left.
    #[cold]
    fn forget_idle(&mut self, keep: usize) {
        self.schedule.partitions_mut().forget_idle(keep, |hash, id| {
            if let Some(index) = &mut self.rules.partition {
                index.unbind(hash, id);
            }
        });
    }

    /// Whether the sink will take nothing any more: what waits can only be given back.
    pub(crate) fn is_stopped(&self) -> bool {
        self.gate.is_stopped()
    }

    /// Whether nothing can be cut before something comes back or a caller resumes.
    fn is_blocked(&self) -> bool {
        self.gate.is_shut() || self.ledger.batches_in_flight() >= self.caps.in_flight
    }
}
