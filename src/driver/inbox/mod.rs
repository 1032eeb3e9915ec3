//! [`Inbox`]: the channel from the handles to the task. Bounded, multi-producer; everything in it is drained at once, in order.
//!
//! One mutex is held for one append: ops go into a `Vec`, acks into another, a record per run of ops into a third, and the task
//! swaps all three for empty ones. Only a push into an empty inbox wakes the task. That takes a fraction of the time per op that
//! linked blocks and a semaphore take.

mod acquire;
pub(crate) mod command;
pub(crate) mod door;
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

pub(crate) use acquire::{Acquire, acquire, acquire_by_policy};
pub(crate) use drain::Drained;

use crate::{
    driver::{
        clock,
        inbox::command::{Admission, Command, Control, PushError, Submission},
        mutex::{Mutex, MutexGuard},
        wake::wake_contained,
    },
    rules::{
        accumulator::Run,
        config::limits::{Limits, Overflow},
        stats::Stats,
        time::Timestamp,
    },
};
use door::Door;
use state::{State, release, signed, wake};
use wait_queue::Ticket;

/// The channel, and what handles and task share besides.
///
/// The fields that each send reads come first and fill two cache lines, which travel from core to core together.
#[repr(C, align(128))]
pub(crate) struct Inbox<T, R> {
    state: Mutex<State<T, R>>,
    pub(crate) door: Option<Box<Door<T>>>,
    handles: AtomicUsize,
}

/// Up to 16 consecutive sends share a timestamp until the inbox is drained. An op may be stamped too early, never too
/// late. Reading the clock costs as much as the rest of a send.
const STAMPED_TOGETHER: u32 = 16;

/// Capacity retained while the task sleeps, in entries per list. More is released.
const MAX_RETAINED: usize = 2048;

impl<T, R> Inbox<T, R> {
    pub(crate) fn new(limits: &Limits, door: Option<Box<Door<T>>>) -> Self {
        Self { state: Mutex::new(State::new(limits)), door, handles: AtomicUsize::new(1) }
    }

    fn state(&self) -> MutexGuard<'_, State<T, R>> {
        self.state.lock()
    }

    /// Appends one op, taken out of its slot if it is admitted. Returns when its caller sent it.
    #[inline]
    pub(crate) fn push(
        &self,
        submission: &mut Option<Submission<T, R>>,
        admission: Admission,
    ) -> Result<Timestamp, PushError> {
        let mut state = self.state();
        let has_permit = match state.admit(admission) {
            Ok(has_permit) => has_permit,
            Err(rejected) => {
                wake(state);
                return Err(rejected);
            }
        };
        let Submission { op, at, ack } = submission.take().expect("an op is handed in once");
        state.ops.push(op);
        state.pushed += 1;
        let has_tokens = ack.is_some();
        state.acks.extend(ack);
        let at = match state.commands.last_mut() {
            Some(Command::Ops(run))
                if run.open_to > 0 && at.is_none() && has_permit && run.has_tokens == has_tokens =>
            {
                run.count += 1;
                run.open_to -= 1;
                run.at
            }
            _ => {
                // The timestamp of a sender that waited is too old for other ops.
                let open_to = if has_permit && at.is_none() { STAMPED_TOGETHER - 1 } else { 0 };
                let at = at.unwrap_or_else(clock::now);
                state.commands.push(Command::Ops(Run { count: 1, at, has_permit, has_tokens, open_to }));
                at
            }
        };
        wake(state);
        Ok(at)
    }

    /// Appends as many ops as there are permits for, from the front, with no other op in between. `admission` covers the
    /// first.
    pub(crate) fn push_some(&self, ops: &mut Vec<T>, at: Timestamp, admission: Admission) -> Result<(), PushError> {
        let mut state = self.state();
        let has_permit = match state.admit(admission) {
            Ok(has_permit) => has_permit,
            Err(rejected) => {
                wake(state);
                return Err(rejected);
            }
        };
        let more = state.admit_more(ops.len() - 1, has_permit);
        let count = more + 1;
        if count == ops.len() {
            state.ops.append(ops);
        } else {
            state.ops.extend(ops.drain(..count));
        }
        state.pushed += count as u64;
        state.commands.push(Command::Ops(Run { count: count as u32, at, has_permit, has_tokens: false, open_to: 0 }));
        wake(state);
        Ok(())
    }

    pub(crate) fn push_other(&self, command: Command<T>) -> Result<(), PushError> {
        let mut state = self.state();
        if state.closed {
            return Err(PushError::Closed);
        }
        state.commands.push(command);
        wake(state);
        Ok(())
    }

    /// Changes the control state that the task reads next.
    pub(crate) fn update_control(&self, control: impl FnOnce(&mut Control)) {
        let mut state = self.state();
        control(&mut state.control);
        wake(state);
    }

    /// Asks the task to pause or to resume. `reply` is sent when it has.
    pub(crate) fn set_paused(&self, paused: bool, reply: oneshot::Sender<()>) -> Result<(), PushError> {
        let mut state = self.state();
        if state.gone {
            return Err(PushError::Closed);
        }
        state.control.paused = Some(paused);
        state.control.pausing.push(reply);
        wake(state);
        Ok(())
    }

    /// Marks the task as ended. Callers whose request it has not seen are told.
    pub(crate) fn leave(&self) {
        let mut state = self.state();
        state.gone = true;
        let control = std::mem::take(&mut state.control);
        // Dropping it wakes callers, outside of the lock.
        drop(state);
        drop(control);
    }

    /// Rejects every later op, and wakes the senders that wait for a permit.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        let waiting = state.wait_queue.close();
        drop(state);
        waiting.for_each(wake_contained);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// Swaps the contents for the empty `into`, and takes the control state. `None` if there is nothing new.
    pub(crate) fn take(&self, into: &mut Drained<T, R>) -> Option<Control> {
        debug_assert!(into.is_empty(), "what was taken before is dealt with first");
        let mut state = self.state();
        if state.is_empty() && state.wait_queue.is_empty() {
            return None;
        }
        std::mem::swap(&mut state.ops, &mut into.ops);
        std::mem::swap(&mut state.acks, &mut into.acks);
        std::mem::swap(&mut state.commands, &mut into.commands);
        state.over_capacity = 0;
        state.control.under_pressure |= !state.wait_queue.is_empty();
        Some(std::mem::take(&mut state.control))
    }

    /// Ready as soon as there is something to take.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it takes nothing.
    pub(crate) fn readable(&self) -> impl Future<Output = ()> {
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
    pub(crate) fn shrink(&self) {
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
        state.wait_queue.shrink();
    }

    /// Publishes `stats` and releases permits, to waiting senders first.
    pub(crate) fn publish(&self, permits: usize, stats: Stats) {
        let mut state = self.state();
        state.published = stats.accepted;
        state.stats = stats;
        release(&self.state, state, permits);
    }

    /// Releases permits, to waiting senders first.
    pub(crate) fn release(&self, permits: usize) {
        release(&self.state, self.state(), permits);
    }

    /// Removes permits: the available ones now, the others as they are released.
    pub(crate) fn forget_permits(&self, permits: usize) {
        self.state().permits -= signed(permits);
    }

    /// Charges the permit of an op that was admitted without one. Returns the deficit, and whether senders wait.
    pub(crate) fn charge(&self) -> (usize, bool) {
        let mut state = self.state();
        state.permits -= 1;
        (usize::try_from(-state.permits).unwrap_or(0), !state.wait_queue.is_empty())
    }

    /// Acquires one permit if one is available and no sender waits; otherwise joins the wait queue.
    fn poll_acquire(&self, ticket: &mut Ticket, cx: &mut Context<'_>) -> Poll<Result<(), PushError>> {
        let mut state = self.state();
        if state.closed {
            return Poll::Ready(Err(PushError::Closed));
        }
        if *ticket == Ticket::None && state.has_permits() {
            state.permits -= 1;
            return Poll::Ready(Ok(()));
        }
        let (poll, before) = state.wait_queue.poll(ticket, cx);
        state.control.under_pressure |= poll.is_pending();
        wake(state);
        drop(before);
        poll.map(Ok)
    }

    /// Removes a sender that gives up from the queue.
    fn leave_queue(&self, ticket: Ticket) {
        let mut state = self.state();
        let (waker, was_granted) = state.wait_queue.leave(ticket);
        release(&self.state, state, usize::from(was_granted));
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

    /// Counts as lost every op that has not ended as far as the task has published. Returns their number.
    pub(crate) fn lose_all(&self) -> u64 {
        let mut state = self.state();
        // Dropping them answers callers, which has to happen outside of the lock.
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

    /// Puts other limits in force for handles and task, in the same order if several callers change them at once. Waiting senders
    /// are woken if the policy is no longer to wait.
    pub(crate) fn set_limits(&self, limits: Limits) {
        let mut state = self.state();
        if let Some(door) = &self.door {
            door.set_max_weight(limits.weight());
        }
        let waiting = if limits.overflow == Overflow::Wait { Vec::new() } else { state.wait_queue.wakers() };
        state.overflow = limits.overflow;
        state.control.limits = Some(limits);
        wake(state);
        waiting.into_iter().for_each(wake_contained);
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
            self.update_control(|control| control.stop(None, true));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio_test::{assert_pending, task};

    use super::*;
    use crate::driver::reply::ReplyPool;

    /// Goal: a burst costs no memory afterwards. Method: one, and then the task tidies up twice, since it swaps two sets of
    /// buffers.
    #[test]
    fn the_memory_of_a_burst_is_given_back() {
        let inbox = Inbox::<u64, ()>::new(&Limits::default().max_pending(1_000_000), None);
        let replies = ReplyPool::new();
        let mut taken = Drained::new();
        for size in [100_000, 1, 1] {
            for op in 0..size {
                let (ack, _) = replies.pair();
                assert!(
                    inbox
                        .push(&mut Some(Submission { ack: Some(ack), ..Submission::new(op) }), Admission::TryAcquire)
                        .is_ok()
                );
            }
            inbox.take(&mut taken);
            taken.ops.clear();
            taken.acks.clear();
            taken.commands.clear();
            assert_pending!(task::spawn(inbox.readable()).poll());
            inbox.shrink();
        }
        let state = inbox.state();
        for capacity in [state.ops.capacity(), state.acks.capacity(), state.commands.capacity()] {
            assert!(capacity <= MAX_RETAINED);
        }
        assert!(!taken.has_excess_capacity());
    }
}
