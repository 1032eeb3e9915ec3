//! [`TableError`]: what is wrong with the mapping of a table, told when a sink is opened.

use super::{ColumnType, Conflict};

/// Mistake in a [`Table`](super::Table). The message names the column.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// The name of the table, of its schema or of a column is empty or contains a NUL character.
    #[error("{name:?} cannot name {what}: it is empty or contains a NUL")]
    BadName {
        /// "a schema", "a table" or "a column".
        what: &'static str,
        /// The name as it was given.
        name: String,
    },
    /// The database has no schemas, and [`Table::schema`](super::Table::schema) names one.
    #[error(
        "this database has no schemas, and table {table:?} is to be in schema {schema:?}: leave out Table::schema, and open the file that has the table"
    )]
    NoSchemas {
        /// The table.
        table: String,
        /// The schema.
        schema: String,
    },
    /// The name of the table has that of a schema in front, as SQL would read it; here a dot is part of a name.
    #[error("{name:?} is taken for the name of one table, dot included; did you mean {advice}?")]
    DottedName {
        /// The name as it was given.
        name: String,
        /// Spelling that was probably meant.
        advice: String,
    },
    /// The table has no columns.
    #[error("table {0:?} has no columns")]
    NoColumns(String),
    /// Two columns have this name; upper and lower case do not tell them apart.
    #[error("column {0:?} is there twice")]
    Duplicate(String),
    /// The key names a column that is not in the table.
    #[error("key column {0:?} is not among the columns of the table")]
    NoKeyColumn(String),
    /// The column that [`Table::once_by`](super::Table::once_by) names is not in the table.
    #[error("column {0:?}, which is to tell one op from another, is not among the columns of the table")]
    NoOnceColumn(String),
    /// [`Table::once_by`](super::Table::once_by) goes with [`Conflict::Fail`] alone: the other
    /// rules decide about repeats themselves.
    #[error("once_by needs the conflict rule Fail, {0:?} decides about repeats by the key")]
    OnceByRule(Conflict),
    /// The conflict rule goes by a key, and none is set.
    #[error("the conflict rule {0:?} needs a key: name its columns with Table::key")]
    NoKey(Conflict),
    /// A column's closure returned a value that does not suit the type of the column.
    #[error("column {column:?} holds {holds}, its closure returned {value}")]
    WrongType {
        /// The column.
        column: String,
        /// Type of the column.
        holds: ColumnType,
        /// Type of the value that the closure returned.
        value: &'static str,
    },
}
