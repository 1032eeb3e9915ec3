//! [`OpenError`]: why a SQLite sink could not be opened. Each variant names what to change.

use std::{error::Error, io, path::PathBuf};

use crate::{
    rules::batch::error::chain,
    sink::table::{ColumnType, TableError},
};

/// Why a SQLite sink could not be opened; [`chain`](Self::chain) includes the causes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The mapping is wrong by itself.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The table is not there, and [`Table::create_if_missing`](crate::sink::table::Table::create_if_missing) was not
    /// called.
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
        /// Type of the mapping's column.
        holds: ColumnType,
        /// The type it was created with.
        declared: String,
    },
    /// The column would not keep every value as it is. A float has 53 of an integer's 64 bits, and numbers in text sort
    /// and compare by their characters.
    #[error("column {column:?} of table {table:?} is to hold {holds} and must be {kept_as} for that, it is {declared}")]
    NotKept {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// Type of the mapping's column.
        holds: ColumnType,
        /// SQLite's type that keeps such values.
        kept_as: &'static str,
        /// The type it was created with.
        declared: String,
    },
    /// The table has triggers, and a constraint with `ON CONFLICT REPLACE` or `ON CONFLICT IGNORE`. In SQLite, a
    /// statement that overrides the one overrides the rules inside of the triggers as well.
    #[error(
        "table {table:?} has triggers and an ON CONFLICT rule of its own: SQLite cannot keep both it and the mapping's"
    )]
    TwoRules {
        /// The table.
        table: String,
    },
    /// SQLite cannot open the file or does not take the mapping's statements.
    #[error("cannot open {path:?}", path = path.display().to_string())]
    Database {
        /// The file.
        path: PathBuf,
        /// Error of SQLite.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The system could not start the writer thread.
    #[error("cannot start the writer thread")]
    Thread(#[source] io::Error),
    /// The writer thread ended before it answered.
    #[error("the writer thread ended before the database was open")]
    Gone,
}

impl OpenError {
    /// Returns the error and its causes in one line, for logs and reports.
    pub fn chain(&self) -> String {
        chain(self)
    }
}
