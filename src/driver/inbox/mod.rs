//! [`Inbox`]: the channel from the handles to the task. Bounded, multi-producer; everything in it is drained at once, in order.
//!
//! One mutex is held for one append: ops go into a `Vec`, acks into another, a record per run of ops into a third, and the task
//! swaps all three for empty ones. Only a push into an empty inbox wakes the task. That takes a fraction of the time per op that
//! linked blocks and a semaphore take.

mod acquire;
pub(crate) mod command;
mod drain;
#[cfg(all(test, roundlot_loom))]
mod model;
mod state;
mod wait_queue;

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Poll},
};

use tokio::sync::oneshot;

pub(crate) use acquire::{Turn, room, room_by_policy};
pub(crate) use drain::Taken;

use crate::{
    driver::{
        clock,
        inbox::command::{Barred, Command, News, Parcel, Pass},
    },
    rules::{
        accumulator::Run,
        config::limits::{Limits, Overflow},
        outcome::mutex::{Mutex, MutexGuard},
        panics,
        stage::Weigh,
        stats::Stats,
        time::Moment,
    },
};
use state::{State, free, signed, wake};
use wait_queue::Place;

/// The channel, and what handles and task share besides.
///
/// What each send looks at comes first and fills two cache lines, which travel from core to core together.
#[repr(C, align(128))]
pub(crate) struct Inbox<T, R> {
    state: Mutex<State<T, R>>,
    pub(crate) weigh: Option<Weigh<T>>,
    max_weight: AtomicUsize,
    handles: AtomicUsize,
}

/// Up to 16 consecutive sends share a timestamp until the inbox is drained. An op may be stamped too early, never too
/// late. Reading the clock costs as much as the rest of a send.
const STAMPED_TOGETHER: u32 = 16;

/// Room for so many ops is kept while the task sleeps; what a burst took beyond is given back.
const KEPT: usize = 2048;

impl<T, R> Inbox<T, R> {
    pub(crate) fn new(limits: &Limits, weigh: Option<Weigh<T>>) -> Self {
        Self {
            state: Mutex::new(State::new(limits)),
            weigh,
            max_weight: AtomicUsize::new(limits.weight()),
            handles: AtomicUsize::new(1),
        }
    }

    fn state(&self) -> MutexGuard<'_, State<T, R>> {
        self.state.lock()
    }

    /// Puts one op in: takes it out of its slot, if it may come in. Returns when its caller sent it.
    #[inline]
    pub(crate) fn push(&self, parcel: &mut Option<Parcel<T, R>>, pass: Pass) -> Result<Moment, Barred> {
        let mut state = self.state();
        let paid = match state.admit(pass) {
            Ok(paid) => paid,
            Err(barred) => {
                wake(state);
                return Err(barred);
            }
        };
        let Parcel { op, at, ack } = parcel.take().expect("an op is handed in once");
        state.ops.push(op);
        state.pushed += 1;
        let acked = ack.is_some();
        state.acks.extend(ack);
        let at = match state.commands.last_mut() {
            Some(Command::Ops(run)) if run.open_to > 0 && at.is_none() && paid && run.acked == acked => {
                run.count += 1;
                run.open_to -= 1;
                run.at
            }
            _ => {
                // A time stamp of somebody who waited is too old for others.
                let open_to = if paid && at.is_none() { STAMPED_TOGETHER - 1 } else { 0 };
                let at = at.unwrap_or_else(clock::now);
                state.commands.push(Command::Ops(Run { count: 1, at, paid, acked, open_to }));
                at
            }
        };
        wake(state);
        Ok(at)
    }

    /// Puts as many ops in as there is room for, from the front, so that nothing comes between them. `pass` covers the
    /// first.
    pub(crate) fn push_some(&self, ops: &mut Vec<T>, at: Moment, pass: Pass) -> Result<(), Barred> {
        let mut state = self.state();
        let paid = match state.admit(pass) {
            Ok(paid) => paid,
            Err(barred) => {
                wake(state);
                return Err(barred);
            }
        };
        let more = state.admit_more(ops.len() - 1, paid);
        let count = more + 1;
        if count == ops.len() {
            state.ops.append(ops);
        } else {
            state.ops.extend(ops.drain(..count));
        }
        state.pushed += count as u64;
        state.commands.push(Command::Ops(Run { count: count as u32, at, paid, acked: false, open_to: 0 }));
        wake(state);
        Ok(())
    }

    pub(crate) fn push_other(&self, command: Command<T>) -> Result<(), Barred> {
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

    /// Leaves the task a wish to pause or to resume, whose fulfillment `reply` is to be told.
    pub(crate) fn set_paused(&self, paused: bool, reply: oneshot::Sender<()>) -> Result<(), Barred> {
        let mut state = self.state();
        if state.gone {
            return Err(Barred::Closed);
        }
        state.news.paused = Some(paused);
        state.news.pausing.push(reply);
        wake(state);
        Ok(())
    }

    /// The task is over: wishes that it has not seen are never fulfilled, which their callers are told.
    pub(crate) fn leave(&self) {
        let mut state = self.state();
        state.gone = true;
        let news = std::mem::take(&mut state.news);
        // Dropping it wakes callers, outside of the lock.
        drop(state);
        drop(news);
    }

    /// Lets nothing more in. Whoever waits for room is told.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        let waiting = state.line.disband();
        drop(state);
        waiting.for_each(panics::wake);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// Swaps everything that has come in for the empty `into`, and takes the news. `None` if there is nothing new.
    pub(crate) fn take(&self, into: &mut Taken<T, R>) -> Option<News> {
        debug_assert!(into.is_empty(), "what was taken before is dealt with first");
        let mut state = self.state();
        if state.is_empty() && state.line.is_empty() {
            return None;
        }
        std::mem::swap(&mut state.ops, &mut into.ops);
        std::mem::swap(&mut state.acks, &mut into.acks);
        std::mem::swap(&mut state.commands, &mut into.commands);
        state.unpaid = 0;
        state.news.pressed |= !state.line.is_empty();
        Some(std::mem::take(&mut state.news))
    }

    /// Ready as soon as there is something to take.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it takes nothing.
    pub(crate) fn stirred(&self) -> impl Future<Output = ()> {
        std::future::poll_fn(|cx| {
            let mut state = self.state();
            if !state.is_empty() {
                return Poll::Ready(());
            }
            let before = match &state.waker {
                Some(waker) if waker.will_wake(cx.waker()) => None,
                _ => state.waker.replace(cx.waker().clone()),
            };
            // A waker may own a task, and that a handle.
            drop(state);
            drop(before);
            Poll::Pending
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.state().is_empty()
    }

    /// Gives memory back that a burst has left behind.
    pub(crate) fn trim(&self) {
        let mut state = self.state();
        if state.ops.is_empty() {
            state.ops = Vec::new();
        }
        if state.acks.is_empty() {
            state.acks = Vec::new();
        }
        if state.commands.is_empty() {
            state.commands = Vec::new();
        }
        state.line.trim();
    }

    /// Gives room back, to those who wait for it first, and lets everybody see `stats`.
    pub(crate) fn balance(&self, room: usize, stats: Stats) {
        let mut state = self.state();
        state.published = stats.accepted;
        state.stats = stats;
        free(&self.state, state, room);
    }

    /// Gives room back, to those who wait for it first.
    pub(crate) fn free(&self, room: usize) {
        free(&self.state, self.state(), room);
    }

    /// Takes room away: what is free now, and the rest as it is freed.
    pub(crate) fn take_away(&self, room: usize) {
        self.state().room -= signed(room);
    }

    /// Takes away the room of an op that came without. Says how much room is owed then, and whether somebody waits for it.
    pub(crate) fn charge(&self) -> (usize, bool) {
        let mut state = self.state();
        state.room -= 1;
        (usize::try_from(-state.room).unwrap_or(0), !state.line.is_empty())
    }

    /// Takes room for one op if there is some and nobody waits for it; otherwise joins the line.
    fn poll_room(&self, place: &mut Place, cx: &mut Context<'_>) -> Poll<Result<(), Barred>> {
        let mut state = self.state();
        if state.closed {
            return Poll::Ready(Err(Barred::Closed));
        }
        if *place == Place::Outside && state.has_room() {
            state.room -= 1;
            return Poll::Ready(Ok(()));
        }
        let (poll, before) = state.line.poll(place, cx);
        state.news.pressed |= poll.is_pending();
        wake(state);
        drop(before);
        poll.map(Ok)
    }

    /// Removes a sender that gives up from the queue.
    fn leave_line(&self, place: Place) {
        let mut state = self.state();
        let (waker, was_called) = state.line.leave(place);
        free(&self.state, state, usize::from(was_called));
        drop(waker);
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
        // Dropping them answers whoever waits, so that has to happen outside of the lock.
        let ops = std::mem::take(&mut state.ops);
        let (acks, commands) = (std::mem::take(&mut state.acks), std::mem::take(&mut state.commands));
        let unseen = state.pushed - state.published;
        state.published = state.pushed;
        let stats = &mut state.stats;
        let lost = unseen + stats.waiting + stats.in_flight;
        stats.accepted += unseen;
        stats.outcomes.lost += lost;
        (stats.waiting, stats.in_flight, stats.batches_in_flight) = (0, 0, 0);
        drop(state);
        drop((ops, acks, commands));
        lost
    }

    /// Lets handles and task obey other limits, in the same order if several callers change them at once. Senders in line
    /// look again if the policy is no longer to wait.
    pub(crate) fn set_limits(&self, limits: Limits) {
        let mut state = self.state();
        self.max_weight.store(limits.weight(), Ordering::Relaxed);
        let waiting = if limits.overflow == Overflow::Wait { Vec::new() } else { state.line.wakers() };
        state.overflow = limits.overflow;
        state.news.limits = Some(limits);
        wake(state);
        waiting.into_iter().for_each(panics::wake);
    }

    pub(crate) fn max_weight(&self) -> usize {
        self.max_weight.load(Ordering::Relaxed)
    }

    pub(crate) fn overflow(&self) -> Overflow {
        self.state().overflow
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

#[cfg(test)]
mod tests {
    use tokio_test::{assert_pending, task};

    use super::*;
    use crate::rules::outcome::reply::Replies;

    /// Goal: a burst costs no memory afterwards. Method: one, and then the task tidies up twice, since it swaps two sets of
    /// buffers.
    #[test]
    fn the_memory_of_a_burst_is_given_back() {
        let inbox = Inbox::<u64, ()>::new(&Limits::default().max_pending(1_000_000), None);
        let replies = Replies::new();
        let mut taken = Taken::new();
        for size in [100_000, 1, 1] {
            for op in 0..size {
                let (ack, _) = replies.pair();
                assert!(inbox.push(&mut Some(Parcel { ack: Some(ack), ..Parcel::new(op) }), Pass::Free).is_ok());
            }
            inbox.take(&mut taken);
            taken.ops.clear();
            taken.acks.clear();
            taken.commands.clear();
            assert_pending!(task::spawn(inbox.stirred()).poll());
            inbox.trim();
        }
        let state = inbox.state();
        for capacity in [state.ops.capacity(), state.acks.capacity(), state.commands.capacity()] {
            assert!(capacity <= KEPT);
        }
        assert!(!taken.has_excess());
    }
}
