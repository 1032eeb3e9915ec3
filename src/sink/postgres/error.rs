//! [`OpenError`]: why a PostgreSQL sink could not be opened. Each variant names what to change.

use std::error::Error as StdError;

use super::wire::homes;
use crate::{
    rules::batch::error::chain,
    sink::table::{ColumnType, TableError},
};

/// Why a PostgreSQL sink could not be opened; [`chain`](Self::chain) includes the causes. It never contains user,
/// password or database; it contains the host only if a certificate belongs to another one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The mapping is wrong by itself.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The URL or one of the `PG*` variables cannot be used.
    #[error("the address of the PostgreSQL server cannot be used: {0}")]
    Address(String),
    /// The server cannot be reached or refuses the login.
    #[error("cannot connect to PostgreSQL")]
    Connect(#[source] Box<dyn StdError + Send + Sync>),
    /// The table is not there, and [`Table::create_if_missing`](crate::sink::table::Table::create_if_missing) was not
    /// called.
    #[error("there is no table {0:?}, and creating it was not asked for")]
    NoTable(String),
    /// There is no such schema; the sink creates tables, and no schemas.
    #[error("there is no schema {0:?}, and only tables are created")]
    NoSchema(String),
    /// The name is that of a view or the like.
    #[error("{0:?} is no table")]
    NotATable(String),
    /// The table is temporary: other connections of the sink do not see it, and it ends with the first one.
    #[error("{0:?} is a temporary table, whose rows are gone when the connection ends")]
    Temporary(String),
    /// The table has no such column; upper and lower case matter.
    #[error("table {table:?} has no column {column:?}")]
    NoColumn {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// The column's type cannot keep the values as they are.
    #[error("column {column:?} of table {table:?} is to hold {holds}, which {declared} cannot keep exactly; it may be {}", homes(*holds))]
    WrongType {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// Type of the mapping's column.
        holds: ColumnType,
        /// The type it was created with.
        declared: String,
    },
    /// Repeats cannot be detected, since the table has no unique constraint on exactly these columns.
    #[error("table {table:?} has no unique constraint on {columns:?}, by which repeats are to be told")]
    NotUnique {
        /// The table.
        table: String,
        /// The key, or the column of [`Table::once_by`](crate::sink::table::Table::once_by).
        columns: Vec<String>,
    },
    /// The server does not take the mapping's statements.
    #[error("table {table:?} cannot be written to")]
    Database {
        /// The table.
        table: String,
        /// Error of the server.
        source: Box<dyn StdError + Send + Sync>,
    },
}

impl OpenError {
    /// Returns the error and its causes in one line, for logs and reports.
    pub fn chain(&self) -> String {
        chain(self)
    }
}
