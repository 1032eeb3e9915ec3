//! Histograms of the times that ops spend in the buffers. [`Recorder`] takes them from the `metrics` facade while the
//! batchers are spawned, and ignores all other metrics, which `Stats` have. `sampler` reads the counts.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use metrics::{Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, SharedString, Unit};

const TIME_IN_BUFFER: &str = "roundlot_op_in_buffer_seconds";

/// Number of buckets: two for each doubling, from a quarter of a millisecond to some ten seconds. `histogram.js` draws
/// as many.
pub const BUCKETS: usize = 32;
const FIRST_EDGE: f64 = 0.000_25;

pub type Counts = [u64; BUCKETS];

/// The histograms of all batchers that were spawned while it was the recorder.
#[derive(Default)]
pub struct Recorder {
    by_name: Mutex<HashMap<String, Arc<Buckets>>>,
}

impl Recorder {
    /// Returns the counts of this batcher so far, and its longest time since the call before, in seconds.
    pub fn take(&self, batcher: &str) -> (Counts, f64) {
        let by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        by_name.get(batcher).map_or(([0; BUCKETS], 0.0), |buckets| buckets.take())
    }
}

#[derive(Default)]
struct Buckets {
    counts: [AtomicU64; BUCKETS],
    /// Longest time since it was last taken, in nanoseconds.
    longest: AtomicU64,
}

impl Buckets {
    fn take(&self) -> (Counts, f64) {
        let longest = self.longest.swap(0, Relaxed) as f64 / 1e9;
        (std::array::from_fn(|i| self.counts[i].load(Relaxed)), longest)
    }
}

/// Returns the upper edge of the bucket in which this part of all times is reached, in seconds: no time is known better
/// than that. `None` if there are no times.
pub fn quantile(counts: &Counts, part: f64) -> Option<f64> {
    let all: u64 = counts.iter().sum();
    let mut sum = 0;
    let at = counts.iter().position(|count| {
        sum += count;
        sum > 0 && sum as f64 >= all as f64 * part
    });
    at.map(|at| FIRST_EDGE * 2f64.powf(at as f64 / 2.0))
}

/// Returns the bucket of a time: the first whose upper edge the time does not exceed. The last bucket takes all longer
/// times.
fn bucket(seconds: f64) -> usize {
    let place = ((seconds / FIRST_EDGE).log2() * 2.0).ceil();
    // A time of zero makes a place below all others, and the cast saturates.
    (place.max(0.0) as usize).min(BUCKETS - 1)
}

impl HistogramFn for Buckets {
    fn record(&self, seconds: f64) {
        self.record_many(seconds, 1);
    }

    fn record_many(&self, seconds: f64, count: usize) {
        self.counts[bucket(seconds)].fetch_add(count as u64, Relaxed);
        self.longest.fetch_max((seconds * 1e9) as u64, Relaxed);
    }
}

impl metrics::Recorder for Recorder {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        if key.name() != TIME_IN_BUFFER {
            return Histogram::noop();
        }
        let name = key.labels().find(|label| label.key() == "batcher").map_or("", |label| label.value());
        let mut by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        Histogram::from_arc(Arc::clone(by_name.entry(name.to_owned()).or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_one_bucket() {
        let edge = |i: usize| FIRST_EDGE * 2f64.powf(i as f64 / 2.0);
        for i in 0..BUCKETS - 1 {
            assert_eq!((bucket(edge(i) * 0.999), bucket(edge(i) * 1.001)), (i, i + 1));
        }
        assert_eq!([0.0, 1e-9, 1e9, f64::INFINITY].map(bucket), [0, 0, BUCKETS - 1, BUCKETS - 1]);
    }
    #[test]
    fn a_quantile_is_an_upper_edge() {
        let buckets = Buckets::default();
        assert_eq!(quantile(&buckets.take().0, 0.5), None);
        buckets.record_many(0.000_9, 98);
        buckets.record_many(0.1, 2);
        let (counts, longest) = buckets.take();
        assert_eq!((quantile(&counts, 0.5), quantile(&counts, 0.98)), (Some(0.001), Some(0.001)));
        assert!((quantile(&counts, 0.99).unwrap() - 0.128).abs() < 1e-9);
        assert!((longest - 0.1).abs() < 1e-9);
        assert_eq!(buckets.take(), (counts, 0.0), "the longest time is of the time since it was taken");
    }
}
