//! Times of ops in the buffers, with their percentiles. [`Recorder`] takes them from the `metrics` facade, and hands everything on to
//! another recorder, if there is one.
//!
//! Invariant: a percentile is known to three digits, and is never above the maximum, which is exact.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hdrhistogram::Histogram as Hdr;
use metrics::{Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, SharedString, Unit};
use serde::Serialize;

const TIME_IN_BUFFER: &str = "roundlot_op_in_buffer_seconds";

/// Number of significant decimal digits of a percentile.
const DIGITS: u8 = 3;

/// Maximum time that is told from longer ones, in nanoseconds: a day. A histogram then has some 300 kB.
const MAX_TIME: u64 = 86_400_000_000_000;

/// Times of many ops.
#[derive(Debug, Clone)]
pub(crate) struct Latencies {
    histogram: Hdr<u64>,
    /// Longest time, in nanoseconds. The histogram knows it only to three digits.
    max: u64,
}

/// The usual percentiles of a time, in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Percentiles {
    /// Number of ops.
    pub count: u64,
    /// Half of the ops took this time at most.
    #[serde(rename = "p50_seconds")]
    pub p50: f64,
    /// Nine of ten did.
    #[serde(rename = "p90_seconds")]
    pub p90: f64,
    /// 99 of 100 did.
    #[serde(rename = "p99_seconds")]
    pub p99: f64,
    /// 999 of 1,000 did.
    #[serde(rename = "p99_9_seconds")]
    pub p99_9: f64,
    /// The longest time.
    #[serde(rename = "max_seconds")]
    pub max: f64,
}

impl Default for Latencies {
    #[allow(clippy::expect_used, reason = "the bounds are constants, which the tests use")]
    fn default() -> Self {
        let histogram = Hdr::new_with_bounds(1, MAX_TIME, DIGITS).expect("the bounds are valid");
        Self { histogram, max: 0 }
    }
}

impl Latencies {
    fn record(&mut self, nanos: u64, count: u64) {
        self.histogram.saturating_record_n(nanos, count);
        self.max = self.max.max(nanos);
    }

    /// Adds the times of another set of ops.
    pub(crate) fn add(&mut self, other: &Excerpt) {
        for (nanos, count) in &other.times {
            self.histogram.saturating_record_n(*nanos, *count);
        }
        self.max = self.max.max(other.max);
    }

    pub(crate) fn clear(&mut self) {
        self.histogram.reset();
        self.max = 0;
    }

    pub(crate) fn percentiles(&self) -> Percentiles {
        let seconds = |nanos| Duration::from_nanos(nanos).as_secs_f64();
        // The histogram gives the upper end of a value's range, which may be above the maximum.
        let at = |quantile| seconds(self.histogram.value_at_quantile(quantile).min(self.max));
        let [p50, p90, p99, p99_9] = [0.5, 0.9, 0.99, 0.999].map(at);
        Percentiles { count: self.histogram.len(), p50, p90, p99, p99_9, max: seconds(self.max) }
    }

    fn excerpt(&self) -> Excerpt {
        let recorded = self.histogram.iter_recorded();
        let times = recorded.map(|step| (step.value_iterated_to().min(self.max), step.count_at_value())).collect();
        Excerpt { times, max: self.max }
    }
}

/// Times of ops in little memory: each time and its number of ops.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Excerpt {
    /// Times in nanoseconds, in rising order, each with its number of ops.
    pub(crate) times: Vec<(u64, u64)>,
    /// Longest time, in nanoseconds.
    pub(crate) max: u64,
}

/// The times of all batchers that were spawned while it was the recorder of the `metrics` crate. A clone is the same recorder.
///
/// # Examples
///
/// ```
/// use roundlot_board::{Board, latency::Recorder};
///
/// let times = Recorder::default(); // or Recorder::before(your_exporters_recorder)
/// metrics::set_global_recorder(times.clone())?;
/// // Batchers that are spawned from here on are timed.
/// let board = Board::new().times(times);
/// # Ok::<(), metrics::SetRecorderError<Recorder>>(())
/// ```
#[derive(Clone, Default)]
pub struct Recorder {
    by_name: Arc<Mutex<HashMap<String, Arc<Cell>>>>,
    next: Option<Arc<dyn metrics::Recorder + Send + Sync>>,
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").finish_non_exhaustive()
    }
}

impl Recorder {
    /// A recorder that hands everything on to another one, such as that of an exporter.
    pub fn before(next: impl metrics::Recorder + Send + Sync + 'static) -> Self {
        Self { next: Some(Arc::new(next)), ..Self::default() }
    }

    /// Returns the percentiles of this batcher since its start.
    pub fn percentiles(&self, batcher: &str) -> Percentiles {
        let Some(cell) = self.cell(batcher) else { return Percentiles::default() };
        let Times { taken, recent } = &mut *cell.lock();
        taken.add(&recent.excerpt());
        let percentiles = taken.percentiles();
        recent.clear();
        percentiles
    }

    /// Returns the times of this batcher since the last call.
    pub(crate) fn take(&self, batcher: &str) -> Excerpt {
        let Some(cell) = self.cell(batcher) else { return Excerpt::default() };
        let Times { taken, recent } = &mut *cell.lock();
        let excerpt = recent.excerpt();
        taken.add(&excerpt);
        recent.clear();
        excerpt
    }

    fn cell(&self, batcher: &str) -> Option<Arc<Cell>> {
        lock(&self.by_name).get(batcher).cloned()
    }
}

/// The times of one batcher.
#[derive(Default)]
struct Cell(Mutex<Times>);

#[derive(Default)]
struct Times {
    /// Times before the last `take`.
    taken: Latencies,
    /// Times since then.
    recent: Latencies,
}

impl Cell {
    fn lock(&self) -> MutexGuard<'_, Times> {
        lock(&self.0)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl HistogramFn for Cell {
    fn record(&self, seconds: f64) {
        self.record_many(seconds, 1);
    }

    fn record_many(&self, seconds: f64, count: usize) {
        // The cast saturates, and no time is negative.
        self.lock().recent.record((seconds * 1e9).round() as u64, count as u64);
    }
}

/// Times that another recorder has, too.
struct Both(Arc<Cell>, Histogram);

impl HistogramFn for Both {
    fn record(&self, seconds: f64) {
        self.0.record(seconds);
        self.1.record(seconds);
    }

    fn record_many(&self, seconds: f64, count: usize) {
        self.0.record_many(seconds, count);
        self.1.record_many(seconds, count);
    }
}

impl metrics::Recorder for Recorder {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        if let Some(next) = &self.next {
            next.describe_counter(key, unit, description);
        }
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        if let Some(next) = &self.next {
            next.describe_gauge(key, unit, description);
        }
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        if let Some(next) = &self.next {
            next.describe_histogram(key, unit, description);
        }
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        self.next.as_ref().map_or_else(Counter::noop, |next| next.register_counter(key, metadata))
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        self.next.as_ref().map_or_else(Gauge::noop, |next| next.register_gauge(key, metadata))
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        let next = self.next.as_ref().map(|next| next.register_histogram(key, metadata));
        if key.name() != TIME_IN_BUFFER {
            return next.unwrap_or_else(Histogram::noop);
        }
        let name = key.labels().find(|label| label.key() == "batcher").map_or("", |label| label.value());
        // The shards of a log are one batcher.
        let name = match name.rsplit_once('-') {
            Some((log, shard)) if shard.parse::<u16>().is_ok() => log,
            _ => name,
        };
        let cell = Arc::clone(lock(&self.by_name).entry(name.to_owned()).or_default());
        match next {
            Some(next) => Histogram::from_arc(Arc::new(Both(cell, next))),
            None => Histogram::from_arc(cell),
        }
    }
}

#[cfg(test)]
mod tests {
    use roundlot::{Batcher, testing::Recorder as Sink};

    use super::*;

    fn within(found: f64, expected: f64) -> bool {
        (found / expected - 1.0).abs() <= 0.001
    }

    #[test]
    fn percentiles_have_three_digits_and_end_at_the_maximum() {
        let mut latencies = Latencies::default();
        for micros in 1..=100_000 {
            latencies.record(micros * 1_000 + 1, 1);
        }
        let all = latencies.percentiles();
        assert_eq!((all.count, all.max), (100_000, 0.100_000_001));
        for (found, expected) in [(all.p50, 0.05), (all.p90, 0.09), (all.p99, 0.099), (all.p99_9, 0.0999)] {
            assert!(within(found, expected), "{found} instead of {expected}");
        }
        let mut one = Latencies::default();
        one.record(102_345_678, 7);
        let Percentiles { count, p50, p90, p99, p99_9, max } = one.percentiles();
        assert_eq!((count, [p50, p90, p99, p99_9, max]), (7, [0.102_345_678; 5]));
        assert_eq!(Latencies::default().percentiles(), Percentiles::default());
    }

    /// Goal: another recorder hears all. Method: one that counts what is registered and recorded.
    #[test]
    fn everything_is_handed_on() {
        let inner = Recorder::default();
        let outer = Recorder::before(inner.clone());
        metrics::with_local_recorder(&outer, || {
            metrics::histogram!(TIME_IN_BUFFER, "batcher" => "orders").record(0.5);
            metrics::counter!("other").increment(1);
        });
        assert_eq!(outer.percentiles("orders").count, 1);
        assert_eq!(inner.percentiles("orders"), outer.percentiles("orders"));
    }

    #[test]
    fn excerpts_add_up_to_the_whole() {
        let (mut whole, mut sum) = (Latencies::default(), Latencies::default());
        for part in [[5, 3_000_000, 7_777_777_777], [1, 4_000_000, u64::MAX]] {
            let mut latencies = Latencies::default();
            for nanos in part {
                latencies.record(nanos, 2);
                whole.record(nanos, 2);
            }
            sum.add(&latencies.excerpt());
        }
        assert_eq!(sum.percentiles(), whole.percentiles());
        sum.clear();
        assert_eq!(sum.percentiles(), Percentiles::default());
    }

    /// Goal: the percentiles agree with the batcher's own statistics. Method: ops that wait for known times, in a batcher that is named
    /// as a shard of a log is.
    #[tokio::test(start_paused = true)]
    async fn a_batcher_records_each_op_once() {
        let recorder = Recorder::default();
        let limits = (2, Duration::from_millis(30));
        let spawn = || Batcher::new(Sink::<u8>::new()).name("prices-3").limits(limits).spawn();
        let (handle, worker) = metrics::with_local_recorder(&recorder, spawn);
        handle.send_all([1, 2, 3]).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let excerpt = recorder.take("prices");
        assert_eq!(excerpt.times.iter().map(|(_, count)| count).sum::<u64>(), 3);
        handle.send(4).await.unwrap();
        let stats = worker.shutdown().await.unwrap().stats;
        let percentiles = recorder.percentiles("prices");
        assert_eq!((percentiles.count, percentiles.max), (4, stats.in_buffer.max.as_secs_f64()));
        assert_eq!(recorder.percentiles("prices"), percentiles, "reading changes nothing");
        assert_eq!(recorder.take("prices"), Excerpt::default());
        assert_eq!(recorder.percentiles("orders"), Percentiles::default());
    }
}
