//! [`write()`]: JSON that is read as it was written, or an error. `serde_json` writes a NaN and an infinity as `null`, which is another
//! value or none at all, and reads only so many levels. [`Json`](super::Json) calls it.

use std::{fmt, io};

use serde::{
    Serialize, Serializer,
    ser::{
        Error, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
        SerializeTupleStruct, SerializeTupleVariant,
    },
};
use serde_json::ser::Formatter;

use super::codec::CodecError;

/// Levels that are read, one more than these being refused by `serde_json`.
const MAX_LEVELS: usize = 127;

/// Appends a value as JSON.
pub(super) fn write<V: Serialize>(value: &V, to: &mut Vec<u8>) -> Result<(), CodecError> {
    let mut seen = Seen::default();
    value.serialize(&mut serde_json::Serializer::with_formatter(to, Watch(&mut seen)))?;
    if seen.deepest > MAX_LEVELS {
        return Err(format!("it is nested {} levels deep, and JSON is read to {MAX_LEVELS}", seen.deepest).into());
    }
    // Most values have no null, and need no second look.
    if seen.has_null { Ok(value.serialize(Finite)?) } else { Ok(()) }
}

/// Facts about what has been written.
#[derive(Debug, Default)]
struct Seen {
    has_null: bool,
    level: usize,
    deepest: usize,
}

/// Writes without blanks, as `serde_json` does by default, and notes what it sees.
struct Watch<'a>(&'a mut Seen);

impl Watch<'_> {
    fn enter(&mut self) {
        self.0.level += 1;
        self.0.deepest = self.0.deepest.max(self.0.level);
    }
}

impl Formatter for Watch<'_> {
    fn write_null<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.has_null = true;
        writer.write_all(b"null")
    }

    fn begin_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.enter();
        writer.write_all(b"[")
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.level -= 1;
        writer.write_all(b"]")
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.enter();
        writer.write_all(b"{")
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.level -= 1;
        writer.write_all(b"}")
    }
}

/// The error of [`Finite`].
#[derive(Debug)]
struct NotFinite(String);

impl fmt::Display for NotFinite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotFinite {}

impl Error for NotFinite {
    fn custom<M: fmt::Display>(message: M) -> Self {
        Self(message.to_string())
    }
}

/// Writes nothing, and refuses a value with a float that is not finite.
struct Finite;

type Looked = Result<(), NotFinite>;

impl Finite {
    fn look(number: f64) -> Looked {
        if number.is_finite() { Ok(()) } else { Err(NotFinite(format!("JSON has no {number}"))) }
    }
}

/// Values without a float.
macro_rules! have_no_float {
    ($($method:ident($value:ty)),*) => {
        $(fn $method(self, _: $value) -> Looked {
            Ok(())
        })*
    };
}

impl Serializer for Finite {
    type Ok = ();
    type Error = NotFinite;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    have_no_float!(
        serialize_bool(bool),
        serialize_i8(i8),
        serialize_i16(i16),
        serialize_i32(i32),
        serialize_i64(i64),
        serialize_i128(i128),
        serialize_u8(u8),
        serialize_u16(u16),
        serialize_u32(u32),
        serialize_u64(u64),
        serialize_u128(u128),
        serialize_char(char),
        serialize_str(&str),
        serialize_bytes(&[u8]),
        serialize_unit_struct(&'static str)
    );

    fn serialize_f32(self, number: f32) -> Looked {
        Self::look(number.into())
    }

    fn serialize_f64(self, number: f64) -> Looked {
        Self::look(number)
    }

    fn serialize_none(self) -> Looked {
        Ok(())
    }

    fn serialize_some<V: ?Sized + Serialize>(self, value: &V) -> Looked {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Looked {
        Ok(())
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> Looked {
        Ok(())
    }

    fn serialize_newtype_struct<V: ?Sized + Serialize>(self, _: &'static str, value: &V) -> Looked {
        value.serialize(self)
    }

    fn serialize_newtype_variant<V>(self, _: &'static str, _: u32, _: &'static str, value: &V) -> Looked
    where
        V: ?Sized + Serialize,
    {
        value.serialize(self)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self, NotFinite> {
        Ok(self)
    }

    fn serialize_tuple(self, _: usize) -> Result<Self, NotFinite> {
        Ok(self)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self, NotFinite> {
        Ok(self)
    }

    fn serialize_tuple_variant(self, _: &'static str, _: u32, _: &'static str, _: usize) -> Result<Self, NotFinite> {
        Ok(self)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self, NotFinite> {
        Ok(self)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, NotFinite> {
        Ok(self)
    }

    fn serialize_struct_variant(self, _: &'static str, _: u32, _: &'static str, _: usize) -> Result<Self, NotFinite> {
        Ok(self)
    }
}

/// Looks at each part of a value that has some.
macro_rules! look_at_parts {
    ($($of:ident: $method:ident($($name:ty)?)),*) => {
        $(impl $of for Finite {
            type Ok = ();
            type Error = NotFinite;

            fn $method<V: ?Sized + Serialize>(&mut self, $(_: $name,)? value: &V) -> Looked {
                value.serialize(Finite)
            }

            fn end(self) -> Looked {
                Ok(())
            }
        })*
    };
}

look_at_parts!(
    SerializeSeq: serialize_element(),
    SerializeTuple: serialize_element(),
    SerializeTupleStruct: serialize_field(),
    SerializeTupleVariant: serialize_field(),
    SerializeStruct: serialize_field(&'static str),
    SerializeStructVariant: serialize_field(&'static str)
);

impl SerializeMap for Finite {
    type Ok = ();
    type Error = NotFinite;

    fn serialize_key<V: ?Sized + Serialize>(&mut self, key: &V) -> Looked {
        key.serialize(Self)
    }

    fn serialize_value<V: ?Sized + Serialize>(&mut self, value: &V) -> Looked {
        value.serialize(Self)
    }

    fn end(self) -> Looked {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Serialize)]
    enum Op {
        Unit,
        New(Option<f64>),
        Tuple((), f32),
        Struct { price: f64, note: Option<&'static str> },
    }

    fn text<V: Serialize>(value: &V) -> Result<String, String> {
        let mut bytes = Vec::new();
        write(value, &mut bytes).map_err(|error| error.to_string())?;
        Ok(String::from_utf8(bytes).unwrap())
    }

    /// Goal: JSON is that of `serde_json`, unless it would be read as another value. Method: values of each kind, with nulls and
    /// with floats that JSON does not have.
    #[test]
    fn floats_that_are_not_finite_are_refused() {
        let good = (
            Op::Unit,
            vec![Op::New(None), Op::New(Some(0.1)), Op::Tuple((), 1.5), Op::Struct { price: 2.0, note: None }],
            BTreeMap::from([(1_u8, Some('x')), (2, None)]),
        );
        assert_eq!(text(&good).unwrap(), serde_json::to_string(&good).unwrap());
        let wrong = f64::NAN;
        for bad in [
            text(&wrong),
            text(&Some(f64::INFINITY)),
            text(&vec![1.0, wrong]),
            text(&(1, wrong)),
            text(&Op::New(Some(wrong))),
            text(&Op::Tuple((), f32::NAN)),
            text(&Op::Struct { price: wrong, note: Some("no") }),
            text(&BTreeMap::from([("price", wrong)])),
        ] {
            assert!(bad.as_ref().is_err_and(|error| error.starts_with("JSON has no")), "{bad:?}");
        }
    }

    /// Goal: no value is written that is too deep to be read. Method: the deepest one that is read, and one level more.
    #[test]
    fn values_that_are_too_deep_are_refused() {
        let nested = |levels| (0..levels).fold(serde_json::json!(7), |value, _| serde_json::json!([value]));
        let deepest = text(&nested(MAX_LEVELS)).unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&deepest).unwrap(), nested(MAX_LEVELS));
        assert!(text(&nested(MAX_LEVELS + 1)).unwrap_err().contains("nested 128 levels deep"));
    }
}
