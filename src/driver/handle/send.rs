//! [`Sending`]: the future of `Handle::send`. It holds the op until the inbox accepts it, and returns it otherwise.
//!
//! It is written by hand, since an `async fn` would move the op about three times more, and moves are a good part of the cost of
//! a send.

use std::{
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use tokio::task::coop;

use crate::{
    driver::{
        clock,
        handle::{error::SendError, port::Port},
        inbox::{
            Acquire,
            command::{Admission, PushError, Submission},
        },
    },
    rules::{config::limits::Overflow, time::Timestamp},
};

/// Hands an op in, waiting for room if that is the policy.
#[must_use = "an operation is sent when this is awaited"]
pub(crate) struct Sending<'a, T, R> {
    port: &'a Port<T, R>,
    /// `None` once it is handed in or back.
    submission: Option<Submission<T, R>>,
    /// There was no room.
    acquire: Option<Acquire<'a, T, R>>,
    /// When that was, once the op is handed in.
    pub(crate) sent_at: Timestamp,
}

/// Nothing in it is ever pinned.
impl<T, R> Unpin for Sending<'_, T, R> {}

impl<'a, T, R> Sending<'a, T, R> {
    #[inline]
    pub(crate) fn new(port: &'a Port<T, R>, submission: Submission<T, R>) -> Self {
        Self { port, submission: Some(submission), acquire: None, sent_at: Timestamp::END }
    }

    /// Waits for room, if that is the policy.
    #[cold]
    fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendError<T>>> {
        let inbox = &self.port.inbox;
        let acquire = self.acquire.get_or_insert_with(|| Acquire::new(inbox));
        loop {
            let pushed = match ready!(acquire.poll_by_policy(cx)) {
                Ok(admission) => inbox.push(&mut self.submission, admission),
                Err(closed) => Err(closed),
            };
            return Poll::Ready(match pushed {
                Ok(at) => {
                    self.sent_at = at;
                    Ok(())
                }
                // The policy was another one for a moment, and is to wait again.
                Err(PushError::Full) if inbox.overflow() == Overflow::Wait => continue,
                Err(rejected) => Err(rejected.give_back(&mut self.submission)),
            });
        }
    }

    #[cold]
    fn rejected(&mut self, rejected: PushError, cx: &mut Context<'_>) -> Poll<Result<(), SendError<T>>> {
        if rejected == PushError::Full && self.port.inbox.overflow() == Overflow::Wait {
            if let Some(submission) = &mut self.submission {
                // Age counts from here on, the wait for room included.
                submission.at.get_or_insert_with(clock::now);
            }
            return self.poll_waiting(cx);
        }
        Poll::Ready(Err(rejected.give_back(&mut self.submission)))
    }
}

impl<T, R> Future for Sending<'_, T, R> {
    type Output = Result<(), SendError<T>>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.acquire.is_some() {
            return self.poll_waiting(cx);
        }
        let Self { port, submission, sent_at, .. } = &mut *self;
        assert!(submission.is_some(), "a send is not polled again when it is done");
        if let Some(submission) = submission.take_if(|submission| port.is_too_heavy(&submission.op)) {
            return Poll::Ready(Err(SendError::TooHeavy(submission.op)));
        }
        if port.is_budget_due() {
            ready!(pin!(coop::consume_budget()).poll(cx));
        }
        match port.inbox.push(submission, Admission::TryAcquire) {
            Ok(at) => {
                *sent_at = at;
                Poll::Ready(Ok(()))
            }
            Err(rejected) => self.rejected(rejected, cx),
        }
    }
}
