//! FNV-1a with 64 bits (Fowler, Noll, Vo), a hash that is the same in each process. [`fnv1a`] of bytes decides on the shard of an
//! op, the same on every machine for ever. [`stable_hash`] of a key names the rows of a log with what was drawn for it; it may
//! change with the version of Rust, as `Hash` may.
#![cfg(feature = "durable")]

use std::hash::{Hash, Hasher};

/// The hash of no bytes, as published.
pub(crate) const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;

/// The factor of each step, as published.
pub(crate) const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// The hash of the bytes so far.
struct Fnv1a(u64);

impl Hasher for Fnv1a {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(FNV_PRIME);
        }
    }
}

pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    let mut hasher = Fnv1a(FNV_OFFSET);
    hasher.write(bytes);
    hasher.finish()
}

pub(crate) fn stable_hash(key: &impl Hash) -> u64 {
    let mut hasher = Fnv1a(FNV_OFFSET);
    key.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_published_one() {
        // From the reference test vectors of FNV.
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
