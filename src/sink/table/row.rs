//! From an op to the values of its row: in comes a column, out goes a value that may stand in it, or why the op has no
//! row. Next room: the sink of the database.

use super::{Column, Table, Value};
use crate::{rules::panics, sink::SinkError};

impl<T> Table<T> {
    /// The value of one column of the row of `op`. A value that no database could store as it is refuses the op, and so does
    /// a closure that panics.
    #[inline]
    pub(crate) fn value<'a>(&self, column: &Column<T>, op: &'a T) -> Result<Value<'a>, SinkError> {
        let value = panics::catch(|| column.value(op))
            .map_err(|panic| SinkError::panicked(&format!("the closure of column {:?}", column.name()), &*panic))?;
        column.check(&value).map_err(SinkError::refused)?;
        // Databases take NULL for a key that is never there yet, or make up one, in silence.
        if value == Value::Null && self.tells_apart(column.name()) {
            return Err(SinkError::refused(format!("key column {:?} is NULL", column.name())));
        }
        Ok(value)
    }

    fn tells_apart(&self, column: &str) -> bool {
        self.is_key(column) || self.once.as_deref().is_some_and(|once| once.eq_ignore_ascii_case(column))
    }
}

impl<T> Column<T> {
    /// Why an op has no row; the value itself may be secret.
    #[cold]
    pub(crate) fn refusal(&self, why: impl std::fmt::Display) -> SinkError {
        SinkError::refused(format!("column {:?} {why}", self.name()))
    }
}
