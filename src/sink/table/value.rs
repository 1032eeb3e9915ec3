//! [`Value`]: one value on its way from an op into a column. Text and bytes borrow from the op.

use std::borrow::Cow;

use rust_decimal::Decimal;

/// Return value of a column's closure. Text and bytes borrow from the op wherever they can.
///
/// The [`ColumnType`](super::ColumnType) defines its meaning: an integer in a timestamp column is nanoseconds, text in
/// a JSON column is a document.
///
/// # Examples
///
/// ```
/// use roundlot::sink::table::Value;
///
/// assert_eq!(Value::from(7_u32), Value::Integer(7));
/// assert_eq!(Value::from(u64::MAX), Value::Unsigned(u64::MAX));
/// assert_eq!(Value::from(Some("limit")), Value::Text("limit".into()));
/// assert_eq!(Value::from(None::<i64>), Value::Null);
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Value<'a> {
    /// No value.
    Null,
    /// A whole number, or nanoseconds since 1970-01-01 00:00 UTC.
    Integer(i64),
    /// A whole number that may be above [`i64::MAX`].
    Unsigned(u64),
    /// A binary floating point number.
    Float(f64),
    /// A flag.
    Bool(bool),
    /// Text, or a JSON document.
    Text(Cow<'a, str>),
    /// Bytes as they are.
    Bytes(Cow<'a, [u8]>),
    /// An exact decimal number.
    Decimal(Decimal),
}

impl Value<'_> {
    /// Name of its type, for errors; the value itself may be secret.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Integer(_) => "an integer",
            Self::Unsigned(_) => "an unsigned integer",
            Self::Float(_) => "a float",
            Self::Bool(_) => "a flag",
            Self::Text(_) => "text",
            Self::Bytes(_) => "bytes",
            Self::Decimal(_) => "a decimal",
        }
    }
}

impl<'a, V: Into<Value<'a>>> From<Option<V>> for Value<'a> {
    fn from(value: Option<V>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

macro_rules! from {
    ($($from:ty => |$value:ident| $to:expr;)*) => {$(
        impl<'a> From<$from> for Value<'a> {
            fn from($value: $from) -> Self {
                $to
            }
        }
    )*};
}

from! {
    i8 => |value| Self::Integer(value.into());
    i16 => |value| Self::Integer(value.into());
    i32 => |value| Self::Integer(value.into());
    i64 => |value| Self::Integer(value);
    u8 => |value| Self::Integer(value.into());
    u16 => |value| Self::Integer(value.into());
    u32 => |value| Self::Integer(value.into());
    u64 => |value| Self::Unsigned(value);
    f32 => |value| Self::Float(value.into());
    f64 => |value| Self::Float(value);
    bool => |value| Self::Bool(value);
    Decimal => |value| Self::Decimal(value);
    &'a str => |value| Self::Text(Cow::Borrowed(value));
    &'a String => |value| Self::Text(Cow::Borrowed(value));
    String => |value| Self::Text(Cow::Owned(value));
    Cow<'a, str> => |value| Self::Text(value);
    &'a [u8] => |value| Self::Bytes(Cow::Borrowed(value));
    &'a Vec<u8> => |value| Self::Bytes(Cow::Borrowed(value));
    Vec<u8> => |value| Self::Bytes(Cow::Owned(value));
    Cow<'a, [u8]> => |value| Self::Bytes(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_bytes_are_borrowed() {
        let (text, bytes) = ("BTC".to_owned(), vec![1_u8]);
        assert!(matches!(Value::from(&text), Value::Text(Cow::Borrowed("BTC"))));
        assert!(matches!(Value::from(&bytes), Value::Bytes(Cow::Borrowed([1]))));
        assert!(matches!(Value::from(text), Value::Text(Cow::Owned(_))));
    }

    #[test]
    fn an_option_is_its_value_or_null() {
        assert_eq!(Value::from(Some(true)), Value::Bool(true));
        assert_eq!(Value::from(None::<&str>), Value::Null);
        assert_eq!(Value::from(Some(None::<Decimal>)), Value::Null);
    }
}
