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

/// Number of buckets: two for each doubling, from a quarter of a millisecond to some ten seconds. `page.js` draws as
/// many.
pub const BUCKETS: usize = 32;
const FIRST_EDGE: f64 = 0.000_25;

pub type Counts = [u64; BUCKETS];

/// The histograms of all batchers that were spawned while it was the recorder.
#[derive(Default)]
pub struct Recorder {
    by_name: Mutex<HashMap<String, Arc<Buckets>>>,
}

impl Recorder {
    /// Returns the counts of this batcher so far.
    pub fn counts(&self, batcher: &str) -> Counts {
        let by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        by_name.get(batcher).map_or([0; BUCKETS], |buckets| buckets.counts())
    }
}

#[derive(Default)]
struct Buckets([AtomicU64; BUCKETS]);

impl Buckets {
    fn counts(&self) -> Counts {
        std::array::from_fn(|i| self.0[i].load(Relaxed))
    }
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
        self.0[bucket(seconds)].fetch_add(count as u64, Relaxed);
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
}
