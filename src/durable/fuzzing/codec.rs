//! Properties of codecs: a value that decodes is encoded, and decodes to the same value again; a float comes back bit for bit or is
//! not encoded at all.

use std::{collections::BTreeMap, fmt::Debug};

use serde::{Deserialize, Serialize};

use crate::{
    durable::codec::{Codec, Json, OpCodec, Raw},
    rules::outcome::OpId,
};

/// An op with values of many kinds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Op {
    Limit { price: f64, quantity: Option<u32>, tags: BTreeMap<String, Vec<i128>> },
    Market(String, Option<f64>),
    All(Vec<Op>),
    Cancel,
}

/// Values of many types, as JSON and as their own bytes; the text of an id.
pub fn codec(bytes: &[u8]) -> bool {
    let json = [
        comes_back::<Op, _>(&Json, bytes),
        comes_back::<Vec<Option<f32>>, _>(&Json, bytes),
        comes_back::<(u64, i8, bool, char, String), _>(&Json, bytes),
        comes_back::<serde_json::Value, _>(&Json, bytes),
        comes_back::<OpId, _>(&Json, bytes),
    ];
    comes_back_as_it_is::<()>(bytes);
    comes_back_as_it_is::<String>(bytes);
    comes_back_as_it_is::<Vec<u8>>(bytes);
    comes_back_as_it_is::<u8>(bytes);
    comes_back_as_it_is::<i16>(bytes);
    comes_back_as_it_is::<u32>(bytes);
    comes_back_as_it_is::<i64>(bytes);
    comes_back_as_it_is::<u128>(bytes);
    bytes.chunks_exact(8).for_each(|word| float(f64::from_le_bytes(word.try_into().unwrap_or_default())));
    nested(bytes.len() % 300);
    if let Some(id) = std::str::from_utf8(bytes).ok().and_then(|text| text.parse::<OpId>().ok()) {
        assert_eq!(id.to_string().parse(), Ok(id));
    }
    json.contains(&true)
}

fn comes_back<V: PartialEq + Debug, C: Codec<V> + Codec<()>>(codec: &C, bytes: &[u8]) -> bool {
    let codec: &dyn OpCodec<V, ()> = codec;
    let Ok(value) = codec.decode_op(bytes, 0) else { return false };
    let mut written = Vec::new();
    codec.encode_op(&value, &mut written).expect("it was decoded");
    let read = codec.decode_op(&written, 0).expect("it was encoded");
    assert_eq!(read, value);
    true
}

/// A value in its own bytes has one form.
fn comes_back_as_it_is<V: PartialEq + Debug>(bytes: &[u8])
where
    Raw: Codec<V>,
{
    let Ok(value) = Raw.decode(bytes, 0) else { return };
    let mut written = Vec::new();
    Raw.encode(&value, &mut written).expect("it was decoded");
    assert_eq!(written, bytes);
}

/// An op that is nested so deep is read if it is written.
fn nested(levels: usize) {
    let codec: &dyn OpCodec<Op, ()> = &Json;
    let op = (0..levels).fold(Op::Cancel, |op, _| Op::All(vec![op]));
    let mut written = Vec::new();
    if codec.encode_op(&op, &mut written).is_ok() {
        assert_eq!(codec.decode_op(&written, 0).expect("it was encoded"), op);
    }
}

/// A float that is encoded is the same afterwards: an op whose price has changed in the log is another op.
fn float(number: f64) {
    let codec: &dyn OpCodec<Op, ()> = &Json;
    let mut written = Vec::new();
    let op = Op::Market(String::new(), Some(number));
    if codec.encode_op(&op, &mut written).is_err() {
        assert!(!number.is_finite());
        return;
    }
    match codec.decode_op(&written, 0).expect("it was encoded") {
        Op::Market(_, Some(read)) => assert_eq!(read.to_bits(), number.to_bits(), "{number} has become {read}"),
        other => panic!("{number} has become {other:?}"),
    }
}
