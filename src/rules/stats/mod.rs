//! [`Stats`]: what has happened so far, in numbers, as callers see it.

pub(crate) mod counters;
mod display;
pub(crate) mod flush;
pub(crate) mod latency;
mod quota;
mod size;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use quota::{BucketStats, QuotaStats};
pub use size::{CapReason, SizeStats};

use crate::rules::{batch::CutBy, outcome::Outcomes, seconds};

/// Counters and gauges of one batcher, or of one batched stream, all of the same moment.
///
/// Ops are conserved: at every moment [`accepted`](Self::accepted) is the sum of all [`outcomes`](Self::outcomes), of
/// [`waiting`](Self::waiting) and of [`in_flight`](Self::in_flight).
///
/// In serde, counts that are missing are zero, so that what an older version wrote can be read.
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
/// assert_eq!(stats.outcomes.delivered, 3);
/// assert_eq!(stats.accepted, stats.ended() + stats.waiting + stats.in_flight);
///
/// // For a log, in one line and without zeros.
/// assert!(stats.to_string().starts_with("3 accepted: 3 delivered; "));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Stats {
    /// Ops taken in.
    pub accepted: u64,
    /// How many ops ended in each way. In JSON its fields stand beside the others.
    #[serde(flatten)]
    pub outcomes: Outcomes,
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
    /// Batches cut on request: by a flush, or by a shutdown.
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
    /// Dead letters that found no room in the buffer for them; without a sink for them none is counted.
    pub dead_letters_lost: u64,
    /// Batches being written now.
    pub batches_in_flight: u64,
    /// Whether cutting is paused.
    pub paused: bool,
    /// Most ops that may wait or be in flight together, as [`Limits::max_pending`](crate::Limits::max_pending) says.
    pub max_pending: u64,
    /// Times that the destination went away, as its sink said by [`SinkError::outage`](crate::SinkError::outage) or
    /// [`SinkError::connection_lost`](crate::SinkError::connection_lost).
    pub outages: u64,
    /// Whether it is away now: the last write met the outage, and no write has got through since.
    pub in_outage: bool,
    /// The largest batch that is cut just now, and why.
    pub size: SizeStats,
    /// Use of each bucket of the [`Quota`](crate::Quota).
    pub quota: QuotaStats,

    /// How long ops that were handed to the sink and settled had been in the buffer, from `send` to the verdict.
    pub in_buffer: Times,
    /// The part of it that they waited: for others, for a slot, in the channel. The time for which the quota held them up is
    /// [`QuotaStats::time`].
    pub waiting_time: Times,
    /// The part of it that they waited to be tried again.
    pub backing_off_time: Times,
    /// The part of it that they were being written.
    pub writing_time: Times,
}

/// Batches by the reason of the cut.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Times {
    /// The average.
    #[serde(rename = "mean_seconds", with = "seconds")]
    pub mean: Duration,
    /// The longest.
    #[serde(rename = "max_seconds", with = "seconds")]
    pub max: Duration,
}

impl Cuts {
    /// How many batches were cut for this reason.
    pub fn by(&self, reason: CutBy) -> u64 {
        match reason {
            CutBy::Full => self.full,
            CutBy::Linger => self.linger,
            CutBy::Urgent => self.urgent,
            CutBy::Flush => self.flush,
            CutBy::Pressure => self.pressure,
            CutBy::Together => self.together,
            CutBy::Retry => self.retry,
            CutBy::Close => self.close,
        }
    }
}

impl Stats {
    /// Ops that have ended, in whatever way.
    pub fn ended(&self) -> u64 {
        self.outcomes.total()
    }

    /// The average number of ops in a batch; 0 before the first.
    pub fn mean_batch(&self) -> f64 {
        ratio(self.written, self.batches)
    }

    /// The part of the accepted ops that was merged into others, from 0 to 1.
    pub fn conflation_rate(&self) -> f64 {
        ratio(self.outcomes.conflated, self.accepted)
    }
}

pub(crate) fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}
