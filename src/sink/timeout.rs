//! [`Timeout`], a sink with a limit on the time of each write and of the close. Verdicts given before the limit stand.
//! [`Sink::timeout`] makes it.

use std::time::Duration;

use super::{Guarantee, Sink, SinkError};
use crate::rules::batch::{Batch, Settled};

/// Limits the time of each write, and of the close, of the inner sink; made by [`Sink::timeout`].
///
/// A write that takes longer is dropped. Verdicts given by then stand; ops without one get
/// [`ErrorKind::Ambiguous`](crate::ErrorKind::Ambiguous), since they may have landed. Only an
/// [`idempotent`](crate::Batcher::idempotent) batcher writes them again.
///
/// A write whose future never yields (a blocking call) cannot be interrupted; move such work to a thread.
///
/// # Cancel safety
///
/// As that of the inner sink, which may be dropped at any await.
///
/// # Errors
///
/// `write took longer than 5s`, or an error of the inner sink.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use roundlot::{Batch, ErrorKind, Sink, sink_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let hung = sink_fn(|_: &mut Batch<u32>| Box::pin(std::future::pending()));
/// let sink = hung.timeout(Duration::from_millis(5));
/// # let mut batch = Batch::<u32>::for_test(vec![1]);
/// let error = sink.write(&mut batch).await.unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Ambiguous);
/// assert_eq!(error.chain(), "may or may not have been written: write took longer than 5ms");
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Timeout<S> {
    inner: S,
    limit: Duration,
}

impl<S> Timeout<S> {
    pub(crate) fn new(inner: S, limit: Duration) -> Self {
        Self { inner, limit }
    }

    fn elapsed(&self, what: &str) -> SinkError {
        SinkError::ambiguous(format!("{what} took longer than {:?}", self.limit))
    }
}

impl<T, R, S> Sink<T, R> for Timeout<S>
where
    S: Sink<T, R>,
    T: Send,
    R: Send,
{
    async fn write(&self, batch: &mut Batch<T, R>) -> Result<Settled, SinkError> {
        match tokio::time::timeout(self.limit, self.inner.write(batch)).await {
            Ok(answer) => answer,
            Err(_) => Err(self.elapsed("write")),
        }
    }

    async fn close(&self) -> Result<(), SinkError> {
        match tokio::time::timeout(self.limit, self.inner.close()).await {
            Ok(answer) => answer,
            Err(_) => Err(self.elapsed("close")),
        }
    }

    fn page(&self) -> Option<usize> {
        self.inner.page()
    }

    fn guarantee(&self) -> Guarantee {
        self.inner.guarantee()
    }

    async fn reconcile(&self, batch: &mut Batch<T, R>) -> Result<(), SinkError> {
        match tokio::time::timeout(self.limit, self.inner.reconcile(batch)).await {
            Ok(answer) => answer,
            Err(_) => Err(SinkError::transient(self.elapsed("reconcile"))),
        }
    }

    async fn gone(&self) -> SinkError {
        self.inner.gone().await
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::sink::ErrorKind;

    /// Accepts the first op at once; the rest, and the close, after the given time.
    struct Slow(Duration);

    impl Sink<u8> for Slow {
        async fn write(&self, batch: &mut Batch<u8>) -> Result<Settled, SinkError> {
            batch.accept(0, ());
            tokio::time::sleep(self.0).await;
            Ok(batch.accept_all())
        }

        async fn close(&self) -> Result<(), SinkError> {
            tokio::time::sleep(self.0).await;
            Ok(())
        }
    }

    const LIMIT: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn a_write_in_time_is_left_alone() {
        let sink = Slow(LIMIT - Duration::from_millis(1)).timeout(LIMIT);
        let mut batch = Batch::for_test(vec![1, 2]);
        assert!(sink.write(&mut batch).await.is_ok());
        assert!(batch.verdict(1).unwrap().is_ok());
        assert!(sink.close().await.is_ok());
    }

    /// The verdict given before the limit stands; the op without one is ambiguous, at the limit and not later.
    #[tokio::test(start_paused = true)]
    async fn a_late_write_is_ambiguous_and_keeps_its_verdicts() {
        let sink = Slow(Duration::from_secs(3600)).timeout(LIMIT);
        let started = Instant::now();
        let mut batch = Batch::for_test(vec![1, 2]);
        let error = sink.write(&mut batch).await.unwrap_err();
        assert_eq!(started.elapsed(), LIMIT);
        assert_eq!(error.kind(), ErrorKind::Ambiguous);
        assert_eq!(error.chain(), "may or may not have been written: write took longer than 5s");
        assert!(batch.verdict(0).unwrap().is_ok());
        assert!(batch.verdict(1).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn close_is_bounded_too() {
        let sink = Slow(Duration::MAX).timeout(LIMIT);
        let error = sink.close().await.unwrap_err();
        assert_eq!(error.chain(), "may or may not have been written: close took longer than 5s");
    }
}
