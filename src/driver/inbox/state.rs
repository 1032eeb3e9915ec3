//! [`State`]: what the mutex of the inbox protects: ops, commands, permits and the queue of waiting senders. It decides whether
//! an op is admitted.

use std::task::Waker;

use super::wait_queue::Line;
use crate::{
    driver::inbox::command::{Barred, Command, News, Pass},
    rules::{
        config::limits::{Limits, Overflow},
        outcome::{
            AckSender,
            mutex::{Mutex, MutexGuard},
        },
        panics,
        stats::Stats,
    },
};

/// What each send looks at comes first, so that it lies next to the lock.
#[repr(C)]
pub(super) struct State<T, R> {
    pub(super) ops: Vec<T>,
    pub(super) commands: Vec<Command<T>>,
    /// Available permits. Negative after `max_pending` was lowered or an op was accepted without a permit.
    pub(super) room: isize,
    /// Ops that were ever put in.
    pub(super) pushed: u64,
    /// How to wake the task, while it sleeps.
    pub(super) waker: Option<Waker>,
    pub(super) closed: bool,
    /// The task takes nothing any more, no wishes either.
    pub(super) gone: bool,
    pub(super) overflow: Overflow,
    /// Senders that wait for a permit.
    pub(super) line: Line,
    /// Acks of the ops that have one, in the order of the ops.
    pub(super) acks: Vec<AckSender<R>>,
    /// Ops that are not paid for.
    pub(super) unpaid: usize,
    pub(super) news: News,
    /// How many of the ops the task has told of in `stats`.
    pub(super) published: u64,
    pub(super) stats: Stats,
}

/// Ops that may be on their way to evict others, at most: enough for a burst, not enough to matter.
const MOST_UNPAID: usize = 65_536;

/// Senders granted a permit under one lock: few enough to be held on the stack.
const CALLED_AT_ONCE: usize = 16;

impl<T, R> State<T, R> {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            ops: Vec::new(),
            commands: Vec::new(),
            room: signed(limits.max_pending),
            pushed: 0,
            waker: None,
            closed: false,
            gone: false,
            overflow: limits.overflow,
            line: Line::new(),
            acks: Vec::new(),
            unpaid: 0,
            news: News::default(),
            published: 0,
            stats: Stats::default(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.commands.is_empty() && self.news.is_none()
    }

    pub(super) fn has_room(&self) -> bool {
        self.room > 0 && self.line.is_empty()
    }

    /// Lets one op in, if it may come in. Says whether it is paid for.
    #[inline]
    pub(super) fn admit(&mut self, pass: Pass) -> Result<bool, Barred> {
        if self.closed {
            // Room that the op had makes no difference any more.
            return Err(Barred::Closed);
        }
        match pass {
            Pass::Paid => {}
            Pass::Waited => self.news.pressed = true,
            Pass::Free if self.has_room() => self.room -= 1,
            Pass::Free => {
                if !self.overflow.evicts() || self.unpaid >= MOST_UNPAID {
                    self.news.pressed = true;
                    return Err(Barred::Full);
                }
                self.unpaid += 1;
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Gives room to some of those who wait for it, who have to be woken when the lock is free again.
    fn call_some(&mut self) -> [Option<Waker>; CALLED_AT_ONCE] {
        std::array::from_fn(|_| {
            let waker = if self.room > 0 { self.line.call() } else { None };
            self.room -= isize::from(waker.is_some());
            waker
        })
    }

    /// Lets in as many more of the same as can come in right now.
    pub(super) fn admit_more(&mut self, most: usize, paid: bool) -> usize {
        if !paid {
            let more = most.min(MOST_UNPAID - self.unpaid);
            self.unpaid += more;
            return more;
        }
        let room = if self.line.is_empty() { usize::try_from(self.room).unwrap_or(0) } else { 0 };
        let more = most.min(room);
        self.room -= signed(more);
        more
    }
}

/// Gives room back, to those who wait for it first. What is owed is paid before.
pub(super) fn free<'a, T, R>(inbox: &'a Mutex<State<T, R>>, mut state: MutexGuard<'a, State<T, R>>, room: usize) {
    state.room = state.room.saturating_add(signed(room));
    while !state.line.is_empty() && state.room > 0 {
        let called = state.call_some();
        drop(state);
        called.into_iter().flatten().for_each(panics::wake);
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

/// Room, as it is counted: more than can ever be used is as good as endless.
pub(super) fn signed(room: usize) -> isize {
    isize::try_from(room).unwrap_or(isize::MAX)
}
