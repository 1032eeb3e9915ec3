//! [`Codec`]: how ops and receipts become bytes in the log. [`Json`] is ready for all that serde knows, [`Raw`] for numbers,
//! texts and types that write their own bytes.

use serde::{Serialize, de::DeserializeOwned};

use super::json;
use crate::rules::panics;

/// The error of a [`Codec`].
pub type CodecError = Box<dyn std::error::Error + Send + Sync>;

/// Turns values into bytes and back. A durable batcher uses one for its ops and its receipts. Errors of sinks are in the log as JSON.
///
/// What was written by an older program must be readable: after a change of the format, raise [`schema`](Self::schema) and keep
/// reading the older ones, or say in [`reads`](Self::reads) that it can't. A batcher does not join a log that it can't read.
///
/// # Examples
///
/// ```
/// use roundlot::durable::{Codec, CodecError, Json};
///
/// let (tick, mut bytes) = (("BTCUSDT".to_owned(), 7), Vec::new());
/// Json.encode(&tick, &mut bytes)?;
/// let read: (String, i32) = Json.decode(&bytes, 0)?;
/// assert_eq!(read, tick);
/// # Ok::<(), CodecError>(())
/// ```
pub trait Codec<V>: Send + Sync + 'static {
    /// Appends the bytes of a value.
    ///
    /// # Errors
    ///
    /// If the value has none. The op is then given back to its caller.
    fn encode(&self, value: &V, to: &mut Vec<u8>) -> Result<(), CodecError>;

    /// Reads a value from exactly the bytes that [`encode`](Self::encode) wrote under this schema.
    ///
    /// # Errors
    ///
    /// If the bytes are no value.
    fn decode(&self, bytes: &[u8], schema: u32) -> Result<V, CodecError>;

    /// The number of the schema that [`encode`](Self::encode) writes. The default is 0.
    fn schema(&self) -> u32 {
        0
    }

    /// Whether [`decode`](Self::decode) reads this schema. The default reads all up to its own.
    fn reads(&self, schema: u32) -> bool {
        schema <= self.schema()
    }
}

/// JSON, for all types that serde can write and read: readable in the log, and as tolerant as their `Deserialize` is.
///
/// A float comes back bit for bit. JSON has no NaN and no infinity, so that a value with one is not encoded, and neither is one that is
/// nested 128 levels deep or more.
#[derive(Debug, Clone, Copy, Default)]
pub struct Json;

impl<V: Serialize + DeserializeOwned> Codec<V> for Json {
    fn encode(&self, value: &V, to: &mut Vec<u8>) -> Result<(), CodecError> {
        json::write(value, to)
    }

    fn decode(&self, bytes: &[u8], _schema: u32) -> Result<V, CodecError> {
        Ok(serde_json::from_slice(bytes)?)
    }
}

/// The bytes of a value as it writes them itself: the fastest codec.
#[derive(Debug, Clone, Copy, Default)]
pub struct Raw;

/// A value that [`Raw`] can write.
///
/// ```
/// use roundlot::durable::{CodecError, RawBytes};
///
/// struct Tick { symbol: u32, price: u64 }
///
/// impl RawBytes for Tick {
///     fn write(&self, to: &mut Vec<u8>) {
///         to.extend_from_slice(&self.symbol.to_le_bytes());
///         to.extend_from_slice(&self.price.to_le_bytes());
///     }
///
///     fn read(bytes: &[u8]) -> Result<Self, CodecError> {
///         let (symbol, price) = bytes.split_at_checked(4).ok_or("too short")?;
///         Ok(Self { symbol: u32::read(symbol)?, price: u64::read(price)? })
///     }
/// }
/// ```
pub trait RawBytes: Sized {
    /// Appends the bytes.
    fn write(&self, to: &mut Vec<u8>);

    /// Reads what [`write`](Self::write) wrote.
    ///
    /// # Errors
    ///
    /// If the bytes are no value.
    fn read(bytes: &[u8]) -> Result<Self, CodecError>;
}

impl<V: RawBytes> Codec<V> for Raw {
    fn encode(&self, value: &V, to: &mut Vec<u8>) -> Result<(), CodecError> {
        value.write(to);
        Ok(())
    }

    fn decode(&self, bytes: &[u8], _schema: u32) -> Result<V, CodecError> {
        V::read(bytes)
    }
}

impl RawBytes for () {
    fn write(&self, _to: &mut Vec<u8>) {}

    fn read(bytes: &[u8]) -> Result<Self, CodecError> {
        if bytes.is_empty() { Ok(()) } else { Err("more bytes than none".into()) }
    }
}

impl RawBytes for String {
    fn write(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(self.as_bytes());
    }

    fn read(bytes: &[u8]) -> Result<Self, CodecError> {
        Ok(std::str::from_utf8(bytes)?.to_owned())
    }
}

impl RawBytes for Vec<u8> {
    fn write(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(self);
    }

    fn read(bytes: &[u8]) -> Result<Self, CodecError> {
        Ok(bytes.to_vec())
    }
}

/// Numbers are written with the lowest byte first.
macro_rules! numbers_are_raw {
    ($($number:ty),*) => {
        $(impl RawBytes for $number {
            fn write(&self, to: &mut Vec<u8>) {
                to.extend_from_slice(&self.to_le_bytes());
            }

            fn read(bytes: &[u8]) -> Result<Self, CodecError> {
                Ok(Self::from_le_bytes(bytes.try_into()?))
            }
        })*
    };
}

numbers_are_raw!(u8, u16, u32, u64, u128, i8, i16, i32, i64, i128);

/// The codec of one durable batcher, with its type hidden.
pub(crate) trait OpCodec<T, R>: Send + Sync {
    fn encode_op(&self, op: &T, to: &mut Vec<u8>) -> Result<(), CodecError>;
    fn decode_op(&self, bytes: &[u8], schema: u32) -> Result<T, CodecError>;
    fn encode_receipt(&self, receipt: &R, to: &mut Vec<u8>) -> Result<(), CodecError>;
    fn decode_receipt(&self, bytes: &[u8], schema: u32) -> Result<R, CodecError>;
    fn op_schema(&self) -> u32;
    fn receipt_schema(&self) -> u32;
}

impl<T, R, C: Codec<T> + Codec<R>> OpCodec<T, R> for C {
    fn encode_op(&self, op: &T, to: &mut Vec<u8>) -> Result<(), CodecError> {
        contained(|| self.encode(op, to))
    }

    fn decode_op(&self, bytes: &[u8], schema: u32) -> Result<T, CodecError> {
        decode(self, bytes, schema)
    }

    fn encode_receipt(&self, receipt: &R, to: &mut Vec<u8>) -> Result<(), CodecError> {
        contained(|| self.encode(receipt, to))
    }

    fn decode_receipt(&self, bytes: &[u8], schema: u32) -> Result<R, CodecError> {
        decode(self, bytes, schema)
    }

    fn op_schema(&self) -> u32 {
        Codec::<T>::schema(self)
    }

    fn receipt_schema(&self) -> u32 {
        Codec::<R>::schema(self)
    }
}

/// Decodes a value of a schema that the codec reads. Bytes of another one may look like a value all the same.
fn decode<V>(codec: &impl Codec<V>, bytes: &[u8], schema: u32) -> Result<V, CodecError> {
    contained(|| match codec.reads(schema) {
        true => codec.decode(bytes, schema),
        false => Err(format!("its schema {schema} is none that the codec reads").into()),
    })
}

/// Runs the user's codec. A panic is an error of it.
fn contained<V>(function: impl FnOnce() -> Result<V, CodecError>) -> Result<V, CodecError> {
    panics::catch(function)
        .unwrap_or_else(|panic| Err(format!("the codec panicked: {}", panics::message(&*panic)).into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip<V: PartialEq + std::fmt::Debug, C: Codec<V>>(codec: &C, value: &V) {
        let mut bytes = Vec::new();
        codec.encode(value, &mut bytes).unwrap();
        assert_eq!(&codec.decode(&bytes, codec.schema()).unwrap(), value);
    }

    #[test]
    fn values_come_back() {
        round_trip(&Json, &());
        round_trip(&Json, &vec![Some(1), None]);
        round_trip(&Raw, &());
        round_trip(&Raw, &-7_i64);
        round_trip(&Raw, &"tick".to_owned());
        round_trip(&Raw, &vec![1_u8, 2]);
        assert!(Codec::<u32>::decode(&Raw, &[1, 2], 0).is_err());
        assert!(Codec::<()>::decode(&Raw, &[1], 0).is_err());
        assert!(Codec::<u32>::decode(&Json, b"{", 0).is_err());
        round_trip(&Json, &90_072.066_666_666_67_f64);
        assert!(Codec::<u32>::reads(&Json, 0) && !Codec::<u32>::reads(&Json, 1));
        let codec: &dyn OpCodec<u32, u32> = &Json;
        assert!(codec.decode_op(b"7", 0).is_ok() && codec.decode_op(b"7", 1).is_err());
        assert!(codec.decode_receipt(b"7", 0).is_ok() && codec.decode_receipt(b"7", 1).is_err());
    }
}
