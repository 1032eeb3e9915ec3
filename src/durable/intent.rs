//! [`Intent`]: a batch that is about to be written, as the log keeps it. An intent is a row of the log. It goes when each of its
//! ops is settled, or has an intent of its own, or is known not to have landed.

use super::{
    bytes::{Reader, put_bytes, put_varint},
    frame::MAX_NUMBER,
};

/// An op of an intent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IntentOp {
    /// The positions that it stands for, the least first.
    pub(crate) positions: Vec<u64>,
    /// How often it was written, this time included.
    pub(crate) attempts: u32,
    /// The op as it is sent, unless that is byte for byte what the log has at its first position.
    pub(crate) op: Option<Vec<u8>>,
}

impl IntentOp {
    pub(crate) fn first(&self) -> u64 {
        self.positions.first().copied().unwrap_or_default()
    }
}

/// A batch that is about to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Intent {
    /// Whether it was written by itself because earlier terms had died: if this one does, too, the op is to blame.
    pub(crate) alone: bool,
    pub(crate) schema: u32,
    pub(crate) ops: Vec<IntentOp>,
}

/// The format that is written, and the only one that is read.
const VERSION: u8 = 1;

/// Attempts of an op, at most: more than any retry makes, and few enough to count on from there.
const MAX_ATTEMPTS: u32 = i32::MAX as u32;

impl Intent {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION, u8::from(self.alone)];
        put_varint(&mut bytes, u64::from(self.schema));
        put_varint(&mut bytes, self.ops.len() as u64);
        for IntentOp { positions, attempts, op } in &self.ops {
            put_varint(&mut bytes, positions.len() as u64);
            positions.iter().for_each(|position| put_varint(&mut bytes, *position));
            put_varint(&mut bytes, u64::from(*attempts));
            bytes.push(u8::from(op.is_some()));
            if let Some(op) = op {
                put_bytes(&mut bytes, op);
            }
        }
        bytes
    }

    /// `None` if the bytes are no intent. Nothing is allocated by a number that they claim.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let (version, alone) = (reader.byte()?, reader.byte()? != 0);
        let schema = u32::try_from(reader.varint()?).ok()?;
        let count = reader.varint()?;
        let mut ops = Vec::new();
        for _ in 0..count {
            let positions = (0..reader.varint()?).map(|_| reader.varint()).collect::<Option<Vec<_>>>()?;
            let is_ascending = positions.is_sorted_by(|one, next| one < next);
            if !is_ascending || positions.last().is_none_or(|last| *last >= MAX_NUMBER) {
                return None;
            }
            let attempts = u32::try_from(reader.varint()?).ok().filter(|attempts| *attempts <= MAX_ATTEMPTS)?;
            let op = if reader.byte()? == 0 { None } else { Some(reader.bytes()?.1.to_vec()) };
            ops.push(IntentOp { positions, attempts, op });
        }
        let mut positions: Vec<u64> = ops.iter().flat_map(|op| op.positions.iter().copied()).collect();
        positions.sort_unstable();
        let are_disjoint = positions.is_sorted_by(|one, next| one < next);
        (version == VERSION && reader.is_at_end() && are_disjoint).then_some(Self { alone, schema, ops })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intents_come_back() {
        let ops = vec![
            IntentOp { positions: vec![3, 9, 1000], attempts: 2, op: Some(b"merged".to_vec()) },
            IntentOp { positions: vec![4], attempts: 1, op: None },
        ];
        let intent = Intent { alone: true, schema: 7, ops };
        let bytes = intent.encode();
        assert_eq!(Intent::decode(&bytes), Some(intent));
        assert!((0..bytes.len()).all(|end| Intent::decode(&bytes[..end]).is_none()));
    }
}
