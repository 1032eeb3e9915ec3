//! A sink made of another one: [`Metered`] counts the calls of the sink inside and sums up their time. `main` wraps
//! each sink in one, and the report reads the meters.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use roundlot::{Batch, Settled, Sink, SinkError, sink::Guarantee};
use tokio::time::Instant;

/// Measurements so far.
#[derive(Debug, Default)]
pub struct Meter {
    calls: AtomicU64,
    /// Ops in these calls. A retried op counts again.
    ops: AtomicU64,
    /// Time of all calls, in nanoseconds.
    nanos: AtomicU64,
    /// Time of all ops in these calls, in nanoseconds: each call's time as often as it had ops.
    op_nanos: AtomicU64,
}

impl Meter {
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// The number of ops in all calls. A retried op counts again.
    pub fn ops(&self) -> u64 {
        self.ops.load(Ordering::Relaxed)
    }

    /// The time of all calls together. Calls that run at the same time count each.
    pub fn time(&self) -> Duration {
        Duration::from_nanos(self.nanos.load(Ordering::Relaxed))
    }

    /// The time that all ops together were in calls. The ops of a batch count each.
    pub fn time_of_ops(&self) -> Duration {
        Duration::from_nanos(self.op_nanos.load(Ordering::Relaxed))
    }
}

/// The meters of the three batchers.
pub struct Meters {
    pub prices: Arc<Meter>,
    pub orders: Arc<Meter>,
    pub trades: Arc<Meter>,
}

/// A sink that is measured.
pub struct Metered<S> {
    inner: S,
    meter: Arc<Meter>,
}

impl<S> Metered<S> {
    pub fn new(inner: S) -> (Self, Arc<Meter>) {
        let meter = Arc::new(Meter::default());
        (Self::with(inner, Arc::clone(&meter)), meter)
    }

    /// Measures a sink with a meter that others may share.
    pub fn with(inner: S, meter: Arc<Meter>) -> Self {
        Self { inner, meter }
    }
}

impl<T, R, S> Sink<T, R> for Metered<S>
where
    T: Send + 'static,
    R: Send + 'static,
    S: Sink<T, R>,
{
    async fn write(&self, batch: &mut Batch<T, R>) -> Result<Settled, SinkError> {
        let _call = Call { meter: &self.meter, ops: batch.len() as u64, began: Instant::now() };
        self.inner.write(batch).await
    }

    async fn close(&self) -> Result<(), SinkError> {
        self.inner.close().await
    }

    fn guarantee(&self) -> Guarantee {
        self.inner.guarantee()
    }

    async fn reconcile(&self, batch: &mut Batch<T, R>) -> Result<(), SinkError> {
        self.inner.reconcile(batch).await
    }
}

/// Counts a call when it is dropped, so that a write that is given up counts, too.
struct Call<'a> {
    meter: &'a Meter,
    ops: u64,
    began: Instant,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let nanos = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.meter.calls.fetch_add(1, Ordering::Relaxed);
        self.meter.ops.fetch_add(self.ops, Ordering::Relaxed);
        self.meter.nanos.fetch_add(nanos, Ordering::Relaxed);
        self.meter.op_nanos.fetch_add(nanos.saturating_mul(self.ops), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use roundlot::testing::{Gate, Recorder};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn calls_count_however_they_end() {
        let recorder = Recorder::<u8>::new();
        let (sink, meter) = Metered::new(Gate::new(recorder.clone()));
        let sink = sink.timeout(Duration::from_secs(3));
        assert!(sink.write(&mut Batch::for_test(vec![1, 2])).await.is_err());
        assert_eq!((meter.calls(), meter.time()), (1, Duration::from_secs(3)));
        assert_eq!((meter.ops(), meter.time_of_ops()), (2, Duration::from_secs(6)));
        assert!(recorder.is_empty());
    }
}
