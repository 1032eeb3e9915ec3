//! [`Worker`]: the owner's end of a batcher's task, to wait for it or to end it; and its [`Summary`].

use std::{
    fmt,
    future::{Future, IntoFuture},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use crate::{
    driver::handle::error::WorkerGone,
    rules::{
        batch::SinkError,
        outcome::{DeadLetter, Returned},
        stats::Stats,
    },
};

/// The result of a batcher that has ended.
///
/// In serde an object of its fields, for a file from which the next process sends what came back:
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use roundlot::{Batcher, SinkError, Summary, testing::{Flaky, Recorder}};
///
/// let away = Flaky::new(Recorder::new()).fail_times(100, SinkError::outage("connection refused"));
/// let (desk, worker) = Batcher::new(away).spawn();
/// desk.send("buy 5".to_owned()).await?;
/// let json = serde_json::to_string(&worker.shutdown().within(Duration::from_secs(1)).await?)?;
///
/// let summary: Summary<String> = serde_json::from_str(&json)?;
/// assert_eq!(summary.stats.outcomes.returned, 1);
/// assert_eq!(summary.returned[0].op, "buy 5");
/// assert!(!summary.returned[0].in_doubt); // it did not land, and may be sent again
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Summary<T> {
    /// The final statistics.
    pub stats: Stats,
    /// Ops that were not settled when the time was over, in the order in which they came.
    pub returned: Vec<Returned<T>>,
    /// Dead letters that their own sink did not take.
    pub dead_letters: Vec<DeadLetter<T>>,
    /// Why the sink was not closed properly, if it was not.
    pub close_error: Option<SinkError>,
}

/// How a worker tells its task to stop, within some time, without naming the type of its receipts.
pub(crate) type TellStop = Arc<dyn Fn(Option<Duration>) + Send + Sync>;

/// The owner of a batcher's task, from [`Batcher::spawn`](crate::Batcher::spawn).
///
/// Dropping it lets the task go on until the last handle is dropped.
#[must_use = "join the worker, or shut it down, to know that everything was written"]
pub struct Worker<T> {
    task: JoinHandle<Summary<T>>,
    stop: TellStop,
}

impl<T> Worker<T> {
    pub(crate) fn new(task: JoinHandle<Summary<T>>, stop: TellStop) -> Self {
        Self { task, stop }
    }

    /// Waits until the batcher ends by itself: its last handle is dropped, or it was told to stop.
    ///
    /// # Errors
    ///
    /// If the task is gone without a summary: it was aborted, or its runtime was shut down.
    ///
    /// # Cancel safety
    ///
    /// Takes the worker, so that dropping the future lets the task go on unwatched.
    pub async fn join(self) -> Result<Summary<T>, WorkerGone> {
        self.task.await.map_err(|_| WorkerGone)
    }

    /// Closes intake, writes what waits and ends the batcher, as soon as the returned value is awaited.
    ///
    /// Everything is due at once, but nothing is forced: a backoff is not cut short, and one that would end too late is
    /// not waited out. What could not be settled comes back in the [`Summary`]. A batcher that is paused waits to be
    /// resumed as long as it has time.
    ///
    /// Where sinks send to other batchers, the order matters: see [`guide::chains`](crate::guide::chains).
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::time::Duration;
    /// # use roundlot::{Batch, Batcher, sink_fn};
    /// # let sink = sink_fn(|batch: &mut Batch<u32>| Box::pin(async move { Ok(batch.accept_all()) }));
    /// let (desk, worker) = Batcher::new(sink).spawn();
    /// desk.send(1).await?;
    /// let summary = worker.shutdown().within(Duration::from_secs(5)).await?;
    /// assert_eq!(summary.stats.outcomes.delivered, 1);
    /// assert!(summary.returned.is_empty());
    /// # Ok(())
    /// # }
    /// ```
    pub fn shutdown(self) -> Shutdown<T> {
        Shutdown { worker: self, within: None }
    }
}

impl<T> fmt::Debug for Worker<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("is_finished", &self.task.is_finished()).finish_non_exhaustive()
    }
}

/// A shutdown that begins when it is awaited, from [`Worker::shutdown`].
///
/// # Errors
///
/// [`WorkerGone`] if the task is gone without a summary.
///
/// # Cancel safety
///
/// Once begun, the shutdown goes on even if the future is dropped; the summary is then dropped with it.
#[derive(Debug)]
#[must_use = "a shutdown begins when it is awaited"]
pub struct Shutdown<T> {
    worker: Worker<T>,
    within: Option<Duration>,
}

impl<T> Shutdown<T> {
    /// How long it may take, instead of the [`shutdown_timeout`](crate::Limits::shutdown_timeout) of the limits.
    pub fn within(self, limit: Duration) -> Self {
        Self { within: Some(limit), ..self }
    }
}

impl<T: Send + 'static> IntoFuture for Shutdown<T> {
    type Output = Result<Summary<T>, WorkerGone>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            (self.worker.stop)(self.within);
            self.worker.join().await
        })
    }
}

/// A batcher's task as a future, to be driven by hand, from [`Batcher::split`](crate::Batcher::split).
///
/// It completes when the last handle is dropped, or the batcher was told to stop, and everything is drained. Dropping it
/// before loses what it holds; callers who wait are told.
#[must_use = "a batcher does nothing unless its future is polled"]
pub struct WorkerFuture<T> {
    task: BoxFuture<'static, Summary<T>>,
}

impl<T> WorkerFuture<T> {
    pub(crate) fn new(task: BoxFuture<'static, Summary<T>>) -> Self {
        Self { task }
    }
}

impl<T> Future for WorkerFuture<T> {
    type Output = Summary<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Summary<T>> {
        self.task.as_mut().poll(cx)
    }
}

impl<T> fmt::Debug for WorkerFuture<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerFuture").finish_non_exhaustive()
    }
}
