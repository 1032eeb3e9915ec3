//! [`LogMeter`]: tells the `metrics` facade what a log holds and how long it takes. A leader owns one, and so does an ingress.

use std::time::Duration;

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

use super::{log::Size, stats::ShardStats};
use crate::rules::time::Timestamp;

const BYTES: &str = "roundlot_durable_log_bytes";
const OPS: &str = "roundlot_durable_log_ops";
const LAG: &str = "roundlot_durable_lag_seconds";
const LEADS: &str = "roundlot_durable_leads";
const TERM_BEGAN: &str = "roundlot_durable_term_timestamp_seconds";
const TERMS: &str = "roundlot_durable_terms_total";
const TERMS_ENDED: &str = "roundlot_durable_terms_ended_total";
const RECOVERED: &str = "roundlot_durable_recovered_total";
const IN_DOUBT: &str = "roundlot_durable_in_doubt";
const RETOLD: &str = "roundlot_durable_retold_total";
const REPEATS: &str = "roundlot_durable_repeats_total";
const APPEND_TIME: &str = "roundlot_durable_append_seconds";
const APPEND_OPS: &str = "roundlot_durable_append_ops";

/// The handles of one shard's metrics. The label `batcher` is the name of the shard.
pub(crate) struct LogMeter {
    bytes: Gauge,
    ops: Gauge,
    lag: Gauge,
    leads: Gauge,
    term_began: Gauge,
    terms: Counter,
    recovered: Counter,
    in_doubt: Gauge,
    retold: Counter,
    repeats: Counter,
}

impl LogMeter {
    pub(crate) fn new(shard: &str) -> Self {
        describe_gauge!(BYTES, Unit::Bytes, "Bytes of the log, of all names and shards in it");
        describe_gauge!(OPS, Unit::Count, "Operations in the log that have not ended");
        describe_gauge!(LAG, Unit::Seconds, "Age of the oldest of them");
        describe_gauge!(LEADS, "Whether this process leads the shard: 1 or 0");
        describe_gauge!(TERM_BEGAN, Unit::Seconds, "When this process last began to lead the shard, since 1970");
        describe_counter!(TERMS, Unit::Count, "Terms begun");
        describe_counter!(RECOVERED, Unit::Count, "Operations found in the log by the first term");
        describe_gauge!(IN_DOUBT, Unit::Count, "Waiting operations that may have landed");
        describe_counter!(
            RETOLD,
            Unit::Count,
            "Operations of this process whose ends it heard from the log or another leader"
        );
        describe_counter!(REPEATS, Unit::Count, "Operations that share the outcome of an earlier one with their id");
        let shard = || shard.to_owned();
        Self {
            bytes: gauge!(BYTES, "batcher" => shard()),
            ops: gauge!(OPS, "batcher" => shard()),
            lag: gauge!(LAG, "batcher" => shard()),
            leads: gauge!(LEADS, "batcher" => shard()),
            term_began: gauge!(TERM_BEGAN, "batcher" => shard()),
            terms: counter!(TERMS, "batcher" => shard()),
            recovered: counter!(RECOVERED, "batcher" => shard()),
            in_doubt: gauge!(IN_DOUBT, "batcher" => shard()),
            retold: counter!(RETOLD, "batcher" => shard()),
            repeats: counter!(REPEATS, "batcher" => shard()),
        }
    }

    pub(crate) fn publish(&self, size: Size, stats: &ShardStats, now: Timestamp) {
        self.bytes.set(size.bytes as f64);
        self.ops.set((stats.pending()) as f64);
        self.lag.set(stats.lag(now).as_secs_f64());
        self.leads.set(if stats.leads { 1.0 } else { 0.0 });
        self.term_began.set(stats.term_began_at as f64 / 1e9);
        self.terms.absolute(stats.terms);
        self.recovered.absolute(stats.recovered);
        self.in_doubt.set(stats.in_doubt as f64);
        self.retold.absolute(stats.retold);
        self.repeats.absolute(stats.repeats);
    }
}

/// Counts a term of a shard that has ended.
pub(crate) fn term_ended(shard: &str, reason: &'static str) {
    describe_counter!(TERMS_ENDED, Unit::Count, "Terms ended, by reason");
    counter!(TERMS_ENDED, "batcher" => shard.to_owned(), "reason" => reason).increment(1);
}

/// The handles of the metrics of frames on their way to the log.
pub(crate) struct AppendMeter {
    time: Histogram,
    ops: Histogram,
}

impl AppendMeter {
    pub(crate) fn new(shard: &str) -> Self {
        describe_histogram!(APPEND_TIME, Unit::Seconds, "Time from the seal of a frame to its commit");
        describe_histogram!(APPEND_OPS, Unit::Count, "Operations in a frame, which share its commit");
        let shard = || shard.to_owned();
        Self { time: histogram!(APPEND_TIME, "batcher" => shard()), ops: histogram!(APPEND_OPS, "batcher" => shard()) }
    }

    pub(crate) fn stored(&self, ops: u64, took: Duration) {
        self.time.record(took);
        self.ops.record(ops as f64);
    }
}
