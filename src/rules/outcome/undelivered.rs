//! Ops that were accepted and not delivered, on their way back to their owner: [`DeadLetter`], given up or in doubt, with the
//! reason; and [`Returned`], unsettled when the batcher ended. The accumulator makes them.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de::Error};

use super::End;
use crate::rules::batch::SinkError;

/// An op that was given up, or is in doubt, with the reason.
///
/// In serde, for a file of letters that are to be sent again:
///
/// ```
/// use roundlot::DeadLetter;
///
/// let json = r#"{"op":"sell 5","error":{"kind":"ambiguous","outage":false,"max_items":null,"causes":["no answer"]},"attempts":2,"end":"in_doubt"}"#;
/// let letter: DeadLetter<String> = serde_json::from_str(json)?;
/// assert_eq!((letter.op.as_str(), letter.attempts), ("sell 5", 2));
/// assert!(letter.is_in_doubt()); // look it up before sending it again
/// assert_eq!(serde_json::to_string(&letter)?, json);
///
/// let error = serde_json::from_str::<DeadLetter<String>>(&json.replace("in_doubt", "delivered")).unwrap_err();
/// assert!(error.to_string().starts_with("no dead letter ends as delivered"));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DeadLetter<T> {
    /// The op.
    pub op: T,
    /// The last error.
    pub error: SinkError,
    /// How often it was handed to the sink.
    pub attempts: u32,
    #[serde(deserialize_with = "dead_end")]
    end: End,
}

impl<T> DeadLetter<T> {
    pub(crate) fn new(op: T, error: SinkError, attempts: u32, end: End) -> Self {
        Self { op, error, attempts, end }
    }

    /// How it ended: [`Refused`](End::Refused) by the destination, [`Exhausted`](End::Exhausted) by its retries,
    /// [`InDoubt`](End::InDoubt), or [`Lost`](End::Lost) by the sink.
    pub fn end(&self) -> End {
        self.end
    }

    /// Whether the op may have landed all the same, in this attempt or an earlier one, so that sending it again may send
    /// it twice.
    pub fn is_in_doubt(&self) -> bool {
        matches!(self.end, End::InDoubt | End::Lost)
    }
}

/// Reads an end that [`DeadLetter::end`] may return.
fn dead_end<'de, D: Deserializer<'de>>(deserializer: D) -> Result<End, D::Error> {
    match End::deserialize(deserializer)? {
        end @ (End::Refused | End::Exhausted | End::InDoubt | End::Lost) => Ok(end),
        end => Err(D::Error::custom(format_args!("no dead letter ends as {end}"))),
    }
}

/// The payload is never printed: it may be secret.
impl<T> fmt::Debug for DeadLetter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetter")
            .field("end", &self.end)
            .field("error", &self.error)
            .field("attempts", &self.attempts)
            .finish_non_exhaustive()
    }
}

/// An op that was not settled when the batcher ended.
#[derive(Clone, Serialize, Deserialize)]
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
