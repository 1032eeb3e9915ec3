//! [`ColumnType`]: what a column of a mapping holds, whatever the database calls it.

use std::fmt;

use super::Value;

/// Type of a column. Each database stores it in a type that keeps it exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ColumnType {
    /// Whole numbers of 64 bits with a sign. A number above [`i64::MAX`] is refused, except that a `numeric` column of
    /// PostgreSQL keeps it.
    Integer,
    /// Binary floating point numbers of 64 bits.
    Float,
    /// Flags. SQLite stores 0 and 1.
    Bool,
    /// Text.
    Text,
    /// Bytes.
    Bytes,
    /// Exact decimal numbers. SQLite stores them as text.
    Decimal,
    /// Points in time, in nanoseconds since 1970-01-01 00:00 UTC. SQLite stores that integer.
    Timestamp,
    /// JSON documents. SQLite stores them as text.
    Json,
}

impl ColumnType {
    /// Whether a value may stand in such a column.
    pub(super) fn takes(self, value: &Value<'_>) -> bool {
        matches!(
            (self, value),
            (_, Value::Null)
                | (Self::Integer | Self::Timestamp, Value::Integer(_))
                | (Self::Integer, Value::Unsigned(_))
                | (Self::Float, Value::Float(_))
                | (Self::Bool, Value::Bool(_))
                | (Self::Text | Self::Json, Value::Text(_))
                | (Self::Bytes, Value::Bytes(_))
                | (Self::Decimal, Value::Decimal(_))
        )
    }
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Integer => "integers",
            Self::Float => "floats",
            Self::Bool => "flags",
            Self::Text => "text",
            Self::Bytes => "bytes",
            Self::Decimal => "decimals",
            Self::Timestamp => "timestamps",
            Self::Json => "json",
        })
    }
}
