//! [`Acquire`]: the future that acquires a permit, first come, first served. Sends and `Handle::reserve` await it. Dropped, it
//! leaves the queue, and a permit that was granted meanwhile passes to the next sender.

use std::{
    future::poll_fn,
    task::{Context, Poll},
};

use super::{Inbox, wait_queue::Ticket};
use crate::{
    driver::inbox::command::{Admission, PushError},
    rules::config::limits::Overflow,
};

/// Acquires a permit for one op, and waits for it if none is available.
///
/// # Cancel safety
///
/// Cancel safe: a dropped future holds no permit, though it loses its place in the queue.
pub(crate) async fn acquire<T, R>(inbox: &Inbox<T, R>) -> Result<(), PushError> {
    let mut acquire = Acquire::new(inbox);
    poll_fn(|cx| acquire.poll(cx)).await
}

/// As [`acquire`], for a sender that waits only as long as that is the policy. Returns how its op may come in.
pub(crate) async fn acquire_by_policy<T, R>(inbox: &Inbox<T, R>) -> Result<Admission, PushError> {
    let mut acquire = Acquire::new(inbox);
    poll_fn(|cx| acquire.poll_by_policy(cx)).await
}

/// A sender that acquires a permit. Dropped, it passes a permit granted meanwhile to the next sender.
pub(crate) struct Acquire<'a, T, R> {
    inbox: &'a Inbox<T, R>,
    ticket: Ticket,
}

impl<'a, T, R> Acquire<'a, T, R> {
    pub(crate) fn new(inbox: &'a Inbox<T, R>) -> Self {
        Self { inbox, ticket: Ticket::None }
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PushError>> {
        self.inbox.poll_acquire(&mut self.ticket, cx)
    }

    /// As `poll`, and leaves the queue once the policy is no longer to wait.
    pub(crate) fn poll_by_policy(&mut self, cx: &mut Context<'_>) -> Poll<Result<Admission, PushError>> {
        if let Poll::Ready(acquired) = self.poll(cx) {
            return Poll::Ready(acquired.map(|()| Admission::Queued));
        }
        // Asked after the queue was joined, so that no change goes unseen.
        if self.inbox.overflow() == Overflow::Wait {
            return Poll::Pending;
        }
        self.leave();
        Poll::Ready(Ok(Admission::TryAcquire))
    }

    fn leave(&mut self) {
        let ticket = std::mem::replace(&mut self.ticket, Ticket::None);
        if ticket != Ticket::None {
            self.inbox.leave_queue(ticket);
        }
    }
}

impl<T, R> Drop for Acquire<'_, T, R> {
    fn drop(&mut self) {
        self.leave();
    }
}
