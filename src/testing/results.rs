//! Outcomes and dead letters without a batcher: for tests of code that is told how its ops ended.

use std::time::Duration;

use crate::rules::{
    batch::{ErrorKind, SinkError},
    outcome::{AckError, DeadLetter, End, Outcome},
};

/// Returns the outcome of an op with this result, as if it was written once and took no time. It ended as the result says;
/// a test may set the fields.
///
/// # Examples
///
/// ```
/// use roundlot::{AckError, End, Outcome, SinkError, testing};
///
/// /// The code under test.
/// fn may_repeat(outcome: &Outcome<u64>) -> bool {
///     outcome.end == End::Exhausted && outcome.attempts < 10
/// }
///
/// let down = || SinkError::transient("down");
/// let mut exhausted = testing::outcome(Err(AckError::Exhausted(down())));
/// assert!(may_repeat(&exhausted));
/// exhausted.attempts = 10;
/// assert!(!may_repeat(&exhausted));
/// assert!(!may_repeat(&testing::outcome(Err(AckError::InDoubt(down())))));
/// assert!(!may_repeat(&testing::outcome(Ok(1000))));
/// ```
pub fn outcome<R>(result: Result<R, AckError>) -> Outcome<R> {
    let end = result.as_ref().map_or_else(AckError::end, |_| End::Delivered);
    Outcome { result, end, attempts: 1, latency: Duration::ZERO }
}

/// Returns the dead letter of an op whose first write met this error. It ended as that error would let it end:
///
/// | kind of the error | end |
/// |---|---|
/// | `Refused`, `TooLarge` | [`Refused`](End::Refused) |
/// | `Ambiguous` | [`InDoubt`](End::InDoubt) |
/// | `Lost` | [`Lost`](End::Lost) |
/// | all others, whose retries were used up | [`Exhausted`](End::Exhausted) |
///
/// # Examples
///
/// ```
/// use roundlot::{DeadLetter, End, SinkError, testing};
///
/// /// The code under test.
/// fn line(letter: &DeadLetter<&str>) -> String {
///     let advice = if letter.is_in_doubt() { "look it up" } else { "send it again" };
///     format!("{}: {} ({advice})", letter.op, letter.error.chain())
/// }
///
/// let letter = testing::dead_letter("buy 5", SinkError::ambiguous("no answer"));
/// assert_eq!(line(&letter), "buy 5: may or may not have been written: no answer (look it up)");
///
/// let letter = testing::dead_letter("buy 5", SinkError::transient("busy"));
/// assert_eq!((letter.end(), letter.attempts), (End::Exhausted, 1));
/// ```
pub fn dead_letter<T>(op: T, error: SinkError) -> DeadLetter<T> {
    let end = match error.kind() {
        ErrorKind::Refused | ErrorKind::TooLarge => End::Refused,
        ErrorKind::Ambiguous => End::InDoubt,
        ErrorKind::Lost => End::Lost,
        _ => End::Exhausted,
    };
    DeadLetter::new(op, error, 1, end)
}
