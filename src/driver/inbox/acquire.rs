//! [`Turn`]: the future that acquires a permit, first come, first served. Sends and `Handle::reserve` await it. Dropped, it
//! leaves the queue, and a permit that was granted meanwhile passes to the next sender.

use std::{
    future::poll_fn,
    task::{Context, Poll},
};

use super::{Inbox, wait_queue::Place};
use crate::{
    driver::inbox::command::{Barred, Pass},
    rules::config::limits::Overflow,
};

/// Waits in line for room for one op, unless there is some already.
///
/// # Cancel safety
///
/// Cancel safe: a dropped future takes no room, though it loses its place in the line.
pub(crate) async fn room<T, R>(inbox: &Inbox<T, R>) -> Result<(), Barred> {
    let mut turn = Turn::new(inbox);
    poll_fn(|cx| turn.poll(cx)).await
}

/// As [`room`], for a sender that waits only as long as that is the policy. Returns how its op may come in.
pub(crate) async fn room_by_policy<T, R>(inbox: &Inbox<T, R>) -> Result<Pass, Barred> {
    let mut turn = Turn::new(inbox);
    poll_fn(|cx| turn.poll_by_policy(cx)).await
}

/// A sender's turn, which passes to the next one if the sender is gone.
pub(crate) struct Turn<'a, T, R> {
    inbox: &'a Inbox<T, R>,
    place: Place,
}

impl<'a, T, R> Turn<'a, T, R> {
    pub(crate) fn new(inbox: &'a Inbox<T, R>) -> Self {
        Self { inbox, place: Place::Outside }
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Barred>> {
        self.inbox.poll_room(&mut self.place, cx)
    }

    /// As `poll`, and leaves the line once the policy is no longer to wait.
    pub(crate) fn poll_by_policy(&mut self, cx: &mut Context<'_>) -> Poll<Result<Pass, Barred>> {
        if let Poll::Ready(room) = self.poll(cx) {
            return Poll::Ready(room.map(|()| Pass::Waited));
        }
        // Asked after the line was joined, so that no change goes unseen.
        if self.inbox.overflow() == Overflow::Wait {
            return Poll::Pending;
        }
        self.leave();
        Poll::Ready(Ok(Pass::Free))
    }

    fn leave(&mut self) {
        let place = std::mem::replace(&mut self.place, Place::Outside);
        if place != Place::Outside {
            self.inbox.leave_line(place);
        }
    }
}

impl<T, R> Drop for Turn<'_, T, R> {
    fn drop(&mut self) {
        self.leave();
    }
}
