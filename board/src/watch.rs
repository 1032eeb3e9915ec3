//! [`Watch`]: what a board asks of a batcher. Handles implement it; so may types that wrap them.

use futures::future::BoxFuture;
use roundlot::{Handle, Limits, Outcomes, Stats};
use thiserror::Error;

/// The batcher has ended, and takes no commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the batcher has ended")]
pub struct Ended;

/// A batcher as a board sees it.
pub trait Watch: Send + Sync + 'static {
    /// Counters and gauges.
    fn stats(&self) -> Stats;

    /// Stops cutting batches.
    ///
    /// # Errors
    ///
    /// If the batcher has ended.
    fn pause(&self) -> BoxFuture<'_, Result<(), Ended>>;

    /// Starts cutting batches again.
    ///
    /// # Errors
    ///
    /// If the batcher has ended.
    fn resume(&self) -> BoxFuture<'_, Result<(), Ended>>;

    /// Settles all that was accepted, and tells how ops ended since the last flush.
    ///
    /// # Errors
    ///
    /// If the batcher has ended.
    fn flush(&self) -> BoxFuture<'_, Result<Outcomes, Ended>>;
}

impl<T: Send + 'static, R: Send + 'static> Watch for Handle<T, R> {
    fn stats(&self) -> Stats {
        Handle::stats(self)
    }

    fn pause(&self) -> BoxFuture<'_, Result<(), Ended>> {
        Box::pin(async { Handle::pause(self).await.map_err(|_| Ended) })
    }

    fn resume(&self) -> BoxFuture<'_, Result<(), Ended>> {
        Box::pin(async { Handle::resume(self).await.map_err(|_| Ended) })
    }

    fn flush(&self) -> BoxFuture<'_, Result<Outcomes, Ended>> {
        Box::pin(async { Ok(Handle::flush(self).await.map_err(|_| Ended)?.outcomes) })
    }
}

/// Ops of other processes count while this one leads them. The log knows no batches, so their charts stay empty.
#[cfg(feature = "durable")]
impl<T: Send + 'static, R: Clone + Send + 'static> Watch for roundlot::durable::Handle<T, R> {
    fn stats(&self) -> Stats {
        let log = Self::stats(self);
        let mut stats = Stats::default();
        let came = log.accepted + log.recovered + log.received;
        stats.accepted = came.saturating_sub(log.handed_over + log.repeats);
        stats.outcomes = log.outcomes;
        (stats.waiting, stats.in_flight) = (log.waiting, log.in_flight);
        (stats.paused, stats.max_pending) = (log.paused, log.max_pending);
        stats.quota = log.quota;
        stats
    }

    fn pause(&self) -> BoxFuture<'_, Result<(), Ended>> {
        Box::pin(async { Self::pause(self).await.map(drop).map_err(|_| Ended) })
    }

    fn resume(&self) -> BoxFuture<'_, Result<(), Ended>> {
        Box::pin(async { Self::resume(self).await.map_err(|_| Ended) })
    }

    fn flush(&self) -> BoxFuture<'_, Result<Outcomes, Ended>> {
        Box::pin(async {
            let mut report = Self::flush(self).await.map_err(|_| Ended)?;
            report.outcomes += report.others;
            Ok(report.outcomes)
        })
    }
}

/// A batcher on a board, by a name.
pub struct Watched {
    pub(crate) name: String,
    pub(crate) to: String,
    pub(crate) limits: Option<Limits>,
    pub(crate) batcher: Box<dyn Watch>,
}

impl Watched {
    /// The batcher of a handle. The name is that on the page; the times of its ops are found if it is that of the batcher, too.
    pub fn new(name: impl Into<String>, batcher: &(impl Watch + Clone)) -> Self {
        Self { name: name.into(), to: String::new(), limits: None, batcher: Box::new(batcher.clone()) }
    }

    /// Names the destination.
    #[must_use]
    pub fn writes_to(self, destination: impl Into<String>) -> Self {
        Self { to: destination.into(), ..self }
    }

    /// Shows when batches are cut.
    #[must_use]
    pub fn limits(self, limits: impl Into<Limits>) -> Self {
        Self { limits: Some(limits.into()), ..self }
    }
}
