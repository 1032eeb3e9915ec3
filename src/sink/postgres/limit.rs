//! Limits of the server that a batch meets by its size, and fewer rows might not: `classify` notes them, the sink asks for
//! halves.

use super::classify::Fault;
use crate::sink::{ErrorKind, table::fault::Blame};

/// Whether a limit was met that fewer rows might keep to: statement_timeout, transaction_timeout, memory, locks of many
/// partitions, temp_file_limit.
///
/// A statement that a user cancels has the code of one that is out of time. The server says so in the language of
/// `lc_messages`; in another one than English a user's cancel halves the batch as well, which costs it some round trips.
pub(super) fn by_size(code: &str, message: &str) -> bool {
    match code {
        "57014" => message != "canceling statement due to user request",
        code => matches!(code, "25P04" | "53200" | "53400"),
    }
}

/// The same fault as the sink reports it, of a batch of so many rows: where fewer might pass, the batch is to be halved.
/// One row by itself is tried again as it is, since a lock or other work may have been in its way.
pub(super) fn halved(fault: Fault, rows: usize) -> Fault {
    let nothing_landed = fault.blame == Blame::Batch && fault.kind != ErrorKind::Ambiguous;
    let kind =
        if nothing_landed && rows > 1 && fault.failure.source.by_size { ErrorKind::TooLarge } else { fault.kind };
    Fault { kind, ..fault }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::{postgres::classify::Said, table::fault::Failure};

    fn kind(kind: ErrorKind, code: &str, message: &str, rows: usize) -> ErrorKind {
        let by_size = by_size(code, message);
        let source = Said { text: String::new(), goes_on: false, by_size, otherwise: false };
        halved(Fault { blame: Blame::Batch, kind, failure: Failure { meaning: "", source } }, rows).kind
    }

    /// Goal: what fewer rows might keep to halves a batch, and nothing else does. Method: codes of both sorts, with one row
    /// and with two; and a commit in doubt.
    #[test]
    fn limits_halve_a_batch_of_several_rows() {
        use ErrorKind::{Ambiguous, Outage, TooLarge, Transient};
        for code in ["25P04", "53200", "53400", "57014"] {
            for usual in [Transient, Outage] {
                assert_eq!(kind(usual, code, "out of time in any language", 2), TooLarge, "{code}");
                assert_eq!(kind(usual, code, "out of time in any language", 1), usual, "{code}");
            }
            assert_eq!(kind(Ambiguous, code, "", 2), Ambiguous, "{code}");
        }
        for code in ["25P03", "40001", "40P01", "53100", "53300", "55P03", "57P01", "08006", ""] {
            assert_eq!(kind(Transient, code, "", 2), Transient, "{code}");
        }
        assert_eq!(kind(Transient, "57014", "canceling statement due to user request", 2), Transient);
    }
}
