//! [`Port`]: the way from a handle into the inbox. A handle owns one; sends in progress and permits borrow it, so that they
//! need not know the handle.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use crate::{
    driver::{
        handle::error::SendError,
        inbox::{
            Inbox,
            command::{Admission, Submission},
        },
        reply::ReplyPool,
    },
    rules::{outcome::Packed, time::Timestamp},
};

pub(crate) struct Port<T, R> {
    pub(super) inbox: Arc<Inbox<T, R>>,
    /// Sends so far, roughly: decides when one of them spends cooperative budget.
    sends: AtomicU32,
    /// Memory for the acks of this handle. Each handle has its own, so that callers on several cores need not share it.
    pub(super) replies: ReplyPool<Packed<R>>,
}

/// Sends of which one spends cooperative budget: enough for a sender that never waits to yield now and then.
pub(super) const SENDS_PER_BUDGET: u32 = 32;

impl<T, R> Port<T, R> {
    pub(super) fn new(inbox: Arc<Inbox<T, R>>) -> Self {
        Self { inbox, sends: AtomicU32::new(0), replies: ReplyPool::new() }
    }

    /// The port of a clone of the handle.
    pub(super) fn another(&self) -> Self {
        // A caller that sends each op through a new clone yields now and then, too.
        let sends = self.sends.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        Self { inbox: Arc::clone(&self.inbox), sends: AtomicU32::new(sends), replies: ReplyPool::new() }
    }

    /// Hands in an op without waiting. Returns when that was.
    pub(super) fn put(&self, submission: Submission<T, R>, admission: Admission) -> Result<Timestamp, SendError<T>> {
        let mut submission = Some(submission);
        self.inbox.push(&mut submission, admission).map_err(|rejected| rejected.give_back(&mut submission))
    }

    /// Whether no batch could hold the op, so that it has to be refused at the door.
    #[inline]
    pub(super) fn is_too_heavy(&self, op: &T) -> bool {
        self.inbox.door.as_ref().is_some_and(|door| door.refuses(op))
    }

    /// Whether a sender that always finds room has to let others run now.
    #[inline]
    pub(super) fn is_budget_due(&self) -> bool {
        // A lost update only shifts when it happens.
        let sends = self.sends.load(Ordering::Relaxed).wrapping_add(1);
        self.sends.store(sends, Ordering::Relaxed);
        sends.is_multiple_of(SENDS_PER_BUDGET)
    }
}
