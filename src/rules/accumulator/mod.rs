//! [`Accumulator`]: the rules as one state machine. It knows what waits, merges, is due and is cut, and what becomes of a batch
//! that returns. `now` comes in, a deadline goes out, so that the actor and the stream can both drive it, and tests can step it.

mod admit;
mod arrivals;
mod conflate;
mod cut;
mod dedup;
mod evict;
mod fast_path;
mod finish;
mod gate;
mod notices;
mod outage;
mod partition;
mod schedule;
mod settle;
mod store;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use slab::Slab;

pub(crate) use arrivals::{Arrival, Arrivals, Run};
pub(crate) use cut::Cut;
pub(crate) use notices::{Notices, OutageNotice};
pub(crate) use settle::Written;

use crate::rules::{
    config::{
        limits::Limits,
        retry::{Backoff, Retry},
    },
    outcome::{Answer, DeadLetter, Returned},
    stage::Stages,
    stats::{
        Stats,
        counters::Counters,
        flush::{CompletedFlush, Flush, Flushes},
    },
    time::Timestamp,
};
use dedup::DedupWindow;
use evict::Victims;
use fast_path::FastPath;
use gate::Gate;
use partition::Partition;
use schedule::Schedule;
use store::Arena;

/// What a batcher does with an op that failed.
#[derive(Debug, Default)]
pub(crate) struct Policy {
    pub(crate) retry: Retry,
    /// What is ambiguous may be tried again.
    pub(crate) idempotent: bool,
    /// A batch that is refused as a whole is halved until the refused ops stand alone.
    pub(crate) bisect: bool,
}

/// See the module's text.
pub(crate) struct Accumulator<T, R> {
    rules: Stages<T>,
    limits: Limits,
    /// What limits and rules say, as far as it is looked at with each op.
    max_pending: usize,
    max_items: usize,
    max_weight: usize,
    has_rules: bool,
    /// No rule has anything to say of any op, ever: all wait in the fast path.
    is_plain: bool,
    backoff: Backoff,
    idempotent: bool,
    bisect: bool,

    /// Every op that is accepted and not settled, waiting or in flight, but for those of the fast path.
    nodes: Arena<T, R>,
    fast_path: FastPath<T, R>,
    partitions: Slab<Partition>,
    /// Those of which nothing waits, in the order in which they began to rest. Some may be in use again.
    resting: VecDeque<u32>,
    schedule: Schedule,
    dedup: DedupWindow<R>,
    victims: Option<Victims>,
    next_seq: u64,
    /// Batches begun so far.
    cuts: u64,
    /// Ops that are accepted and not settled, and those of them that wait.
    pending: usize,
    waiting: usize,
    batches_in_flight: usize,
    gate: Gate,

    flushes: Flushes,
    counters: Counters,
    /// Ops settled since the driver last asked: so much room is free again.
    settled: usize,
    letters: Vec<DeadLetter<T>>,
    notices: Notices,
    /// Ops given back, by their place in the order of arrival.
    returned: Vec<(u64, Returned<T>)>,
    /// Told by the driver, once the room and the statistics are up to date that callers may look at next.
    answers: Vec<Answer<R>>,
    /// The memory of batches that are settled, for the next ones.
    #[expect(clippy::vec_box, reason = "they move in and out of the writes, and are large")]
    spares: Vec<Box<Cut<T, R>>>,
}

/// The memory of so many batches is kept for the next ones.
const SPARES: usize = 64;

/// Ops for so many full batches are enough to choose from where they are spread over partitions.
const ENOUGH_BATCHES: usize = 4;

/// Room for so many of each is kept while there are none.
const MAX_RETAINED: usize = 2048;

impl<T, R: Clone> Accumulator<T, R> {
    pub(crate) fn new(rules: Stages<T>, limits: Limits, policy: Policy) -> Self {
        let victims = Victims::for_policy(limits.overflow);
        let mut partitions = Slab::new();
        if rules.partition.is_none() {
            partitions.insert(Partition::default());
        }
        Self {
            has_rules: !rules.asks_nothing_on_arrival(),
            is_plain: rules.asks_nothing() && victims.is_none(),
            rules,
            max_pending: limits.max_pending,
            max_items: limits.items(),
            max_weight: limits.weight(),
            limits,
            backoff: policy.retry.start(),
            idempotent: policy.idempotent,
            bisect: policy.bisect,
            nodes: Arena::new(),
            fast_path: FastPath::new(),
            partitions,
            resting: VecDeque::new(),
            schedule: Schedule::new(),
            dedup: DedupWindow::new(),
            victims,
            next_seq: 0,
            cuts: 0,
            pending: 0,
            waiting: 0,
            batches_in_flight: 0,
            gate: Gate::default(),
            flushes: Flushes::new(),
            counters: Counters::default(),
            settled: 0,
            letters: Vec::new(),
            notices: Notices::default(),
            returned: Vec::new(),
            answers: Vec::new(),
            spares: Vec::new(),
        }
    }

    /// Makes everything that was accepted so far due; `flush` is done when all of it is settled.
    pub(crate) fn flush(&mut self, flush: Flush) {
        self.schedule.flush_below = self.next_seq;
        self.flushes.flush(flush);
    }

    /// Flushes that are done.
    pub(crate) fn flushed(&mut self) -> Vec<CompletedFlush> {
        self.flushes.done()
    }

    /// Makes everything that waits due, since callers wait for room.
    pub(crate) fn press(&mut self) {
        self.schedule.pressure_below = self.next_seq;
    }

    /// Makes everything due, now and later.
    pub(crate) fn close(&mut self) {
        self.schedule.closing = true;
    }

    pub(crate) fn set_paused(&mut self, paused: bool) {
        self.gate.paused = paused;
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.gate.paused
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Obeys other limits from the next cut on.
    pub(crate) fn set_limits(&mut self, limits: Limits, now: Timestamp) {
        if limits.overflow != self.limits.overflow || limits.overflow.evicts() != self.victims.is_some() {
            self.set_victims(limits.overflow);
        }
        self.max_pending = limits.max_pending;
        (self.max_items, self.max_weight) = (limits.items(), limits.weight());
        self.limits = limits;
        self.press_if_full();
        // What is full or due by the new limits: few partitions at a time wait, and limits change rarely.
        let waiting: Vec<u32> = self.partitions.iter().map(|(id, _)| id as u32).collect();
        for id in waiting {
            // Forgetting one partition may have made room for another.
            if self.partitions.contains(id as usize) {
                self.reschedule(id, now);
            }
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        let in_flight = self.pending - self.waiting;
        let stats = self.counters.snapshot(self.waiting, in_flight, self.batches_in_flight);
        Stats { paused: self.gate.paused, in_outage: self.gate.is_in_outage(), ..stats }
    }

    pub(crate) fn counters(&mut self) -> &mut Counters {
        &mut self.counters
    }

    /// How much room was freed since it was last taken.
    pub(crate) fn settled(&self) -> usize {
        self.settled
    }

    pub(crate) fn take_settled(&mut self) -> usize {
        std::mem::take(&mut self.settled)
    }

    pub(crate) fn take_letters(&mut self) -> Vec<DeadLetter<T>> {
        std::mem::take(&mut self.letters)
    }

    /// Events since it was last called, for the log.
    pub(crate) fn take_notices(&mut self) -> Notices {
        std::mem::take(&mut self.notices)
    }

    /// Swaps what callers are to be told for the empty `into`.
    pub(crate) fn take_answers(&mut self, into: &mut Vec<Answer<R>>) {
        std::mem::swap(&mut self.answers, into);
    }

    /// Whether callers wait to be told something that is known.
    pub(crate) fn owes_answers(&self) -> bool {
        !self.answers.is_empty() || self.flushes.has_done()
    }

    /// Ops given back, in the order in which they came.
    pub(crate) fn take_returned(&mut self) -> Vec<Returned<T>> {
        let mut returned = std::mem::take(&mut self.returned);
        returned.sort_by_key(|(seq, _)| *seq);
        returned.into_iter().map(|(_, returned)| returned).collect()
    }

    /// Whether nothing waits and nothing is in flight.
    pub(crate) fn is_empty(&self) -> bool {
        self.pending == 0
    }

    /// Whether there is no hurry to take in more: the batch that goes next is full or, where ops are spread over
    /// partitions, a few times as many wait as it may hold. Even more would outgrow the caches of the CPU.
    pub(crate) fn has_enough(&self) -> bool {
        self.pending >= self.max_pending
            || self.next_due().is_some_and(|id| {
                self.waiting >= self.max_items.saturating_mul(ENOUGH_BATCHES) || self.queued(id) >= self.max_items
            })
    }

    /// Whether the sink said that a newer leader exists.
    pub(crate) fn is_fenced(&self) -> bool {
        self.gate.fenced
    }

    /// Keeps the memory of a batch for another one.
    fn keep(&mut self, settled: Box<Cut<T, R>>) {
        if self.spares.len() < SPARES {
            self.spares.push(settled);
        }
    }

    /// A full buffer never sits out its linger.
    fn press_if_full(&mut self) {
        if self.pending >= self.max_pending {
            self.press();
        }
    }
}

impl<T, R> Accumulator<T, R> {
    /// Whether the sink will take nothing any more: what waits can only be given back.
    pub(crate) fn is_stopped(&self) -> bool {
        self.gate.is_stopped()
    }

    /// Whether nothing can be cut before something comes back or a caller resumes.
    fn is_blocked(&self) -> bool {
        self.gate.is_shut() || self.batches_in_flight >= self.limits.max_in_flight
    }

    /// Whether it has memory that a burst has left behind.
    pub(crate) fn has_excess_capacity(&self) -> bool {
        let Self { nodes, fast_path, partitions, dedup, spares, .. } = self;
        (nodes.len() == 0 && nodes.capacity() > MAX_RETAINED)
            || (fast_path.is_empty() && fast_path.capacity() > MAX_RETAINED)
            || (dedup.is_empty() && dedup.capacity() > MAX_RETAINED)
            || self.answers.capacity() > MAX_RETAINED
            || (self.pending == 0 && dedup.is_empty() && partitions.capacity() > MAX_RETAINED)
            || spares.iter().any(|cut| cut.batch.capacity() > MAX_RETAINED)
    }

    /// Gives memory back that a burst has left behind. To be called by a driver that has nothing to do.
    pub(crate) fn shrink(&mut self) {
        self.spares = Vec::new();
        if self.answers.is_empty() {
            self.answers = Vec::new();
        }
        if self.nodes.len() == 0 {
            self.nodes = Arena::new();
            self.rules.conflate.iter_mut().for_each(|conflate| conflate.index.shrink());
        }
        if self.fast_path.is_empty() {
            self.fast_path = FastPath::new();
        }
        if self.dedup.is_empty() {
            self.dedup = DedupWindow::new();
            self.rules.dedup.iter_mut().for_each(|dedup| dedup.index.shrink());
        }
        self.forget_resting();
        if self.partitions.is_empty() {
            self.partitions = Slab::new();
            self.rules.partition.iter_mut().for_each(|index| index.shrink());
            self.schedule.shrink();
        }
    }
}
