//! The loop of a batcher's task. In come commands, finished writes and the passing of time; out go writes, answers and
//! statistics. It holds no rules: those are in `accumulator`, which it asks with `now` at each turn. Next room: `write`,
//! and the sink.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
    vec,
};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::{
    accumulator::{Accumulator, Cut, Written},
    ack::Answer,
    command::{Command, News, Run, Stop},
    dead_letter::DeadLetter,
    flush::Done,
    inbox::{Inbox, Taken},
    letters::Letters,
    limits::Limits,
    moment::Moment,
    sink::Sink,
    timer::Timer,
    worker::Summary,
    write::{close, write},
    writes::Writes,
};

/// So much is dealt with before the task lets others run: some 100 microseconds, and more than a sender sends before it
/// does the same.
const WORK_PER_TURN: usize = 8192;

/// Memory that a burst has left behind is given back when fewer ops than these have come in since the task last waited.
const BUSY: usize = 256;

/// So many dead letters that nobody took are kept for the summary.
const MOST_LETTERS: usize = 65_536;

/// Everything a batcher's task owns.
pub(crate) struct Actor<T, R: Clone, S> {
    pub(crate) name: Arc<str>,
    pub(crate) sink: Arc<S>,
    pub(crate) inbox: Arc<Inbox<T, R>>,
    pub(crate) accumulator: Accumulator<T, R>,
    pub(crate) letters: Letters<T>,
    /// Drain and end when it is canceled.
    pub(crate) stop: CancellationToken,
    state: State<T, R>,
}

/// What the task remembers from turn to turn, besides what is in the accumulator.
struct State<T, R> {
    /// What callers are to be told at the end of the turn.
    answers: Vec<Answer<R>>,
    withdrawn: Vec<(oneshot::Sender<Vec<T>>, Vec<T>)>,
    /// Dead letters that nobody took, if they are to be kept.
    letters: Vec<DeadLetter<T>>,
    /// Set once intake is closed.
    closing: Option<Closing>,
    /// There is a summary: nothing can be lost any more.
    ended: bool,
}

impl<T, R> State<T, R> {
    fn new() -> Self {
        Self { answers: Vec::new(), withdrawn: Vec::new(), letters: Vec::new(), closing: None, ended: false }
    }
}

#[derive(Clone, Copy)]
struct Closing {
    /// `None`: the drain may take for ever.
    deadline: Option<Moment>,
    /// Nobody is left who could resume a paused batcher.
    deserted: bool,
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
        Self { name, sink: Arc::new(sink), inbox, accumulator, letters, stop, state: State::new() }
    }

    /// Runs until the batcher is closed and drained, or its time is over.
    ///
    /// Each turn takes in all there is before it decides what to cut, so that an op is superseded, netted or withdrawn
    /// by whatever was sent before the sink could take it. Then it waits for whatever comes first.
    pub(crate) async fn run(mut self) -> Summary<T> {
        let mut writes = Writes::new();
        let abort = CancellationToken::new();
        let mut timer = Timer::new();
        let mut taken = Taken::new();
        // Ops dealt with since the task let others run, and taken in since it waited.
        let (mut work, mut came) = (0, 0);
        let mut looked_twice = false;
        let mut now = Moment::now();
        loop {
            let count = self.take_in(&mut taken, now).await;
            (work, came) = (work + count, came + count);
            if count > 1 && !looked_twice {
                looked_twice = true;
                tokio::task::yield_now().await;
                continue;
            }
            looked_twice = false;
            if self.is_overdue(now) {
                abort.cancel();
            }
            let back = poll_fn(|cx| self.begin_writes(&mut writes, &abort, now, cx)).await;
            if let Some((cut, written)) = back {
                now = Moment::now();
                work += self.settle(cut, written, now);
                if work < WORK_PER_TURN {
                    // A sink that takes a batch at once takes the next one in the same turn.
                    continue;
                }
            }
            self.balance();
            if self.is_done(writes.is_empty(), now) {
                break;
            }
            if work >= WORK_PER_TURN {
                work = 0;
                tokio::task::yield_now().await;
            }
            let quiet = came < BUSY;
            if quiet && (taken.has_excess() || self.accumulator.has_excess()) {
                taken = Taken::new();
                self.accumulator.trim();
            }
            timer.set(self.deadline(now));
            tokio::select! {
                // What frees room and slots goes first, what takes room goes last but for the clock, which each turn
                // looks at anyway. Polling in order also costs less than at random.
                biased;
                Some((cut, written)) = poll_fn(|cx| writes.poll_next(cx)), if !writes.is_empty() => {
                    work += self.settle(cut, written, Moment::now());
                }
                () = self.stop.cancelled(), if self.state.closing.is_none() => self.close(None, false),
                () = self.inbox.stirred(quiet) => {}
                () = timer.fired() => {}
            }
            (now, came) = (Moment::now(), 0);
        }
        self.end().await
    }

    /// Takes in everything that has been sent so far. Returns how much it was.
    async fn take_in(&mut self, taken: &mut Taken<T, R>, now: Moment) -> usize {
        let news = self.inbox.take(taken);
        let count = taken.ops.len();
        if self.accumulator.accept_all(taken, now) {
            self.heed(news);
            return count;
        }
        let (mut ops, mut commands) = (taken.ops.drain(..), taken.commands.drain(..));
        let mut now = now;
        while self.obey_some(&mut commands, &mut ops, now) {
            tokio::task::yield_now().await;
            now = Moment::now();
        }
        drop((ops, commands));
        self.heed(news);
        count
    }

    /// Deals with some of what was sent. Says whether there may be more.
    fn obey_some(
        &mut self,
        commands: &mut vec::Drain<'_, Command<T, R>>,
        ops: &mut vec::Drain<'_, T>,
        now: Moment,
    ) -> bool {
        let most = ops.len().saturating_sub(WORK_PER_TURN);
        for _ in 0..WORK_PER_TURN {
            match commands.next() {
                Some(command) => self.obey(command, ops, now),
                None => return false,
            }
            if ops.len() < most {
                break;
            }
        }
        true
    }

    fn obey(&mut self, command: Command<T, R>, ops: &mut vec::Drain<'_, T>, now: Moment) {
        match command {
            Command::Ops(run) if run.paid => self.accumulator.accept(run, ops, now),
            Command::Ops(run) => self.accept_unpaid(run, ops, now),
            Command::Flush(flush) => self.accumulator.flush(*flush),
            // A caller who has given up must not be sent ops.
            Command::Withdraw { reply, .. } if reply.is_closed() => {}
            Command::Withdraw { wanted, reply } => {
                let ops = self.accumulator.withdraw(wanted, now);
                debug!(batcher = %self.name, ops = ops.len(), "operations withdrawn");
                self.state.withdrawn.push((reply, ops));
            }
        }
    }

    /// Takes in ops that came without room: for each another one makes some, if none has done so yet.
    fn accept_unpaid(&mut self, mut run: Run<R>, ops: &mut vec::Drain<'_, T>, now: Moment) {
        for _ in 0..run.count {
            self.inbox.take_away(1);
            self.accumulator.accept(Run { count: 1, ack: run.ack.take(), ..run }, ops, now);
            if self.accumulator.settled() < self.inbox.debt() {
                self.accumulator.evict(now);
            }
        }
    }

    fn heed(&mut self, news: News) {
        if let Some(paused) = news.paused {
            self.accumulator.set_paused(paused);
        }
        // Limits count from here on: what came before them came under the old ones.
        if let Some(limits) = news.limits {
            self.set_limits(limits);
        }
        if news.pressed {
            self.accumulator.press();
        }
        if let Some(Stop { within, deserted }) = news.stop {
            self.close(within, deserted);
        }
    }

    fn set_limits(&mut self, limits: Limits) {
        let (old, new) = (self.accumulator.limits().pending_limit(), limits.pending_limit());
        if new < old {
            self.inbox.take_away(old - new);
        } else {
            self.inbox.free(new - old);
        }
        self.accumulator.set_limits(limits, Moment::now());
    }

    /// Cuts what is due, as long as there are slots. Ready with the first batch that has come back by then.
    fn begin_writes(
        &mut self,
        writes: &mut Writes<T, R>,
        abort: &CancellationToken,
        now: Moment,
        cx: &mut Context<'_>,
    ) -> Poll<Option<(Cut<T, R>, Written)>> {
        while !abort.is_cancelled()
            && let Some(cut) = self.accumulator.cut(now)
        {
            let limit = self.accumulator.limits().write_timeout;
            let sink = Arc::clone(&self.sink);
            writes.begin(write(Arc::clone(&self.name), sink, cut, limit, abort.clone()), cx);
        }
        match writes.poll_next(cx) {
            Poll::Ready(back) => Poll::Ready(back),
            Poll::Pending => Poll::Ready(None),
        }
    }

    /// Deals with a batch that has come back. Returns how much that was.
    fn settle(&mut self, cut: Cut<T, R>, written: Written, now: Moment) -> usize {
        let work = cut.len();
        let retries = self.accumulator.counters().retries;
        self.accumulator.settle(cut, written, now);
        let retried = self.accumulator.counters().retries - retries;
        if retried > 0 {
            info!(batcher = %self.name, ops = retried, "operations will be tried again");
        }
        if self.accumulator.is_fenced() && self.state.closing.is_none() {
            warn!(batcher = %self.name, "fenced by a newer leader");
            self.close(None, false);
        }
        work
    }

    /// Gives back the room of what is settled, lets everybody see how things stand, and then answers: who has been
    /// answered finds the room, and statistics that know of it.
    fn balance(&mut self) {
        for letter in self.accumulator.take_letters() {
            self.post(letter);
        }
        for message in self.accumulator.take_caught() {
            error!(batcher = %self.name, message, "caught a panic");
        }
        let done = self.accumulator.flushed();
        let stats = self.accumulator.stats();
        self.accumulator.counters().emit(&stats);
        self.inbox.balance(self.accumulator.take_settled(), stats);
        self.accumulator.take_answers(&mut self.state.answers);
        self.state.answers.drain(..).for_each(Answer::tell);
        for (reply, ops) in self.state.withdrawn.drain(..) {
            // Withdrawn is withdrawn, even if the caller gave up just now.
            let _ = reply.send(ops);
        }
        done.into_iter().for_each(Done::tell);
    }

    fn post(&mut self, letter: DeadLetter<T>) {
        let (error, attempts, in_doubt) = (letter.error.chain(), letter.attempts, letter.is_in_doubt());
        match &self.letters {
            Letters::Dropped => warn!(batcher = %self.name, %error, attempts, in_doubt, "dead letter, dropped"),
            // Whoever takes them decides how loud to be: a venue refuses orders every day.
            _ => debug!(batcher = %self.name, %error, attempts, in_doubt, "dead letter"),
        }
        let taken = match &self.letters {
            Letters::Dropped => true,
            Letters::Posted(batcher) => batcher.try_send(letter).is_ok(),
            Letters::Kept if self.state.letters.len() < MOST_LETTERS => {
                self.state.letters.push(letter);
                true
            }
            Letters::Kept => false,
        };
        if !taken {
            error!(batcher = %self.name, "there is no room for dead letters: one is lost");
            self.accumulator.counters().letters_lost += 1;
        }
    }

    /// Closes intake and makes everything due.
    fn close(&mut self, within: Option<Duration>, deserted: bool) {
        self.inbox.close();
        self.accumulator.close();
        let limit = within.unwrap_or(self.accumulator.limits().shutdown_timeout);
        let closing = self.state.closing.get_or_insert_with(|| {
            info!(batcher = %self.name, ?limit, "closing");
            Closing { deadline: Moment::now().checked_add(limit), deserted }
        });
        closing.deserted |= deserted;
        if within.is_some() {
            closing.deadline = Moment::now().checked_add(limit);
        }
    }

    fn is_overdue(&self, now: Moment) -> bool {
        self.state.closing.is_some_and(|closing| closing.deadline.is_some_and(|deadline| deadline <= now))
    }

    /// When to look again if nothing happens.
    fn deadline(&self, now: Moment) -> Option<Moment> {
        let closing = self.state.closing.and_then(|closing| closing.deadline).filter(|deadline| now < *deadline);
        self.accumulator.deadline(now).into_iter().chain(closing).min()
    }

    /// Whether everything is drained, or what is left can't be before the deadline.
    fn is_done(&self, idle: bool, now: Moment) -> bool {
        let Some(closing) = self.state.closing else {
            return false;
        };
        if !self.inbox.is_empty() || !idle {
            return false;
        }
        if self.accumulator.is_empty() || self.accumulator.is_fenced() || self.is_overdue(now) {
            return true;
        }
        if self.accumulator.is_paused() {
            return closing.deserted;
        }
        // A backoff is not cut short, and one that ends too late is not waited out.
        let next = self.accumulator.deadline(now);
        closing.deadline.is_some_and(|deadline| next.is_none_or(|next| deadline <= next))
    }

    /// Gives back what was not drained, closes the sink, and sums up.
    async fn end(mut self) -> Summary<T> {
        self.accumulator.return_waiting(Moment::now());
        self.balance();
        let returned = self.accumulator.take_returned();
        let left = |closing: Option<Closing>| {
            let deadline = closing.and_then(|closing| closing.deadline);
            deadline.map(|deadline| deadline.since(Moment::now()))
        };
        let close_error = close(&self.name, &*self.sink, left(self.state.closing)).await.err();
        if let Letters::Posted(batcher) = &self.letters {
            batcher.stop(left(self.state.closing));
        }
        self.state.ended = true;
        let stats = self.inbox.stats();
        info!(batcher = %self.name, delivered = stats.delivered, returned = returned.len(), "ended");
        let letters = std::mem::take(&mut self.state.letters);
        Summary { stats, returned, letters, close_error }
    }
}

/// Whoever drops the task before it has ended loses what it held, but not without notice: callers are answered, and the
/// statistics tell.
impl<T, R: Clone, S> Drop for Actor<T, R, S> {
    fn drop(&mut self) {
        if self.state.ended {
            return;
        }
        self.inbox.close();
        // What waits for an answer gets one as it is dropped; the accumulator itself may be in the middle of something.
        let lost = self.inbox.lose_all();
        if lost > 0 {
            error!(batcher = %self.name, ops = lost, "the task was dropped: operations are lost");
        }
    }
}
