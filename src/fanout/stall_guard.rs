//! [`StallGuard`]: a subscriber's sink with a limit on the time without progress. The subscriber's batcher writes
//! through it; the first reason to end is kept.

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
    /// When the sink last stopped making progress; `None` after a write that succeeded.
    pub(super) since: Mutex<Option<Instant>>,
    /// Why the sink ended the subscription; unset if it was closed by its owner.
    pub(super) ended: Arc<OnceLock<Ended>>,
}

impl<S, T, Topic> StallGuard<S, T, Topic> {
    /// Time left without progress; starts the count at the first call.
    fn remaining(&self) -> Duration {
        let now = Instant::now();
        let since = *self.since.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(now);
        self.stuck_after.saturating_sub(now - since)
    }

    fn record_progress(&self) {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Records the reason and returns the error that ends the subscriber's batcher, which then closes the sink.
    /// `closed` keeps the batcher from logging it; the feed counts it.
    fn end(&self, ended: Ended) -> SinkError {
        let error = SinkError::closed(ended.to_string());
        // The first reason stands.
        let _ = self.ended.set(ended);
        error
    }

    /// Waits until the sink is gone although nothing is written, and records why, unless `stop` was cancelled before.
    pub(super) async fn peer_left(&self, stop: &CancellationToken)
    where
        S: Sink<T>,
    {
        match AssertUnwindSafe(self.sink.gone()).catch_unwind().await {
            Ok(_) if stop.is_cancelled() => {}
            Ok(error) => drop(self.end(Ended::Failed(error))),
            Err(panic) => {
                error!(
                    panic = panics::message(&*panic),
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
            // A sink that refuses a whole batch will refuse the next one, too.
            Ok(Err(error)) if is_final(&error) => Err(self.end(Ended::Failed(error))),
            Ok(Err(error)) if !self.remaining().is_zero() => Err(error),
            Ok(Err(_)) | Err(_) => Err(self.end(Ended::Stuck(self.stuck_after))),
        }
    }

    async fn close(&self) -> Result<(), SinkError> {
        self.sink.close().await
    }
}

/// Whether a sink that returns this error will take no other batch either.
fn is_final(error: &SinkError) -> bool {
    matches!(error.kind(), ErrorKind::Refused | ErrorKind::Fenced | ErrorKind::Lost | ErrorKind::Closed)
}
