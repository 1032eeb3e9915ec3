//! [`Tombstone`]: a message that is no frame: a process has left the log, or was removed from it. Frames of it that come behind count
//! for nothing, so from then on it is certain which of its ops were accepted.
//!
//! ```text
//! 0 (no version of a frame), number of the process, checksum
//! ```

use std::sync::Arc;

use crate::durable::bytes::checksum;

/// The first byte, which no frame has.
const KIND: u8 = 0;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tombstone {
    pub(super) producer: u64,
}

impl Tombstone {
    pub(super) fn bytes(self) -> Arc<[u8]> {
        let producer = self.producer.to_le_bytes();
        let sum = checksum(&[], &producer).to_le_bytes();
        std::iter::once(KIND).chain(producer).chain(sum).collect()
    }

    /// `None` if it is something else.
    pub(super) fn open(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let (producer, sum) = rest.split_first_chunk::<8>()?;
        let is_right = *kind == KIND && sum == checksum(&[], producer).to_le_bytes();
        is_right.then(|| Self { producer: u64::from_le_bytes(*producer) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a tombstone comes back, and nothing else is one. Method: each byte changed, and one cut off.
    #[test]
    fn a_tombstone_comes_back() {
        let bytes = Tombstone { producer: 300 }.bytes();
        assert_eq!(Tombstone::open(&bytes), Some(Tombstone { producer: 300 }));
        for at in 0..bytes.len() {
            let mut changed = bytes.to_vec();
            changed[at] ^= 1;
            assert_eq!(Tombstone::open(&changed), None, "{at}");
        }
        assert_eq!(Tombstone::open(&bytes[1..]), None);
    }
}
