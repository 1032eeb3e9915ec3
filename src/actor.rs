//! The loop of a batcher's task. In come commands, finished writes and the passing of time; out go writes, answers and
//! statistics. It holds no rules: those are in `accumulator`, which it asks with `now` at each turn. Next room: `write`,
//! and the sink.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::{
    accumulator::{Accumulator, Arrival, Cut, Written},
    command::{Command, Inbox, News, Stop},
    dead_letter::Letters,
    limits::Limits,
    sink::Sink,
    timer::{Timer, now},
    worker::Summary,
    write::{close, write},
};

/// So much is dealt with before the task lets others run: some 100 microseconds.
const WORK_PER_TURN: usize = 1024;

/// Everything a batcher's task owns.
pub(crate) struct Actor<T, R: Clone, S> {
    pub(crate) name: Arc<str>,
    pub(crate) sink: Arc<S>,
    pub(crate) inbox: Arc<Inbox<T, R>>,
    pub(crate) accumulator: Accumulator<T, R>,
    pub(crate) letters: Option<Letters<T>>,
    /// Drain and end when it is canceled.
    pub(crate) stop: CancellationToken,
    state: State,
}

/// What the task remembers from turn to turn, besides what is in the accumulator.
#[derive(Default)]
struct State {
    /// Room that is taken away as soon as it is freed: `max_pending` was lowered, or an op came in without a permit.
    debt: usize,
    /// Set once intake is closed.
    closing: Option<Closing>,
    /// There is a summary: nothing can be lost any more.
    ended: bool,
}

#[derive(Clone, Copy)]
struct Closing {
    /// `None`: the drain may take for ever.
    deadline: Option<Instant>,
    /// Nobody is left who could resume a paused batcher.
    deserted: bool,
}

type Writes<T, R> = FuturesUnordered<BoxFuture<'static, (Cut<T, R>, Written)>>;

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
        letters: Option<Letters<T>>,
        stop: CancellationToken,
    ) -> Self {
        Self { name, sink: Arc::new(sink), inbox, accumulator, letters, stop, state: State::default() }
    }

    /// Runs until the batcher is closed and drained, or its time is over.
    ///
    /// Each turn takes in all there is before it decides what to cut, so that an op is superseded, netted or withdrawn
    /// by whatever was sent before the sink could take it. Then it waits for whatever comes first.
    pub(crate) async fn run(mut self) -> Summary<T> {
        let mut writes = Writes::new();
        let abort = CancellationToken::new();
        let mut timer = Timer::new();
        let mut commands = Vec::new();
        let mut work = 0;
        loop {
            work += self.take_in(&mut commands).await;
            let now = now();
            if self.is_overdue(now) {
                abort.cancel();
            }
            self.begin_writes(&mut writes, &abort, now);
            self.balance();
            if self.is_done(writes.is_empty(), now) {
                break;
            }
            if work >= WORK_PER_TURN {
                work = 0;
                tokio::task::yield_now().await;
            }
            timer.set(self.deadline(now));
            tokio::select! {
                // What frees room and slots goes first, what takes room goes last but for the clock, which each turn
                // looks at anyway. Polling in order also costs less than at random.
                biased;
                Some((cut, written)) = writes.next(), if !writes.is_empty() => work += self.settle(cut, written),
                () = self.stop.cancelled(), if self.state.closing.is_none() => self.close(None, false),
                () = self.inbox.stirred() => {}
                () = timer.fired() => {}
            }
        }
        self.end().await
    }

    /// Takes in everything that has been sent so far. Returns how much it was.
    async fn take_in(&mut self, commands: &mut Vec<Command<T, R>>) -> usize {
        let news = self.inbox.take(commands);
        let count = commands.len();
        if let Some(limits) = news.limits.clone() {
            self.set_limits(limits);
        }
        let mut now = now();
        for (done, command) in commands.drain(..).enumerate() {
            if done % WORK_PER_TURN == WORK_PER_TURN - 1 {
                tokio::task::yield_now().await;
                now = crate::timer::now();
            }
            self.obey(command, now);
        }
        self.heed(news);
        count
    }

    fn obey(&mut self, command: Command<T, R>, now: Instant) {
        match command {
            Command::Op { arrival, paid: true } => self.accumulator.push(arrival, now),
            Command::Op { arrival, paid: false } => self.push_unpaid(arrival, now),
            Command::Flush(flush) => self.accumulator.flush(flush),
            // A caller who has given up must not be sent ops.
            Command::Withdraw { reply, .. } if reply.is_closed() => {}
            Command::Withdraw { wanted, reply } => {
                let ops = self.accumulator.withdraw(wanted, now);
                debug!(batcher = %self.name, ops = ops.len(), "operations withdrawn");
                // Withdrawn is withdrawn, even if the caller gave up just now.
                let _ = reply.send(ops);
            }
        }
    }

    /// Takes in an op that came without a permit: another one makes room, if none has done so yet.
    fn push_unpaid(&mut self, arrival: Arrival<T, R>, now: Instant) {
        if self.inbox.room.forget_permits(1) == 0 {
            self.state.debt += 1;
        }
        self.accumulator.push(arrival, now);
        if self.accumulator.settled() < self.state.debt {
            self.accumulator.evict(now);
        }
    }

    fn heed(&mut self, news: News) {
        if let Some(paused) = news.paused {
            self.accumulator.set_paused(paused);
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
            self.state.debt += old - new - self.inbox.room.forget_permits(old - new);
        } else {
            let paid = self.state.debt.min(new - old);
            self.state.debt -= paid;
            self.inbox.room.add_permits(new - old - paid);
        }
        self.accumulator.set_limits(limits, now());
    }

    /// Cuts what is due, as long as there are slots.
    fn begin_writes(&mut self, writes: &mut Writes<T, R>, abort: &CancellationToken, now: Instant) {
        if abort.is_cancelled() {
            return;
        }
        while let Some(cut) = self.accumulator.cut(now) {
            let limit = self.accumulator.limits().write_timeout;
            let sink = Arc::clone(&self.sink);
            writes.push(Box::pin(write(Arc::clone(&self.name), sink, cut, limit, abort.clone())));
        }
    }

    /// Deals with a batch that has come back. Returns how much that was.
    fn settle(&mut self, cut: Cut<T, R>, written: Written) -> usize {
        let work = cut.len();
        let retries = self.accumulator.counters().retries;
        self.accumulator.settle(cut, written, now());
        let retried = self.accumulator.counters().retries - retries;
        if retried > 0 {
            warn!(batcher = %self.name, ops = retried, "operations will be tried again");
        }
        if self.accumulator.is_fenced() && self.state.closing.is_none() {
            warn!(batcher = %self.name, "fenced by a newer leader");
            self.close(None, false);
        }
        work
    }

    /// Gives back the room of what is settled, and lets everybody see how things stand.
    fn balance(&mut self) {
        let settled = self.accumulator.take_settled();
        let paid = self.state.debt.min(settled);
        self.state.debt -= paid;
        if settled > paid {
            self.inbox.room.add_permits(settled - paid);
        }
        for letter in self.accumulator.take_letters() {
            let (error, attempts) = (letter.error.chain(), letter.attempts);
            warn!(batcher = %self.name, %error, attempts, in_doubt = letter.is_in_doubt(), "dead letter");
            if self.letters.as_ref().is_some_and(|letters| !letters.post(letter)) {
                error!(batcher = %self.name, "the dead letters' own buffer is full: one is lost");
                self.accumulator.counters().letters_lost += 1;
            }
        }
        let (done, reported) = self.accumulator.flushed();
        let stats = self.accumulator.stats();
        self.accumulator.counters().emit(&stats);
        // Published first: who has been answered sees statistics that know of it.
        self.inbox.publish(stats, reported);
        for done in done {
            // A caller who gave up needs no report.
            let _ = done.reply.send(done.report);
        }
    }

    /// Closes intake and makes everything due.
    fn close(&mut self, within: Option<Duration>, deserted: bool) {
        self.inbox.close();
        self.accumulator.close();
        let limit = within.unwrap_or(self.accumulator.limits().shutdown_timeout);
        let closing = self.state.closing.get_or_insert_with(|| {
            info!(batcher = %self.name, ?limit, "closing");
            Closing { deadline: now().checked_add(limit), deserted }
        });
        closing.deserted |= deserted;
        if within.is_some() {
            closing.deadline = now().checked_add(limit);
        }
    }

    fn is_overdue(&self, now: Instant) -> bool {
        self.state.closing.is_some_and(|closing| closing.deadline.is_some_and(|deadline| deadline <= now))
    }

    /// When to look again if nothing happens.
    fn deadline(&self, now: Instant) -> Option<Instant> {
        let closing = self.state.closing.and_then(|closing| closing.deadline).filter(|deadline| now < *deadline);
        self.accumulator.deadline(now).into_iter().chain(closing).min()
    }

    /// Whether everything is drained, or what is left can't be before the deadline.
    fn is_done(&self, idle: bool, now: Instant) -> bool {
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
        self.accumulator.return_waiting(now());
        self.balance();
        let returned = self.accumulator.take_returned();
        let left = |closing: Option<Closing>| {
            let deadline = closing.and_then(|closing| closing.deadline);
            deadline.map(|deadline| deadline.saturating_duration_since(now()))
        };
        let close_error = close(&self.name, &*self.sink, left(self.state.closing)).await.err();
        if let Some(letters) = self.letters.take() {
            letters.stop(left(self.state.closing));
        }
        self.state.ended = true;
        let stats = self.inbox.stats();
        info!(batcher = %self.name, delivered = stats.delivered, returned = returned.len(), "ended");
        Summary::new(stats, returned, close_error)
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
        self.accumulator.lose_all(now());
        let (done, reported) = self.accumulator.flushed();
        drop(done);
        self.inbox.publish(self.accumulator.stats(), reported);
        let lost = self.inbox.lose_rest();
        if lost > 0 {
            error!(batcher = %self.name, ops = lost, "the task was dropped: operations are lost");
        }
    }
}
