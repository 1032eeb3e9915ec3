//! What is sent: ops of 64 bytes, and a mix of them as a trading app has it. In come numbers, out go ops.

use std::array;

/// One op: 64 bytes, as large as an order or a quote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Op {
    pub id: u64,
    /// When it was sent, in nanoseconds since the row began; zero where nobody asks.
    pub sent_ns: u64,
    /// Ops of one key replace each other.
    pub key: u64,
    pub symbol: u32,
    pub level: u8,
    /// What else an op carries.
    pub rest: [u32; 7],
}

const _: () = assert!(size_of::<Op>() == 64, "the figures are for ops of 64 bytes");

impl Op {
    /// An op of which only the number matters.
    pub fn numbered(id: u64) -> Self {
        Self { id, sent_ns: 0, key: id, symbol: 0, level: 0, rest: [id as u32; 7] }
    }
}

pub const SYMBOLS: u32 = 100;

/// An op supersedes one of so many before it, if it supersedes any.
const RECENT: usize = 256;

/// A repeatable mix: 100 symbols, four levels (70, 20, 8 and 2 %), and a third of the ops updates one of the 256 before
/// it, under the same key. What comes in with a waiting op's key may have another level.
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

/// A small generator whose runs repeat (xorshift64*).
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

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
    fn the_mix_is_what_it_says() {
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
