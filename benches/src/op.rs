//! Ops of 64 bytes, and a repeatable mix of them like that of a trading app. Rows and peers send them.

use std::array;

/// An op of 64 bytes, as large as an order or a quote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Op {
    /// The number of the op in its run.
    pub id: u64,
    /// The time of the send in nanoseconds since the run began. Only the row `latency` sets it; elsewhere it is zero.
    pub sent_ns: u64,
    /// The key of conflation: a later op replaces a waiting op of the same key.
    pub key: u64,
    /// The key of the partition, below [`SYMBOLS`] in a mix.
    pub symbol: u32,
    /// The priority: greater levels leave first.
    pub level: u8,
    /// Padding up to 64 bytes, in place of the other fields of an order.
    pub rest: [u32; 7],
}

const _: () = assert!(size_of::<Op>() == 64, "the figures are for ops of 64 bytes");

impl Op {
    /// Makes an op with a number and a key of its own, of symbol 0 and level 0.
    pub fn numbered(id: u64) -> Self {
        Self { id, sent_ns: 0, key: id, symbol: 0, level: 0, rest: [id as u32; 7] }
    }
}

/// The number of symbols in a mix, and in the feed of the row `fanout`.
pub const SYMBOLS: u32 = 100;

/// The number of latest ops among which an update finds the op that it supersedes.
const RECENT: usize = 256;

/// Makes a repeatable mix of 100 symbols and four levels (70, 20, 8 and 2 %).
///
/// A third of the ops update one of the 256 ops before them, under the same key and possibly with another level.
pub fn mix(count: usize) -> Vec<Op> {
    let mut dice = Dice::new(7);
    let mut recent: [Op; RECENT] = array::from_fn(|i| Op::numbered(i as u64));
    (0..count as u64)
        .map(|id| {
            let slot = dice.below(RECENT as u64) as usize;
            let level = match dice.below(100) {
                0..70 => 0,
                70..90 => 1,
                90..98 => 2,
                _ => 3,
            };
            let fresh = Op { level, symbol: dice.below(u64::from(SYMBOLS)) as u32, ..Op::numbered(id) };
            let older = recent[slot];
            let op = if dice.below(3) == 0 && id > RECENT as u64 {
                Op { key: older.key, symbol: older.symbol, ..fresh }
            } else {
                fresh
            };
            recent[id as usize % RECENT] = op;
            op
        })
        .collect()
}

/// A small random number generator with a seed (xorshift64*), so that runs repeat.
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// Draws a number from 0 up to `end`, exclusive.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let drawn = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D);
        ((u128::from(drawn) * u128::from(end)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_mix_has_its_documented_shares() {
        let ops = mix(100_000);
        let keys: HashSet<u64> = ops.iter().map(|op| op.key).collect();
        let repeats = 1.0 - keys.len() as f64 / ops.len() as f64;
        assert!((0.32..0.35).contains(&repeats), "{repeats}");
        let symbols: HashSet<u32> = ops.iter().map(|op| op.symbol).collect();
        assert_eq!(symbols.len(), 100);
        let plain = ops.iter().filter(|op| op.level == 0).count();
        assert!((69_000..71_000).contains(&plain), "{plain}");
    }
}
