//! [`OpStatus`]: what is known of an op by its id.

use crate::rules::outcome::Outcome;

/// The state of an op, as the log knows it by its id.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum OpStatus<R = ()> {
    /// The op is in the log and has not ended.
    Waiting,
    /// The op has ended. The latency is not kept in the log, and zero here.
    Ended(Outcome<R>),
    /// The op is not in the log, and may still come: its frame can be on the way.
    NotYetKnown,
    /// The op is not in the log, and never will be unless it is sent again.
    NeverAccepted,
    /// The id is older than the [`horizon`](super::Durable::horizon), or of another log.
    Forgotten,
}

impl<R> OpStatus<R> {
    /// Whether the op has ended.
    pub fn is_ended(&self) -> bool {
        matches!(self, Self::Ended(_))
    }
}
