//! A subscriber's sink under watch. In come batches for it, out goes whether it still takes anything. Next room: the sink
//! that the user brought.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, OnceLock, PoisonError, atomic::Ordering::Relaxed},
    time::Duration,
};

use futures::FutureExt;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::{error::Ended, hub::Shared};
use crate::{
    rules::{
        batch::{Batch, Settled},
        panics,
    },
    sink::{ErrorKind, Sink, SinkError},
};

pub(super) struct StallGuard<S, T, Topic> {
    pub(super) sink: S,
    pub(super) shared: Arc<Shared<T, Topic>>,
    pub(super) stuck_after: Duration,
    /// Since when there is something to take and nothing is taken.
    pub(super) since: Mutex<Option<Instant>>,
    /// Why it ended, if not because somebody closed it.
    pub(super) ended: Arc<OnceLock<Ended>>,
}

impl<S, T, Topic> StallGuard<S, T, Topic> {
    /// How much longer it may take nothing.
    fn remaining(&self) -> Duration {
        let now = Instant::now();
        let since = *self.since.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(now);
        self.stuck_after.saturating_sub(now - since)
    }

    fn record_progress(&self) {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Ends the subscriber's batcher, which then closes the sink. That subscribers come and go is no news: the batcher says
    /// nothing of it, and the feed counts it.
    fn end(&self, ended: Ended) -> SinkError {
        let error = SinkError::closed(ended.to_string());
        // The first reason stands.
        let _ = self.ended.set(ended);
        error
    }

    /// Waits until the sink has ended although nothing is written, and notes why, unless `stop` had told it to end.
    pub(super) async fn peer_left(&self, stop: &CancellationToken)
    where
        S: Sink<T>,
    {
        match AssertUnwindSafe(self.sink.gone()).catch_unwind().await {
            Ok(_) if stop.is_cancelled() => {}
            Ok(error) => drop(self.end(Ended::Failed(error))),
            Err(panic) => {
                error!(
                    message = panics::message(&*panic),
                    "a subscriber's sink panicked when it was asked whether it is gone"
                );
                std::future::pending().await
            }
        }
    }
}

impl<S, T, Topic> Sink<T> for StallGuard<S, T, Topic>
where
    S: Sink<T>,
    T: Clone + Send + Sync + 'static,
    Topic: Send + Sync + 'static,
{
    async fn write(&self, batch: &mut Batch<T>) -> Result<Settled, SinkError> {
        let open = batch.pending().len();
        let written = timeout(self.remaining(), self.sink.write(batch)).await;
        match written {
            Ok(Ok(settled)) => {
                self.record_progress();
                let refused = batch.errors().count();
                let counts = &self.shared.counts;
                counts.refused.fetch_add(refused as u64, Relaxed);
                counts.delivered.fetch_add(open.saturating_sub(refused) as u64, Relaxed);
                Ok(settled)
            }
            // A sink that refuses a batch as a whole will take no other either.
            Ok(Err(error)) if is_final(&error) => Err(self.end(Ended::Failed(error))),
            Ok(Err(error)) if !self.remaining().is_zero() => Err(error),
            Ok(Err(_)) | Err(_) => Err(self.end(Ended::Stuck(self.stuck_after))),
        }
    }

    async fn close(&self) -> Result<(), SinkError> {
        self.sink.close().await
    }
}

/// Whether a sink that says so will take no other batch either.
fn is_final(error: &SinkError) -> bool {
    matches!(error.kind(), ErrorKind::Refused | ErrorKind::Fenced | ErrorKind::Lost | ErrorKind::Closed)
}
