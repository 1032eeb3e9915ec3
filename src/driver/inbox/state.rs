//! [`State`]: what the mutex of the inbox protects: ops, commands, permits and the queue of waiting senders. It decides whether
//! an op is admitted.

use std::task::Waker;

use super::wait_queue::WaitQueue;
use crate::{
    driver::{
        inbox::command::{Admission, Command, Control, PushError},
        mutex::{Mutex, MutexGuard},
        reply::AckSender,
        wake::wake_contained,
    },
    rules::{
        config::limits::{Limits, Overflow},
        stats::Stats,
    },
};

/// The fields that each send reads come first, next to the lock.
#[repr(C)]
pub(super) struct State<T, R> {
    pub(super) ops: Vec<T>,
    pub(super) commands: Vec<Command<T>>,
    /// Available permits. Negative after `max_pending` was lowered or an op was accepted without a permit.
    pub(super) permits: isize,
    /// Ops that were ever put in.
    pub(super) pushed: u64,
    /// How to wake the task, while it sleeps.
    pub(super) waker: Option<Waker>,
    pub(super) closed: bool,
    /// The task has ended: not even control requests are read.
    pub(super) gone: bool,
    pub(super) overflow: Overflow,
    /// Senders that wait for a permit.
    pub(super) wait_queue: WaitQueue,
    /// Acks of the ops that have one, in the order of the ops.
    pub(super) acks: Vec<AckSender<R>>,
    /// Ops in the inbox that were admitted without a permit.
    pub(super) over_capacity: usize,
    pub(super) control: Control,
    /// How many of the ops the task has told of in `stats`.
    pub(super) published: u64,
    pub(super) stats: Stats,
}

/// Maximum ops in the inbox without a permit, which are to evict others: enough for a burst, too few to matter.
const MAX_OVER_CAPACITY: usize = 65_536;

/// Senders granted a permit under one lock: few enough to be held on the stack.
const MAX_GRANTS: usize = 16;

impl<T, R> State<T, R> {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            ops: Vec::new(),
            commands: Vec::new(),
            permits: signed(limits.max_pending),
            pushed: 0,
            waker: None,
            closed: false,
            gone: false,
            overflow: limits.overflow,
            wait_queue: WaitQueue::new(),
            acks: Vec::new(),
            over_capacity: 0,
            control: Control::default(),
            published: 0,
            stats: Stats { max_pending: limits.max_pending as u64, ..Stats::default() },
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.commands.is_empty() && self.control.is_none()
    }

    pub(super) fn has_permits(&self) -> bool {
        self.permits > 0 && self.wait_queue.is_empty()
    }

    /// Admits one op, if it may come in. Returns whether it holds a permit.
    #[inline]
    pub(super) fn admit(&mut self, admission: Admission) -> Result<bool, PushError> {
        if self.closed {
            // A permit makes no difference any more.
            return Err(PushError::Closed);
        }
        match admission {
            Admission::Permit => {}
            Admission::Queued => self.control.under_pressure = true,
            Admission::TryAcquire if self.has_permits() => self.permits -= 1,
            Admission::TryAcquire => {
                if !self.overflow.evicts() || self.over_capacity >= MAX_OVER_CAPACITY {
                    self.control.under_pressure = true;
                    return Err(PushError::Full);
                }
                self.over_capacity += 1;
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Grants permits to some of the waiting senders, whose wakers are to be woken when the lock is free.
    fn grant_some(&mut self) -> [Option<Waker>; MAX_GRANTS] {
        std::array::from_fn(|_| {
            let waker = if self.permits > 0 { self.wait_queue.grant() } else { None };
            self.permits -= isize::from(waker.is_some());
            waker
        })
    }

    /// Admits as many more ops of the same state as can come in right now.
    pub(super) fn admit_more(&mut self, most: usize, has_permit: bool) -> usize {
        if !has_permit {
            let more = most.min(MAX_OVER_CAPACITY - self.over_capacity);
            self.over_capacity += more;
            return more;
        }
        let available = if self.wait_queue.is_empty() { usize::try_from(self.permits).unwrap_or(0) } else { 0 };
        let more = most.min(available);
        self.permits -= signed(more);
        more
    }
}

/// Releases permits: a deficit is made up first, then waiting senders are granted one.
pub(super) fn release<'a, T, R>(inbox: &'a Mutex<State<T, R>>, mut state: MutexGuard<'a, State<T, R>>, permits: usize) {
    state.permits = state.permits.saturating_add(signed(permits));
    while !state.wait_queue.is_empty() && state.permits > 0 {
        let granted = state.grant_some();
        drop(state);
        granted.into_iter().flatten().for_each(wake_contained);
        state = inbox.lock();
    }
}

/// Wakes the task if it sleeps. It leaves its waker only when it found nothing, so this is one wake-up for however
/// many commands come before it looks again.
#[inline]
pub(super) fn wake<T, R>(mut state: MutexGuard<'_, State<T, R>>) {
    if state.waker.is_none() {
        return;
    }
    let waker = state.waker.take();
    drop(state);
    waker.into_iter().for_each(Waker::wake);
}

/// A number of permits, as it is counted. More than the type can hold is as good as endless.
pub(super) fn signed(permits: usize) -> isize {
    isize::try_from(permits).unwrap_or(isize::MAX)
}
