//! [`Meter`]: tells the `metrics` facade what the counters count, and so any exporter. The one place that names metrics.

use std::{
    cell::{Cell, OnceCell},
    sync::Arc,
    time::Duration,
};

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

use crate::rules::{
    batch::CutBy,
    outcome::End,
    stats::{
        BucketStats, CapReason, SizeStats, Stats,
        latency::{Latency, Observer},
    },
};

const ACCEPTED: &str = "ops_accepted_total";
const ENDED: &str = "ops_ended_total";
const BATCHES: &str = "batches_total";
const RETRIES: &str = "retries_total";
const SPLITS: &str = "splits_total";
const BATCH_CAP: &str = "batch_cap";
const CAP_CHANGES: &str = "batch_cap_changes_total";
const CAP_REASON: &str = "batch_cap_reason";
const TOO_LARGE: &str = "batch_too_large";
const PANICS: &str = "panics_total";
const LETTERS_LOST: &str = "dead_letters_lost_total";
const OUTAGES: &str = "outages_total";
const IN_OUTAGE: &str = "in_outage";
const MAX_PENDING: &str = "max_pending";
const PAUSED: &str = "paused";
const WAITING: &str = "ops_waiting";
const IN_FLIGHT: &str = "ops_in_flight";
const BATCH_OPS: &str = "batch_ops";
const BATCH_FILL: &str = "batch_fill_ratio";
const IN_BUFFER: &str = "op_in_buffer_seconds";
const WAITING_TIME: &str = "op_waiting_seconds";
const BACKING_OFF_TIME: &str = "op_backing_off_seconds";
const QUOTA_TIME: &str = "op_quota_seconds";
const QUOTA_USED: &str = "quota_used";
const QUOTA_LIMIT: &str = "quota_limit";
const QUOTA_WAITED: &str = "quota_waited_total";
const QUOTA_CORRECTIONS: &str = "quota_corrections_total";
const QUOTA_THROTTLED: &str = "quota_throttled_total";
const WRITING_TIME: &str = "op_writing_seconds";

/// The first part of each name, by what the batcher is for. A sum over all batchers counts an op once: what the batcher of
/// its dead letter does with it has names of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Namespace {
    #[default]
    Ops,
    DeadLetters,
}

impl Namespace {
    fn name(self, metric: &str) -> String {
        match self {
            Self::Ops => format!("roundlot_{metric}"),
            Self::DeadLetters => format!("roundlot_dead_letters_{metric}"),
        }
    }
}

fn describe(namespace: Namespace) {
    let name = |metric| namespace.name(metric);
    describe_counter!(name(ACCEPTED), Unit::Count, "Operations taken in");
    describe_counter!(name(ENDED), Unit::Count, "Operations that have ended, by the way they ended");
    describe_counter!(name(BATCHES), Unit::Count, "Batches handed to the sink, by the reason of the cut");
    describe_counter!(name(RETRIES), Unit::Count, "Operations put back to be tried again");
    describe_counter!(name(SPLITS), Unit::Count, "Batches split in two");
    describe_gauge!(
        name(BATCH_CAP),
        Unit::Count,
        "Operations in a batch, at most, as failures and limits say just now"
    );
    describe_counter!(name(CAP_CHANGES), Unit::Count, "Changes of the largest number of operations in a batch");
    describe_gauge!(name(CAP_REASON), "Whether this is why the largest number of operations is what it is: 1 or 0");
    describe_gauge!(
        name(TOO_LARGE),
        Unit::Count,
        "Operations in the smallest batch that the destination has refused as too large"
    );
    describe_counter!(name(PANICS), Unit::Count, "Panics caught in the sink and the stages");
    describe_counter!(name(LETTERS_LOST), Unit::Count, "Dead letters that found no room");
    describe_counter!(name(OUTAGES), Unit::Count, "Times that the destination went away");
    describe_gauge!(name(IN_OUTAGE), "Whether the destination is away: 1 or 0");
    describe_gauge!(name(PAUSED), "Whether cutting is paused: 1 or 0");
    describe_gauge!(name(MAX_PENDING), Unit::Count, "Operations that may be accepted and not yet settled");
    describe_gauge!(name(WAITING), Unit::Count, "Operations that wait");
    describe_gauge!(name(IN_FLIGHT), Unit::Count, "Operations being written");
    describe_histogram!(name(BATCH_OPS), Unit::Count, "Operations in a batch");
    describe_histogram!(name(BATCH_FILL), "How full a batch was, from 0 to 1");
    describe_histogram!(name(IN_BUFFER), Unit::Seconds, "Time of an operation from send to verdict");
    describe_histogram!(name(WAITING_TIME), Unit::Seconds, "The part of it that the operation waited");
    describe_histogram!(name(BACKING_OFF_TIME), Unit::Seconds, "The part of it that it waited to be tried again");
    describe_histogram!(
        name(QUOTA_TIME),
        Unit::Seconds,
        "The part of it that it was due and waited for the quota, where it did"
    );
    describe_gauge!(name(QUOTA_USED), Unit::Count, "How much of a bucket of the quota is used");
    describe_gauge!(name(QUOTA_LIMIT), Unit::Count, "How much of it may be used");
    describe_counter!(name(QUOTA_WAITED), Unit::Count, "Batches that were trimmed, or not cut, because of it");
    describe_counter!(name(QUOTA_CORRECTIONS), Unit::Count, "Reports of the destination on it");
    describe_counter!(name(QUOTA_THROTTLED), Unit::Count, "Times that the destination asked for a pause");
    describe_histogram!(name(WRITING_TIME), Unit::Seconds, "The part of it that it was being written");
}

/// The handles of one batcher's metrics. The label `batcher` is its name; nothing is labeled by symbol, so the number
/// of series is bounded.
pub(crate) struct Meter {
    accepted: Counter,
    ended: [Counter; End::COUNT],
    batches: [Counter; CutBy::ALL.len()],
    retries: Counter,
    splits: Counter,
    batch_cap: Gauge,
    cap_changes: Counter,
    cap_reason: [Gauge; CapReason::ALL.len()],
    too_large: Gauge,
    /// Values that the gauges of the cap show. They change rarely, and are set only then.
    size: Cell<Option<SizeStats>>,
    panics: Counter,
    dead_letters_lost: Counter,
    outages: Counter,
    in_outage: Gauge,
    paused: Gauge,
    max_pending: Gauge,
    waiting: Gauge,
    in_flight: Gauge,
    batch_ops: Histogram,
    batch_fill: Histogram,
    in_buffer: Histogram,
    waiting_time: Histogram,
    backing_off_time: Histogram,
    quota_time: Histogram,
    writing_time: Histogram,
    namespace: Namespace,
    batcher: Arc<str>,
    /// Made when the quota is first seen, one for each of its buckets.
    buckets: OnceCell<Vec<BucketMeter>>,
}

/// The handles of one bucket's metrics.
struct BucketMeter {
    used: Gauge,
    limit: Gauge,
    waited: Counter,
    corrections: Counter,
    throttled: Counter,
}

impl BucketMeter {
    fn new(namespace: Namespace, batcher: &str, bucket: &str) -> Self {
        let name = |metric| namespace.name(metric);
        let labels = [("batcher", batcher.to_owned()), ("bucket", bucket.to_owned())];
        Self {
            used: gauge!(name(QUOTA_USED), &labels),
            limit: gauge!(name(QUOTA_LIMIT), &labels),
            waited: counter!(name(QUOTA_WAITED), &labels),
            corrections: counter!(name(QUOTA_CORRECTIONS), &labels),
            throttled: counter!(name(QUOTA_THROTTLED), &labels),
        }
    }

    fn publish(&self, stats: &BucketStats) {
        self.used.set(stats.used as f64);
        self.limit.set(stats.limit as f64);
        self.waited.absolute(stats.waited);
        self.corrections.absolute(stats.corrections);
        self.throttled.absolute(stats.throttled);
    }
}

impl Meter {
    pub(crate) fn new(namespace: Namespace, name_of_batcher: &Arc<str>) -> Self {
        describe(namespace);
        let name = |metric| namespace.name(metric);
        let batcher = || name_of_batcher.to_string();
        Self {
            accepted: counter!(name(ACCEPTED), "batcher" => batcher()),
            ended: End::ALL.map(|end| counter!(name(ENDED), "batcher" => batcher(), "end" => end.name())),
            batches: CutBy::ALL.map(|by| counter!(name(BATCHES), "batcher" => batcher(), "cut_by" => by.name())),
            retries: counter!(name(RETRIES), "batcher" => batcher()),
            splits: counter!(name(SPLITS), "batcher" => batcher()),
            batch_cap: gauge!(name(BATCH_CAP), "batcher" => batcher()),
            cap_changes: counter!(name(CAP_CHANGES), "batcher" => batcher()),
            cap_reason: CapReason::ALL
                .map(|reason| gauge!(name(CAP_REASON), "batcher" => batcher(), "reason" => reason.name())),
            too_large: gauge!(name(TOO_LARGE), "batcher" => batcher()),
            size: Cell::new(None),
            panics: counter!(name(PANICS), "batcher" => batcher()),
            dead_letters_lost: counter!(name(LETTERS_LOST), "batcher" => batcher()),
            outages: counter!(name(OUTAGES), "batcher" => batcher()),
            in_outage: gauge!(name(IN_OUTAGE), "batcher" => batcher()),
            paused: gauge!(name(PAUSED), "batcher" => batcher()),
            max_pending: gauge!(name(MAX_PENDING), "batcher" => batcher()),
            waiting: gauge!(name(WAITING), "batcher" => batcher()),
            in_flight: gauge!(name(IN_FLIGHT), "batcher" => batcher()),
            batch_ops: histogram!(name(BATCH_OPS), "batcher" => batcher()),
            batch_fill: histogram!(name(BATCH_FILL), "batcher" => batcher()),
            in_buffer: histogram!(name(IN_BUFFER), "batcher" => batcher()),
            waiting_time: histogram!(name(WAITING_TIME), "batcher" => batcher()),
            backing_off_time: histogram!(name(BACKING_OFF_TIME), "batcher" => batcher()),
            quota_time: histogram!(name(QUOTA_TIME), "batcher" => batcher()),
            writing_time: histogram!(name(WRITING_TIME), "batcher" => batcher()),
            namespace,
            batcher: Arc::clone(name_of_batcher),
            buckets: OnceCell::new(),
        }
    }
}

impl Meter {
    #[cold]
    fn publish_size(&self, size: SizeStats) {
        self.size.set(Some(size));
        self.batch_cap.set(size.cap as f64);
        self.cap_changes.absolute(size.changes);
        self.too_large.set(size.too_large.unwrap_or(0) as f64);
        for (gauge, reason) in self.cap_reason.iter().zip(CapReason::ALL) {
            gauge.set(if reason == size.reason { 1.0 } else { 0.0 });
        }
    }
}

impl Observer for Meter {
    fn cut(&self, items: usize, fill: f64) {
        self.batch_ops.record(items as f64);
        self.batch_fill.record(fill);
    }

    fn spent(&self, spent: Latency, count: usize) {
        let Latency { waiting, backing_off, writing } = spent;
        self.in_buffer.record_many(Duration::from_nanos(waiting + backing_off + writing), count);
        self.waiting_time.record_many(Duration::from_nanos(waiting), count);
        self.backing_off_time.record_many(Duration::from_nanos(backing_off), count);
        self.writing_time.record_many(Duration::from_nanos(writing), count);
    }

    fn held(&self, spent: Latency, held: u64) {
        let Latency { waiting, backing_off, writing } = spent;
        self.in_buffer.record(Duration::from_nanos(waiting + backing_off + held + writing));
        self.waiting_time.record(Duration::from_nanos(waiting));
        self.backing_off_time.record(Duration::from_nanos(backing_off));
        self.quota_time.record(Duration::from_nanos(held));
        self.writing_time.record(Duration::from_nanos(writing));
    }

    fn waited(&self, waiting: u64, in_buffer: u64) {
        self.in_buffer.record(Duration::from_nanos(in_buffer));
        self.waiting_time.record(Duration::from_nanos(waiting));
    }

    fn written(&self, writing: u64, count: usize) {
        self.backing_off_time.record_many(Duration::ZERO, count);
        self.writing_time.record_many(Duration::from_nanos(writing), count);
    }

    fn publish(&self, stats: &Stats) {
        self.accepted.absolute(stats.accepted);
        for (counter, end) in self.ended.iter().zip(End::ALL) {
            counter.absolute(stats.outcomes[end]);
        }
        for (counter, by) in self.batches.iter().zip(CutBy::ALL) {
            counter.absolute(stats.cuts.by(by));
        }
        self.retries.absolute(stats.retries);
        self.splits.absolute(stats.splits);
        if self.size.get() != Some(stats.size) {
            self.publish_size(stats.size);
        }
        self.panics.absolute(stats.panics);
        self.dead_letters_lost.absolute(stats.dead_letters_lost);
        self.outages.absolute(stats.outages);
        self.in_outage.set(if stats.in_outage { 1.0 } else { 0.0 });
        self.paused.set(if stats.paused { 1.0 } else { 0.0 });
        self.max_pending.set(stats.max_pending as f64);
        self.waiting.set(stats.waiting as f64);
        self.in_flight.set(stats.in_flight as f64);
        if !stats.quota.is_empty() {
            let make = |bucket: &BucketStats| BucketMeter::new(self.namespace, &self.batcher, &bucket.name);
            let meters = self.buckets.get_or_init(|| stats.quota.iter().map(make).collect());
            meters.iter().zip(&stats.quota).for_each(|(meter, bucket)| meter.publish(bucket));
        }
    }
}
