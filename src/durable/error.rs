//! Errors of a durable batcher, one type per verb. An op that was not accepted is returned in the error.

use std::fmt;

use thiserror::Error;

use super::{codec::CodecError, log::LogError};
use crate::rules::{config::limits::LimitsError, outcome::OpId};

/// Why a log was not joined. Nothing has been accepted, sent or changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The limits contradict themselves or the stages, or a setting can't be had with a log.
    #[error(transparent)]
    Invalid(#[from] LimitsError),
    /// The log was made with another number of shards, which is fixed for its life.
    #[error("the log has {has} shards, not {wanted}")]
    Shards {
        /// Shards of the log.
        has: u16,
        /// Shards of the batcher.
        wanted: u16,
    },
    /// The partition key is not of the type that [`shards`](super::Durable::shards) expects, or there is none.
    #[error("shards need a partition_by stage whose key is a {0}")]
    ShardKey(&'static str),
    /// The codec can't read an op that waits in the log.
    #[error("an op in the log can't be read: {0}")]
    Unreadable(String),
    /// Another process has the log.
    #[error("the log is in use: {0}")]
    InUse(String),
    /// The log can't promise what a durable batcher promises, or is damaged.
    #[error("the log can't be used: {0}")]
    Unsafe(String),
    /// The log could not be opened.
    #[error("the log could not be opened: {0}")]
    Open(String),
}

impl From<LogError> for JoinError {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Shards { has, wanted } => Self::Shards { has, wanted },
            LogError::Damaged(why) => Self::Unsafe(why),
            LogError::Unpaired(_) => Self::Unsafe(error.to_string()),
            error => Self::Open(error.to_string()),
        }
    }
}

/// An op was not accepted, or may not have been. It comes back in the error.
#[derive(Error)]
#[non_exhaustive]
pub enum SendError<T> {
    /// The batcher has left the log.
    #[error("the batcher has left the log")]
    Closed(T),
    /// The buffer is full, and [`Overflow`](crate::Overflow) says that sends do not wait.
    #[error("the buffer is full")]
    Full(T),
    /// The op's bytes are more than a frame may hold, or its weight more than a batch may.
    #[error("the operation is too large")]
    TooLarge(T),
    /// The codec has no bytes for the op.
    #[error("the operation can't be encoded")]
    Encode {
        /// The op.
        op: T,
        /// The codec's error.
        #[source]
        error: CodecError,
    },
    /// The log gave no answer in time. The op may be accepted: ask by [`outcome`](super::Handle::outcome), or send it again as
    /// the same op by [`send_as`](super::Handle::send_as).
    #[error("the operation may or may not have been accepted")]
    InDoubt {
        /// The op.
        op: T,
        /// Its name in the log.
        id: OpId,
    },
    /// The log no longer knows the id, so that it can't tell whether the op was accepted before. It is not accepted anew.
    #[error("the id of the operation is forgotten")]
    Forgotten {
        /// The op.
        op: T,
        /// The id that was given.
        id: OpId,
    },
}

impl<T> SendError<T> {
    /// The op.
    pub fn into_inner(self) -> T {
        match self {
            Self::Closed(op) | Self::Full(op) | Self::TooLarge(op) => op,
            Self::Encode { op, .. } | Self::InDoubt { op, .. } | Self::Forgotten { op, .. } => op,
        }
    }

    /// Whether the op may have been accepted all the same.
    pub fn is_in_doubt(&self) -> bool {
        matches!(self, Self::InDoubt { .. })
    }

    /// Whether the batcher takes nothing any more.
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Closed(_))
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Closed(_) => "Closed(..)",
            Self::Full(_) => "Full(..)",
            Self::TooLarge(_) => "TooLarge(..)",
            Self::Encode { .. } => "Encode(..)",
            Self::InDoubt { .. } => "InDoubt(..)",
            Self::Forgotten { .. } => "Forgotten(..)",
        }
    }
}

/// The op is not printed: it may be secret, and need not be `Debug`.
impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Encode { error, .. } => f.debug_struct("Encode").field("error", error).finish_non_exhaustive(),
            Self::InDoubt { id, .. } => f.debug_struct("InDoubt").field("id", id).finish_non_exhaustive(),
            Self::Forgotten { id, .. } => f.debug_struct("Forgotten").field("id", id).finish_non_exhaustive(),
            other => f.write_str(other.name()),
        }
    }
}

/// Not all of several ops were accepted. What was not, or may not have been, comes back in the error, in order.
#[derive(Error)]
#[error("{} operations were not accepted: {}", .in_doubt.len() + .rest.len(), .reason)]
pub struct SendAllError<T> {
    pub(crate) in_doubt: Vec<(OpId, T)>,
    pub(crate) rest: Vec<T>,
    pub(crate) reason: SendError<()>,
}

impl<T> SendAllError<T> {
    /// Ops that may have been accepted, with their names in the log. They came before the rest.
    pub fn in_doubt(&self) -> &[(OpId, T)] {
        &self.in_doubt
    }

    /// Why the first of them was not accepted.
    pub fn reason(&self) -> &SendError<()> {
        &self.reason
    }

    /// Ops that may have been accepted, and ops that were not.
    pub fn into_parts(self) -> (Vec<(OpId, T)>, Vec<T>) {
        (self.in_doubt, self.rest)
    }
}

impl<T> fmt::Debug for SendAllError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendAllError")
            .field("in_doubt", &self.in_doubt.len())
            .field("rest", &self.rest.len())
            .field("reason", &self.reason)
            .finish()
    }
}

/// The batcher has left the log, or the log can't be reached any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the batcher has left the log")]
#[non_exhaustive]
pub struct Left;

/// Ops can't be withdrawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum WithdrawError {
    /// The batcher has left the log.
    #[error(transparent)]
    Left(#[from] Left),
    /// Other processes have joined the log, which may lead some of its shards: only the leader has the ops. If one has joined
    /// during the call, ops of other shards may have been withdrawn, and are dropped.
    #[error("other processes have joined the log")]
    Shared,
}

/// Ops can't be withdrawn by this key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum WithdrawKeyError {
    /// The batcher has left the log.
    #[error(transparent)]
    Left(#[from] Left),
    /// The stages conflate by keys of another type, or not at all.
    #[error("the stages do not conflate by keys of the type {0}")]
    WrongKey(&'static str),
    /// Ops were withdrawn that can't be handed back, and all ops of the call are dropped: the codec has no bytes for what a merge made of
    /// one, or can't read what a newer version of the program has sent.
    #[error("ops were withdrawn that can't be read")]
    Unreadable,
}
