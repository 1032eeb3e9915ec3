//! What SQLite's errors mean for a batch: in comes an error, out goes a verdict and whose fault it is.

use rusqlite::{Error, ErrorCode, ffi};

use crate::sink::{
    ErrorKind,
    table::fault::{self, Blame, Doing, Failure},
};

pub(super) type Fault = fault::Fault<Error>;

/// The one place that decides what an error of SQLite means.
///
/// * Another connection is in the way, or memory is short: transient; the transaction was rolled back.
/// * A row breaks a rule of the table: refused, that row alone.
/// * The disk is full, the file damaged, read-only or gone: refused, for the next attempt would fail as well, and
///   whoever reads the dead letters has to act first.
/// * The disk failed while the transaction was being committed: ambiguous. Its pages may have reached the log before
///   the failure, and are then recovered when the file is next opened after a crash.
pub(super) fn classify(doing: Doing, source: Error) -> Fault {
    use Blame::{Batch, Row};
    use ErrorKind::{Ambiguous, Refused, Transient};
    let (blame, kind, meaning) = match code(&source) {
        Some(ErrorCode::ConstraintViolation) => (Row, Refused, "the row breaks a constraint of the table"),
        Some(ErrorCode::TypeMismatch) => (Row, Refused, "a value does not suit the type of its column"),
        Some(ErrorCode::TooBig) => (Row, Refused, "the row is larger than SQLite takes"),
        // A missing table or column, but also a function in a check or an index that fails on this row's values.
        Some(ErrorCode::Unknown) => (Row, Refused, "final: SQLite rejects the row or the statement"),

        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed) => {
            (Batch, Transient, "another connection holds the lock, nothing was written")
        }
        Some(ErrorCode::SchemaChanged) => (Batch, Transient, "the schema keeps changing, nothing was written"),
        Some(ErrorCode::OutOfMemory) => (Batch, Transient, "out of memory, nothing was written"),
        Some(ErrorCode::OperationInterrupted | ErrorCode::OperationAborted) => {
            (Batch, Transient, "interrupted, nothing was written")
        }

        Some(ErrorCode::SystemIoFailure) if doing == Doing::Commit => {
            (Batch, Ambiguous, "the disk failed during the commit, the batch may or may not be in the file")
        }
        Some(ErrorCode::SystemIoFailure) => (Batch, Refused, "final: the disk failed, nothing was written"),
        Some(ErrorCode::DiskFull) => {
            (Batch, Refused, "final: the disk is full or the file is at its page limit, nothing was written")
        }
        Some(ErrorCode::DatabaseCorrupt) => {
            (Batch, Refused, "final: the database file is damaged, nothing was written")
        }
        Some(ErrorCode::NotADatabase) => (Batch, Refused, "final: the file is not a SQLite database"),
        Some(ErrorCode::ReadOnly) => (Batch, Refused, "final: the database is read-only or was moved"),
        Some(ErrorCode::CannotOpen) => (Batch, Refused, "final: the database file or its log cannot be opened"),
        Some(ErrorCode::PermissionDenied | ErrorCode::AuthorizationForStatementDenied) => {
            (Batch, Refused, "final: no permission to write to the database")
        }
        _ => (Batch, Refused, "final: SQLite failed in a way that is not expected of it, nothing was written"),
    };
    Fault { blame, kind, failure: Failure { meaning, source } }
}

/// SQLite's primary result code, where the error is one of SQLite's. Codes that rusqlite does not know are told from
/// the plain SQLITE_ERROR, which it calls by the same name.
fn code(error: &Error) -> Option<ErrorCode> {
    let (Error::SqliteFailure(error, _) | Error::SqlInputError { error, .. }) = error else { return None };
    let known = error.code != ErrorCode::Unknown || error.extended_code & 0xff == ffi::SQLITE_ERROR;
    known.then_some(error.code)
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use Blame::{Batch, Row};
    use ErrorKind::{Ambiguous, Refused, Transient};

    use super::*;
    use crate::sink::SinkError;

    fn failure(code: i32) -> Error {
        Error::SqliteFailure(ffi::Error::new(code), Some("as SQLite says".into()))
    }

    fn verdict(doing: Doing, code: i32) -> (Blame, ErrorKind) {
        let fault = classify(doing, failure(code));
        (fault.blame, fault.kind)
    }

    #[test]
    fn each_primary_code_has_its_verdict() {
        let verdicts = [
            (ffi::SQLITE_CONSTRAINT, (Row, Refused)),
            (ffi::SQLITE_MISMATCH, (Row, Refused)),
            (ffi::SQLITE_TOOBIG, (Row, Refused)),
            (ffi::SQLITE_ERROR, (Row, Refused)),
            (ffi::SQLITE_BUSY, (Batch, Transient)),
            (ffi::SQLITE_LOCKED, (Batch, Transient)),
            (ffi::SQLITE_PROTOCOL, (Batch, Transient)),
            (ffi::SQLITE_SCHEMA, (Batch, Transient)),
            (ffi::SQLITE_NOMEM, (Batch, Transient)),
            (ffi::SQLITE_INTERRUPT, (Batch, Transient)),
            (ffi::SQLITE_ABORT, (Batch, Transient)),
            (ffi::SQLITE_FULL, (Batch, Refused)),
            (ffi::SQLITE_IOERR, (Batch, Refused)),
            (ffi::SQLITE_CORRUPT, (Batch, Refused)),
            (ffi::SQLITE_NOTADB, (Batch, Refused)),
            (ffi::SQLITE_READONLY, (Batch, Refused)),
            (ffi::SQLITE_CANTOPEN, (Batch, Refused)),
            (ffi::SQLITE_PERM, (Batch, Refused)),
            (ffi::SQLITE_AUTH, (Batch, Refused)),
            (ffi::SQLITE_MISUSE, (Batch, Refused)),
            (ffi::SQLITE_RANGE, (Batch, Refused)),
            (ffi::SQLITE_INTERNAL, (Batch, Refused)),
            (ffi::SQLITE_NOLFS, (Batch, Refused)),
        ];
        for (code, expected) in verdicts {
            assert_eq!(verdict(Doing::Statement, code), expected, "code {code}");
        }
    }

    #[test]
    fn extended_codes_follow_their_primary_code() {
        let verdicts = [
            (ffi::SQLITE_CONSTRAINT_UNIQUE, (Row, Refused)),
            (ffi::SQLITE_CONSTRAINT_TRIGGER, (Row, Refused)),
            (ffi::SQLITE_BUSY_SNAPSHOT, (Batch, Transient)),
            (ffi::SQLITE_BUSY_RECOVERY, (Batch, Transient)),
            (ffi::SQLITE_IOERR_SHORT_READ, (Batch, Refused)),
            (ffi::SQLITE_READONLY_DBMOVED, (Batch, Refused)),
            (ffi::SQLITE_CORRUPT_INDEX, (Batch, Refused)),
            (ffi::SQLITE_ABORT_ROLLBACK, (Batch, Transient)),
        ];
        for (code, expected) in verdicts {
            assert_eq!(verdict(Doing::Statement, code), expected, "code {code}");
        }
    }

    #[test]
    fn only_a_failing_disk_makes_a_commit_ambiguous() {
        for code in [ffi::SQLITE_IOERR, ffi::SQLITE_IOERR_FSYNC, ffi::SQLITE_IOERR_WRITE] {
            assert_eq!(verdict(Doing::Commit, code), (Batch, Ambiguous), "code {code}");
        }
        assert_eq!(verdict(Doing::Commit, ffi::SQLITE_BUSY), (Batch, Transient));
        assert_eq!(verdict(Doing::Commit, ffi::SQLITE_FULL), (Batch, Refused));
        assert_eq!(verdict(Doing::Commit, ffi::SQLITE_CONSTRAINT_FOREIGNKEY), (Row, Refused));
    }

    #[test]
    fn codes_nobody_knows_and_errors_of_rusqlite_are_the_batch_s() {
        assert_eq!(verdict(Doing::Statement, 77), (Batch, Refused));
        let fault = classify(Doing::Statement, Error::InvalidQuery);
        assert_eq!((fault.blame, fault.kind), (Batch, Refused));
    }

    #[test]
    fn a_statement_that_does_not_parse_is_plain_sqlite_error() {
        let connection = rusqlite::Connection::open_in_memory().expect("memory");
        let error = connection.prepare("INSERT INTO nowhere VALUES (?)").expect_err("there is no table");
        assert_eq!(classify(Doing::Statement, error).blame, Row);
    }

    #[test]
    fn what_sqlite_said_is_kept_behind_the_meaning() {
        let error = SinkError::from(classify(Doing::Statement, failure(ffi::SQLITE_FULL)));
        let chain = error.chain();
        assert!(chain.starts_with("refused: final: the disk is full or"), "{chain}");
        assert!(chain.contains("as SQLite says"), "{chain}");
        let failure =
            error.source().and_then(|source| source.downcast_ref::<Failure<Error>>()).expect("our own failure");
        assert_eq!(failure.source.sqlite_error_code(), Some(ErrorCode::DiskFull));
    }
}
