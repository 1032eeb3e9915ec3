//! [`stable_hash`]: a hash of a key that is the same in each process, by which a durable log keeps what was drawn for it. It may
//! change with the version of Rust, as `Hash` may.
#![cfg(feature = "durable")]

use std::hash::{Hash, Hasher};

/// FNV-1a.
struct StableHasher(u64);

impl Hasher for StableHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

pub(crate) fn stable_hash(key: &impl Hash) -> u64 {
    let mut hasher = StableHasher(0xcbf2_9ce4_8422_2325);
    key.hash(&mut hasher);
    hasher.finish()
}
