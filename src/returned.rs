//! An op that comes back to its owner unsettled. In comes what was waiting or in flight when the batcher ended, out it
//! goes in the summary.

use std::fmt;

/// An op that was not settled when the batcher ended.
#[derive(Clone)]
#[non_exhaustive]
pub struct Returned<T> {
    /// The op.
    pub op: T,
    /// Whether it was being written when the time was over.
    pub in_flight: bool,
    /// Whether it may have landed: it was in flight, or an earlier attempt was ambiguous.
    pub in_doubt: bool,
}

impl<T> Returned<T> {
    pub(crate) fn new(op: T, in_flight: bool, in_doubt: bool) -> Self {
        Self { op, in_flight, in_doubt }
    }
}

/// The payload is never printed: it may be secret.
impl<T> fmt::Debug for Returned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Returned")
            .field("in_flight", &self.in_flight)
            .field("in_doubt", &self.in_doubt)
            .finish_non_exhaustive()
    }
}
