//! [`Stats`]: the numbers of a durable batcher. Leaders write those of their shards; handles add them up.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::rules::{outcome::Outcomes, seconds, stats::QuotaStats, time::Timestamp};

/// Counters and gauges of one durable batcher, since it joined the log.
///
/// Ops are conserved: `accepted + recovered + received` is the sum of all [`outcomes`](Self::outcomes), of [`repeats`](Self::repeats), of
/// [`handed_over`](Self::handed_over), of [`waiting`](Self::waiting) and of [`in_flight`](Self::in_flight). An op counts as ended when the record of it has committed;
/// one that was merged into another ends with that.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Stats {
    /// Ops that this process has put into the log.
    pub accepted: u64,
    /// Ops found in the log when this process began to lead, which others have sent or it has sent in an earlier life.
    pub recovered: u64,
    /// Ops that other processes have sent since, and this one leads.
    pub received: u64,
    /// Ops among the recovered ones that an earlier process may have written.
    pub recovered_in_doubt: u64,
    /// How many ops ended in each way.
    pub outcomes: Outcomes,
    /// Ops that came under an id that the log knew already, and share that op's outcome.
    pub repeats: u64,
    /// Ops of other processes that this one led, until yet another one did.
    pub handed_over: u64,
    /// Ops that wait.
    pub waiting: u64,
    /// Ops of batches that are being written, or about to be.
    pub in_flight: u64,
    /// Waiting ops that may have landed.
    pub in_doubt: u64,
    /// Age of the oldest op that has not ended, of all shards. Zero without one.
    #[serde(rename = "lag_seconds", with = "seconds")]
    pub lag: Duration,
    /// Whether cutting is paused.
    pub paused: bool,
    /// Shards that this process leads now.
    pub leading: u64,
    /// Terms begun, by all shards.
    pub terms: u64,
    /// Most ops that may be accepted and not yet ended.
    pub max_pending: u64,
    /// Bytes of the log.
    pub log_bytes: u64,
    /// Transactions that this process has committed.
    pub commits: u64,
    /// Use of each bucket of the [`Quota`](crate::Quota), of all shards. Each shard has a part of a bucket without keys: use and limit
    /// are sums. Of any other bucket it is the largest use, and the limit as it is.
    pub quota: QuotaStats,
}

/// The part of one shard.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ShardStats {
    pub(crate) accepted: u64,
    pub(crate) recovered: u64,
    pub(crate) received: u64,
    pub(crate) handed_over: u64,
    pub(crate) recovered_in_doubt: u64,
    pub(crate) outcomes: Outcomes,
    pub(crate) repeats: u64,
    pub(crate) in_flight: u64,
    pub(crate) in_doubt: u64,
    /// When the oldest op was accepted that has not ended.
    pub(crate) oldest: Option<Timestamp>,
    pub(crate) paused: bool,
    pub(crate) leads: bool,
    pub(crate) terms: u64,
    /// When the last term began, in nanoseconds since 1970.
    pub(crate) term_began_at: u64,
    /// Ops of this process whose ends it heard from the log or from another leader.
    pub(crate) retold: u64,
}

impl ShardStats {
    /// Ops that have not ended.
    pub(crate) fn pending(&self) -> u64 {
        let came = self.accepted + self.recovered + self.received;
        came.saturating_sub(self.outcomes.total() + self.repeats + self.handed_over)
    }

    /// Age of the oldest op that has not ended.
    pub(crate) fn lag(&self, now: Timestamp) -> Duration {
        self.oldest.map_or(Duration::ZERO, |oldest| now.since(oldest))
    }

    pub(crate) fn add_to(&self, stats: &mut Stats, now: Timestamp) {
        stats.accepted += self.accepted;
        stats.recovered += self.recovered;
        stats.received += self.received;
        stats.handed_over += self.handed_over;
        stats.recovered_in_doubt += self.recovered_in_doubt;
        stats.outcomes += self.outcomes;
        stats.repeats += self.repeats;
        stats.in_flight += self.in_flight;
        stats.in_doubt += self.in_doubt;
        stats.lag = stats.lag.max(self.lag(now));
        stats.waiting += self.pending().saturating_sub(self.in_flight);
        stats.paused |= self.paused;
        stats.leading += u64::from(self.leads);
        stats.terms += self.terms;
    }
}
