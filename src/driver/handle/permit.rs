//! [`Permit`]: room for one op, acquired before the op exists. `Handle::reserve` returns it; dropped unused it releases the
//! room.

use std::fmt;

use crate::{
    driver::{
        handle::{ack::Ack, error::SendError, port::Port},
        inbox::command::{Admission, Submission},
    },
    rules::time::Timestamp,
};

/// Room for one op, from [`Handle::reserve`](crate::Handle::reserve). Dropped unused, it makes room for others.
#[must_use = "a permit takes up room until it is used or dropped"]
pub struct Permit<'a, T, R = ()> {
    port: &'a Port<T, R>,
    used: bool,
}

impl<'a, T, R> Permit<'a, T, R> {
    /// The handle's side of a permit that was just acquired.
    pub(crate) fn new(port: &'a Port<T, R>) -> Self {
        Self { port, used: false }
    }

    /// Hands an op in, without waiting.
    ///
    /// # Errors
    ///
    /// Gives the op back if the batcher was closed meanwhile, or if it is too heavy.
    pub fn send(self, op: T) -> Result<(), SendError<T>> {
        self.put(Submission::new(op)).map(drop)
    }

    /// Hands an op in, without waiting, and returns an [`Ack`] that resolves to its receipt.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn submit(self, op: T) -> Result<Ack<R>, SendError<T>> {
        let (ack, verdict) = self.port.replies.pair();
        let sent_at = self.put(Submission { ack: Some(ack), ..Submission::new(op) })?;
        Ok(Ack::new(verdict, sent_at))
    }

    fn put(mut self, submission: Submission<T, R>) -> Result<Timestamp, SendError<T>> {
        if self.port.is_too_heavy(&submission.op) {
            return Err(SendError::TooHeavy(submission.op));
        }
        self.used = true;
        self.port.put(submission, Admission::Permit)
    }
}

impl<T, R> Drop for Permit<'_, T, R> {
    fn drop(&mut self) {
        if !self.used {
            self.port.inbox.release(1);
        }
    }
}

impl<T, R> fmt::Debug for Permit<'_, T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").finish_non_exhaustive()
    }
}
