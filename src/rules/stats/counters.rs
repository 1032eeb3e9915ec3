//! [`Counters`]: what has happened so far. The accumulator counts each event once; [`Stats`] is a snapshot of it for callers,
//! and an [`Observer`] hears of it for a metrics system.

use std::time::Duration;

use super::{
    Cuts, QuotaStats, SizeStats, Stats, Times,
    latency::{Latency, Observer},
};
use crate::rules::{
    batch::CutBy,
    outcome::{End, Outcomes},
};

/// A time that is being averaged.
#[derive(Debug, Clone, Copy, Default)]
struct DurationSum {
    sum: u128,
    max: u64,
}

impl DurationSum {
    fn add(&mut self, nanos: u64, count: u64) {
        self.sum += u128::from(nanos) * u128::from(count);
        self.max = self.max.max(nanos);
    }

    fn merge(&mut self, other: Self) {
        self.sum += other.sum;
        self.max = self.max.max(other.max);
    }

    fn times(self, count: u64) -> Times {
        if self.max == 0 {
            // A division of 128 bits costs more than all else here.
            return Times::default();
        }
        let nanos = self.sum.checked_div(u128::from(count)).unwrap_or(0);
        let mean = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        Times { mean, max: Duration::from_nanos(self.max) }
    }
}

/// How long ops of one batch waited, to which nothing else has happened.
#[derive(Debug, Default)]
pub(crate) struct WaitSums {
    count: u64,
    sum: u128,
    max: u64,
}

/// The counters as the accumulator keeps them.
#[derive(Default)]
pub(crate) struct Counters {
    accepted: u64,
    ended: Outcomes,
    pub(crate) retries: u64,
    pub(crate) splits: u64,
    pub(crate) panics: u64,
    pub(crate) dead_letters_lost: u64,
    pub(crate) outages: u64,
    cuts: [u64; CutBy::ALL.len()],
    written: u64,
    last_batch: u64,
    fill_sum: f64,
    fill_last: f64,
    timed: u64,
    in_buffer: DurationSum,
    waiting: DurationSum,
    backing_off: DurationSum,
    quota: DurationSum,
    writing: DurationSum,
    observer: Option<Box<dyn Observer>>,
}

impl Counters {
    /// Reports to `observer` from now on.
    pub(crate) fn report_to(&mut self, observer: impl Observer + 'static) {
        self.observer = Some(Box::new(observer));
    }

    /// Counts ops in.
    #[inline]
    pub(crate) fn accept(&mut self, count: u64) {
        self.accepted += count;
    }

    pub(crate) fn accepted(&self) -> u64 {
        self.accepted
    }

    /// Counts ops out.
    #[inline]
    pub(crate) fn end(&mut self, end: End, count: u64) {
        self.ended.add(end, count);
    }

    /// A batch was cut, and is so full.
    pub(crate) fn cut(&mut self, by: CutBy, items: usize, fill: f64) {
        self.cuts[by as usize] += 1;
        self.written += items as u64;
        self.last_batch = items as u64;
        self.fill_last = fill;
        self.fill_sum += self.fill_last;
        if let Some(observer) = &self.observer {
            observer.cut(items, self.fill_last);
        }
    }

    /// Ops are left out of a batch that was cut, and not written.
    #[cfg(feature = "durable")]
    pub(crate) fn left_out(&mut self, items: usize) {
        self.written -= items as u64;
    }

    /// An op that was handed to the sink is settled.
    #[inline]
    pub(crate) fn time(&mut self, spent: Latency, count: u64) {
        let total = spent.waiting + spent.backing_off + spent.writing;
        self.timed += count;
        self.in_buffer.add(total, count);
        self.waiting.add(spent.waiting, count);
        self.backing_off.add(spent.backing_off, count);
        self.writing.add(spent.writing, count);
        if let Some(observer) = &self.observer {
            observer.spent(spent, count as usize);
        }
    }

    /// An op is settled that waited `held` nanoseconds for the quota, beside the rest.
    pub(crate) fn time_held(&mut self, spent: Latency, held: u64) {
        if held == 0 {
            return self.time(spent, 1);
        }
        self.timed += 1;
        self.in_buffer.add(spent.waiting + spent.backing_off + held + spent.writing, 1);
        self.waiting.add(spent.waiting, 1);
        self.backing_off.add(spent.backing_off, 1);
        self.quota.add(held, 1);
        self.writing.add(spent.writing, 1);
        if let Some(observer) = &self.observer {
            observer.held(spent, held);
        }
    }

    /// Counts how long one op of a batch waited. The batch itself counts when it is complete.
    #[inline]
    pub(crate) fn waited(&self, nanos: u64, writing: u64, all: &mut WaitSums) {
        all.count += 1;
        all.sum += u128::from(nanos);
        all.max = all.max.max(nanos);
        if let Some(observer) = &self.observer {
            observer.waited(nanos, nanos + writing);
        }
    }

    /// Counts the ops of a batch, which took so long to write.
    pub(crate) fn time_all(&mut self, waited: &WaitSums, writing: u64) {
        let &WaitSums { count, sum, max } = waited;
        if count == 0 {
            return;
        }
        let total = DurationSum { sum: sum + u128::from(writing) * u128::from(count), max: max + writing };
        self.timed += count;
        self.in_buffer.merge(total);
        self.waiting.merge(DurationSum { sum, max });
        self.writing.add(writing, count);
        if let Some(observer) = &self.observer {
            observer.written(writing, count as usize);
        }
    }

    /// Ops that all times are averages of.
    #[cfg(feature = "durable")]
    pub(crate) fn timed(&self) -> u64 {
        self.timed
    }

    /// How long ops waited for the quota.
    pub(crate) fn quota_time(&self) -> Times {
        self.quota.times(self.timed)
    }

    pub(crate) fn snapshot(&self, waiting: usize, in_flight: usize, batches_in_flight: usize) -> Stats {
        let batches = self.cuts.iter().sum();
        let cut = |by: CutBy| self.cuts[by as usize];
        Stats {
            accepted: self.accepted,
            outcomes: self.ended,
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
            dead_letters_lost: self.dead_letters_lost,
            batches_in_flight: batches_in_flight as u64,
            paused: false,
            max_pending: 0,
            outages: self.outages,
            in_outage: false,
            size: SizeStats::default(),
            quota: QuotaStats::default(),
            in_buffer: self.in_buffer.times(self.timed),
            waiting_time: self.waiting.times(self.timed),
            backing_off_time: self.backing_off.times(self.timed),
            writing_time: self.writing.times(self.timed),
        }
    }

    /// Shows the observer counters and gauges as of now.
    pub(crate) fn publish(&self, stats: &Stats) {
        if let Some(observer) = &self.observer {
            observer.publish(stats);
        }
    }
}
