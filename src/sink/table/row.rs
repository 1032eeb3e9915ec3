//! The value of one column of an op's row, checked against the column. The sinks of databases call it; an error refuses
//! the op.

use super::{Column, Table, Value};
use crate::{rules::panics, sink::SinkError};

impl<T> Table<T> {
    /// Returns the value of one column of the row of `op`. A value that no database could store unchanged refuses the op, and
    /// so does a closure that panics.
    #[inline]
    pub(crate) fn value<'a>(&self, column: &Column<T>, op: &'a T) -> Result<Value<'a>, SinkError> {
        let value = panics::catch(|| column.value(op))
            .map_err(|panic| SinkError::panicked(&format!("the closure of column {:?}", column.name()), &*panic))?;
        column.check(&value).map_err(SinkError::refused)?;
        // Databases treat NULL as a key that never exists, or generate one, without an error.
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
    /// Error of an op without a row; it never contains the value, which may be secret.
    #[cold]
    pub(crate) fn refusal(&self, why: impl std::fmt::Display) -> SinkError {
        SinkError::refused(format!("column {:?} {why}", self.name()))
    }
}
