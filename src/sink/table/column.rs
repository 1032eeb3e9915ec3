//! [`Column`]: name, type and closure of one column of a table. Its value suits its type, or the op has no row.

use std::fmt;

use super::{ColumnType, TableError, Value};

type Extract<T> = Box<dyn for<'a> Fn(&'a T) -> Value<'a> + Send + Sync>;

/// A column of a [`Table`](super::Table), made by one of its methods.
pub struct Column<T> {
    name: String,
    holds: ColumnType,
    extract: Extract<T>,
}

impl<T> Column<T> {
    pub(super) fn new(name: String, holds: ColumnType, extract: Extract<T>) -> Self {
        Self { name, holds, extract }
    }

    /// Name of the column, as it was given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Type of its values.
    pub fn holds(&self) -> ColumnType {
        self.holds
    }

    /// Calls the closure for `op`.
    ///
    /// # Panics
    ///
    /// If the closure panics.
    pub fn value<'a>(&self, op: &'a T) -> Value<'a> {
        (self.extract)(op)
    }

    /// Checks that a value suits this column.
    ///
    /// # Errors
    ///
    /// [`TableError::WrongType`] if it does not suit the type of the column.
    pub fn check(&self, value: &Value<'_>) -> Result<(), TableError> {
        if self.holds.takes(value) { Ok(()) } else { Err(self.wrong_type(value)) }
    }

    #[cold]
    fn wrong_type(&self, value: &Value<'_>) -> TableError {
        TableError::WrongType { column: self.name.clone(), holds: self.holds, value: value.kind() }
    }
}

impl<T> fmt::Debug for Column<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Column").field("name", &self.name).field("holds", &self.holds).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(holds: ColumnType) -> Column<()> {
        Column::new("x".into(), holds, Box::new(|()| Value::Null))
    }

    #[test]
    fn each_type_takes_null_and_its_own_values_alone() {
        use ColumnType::{Bool, Bytes, Decimal, Float, Integer, Json, Text, Timestamp};
        let values: [(Value<'static>, &[ColumnType]); 7] = [
            (1_i64.into(), &[Integer, Timestamp]),
            (1_u64.into(), &[Integer]),
            (1.0.into(), &[Float]),
            (true.into(), &[Bool]),
            ("x".into(), &[Text, Json]),
            (vec![1_u8].into(), &[Bytes]),
            (rust_decimal::Decimal::ONE.into(), &[Decimal]),
        ];
        for holds in [Bool, Bytes, Decimal, Float, Integer, Json, Text, Timestamp] {
            assert!(column(holds).check(&Value::Null).is_ok());
            for (value, homes) in &values {
                assert_eq!(column(holds).check(value).is_ok(), homes.contains(&holds), "{holds} {value:?}");
            }
        }
    }

    #[test]
    fn a_wrong_type_is_named_without_the_value() {
        let error = column(ColumnType::Decimal).check(&"secret".into()).expect_err("text is no decimal");
        assert_eq!(error.to_string(), r#"column "x" holds decimals, its closure returned text"#);
    }
}
