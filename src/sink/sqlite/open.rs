//! Opens a file as a connection that is fit to write, or says why not as an [`OpenError`]. The thread calls it when the
//! sink is opened, and after a connection became doubtful.

use std::{
    borrow::Cow,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rusqlite::{Connection, ErrorCode, MAIN_DB, OpenFlags, ffi};

use super::{
    OpenError,
    classify::classify,
    options::{Sqlite, Synchronous},
    plan::Plan,
};
use crate::sink::table::classified::Phase;

/// Pages in the log before a commit moves them to the database, and kibibytes of the database cached in memory.
/// SQLite's own 1000 pages and 2 MB suit keys that come in order. With random keys, such as client order ids, these
/// values took 1.5 times as many rows per second.
const TUNING: &str = "PRAGMA wal_autocheckpoint = 4000; PRAGMA cache_size = -16000";

/// Pause before a busy file is opened again.
const BUSY_PAUSE: Duration = Duration::from_millis(1);

/// Opens the file, and creates the table if that was asked for, unless the caller has given up. A missing file is
/// created only if `is_new`: otherwise new rows would be kept apart from the old ones, or under a mount point.
pub(super) fn connect(
    options: &Sqlite,
    plan: &Plan,
    is_new: bool,
    given_up: impl Fn() -> bool,
) -> Result<Connection, OpenError> {
    let begun = Instant::now();
    // If two connections have read and want to write, as when both create a file, SQLite refuses one at once.
    let is_busy = |error: &rusqlite::Error| {
        error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) && begun.elapsed() < options.busy_timeout
    };
    loop {
        let connected = configure(options, is_new);
        if given_up() {
            return Err(OpenError::Gone);
        }
        match connected.and_then(|connection| created(connection, plan)) {
            Err(error) if is_busy(&error) => thread::sleep(BUSY_PAUSE),
            connected => return connected.map_err(|error| database(options, error)),
        }
    }
}

/// The same connection, when it has its table.
fn created(connection: Connection, plan: &Plan) -> rusqlite::Result<Connection> {
    if let Some(create) = &plan.create {
        connection.execute_batch(create)?;
    }
    Ok(connection)
}

fn configure(options: &Sqlite, is_new: bool) -> rusqlite::Result<Connection> {
    let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    flags.set(OpenFlags::SQLITE_OPEN_CREATE, is_new);
    let connection = Connection::open_with_flags(plain(&options.path)?, flags)?;
    if connection.is_readonly(MAIN_DB)? {
        // SQLite opens a read-only file without an error, and would fail at the first batch.
        return Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_READONLY), None));
    }
    connection.busy_timeout(options.busy_timeout)?;
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        tracing::warn!(mode, "SQLite cannot keep a write-ahead log here, readers and the sink will block each other");
    }
    connection.execute_batch(match options.synchronous {
        Synchronous::Normal => "PRAGMA synchronous = NORMAL",
        Synchronous::Full => "PRAGMA synchronous = FULL",
    })?;
    connection.execute_batch(TUNING)?;
    if let Some(pages) = options.max_pages {
        connection.execute_batch(&format!("PRAGMA max_page_count = {pages}"))?;
    }
    Ok(connection)
}

/// Makes SQLite take the path for a path. A name that starts with `file:` would be a URI with options, and an empty one
/// a temporary file.
fn plain(path: &Path) -> rusqlite::Result<Cow<'_, Path>> {
    if path.as_os_str().is_empty() {
        return Err(rusqlite::Error::InvalidPath(path.into()));
    }
    let is_uri = path.as_os_str().as_encoded_bytes().starts_with(b"file:");
    Ok(if is_uri { Path::new(".").join(path).into() } else { path.into() })
}

pub(super) fn database(options: &Sqlite, error: rusqlite::Error) -> OpenError {
    let mut context = classify(Phase::Statement, error).context;
    context.meaning = match context.source.sqlite_error_code() {
        // A running sink waits for the file to be put right; here, the path itself may be wrong.
        Some(ErrorCode::NotADatabase) => "final: the file is not a SQLite database",
        Some(ErrorCode::CannotOpen) => "final: the database file or its log cannot be opened",
        _ => context.meaning,
    };
    OpenError::Database { path: options.path.clone(), source: Box::new(context) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::table::Table;

    /// Goal: no table is created after the caller has given up opening. Method: nothing waits for it from the start.
    #[test]
    fn no_table_is_created_after_the_caller_gave_up() {
        let folder = tempfile::tempdir().expect("a folder");
        let options = Sqlite::file(folder.path().join("trades.db"));
        let plan = Plan::of(&Table::<i64>::new("trades").integer("id", |id| *id).create_if_missing());
        let plan = plan.expect("a mapping");
        assert!(matches!(connect(&options, &plan, true, || true), Err(OpenError::Gone)));
        let has_table = |connection: &Connection| connection.table_exists(None, "trades").is_ok_and(|it| it);
        assert!(configure(&options, true).is_ok_and(|connection| !has_table(&connection)));
        assert!(connect(&options, &plan, true, || false).is_ok_and(|connection| has_table(&connection)));
    }

    #[test]
    fn a_path_is_never_a_uri_or_nothing() {
        let plain = |path: &str| plain(Path::new(path)).map(|path| path.display().to_string());
        assert_eq!(plain("trades.db"), Ok("trades.db".into()));
        assert_eq!(plain("file:x?mode=memory"), Ok("./file:x?mode=memory".into()));
        assert!(plain("").is_err());
    }
}
