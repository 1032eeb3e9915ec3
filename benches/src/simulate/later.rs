//! Models that were written after the search for a size by time was fixed, and that nothing was tuned on.

use std::time::Duration;

use fastrand::Rng;

use super::{
    model::{Model, Reply, Write},
    zoo::{Entry, millis, normal, simple},
};

/// The models, in the order in which tables show them.
pub(super) fn models() -> Vec<Entry> {
    vec![
        Entry { name: "square", make: || simple(|write, _| (square(write.size), Reply::Accepted)) },
        Entry { name: "spill", make: || simple(|write, _| (spill(write.size), Reply::Accepted)) },
        Entry { name: "contention", make: || simple(contention) },
        Entry { name: "told pages", make: || Box::new(ToldPages) },
        Entry { name: "tide", make: || simple(tide) },
        Entry { name: "buffered", make: || Box::new(Buffered { filled: 0.0, at: Duration::ZERO }) },
    ]
}

/// Each op is compared with all others of its batch; the best size is 141.
fn square(size: usize) -> Duration {
    let size = size as f64;
    millis(2.0 + 0.05 * size + 0.0001 * size * size)
}

/// Three times as long once a batch of more than 1,500 ops does not fit into memory.
fn spill(size: usize) -> Duration {
    let factor = if size > 1500 { 3.0 } else { 1.0 };
    millis((10.0 + 0.05 * size as f64) * factor)
}

/// Locks that are held for longer in a large batch, and luck.
fn contention(write: &Write, rng: &mut Rng) -> (Duration, Reply) {
    let size = write.size as f64;
    (millis((8.0 + 0.08 * size + 0.002 * size.powf(1.5)) * (0.3 * normal(rng)).exp()), Reply::Accepted)
}

/// A level that rises threefold and falls again, each half minute.
fn tide(write: &Write, _: &mut Rng) -> (Duration, Reply) {
    let level = 2.0 - (write.at.as_secs_f64() / 30.0 * std::f64::consts::TAU).cos();
    (millis((5.0 + 0.1 * write.size as f64) * level), Reply::Accepted)
}

/// Pages of 200 ops, which the destination tells, and a little luck.
struct ToldPages;

impl Model for ToldPages {
    fn write(&mut self, write: &Write, rng: &mut Rng) -> (Duration, Reply) {
        let pages = write.size.div_ceil(200) as f64;
        (millis((6.0 + 10.0 * pages) * (0.2 * normal(rng)).exp()), Reply::Accepted)
    }

    fn page(&self) -> Option<usize> {
        Some(200)
    }
}

/// A buffer of 3,000 ops before a slow disk, which takes 5 ops per millisecond. What does not fit waits for the disk.
struct Buffered {
    filled: f64,
    /// When it was looked at last.
    at: Duration,
}

impl Model for Buffered {
    fn write(&mut self, write: &Write, _: &mut Rng) -> (Duration, Reply) {
        let passed = (write.at - self.at).as_secs_f64() * 1000.0;
        self.filled = (self.filled - 5.0 * passed).max(0.0) + write.size as f64;
        self.at = write.at;
        let waits = (self.filled - 3000.0).max(0.0) / 5.0;
        (millis(3.0 + 0.02 * write.size as f64 + waits), Reply::Accepted)
    }
}
