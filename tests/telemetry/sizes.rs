//! Destinations before which the cap on the size of a batch falls and rises again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use roundlot::{Batch, Batcher, CapReason, Handle, Limits, Retry, Settled, Sink, SinkError};

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

/// Keeps the queue full until the cap has this reason.
async fn send_until(desk: &Handle<u32>, reason: CapReason) {
    while desk.stats().size.reason != reason {
        desk.send_all(0..1000).await.unwrap();
    }
}

/// Large batches fail, and land again later.
pub(crate) async fn failures() {
    let is_mended = Arc::new(AtomicBool::new(false));
    let (desk, worker) = Batcher::new(Narrow(Arc::clone(&is_mended)))
        .limits(Limits::new(16))
        .retry(Retry::exponential(Duration::from_millis(1), Duration::from_millis(1)))
        .spawn();
    send_until(&desk, CapReason::Refused).await;
    is_mended.store(true, Relaxed);
    send_until(&desk, CapReason::Free).await;
    desk.flush().await.unwrap();
    worker.shutdown().await.unwrap();
}

/// Large batches take more time per op, and take less later.
pub(crate) async fn times() {
    let is_mended = Arc::new(AtomicBool::new(false));
    let limits = Limits::new(1000).max_pending(2000).adaptive(true);
    let (desk, worker) = Batcher::new(Slow(Arc::clone(&is_mended))).limits(limits).spawn();
    send_until(&desk, CapReason::Held).await;
    is_mended.store(true, Relaxed);
    send_until(&desk, CapReason::Free).await;
    worker.shutdown().await.unwrap();
}
