//! What PostgreSQL's errors mean for a batch: in comes an error, out goes a verdict and whose fault it is.

use std::{error::Error as _, io};

use tokio_postgres::{
    Error,
    error::{DbError, Severity},
};

use super::limit::by_size;
use crate::sink::{
    ErrorKind,
    error::chain,
    table::fault::{self, Blame, Doing, Failure},
};

pub(super) type Fault = fault::Fault<Said>;

/// What was said of it, in one line: by the server with its SQLSTATE, or by the client.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(super) struct Said {
    pub(super) text: String,
    /// Whether the session goes on as before, once what was begun in it is rolled back.
    pub(super) goes_on: bool,
    /// Whether fewer rows might have passed.
    pub(super) by_size: bool,
    /// Whether the same rows are to be written again at once, in another way.
    pub(super) otherwise: bool,
}

/// Whether a rollback makes the connection good for the next batch. One that failed in a way that may be better next time
/// is replaced, since that may be so because of another connection; but not if others were in the way, or they would be
/// followed by as many new connections.
pub(super) fn is_worth_keeping(fault: &Fault) -> bool {
    match fault.kind {
        Refused => true,
        Transient => fault.failure.source.goes_on,
        _ => false,
    }
}

/// The one place that decides what an error of PostgreSQL means.
///
/// * No connection, too many of them, no memory, a full disk, a lock or a time limit in the way, a deadlock, a
///   serialization failure, a server that starts or stops or only reads: transient; what was begun is rolled back.
/// * A limit that fewer rows might keep to, of time, memory or temporary files: transient here, and too large for the
///   sink if there were several rows.
/// * A row breaks a rule of the table: refused, that row alone. So does anything that nobody knows, since triggers may
///   raise what they like: who is to blame is then found out.
/// * A missing table or column, no permission, wrong credentials: refused, for the next attempt would fail as well, and
///   whoever reads the dead letters has to act first.
/// * The connection went while the transaction was being committed: ambiguous.
pub(super) fn classify(doing: Doing, error: Error) -> Fault {
    let (blame, kind, meaning) = match error.as_db_error() {
        Some(said) => {
            let ended = has_ended(said);
            // One code stands for a row that a policy does not take, and for a table that is out of bounds.
            let policy = said.routine() == Some("ExecWithCheckOptions");
            verdict(doing, said.code().code(), ended, policy)
        }
        None if is_lost(&error) => lost(doing),
        None => unknown(doing),
    };
    let said = match error.as_db_error() {
        Some(said) => {
            let code = said.code().code();
            let by_size = by_size(code, said.message());
            Said { text: by_server(said), goes_on: goes_on(has_ended(said), code), by_size, otherwise: false }
        }
        None => Said { text: chain(&error), goes_on: false, by_size: false, otherwise: false },
    };
    Fault { blame, kind, failure: Failure { meaning, source: said } }
}

pub(super) const CHANGED: &str = "final: the columns of the table have changed since it was opened";

type Verdict = (Blame, ErrorKind, &'static str);

use Blame::{Batch, Row};
use ErrorKind::{Ambiguous, Refused, Transient};

/// `ended`: the server closed the connection with this error.
fn verdict(doing: Doing, code: &str, ended: bool, policy: bool) -> Verdict {
    let (class, rest) = code.split_at_checked(2).unwrap_or((code, ""));
    match (class, rest) {
        // Said of a commit, these do not say whether it took place.
        _ if doing == Doing::Commit && (ended || class == "08") => lost(doing),
        ("40", "003") => (Batch, Ambiguous, "the server does not know whether the batch landed"),

        // Poolers say this and hang up. A server that goes on has met a row that it does not understand.
        ("08", "P01") if !ended => (Batch, Refused, CHANGED),
        ("08", _) => (Batch, Transient, "no connection to the server, nothing was written"),
        ("25", "006") => (Batch, Transient, "the server only reads for now, nothing was written"),
        ("25", "P04") => (Batch, Transient, "the transaction was out of time, nothing was written"),
        ("25", "P02" | "P03") => (Batch, Transient, "the transaction was ended from outside, nothing was written"),
        // Statements are prepared once per connection; somebody has thrown them away.
        ("26" | "34", _) => (Batch, Transient, "the session was reset from outside, nothing was written"),
        ("40", "P01") => (Batch, Transient, "a deadlock with another transaction, nothing was written"),
        ("40", _) => (Batch, Transient, "another transaction was in the way, nothing was written"),
        ("53", "100") => (Batch, Transient, "the disk of the server is full, nothing was written"),
        ("53", "200") => (Batch, Transient, "the server is out of memory, nothing was written"),
        ("53", "300") => (Batch, Transient, "the server has too many connections, nothing was written"),
        ("53", _) => (Batch, Transient, "the server is short of resources, nothing was written"),
        ("55", "P03" | "006") => (Batch, Transient, "another transaction holds the lock, nothing was written"),
        ("57", "014") => (Batch, Transient, "canceled or out of time, nothing was written"),
        ("57", "P04") => (Batch, Refused, "final: the database was dropped"),
        ("57", _) => (Batch, Transient, "the server is starting or stopping, nothing was written"),
        ("58", _) => (Batch, Transient, "the system of the server failed, nothing was written"),
        ("72", _) => (Batch, Transient, "the snapshot is too old, nothing was written"),

        ("22", "P03" | "P04") => (Batch, Refused, CHANGED),
        ("28", _) => (Batch, Refused, "final: the server does not accept the credentials"),
        ("3D", _) => (Batch, Refused, "final: there is no such database"),
        ("3F", _) | ("42", "P01") => (Batch, Refused, "final: there is no such table"),
        ("42", "501") if policy => (Row, Refused, "a policy of the table does not take the row"),
        ("42", "501") => (Batch, Refused, "final: no permission to write to the table"),
        ("42", "703") => (Batch, Refused, "final: there is no such column"),
        ("42", "P10") => (Batch, Refused, "final: no unique constraint is on the key"),
        ("0A" | "25" | "42" | "55" | "F0", _) => (Batch, Refused, "final: the server rejects the statement"),
        ("XX", "001" | "002") => (Batch, Refused, "final: the database is damaged, nothing was written"),

        ("21", _) => (Row, Refused, "the row meets another one of its batch"),
        ("22", _) => (Row, Refused, "a value does not suit the type of its column"),
        ("23", _) => (Row, Refused, "the row breaks a constraint of the table"),
        ("44", _) => (Row, Refused, "the view does not take the row"),
        ("54", _) => (Row, Refused, "the row is larger or deeper than PostgreSQL takes"),
        _ if ended => lost(doing),
        _ => (Row, Refused, "the server, or a trigger of the table, rejects the row"),
    }
}

fn lost(doing: Doing) -> Verdict {
    match doing {
        Doing::Statement => (Batch, Transient, "no connection to the server, nothing was written"),
        Doing::Commit => (Batch, Ambiguous, "the connection was lost during the commit, the batch may have landed"),
    }
}

fn unknown(doing: Doing) -> Verdict {
    match doing {
        Doing::Statement => (Batch, Refused, "final: no way to talk to the server"),
        Doing::Commit => (Batch, Ambiguous, "the server gave no clear answer to the commit, the batch may have landed"),
    }
}

/// Whether the network or the server is to blame, and not what we ask of them.
fn is_lost(error: &Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
            // A certificate does not get better by asking again.
            return !matches!(tls, Some(rustls::Error::InvalidCertificate(_)));
        }
        cause = error.source();
    }
    error.is_closed()
}

fn has_ended(error: &DbError) -> bool {
    matches!(error.parsed_severity(), Some(Severity::Fatal | Severity::Panic))
}

/// Deadlocks, what cannot be serialized, locks that others hold, and statements that are canceled or out of time.
fn goes_on(ended: bool, code: &str) -> bool {
    !ended && (code.starts_with("40") || code.starts_with("55") || code == "57014")
}

/// Without the detail, which has the values of the row.
fn by_server(error: &DbError) -> String {
    let code = error.code().code();
    if names_us(has_ended(error), code, error.routine()) {
        return format!("SQLSTATE {code}");
    }
    let column = error.column().map(|column| format!(", column {column:?}")).unwrap_or_default();
    format!("{} ({code}{column})", error.message())
}

/// Whether the message may have the name of the user or the database in it: that of a server that lets nobody in or
/// throws somebody out, and does not merely stop; and of the right to have temporary tables.
fn names_us(ended: bool, code: &str, routine: Option<&str>) -> bool {
    (ended && !code.starts_with("57")) || (code == "42501" && routine == Some("InitTempTableNamespace"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every code that has a verdict of its own, and one or two of each class.
    const STATEMENT: [(&str, (Blame, ErrorKind)); 68] = [
        ("08000", (Batch, Transient)), // connection_exception
        ("08001", (Batch, Transient)), // client unable to establish
        ("08003", (Batch, Transient)), // does not exist
        ("08004", (Batch, Transient)), // server rejected
        ("08006", (Batch, Transient)), // failure
        ("08007", (Batch, Transient)), // transaction_resolution_unknown, said of a statement
        ("08P01", (Batch, Refused)),   // protocol_violation, a row that is not understood
        ("0A000", (Batch, Refused)),   // feature_not_supported
        ("21000", (Row, Refused)),     // cardinality_violation
        ("22001", (Row, Refused)),     // string_data_right_truncation
        ("22003", (Row, Refused)),     // numeric_value_out_of_range
        ("22008", (Row, Refused)),     // datetime_field_overflow
        ("22021", (Row, Refused)),     // character_not_in_repertoire
        ("22P02", (Row, Refused)),     // invalid_text_representation
        ("22P03", (Batch, Refused)),   // invalid_binary_representation
        ("22P04", (Batch, Refused)),   // bad_copy_file_format
        ("22P05", (Row, Refused)),     // untranslatable_character
        ("23000", (Row, Refused)),     // integrity_constraint_violation
        ("23502", (Row, Refused)),     // not_null_violation
        ("23503", (Row, Refused)),     // foreign_key_violation
        ("23505", (Row, Refused)),     // unique_violation
        ("23514", (Row, Refused)),     // check_violation
        ("23P01", (Row, Refused)),     // exclusion_violation
        ("25001", (Batch, Refused)),   // active_sql_transaction
        ("25006", (Batch, Transient)), // read_only_sql_transaction
        ("25P02", (Batch, Transient)), // in_failed_sql_transaction
        ("25P03", (Batch, Transient)), // idle_in_transaction_session_timeout
        ("25P04", (Batch, Transient)), // transaction_timeout
        ("26000", (Batch, Transient)), // invalid_sql_statement_name
        ("28000", (Batch, Refused)),   // invalid_authorization_specification
        ("28P01", (Batch, Refused)),   // invalid_password
        ("34000", (Batch, Transient)), // invalid_cursor_name
        ("38000", (Row, Refused)),     // external_routine_exception
        ("3D000", (Batch, Refused)),   // invalid_catalog_name
        ("3F000", (Batch, Refused)),   // invalid_schema_name
        ("40000", (Batch, Transient)), // transaction_rollback
        ("40001", (Batch, Transient)), // serialization_failure
        ("40003", (Batch, Ambiguous)), // statement_completion_unknown
        ("40P01", (Batch, Transient)), // deadlock_detected
        ("42501", (Batch, Refused)),   // insufficient_privilege
        ("42601", (Batch, Refused)),   // syntax_error
        ("42703", (Batch, Refused)),   // undefined_column
        ("42804", (Batch, Refused)),   // datatype_mismatch
        ("42P01", (Batch, Refused)),   // undefined_table
        ("42P10", (Batch, Refused)),   // invalid_column_reference
        ("44000", (Row, Refused)),     // with_check_option_violation
        ("53000", (Batch, Transient)), // insufficient_resources
        ("53100", (Batch, Transient)), // disk_full
        ("53200", (Batch, Transient)), // out_of_memory
        ("53300", (Batch, Transient)), // too_many_connections
        ("53400", (Batch, Transient)), // configuration_limit_exceeded, temporary files
        ("54000", (Row, Refused)),     // program_limit_exceeded, an index row that is too large
        ("54001", (Row, Refused)),     // statement_too_complex, json that is too deep
        ("55000", (Batch, Refused)),   // object_not_in_prerequisite_state
        ("55006", (Batch, Transient)), // object_in_use
        ("55P03", (Batch, Transient)), // lock_not_available
        ("57014", (Batch, Transient)), // query_canceled, statement timeout
        ("57P01", (Batch, Transient)), // admin_shutdown
        ("57P02", (Batch, Transient)), // crash_shutdown
        ("57P03", (Batch, Transient)), // cannot_connect_now
        ("57P04", (Batch, Refused)),   // database_dropped
        ("57P05", (Batch, Transient)), // idle_session_timeout
        ("58030", (Batch, Transient)), // io_error
        ("72000", (Batch, Transient)), // snapshot_too_old
        ("P0001", (Row, Refused)),     // raise_exception
        ("TRD01", (Row, Refused)),     // what a trigger made up
        ("XX000", (Row, Refused)),     // internal_error
        ("XX001", (Batch, Refused)),   // data_corrupted
    ];

    fn judged(doing: Doing, code: &str, ended: bool) -> (Blame, ErrorKind) {
        let (blame, kind, _) = verdict(doing, code, ended, false);
        (blame, kind)
    }

    #[test]
    fn each_code_has_its_verdict() {
        for (code, expected) in STATEMENT {
            assert_eq!(judged(Doing::Statement, code, false), expected, "{code}");
        }
    }

    /// A commit that fails with a plain error did not take place: the server says so after it has rolled back.
    #[test]
    fn a_commit_is_in_doubt_only_if_the_connection_went() {
        for (code, expected) in STATEMENT {
            let expected = if code.starts_with("08") { (Batch, Ambiguous) } else { expected };
            assert_eq!(judged(Doing::Commit, code, false), expected, "{code}");
            assert_eq!(judged(Doing::Commit, code, true), (Batch, Ambiguous), "{code}, and the end");
        }
    }

    #[test]
    fn what_ends_the_connection_is_no_row_s_fault_unless_known_to_be() {
        assert_eq!(judged(Doing::Statement, "57P01", true), (Batch, Transient));
        assert_eq!(judged(Doing::Statement, "28P01", true), (Batch, Refused));
        assert_eq!(judged(Doing::Statement, "08P01", true), (Batch, Transient), "what poolers say");
        assert_eq!(judged(Doing::Statement, "XX000", true), (Batch, Transient));
        assert_eq!(judged(Doing::Statement, "P0001", true), (Batch, Transient));
    }

    #[test]
    fn a_policy_refuses_rows_and_no_permission_refuses_all() {
        assert_eq!(verdict(Doing::Statement, "42501", false, true).0, Row);
        assert_eq!(verdict(Doing::Statement, "42501", false, false).0, Batch);
    }

    #[test]
    fn sessions_outlive_others_in_the_way_and_nothing_else_that_passes() {
        let transient = STATEMENT.iter().filter(|(_, verdict)| *verdict == (Batch, Transient)).map(|(code, _)| *code);
        let going_on: Vec<_> = transient.filter(|code| goes_on(false, code)).collect();
        assert_eq!(going_on, ["40000", "40001", "40P01", "55006", "55P03", "57014"]);
        assert!(!goes_on(true, "40001"), "a standby that is in the way of itself");
    }

    #[test]
    fn messages_that_may_name_us_are_left_out() {
        for code in ["28P01", "28000", "3D000", "53300", "42501", "55000", "XX000", "40001", ""] {
            assert!(names_us(true, code, None), "{code}");
            assert!(!names_us(false, code, Some("aclcheck_error")), "{code}");
        }
        assert!(!names_us(true, "57P01", None), "what a server that stops says");
        assert!(names_us(false, "42501", Some("InitTempTableNamespace")));
    }

    #[test]
    fn codes_that_are_none_are_the_row_s() {
        for code in ["", "4", "ß", "abcdefg"] {
            assert_eq!(judged(Doing::Statement, code, false), (Row, Refused), "{code}");
        }
    }

    #[test]
    fn a_connection_that_is_gone_is_transient_and_in_doubt_at_the_commit() {
        assert_eq!(lost(Doing::Statement).1, Transient);
        assert_eq!(lost(Doing::Commit).1, Ambiguous);
        assert_eq!(unknown(Doing::Commit).1, Ambiguous);
    }

    #[test]
    fn a_wrong_setting_is_final() {
        let error = "postgres://host?port=x".parse::<tokio_postgres::Config>().expect_err("no port");
        let fault = classify(Doing::Statement, error);
        assert_eq!((fault.blame, fault.kind), (Batch, Refused));
        assert!(fault.failure.meaning.starts_with("final"));
    }
}
