//! Classification of PostgreSQL's errors: their scope, the verdict, and whether the session can go on. Every error of
//! the client library passes through [`classify`]; the docs of [`PostgresSink`](super::PostgresSink) have the table.

use std::{error::Error as _, io};

use tokio_postgres::{
    Error,
    error::{DbError, Severity},
};

use super::pooler;
use crate::{
    rules::batch::error::chain,
    sink::{
        ErrorKind, SinkError,
        table::classified::{self, Context, Phase, Scope},
    },
};

pub(crate) type ClassifiedError = classified::ClassifiedError<ServerMessage>;

/// Text of the error in one line: from the server with its SQLSTATE, or from the client library.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct ServerMessage {
    pub(super) text: String,
    /// Whether the session is usable after a rollback.
    pub(super) goes_on: bool,
    pub(super) hint: Hint,
}

/// Further condition of the verdict; decided by [`settle`] at the end of the write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hint {
    None,
    /// The connection was lost while the transaction was being committed.
    Lost,
    /// The server is out of memory: because of the size of the batch, unless it is one row.
    Memory,
    /// The server ended what took too long. The size of the batch is the cause, unless it is one row, which may have
    /// waited for a lock.
    Time,
    /// Rows go by INSERT from now on: the same rows are written again at once.
    ByInsert,
    /// The server does not understand a row, if the connection goes on; else a pooler has hung up.
    Protocol,
}

/// The meaning of an error of PostgreSQL for the ops of a write whose transaction is undone, as the docs of
/// [`PostgresSink`](super::PostgresSink) list it.
impl From<Error> for SinkError {
    fn from(error: Error) -> Self {
        classify(Phase::Statement, error).into()
    }
}

/// Whether a rollback makes the connection good for the next batch. A connection with a passing failure is replaced,
/// since it may be the cause. After a conflict with other sessions it is kept, or each conflict would cost a new
/// connection.
pub(super) fn is_worth_keeping(classified: &ClassifiedError) -> bool {
    match classified.kind {
        Refused => true,
        Transient | TooLarge => classified.context.source.goes_on,
        _ => false,
    }
}

/// Returns the verdict of a write of `rows` rows; `goes_on` tells whether the connection is good for the next write.
pub(super) fn settle(mut classified: ClassifiedError, rows: usize, goes_on: bool) -> SinkError {
    match classified.context.source.hint {
        Hint::Lost => return SinkError::connection_lost(classified.context),
        Hint::Memory if rows <= 1 => classified.kind = Outage,
        Hint::Time if rows > 1 => classified.kind = TooLarge,
        Hint::Protocol if !goes_on => (classified.kind, classified.context.meaning) = (Outage, GONE),
        _ => {}
    }
    classified.into()
}

/// Decides what an error of PostgreSQL means, alone in the crate.
///
/// * The destination as a whole is away, and nothing landed: an outage. No connection, too many connections, a full
///   disk, a server that starts, stops or is read-only. It concerns no op.
/// * Other sessions are in the way, by a lock, a deadlock or a serialization failure: transient.
/// * The batch needs more than the server has or grants: too large. Also a batch of several rows that is out of time.
/// * A row breaks a rule of the table: refused, that row alone. Unknown errors, too, since triggers may raise any code;
///   the row is then found by trying rows separately.
/// * A missing table or column, no permission, wrong credentials: refused. A retry would fail as well, and a person has
///   to act first.
/// * The connection was lost during the commit: ambiguous, and an outage.
pub(crate) fn classify(phase: Phase, error: Error) -> ClassifiedError {
    let Some(message) = error.as_db_error() else {
        let is_lost = is_lost(&error);
        let verdict = if is_lost { lost(phase) } else { unknown(phase) };
        let hint = if is_lost && phase == Phase::Commit { Hint::Lost } else { Hint::None };
        return classified(verdict, ServerMessage { text: chain(&error), goes_on: false, hint });
    };
    let (code, ended) = (message.code().code(), has_ended(message));
    // One code stands for a row that a policy does not take, and for a table that is out of bounds.
    let policy = message.routine() == Some("ExecWithCheckOptions");
    let by_pooler = pooler::known(message.message()).filter(|_| ended && code == pooler::CODE);
    let verdict = match by_pooler.and_then(|known| known.setting) {
        Some(meaning) if phase == Phase::Statement => (Batch, Refused, meaning),
        _ => verdict(phase, code, ended, policy),
    };
    let hint = match (verdict.1, code) {
        (Ambiguous, code) if code != "40003" => Hint::Lost,
        (TooLarge, "53200") => Hint::Memory,
        (Transient, code) if out_of_time(code, message.message()) => Hint::Time,
        (Refused, "08P01") if !ended => Hint::Protocol,
        _ => Hint::None,
    };
    let text = by_pooler.map_or_else(|| by_server(message), |known| format!("{} ({code})", known.message));
    classified(verdict, ServerMessage { text, goes_on: goes_on(ended, code), hint })
}

/// Error of a server that does not answer the login at all.
pub(super) fn no_answer() -> ClassifiedError {
    let text = "no answer within the time for connecting".to_owned();
    classified(lost(Phase::Statement), ServerMessage { text, goes_on: false, hint: Hint::None })
}

fn classified((scope, kind, meaning): Verdict, source: ServerMessage) -> ClassifiedError {
    ClassifiedError { scope, kind, context: Context { meaning, source } }
}

pub(super) const CHANGED: &str = "final: the columns of the table have changed since it was opened";

const GONE: &str = "no connection to the server, nothing was written";

type Verdict = (Scope, ErrorKind, &'static str);

use ErrorKind::{Ambiguous, Outage, Refused, TooLarge, Transient};
use Scope::{Batch, Row};

/// `ended`: the server closed the connection with this error.
fn verdict(phase: Phase, code: &str, ended: bool, policy: bool) -> Verdict {
    let (class, rest) = code.split_at_checked(2).unwrap_or((code, ""));
    match (class, rest) {
        // After a COMMIT these codes do not tell whether it took place.
        _ if phase == Phase::Commit && (ended || class == "08") => lost(phase),
        ("40", "003") => (Batch, Ambiguous, "the server does not know whether the batch landed"),

        // Poolers send this and hang up. A server that goes on did not understand a row.
        ("08", "P01") if !ended => (Batch, Refused, CHANGED),
        ("08", _) => (Batch, Outage, GONE),
        ("25", "006") => (Batch, Outage, "the server only reads for now, nothing was written"),
        ("25", "P04") => (Batch, Transient, "the transaction was out of time, nothing was written"),
        ("25", "P02" | "P03") => (Batch, Transient, "the transaction was ended from outside, nothing was written"),
        // Statements are prepared once per connection; another client of a pooler has removed or replaced them.
        ("26" | "34", _) | ("42", "P05") => (
            Batch,
            Transient,
            "the session was reset from outside, or a pooler hands it to others by transaction; nothing was written",
        ),
        ("40", _) if ended => (Batch, Outage, GONE),
        ("40", "P01") => (Batch, Transient, "a deadlock with another transaction, nothing was written"),
        ("40", _) => (Batch, Transient, "another transaction was in the way, nothing was written"),
        ("53", "100") => (Batch, Outage, "the disk of the server is full, nothing was written"),
        // Usually the batch is the cause: its memory, or the number of its locks.
        ("53", "200") => (Batch, TooLarge, "the server is out of memory, nothing was written"),
        ("53", "300") => (Batch, Outage, "the server has too many connections, nothing was written"),
        ("53", "400") => (Batch, TooLarge, "the batch exceeds a limit of the server, nothing was written"),
        ("53", _) => (Batch, Outage, "the server is short of resources, nothing was written"),
        ("55", "P03" | "006") => (Batch, Transient, "another transaction holds the lock, nothing was written"),
        ("55", "000") if ended => (Batch, Outage, "the database lets nobody in for now, nothing was written"),
        ("57", "014") => (Batch, Transient, "canceled or out of time, nothing was written"),
        ("57", "P04") => (Batch, Refused, "final: the database was dropped"),
        ("57", "P05") => (Batch, Outage, "the session was idle for too long, nothing was written"),
        ("57", _) => (Batch, Outage, "the server is starting or stopping, nothing was written"),
        ("58", _) => (Batch, Outage, "the system of the server failed, nothing was written"),
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
        _ if ended => lost(phase),
        _ => (Row, Refused, "the server, or a trigger of the table, rejects the row"),
    }
}

fn lost(phase: Phase) -> Verdict {
    match phase {
        Phase::Statement => (Batch, Outage, GONE),
        Phase::Commit => (Batch, Ambiguous, "the connection was lost during the commit, the batch may have landed"),
    }
}

fn unknown(phase: Phase) -> Verdict {
    match phase {
        Phase::Statement => (Batch, Refused, "final: no way to talk to the server"),
        Phase::Commit => (Batch, Ambiguous, "the server gave no clear answer to the commit, the batch may have landed"),
    }
}

/// Whether the network or the server caused the error, not the request.
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
    ends(error.parsed_severity(), error.severity())
}

/// Whether an error ends the session. The text decides where poolers and old servers omit the machine-readable
/// severity.
fn ends(parsed: Option<Severity>, text: &str) -> bool {
    parsed.map_or(text != "ERROR", |severity| matches!(severity, Severity::Fatal | Severity::Panic))
}

/// Whether a passing failure leaves the session usable: a deadlock, a serialization failure, a held lock, a canceled
/// statement, a limit of time or resources.
fn goes_on(ended: bool, code: &str) -> bool {
    !ended && (code.starts_with("40") || code.starts_with("55") || code == "57014" || code == "53400")
}

/// Whether a statement or transaction has met its limit of time.
///
/// A statement that a user cancels has the code of one that is out of time. Only the message tells them apart, in the
/// language of `lc_messages`. In another language than English a user's cancel halves the batch as well.
fn out_of_time(code: &str, message: &str) -> bool {
    code == "25P04" || (code == "57014" && message != "canceling statement due to user request")
}

/// Omits the detail, which has the values of the row.
fn by_server(error: &DbError) -> String {
    let code = error.code().code();
    if names_us(has_ended(error), code, error.routine()) {
        return format!("SQLSTATE {code}");
    }
    let column = error.column().map(|column| format!(", column {column:?}")).unwrap_or_default();
    format!("{} ({code}{column})", error.message())
}

/// Whether the message may contain the name of the user or the database. Errors of a refused login, of an ended
/// session, and of the right to create temporary tables may.
fn names_us(ended: bool, code: &str, routine: Option<&str>) -> bool {
    (ended && !code.starts_with("57")) || (code == "42501" && routine == Some("InitTempTableNamespace"))
}

#[cfg(test)]
#[path = "classify_tests.rs"]
mod tests;
