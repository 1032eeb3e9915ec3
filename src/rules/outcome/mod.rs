//! How an op ends, and what its caller is told: [`End`], [`AckError`], [`Outcome`]. The accumulator hands back an [`Answer`] for
//! each token; the driver tells its caller at the end of the turn.

mod op_id;
mod outcomes;
pub(crate) mod undelivered;
mod waiters;

use std::{error::Error, fmt, time::Duration};

use serde::{Deserialize, Serialize};

pub use op_id::OpId;
pub use outcomes::Outcomes;
pub use undelivered::{DeadLetter, Returned};
pub(crate) use waiters::{Waiter, Waiters};

use crate::rules::{
    batch::{ErrorKind, SinkError, error::chain},
    seconds,
};

/// How an op ended. Each accepted op ends in exactly one of these ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum End {
    /// The sink accepted it.
    Delivered,
    /// The destination refused it, or no batch can hold it. It became a dead letter.
    Refused,
    /// Its retries were used up, or the outage that it met lasted too long. It became a dead letter.
    Exhausted,
    /// The op may or may not have landed. It became a dead letter too, to be looked into.
    InDoubt,
    /// The op was merged with another op of its key, which went on.
    Conflated,
    /// The op was a repeat of an op seen shortly before.
    Deduplicated,
    /// The op and another one canceled out while both waited.
    Netted,
    /// The op was still waiting when its time was over.
    Expired,
    /// The op was evicted from a full buffer, for another one.
    Evicted,
    /// A caller took it back out.
    Withdrawn,
    /// The op was not settled when the shutdown was over, and was given back.
    Returned,
    /// The task was killed, or the sink lost it ([`ErrorKind::Lost`]).
    Lost,
}

impl End {
    pub(crate) const COUNT: usize = 12;
    pub(crate) const ALL: [Self; Self::COUNT] = [
        Self::Delivered,
        Self::Refused,
        Self::Exhausted,
        Self::InDoubt,
        Self::Conflated,
        Self::Deduplicated,
        Self::Netted,
        Self::Expired,
        Self::Evicted,
        Self::Withdrawn,
        Self::Returned,
        Self::Lost,
    ];

    /// The name used in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Refused => "refused",
            Self::Exhausted => "exhausted",
            Self::InDoubt => "in_doubt",
            Self::Conflated => "conflated",
            Self::Deduplicated => "deduplicated",
            Self::Netted => "netted",
            Self::Expired => "expired",
            Self::Evicted => "evicted",
            Self::Withdrawn => "withdrawn",
            Self::Returned => "returned",
            Self::Lost => "lost",
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Why an op was not delivered.
///
/// Its message and the [`source`](std::error::Error::source)s behind it make no statement twice:
///
/// ```
/// use roundlot::{AckError, SinkError};
///
/// let error = AckError::Refused(SinkError::refused("the price is zero"));
/// assert_eq!(error.to_string(), "refused");
/// assert_eq!(error.chain(), "refused: the price is zero");
/// ```
///
/// In serde it is named by how the op ended, with what it contains:
///
/// ```
/// use roundlot::{AckError, SinkError};
///
/// let refused = serde_json::to_string(&AckError::Refused(SinkError::refused("the price is zero")))?;
/// assert_eq!(refused, r#"{"refused":{"kind":"refused","outage":false,"max_items":null,"causes":["the price is zero"]}}"#);
/// assert_eq!(serde_json::to_string(&AckError::Netted)?, r#""netted""#);
///
/// let returned = r#"{"returned":{"in_flight":true,"in_doubt":true}}"#;
/// assert!(matches!(serde_json::from_str(returned)?, AckError::Returned { in_doubt: true, .. }));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AckError {
    /// The destination refused it, or no batch can hold it. It became a dead letter.
    Refused(SinkError),
    /// Its retries were used up, or the outage that it met lasted too long. It became a dead letter. The error is the last
    /// one.
    Exhausted(SinkError),
    /// The op may or may not have landed.
    InDoubt(SinkError),
    /// The op and another one canceled out; neither was sent.
    Netted,
    /// Its time was over before it could be sent.
    Expired,
    /// The op was evicted from a full buffer, for another one.
    Evicted,
    /// A caller took it back out.
    Withdrawn,
    /// The shutdown was over before it was settled; it is in the [`Summary`](crate::Summary).
    Returned {
        /// Whether it was being written just then.
        in_flight: bool,
        /// Whether it may have landed: it was in flight, or an earlier attempt was ambiguous.
        in_doubt: bool,
    },
    /// The process left a durable log before the op was settled. The op waits on in the log, and its end can be asked for by
    /// its id.
    Detached {
        /// The op's name in the log.
        id: OpId,
    },
    /// The task that would have answered is gone.
    Lost,
}

impl AckError {
    /// How the op ended that this is about.
    pub fn end(&self) -> End {
        match self {
            Self::Refused(_) => End::Refused,
            Self::Exhausted(_) => End::Exhausted,
            Self::InDoubt(_) => End::InDoubt,
            Self::Netted => End::Netted,
            Self::Expired => End::Expired,
            Self::Evicted => End::Evicted,
            Self::Withdrawn => End::Withdrawn,
            Self::Returned { .. } | Self::Detached { .. } => End::Returned,
            Self::Lost => End::Lost,
        }
    }

    /// The error and the causes behind it, in one line: for logs and reports.
    pub fn chain(&self) -> String {
        chain(self)
    }

    /// The sink's error behind it, and whether the error's own message says all that the message of this one would.
    fn cause(&self) -> Option<(&SinkError, bool)> {
        match self {
            Self::Exhausted(error) => Some((error, false)),
            Self::Refused(error) => Some((error, error.kind() == ErrorKind::Refused)),
            Self::InDoubt(error) => Some((error, error.kind() == ErrorKind::Ambiguous)),
            _ => None,
        }
    }
}

impl fmt::Display for AckError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused(_) => "refused",
            Self::Exhausted(_) => "retries used up",
            Self::InDoubt(_) => "may or may not have been written",
            Self::Netted => "the operation was netted with another one and not sent",
            Self::Expired => "the operation expired before it could be sent",
            Self::Evicted => "the operation was evicted from a full buffer",
            Self::Withdrawn => "the operation was withdrawn",
            Self::Returned { .. } => "the operation was returned at shutdown",
            Self::Detached { .. } => "the operation waits in the log, which its process has left",
            Self::Lost => "the operation was lost with its batcher",
        })
    }
}

impl Error for AckError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self.cause()? {
            (error, true) => error.source(),
            (error, false) => Some(error),
        }
    }
}

/// The result of one op, with how it ended, how often it was tried and how long it took.
///
/// In serde:
///
/// ```
/// use roundlot::Outcome;
///
/// let json = r#"{"result":{"Ok":1000},"end":"delivered","attempts":1,"latency_seconds":0.012}"#;
/// let outcome: Outcome<u64> = serde_json::from_str(json)?;
/// assert_eq!((outcome.result.as_ref().ok(), outcome.latency.as_millis()), (Some(&1000), 12));
/// assert_eq!(serde_json::to_string(&outcome)?, json);
///
/// let json = r#"{"result":{"Err":"expired"},"end":"expired","attempts":0,"latency_seconds":3.0}"#;
/// assert_eq!(serde_json::to_string(&serde_json::from_str::<Outcome>(json)?)?, json);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Outcome<R = ()> {
    /// The receipt, or why there is none. An op that was conflated or deduplicated has the result of the other one.
    pub result: Result<R, AckError>,
    /// How this op ended. Of two ops that were merged, it is the one that waited that is [`Conflated`](End::Conflated),
    /// whichever of their values went on.
    pub end: End,
    /// How often it, or the op it was merged into, was handed to the sink.
    pub attempts: u32,
    /// From `submit` to the verdict. Where some submits that came together share a time stamp, from the first of them.
    #[serde(rename = "latency_seconds", with = "seconds")]
    pub latency: Duration,
}

/// An [`Outcome`] on its way, small enough to share a line of the CPU's caches with what carries it.
#[derive(Debug)]
pub(crate) struct Packed<R> {
    pub(crate) result: Result<R, Box<AckError>>,
    latency_nanos: u64,
    attempts: u32,
    end: End,
}

impl<R> Packed<R> {
    #[cfg(any(test, feature = "durable"))]
    pub(crate) fn end(&self) -> End {
        self.end
    }
}

impl<R> From<Outcome<R>> for Packed<R> {
    fn from(outcome: Outcome<R>) -> Self {
        let Outcome { result, end, attempts, latency } = outcome;
        let latency_nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        Self { result: result.map_err(Box::new), latency_nanos, attempts, end }
    }
}

impl<R> From<Packed<R>> for Outcome<R> {
    fn from(packed: Packed<R>) -> Self {
        let Packed { result, latency_nanos, attempts, end } = packed;
        Self { result: result.map_err(|error| *error), end, attempts, latency: Duration::from_nanos(latency_nanos) }
    }
}

/// The token of an op that has ended, and how.
#[derive(Debug)]
pub(crate) struct Answer<A, R> {
    pub(crate) token: A,
    pub(crate) outcome: Packed<R>,
}

impl<A, R> Answer<A, R> {
    #[inline]
    pub(crate) fn new(token: A, outcome: Outcome<R>) -> Self {
        Self { token, outcome: outcome.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_and_its_causes_make_no_statement_twice() {
        let refused = AckError::Refused(SinkError::refused("the price is zero"));
        assert_eq!(refused.chain(), "refused: the price is zero");
        assert_eq!(refused.source().unwrap().to_string(), "the price is zero");
        let exhausted = AckError::Exhausted(SinkError::transient("reset"));
        assert_eq!(exhausted.chain(), "retries used up: not written for now: reset");
        let doubt = AckError::InDoubt(SinkError::ambiguous("reset"));
        assert_eq!(doubt.chain(), "may or may not have been written: reset");
        let large = AckError::Refused(SinkError::too_large("5 MB"));
        assert_eq!(large.chain(), "refused: batch too large: 5 MB");
        assert!(large.source().unwrap().is::<SinkError>());
        assert_eq!(AckError::Refused(ErrorKind::Refused.into()).chain(), "refused");
    }
}
