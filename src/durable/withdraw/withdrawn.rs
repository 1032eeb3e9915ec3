//! [`Withdrawn`]: ops that a request has withdrawn, as bytes of an outcome. The leader packs them, and the process that has asked
//! unpacks them.
//!
//! ```text
//! flags, and for each op: length, bytes
//! ```

use crate::durable::{
    bytes::{Reader, put_bytes},
    codec::OpCodec,
};

/// Bytes from which on an answer takes no more ops: a row of this size is read and written in some milliseconds.
const MAX_BYTES: usize = 8 * 1000 * 1000;

/// More ops wait under the key.
const MORE: u8 = 1;
/// An op was withdrawn for which the codec has no bytes.
const LACKS_OPS: u8 = 1 << 1;

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Withdrawn {
    /// The schema of the ops.
    schema: u32,
    bytes: Vec<u8>,
}

/// An answer, unpacked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answered<T> {
    pub(crate) ops: Vec<T>,
    /// Whether all ops that were withdrawn are there.
    pub(crate) is_whole: bool,
    /// Whether no others wait under the key.
    pub(crate) is_last: bool,
}

impl Withdrawn {
    /// No ops.
    pub(crate) fn new(schema: u32) -> Self {
        Self { schema, bytes: vec![0] }
    }

    /// The answer that an outcome has.
    pub(crate) fn from_parts(schema: u32, bytes: Vec<u8>) -> Self {
        Self { schema, bytes }
    }

    pub(crate) fn schema(&self) -> u32 {
        self.schema
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Adds an op. Returns false if there is no room, and the op must stay.
    pub(crate) fn push<T, R>(&mut self, codec: &dyn OpCodec<T, R>, op: &T) -> bool {
        if self.bytes.len() >= MAX_BYTES {
            self.bytes[0] |= MORE;
            return false;
        }
        let mut bytes = Vec::new();
        match codec.encode_op(op, &mut bytes) {
            Ok(()) => put_bytes(&mut self.bytes, &bytes),
            // The op must not be sent, whatever becomes of it.
            Err(_) => self.bytes[0] |= LACKS_OPS,
        }
        true
    }

    pub(crate) fn decode<T, R>(&self, codec: &dyn OpCodec<T, R>) -> Answered<T> {
        let mut reader = Reader::new(&self.bytes);
        let Some(flags) = reader.byte() else {
            return Answered { ops: Vec::new(), is_whole: false, is_last: true };
        };
        let (mut ops, mut is_whole) = (Vec::new(), flags & LACKS_OPS == 0);
        while !reader.is_at_end() {
            let Some((_, bytes)) = reader.bytes() else {
                is_whole = false;
                break;
            };
            match codec.decode_op(bytes, self.schema) {
                Ok(op) => ops.push(op),
                Err(_) => is_whole = false,
            }
        }
        Answered { ops, is_whole, is_last: flags & MORE == 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::durable::codec::Json;

    /// Goal: ops come back as they are, and an answer says if it lacks any. Method: ops, one without bytes, one that is too much, and
    /// bytes that are cut off.
    #[test]
    fn ops_come_back() {
        let codec: &dyn OpCodec<f64, ()> = &Json;
        let mut withdrawn = Withdrawn::new(0);
        let read = |withdrawn: &Withdrawn| withdrawn.decode(codec);
        assert_eq!(read(&withdrawn), Answered { ops: vec![], is_whole: true, is_last: true });
        assert!(withdrawn.push(codec, &1.5) && withdrawn.push(codec, &-2.0));
        assert_eq!(read(&withdrawn), Answered { ops: vec![1.5, -2.0], is_whole: true, is_last: true });
        let cut = Withdrawn::from_parts(0, withdrawn.bytes()[..8].to_vec());
        assert_eq!(read(&cut), Answered { ops: vec![1.5], is_whole: false, is_last: true });
        assert!(!read(&Withdrawn::from_parts(0, Vec::new())).is_whole);
        assert!(!read(&Withdrawn::from_parts(7, withdrawn.bytes().to_vec())).is_whole, "another schema");
        assert!(withdrawn.push(codec, &f64::NAN) && withdrawn.push(codec, &3.0));
        assert_eq!(read(&withdrawn), Answered { ops: vec![1.5, -2.0, 3.0], is_whole: false, is_last: true });
    }

    /// Goal: an answer is bounded, and says that more ops wait. Method: ops of a megabyte.
    #[test]
    fn an_answer_is_bounded() {
        let codec: &dyn OpCodec<String, ()> = &Json;
        let (mut withdrawn, op) = (Withdrawn::new(0), "x".repeat(1_000_000));
        let taken = (0..20).take_while(|_| withdrawn.push(codec, &op)).count();
        let Answered { ops, is_whole, is_last } = withdrawn.decode(codec);
        assert_eq!((taken, ops.len(), is_whole, is_last), (8, 8, true, false));
    }
}
