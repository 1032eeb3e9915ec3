//! Classification of SQLite's errors: their scope, the verdict, and whether the file is to be opened anew. The writer
//! calls it for each statement that fails; the docs of [`SqliteSink`](super::SqliteSink) have the table.

use rusqlite::{Error, ErrorCode, ffi};

use crate::sink::{
    ErrorKind, SinkError,
    table::classified::{self, Context, Phase, Scope},
};

pub(super) type ClassifiedError = classified::ClassifiedError<Error>;

/// The meaning of an error of SQLite for the ops of a write whose transaction is undone, as the docs of
/// [`SqliteSink`](super::SqliteSink) list it.
impl From<Error> for SinkError {
    fn from(error: Error) -> Self {
        verdict(classify(Phase::Statement, error))
    }
}

/// Decides what an error of SQLite means, alone in the crate.
///
/// * A row breaks a rule of the table: refused, that row alone.
/// * The disk is full, another connection holds the lock, or the file is damaged, read-only, moved or gone: an outage.
///   It concerns no op; the transaction was rolled back, and the same rows land once the cause is removed.
/// * The disk failed while the transaction was being committed: ambiguous, and an outage for all other ops. The pages
///   may have reached the log before the failure, and are then recovered when the file is next opened after a crash.
///   Only a failed *write* is certain: the frame that makes a transaction valid is written last.
/// * Out of memory: transient, since the size of the batch or of a row may be the cause.
pub(super) fn classify(phase: Phase, source: Error) -> ClassifiedError {
    use ErrorKind::{Ambiguous, Outage, Refused, Transient};
    use Scope::{Batch, Row};
    let (scope, kind, meaning) = match code(&source) {
        Some(ErrorCode::ConstraintViolation) => (Row, Refused, "the row breaks a constraint of the table"),
        Some(ErrorCode::TypeMismatch) => (Row, Refused, "a value does not suit the type of its column"),
        Some(ErrorCode::TooBig) => (Row, Refused, "the row is larger than SQLite takes"),
        // A missing table or column, but also a function in a check or an index that fails on this row's values.
        Some(ErrorCode::Unknown) => (Row, Refused, "final: SQLite rejects the row or the statement"),

        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed) => {
            (Batch, Outage, "another connection holds the lock, nothing was written")
        }
        Some(ErrorCode::SchemaChanged) => (Batch, Outage, "the schema keeps changing, nothing was written"),
        Some(ErrorCode::OutOfMemory) => (Batch, Transient, "out of memory, nothing was written"),
        Some(ErrorCode::OperationInterrupted | ErrorCode::OperationAborted) => {
            (Batch, Transient, "interrupted, nothing was written")
        }

        Some(ErrorCode::SystemIoFailure) if phase == Phase::Commit && !is_write(&source) => {
            (Batch, Ambiguous, "the disk failed during the commit, the batch may or may not be in the file")
        }
        Some(ErrorCode::SystemIoFailure) => (Batch, Outage, "the disk failed, nothing was written"),
        Some(ErrorCode::DiskFull | ErrorCode::NoLargeFileSupport) => {
            (Batch, Outage, "the disk is full or the file is at its page limit, nothing was written")
        }
        Some(ErrorCode::DatabaseCorrupt) => (Batch, Outage, "the database file is damaged, nothing was written"),
        Some(ErrorCode::NotADatabase) => (Batch, Outage, "the file is not a SQLite database"),
        Some(ErrorCode::ReadOnly) if is_moved(&source) && phase == Phase::Commit => {
            (Batch, Ambiguous, "the database file or its log was moved, replaced or deleted during the commit")
        }
        Some(ErrorCode::ReadOnly) if is_moved(&source) => {
            (Batch, Outage, "the database file or its log was moved, replaced or deleted, nothing was written")
        }
        Some(ErrorCode::ReadOnly) => (Batch, Outage, "the database is read-only, nothing was written"),
        Some(ErrorCode::CannotOpen) => {
            (Batch, Outage, "the database file or its log cannot be opened, nothing was written")
        }
        Some(ErrorCode::PermissionDenied | ErrorCode::AuthorizationForStatementDenied) => {
            (Batch, Outage, "no permission to write to the database, nothing was written")
        }
        _ => (Batch, Refused, "final: SQLite failed in a way that is not expected of it, nothing was written"),
    };
    ClassifiedError { scope, kind, context: Context { meaning, source } }
}

/// The error of the ops of a failed transaction. After a commit of unknown result the file as a whole is away, too.
pub(super) fn verdict(classified: ClassifiedError) -> SinkError {
    if classified.kind == ErrorKind::Ambiguous {
        SinkError::connection_lost(classified.context)
    } else {
        classified.into()
    }
}

/// Whether the connection is replaced after this error: the file at the path may be another by now, or be mounted anew.
/// Closing it also moves the log into the database, which frees disk space.
pub(super) fn wants_new_connection(classified: &ClassifiedError) -> bool {
    matches!(
        code(&classified.context.source),
        Some(
            ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure
                | ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase
                | ErrorCode::ReadOnly
                | ErrorCode::CannotOpen
                | ErrorCode::PermissionDenied
        )
    )
}

/// Makes SQLite's error for a database that is no longer at its path. With a log, SQLite does not check that by itself.
pub(super) fn moved() -> Error {
    Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_READONLY_DBMOVED), None)
}

fn is_moved(error: &Error) -> bool {
    extended_code(error) == Some(ffi::SQLITE_READONLY_DBMOVED)
}

fn is_write(error: &Error) -> bool {
    extended_code(error) == Some(ffi::SQLITE_IOERR_WRITE)
}

fn extended_code(error: &Error) -> Option<i32> {
    match error {
        Error::SqliteFailure(error, _) | Error::SqlInputError { error, .. } => Some(error.extended_code),
        _ => None,
    }
}

/// Returns SQLite's primary result code, if the error is one of SQLite's. Codes unknown to rusqlite are told from the
/// plain SQLITE_ERROR, which has the same name there.
fn code(error: &Error) -> Option<ErrorCode> {
    let (Error::SqliteFailure(error, _) | Error::SqlInputError { error, .. }) = error else { return None };
    let known = error.code != ErrorCode::Unknown || error.extended_code & 0xff == ffi::SQLITE_ERROR;
    known.then_some(error.code)
}

#[cfg(test)]
mod tests {

    use ErrorKind::{Ambiguous, Outage, Refused, Transient};
    use Scope::{Batch, Row};

    use super::*;

    fn failure(code: i32) -> Error {
        Error::SqliteFailure(ffi::Error::new(code), Some("as SQLite says".into()))
    }

    fn verdict(phase: Phase, code: i32) -> (Scope, ErrorKind) {
        let classified = classify(phase, failure(code));
        (classified.scope, classified.kind)
    }

    #[test]
    fn each_primary_code_has_its_verdict() {
        let verdicts = [
            (ffi::SQLITE_CONSTRAINT, (Row, Refused)),
            (ffi::SQLITE_MISMATCH, (Row, Refused)),
            (ffi::SQLITE_TOOBIG, (Row, Refused)),
            (ffi::SQLITE_ERROR, (Row, Refused)),
            (ffi::SQLITE_BUSY, (Batch, Outage)),
            (ffi::SQLITE_LOCKED, (Batch, Outage)),
            (ffi::SQLITE_PROTOCOL, (Batch, Outage)),
            (ffi::SQLITE_SCHEMA, (Batch, Outage)),
            (ffi::SQLITE_NOMEM, (Batch, Transient)),
            (ffi::SQLITE_INTERRUPT, (Batch, Transient)),
            (ffi::SQLITE_ABORT, (Batch, Transient)),
            (ffi::SQLITE_FULL, (Batch, Outage)),
            (ffi::SQLITE_IOERR, (Batch, Outage)),
            (ffi::SQLITE_CORRUPT, (Batch, Outage)),
            (ffi::SQLITE_NOTADB, (Batch, Outage)),
            (ffi::SQLITE_READONLY, (Batch, Outage)),
            (ffi::SQLITE_CANTOPEN, (Batch, Outage)),
            (ffi::SQLITE_PERM, (Batch, Outage)),
            (ffi::SQLITE_AUTH, (Batch, Outage)),
            (ffi::SQLITE_MISUSE, (Batch, Refused)),
            (ffi::SQLITE_RANGE, (Batch, Refused)),
            (ffi::SQLITE_INTERNAL, (Batch, Refused)),
            (ffi::SQLITE_NOLFS, (Batch, Outage)),
        ];
        for (code, expected) in verdicts {
            assert_eq!(verdict(Phase::Statement, code), expected, "code {code}");
        }
    }

    #[test]
    fn extended_codes_follow_their_primary_code() {
        let verdicts = [
            (ffi::SQLITE_CONSTRAINT_UNIQUE, (Row, Refused)),
            (ffi::SQLITE_CONSTRAINT_TRIGGER, (Row, Refused)),
            (ffi::SQLITE_BUSY_SNAPSHOT, (Batch, Outage)),
            (ffi::SQLITE_BUSY_RECOVERY, (Batch, Outage)),
            (ffi::SQLITE_IOERR_SHORT_READ, (Batch, Outage)),
            (ffi::SQLITE_READONLY_DBMOVED, (Batch, Outage)),
            (ffi::SQLITE_CORRUPT_INDEX, (Batch, Outage)),
            (ffi::SQLITE_ABORT_ROLLBACK, (Batch, Transient)),
        ];
        for (code, expected) in verdicts {
            assert_eq!(verdict(Phase::Statement, code), expected, "code {code}");
        }
    }

    /// Goal: a commit is in doubt only where it may have landed. Method: each way in which one fails; a write that
    /// failed was that of the last frame at the latest, without which there is no transaction.
    #[test]
    fn a_commit_is_in_doubt_only_where_it_may_have_landed() {
        for code in [ffi::SQLITE_IOERR, ffi::SQLITE_IOERR_FSYNC, ffi::SQLITE_IOERR_DELETE, ffi::SQLITE_READONLY_DBMOVED]
        {
            let classified = classify(Phase::Commit, failure(code));
            assert_eq!((classified.scope, classified.kind), (Batch, Ambiguous), "code {code}");
            let error = super::verdict(classified);
            assert!(error.is_outage() && error.kind() == Ambiguous, "{error:?}");
        }
        for code in [ffi::SQLITE_IOERR_WRITE, ffi::SQLITE_FULL, ffi::SQLITE_BUSY, ffi::SQLITE_READONLY] {
            assert_eq!(verdict(Phase::Commit, code), (Batch, Outage), "code {code}");
        }
        assert_eq!(verdict(Phase::Commit, ffi::SQLITE_CONSTRAINT_FOREIGNKEY), (Row, Refused));
    }

    #[test]
    fn a_connection_is_replaced_where_another_may_work() {
        let wants = |code| wants_new_connection(&classify(Phase::Statement, failure(code)));
        for code in [ffi::SQLITE_FULL, ffi::SQLITE_IOERR, ffi::SQLITE_READONLY_DBMOVED, ffi::SQLITE_CORRUPT] {
            assert!(wants(code), "code {code}");
        }
        for code in [ffi::SQLITE_BUSY, ffi::SQLITE_CONSTRAINT, ffi::SQLITE_ERROR, ffi::SQLITE_NOMEM] {
            assert!(!wants(code), "code {code}");
        }
    }

    #[test]
    fn unknown_codes_and_errors_of_rusqlite_refuse_the_batch() {
        assert_eq!(verdict(Phase::Statement, 77), (Batch, Refused));
        let classified = classify(Phase::Statement, Error::InvalidQuery);
        assert_eq!((classified.scope, classified.kind), (Batch, Refused));
    }

    #[test]
    fn a_statement_that_does_not_parse_is_plain_sqlite_error() {
        let connection = rusqlite::Connection::open_in_memory().expect("memory");
        let error = connection.prepare("INSERT INTO nowhere VALUES (?)").expect_err("there is no table");
        assert_eq!(classify(Phase::Statement, error).scope, Row);
    }

    #[test]
    fn what_sqlite_said_is_kept_behind_the_meaning() {
        let error = super::verdict(classify(Phase::Statement, failure(ffi::SQLITE_FULL)));
        let chain = error.chain();
        assert!(chain.starts_with("the destination is away: the disk is full or"), "{chain}");
        assert!(chain.contains("as SQLite says"), "{chain}");
        let failure =
            error.source().and_then(|source| source.downcast_ref::<Context<Error>>()).expect("our own failure");
        assert_eq!(failure.source.sqlite_error_code(), Some(ErrorCode::DiskFull));
    }
}
