//! An op that could not be written, on its way to whoever looks into it. In comes an op that was given up, out it goes
//! to a sink of its own.

use std::fmt;

use crate::sink::SinkError;

/// An op that was given up, or is in doubt, with the reason.
#[derive(Clone)]
#[non_exhaustive]
pub struct DeadLetter<T> {
    /// The op.
    pub op: T,
    /// The last error.
    pub error: SinkError,
    /// How often it was handed to the sink.
    pub attempts: u32,
    in_doubt: bool,
}

impl<T> DeadLetter<T> {
    pub(crate) fn new(op: T, error: SinkError, attempts: u32, in_doubt: bool) -> Self {
        Self { op, error, attempts, in_doubt }
    }

    /// Whether the op may have landed all the same, in this attempt or an earlier one, so that sending it again may send
    /// it twice.
    pub fn is_in_doubt(&self) -> bool {
        self.in_doubt
    }
}

/// The payload is never printed: it may be secret.
impl<T> fmt::Debug for DeadLetter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetter")
            .field("error", &self.error)
            .field("attempts", &self.attempts)
            .finish_non_exhaustive()
    }
}
