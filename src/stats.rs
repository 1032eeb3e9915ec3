//! What has happened so far, in numbers. In comes each event from the accumulator, out comes a [`Stats`]. Next room:
//! `meter`, which tells the `metrics` facade the same.

use std::time::Duration;

use serde::Serialize;

use crate::{ack::End, batch::CutBy, flush::Tally, limits::Limits, meter::Meter};

/// Counters and gauges of one batcher, or of one batched stream, all of the same moment.
///
/// Ops are conserved: at every moment [`accepted`](Self::accepted) is the sum of all ways to end, of
/// [`waiting`](Self::waiting) and of [`in_flight`](Self::in_flight).
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use roundlot::{Batch, Batcher, sink_fn};
/// # let sink = sink_fn(|batch: &mut Batch<u32>| Box::pin(async move { Ok(batch.accept_all()) }));
/// let (desk, _worker) = Batcher::new(sink).spawn();
/// desk.send_all([1, 2, 3]).await?;
/// desk.flush().await?;
///
/// let stats = desk.stats();
/// assert_eq!(stats.delivered, 3);
/// assert_eq!(stats.accepted, stats.ended() + stats.waiting + stats.in_flight);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Stats {
    /// Ops taken in.
    pub accepted: u64,
    /// Ops the sink accepted.
    pub delivered: u64,
    /// Ops given up.
    pub refused: u64,
    /// Ops that may or may not have landed.
    pub in_doubt: u64,
    /// Ops merged into another one.
    pub conflated: u64,
    /// Repeats that were not queued.
    pub deduplicated: u64,
    /// Ops that canceled out with another one.
    pub netted: u64,
    /// Ops whose time was over before they could be sent.
    pub expired: u64,
    /// Ops that made room for others.
    pub evicted: u64,
    /// Ops that a caller took back out.
    pub withdrawn: u64,
    /// Ops given back at shutdown.
    pub returned: u64,
    /// Ops lost because the task was killed.
    pub lost: u64,
    /// Ops that wait now, those backing off and those still in the channel included.
    pub waiting: u64,
    /// Ops being written now.
    pub in_flight: u64,

    /// Batches handed to the sink; a batch that is tried again counts again.
    pub batches: u64,
    /// Ops in those batches.
    pub written: u64,
    /// Batches by the reason of the cut.
    pub cuts: Cuts,
    /// Batches cut because somebody asked: by a flush, or by a shutdown.
    pub forced_flushes: u64,
    /// Ops in the last batch.
    pub last_batch: u64,
    /// How full batches were on average, from 0 to 1, against `max_items` or `max_weight`, whichever was nearer.
    pub fill_mean: f64,
    /// How full the last batch was.
    pub fill_last: f64,
    /// Ops put back to be tried again, each time counted.
    pub retries: u64,
    /// Batches split in two because they were too large, or to find the ops that are refused.
    pub splits: u64,
    /// Panics caught in the sink and in the functions of the stages.
    pub panics: u64,
    /// Dead letters that found no room or no taker.
    pub letters_lost: u64,
    /// Batches being written now.
    pub batches_in_flight: u64,
    /// Whether cutting is paused.
    pub paused: bool,

    /// How long ops that were handed to the sink and settled had been in the buffer, from `send` to the verdict.
    pub in_buffer: Times,
    /// The part of it that they waited: for company, for a slot, in the channel.
    pub waiting_time: Times,
    /// The part of it that they waited to be tried again.
    pub backing_off_time: Times,
    /// The part of it that they were being written.
    pub writing_time: Times,
}

/// Batches by the reason of the cut.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Cuts {
    /// By [`CutBy::Full`].
    pub full: u64,
    /// By [`CutBy::Linger`].
    pub linger: u64,
    /// By [`CutBy::Urgent`].
    pub urgent: u64,
    /// By [`CutBy::Flush`].
    pub flush: u64,
    /// By [`CutBy::Pressure`].
    pub pressure: u64,
    /// By [`CutBy::Together`].
    pub together: u64,
    /// By [`CutBy::Retry`].
    pub retry: u64,
    /// By [`CutBy::Close`].
    pub close: u64,
}

/// Average and maximum of a time. Serialized in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Times {
    /// The average.
    #[serde(rename = "mean_seconds", serialize_with = "seconds")]
    pub mean: Duration,
    /// The longest.
    #[serde(rename = "max_seconds", serialize_with = "seconds")]
    pub max: Duration,
}

fn seconds<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

impl Stats {
    /// Ops that have ended, in whatever way.
    pub fn ended(&self) -> u64 {
        self.delivered
            + self.refused
            + self.in_doubt
            + self.conflated
            + self.deduplicated
            + self.netted
            + self.expired
            + self.evicted
            + self.withdrawn
            + self.returned
            + self.lost
    }

    /// The average number of ops in a batch; 0 before the first.
    pub fn mean_batch(&self) -> f64 {
        ratio(self.written, self.batches)
    }

    /// The part of the accepted ops that was merged into others, from 0 to 1.
    pub fn conflation_rate(&self) -> f64 {
        ratio(self.conflated, self.accepted)
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// A time that is being averaged.
#[derive(Debug, Clone, Copy, Default)]
struct Timer {
    sum: u128,
    max: u64,
}

impl Timer {
    fn add(&mut self, nanos: u64) {
        self.sum += u128::from(nanos);
        self.max = self.max.max(nanos);
    }

    fn times(self, count: u64) -> Times {
        let nanos = self.sum.checked_div(u128::from(count)).unwrap_or(0);
        let mean = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        Times { mean, max: Duration::from_nanos(self.max) }
    }
}

/// Where the time of one op went, in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spent {
    pub(crate) waiting: u64,
    pub(crate) backing_off: u64,
    pub(crate) writing: u64,
}

/// The counters as the accumulator keeps them.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) accepted: u64,
    pub(crate) ended: Tally,
    pub(crate) retries: u64,
    pub(crate) splits: u64,
    pub(crate) panics: u64,
    pub(crate) letters_lost: u64,
    pub(crate) cuts: [u64; CutBy::ALL.len()],
    written: u64,
    last_batch: u64,
    fill_sum: f64,
    fill_last: f64,
    timed: u64,
    in_buffer: Timer,
    waiting: Timer,
    backing_off: Timer,
    writing: Timer,
    meter: Option<Meter>,
}

impl Counters {
    /// Reports to the `metrics` facade, too, under this name.
    pub(crate) fn report_as(&mut self, batcher: &str) {
        self.meter = Some(Meter::new(batcher));
    }

    /// A batch was cut.
    pub(crate) fn cut(&mut self, by: CutBy, items: usize, weight: usize, limits: &Limits) {
        let by_items = ratio(items as u64, limits.max_items as u64);
        let by_weight = limits.max_weight.map_or(0.0, |max| ratio(weight as u64, max as u64));
        self.cuts[by as usize] += 1;
        self.written += items as u64;
        self.last_batch = items as u64;
        self.fill_last = by_items.max(by_weight);
        self.fill_sum += self.fill_last;
        if let Some(meter) = &self.meter {
            meter.batch_ops.record(items as f64);
            meter.batch_fill.record(self.fill_last);
        }
    }

    /// An op that was handed to the sink is settled.
    #[inline]
    pub(crate) fn time(&mut self, spent: Spent) {
        let total = spent.waiting + spent.backing_off + spent.writing;
        self.timed += 1;
        self.in_buffer.add(total);
        self.waiting.add(spent.waiting);
        self.backing_off.add(spent.backing_off);
        self.writing.add(spent.writing);
        if let Some(meter) = &self.meter {
            meter.time(total, spent);
        }
    }

    pub(crate) fn snapshot(&self, waiting: usize, in_flight: usize, batches_in_flight: usize, paused: bool) -> Stats {
        let batches = self.cuts.iter().sum();
        let cut = |by: CutBy| self.cuts[by as usize];
        let ended = |end: End| self.ended.of(end);
        Stats {
            accepted: self.accepted,
            delivered: ended(End::Delivered),
            refused: ended(End::Refused),
            in_doubt: ended(End::InDoubt),
            conflated: ended(End::Conflated),
            deduplicated: ended(End::Deduplicated),
            netted: ended(End::Netted),
            expired: ended(End::Expired),
            evicted: ended(End::Evicted),
            withdrawn: ended(End::Withdrawn),
            returned: ended(End::Returned),
            lost: ended(End::Lost),
            waiting: waiting as u64,
            in_flight: in_flight as u64,
            batches,
            written: self.written,
            cuts: Cuts {
                full: cut(CutBy::Full),
                linger: cut(CutBy::Linger),
                urgent: cut(CutBy::Urgent),
                flush: cut(CutBy::Flush),
                pressure: cut(CutBy::Pressure),
                together: cut(CutBy::Together),
                retry: cut(CutBy::Retry),
                close: cut(CutBy::Close),
            },
            forced_flushes: cut(CutBy::Flush) + cut(CutBy::Close),
            last_batch: self.last_batch,
            fill_mean: if batches == 0 { 0.0 } else { self.fill_sum / batches as f64 },
            fill_last: self.fill_last,
            retries: self.retries,
            splits: self.splits,
            panics: self.panics,
            letters_lost: self.letters_lost,
            batches_in_flight: batches_in_flight as u64,
            paused,
            in_buffer: self.in_buffer.times(self.timed),
            waiting_time: self.waiting.times(self.timed),
            backing_off_time: self.backing_off.times(self.timed),
            writing_time: self.writing.times(self.timed),
        }
    }

    /// Brings the facade's counters and gauges up to date.
    pub(crate) fn emit(&self, stats: &Stats) {
        if let Some(meter) = &self.meter {
            meter.emit(self, stats);
        }
    }
}
