//! The verdicts, code by code.

use super::*;

/// Every code that has a verdict of its own, and one or two of each class.
const STATEMENT: [(&str, (Scope, ErrorKind)); 69] = [
    ("08000", (Batch, Outage)),    // connection_exception
    ("08001", (Batch, Outage)),    // client unable to establish
    ("08003", (Batch, Outage)),    // does not exist
    ("08004", (Batch, Outage)),    // server rejected
    ("08006", (Batch, Outage)),    // failure
    ("08007", (Batch, Outage)),    // transaction_resolution_unknown, of a statement
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
    ("25006", (Batch, Outage)),    // read_only_sql_transaction
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
    ("42P05", (Batch, Transient)), // duplicate_prepared_statement
    ("42P10", (Batch, Refused)),   // invalid_column_reference
    ("44000", (Row, Refused)),     // with_check_option_violation
    ("53000", (Batch, Outage)),    // insufficient_resources
    ("53100", (Batch, Outage)),    // disk_full
    ("53200", (Batch, TooLarge)),  // out_of_memory
    ("53400", (Batch, TooLarge)),  // configuration_limit_exceeded, temporary files
    ("53300", (Batch, Outage)),    // too_many_connections
    ("54000", (Row, Refused)),     // program_limit_exceeded, an index row that is too large
    ("54001", (Row, Refused)),     // statement_too_complex, json that is too deep
    ("55000", (Batch, Refused)),   // object_not_in_prerequisite_state
    ("55006", (Batch, Transient)), // object_in_use
    ("55P03", (Batch, Transient)), // lock_not_available
    ("57014", (Batch, Transient)), // query_canceled, statement timeout
    ("57P01", (Batch, Outage)),    // admin_shutdown
    ("57P02", (Batch, Outage)),    // crash_shutdown
    ("57P03", (Batch, Outage)),    // cannot_connect_now
    ("57P04", (Batch, Refused)),   // database_dropped
    ("57P05", (Batch, Outage)),    // idle_session_timeout
    ("58030", (Batch, Outage)),    // io_error
    ("72000", (Batch, Transient)), // snapshot_too_old
    ("P0001", (Row, Refused)),     // raise_exception
    ("TRD01", (Row, Refused)),     // what a trigger made up
    ("XX000", (Row, Refused)),     // internal_error
    ("XX001", (Batch, Refused)),   // data_corrupted
];

fn judged(phase: Phase, code: &str, ended: bool) -> (Scope, ErrorKind) {
    let (scope, kind, _) = verdict(phase, code, ended, false);
    (scope, kind)
}

#[test]
fn each_code_has_its_verdict() {
    for (code, expected) in STATEMENT {
        assert_eq!(judged(Phase::Statement, code, false), expected, "{code}");
    }
}

/// A commit that fails with a plain error did not take place: the server says so after it has rolled back.
#[test]
fn a_commit_is_in_doubt_only_if_the_connection_went() {
    for (code, expected) in STATEMENT {
        let expected = if code.starts_with("08") { (Batch, Ambiguous) } else { expected };
        assert_eq!(judged(Phase::Commit, code, false), expected, "{code}");
        assert_eq!(judged(Phase::Commit, code, true), (Batch, Ambiguous), "{code}, and the end");
    }
}

#[test]
fn an_error_that_ends_the_connection_is_an_outage_unless_known_otherwise() {
    assert_eq!(judged(Phase::Statement, "57P01", true), (Batch, Outage));
    assert_eq!(judged(Phase::Statement, "28P01", true), (Batch, Refused));
    assert_eq!(judged(Phase::Statement, "08P01", true), (Batch, Outage), "what poolers say");
    assert_eq!(judged(Phase::Statement, "XX000", true), (Batch, Outage));
    assert_eq!(judged(Phase::Statement, "P0001", true), (Batch, Outage));
    assert_eq!(judged(Phase::Statement, "40001", true), (Batch, Outage), "a conflict with recovery");
    assert_eq!(judged(Phase::Statement, "55000", true), (Batch, Outage), "a database that is shut");
}

#[test]
fn a_policy_refuses_rows_and_no_permission_refuses_all() {
    assert_eq!(verdict(Phase::Statement, "42501", false, true).0, Row);
    assert_eq!(verdict(Phase::Statement, "42501", false, false).0, Batch);
}

#[test]
fn a_session_is_kept_after_conflicts_with_other_sessions_only() {
    let passing = STATEMENT.iter().filter(|(_, (_, kind))| matches!(kind, Transient | TooLarge | Outage));
    let going_on: Vec<_> = passing.map(|(code, _)| *code).filter(|code| goes_on(false, code)).collect();
    assert_eq!(going_on, ["40000", "40001", "40P01", "53400", "55006", "55P03", "57014"]);
    assert!(!goes_on(true, "40001"), "a standby that is in the way of itself");
}

#[test]
fn messages_that_may_name_the_user_are_left_out() {
    for code in ["28P01", "28000", "3D000", "53300", "42501", "55000", "XX000", "40001", ""] {
        assert!(names_us(true, code, None), "{code}");
        assert!(!names_us(false, code, Some("aclcheck_error")), "{code}");
    }
    assert!(!names_us(true, "57P01", None), "what a server that stops says");
    assert!(names_us(false, "42501", Some("InitTempTableNamespace")));
}

#[test]
fn unknown_codes_concern_a_row() {
    for code in ["", "4", "ß", "abcdefg"] {
        assert_eq!(judged(Phase::Statement, code, false), (Row, Refused), "{code}");
    }
}

#[test]
fn a_connection_that_is_gone_is_an_outage_and_in_doubt_at_the_commit() {
    assert_eq!(lost(Phase::Statement).1, Outage);
    assert_eq!(lost(Phase::Commit).1, Ambiguous);
    assert_eq!(unknown(Phase::Commit).1, Ambiguous);
}

#[test]
fn a_wrong_setting_is_final() {
    let error = "postgres://host?port=x".parse::<tokio_postgres::Config>().expect_err("no port");
    let classified = classify(Phase::Statement, error);
    assert_eq!((classified.scope, classified.kind), (Batch, Refused));
    assert!(classified.context.meaning.starts_with("final"));
}

/// Goal: an outage is recognized in the words of servers and poolers alike. Method: messages with and without the field
/// that programs read.
#[test]
fn a_severity_without_its_parsed_form_is_read_as_text() {
    assert!(ends(Some(Severity::Fatal), "FATAL") && ends(Some(Severity::Panic), "PANIC"));
    assert!(!ends(Some(Severity::Error), "FEHLER") && !ends(None, "ERROR"));
    for text in ["FATAL", "PANIC", "\u{81f4}\u{547d}", ""] {
        assert!(ends(None, text), "{text}");
    }
}

fn settled(verdict: Verdict, hint: Hint, rows: usize, goes_on: bool) -> (ErrorKind, bool) {
    let error = settle(classified(verdict, ServerMessage { text: String::new(), goes_on, hint }), rows, goes_on);
    (error.kind(), error.is_outage())
}

#[test]
fn conditional_verdicts_are_settled_at_the_end_of_the_write() {
    let at_commit = lost(Phase::Commit);
    assert_eq!(settled(at_commit, Hint::Lost, 10, false), (Ambiguous, true));
    assert_eq!(settled(at_commit, Hint::None, 10, false), (Ambiguous, false), "a server that does not know");
    let memory = verdict(Phase::Statement, "53200", false, false);
    assert_eq!(settled(memory, Hint::Memory, 2, false), (TooLarge, false));
    assert_eq!(settled(memory, Hint::Memory, 1, false), (Outage, true), "no row is to blame");
    for code in ["57014", "25P04"] {
        let time = verdict(Phase::Statement, code, false, false);
        assert_eq!(settled(time, Hint::Time, 2, true), (TooLarge, false), "{code}");
        assert_eq!(settled(time, Hint::Time, 1, true), (Transient, false), "{code}: it may have waited for a lock");
    }
    let protocol = verdict(Phase::Statement, "08P01", false, false);
    assert_eq!(settled(protocol, Hint::Protocol, 2, true), (Refused, false));
    assert_eq!(settled(protocol, Hint::Protocol, 2, false), (Outage, true), "it has hung up");
    assert_eq!(settled(lost(Phase::Statement), Hint::None, 2, false), (Outage, true));
    assert_eq!(settled(verdict(Phase::Statement, "40001", false, false), Hint::None, 2, true), (Transient, false));
}

#[test]
fn a_user_s_cancel_is_no_limit_of_time() {
    assert!(out_of_time("57014", "canceling statement due to statement timeout"));
    assert!(out_of_time("57014", "the same in any language") && out_of_time("25P04", ""));
    assert!(!out_of_time("57014", "canceling statement due to user request"));
    for code in ["25P03", "40001", "55P03", "57P01", ""] {
        assert!(!out_of_time(code, "canceling statement due to lock timeout"), "{code}");
    }
}

#[test]
fn poolers_are_known_by_their_words_and_repeated_without_names() {
    let known = |message: &str| pooler::known(message).map(|known| (known.message, known.setting.is_some()));
    let failing = "server login has been failing, try again later (server_login_retry)";
    assert_eq!(known(failing), Some(("server login has been failing, try again later", false)));
    assert_eq!(known("unsupported startup parameter: options"), Some(("unsupported startup parameter", true)));
    assert_eq!(known("no such database: secret"), None);
    assert_eq!(known(""), None);
}
