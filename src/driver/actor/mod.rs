//! [`Actor`]: the task of a batcher. It owns the accumulator and the writes in progress, and holds no rule: it asks the
//! accumulator with `now` at each turn. `Batcher::spawn` runs it.

mod budget;
mod coalesce;
mod intake;
pub(crate) mod log;
mod shutdown;
pub(crate) mod write;
mod write_set;

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use budget::Budget;
use coalesce::Coalescer;
use shutdown::Closing;

use crate::{
    driver::{
        actor::{
            write::{Completed, Destination, write},
            write_set::WriteSet,
        },
        clock,
        handle::{Handle, error::TrySendError},
        inbox::{Drained, Inbox},
        reply::{self, AckSender},
        timer::Timer,
        worker::Summary,
    },
    rules::{
        accumulator::{Accumulator, Cut, Written},
        config::limits::Limits,
        outcome::{Answer, DeadLetter},
        panics,
        stats::flush::CompletedFlush,
        time::Timestamp,
    },
    sink::Sink,
};

/// Excess capacity is released only if fewer ops than this arrived since the task last waited.
const BUSY: usize = 256;

/// Capacity retained for answers.
const MAX_RETAINED_ANSWERS: usize = 2048;

/// Dead letters kept for the summary if no sink took them.
const MAX_DEAD_LETTERS: usize = 65_536;

/// Where a batcher puts its dead letters.
pub(crate) enum DeadLetterRoute<T> {
    /// Nowhere: they are counted and logged.
    Discard,
    /// Nowhere: they are counted, and logged at debug level. Something larger that the batcher is a part of speaks for it.
    Decline,
    /// Into a batcher of their own, so that a sink for them that is slow, fails or panics stalls no other op.
    Forward(Handle<DeadLetter<T>>),
    /// Into the summary: this is such a batcher itself.
    Collect,
}

/// Everything a batcher's task owns.
pub(crate) struct Actor<T, R: Clone, S> {
    pub(crate) name: Arc<str>,
    pub(crate) destination: Arc<Destination<S>>,
    pub(crate) inbox: Arc<Inbox<T, R>>,
    pub(crate) accumulator: Accumulator<T, R, AckSender<R>>,
    limits: Limits,
    pub(crate) letters: DeadLetterRoute<T>,
    /// Drain and end when it is canceled.
    pub(crate) stop: CancellationToken,
    state: State<T, R>,
}

/// State that the task keeps from turn to turn, besides the accumulator.
struct State<T, R> {
    /// The ops and commands that were drained from the inbox last.
    drained: Drained<T, R>,
    /// Answers that are given at the end of the turn.
    answers: Vec<Answer<AckSender<R>, R>>,
    withdrawn: Vec<(oneshot::Sender<Vec<T>>, Vec<T>)>,
    /// Callers of `pause` and `resume`, whose wish is fulfilled.
    pausing: Vec<oneshot::Sender<()>>,
    /// Dead letters that no sink took, if they are to be kept.
    letters: Vec<DeadLetter<T>>,
    /// Set once intake is closed.
    closing: Option<Closing>,
    /// There is a summary: nothing can be lost any more.
    ended: bool,
}

impl<T, R> State<T, R> {
    fn new() -> Self {
        Self {
            drained: Drained::new(),
            answers: Vec::new(),
            withdrawn: Vec::new(),
            pausing: Vec::new(),
            letters: Vec::new(),
            closing: None,
            ended: false,
        }
    }
}

impl<T, R, S> Actor<T, R, S>
where
    T: Send + 'static,
    R: Clone + Send + 'static,
    S: Sink<T, R>,
{
    pub(crate) fn new(
        name: Arc<str>,
        sink: S,
        inbox: Arc<Inbox<T, R>>,
        accumulator: Accumulator<T, R, AckSender<R>>,
        limits: Limits,
        letters: DeadLetterRoute<T>,
        stop: CancellationToken,
    ) -> Self {
        let destination = Destination { batcher: Arc::clone(&name), sink, abort: CancellationToken::new() };
        Self {
            name,
            destination: Arc::new(destination),
            inbox,
            accumulator,
            limits,
            letters,
            stop,
            state: State::new(),
        }
    }

    /// Runs until the batcher is closed and drained, or its time is over.
    ///
    /// A turn does, in this order:
    ///
    /// 1. drains the inbox, so that an op is superseded, netted or withdrawn by all that was sent before it is cut;
    /// 2. polls the inbox once more where callers come together, and begins anew if there was something;
    /// 3. gives writes up whose shutdown is over;
    /// 4. cuts what is due, as far as slots and budget go, and polls the writes: one that has completed is settled, and the
    ///    turn begins anew, since a sink that completes at once takes the next batch in the same turn;
    /// 5. publishes: permits, statistics, acks, flushes, dead letters, log;
    /// 6. ends if there is nothing left to do;
    /// 7. yields if the budget is spent; else releases excess memory, sets the timer and waits for whatever comes first: a
    ///    completed write, a stop, a push into the inbox, the timer.
    pub(crate) async fn run(mut self) -> Summary<T> {
        let mut writes = WriteSet::new();
        let mut timer = Timer::new();
        let mut coalescer = Coalescer::new();
        let mut now = clock::now();
        let mut budget = Budget::new(now);
        // Ops drained since the task last waited.
        let mut came = 0;
        loop {
            let (count, yielded) = self.drain_inbox(&mut now).await;
            budget.spend(count);
            came += count;
            if coalescer.should_poll_again(count, yielded) {
                if !yielded {
                    self.yield_now().await;
                    now = clock::now();
                }
                continue;
            }
            if self.deadline_passed(now) {
                self.destination.abort.cancel();
            }
            let back = poll_fn(|cx| self.begin_writes(write, &mut writes, now, &mut budget, cx)).await;
            if let Some((cut, written)) = back {
                now = clock::now();
                self.settle(cut, written, now);
                if !budget.is_spent_at(now) {
                    self.publish_if_any();
                    continue;
                }
                budget.exhaust();
            }
            self.publish_results();
            if self.is_done(writes.is_empty(), now) {
                break;
            }
            if budget.is_spent() {
                tokio::task::yield_now().await;
                if self.stop.is_cancelled() {
                    self.close(None, false);
                }
                now = clock::now();
                budget = Budget::new(now);
                continue;
            }
            self.release_excess_memory(came);
            timer.set(self.deadline(now));
            tokio::select! {
                // Arms that free permits and slots go first; the inbox, which takes permits, goes after them. The timer
                // is last, since each turn asks the clock anyway. Polling in order also costs less than at random.
                biased;
                Some((cut, written)) = poll_fn(|cx| writes.poll_next(cx)), if !writes.is_empty() => {
                    self.settle(cut, written, clock::now());
                }
                () = self.stop.cancelled(), if self.state.closing.is_none() => self.close(None, false),
                () = self.inbox.readable() => {}
                () = timer.fired() => {}
            }
            now = clock::now();
            (budget, came) = (Budget::new(now), 0);
        }
        self.end().await
    }

    /// Releases memory that a burst has left behind, unless many ops arrived since the task last waited: a burst may be
    /// one of many.
    fn release_excess_memory(&mut self, came: usize) {
        let has_excess_capacity = self.state.drained.has_excess_capacity()
            || self.accumulator.has_excess_capacity()
            || self.state.answers.capacity() > MAX_RETAINED_ANSWERS;
        if has_excess_capacity && came < BUSY {
            self.shrink();
        }
    }

    fn shrink(&mut self) {
        self.state.drained = Drained::new();
        self.state.answers = Vec::new();
        self.accumulator.shrink();
        self.inbox.shrink();
    }

    /// Cuts what is due, as long as there are slots. Ready with the first batch that has come back by then.
    fn begin_writes<F: Future<Output = Completed<T, R, AckSender<R>>>>(
        &mut self,
        write: impl Fn(Arc<Destination<S>>, Box<Cut<T, R, AckSender<R>>>, Option<Duration>) -> F,
        writes: &mut WriteSet<F>,
        now: Timestamp,
        budget: &mut Budget,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Completed<T, R, AckSender<R>>>> {
        while !budget.is_spent()
            && !self.deadline_passed(now)
            && let Some(cut) = self.accumulator.cut(now)
        {
            budget.spend(cut.len());
            let limit = self.limits.write_timeout;
            writes.begin(write(Arc::clone(&self.destination), cut, limit), cx);
        }
        match writes.poll_next(cx) {
            Poll::Ready(back) => Poll::Ready(back),
            Poll::Pending => Poll::Ready(None),
        }
    }

    /// Deals with a batch that has come back.
    fn settle(&mut self, cut: Box<Cut<T, R, AckSender<R>>>, written: Written, now: Timestamp) {
        self.accumulator.settle(cut, written, now);
        if self.accumulator.is_stopped() && self.state.closing.is_none() {
            if self.accumulator.is_fenced() {
                warn!(batcher = %self.name, "fenced by a newer leader");
            } else {
                debug!(batcher = %self.name, "the peer has left");
            }
            self.close(None, false);
        }
    }

    /// Publishes what is known, and lets other tasks run.
    async fn yield_now(&mut self) {
        self.publish_if_any();
        tokio::task::yield_now().await;
    }

    fn publish_if_any(&mut self) {
        if self.accumulator.owes_answers() || !self.state.withdrawn.is_empty() || !self.state.pausing.is_empty() {
            self.publish_results();
        }
    }

    /// Publishes a turn's results: releases permits, publishes `Stats`, then completes acks and flushes. In this order, so
    /// that a caller who sees its ack also sees the permit and the statistics.
    fn publish_results(&mut self) {
        self.route_dead_letters();
        if let Some(notices) = self.accumulator.take_notices() {
            log::notices(&self.name, &notices);
        }
        let done = self.accumulator.flushed();
        let stats = self.accumulator.stats();
        self.accumulator.counters().publish(&stats);
        self.inbox.publish(self.accumulator.take_settled(), stats);
        self.accumulator.take_answers(&mut self.state.answers);
        self.state.answers.drain(..).for_each(reply::tell);
        for reply in self.state.pausing.drain(..) {
            // The pause is in force, even if the caller gave up.
            let _ = reply.send(());
        }
        for (reply, ops) in self.state.withdrawn.drain(..) {
            // Withdrawn is withdrawn, even if the caller gave up just now.
            if let Err(mut ops) = reply.send(ops) {
                drop(panics::discard_all(&mut ops));
            }
        }
        if !done.is_empty() && self.accumulator.is_empty() {
            // A flush usually ends a burst; release its memory now.
            self.shrink();
        }
        done.into_iter().for_each(CompletedFlush::tell);
    }

    /// Hands this turn's dead letters on.
    fn route_dead_letters(&mut self) {
        let letters = self.accumulator.take_letters();
        log::letters(&self.name, &letters, matches!(self.letters, DeadLetterRoute::Discard));
        let mut lost = 0;
        for letter in letters {
            let left_over = match &self.letters {
                DeadLetterRoute::Discard | DeadLetterRoute::Decline => {
                    drop(panics::discard(letter));
                    None
                }
                DeadLetterRoute::Forward(batcher) => batcher.try_send(letter).err().map(TrySendError::into_inner),
                DeadLetterRoute::Collect if self.state.letters.len() < MAX_DEAD_LETTERS => {
                    self.state.letters.push(letter);
                    None
                }
                DeadLetterRoute::Collect => Some(letter),
            };
            lost += u64::from(left_over.is_some());
            drop(panics::discard(left_over));
        }
        if lost > 0 {
            self.accumulator.counters().dead_letters_lost += lost;
            log::letters_lost(&self.name, lost);
        }
    }
}
