//! Destinations before which the cap on the size of a batch falls and rises again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use roundlot::{Batch, Batcher, CapReason, Handle, Limits, Retry, Settled, Sink, SinkError};

use crate::record::Emitted;

/// A destination that refuses large batches until it is mended.
struct Narrow(Arc<AtomicBool>);

impl Sink<u32> for Narrow {
    async fn write(&self, batch: &mut Batch<u32>) -> Result<Settled, SinkError> {
        if batch.len() > 4 && !self.0.load(Relaxed) {
            return Err(SinkError::too_large("more than 4"));
        }
        Ok(batch.accept_all())
    }
}

/// A destination that takes more time per op in large batches, until it is mended.
struct Slow(Arc<AtomicBool>);

impl Sink<u32> for Slow {
    async fn write(&self, batch: &mut Batch<u32>) -> Result<Settled, SinkError> {
        let size = batch.len() as u64;
        let beyond = if self.0.load(Relaxed) { 0 } else { size.saturating_sub(100).pow(2) / 10 };
        tokio::time::sleep(Duration::from_millis(10 + size + beyond)).await;
        Ok(batch.accept_all())
    }
}

/// Keeps the queue full until the cap has this reason, and looks at the gauges then.
async fn send_until(desk: &Handle<u32>, reason: CapReason, emitted: &Emitted) {
    while desk.stats().size.reason != reason {
        desk.send_all(0..1000).await.unwrap();
    }
    emitted.collect();
}

/// Large batches fail, and land again later.
pub(crate) async fn failures(emitted: &Emitted) {
    let is_mended = Arc::new(AtomicBool::new(false));
    let (desk, worker) = Batcher::new(Narrow(Arc::clone(&is_mended)))
        .limits(Limits::new(16))
        .retry(Retry::exponential(Duration::from_millis(1), Duration::from_millis(1)))
        .spawn();
    send_until(&desk, CapReason::Refused, emitted).await;
    is_mended.store(true, Relaxed);
    send_until(&desk, CapReason::Free, emitted).await;
    desk.flush().await.unwrap();
    worker.shutdown().await.unwrap();
}

/// A destination that fails, and does not say why, until it is mended.
struct Failing(Arc<AtomicBool>);

impl Sink<u32> for Failing {
    async fn write(&self, batch: &mut Batch<u32>) -> Result<Settled, SinkError> {
        tokio::time::sleep(Duration::from_millis(1)).await;
        if self.0.load(Relaxed) { Ok(batch.accept_all()) } else { Err(SinkError::transient("busy")) }
    }
}

/// Batches fail without a word about their size.
pub(crate) async fn unclear(emitted: &Emitted) {
    let is_mended = Arc::new(AtomicBool::new(false));
    let limits = Limits::new(16).max_pending(2000);
    let (desk, worker) = Batcher::new(Failing(Arc::clone(&is_mended))).limits(limits).spawn();
    desk.send_all(0..1000).await.unwrap();
    while desk.stats().size.reason != CapReason::Halved {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    emitted.collect();
    is_mended.store(true, Relaxed);
    worker.shutdown().await.unwrap();
}

/// Large batches take more time per op, and take less later.
pub(crate) async fn times(emitted: &Emitted) {
    let is_mended = Arc::new(AtomicBool::new(false));
    let limits = Limits::new(1000).max_pending(2000).adaptive(true);
    let (desk, worker) = Batcher::new(Slow(Arc::clone(&is_mended))).limits(limits).spawn();
    send_until(&desk, CapReason::Test, emitted).await;
    send_until(&desk, CapReason::Held, emitted).await;
    is_mended.store(true, Relaxed);
    send_until(&desk, CapReason::Free, emitted).await;
    worker.shutdown().await.unwrap();
}
