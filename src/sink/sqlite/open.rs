//! From a path to a connection that is fit to write: in come settings and what is to be in the file, out goes a
//! connection or the reason why not. Next room: `writer`.

use std::{collections::HashMap, error::Error, io, path::PathBuf};

use rusqlite::{Connection, MAIN_DB, OpenFlags, ffi};

use super::{
    classify::{Doing, classify},
    options::{Sqlite, Synchronous},
    writer::Writer,
};
use crate::sink::table::{ColumnType, Table, TableError};

/// Rows per statement at most. More gains nothing.
const STATEMENT_ROWS: usize = 100;

/// How many texts and byte strings one statement binds at most. SQLite keeps small ones in a pool of about this many
/// slots; beyond them each costs an allocation, and a statement of 100 rows took 1.6 times as long per row as one of 20.
const STATEMENT_TEXTS: usize = 100;

/// How many values one statement may bind: the limit that the bundled SQLite is compiled with.
const STATEMENT_VALUES: usize = 32_766;

/// Why a SQLite sink could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The mapping is wrong by itself.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The table is not there, and [`Table::create_if_missing`] was not called.
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

/// What the writer thread has to know of a table, which is all but the ops.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) table: String,
    pub(super) columns: Vec<(String, ColumnType)>,
    pub(super) create: Option<String>,
    /// Statements by falling number of rows.
    pub(super) inserts: Vec<(usize, String)>,
}

impl Plan {
    pub(super) fn of<T>(table: &Table<T>) -> Result<Self, TableError> {
        table.check()?;
        let width = table.columns().len();
        let tuple = format!("({})", vec!["?"; width].join(", "));
        // The mapping's conflict rule holds, whatever rule the table was created with.
        let insert = |rows| table.insert_sql("INSERT OR ABORT", &vec![tuple.as_str(); rows].join(", "));
        let inserts = statement_rows(table).into_iter().map(|rows| (rows, insert(rows))).collect();
        Ok(Self {
            table: table.name().into(),
            columns: table.columns().iter().map(|column| (column.name().into(), column.holds())).collect(),
            create: table.creates().then(|| table.create_sql(type_name)),
            inserts,
        })
    }
}

/// The numbers of rows for which there is a statement, falling: three of them serve every size of batch.
fn statement_rows<T>(table: &Table<T>) -> Vec<usize> {
    let width = table.columns().len();
    let texts = table.columns().iter().filter(|column| matches!(type_name(column.holds()), "TEXT" | "BLOB")).count();
    let many = STATEMENT_ROWS.min(STATEMENT_VALUES / width).min(STATEMENT_TEXTS / texts.max(1));
    let mut rows = vec![many, many / 4, 1];
    rows.retain(|rows| *rows > 0);
    rows.dedup();
    rows
}

/// The type that keeps the values of such a column as they are.
fn type_name(holds: ColumnType) -> &'static str {
    match holds {
        ColumnType::Integer | ColumnType::Bool | ColumnType::Timestamp => "INTEGER",
        ColumnType::Float => "REAL",
        ColumnType::Text | ColumnType::Decimal | ColumnType::Json => "TEXT",
        ColumnType::Bytes => "BLOB",
    }
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
