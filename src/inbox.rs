//! The channel from the handles to the task. In come commands, out they come, in order, a swapped `Vec` at a time. Next
//! room: `actor`.
//!
//! It is a bounded multi-producer channel: room is a fair semaphore, commands are appended to a `Vec` behind a mutex
//! that the task swaps for an empty one, and only the first command into an empty `Vec` wakes the task. That takes a
//! fraction of the time per op that linked blocks take, at the price of a lock that is held for one append.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Poll, Waker},
};

use tokio::sync::Semaphore;

use crate::{
    accumulator::Arrival,
    command::{Barred, Command, News, Pass},
    limits::{Limits, Overflow},
    stage::Weigh,
    stats::Stats,
};

/// The channel, and what handles and task share besides.
pub(crate) struct Inbox<T, R> {
    state: Mutex<State<T, R>>,
    /// One permit per op that may be accepted and not yet settled.
    pub(crate) room: Semaphore,
    /// Room that is taken away as soon as it is freed: `max_pending` was lowered, or an op came in without a permit.
    debt: AtomicUsize,
    /// Senders that wait for room.
    in_line: AtomicUsize,
    pub(crate) weigh: Option<Weigh<T>>,
    max_weight: AtomicUsize,
    overflow: AtomicUsize,
    handles: AtomicUsize,
    /// Sends so far, roughly: decides when one of them spends cooperative budget.
    pub(crate) sends: AtomicU64,
}

struct State<T, R> {
    commands: Vec<Command<T, R>>,
    /// Ops that were ever put in, and how many of those the task has told of in `stats`.
    pushed: u64,
    published: u64,
    /// Ops in `commands` that are not paid for.
    unpaid: usize,
    closed: bool,
    news: News,
    waker: Option<Waker>,
    stats: Stats,
}

impl<T, R> Inbox<T, R> {
    pub(crate) fn new(limits: &Limits, weigh: Option<Weigh<T>>) -> Self {
        Self {
            state: Mutex::new(State {
                commands: Vec::new(),
                pushed: 0,
                published: 0,
                unpaid: 0,
                closed: false,
                news: News::default(),
                waker: None,
                stats: Stats::default(),
            }),
            room: Semaphore::new(limits.pending_limit()),
            debt: AtomicUsize::new(0),
            in_line: AtomicUsize::new(0),
            weigh,
            max_weight: AtomicUsize::new(limits.weight()),
            overflow: AtomicUsize::new(limits.overflow as usize),
            handles: AtomicUsize::new(1),
            sends: AtomicU64::new(0),
        }
    }

    fn state(&self) -> MutexGuard<'_, State<T, R>> {
        // Nothing that can panic runs under the lock, but for the allocator.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts one op in.
    pub(crate) fn push(&self, arrival: Arrival<T, R>, pass: Pass) -> Result<(), (Barred, T)> {
        let mut state = self.state();
        if let Err(barred) = state.admit(1, pass) {
            return Err((barred, arrival.op));
        }
        state.commands.push(Command::Op { arrival, paid: pass.paid });
        wake(state);
        Ok(())
    }

    /// Puts ops in at once, so that nothing comes between them, and leaves `ops` empty; or as it was, if it fails.
    pub(crate) fn push_all(&self, ops: &mut Vec<Command<T, R>>, pass: Pass) -> Result<(), Barred> {
        let mut state = self.state();
        state.admit(ops.len(), pass)?;
        state.commands.append(ops);
        wake(state);
        Ok(())
    }

    pub(crate) fn push_other(&self, command: Command<T, R>) -> Result<(), Barred> {
        let mut state = self.state();
        if state.closed {
            return Err(Barred::Closed);
        }
        state.commands.push(command);
        wake(state);
        Ok(())
    }

    /// Leaves the task a wish.
    pub(crate) fn tell(&self, news: impl FnOnce(&mut News)) {
        let mut state = self.state();
        news(&mut state.news);
        wake(state);
    }

    /// Lets nothing more in. Whoever waits for room is told.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.room.close();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// Swaps everything that has come in for the empty `into`, and takes the news.
    pub(crate) fn take(&self, into: &mut Vec<Command<T, R>>) -> News {
        debug_assert!(into.is_empty(), "what was taken before has to be dealt with first");
        let mut state = self.state();
        std::mem::swap(&mut state.commands, into);
        state.unpaid = 0;
        std::mem::take(&mut state.news)
    }

    /// Ready as soon as there is something to take.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it takes nothing.
    pub(crate) fn stirred(&self) -> impl Future<Output = ()> {
        std::future::poll_fn(|cx| {
            let mut state = self.state();
            if !state.commands.is_empty() || !state.news.is_none() {
                return Poll::Ready(());
            }
            if state.commands.capacity() > KEPT {
                state.commands = Vec::new();
            }
            match &mut state.waker {
                Some(waker) => waker.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
            Poll::Pending
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        let state = self.state();
        state.commands.is_empty() && state.news.is_none()
    }

    /// Lets everybody see `stats`.
    pub(crate) fn publish(&self, stats: Stats) {
        let mut state = self.state();
        state.published = stats.accepted;
        state.stats = stats;
    }

    /// The statistics, with what the task has not looked at yet counted as waiting.
    pub(crate) fn stats(&self) -> Stats {
        let state = self.state();
        let unseen = state.pushed - state.published;
        let mut stats = state.stats.clone();
        stats.accepted += unseen;
        stats.waiting += unseen;
        stats
    }

    /// The task is gone: whatever has not ended, as far as it has told, is lost. Returns how much that was.
    pub(crate) fn lose_all(&self) -> u64 {
        let mut state = self.state();
        // Dropping the commands answers whoever waits, so that has to happen outside of the lock.
        let commands = std::mem::take(&mut state.commands);
        let unseen = state.pushed - state.published;
        state.published = state.pushed;
        let stats = &mut state.stats;
        let lost = unseen + stats.waiting + stats.in_flight;
        stats.accepted += unseen;
        stats.lost += lost;
        (stats.waiting, stats.in_flight, stats.batches_in_flight) = (0, 0, 0);
        drop(state);
        drop(commands);
        lost
    }

    /// Gives room back. What is owed is paid first.
    pub(crate) fn free(&self, room: usize) {
        let pay = |debt: usize| Some(debt - debt.min(room));
        let owed = self.debt.fetch_update(Ordering::AcqRel, Ordering::Acquire, pay).unwrap_or_default();
        if room > owed {
            self.room.add_permits(room - owed);
        }
    }

    /// Takes room away: what is free now, and the rest as it is freed.
    pub(crate) fn take_away(&self, room: usize) {
        let missing = room - self.room.forget_permits(room);
        self.debt.fetch_add(missing, Ordering::AcqRel);
    }

    pub(crate) fn debt(&self) -> usize {
        self.debt.load(Ordering::Acquire)
    }

    /// Waits in line for room for one op.
    pub(crate) async fn wait_for_room(&self) -> Result<(), Barred> {
        let _in_line = InLine::join(&self.in_line);
        self.tell(|news| news.pressed = true);
        self.room.acquire().await.map(|room| room.forget()).map_err(|_| Barred::Closed)
    }

    pub(crate) fn is_pressed(&self) -> bool {
        self.in_line.load(Ordering::Relaxed) > 0
    }

    /// Lets handles and task obey other limits, in the same order if several callers change them at once.
    pub(crate) fn set_limits(&self, limits: Limits) {
        self.tell(|news| {
            self.max_weight.store(limits.weight(), Ordering::Relaxed);
            self.overflow.store(limits.overflow as usize, Ordering::Relaxed);
            news.limits = Some(limits);
        });
    }

    pub(crate) fn max_weight(&self) -> usize {
        self.max_weight.load(Ordering::Relaxed)
    }

    pub(crate) fn overflow(&self) -> Overflow {
        const POLICIES: [Overflow; 4] =
            [Overflow::Wait, Overflow::Reject, Overflow::EvictOldest, Overflow::EvictLowest];
        POLICIES[self.overflow.load(Ordering::Relaxed)]
    }

    pub(crate) fn add_handle(&self) {
        self.handles.fetch_add(1, Ordering::Relaxed);
    }

    /// The last handle gone drains the batcher.
    pub(crate) fn remove_handle(&self) {
        if self.handles.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.close();
            self.tell(|news| news.stop(None, true));
        }
    }
}

/// Room for so many commands is kept while the task sleeps; what a burst took beyond is given back.
const KEPT: usize = 16_384;

/// So many ops may be on their way to evict others: enough for a burst, not enough to matter.
const MOST_UNPAID: usize = 65_536;

impl<T, R> State<T, R> {
    /// Counts ops in, if they may come in. The number of those without a permit is bounded, too.
    fn admit(&mut self, ops: usize, pass: Pass) -> Result<(), Barred> {
        if self.closed {
            return Err(Barred::Closed);
        }
        if !pass.paid {
            if self.unpaid >= MOST_UNPAID {
                return Err(Barred::Full);
            }
            self.unpaid += ops;
        }
        self.news.pressed |= pass.stood_in_line;
        self.pushed += ops as u64;
        Ok(())
    }
}

/// Counts a sender that waits, for as long as it does.
struct InLine<'a>(&'a AtomicUsize);

impl<'a> InLine<'a> {
    fn join(line: &'a AtomicUsize) -> Self {
        line.fetch_add(1, Ordering::Relaxed);
        Self(line)
    }
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Wakes the task if it sleeps. It leaves its waker only when it found nothing, so this is one wake-up for however
/// many commands come before it looks again.
fn wake<T, R>(mut state: MutexGuard<'_, State<T, R>>) {
    let waker = state.waker.take();
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use tokio_test::{assert_pending, task};

    use super::*;
    use crate::moment::Moment;

    /// Goal: a burst costs no memory afterwards. Method: one, and then the task goes to sleep twice, since it swaps two
    /// buffers.
    #[test]
    fn the_memory_of_a_burst_is_given_back() {
        let inbox = Inbox::<u64, ()>::new(&Limits::default(), None);
        let mut taken = Vec::new();
        let burst = |size: u64| {
            (0..size).for_each(|op| {
                let arrival = Arrival { op, at: Moment::now(), ack: None };
                assert!(inbox.push(arrival, Pass::PAID).is_ok());
            });
        };
        for size in [100_000, 1, 1] {
            burst(size);
            inbox.take(&mut taken);
            taken.clear();
            assert_pending!(task::spawn(inbox.stirred()).poll());
        }
        assert!(inbox.state().commands.capacity() <= KEPT && taken.capacity() <= KEPT);
    }
}
