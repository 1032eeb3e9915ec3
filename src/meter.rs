//! The statistics, told to the `metrics` facade, and so to any exporter. In come counters, out go metrics. The one place
//! that names them.

use std::time::Duration;

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

use crate::{ack::End, batch::CutBy, counters::Spent, stats::Stats};

const ACCEPTED: &str = "roundlot_ops_accepted_total";
const ENDED: &str = "roundlot_ops_ended_total";
const BATCHES: &str = "roundlot_batches_total";
const RETRIES: &str = "roundlot_retries_total";
const SPLITS: &str = "roundlot_splits_total";
const PANICS: &str = "roundlot_panics_total";
const LETTERS_LOST: &str = "roundlot_dead_letters_lost_total";
const WAITING: &str = "roundlot_ops_waiting";
const IN_FLIGHT: &str = "roundlot_ops_in_flight";
const BATCH_OPS: &str = "roundlot_batch_ops";
const BATCH_FILL: &str = "roundlot_batch_fill_ratio";
const IN_BUFFER: &str = "roundlot_op_in_buffer_seconds";
const WAITING_TIME: &str = "roundlot_op_waiting_seconds";
const BACKING_OFF_TIME: &str = "roundlot_op_backing_off_seconds";
const WRITING_TIME: &str = "roundlot_op_writing_seconds";

fn describe() {
    describe_counter!(ACCEPTED, Unit::Count, "Operations taken in");
    describe_counter!(ENDED, Unit::Count, "Operations that have ended, by the way they ended");
    describe_counter!(BATCHES, Unit::Count, "Batches handed to the sink, by the reason of the cut");
    describe_counter!(RETRIES, Unit::Count, "Operations put back to be tried again");
    describe_counter!(SPLITS, Unit::Count, "Batches split in two");
    describe_counter!(PANICS, Unit::Count, "Panics caught in the sink and the stages");
    describe_counter!(LETTERS_LOST, Unit::Count, "Dead letters that found no room");
    describe_gauge!(WAITING, Unit::Count, "Operations that wait");
    describe_gauge!(IN_FLIGHT, Unit::Count, "Operations being written");
    describe_histogram!(BATCH_OPS, Unit::Count, "Operations in a batch");
    describe_histogram!(BATCH_FILL, "How full a batch was, from 0 to 1");
    describe_histogram!(IN_BUFFER, Unit::Seconds, "Time of an operation from send to verdict");
    describe_histogram!(WAITING_TIME, Unit::Seconds, "The part of it that the operation waited");
    describe_histogram!(BACKING_OFF_TIME, Unit::Seconds, "The part of it that it waited to be tried again");
    describe_histogram!(WRITING_TIME, Unit::Seconds, "The part of it that it was being written");
}

/// The handles of one batcher's metrics. The label `batcher` is its name; nothing is labeled by symbol, so the number
/// of series is bounded.
pub(crate) struct Meter {
    accepted: Counter,
    ended: [Counter; End::COUNT],
    batches: [Counter; CutBy::ALL.len()],
    retries: Counter,
    splits: Counter,
    panics: Counter,
    letters_lost: Counter,
    waiting: Gauge,
    in_flight: Gauge,
    pub(crate) batch_ops: Histogram,
    pub(crate) batch_fill: Histogram,
    in_buffer: Histogram,
    waiting_time: Histogram,
    backing_off_time: Histogram,
    writing_time: Histogram,
}

impl Meter {
    pub(crate) fn new(name: &str) -> Self {
        describe();
        let batcher = || name.to_owned();
        Self {
            accepted: counter!(ACCEPTED, "batcher" => batcher()),
            ended: End::ALL.map(|end| counter!(ENDED, "batcher" => batcher(), "end" => end.name())),
            batches: CutBy::ALL.map(|by| counter!(BATCHES, "batcher" => batcher(), "cut_by" => by.name())),
            retries: counter!(RETRIES, "batcher" => batcher()),
            splits: counter!(SPLITS, "batcher" => batcher()),
            panics: counter!(PANICS, "batcher" => batcher()),
            letters_lost: counter!(LETTERS_LOST, "batcher" => batcher()),
            waiting: gauge!(WAITING, "batcher" => batcher()),
            in_flight: gauge!(IN_FLIGHT, "batcher" => batcher()),
            batch_ops: histogram!(BATCH_OPS, "batcher" => batcher()),
            batch_fill: histogram!(BATCH_FILL, "batcher" => batcher()),
            in_buffer: histogram!(IN_BUFFER, "batcher" => batcher()),
            waiting_time: histogram!(WAITING_TIME, "batcher" => batcher()),
            backing_off_time: histogram!(BACKING_OFF_TIME, "batcher" => batcher()),
            writing_time: histogram!(WRITING_TIME, "batcher" => batcher()),
        }
    }

    /// Records where the time of so many ops went.
    pub(crate) fn time(&self, spent: Spent, count: usize) {
        let Spent { waiting, backing_off, writing } = spent;
        self.in_buffer.record_many(Duration::from_nanos(waiting + backing_off + writing), count);
        self.waiting_time.record_many(Duration::from_nanos(waiting), count);
        self.backing_off_time.record_many(Duration::from_nanos(backing_off), count);
        self.writing_time.record_many(Duration::from_nanos(writing), count);
    }

    /// Records how long one op of a batch waited, and was in the buffer.
    pub(crate) fn waited(&self, waiting: u64, in_buffer: u64) {
        self.in_buffer.record(Duration::from_nanos(in_buffer));
        self.waiting_time.record(Duration::from_nanos(waiting));
    }

    /// Records what those ops of the batch have in common: how long they were written, and that they never backed off.
    pub(crate) fn written(&self, writing: u64, count: usize) {
        self.backing_off_time.record_many(Duration::ZERO, count);
        self.writing_time.record_many(Duration::from_nanos(writing), count);
    }

    /// Brings counters and gauges up to date.
    pub(crate) fn emit(&self, stats: &Stats) {
        self.accepted.absolute(stats.accepted);
        for (counter, end) in self.ended.iter().zip(End::ALL) {
            counter.absolute(stats.ended_by(end));
        }
        for (counter, by) in self.batches.iter().zip(CutBy::ALL) {
            counter.absolute(stats.cuts.by(by));
        }
        self.retries.absolute(stats.retries);
        self.splits.absolute(stats.splits);
        self.panics.absolute(stats.panics);
        self.letters_lost.absolute(stats.letters_lost);
        self.waiting.set(stats.waiting as f64);
        self.in_flight.set(stats.in_flight as f64);
    }
}
