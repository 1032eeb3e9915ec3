//! FNV-1a with 64 bits (Fowler, Noll, Vo), a hash that is the same in each process. [`fnv1a`] of bytes decides on the shard of an
//! op, the same on every machine for ever. [`stable_hash`] of a key names the rows of a log with what was drawn for it, and
//! [`wide_hash`], with 128 bits, names the key in a request to another process. These two may change with the version of Rust, as
//! `Hash` may.
#![cfg(feature = "durable")]

use std::hash::{Hash, Hasher};

/// The hash of no bytes, as published.
pub(crate) const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;

/// The factor of each step, as published.
pub(crate) const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// The hash with 128 bits of no bytes, as published.
const WIDE_OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;

/// The factor of each step of the hash with 128 bits, as published.
const WIDE_PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;

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

/// The hash with 128 bits of the bytes so far.
struct Wide(u128);

impl Hasher for Wide {
    fn finish(&self) -> u64 {
        self.0 as u64
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u128::from(*byte)).wrapping_mul(WIDE_PRIME);
        }
    }
}

/// A hash with so many bits that no two keys of a log share one by chance.
pub(crate) fn wide_hash(key: &impl Hash) -> u128 {
    let mut hasher = Wide(WIDE_OFFSET);
    key.hash(&mut hasher);
    hasher.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wide_hash_is_the_published_one() {
        let hash = |bytes: &[u8]| {
            let mut hasher = Wide(WIDE_OFFSET);
            hasher.write(bytes);
            hasher.0
        };
        assert_eq!(hash(b"a"), 0xd228_cb69_6f1a_8caf_7891_2b70_4e4a_8964);
        assert_eq!(hash(b"foobar"), 0x343e_1662_793c_64bf_6f0d_3597_ba44_6f18);
        assert_ne!(wide_hash(&1_u32), wide_hash(&2_u32));
    }

    #[test]
    fn the_hash_is_the_published_one() {
        // From the reference test vectors of FNV.
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
