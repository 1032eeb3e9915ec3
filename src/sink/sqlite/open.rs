//! From a path to a connection that is fit to write: in come settings and what is to be in the file, out goes a
//! connection or the reason why not. Next room: `writer`.

use std::{collections::HashMap, error::Error, io, path::PathBuf};

use rusqlite::{Connection, MAIN_DB, OpenFlags, ffi};

use super::{
    classify::{Doing, classify},
    options::{Sqlite, Synchronous},
    plan::{Plan, type_name},
    writer::Writer,
};
use crate::sink::table::{ColumnType, TableError};

/// Why a SQLite sink could not be opened.
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

/// Opens the file, and creates the table if that was asked for.
pub(super) fn connect(options: &Sqlite, plan: &Plan) -> Result<Connection, OpenError> {
    let connection = configure(options).map_err(|error| database(options, error))?;
    if let Some(create) = &plan.create {
        connection.execute_batch(create).map_err(|error| database(options, error))?;
    }
    Ok(connection)
}

fn configure(options: &Sqlite) -> rusqlite::Result<Connection> {
    // No URI flag: a path is a path, whatever it is called.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(&options.path, flags)?;
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
    if let Some(pages) = options.max_pages {
        connection.execute_batch(&format!("PRAGMA max_page_count = {pages}"))?;
    }
    Ok(connection)
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
