//! From a path to a connection that is fit to write: in come settings and what is to be in the file, out goes a
//! connection or the reason why not. Next room: `writer`.

use std::{
    borrow::Cow,
    collections::HashMap,
    error::Error,
    io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rusqlite::{Connection, ErrorCode, MAIN_DB, OpenFlags, ffi};

use super::{
    classify::classify,
    options::{Sqlite, Synchronous},
    plan::{Plan, type_name},
    writer::Writer,
};
use crate::sink::{
    error::chain,
    table::{ColumnType, TableError, fault::Doing},
};

/// How many pages the log holds before a commit moves them to the database, and how much of the database is kept in
/// memory. SQLite's own 1000 pages and 2 MB suit keys that come in order; with random ones, such as client order ids,
/// these took 1.5 times as many rows per second, and the same with the others.
const TUNING: &str = "PRAGMA wal_autocheckpoint = 4000; PRAGMA cache_size = -16000";

/// How long to give way before a file that is busy is opened again.
const GIVE_WAY: Duration = Duration::from_millis(1);

/// Why a SQLite sink could not be opened. What is behind it is told by [`chain`](Self::chain).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The mapping is wrong by itself.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The table is not there, and [`Table::create_if_missing`](crate::sink::table::Table::create_if_missing) was not called.
    #[error("there is no table {table:?} in {path:?}, and creating it was not asked for", path = path.display().to_string())]
    NoTable {
        /// The file.
        path: PathBuf,
        /// The table.
        table: String,
    },
    /// The table has no such column.
    #[error("table {table:?} has no column {column:?}")]
    NoColumn {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// The column would turn text that looks like a number into one, and so change prices and ids.
    #[error("column {column:?} of table {table:?} is to hold {holds} and must be TEXT for that, it is {declared}")]
    NotText {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// What it is to hold.
        holds: ColumnType,
        /// The type it was created with.
        declared: String,
    },
    /// SQLite cannot open the file or does not take the mapping's statements.
    #[error("cannot open {path:?}", path = path.display().to_string())]
    Database {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The system gives no thread for the writer.
    #[error("cannot start the writer thread")]
    Thread(#[source] io::Error),
    /// The writer thread ended before it said anything.
    #[error("the writer thread ended before the database was open")]
    Gone,
}

impl OpenError {
    /// What happened, and the causes behind it, in one line: for logs and reports.
    pub fn chain(&self) -> String {
        chain(self)
    }
}

/// Opens the file, and creates the table if that was asked for, unless nobody waits for it any more.
pub(super) fn connect(options: &Sqlite, plan: &Plan, given_up: impl Fn() -> bool) -> Result<Connection, OpenError> {
    let begun = Instant::now();
    // Of two that have read and want to write, as when both make a new file, SQLite sends one away at once.
    let gives_way = |error: &rusqlite::Error| {
        error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) && begun.elapsed() < options.busy_timeout
    };
    loop {
        let connected = configure(options);
        if given_up() {
            return Err(OpenError::Gone);
        }
        match connected.and_then(|connection| created(connection, plan)) {
            Err(error) if gives_way(&error) => thread::sleep(GIVE_WAY),
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

fn configure(options: &Sqlite) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(plain(&options.path)?, flags)?;
    if connection.is_readonly(MAIN_DB)? {
        // SQLite opens a file that it may not write all the same, and would fail at the first batch.
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

/// The path as SQLite takes it for a path: it would read one that starts with `file:` as a URI with options, and keep
/// one that is empty in a file that is gone at the end.
fn plain(path: &Path) -> rusqlite::Result<Cow<'_, Path>> {
    if path.as_os_str().is_empty() {
        return Err(rusqlite::Error::InvalidPath(path.into()));
    }
    let is_uri = path.as_os_str().as_encoded_bytes().starts_with(b"file:");
    Ok(if is_uri { Path::new(".").join(path).into() } else { path.into() })
}

/// Checks that the table has the columns of the mapping, and prepares its statements.
pub(super) fn prepare<'c>(connection: &'c Connection, options: &Sqlite, plan: &Plan) -> Result<Writer<'c>, OpenError> {
    let declared = declared_types(connection, &plan.table).map_err(|error| database(options, error))?;
    if declared.is_empty() {
        return Err(OpenError::NoTable { path: options.path.clone(), table: plan.table.clone() });
    }
    for (column, holds) in &plan.columns {
        let (table, column) = (plan.table.clone(), column.clone());
        match declared.get(&column.to_ascii_lowercase()) {
            None => return Err(OpenError::NoColumn { table, column }),
            Some(declared) if type_name(*holds) == "TEXT" && makes_numbers(declared) => {
                return Err(OpenError::NotText { table, column, holds: *holds, declared: declared.clone() });
            }
            Some(_) => {}
        }
    }
    Writer::prepare(connection, plan).map_err(|error| database(options, error))
}

/// The types of the table's columns as they were written, by name in lower case; none if there is no such table.
fn declared_types(connection: &Connection, table: &str) -> rusqlite::Result<HashMap<String, String>> {
    let mut columns = connection.prepare("SELECT name, type FROM pragma_table_info(?1)")?;
    let rows = columns.query_map([table], |row| Ok((row.get::<_, String>(0)?.to_ascii_lowercase(), row.get(1)?)))?;
    rows.collect()
}

/// Whether a column declared like this turns text that looks like a number into one: SQLite's affinity rules.
fn makes_numbers(declared: &str) -> bool {
    let declared = declared.to_ascii_uppercase();
    let says = |words: &[&str]| words.iter().any(|word| declared.contains(word));
    says(&["INT"]) || !(says(&["CHAR", "CLOB", "TEXT", "BLOB"]) || declared.is_empty() || declared == "ANY")
}

fn database(options: &Sqlite, error: rusqlite::Error) -> OpenError {
    let source = Box::new(classify(Doing::Statement, error).failure);
    OpenError::Database { path: options.path.clone(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::table::Table;

    #[test]
    fn numbers_are_made_as_sqlite_says() {
        for declared in ["INTEGER", "int", "REAL", "DOUBLE", "NUMERIC", "DECIMAL(10,5)", "STRING", "DATE", "CHARINT"] {
            assert!(makes_numbers(declared), "{declared}");
        }
        for declared in ["TEXT", "varchar(20)", "CLOB", "BLOB", "", "any", "NATIVE CHARACTER(70)"] {
            assert!(!makes_numbers(declared), "{declared}");
        }
    }

    /// Goal: who gives up opening finds no table later. Method: nobody waits for it from the start.
    #[test]
    fn no_table_is_made_that_nobody_waits_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let options = Sqlite::file(folder.path().join("trades.db"));
        let plan = Plan::of(&Table::<i64>::new("trades").integer("id", |id| *id).create_if_missing());
        let plan = plan.expect("a mapping");
        assert!(matches!(connect(&options, &plan, || true), Err(OpenError::Gone)));
        let has_table = |connection: &Connection| declared_types(connection, "trades").is_ok_and(|it| !it.is_empty());
        assert!(configure(&options).is_ok_and(|connection| !has_table(&connection)));
        assert!(connect(&options, &plan, || false).is_ok_and(|connection| has_table(&connection)));
    }

    #[test]
    fn a_path_is_never_a_uri_or_nothing() {
        let plain = |path: &str| plain(Path::new(path)).map(|path| path.display().to_string());
        assert_eq!(plain("trades.db"), Ok("trades.db".into()));
        assert_eq!(plain("file:x?mode=memory"), Ok("./file:x?mode=memory".into()));
        assert!(plain("").is_err());
    }
}
