//! [`Latency`]: where the time of one op went; and [`Observer`], which hears of it and of each batch. The accumulator reports
//! to its counters, and they to the observer that a driver gave them.

use super::Stats;

/// Where the time of one op went, in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Latency {
    pub(crate) waiting: u64,
    pub(crate) backing_off: u64,
    pub(crate) writing: u64,
}

/// Hears what the counters count, to tell a metrics system. A driver implements it.
pub(crate) trait Observer: Send {
    /// A batch was cut with so many ops, and was so full, from 0 to 1.
    fn cut(&self, items: usize, fill: f64);

    /// `count` ops that a sink was handed are settled, and all spent their time alike.
    fn spent(&self, spent: Latency, count: usize);

    /// An op spent its time so, and `held` nanoseconds more waiting for the quota.
    fn held(&self, spent: Latency, held: u64);

    /// One op of a batch waited, and was in the buffer, for so many nanoseconds. [`written`](Self::written) follows for all
    /// of them.
    fn waited(&self, waiting: u64, in_buffer: u64);

    /// `count` ops of a batch took so many nanoseconds to write, and never backed off.
    fn written(&self, writing: u64, count: usize);

    /// Counters and gauges as of now, once per turn.
    fn publish(&self, stats: &Stats);
}
