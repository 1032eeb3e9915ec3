//! [`ClassifiedError`]: an error of a database after classification, with its scope and the kind of the verdict. The
//! `classify` modules make it; the writers turn it into the verdict of ops.

use std::error::Error;

use crate::sink::{ErrorKind, SinkError};

/// Phase of a write in which an error occurred. Before COMMIT everything can be rolled back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Inside or before the transaction.
    Statement,
    /// At the end of the transaction.
    Commit,
}

/// The ops that an error concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// One row, which is found by trying rows separately; all other rows can land.
    Row,
    /// The whole batch, no row in particular.
    Batch,
}

/// An error with its classification.
#[derive(Debug)]
pub(crate) struct ClassifiedError<E> {
    pub(crate) scope: Scope,
    pub(crate) kind: ErrorKind,
    pub(crate) context: Context<E>,
}

/// Explains what the database's message, which is the source, leaves open: what has landed, and whether a retry makes
/// sense.
#[derive(Debug, thiserror::Error)]
#[error("{meaning}")]
pub(crate) struct Context<E> {
    pub(crate) meaning: &'static str,
    pub(crate) source: E,
}

/// Failed rows: number within the batch, and error.
pub(crate) type Failed = Vec<(usize, SinkError)>;

impl<E: Error + Send + Sync + 'static> From<ClassifiedError<E>> for SinkError {
    fn from(classified: ClassifiedError<E>) -> Self {
        Self::new(classified.kind, classified.context)
    }
}
