//! [`Model`]: a simulated destination. It says how long a write takes and how it ends. Implement it to simulate another one.

use std::time::Duration;

use fastrand::Rng;

/// A write as a model sees it.
#[derive(Debug, Clone, Copy)]
pub struct Write {
    /// Number of ops.
    pub size: usize,
    /// Time since the start of the simulation.
    pub at: Duration,
    /// Number of other writes that have begun and not ended.
    pub others: usize,
}

/// The end of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// All ops have landed.
    Accepted,
    /// No op has landed.
    Failed,
    /// The batch is too large.
    TooLarge,
    /// The batch is too large, and the destination takes so many ops.
    TooLargeOver(usize),
    /// No answer came, and the ops may have landed. The simulated sink is idempotent.
    Unanswered,
    /// No op has landed, and the destination asks for a pause.
    Throttled(Duration),
}

/// A simulated destination.
pub trait Model: Send {
    /// Returns how long a write takes, and how it ends. Called when the write begins, in order of time.
    fn write(&mut self, write: &Write, rng: &mut Rng) -> (Duration, Reply);

    /// The number of ops in a page, if the destination has pages and says so.
    fn page(&self) -> Option<usize> {
        None
    }

    /// The number of partitions whose writes share the destination, one at a time each.
    fn partitions(&self) -> usize {
        1
    }
}

/// The largest sizes that are tried, as powers of two.
const SIZES: u32 = 14;

/// Returns the most ops per second that a model takes with a fixed size of batch, and that size.
///
/// Measured without a batcher: one partition writes full batches for ten simulated seconds, again for each power of two.
pub fn capacity(model: &dyn Fn() -> Box<dyn Model>, seed: u64) -> (f64, usize) {
    const SPAN: Duration = Duration::from_secs(10);
    let rates = (0..=SIZES).map(|power| {
        let (size, mut model, mut rng) = (1 << power, model(), Rng::with_seed(seed));
        let (mut at, mut landed) = (Duration::ZERO, 0);
        while at < SPAN {
            let (takes, reply) = model.write(&Write { size, at, others: 0 }, &mut rng);
            at += takes.max(Duration::from_millis(1));
            match reply {
                Reply::Accepted => landed += size,
                Reply::Throttled(pause) => at += pause,
                Reply::Failed | Reply::TooLarge | Reply::TooLargeOver(_) | Reply::Unanswered => {}
            }
        }
        (landed as f64 / at.as_secs_f64() * model.partitions() as f64, size)
    });
    rates.max_by(|(one, _), (other, _)| one.total_cmp(other)).unwrap_or((0.0, 1))
}
