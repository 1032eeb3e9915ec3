//! Errors that poolers send in their own name, in pgbouncer's words, which are the common ones. All have one code. Only
//! known texts are repeated, since the rest may contain names of users and databases.

/// The code that pgbouncer has for whatever it says itself: protocol_violation.
pub(super) const CODE: &str = "08P01";

/// A message that is known by how it begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    pub(super) message: &'static str,
    /// Advice, if waiting does not help.
    pub(super) setting: Option<&'static str>,
}

const PARAMETER: &str = "final: a pooler in between does not take `options`. Name the schema with the table, set the rest \
    for the role (ALTER ROLE .. SET), and leave the options out";

const STATEMENT: &str = "final: a pooler in between hands sessions on by statement, and a batch is a transaction. Let it do \
    so by transaction or by session";

const KNOWN: [Known; 11] = [
    Known { message: "unsupported startup parameter", setting: Some(PARAMETER) },
    Known { message: "transaction blocks not allowed in statement pooling mode", setting: Some(STATEMENT) },
    passing("server login has been failing, try again later"),
    passing("server login failed"),
    passing("server conn crashed?"),
    passing("pgbouncer cannot connect to server"),
    passing("query_wait_timeout"),
    passing("client_login_timeout"),
    passing("no more connections allowed"),
    passing("server closed the connection"),
    passing("the database system is"),
];

const fn passing(message: &'static str) -> Known {
    Known { message, setting: None }
}

pub(super) fn known(message: &str) -> Option<Known> {
    KNOWN.into_iter().find(|known| message.starts_with(known.message))
}
