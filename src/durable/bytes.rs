//! Reading and writing of the log's records: numbers of variable length, and a checksum.

use crate::rules::stable_hash::{FNV_OFFSET, FNV_PRIME};

/// Appends a number in groups of seven bits, the lowest first (LEB128, as in DWARF and protocol buffers).
pub(crate) fn put_varint(to: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        to.push(number as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

/// Appends bytes behind their number.
pub(crate) fn put_bytes(to: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(to, bytes.len() as u64);
    to.extend_from_slice(bytes);
}

/// Reads a record from its front. Each method is `None` where the record ends too early.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.at == self.bytes.len()
    }

    pub(crate) fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    pub(crate) fn varint(&mut self) -> Option<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return None;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    /// A number of eight bytes.
    pub(crate) fn word(&mut self) -> Option<u64> {
        let bytes = self.take(8)?;
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    }

    pub(crate) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let bytes = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(bytes)
    }

    /// Bytes behind their number, and where they begin in the record.
    pub(crate) fn bytes(&mut self) -> Option<(usize, &'a [u8])> {
        let count = usize::try_from(self.varint()?).ok()?;
        let at = self.at;
        Some((at, self.take(count)?))
    }
}

/// The checksum of a record under a key. Each step is a bijection, so that a change within eight bytes is always noticed.
///
/// FNV-1a over words of eight bytes, since a record is read whole each time; the rotation carries high bits down.
pub(crate) fn checksum(key: &[u64], bytes: &[u8]) -> u64 {
    let step = |hash: u64, word: u64| (hash ^ word).wrapping_mul(FNV_PRIME).rotate_left(29);
    let mut hash = key.iter().fold(FNV_OFFSET ^ bytes.len() as u64, |hash, word| step(hash, *word));
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        hash = step(hash, u64::from_le_bytes(word.try_into().unwrap_or_default()));
    }
    words.remainder().iter().fold(hash, |hash, byte| step(hash, u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        for number in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, number);
            let mut reader = Reader::new(&bytes);
            assert_eq!((reader.varint(), reader.is_at_end()), (Some(number), true));
            assert_eq!(Reader::new(&bytes[..bytes.len() - 1]).varint(), None);
        }
        assert_eq!(Reader::new(&[0xff; 11]).varint(), None, "more than 64 bits");
    }

    #[test]
    fn a_flipped_bit_is_noticed() {
        let record: Vec<u8> = (0..37).collect();
        let sum = checksum(&[1, 2], &record);
        assert_ne!(sum, checksum(&[1, 3], &record));
        assert_ne!(sum, checksum(&[1, 2], &record[..36]));
        for bit in 0..record.len() * 8 {
            let mut flipped = record.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(sum, checksum(&[1, 2], &flipped));
        }
    }
}
