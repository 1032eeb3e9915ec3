//! The error of all checks in `market`: the field that a value was meant for, and the reason it was refused.

/// A value that was not accepted, with the field it was meant for.
///
/// Its message reads as a sentence about that field: `price is not a decimal number`.
///
/// # Examples
///
/// ```
/// use roundlot::market::{Price, Reason};
///
/// let error = "12,50".parse::<Price>().unwrap_err();
/// assert_eq!(error.to_string(), "price is not a decimal number");
/// assert_eq!(error.reason(), Reason::NotDecimal);
///
/// // A reader of files knows the field by another name.
/// assert_eq!(error.named("best_bid").to_string(), "best_bid is not a decimal number");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{field} {reason}")]
pub struct InvalidField {
    field: &'static str,
    reason: Reason,
}

impl InvalidField {
    pub(super) const fn new(field: &'static str, reason: Reason) -> Self {
        Self { field, reason }
    }

    /// The name of the field, as the message spells it.
    pub const fn field(&self) -> &'static str {
        self.field
    }

    /// The reason the value was refused.
    pub const fn reason(&self) -> Reason {
        self.reason
    }

    /// The same error under the name by which the caller knows the field, a column of a file for example.
    #[must_use]
    pub const fn named(self, field: &'static str) -> Self {
        Self { field, ..self }
    }
}

/// The reason a value was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// There is no text at all.
    #[error("is empty")]
    Empty,
    /// The text does not fit.
    #[error("is {len} bytes long, at most {max} fit")]
    TooLong {
        /// Bytes that fit.
        max: usize,
        /// Bytes that came.
        len: usize,
    },
    /// A letter that needs quotes in a file, a log line or a request, or that cannot be seen.
    #[error("must not contain {letter:?}, found at byte {at}")]
    BadLetter {
        /// The byte at which it begins, from 0.
        at: usize,
        /// The letter. The message escapes it if it cannot be shown.
        letter: char,
    },
    /// A blank at the beginning or at the end: it cannot be seen, and some readers cut it off.
    #[error("begins or ends with a blank")]
    OuterBlank,
    /// The text is no decimal number; `NaN` and infinities are none either.
    #[error("is not a decimal number")]
    NotDecimal,
    /// The number has more digits than a decimal holds exactly: 28 after the point, 28 to 29 in all.
    #[error("has more digits than a decimal holds")]
    TooManyDigits,
    /// The number is below zero where that has no meaning.
    #[error("is negative")]
    Negative,
    /// The number is zero where that has no meaning.
    #[error("is zero")]
    Zero,
    /// The value is required but absent.
    #[error("is missing")]
    Missing,
    /// The value has no meaning in this place.
    #[error("is not expected here")]
    Unexpected,
    /// The word is not a known one.
    #[error("is an unknown word")]
    UnknownWord,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each message is a lower case sentence about the field, without a full stop.
    #[test]
    fn messages_read_as_sentences() {
        let message = |reason| InvalidField::new("symbol", reason).to_string();
        assert_eq!(message(Reason::Empty), "symbol is empty");
        assert_eq!(message(Reason::TooLong { max: 31, len: 40 }), "symbol is 40 bytes long, at most 31 fit");
        let bad = |letter| message(Reason::BadLetter { at: 3, letter });
        assert_eq!(bad(','), "symbol must not contain ',', found at byte 3");
        assert_eq!(bad('é'), "symbol must not contain 'é', found at byte 3");
        assert_eq!(bad('\u{202e}'), "symbol must not contain '\\u{202e}', found at byte 3");
        assert_eq!(message(Reason::OuterBlank), "symbol begins or ends with a blank");
        assert_eq!(message(Reason::TooManyDigits), "symbol has more digits than a decimal holds");
        assert_eq!(message(Reason::UnknownWord), "symbol is an unknown word");
    }

    #[test]
    fn a_renamed_error_keeps_its_reason() {
        let error = InvalidField::new("quantity", Reason::Zero).named("bid_size");
        assert_eq!((error.field(), error.reason()), ("bid_size", Reason::Zero));
        assert_eq!(error.to_string(), "bid_size is zero");
    }
}
