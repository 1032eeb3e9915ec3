//! Errors of a handle's methods, one type per verb. An op that was not accepted is returned in the error.

use std::fmt;

use thiserror::Error;

use crate::rules::config::limits::LimitsError;

/// An op was not taken. It comes back in the error.
#[derive(Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SendError<T> {
    /// `max_pending` ops are accepted and not yet settled. From [`send`](crate::Handle::send) only where
    /// [`Overflow`](crate::Overflow) says so.
    #[error("the buffer is full")]
    Full(T),
    /// The batcher is shutting down, or gone.
    #[error("the batcher is closed")]
    Closed(T),
    /// The op is heavier than `max_weight`, so that no batch could hold it.
    #[error("the operation is heavier than a batch may be")]
    TooHeavy(T),
}

/// An op was not taken at once, by [`try_send`](crate::Handle::try_send) or [`publish`](crate::Feed::publish). It comes back
/// in the error.
#[derive(Clone, PartialEq, Eq, Error)]
pub enum TrySendError<T> {
    /// `max_pending` ops are accepted and not yet settled.
    #[error("the buffer is full")]
    Full(T),
    /// The batcher is shutting down, or gone.
    #[error("the batcher is closed")]
    Closed(T),
    /// The op is heavier than `max_weight`, so that no batch could hold it.
    #[error("the operation is heavier than a batch may be")]
    TooHeavy(T),
}

/// The message of both errors.
macro_rules! gives_the_op_back {
    ($error:ident) => {
        impl<T> $error<T> {
            /// The op that was not taken.
            pub fn into_inner(self) -> T {
                match self {
                    Self::Full(op) | Self::Closed(op) | Self::TooHeavy(op) => op,
                }
            }

            /// Whether the batcher takes nothing any more.
            pub fn is_closed(&self) -> bool {
                matches!(self, Self::Closed(_))
            }

            /// Whether there was no room just then.
            pub fn is_full(&self) -> bool {
                matches!(self, Self::Full(_))
            }
        }

        /// The op is not printed: it may be secret, and need not be `Debug`.
        impl<T> fmt::Debug for $error<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    Self::Full(_) => "Full(..)",
                    Self::Closed(_) => "Closed(..)",
                    Self::TooHeavy(_) => "TooHeavy(..)",
                })
            }
        }
    };
}

gives_the_op_back!(SendError);
gives_the_op_back!(TrySendError);

impl<T> SendError<T> {
    /// The same of an op that was not to wait for room.
    pub(crate) fn at_once(self) -> TrySendError<T> {
        match self {
            Self::Full(op) => TrySendError::Full(op),
            Self::Closed(op) => TrySendError::Closed(op),
            Self::TooHeavy(op) => TrySendError::TooHeavy(op),
        }
    }
}

impl<T> From<TrySendError<T>> for SendError<T> {
    fn from(error: TrySendError<T>) -> Self {
        match error {
            TrySendError::Full(op) => Self::Full(op),
            TrySendError::Closed(op) => Self::Closed(op),
            TrySendError::TooHeavy(op) => Self::TooHeavy(op),
        }
    }
}

/// Not all of several ops were taken. The rest comes back in the error, in order.
#[derive(Clone, PartialEq, Eq, Error)]
#[error("{} operations were not taken: {}", .rest.len(), .reason)]
pub struct SendAllError<T> {
    pub(crate) rest: Vec<T>,
    pub(crate) reason: SendError<()>,
}

impl<T> SendAllError<T> {
    /// The ops that were not taken, in order, the one that the reason is about first.
    pub fn into_inner(self) -> Vec<T> {
        self.rest
    }

    /// Why the first of them was not taken.
    pub fn reason(&self) -> &SendError<()> {
        &self.reason
    }

    /// Whether the batcher takes nothing any more.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// # use roundlot::{Batcher, testing::Recorder};
    /// let (desk, worker) = Batcher::new(Recorder::new()).spawn();
    /// worker.shutdown().await.unwrap();
    /// let error = desk.send_all([1, 2]).await.unwrap_err();
    /// assert!(error.is_closed() && !error.is_full());
    /// assert_eq!(error.into_inner(), [1, 2]);
    /// # }
    /// ```
    pub fn is_closed(&self) -> bool {
        self.reason.is_closed()
    }

    /// Whether there was no room just then.
    pub fn is_full(&self) -> bool {
        self.reason.is_full()
    }
}

impl<T> fmt::Debug for SendAllError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendAllError").field("rest", &self.rest.len()).field("reason", &self.reason).finish()
    }
}

/// The batcher is shutting down, or gone, and can't do what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the batcher is closed")]
#[non_exhaustive]
pub struct Closed;

/// Limits were not changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SetLimitsError {
    /// The limits contradict themselves, or the stages.
    #[error(transparent)]
    Invalid(#[from] LimitsError),
    /// The batcher is shutting down, or gone.
    #[error("the batcher is closed")]
    Closed,
}

/// The task of a batcher ended without a summary: it was aborted, it panicked, or its runtime was shut down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the batcher's task is gone without a summary")]
#[non_exhaustive]
pub struct WorkerGone;
