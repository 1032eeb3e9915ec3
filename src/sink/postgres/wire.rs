//! How the values of a column cross the wire: the wire type for a declared column type, and the bytes of each value. A
//! value is sent unchanged or refused. `open` chooses the types, `rows` appends values.

use bytes::{BufMut, BytesMut};
use tokio_postgres::types::Type;

use super::{numeric, uuid};
use crate::sink::table::{ColumnType, Value};

/// The type that a value is sent in: that of the column itself, or one that the column reads in the same way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wire {
    Int2,
    Int4,
    Int8,
    Float8,
    Bool,
    Text,
    Bytea,
    Numeric,
    Timestamp,
    Timestamptz,
    Json,
    Jsonb,
    Uuid,
}

/// One column of the mapping as the table has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) wire: Wire,
    /// Digits behind the point of a number, digits behind the point of a second, or characters of a text that the
    /// column keeps; `None` for all that there can be.
    keeps: Option<u32>,
    /// The type to convert to inside a statement, where the server would not do so by itself.
    pub(super) cast: Option<String>,
}

/// A column as the server describes it, with domains resolved.
#[derive(Debug)]
pub(super) struct Declared {
    /// The type's plain name, such as `int4`.
    pub(super) name: String,
    /// The same as SQL reads it, with its schema where that is needed.
    pub(super) reference: String,
    pub(super) is_enum: bool,
    /// Type modifier as the server packs it; -1 if there is none.
    pub(super) modifier: i32,
}

/// Maximum size of a field in bytes: PostgreSQL allows 1 GB, header included.
const MAX_BYTES: usize = (1 << 30) - 64;

/// Microseconds from 1970 to 2000, the epoch of PostgreSQL.
const EPOCH_US: i64 = 946_684_800_000_000;

/// Bytes of a value's length, which stands before it and is filled in afterwards; -1 is NULL.
const LENGTH: usize = 4;

impl Field {
    /// The way into a column that was declared like this, if there is one that changes no value.
    pub(super) fn of(holds: ColumnType, declared: &Declared) -> Option<Self> {
        let plain = |wire| Some(Self { wire, keeps: None, cast: None });
        let limited = |wire, keeps| Some(Self { wire, keeps, cast: None });
        match (holds, declared.name.as_str()) {
            (ColumnType::Integer, "int2") => plain(Wire::Int2),
            (ColumnType::Integer, "int4") => plain(Wire::Int4),
            (ColumnType::Integer, "int8") => plain(Wire::Int8),
            (ColumnType::Integer | ColumnType::Decimal, "numeric") => {
                limited(Wire::Numeric, numeric_scale(declared.modifier)?)
            }
            (ColumnType::Float, "float8") => plain(Wire::Float8),
            (ColumnType::Bool, "bool") => plain(Wire::Bool),
            (ColumnType::Text | ColumnType::Json, "varchar") => {
                // Its modifier counts a header of four bytes, too.
                limited(Wire::Text, u32::try_from(declared.modifier - 4).ok())
            }
            (ColumnType::Text | ColumnType::Json, "text") | (ColumnType::Text, "bpchar") => plain(Wire::Text),
            (ColumnType::Text | ColumnType::Bytes, "uuid") => plain(Wire::Uuid),
            // Types that read text on the wire, while statements do not turn text into them unasked.
            (ColumnType::Text, name) if declared.is_enum || name == "citext" => {
                Some(Self { wire: Wire::Text, keeps: None, cast: Some(declared.reference.clone()) })
            }
            (ColumnType::Bytes, "bytea") => plain(Wire::Bytea),
            (ColumnType::Timestamp, "timestamp") => limited(Wire::Timestamp, u32::try_from(declared.modifier).ok()),
            (ColumnType::Timestamp, "timestamptz") => limited(Wire::Timestamptz, u32::try_from(declared.modifier).ok()),
            (ColumnType::Json, "json") => plain(Wire::Json),
            (ColumnType::Json, "jsonb") => plain(Wire::Jsonb),
            _ => None,
        }
    }

    /// Appends the value with its length in front, whole or not at all; an error says why it cannot be stored.
    pub(super) fn put(&self, out: &mut BytesMut, value: &Value<'_>) -> Result<(), &'static str> {
        let start = out.len();
        out.put_i32(-1);
        if *value == Value::Null {
            return Ok(());
        }
        self.put_bytes(out, value).inspect_err(|_| out.truncate(start))?;
        let length = out.len() - start - LENGTH;
        if length > MAX_BYTES {
            out.truncate(start);
            return Err("is larger than PostgreSQL takes, 1 GB");
        }
        out[start..start + LENGTH].copy_from_slice(&(length as i32).to_be_bytes());
        Ok(())
    }

    fn put_bytes(&self, out: &mut BytesMut, value: &Value<'_>) -> Result<(), &'static str> {
        match (self.wire, value) {
            (Wire::Int8, Value::Integer(value)) => out.put_i64(*value),
            (Wire::Int4, Value::Integer(value)) => {
                out.put_i32(i32::try_from(*value).map_err(|_| "is beyond the range of integer")?);
            }
            (Wire::Int2, Value::Integer(value)) => {
                out.put_i16(i16::try_from(*value).map_err(|_| "is beyond the range of smallint")?);
            }
            (Wire::Int8, Value::Unsigned(value)) => {
                out.put_i64(i64::try_from(*value).map_err(|_| "is beyond the range of bigint")?);
            }
            (Wire::Int4, Value::Unsigned(value)) => {
                out.put_i32(i32::try_from(*value).map_err(|_| "is beyond the range of integer")?);
            }
            (Wire::Int2, Value::Unsigned(value)) => {
                out.put_i16(i16::try_from(*value).map_err(|_| "is beyond the range of smallint")?);
            }
            (Wire::Numeric, Value::Integer(value)) => numeric::put(out, (*value).into()),
            (Wire::Numeric, Value::Unsigned(value)) => numeric::put(out, (*value).into()),
            (Wire::Numeric, Value::Decimal(value)) => {
                if self.keeps.is_some_and(|scale| value.scale() > scale && value.normalize().scale() > scale) {
                    return Err("has more digits behind the point than the column keeps");
                }
                numeric::put(out, *value);
            }
            // Rounded down, so that order is kept and no time is later than it was.
            (Wire::Timestamp | Wire::Timestamptz, Value::Integer(ns)) => {
                // The server would round a column of fewer digits to the nearest.
                let unit = 10_i64.pow(6_u32.saturating_sub(self.keeps.unwrap_or(6)));
                out.put_i64(ns.div_euclid(1000).div_euclid(unit) * unit - EPOCH_US);
            }
            (Wire::Float8, Value::Float(value)) => out.put_f64(*value),
            (Wire::Bool, Value::Bool(value)) => out.put_u8((*value).into()),
            (Wire::Bytea, Value::Bytes(bytes)) => out.extend_from_slice(bytes),
            (Wire::Text | Wire::Json | Wire::Jsonb, Value::Text(text)) => {
                if text.as_bytes().contains(&0) {
                    return Err("contains a NUL character, which PostgreSQL cannot store in text");
                }
                if self.keeps.is_some_and(|most| loses_blanks(text, most as usize)) {
                    return Err("has more blanks at its end than the column keeps");
                }
                if self.wire == Wire::Jsonb {
                    out.put_u8(1); // The version of its format.
                }
                out.extend_from_slice(text.as_bytes());
            }
            (Wire::Uuid, Value::Bytes(bytes)) if bytes.len() == 16 => out.extend_from_slice(bytes),
            (Wire::Uuid, Value::Bytes(_)) => return Err("is no UUID, which has 16 bytes"),
            (Wire::Uuid, Value::Text(text)) => {
                let read = uuid::read(text).ok_or("is no UUID in the form xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx")?;
                out.extend_from_slice(&read);
            }
            _ => return Err("does not suit the type of the column"),
        }
        Ok(())
    }
}

/// Whether a text is longer than `most` characters by blanks alone, which `varchar` cuts off in silence. Other
/// characters beyond the limit are an error of the server.
fn loses_blanks(text: &str, most: usize) -> bool {
    // No text has more characters than bytes.
    text.len() > most && text.chars().count() > most && text.trim_end_matches(' ').chars().count() <= most
}

/// Digits that a numeric column keeps behind the point, `Some(None)` for all; `None` if it rounds whole numbers.
fn numeric_scale(modifier: i32) -> Option<Option<u32>> {
    if modifier < 4 {
        return Some(None);
    }
    // Eleven bits with a sign, as PostgreSQL has it since scales may be negative.
    let scale = (((modifier - 4) & 0x7ff) ^ 1024) - 1024;
    u32::try_from(scale).ok().map(Some)
}

impl Wire {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Int2 => "int2",
            Self::Int4 => "int4",
            Self::Int8 => "int8",
            Self::Float8 => "float8",
            Self::Bool => "bool",
            Self::Text => "text",
            Self::Bytea => "bytea",
            Self::Numeric => "numeric",
            Self::Timestamp => "timestamp",
            Self::Timestamptz => "timestamptz",
            Self::Json => "json",
            Self::Jsonb => "jsonb",
            Self::Uuid => "uuid",
        }
    }

    /// The number of the type, which an array of it begins with.
    pub(super) fn oid(self) -> u32 {
        match self {
            Self::Int2 => Type::INT2.oid(),
            Self::Int4 => Type::INT4.oid(),
            Self::Int8 => Type::INT8.oid(),
            Self::Float8 => Type::FLOAT8.oid(),
            Self::Bool => Type::BOOL.oid(),
            Self::Text => Type::TEXT.oid(),
            Self::Bytea => Type::BYTEA.oid(),
            Self::Numeric => Type::NUMERIC.oid(),
            Self::Timestamp => Type::TIMESTAMP.oid(),
            Self::Timestamptz => Type::TIMESTAMPTZ.oid(),
            Self::Json => Type::JSON.oid(),
            Self::Jsonb => Type::JSONB.oid(),
            Self::Uuid => Type::UUID.oid(),
        }
    }

    pub(super) fn array(self) -> Type {
        match self {
            Self::Int2 => Type::INT2_ARRAY,
            Self::Int4 => Type::INT4_ARRAY,
            Self::Int8 => Type::INT8_ARRAY,
            Self::Float8 => Type::FLOAT8_ARRAY,
            Self::Bool => Type::BOOL_ARRAY,
            Self::Text => Type::TEXT_ARRAY,
            Self::Bytea => Type::BYTEA_ARRAY,
            Self::Numeric => Type::NUMERIC_ARRAY,
            Self::Timestamp => Type::TIMESTAMP_ARRAY,
            Self::Timestamptz => Type::TIMESTAMPTZ_ARRAY,
            Self::Json => Type::JSON_ARRAY,
            Self::Jsonb => Type::JSONB_ARRAY,
            Self::Uuid => Type::UUID_ARRAY,
        }
    }
}

/// The type of a column in a table that is created.
pub(super) fn type_name(holds: ColumnType) -> &'static str {
    match holds {
        ColumnType::Integer => "bigint",
        ColumnType::Float => "double precision",
        ColumnType::Bool => "boolean",
        ColumnType::Text => "text",
        ColumnType::Bytes => "bytea",
        ColumnType::Decimal => "numeric",
        ColumnType::Timestamp => "timestamptz",
        ColumnType::Json => "jsonb",
    }
}

/// The types that a column for such values may have, for messages.
pub(super) fn homes(holds: ColumnType) -> &'static str {
    match holds {
        ColumnType::Integer => "bigint, integer, smallint or numeric",
        ColumnType::Float => "double precision",
        ColumnType::Bool => "boolean",
        ColumnType::Text => "text, varchar, char, citext, uuid or an enum",
        ColumnType::Bytes => "bytea or uuid",
        ColumnType::Decimal => "numeric that rounds no digits before the point",
        ColumnType::Timestamp => "timestamptz or timestamp",
        ColumnType::Json => "jsonb, json, text or varchar",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(holds: ColumnType, name: &str, modifier: i32) -> Option<Field> {
        let declared = Declared { name: name.into(), reference: name.into(), is_enum: name == "side", modifier };
        Field::of(holds, &declared)
    }

    fn put(holds: ColumnType, name: &str, modifier: i32, value: Value<'_>) -> Result<Vec<u8>, &'static str> {
        let mut out = BytesMut::from(&b"before"[..]);
        let result = field(holds, name, modifier).expect("a way in").put(&mut out, &value);
        assert!(result.is_ok() || out == b"before"[..], "all or nothing");
        result.map(|()| out[6..].to_vec())
    }

    /// The modifier of `numeric(20, scale)`.
    fn numeric(scale: i32) -> i32 {
        ((20 << 16) | (scale & 0x7ff)) + 4
    }

    #[test]
    fn what_would_change_values_has_no_way_in() {
        use ColumnType::{Bool, Bytes, Decimal, Float, Integer, Json, Text, Timestamp};
        let taken = [
            (Integer, &["int2", "int4", "int8", "numeric"][..]),
            (Float, &["float8"]),
            (Bool, &["bool"]),
            (Text, &["text", "varchar", "bpchar", "citext", "side", "uuid"]),
            (Bytes, &["bytea", "uuid"]),
            (Decimal, &["numeric"]),
            (Timestamp, &["timestamp", "timestamptz"]),
            (Json, &["json", "jsonb", "text", "varchar"]),
        ];
        let all =
            ["int2", "int4", "int8", "numeric", "float4", "float8", "bool", "text", "varchar", "bpchar", "citext"];
        let more = ["side", "bytea", "timestamp", "timestamptz", "date", "time", "json", "jsonb", "uuid", "money"];
        for (holds, names) in taken {
            for name in all.iter().chain(&more) {
                assert_eq!(field(holds, name, -1).is_some(), names.contains(name), "{holds} into {name}");
            }
        }
        assert!(field(Decimal, "numeric", numeric(-3)).is_none(), "it rounds to thousands");
    }

    #[test]
    fn only_digits_that_are_not_zero_are_too_many() {
        let put = |text: &str, scale| {
            let value = text.parse::<rust_decimal::Decimal>().expect("a decimal");
            put(ColumnType::Decimal, "numeric", scale, value.into()).is_ok()
        };
        assert!(put("1.25", numeric(2)) && put("1.2500", numeric(2)) && put("7", numeric(0)));
        assert!(!put("1.251", numeric(2)) && !put("0.5", numeric(0)));
        assert!(put("0.0000000000000000000000000001", -1));
    }

    #[test]
    fn integers_keep_to_the_range_of_their_column() {
        let unsigned = |name, value: u64| put(ColumnType::Integer, name, -1, value.into());
        let put = |name, value: i64| put(ColumnType::Integer, name, -1, value.into());
        assert_eq!(put("int8", i64::MIN).map(|bytes| bytes.len()), Ok(12));
        assert_eq!(put("int4", -1), Ok(vec![0, 0, 0, 4, 255, 255, 255, 255]));
        assert_eq!(put("int4", 1 << 31), Err("is beyond the range of integer"));
        assert_eq!(put("int2", -32_768), Ok(vec![0, 0, 0, 2, 0x80, 0]));
        assert_eq!(put("int2", 32_768), Err("is beyond the range of smallint"));
        for (name, most, why) in [
            ("int8", i64::MAX as u64, "is beyond the range of bigint"),
            ("int4", i32::MAX as u64, "is beyond the range of integer"),
            ("int2", i16::MAX as u64, "is beyond the range of smallint"),
        ] {
            assert_eq!(unsigned(name, most), put(name, most as i64));
            assert_eq!(unsigned(name, most + 1), Err(why));
        }
        assert!(unsigned("numeric", u64::MAX).is_ok());
    }

    #[test]
    fn timestamps_are_rounded_down() {
        let us = |ns: i64| {
            let bytes = put(ColumnType::Timestamp, "timestamptz", -1, ns.into()).expect("a timestamp");
            i64::from_be_bytes(bytes[4..].try_into().expect("eight bytes")) + EPOCH_US
        };
        assert_eq!([us(1_999), us(0), us(-1), us(-1_000), us(-1_001)], [1, 0, -1, -1, -2]);
        assert_eq!(us(i64::MIN), -9_223_372_036_854_776);
    }

    /// Goal: a column of fewer digits of a second rounds down as well. Method: each precision, before 1970 too.
    #[test]
    fn timestamps_are_rounded_down_to_what_the_column_keeps() {
        let us = |precision, us: i64| {
            let bytes =
                put(ColumnType::Timestamp, "timestamp", precision, (us * 1000 + 999).into()).expect("a timestamp");
            i64::from_be_bytes(bytes[4..].try_into().expect("eight bytes")) + EPOCH_US
        };
        assert_eq!(
            [-1, 6, 3, 0].map(|precision| us(precision, 1_999_999)),
            [1_999_999, 1_999_999, 1_999_000, 1_000_000]
        );
        assert_eq!([6, 3, 0].map(|precision| us(precision, -1)), [-1, -1000, -1_000_000]);
    }

    /// Goal: blanks are text, and none of them is cut off unsaid. Method: around the limit of a column, by characters.
    #[test]
    fn blanks_beyond_the_limit_are_refused() {
        let put = |text: &str| put(ColumnType::Text, "varchar", 3 + 4, text.into()).is_ok();
        assert!(put("abc") && put("a  ") && put("äöü") && put("  ") && put("   "));
        assert!(!put("abc ") && !put("a   ") && !put("äöü ") && !put("    "));
        assert!(put("abcd") && put("abcd "), "the server refuses them");
    }

    #[test]
    fn a_uuid_is_16_bytes_or_its_text() {
        let put = |holds, value| put(holds, "uuid", -1, value);
        let sent = [&[0, 0, 0, 16], &[0xab; 16][..]].concat();
        assert_eq!(put(ColumnType::Bytes, vec![0xab; 16].into()), Ok(sent.clone()));
        assert_eq!(put(ColumnType::Text, "abababab-abab-abab-abab-abababababab".into()), Ok(sent));
        assert_eq!(put(ColumnType::Text, Value::Null), Ok(vec![255; 4]));
        assert!(put(ColumnType::Bytes, vec![0xab; 15].into()).is_err_and(|why| why.contains("16 bytes")));
        assert!(put(ColumnType::Text, "order 7".into()).is_err_and(|why| why.contains("no UUID in the form")));
    }

    #[test]
    fn null_and_empty_differ_and_nul_is_refused() {
        let put = |value| put(ColumnType::Text, "varchar", 8, value);
        assert_eq!(put(Value::Null), Ok(vec![255; 4]));
        assert_eq!(put("".into()), Ok(vec![0; 4]));
        assert!(put("a\0b".into()).is_err_and(|why| why.contains("NUL")));
    }
}
