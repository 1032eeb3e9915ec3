//! [`SinkError`]: why a write, or one op of it, failed: a kind that decides what happens next, and the cause.

use std::{any::Any, error::Error, fmt, num::NonZeroU32, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::rules::{batch::recorded::Recorded, panics, seconds};

/// Why a write, or one op of it, did not succeed. Cheap to clone, since several callers may hear of it.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use roundlot::{ErrorKind, SinkError};
///
/// let error = SinkError::transient("connection reset");
/// assert_eq!(error.kind(), ErrorKind::Transient);
///
/// let error = SinkError::throttled(Duration::from_secs(1));
/// assert_eq!(error.kind(), ErrorKind::Throttled { retry_after: Duration::from_secs(1) });
/// ```
///
/// In serde its causes are texts, the outermost first. One that was read says the same as the one that was written, and
/// means the same to a batcher, but its causes can't be downcast:
///
/// ```
/// use roundlot::SinkError;
///
/// let error = SinkError::connection_lost("reset by peer");
/// let json = serde_json::to_string(&error)?;
/// assert_eq!(json, r#"{"kind":"ambiguous","outage":true,"max_items":null,"causes":["reset by peer"]}"#);
///
/// let read: SinkError = serde_json::from_str(&json)?;
/// assert_eq!(read.chain(), error.chain());
/// assert!(read.is_outage());
///
/// let throttled = r#"{"kind":{"throttled":{"retry_after_seconds":0.5}},"outage":false,"causes":[]}"#;
/// assert_eq!(serde_json::from_str::<SinkError>(throttled)?.to_string(), "throttled for 500ms");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Serialize, Deserialize)]
#[serde(from = "Recorded", into = "Recorded")]
pub struct SinkError {
    kind: ErrorKind,
    /// The cause. The message of the error itself does not repeat it.
    source: Option<Arc<dyn Error + Send + Sync>>,
    /// The destination as a whole is away, whatever became of the ops of this write.
    outage: bool,
    /// Ops that the destination takes at once, if it said so when it called a batch too large.
    max_items: Option<NonZeroU32>,
}

/// Tells what a failed write means for the ops in it.
///
/// What is what, and what comes of it:
///
/// | what happened | error | the ops of the write | all other ops |
/// |---|---|---|---|
/// | a deadlock, a conflict, a busy record | [`Transient`](Self::Transient) | again after their backoff, an attempt each | go on |
/// | disk full, server gone or starting, failover, connection refused, before anything was sent | [`Outage`](Self::Outage) | again, at the cost of no attempt | wait with them until the backoff of the outage is over |
/// | the connection was lost, or the server ended, while the write was under way | [`connection_lost`](SinkError::connection_lost): [`Ambiguous`](Self::Ambiguous) | in doubt, or again if [`idempotent`](crate::Batcher::idempotent) | wait as in an outage |
/// | no answer in time, where the destination may well be there | [`Ambiguous`](Self::Ambiguous) | in doubt, or again if [`idempotent`](crate::Batcher::idempotent) | go on |
/// | a rate limit | [`Throttled`](Self::Throttled) | again, an attempt each | wait until it is over |
/// | the op itself is wrong: a constraint, a malformed price, an unknown symbol | [`Refused`](Self::Refused) | dead letters | go on |
/// | the batch is too large, or takes too long by its size | [`TooLarge`](Self::TooLarge) | again in two halves; one op alone is refused | go on |
/// | another process writes as the leader | [`Fenced`](Self::Fenced) | given back | given back |
/// | the peer has left for good, as a browser does | [`Closed`](Self::Closed) | given back | given back |
///
/// An outage is no failure of an op, so attempts are kept for what is wrong with an op or a batch. What a write can't tell
/// apart is the safer of the two: `Ambiguous` rather than `Outage`, if something may have landed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// Nothing landed. The op is tried again, as [`Retry`](crate::Retry) says.
    Transient,
    /// Nothing landed, and the destination asks for a pause. The whole batcher cuts nothing until it is over, and
    /// the op is then tried again, after its backoff if that is longer.
    Throttled {
        /// How long to send nothing.
        #[serde(rename = "retry_after_seconds", with = "seconds")]
        retry_after: Duration,
    },
    /// Nothing landed, because the destination as a whole is away: disk full, server gone or starting, failover,
    /// connection refused. The whole batcher cuts nothing until a backoff is over, as [`Retry`](crate::Retry) says. No op
    /// loses an attempt by it, and all of them stay in the buffer.
    Outage,
    /// The op may have landed. It is tried again only by a batcher that was built
    /// [`idempotent`](crate::Batcher::idempotent); otherwise it ends in doubt.
    Ambiguous,
    /// The op never will land: a dead letter.
    Refused,
    /// The batch is too large for the destination: it is split in two and both halves are tried. One op by itself
    /// is refused.
    TooLarge,
    /// A newer leader exists: the batcher stops, and gives back what it holds.
    Fenced,
    /// No verdict was given, because the task that would have given it is gone.
    Lost,
    /// Nothing landed, and nothing will: the peer has left for good, as a browser does, and nothing is wrong. The batcher
    /// stops and gives back what it holds, and says so at debug level only.
    Closed,
}

impl SinkError {
    /// An error of any kind with its cause. A cause that is itself a `SinkError` of that kind is taken apart, so that no
    /// statement is made twice.
    pub fn new(kind: ErrorKind, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        match source.into().downcast::<Self>() {
            Ok(error) if error.kind == kind => Self { outage: kind == ErrorKind::Outage, ..*error },
            Ok(error) => Self { source: Some(Arc::new(*error)), ..kind.into() },
            Err(source) => Self { source: Some(Arc::from(source)), ..kind.into() },
        }
    }

    pub(super) fn from_parts(kind: ErrorKind, source: Option<Arc<dyn Error + Send + Sync>>, outage: bool) -> Self {
        Self { kind, source, outage, max_items: None }
    }

    /// Nothing landed; try again later.
    pub fn transient(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(ErrorKind::Transient, source)
    }

    /// Nothing landed; send nothing at all for `retry_after`.
    #[doc(alias = "throttle")]
    #[doc(alias = "rate limit")]
    pub fn throttled(retry_after: Duration) -> Self {
        ErrorKind::Throttled { retry_after }.into()
    }

    /// Nothing landed: the destination as a whole is away, and no op is to blame.
    pub fn outage(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(ErrorKind::Outage, source)
    }

    /// The connection was lost during a write. The ops of that write are [`Ambiguous`](ErrorKind::Ambiguous), since they
    /// may have landed; for all others it is an outage, as after [`outage`](Self::outage).
    pub fn connection_lost(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { outage: true, ..Self::ambiguous(source) }
    }

    /// An error that says that the op may have landed.
    pub fn ambiguous(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(ErrorKind::Ambiguous, source)
    }

    /// An error that says that the op never will land.
    pub fn refused(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(ErrorKind::Refused, source)
    }

    /// The batch is larger than the destination takes.
    pub fn too_large(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(ErrorKind::TooLarge, source)
    }

    /// The batch is larger than the destination takes, which is `max_items` ops at once. The batcher cuts no larger batch
    /// from then on, except to probe now and then whether the limit still holds.
    pub fn too_large_over(max_items: usize) -> Self {
        Self::from(ErrorKind::TooLarge).taking_at_most(Some(max_items))
    }

    pub(super) fn taking_at_most(self, max_items: Option<usize>) -> Self {
        let max_items = max_items.and_then(|max_items| NonZeroU32::new(u32::try_from(max_items).unwrap_or(u32::MAX)));
        Self { max_items, ..self }
    }

    /// A newer leader writes to this destination; this batcher must stop.
    pub fn fenced(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(ErrorKind::Fenced, source)
    }

    /// Nothing landed, since the peer has left for good; the batcher ends without noise.
    pub fn closed(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(ErrorKind::Closed, source)
    }

    /// A function of the user panicked while the op was in the buffer: nothing was sent, and calling it again will not help.
    pub(crate) fn panicked(what: &str, panic: &(dyn Any + Send)) -> Self {
        Self::refused(format!("{what} panicked: {}", panics::message(panic)))
    }

    /// Tells what the error means for the ops it applies to.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The cause, if the sink named one. The message of the error itself is its kind and does not repeat the cause: print
    /// [`chain`](Self::chain).
    ///
    /// The same as [`Error::source`], without that trait in scope.
    pub fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }

    /// Whether the destination as a whole is away: true after [`outage`](Self::outage) and
    /// [`connection_lost`](Self::connection_lost).
    pub fn is_outage(&self) -> bool {
        self.outage
    }

    /// Ops that the destination takes at once, if it said so with [`too_large_over`](Self::too_large_over).
    pub fn max_items(&self) -> Option<usize> {
        self.max_items.map(|max_items| max_items.get() as usize)
    }

    /// Whether the destination has answered, which it can't during an outage.
    pub(crate) fn is_answer(&self) -> bool {
        !self.outage && !matches!(self.kind, ErrorKind::Ambiguous | ErrorKind::Lost)
    }

    /// The same cause under another kind. The error remains an outage if it was one.
    #[must_use]
    pub fn with_kind(self, kind: ErrorKind) -> Self {
        Self { kind, outage: self.outage || kind == ErrorKind::Outage, ..self }
    }

    /// The same error with another cause, such as what the body of a response says.
    ///
    /// ```
    /// use roundlot::SinkError;
    ///
    /// let error = SinkError::from_status(400, None).with_source("HTTP status 400: insufficient balance");
    /// assert_eq!(error.chain(), "refused: HTTP status 400: insufficient balance");
    /// ```
    #[must_use]
    pub fn with_source(self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { source: Some(Arc::from(source.into())), ..self }
    }

    /// The kind, and the causes behind it, in one line: for logs and reports.
    pub fn chain(&self) -> String {
        chain(self)
    }
}

/// The message of an error. A log line must not end a batcher, so a message that panics, or that the error fails to write,
/// is replaced.
pub(super) fn message(error: &dyn Error) -> String {
    panics::catch(|| error.to_string()).unwrap_or_else(|_| "an error whose message panicked".to_owned())
}

/// An error and the causes behind it, in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = message(error);
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&message(error));
        cause = error.source();
    }
    text
}

impl From<ErrorKind> for SinkError {
    fn from(kind: ErrorKind) -> Self {
        Self { kind, source: None, outage: kind == ErrorKind::Outage, max_items: None }
    }
}

impl fmt::Display for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            ErrorKind::Transient => f.write_str("not written for now"),
            ErrorKind::Throttled { retry_after } => write!(f, "throttled for {retry_after:?}"),
            ErrorKind::Outage => f.write_str("the destination is away"),
            ErrorKind::Ambiguous => f.write_str("may or may not have been written"),
            ErrorKind::Refused => f.write_str("refused"),
            ErrorKind::TooLarge => f.write_str("batch too large"),
            ErrorKind::Fenced => f.write_str("fenced by a newer leader"),
            ErrorKind::Lost => f.write_str("lost without a verdict"),
            ErrorKind::Closed => f.write_str("the peer has left"),
        }
    }
}

impl fmt::Debug for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("SinkError");
        debug.field("kind", &self.kind);
        if let Some(source) = &self.source {
            debug.field("source", source);
        }
        debug.finish()
    }
}

impl Error for SinkError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        SinkError::source(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_of_the_same_kind_makes_no_statement_twice() {
        let inner = SinkError::refused("the price is zero");
        assert_eq!(SinkError::refused(inner.clone()).chain(), "refused: the price is zero");
        assert_eq!(SinkError::transient(inner).chain(), "not written for now: refused: the price is zero");
        let lost = SinkError::connection_lost(SinkError::ambiguous("reset"));
        assert_eq!(lost.chain(), "may or may not have been written: reset");
        assert!(lost.is_outage());
        assert!(!SinkError::ambiguous(lost).is_outage());
    }
}
