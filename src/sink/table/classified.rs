//! What databases share when something fails: in comes an error that the sink of a database has classified, out goes
//! the verdict of the ops. Next room: `batch`.

use std::error::Error;

use crate::sink::{ErrorKind, SinkError};

/// What was being done when it failed. Up to COMMIT all can be rolled back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Anything inside or before the transaction.
    Statement,
    /// Ending the transaction.
    Commit,
}

/// Whose fault it is, and so who hears of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// One row, which is found by trying them apart; the others can land.
    Row,
    /// No row: the whole batch shares the verdict.
    Batch,
}

/// A failure that has been understood.
#[derive(Debug)]
pub(crate) struct ClassifiedError<E> {
    pub(crate) scope: Scope,
    pub(crate) kind: ErrorKind,
    pub(crate) context: Context<E>,
}

/// Says in words what the database's own message, which follows as the source, leaves open: what has landed, and
/// whether it is worth trying again.
#[derive(Debug, thiserror::Error)]
#[error("{meaning}")]
pub(crate) struct Context<E> {
    pub(crate) meaning: &'static str,
    pub(crate) source: E,
}

/// Rows by number, each with why it did not land.
pub(crate) type Failed = Vec<(usize, SinkError)>;

impl<E: Error + Send + Sync + 'static> From<ClassifiedError<E>> for SinkError {
    fn from(classified: ClassifiedError<E>) -> Self {
        Self::new(classified.kind, classified.context)
    }
}
