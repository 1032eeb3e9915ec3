//! [`Actor`]: the task of a batcher. It owns the accumulator and the writes in progress, and holds no rule: it asks the
//! accumulator with `now` at each turn. `Batcher::spawn` runs it.

mod budget;
mod coalesce;
mod intake;
mod log;
mod shutdown;
mod write;
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
use coalesce::Company;
use shutdown::Closing;

use crate::{
    driver::{
        actor::{
            write::{Back, Destination, write},
            write_set::Writes,
        },
        clock,
        handle::{Handle, error::TrySendError},
        inbox::{Inbox, Taken},
        timer::Timer,
        worker::Summary,
    },
    rules::{
        accumulator::{Accumulator, Cut, Written},
        outcome::{Answer, DeadLetter},
        panics,
        stats::flush::Done,
        time::Moment,
    },
    sink::Sink,
};

/// Excess capacity is released only if fewer ops than this arrived since the task last waited.
const BUSY: usize = 256;

/// Capacity retained for answers.
const MOST_ANSWERS: usize = 2048;

/// Dead letters kept for the summary if no sink took them.
const MOST_LETTERS: usize = 65_536;

/// Where a batcher puts its dead letters.
pub(crate) enum Letters<T> {
    /// Nowhere: they are counted and logged.
    Dropped,
    /// Nowhere: they are counted, and logged at debug level. Something larger that the batcher is a part of speaks for it.
    Unwanted,
    /// Into a batcher of their own, so that a sink for them that is slow, fails or panics stalls nobody.
    Posted(Handle<DeadLetter<T>>),
    /// Into the summary: this is such a batcher itself.
    Kept,
}

/// Everything a batcher's task owns.
pub(crate) struct Actor<T, R: Clone, S> {
    pub(crate) name: Arc<str>,
    pub(crate) destination: Arc<Destination<S>>,
    pub(crate) inbox: Arc<Inbox<T, R>>,
    pub(crate) accumulator: Accumulator<T, R>,
    pub(crate) letters: Letters<T>,
    /// Drain and end when it is canceled.
    pub(crate) stop: CancellationToken,
    state: State<T, R>,
}

/// What the task remembers from turn to turn, besides what is in the accumulator.
struct State<T, R> {
    /// What was taken out of the inbox last.
    taken: Taken<T, R>,
    /// What callers are to be told at the end of the turn.
    answers: Vec<Answer<R>>,
    withdrawn: Vec<(oneshot::Sender<Vec<T>>, Vec<T>)>,
    /// Callers of `pause` and `resume`, whose wish is fulfilled.
    pausing: Vec<oneshot::Sender<()>>,
    /// Dead letters that nobody took, if they are to be kept.
    letters: Vec<DeadLetter<T>>,
    /// Set once intake is closed.
    closing: Option<Closing>,
    /// There is a summary: nothing can be lost any more.
    ended: bool,
}

impl<T, R> State<T, R> {
    fn new() -> Self {
        Self {
            taken: Taken::new(),
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
        accumulator: Accumulator<T, R>,
        letters: Letters<T>,
        stop: CancellationToken,
    ) -> Self {
        let destination = Destination { batcher: Arc::clone(&name), sink, abort: CancellationToken::new() };
        Self { name, destination: Arc::new(destination), inbox, accumulator, letters, stop, state: State::new() }
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
        let mut writes = Writes::new();
        let mut timer = Timer::new();
        let mut company = Company::new();
        let mut now = clock::now();
        let mut budget = Budget::new(now);
        // Ops drained since the task last waited.
        let mut came = 0;
        loop {
            let (count, yielded) = self.take_in(&mut now).await;
            budget.spend(count);
            came += count;
            if company.is_worth_a_look(count, yielded) {
                if !yielded {
                    self.let_others_run().await;
                    now = clock::now();
                }
                continue;
            }
            if self.is_overdue(now) {
                self.destination.abort.cancel();
            }
            let back = poll_fn(|cx| self.begin_writes(write, &mut writes, now, &mut budget, cx)).await;
            if let Some((cut, written)) = back {
                now = clock::now();
                self.settle(cut, written, now);
                if !budget.is_spent_at(now) {
                    self.tell_if_known();
                    continue;
                }
                budget.exhaust();
            }
            self.balance();
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
            self.tidy(came);
            timer.set(self.deadline(now));
            tokio::select! {
                // Arms that free permits and slots go first; the inbox, which takes permits, goes after them. The timer
                // is last, since each turn asks the clock anyway. Polling in order also costs less than at random.
                biased;
                Some((cut, written)) = poll_fn(|cx| writes.poll_next(cx)), if !writes.is_empty() => {
                    self.settle(cut, written, clock::now());
                }
                () = self.stop.cancelled(), if self.state.closing.is_none() => self.close(None, false),
                () = self.inbox.stirred() => {}
                () = timer.fired() => {}
            }
            now = clock::now();
            (budget, came) = (Budget::new(now), 0);
        }
        self.end().await
    }

    /// Gives memory back that a burst has left behind, if not much came since the task last waited: a burst may be one of
    /// many.
    fn tidy(&mut self, came: usize) {
        let has_excess = self.state.taken.has_excess()
            || self.accumulator.has_excess()
            || self.state.answers.capacity() > MOST_ANSWERS;
        if has_excess && came < BUSY {
            self.trim();
        }
    }

    fn trim(&mut self) {
        self.state.taken = Taken::new();
        self.state.answers = Vec::new();
        self.accumulator.trim();
        self.inbox.trim();
    }

    /// Cuts what is due, as long as there are slots. Ready with the first batch that has come back by then.
    fn begin_writes<F: Future<Output = Back<T, R>>>(
        &mut self,
        write: impl Fn(Arc<Destination<S>>, Box<Cut<T, R>>, Option<Duration>) -> F,
        writes: &mut Writes<F>,
        now: Moment,
        budget: &mut Budget,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Back<T, R>>> {
        while !budget.is_spent()
            && !self.is_overdue(now)
            && let Some(cut) = self.accumulator.cut(now)
        {
            budget.spend(cut.len());
            let limit = self.accumulator.limits().write_timeout;
            writes.begin(write(Arc::clone(&self.destination), cut, limit), cx);
        }
        match writes.poll_next(cx) {
            Poll::Ready(back) => Poll::Ready(back),
            Poll::Pending => Poll::Ready(None),
        }
    }

    /// Deals with a batch that has come back.
    fn settle(&mut self, cut: Box<Cut<T, R>>, written: Written, now: Moment) {
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

    /// Lets others run, and none of them wait for what is known already.
    async fn let_others_run(&mut self) {
        self.tell_if_known();
        tokio::task::yield_now().await;
    }

    fn tell_if_known(&mut self) {
        if self.accumulator.owes_answers() || !self.state.withdrawn.is_empty() || !self.state.pausing.is_empty() {
            self.balance();
        }
    }

    /// Gives back the room of what is settled, lets everybody see how things stand, and then answers: who has been
    /// answered finds the room, and statistics that know of it.
    fn balance(&mut self) {
        self.post_letters();
        log::notices(&self.name, &self.accumulator.take_notices());
        let done = self.accumulator.flushed();
        let stats = self.accumulator.stats();
        self.accumulator.counters().publish(&stats);
        self.inbox.balance(self.accumulator.take_settled(), stats);
        self.accumulator.take_answers(&mut self.state.answers);
        self.state.answers.drain(..).for_each(Answer::tell);
        for reply in self.state.pausing.drain(..) {
            // A caller who gave up has got what it asked for all the same.
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
            self.trim();
        }
        done.into_iter().for_each(Done::tell);
    }

    /// Hands this turn's dead letters on.
    fn post_letters(&mut self) {
        let letters = self.accumulator.take_letters();
        log::letters(&self.name, &letters, matches!(self.letters, Letters::Dropped));
        let mut lost = 0;
        for letter in letters {
            let left_over = match &self.letters {
                Letters::Dropped | Letters::Unwanted => {
                    drop(panics::discard(letter));
                    None
                }
                Letters::Posted(batcher) => batcher.try_send(letter).err().map(TrySendError::into_inner),
                Letters::Kept if self.state.letters.len() < MOST_LETTERS => {
                    self.state.letters.push(letter);
                    None
                }
                Letters::Kept => Some(letter),
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
