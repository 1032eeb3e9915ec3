//! A subscriber's sink under watch. In come batches for it, out goes whether it still takes anything. Next room: the sink
//! that the user brought.

use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::time::{Instant, timeout};

use super::{Ended, hub::Shared};
use crate::{
    batch::{Batch, Settled},
    sink::{ErrorKind, Sink, SinkError},
};

pub(super) struct Watched<K, T, S> {
    pub(super) sink: K,
    pub(super) shared: Arc<Shared<T, S>>,
    pub(super) stuck_after: Duration,
    /// Since when there is something to take and nothing is taken.
    pub(super) since: Mutex<Option<Instant>>,
    /// Why it ended, if not because somebody closed it.
    pub(super) ended: Arc<OnceLock<Ended>>,
}

impl<K, T, S> Watched<K, T, S> {
    /// How much longer it may take nothing.
    fn patience(&self) -> Duration {
        let now = Instant::now();
        let since = *self.since.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(now);
        self.stuck_after.saturating_sub(now - since)
    }

    fn has_taken(&self) {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Ends the subscriber's batcher, which then closes the sink.
    fn end(&self, ended: Ended) -> SinkError {
        let error = SinkError::fenced(ended.to_string());
        // The first reason stands.
        let _ = self.ended.set(ended);
        error
    }
}

impl<K, T, S> Sink<T> for Watched<K, T, S>
where
    K: Sink<T>,
    T: Clone + Send + Sync + 'static,
    S: Send + Sync + 'static,
{
    async fn write(&self, batch: &mut Batch<T>) -> Result<Settled, SinkError> {
        let open = batch.pending().len();
        let written = timeout(self.patience(), self.sink.write(batch)).await;
        match written {
            Ok(Ok(settled)) => {
                self.has_taken();
                self.shared.counts.delivered.fetch_add(open as u64, Relaxed);
                Ok(settled)
            }
            // A sink that refuses a batch as a whole will take no other either.
            Ok(Err(error)) if matches!(error.kind(), ErrorKind::Refused | ErrorKind::Fenced | ErrorKind::Lost) => {
                Err(self.end(Ended::Failed(error)))
            }
            Ok(Err(error)) if !self.patience().is_zero() => Err(error),
            Ok(Err(_)) | Err(_) => Err(self.end(Ended::Stuck(self.stuck_after))),
        }
    }

    async fn close(&self) -> Result<(), SinkError> {
        self.sink.close().await
    }
}
