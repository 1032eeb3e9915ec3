//! Sessions with the server of a ledger, and the meaning of its errors for a log. A session is opened when it is needed, and
//! replaced when a request was cut short in it.

use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::{Client, Error, Notification, config::TargetSessionAttrs, error::SqlState};

use crate::{
    durable::{error::JoinError, log::LogError},
    rules::batch::error::chain,
    sink::{
        ErrorKind,
        postgres::{Postgres, Server, Session, classify, has_arrived},
        table::classified::{Phase, Scope},
    },
};

/// How long the server may take to answer a request of the log: long enough for a checkpoint of a slow disk, and short enough
/// that a network which drops everything in silence holds up a shard for no longer.
pub(crate) const ANSWER: Duration = Duration::from_secs(30);

/// A session, if there is one.
#[derive(Default)]
pub(crate) struct Slot {
    session: Option<Session>,
    /// The settings of each session.
    settings: &'static str,
}

impl Slot {
    /// A slot whose sessions begin with these settings.
    pub(crate) fn with(settings: &'static str) -> Self {
        Self { session: None, settings }
    }

    /// A session that is ready for a request.
    pub(crate) async fn ready(&mut self, server: &Server) -> Result<InUse<'_>, LogError> {
        if self.session.as_ref().is_none_or(|session| session.is_busy() || session.is_closed()) {
            self.session = None;
            let session = connect(server).await.map_err(|error| LogError::Failed(error.to_string()))?;
            if !self.settings.is_empty() {
                answer(session.client().batch_execute(self.settings)).await?;
            }
            self.session = Some(session);
        }
        let mut in_use = InUse(&mut self.session);
        in_use.session()?.begin();
        Ok(in_use)
    }

    pub(super) fn put(&mut self, session: Session) {
        self.session = Some(session);
    }

    /// Ends the session, and waits for that.
    pub(crate) async fn end(&mut self) {
        if let Some(session) = self.session.take() {
            session.end().await;
        }
    }
}

/// A session for the time of a request. It is given up, and what it does is canceled, unless the request is done.
pub(crate) struct InUse<'a>(&'a mut Option<Session>);

impl InUse<'_> {
    fn session(&mut self) -> Result<&mut Session, LogError> {
        self.0.as_mut().ok_or(LogError::Closed)
    }

    pub(crate) fn client(&mut self) -> Result<&mut Client, LogError> {
        self.session().map(Session::client_mut)
    }

    /// The server has answered everything, and no transaction is open.
    pub(crate) fn done(mut self) {
        if let Ok(session) = self.session() {
            session.rest();
        }
    }

    /// Rolls back what may be open, after an error.
    pub(crate) async fn undo(mut self) {
        let Ok(client) = self.client() else { return };
        if matches!(timeout(ANSWER, client.batch_execute("ROLLBACK")).await, Ok(Ok(()))) {
            self.done();
        }
    }
}

impl Drop for InUse<'_> {
    fn drop(&mut self) {
        if self.0.as_ref().is_some_and(Session::is_busy) {
            *self.0 = None;
        }
    }
}

/// The server of these settings. Of several hosts, it is the one that takes writes.
pub(crate) fn server(settings: &Postgres) -> Result<Server, JoinError> {
    let mut server = settings.server().map_err(|why| JoinError::Open(format!("the address of the server: {why}")))?;
    if server.config.get_hosts().len() > 1 {
        server.config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    }
    Ok(server)
}

/// A session whose commits are synced.
pub(crate) async fn connect(server: &Server) -> Result<Session, JoinError> {
    connect_with(server, |_| {}).await
}

/// The same, with a function that is called for each notification.
pub(crate) async fn connect_with(
    server: &Server,
    heard: impl Fn(Notification) + Send + 'static,
) -> Result<Session, JoinError> {
    let open = |why: String| JoinError::Open(format!("the ledger: {why}"));
    let mut session = server.connect_with(None, heard).await.map_err(|error| open(chain(&error.context)))?;
    let checked = timeout(ANSWER, check(session.client_mut(), server)).await;
    let fault = checked.map_err(|_| open(NO_ANSWER.to_owned()))?.map_err(|error| open(text(error)))?;
    if let Some(fault) = fault {
        return Err(JoinError::Unsafe(format!("the ledger: {fault}")));
    }
    session.rest();
    Ok(session)
}

const NO_ANSWER: &str = "the server gave no answer";

/// Settings of each session, whatever the defaults of its role: a transaction must see what was committed before its locks, and the
/// session of a host that is gone without a word ends within 20 s, with the locks that it holds.
const SETTINGS: &str = "SET default_transaction_isolation TO 'read committed'; SET default_transaction_read_only TO off; \
    SET tcp_keepalives_idle TO 5; SET tcp_keepalives_interval TO 5; SET tcp_keepalives_count TO 3";

/// Prepares a session. Returns the reason why the server is not fit for a ledger.
async fn check(client: &Client, server: &Server) -> Result<Option<&'static str>, Error> {
    if !has_arrived(client, server.config.get_options()).await? {
        return Ok(Some("the search_path in its options did not reach the server, a pooler in between may drop it"));
    }
    client.batch_execute(SETTINGS).await?;
    // A session that waits for standby servers goes on to do so.
    let sql = "SELECT current_setting('fsync') = 'off', set_config('synchronous_commit', CASE \
        current_setting('synchronous_commit') WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, false) \
        = 'off', pg_is_in_recovery()";
    let rows = client.query_typed(sql, &[]).await?;
    let has = |column: usize| rows.first().is_some_and(|row| row.get::<_, bool>(column));
    Ok(match (has(0), has(1), has(2)) {
        (true, ..) => Some("the server runs with fsync = off, so that a loss of power loses what it has confirmed"),
        (_, true, _) => Some("its commits are not synced, and synchronous_commit can't be set"),
        // A standby may lack what the log has confirmed.
        (.., true) => Some("the server is a standby"),
        _ => None,
    })
}

/// The text of an error, without anything that may be secret.
pub(crate) fn text(error: Error) -> String {
    chain(&classify(Phase::Statement, error).context)
}

/// Waits for an answer to a request that has committed nothing yet.
pub(crate) async fn answer<V>(request: impl Future<Output = Result<V, Error>>) -> Result<V, LogError> {
    match timeout(ANSWER, request).await {
        Ok(answer) => answer.map_err(failed),
        Err(_) => Err(LogError::Failed(NO_ANSWER.to_owned())),
    }
}

/// The meaning of an error before a commit: nothing was stored.
pub(crate) fn failed(error: Error) -> LogError {
    match error.code() {
        Some(&SqlState::IN_FAILED_SQL_TRANSACTION) => {
            LogError::Uncommittable("a statement of the sink failed, and its error was passed over".to_owned())
        }
        _ => LogError::Failed(text(error)),
    }
}

/// Waits for the answer to a commit, or to a statement that is a transaction of its own.
pub(crate) async fn committed<V>(commit: impl Future<Output = Result<V, Error>>) -> Result<V, LogError> {
    let error = match timeout(ANSWER, commit).await {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(error)) => classify(Phase::Commit, error),
        Err(_) => return Err(LogError::Unknown(NO_ANSWER.to_owned())),
    };
    let text = chain(&error.context);
    Err(match (error.kind, error.scope) {
        (ErrorKind::Ambiguous, _) => LogError::Unknown(text),
        // A constraint or a trigger that waited for the commit.
        (ErrorKind::Refused, Scope::Row) => LogError::Uncommittable(text),
        _ => LogError::Failed(text),
    })
}
