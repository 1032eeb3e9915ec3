//! [`Joined`]: a durable batcher that is a member of its log, until it leaves.

use std::{fmt, future::IntoFuture, sync::Arc, time::Duration};

use futures::future::{BoxFuture, join_all};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{
    error::Left, handle::Handle, ingress::Ingress, letters::DeadLetters, log::Log, shared::Shared, stats::Stats,
};

/// A durable batcher that has joined its log. Dropping it leaves the log, too, in the background.
#[must_use = "dropping it leaves the log"]
pub struct Joined<T, R = ()> {
    shared: Arc<Shared<T, R>>,
    /// Taken when it leaves.
    tasks: Option<Tasks>,
    stop: CancellationToken,
    abort: CancellationToken,
}

struct Tasks {
    ingress: Vec<Arc<Ingress>>,
    leaders: Vec<JoinHandle<()>>,
    log: Arc<dyn Log>,
    /// Ends all acks.
    detach: Box<dyn FnOnce() + Send>,
}

impl<T, R> Joined<T, R>
where
    T: Send + 'static,
    R: Clone + Send + 'static,
{
    pub(crate) fn new(
        shared: Arc<Shared<T, R>>,
        leaders: Vec<JoinHandle<()>>,
        stop: CancellationToken,
        abort: CancellationToken,
    ) -> Self {
        let ingress = shared.shards.iter().map(|shard| Arc::clone(&shard.ingress)).collect();
        let (log, of_acks) = (Arc::clone(&shared.log), Arc::clone(&shared));
        let detach = Box::new(move || of_acks.waiters.detach(|_| true));
        Self { shared, tasks: Some(Tasks { ingress, leaders, log, detach }), stop, abort }
    }

    /// A handle to send ops.
    pub fn handle(&self) -> Handle<T, R> {
        Handle::new(Arc::clone(&self.shared))
    }

    /// Ops that were given up or are in doubt, as the log keeps them.
    pub fn dead_letters(&self) -> DeadLetters<T, R> {
        DeadLetters::new(Arc::clone(&self.shared))
    }

    /// Counters and gauges of one moment.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// Leaves the log, as soon as the returned value is awaited: takes nothing any more, cuts nothing any more, and waits for
    /// what is being written. What waits stays in the log, and its acks end as
    /// [`Detached`](crate::AckError::Detached).
    pub fn leave(self) -> Leave<T, R> {
        Leave { joined: self, within: None }
    }
}

/// Ends the tasks of a batcher, and is done when the log is free.
async fn depart(tasks: Tasks, abort: CancellationToken, within: Duration) {
    let Tasks { ingress, mut leaders, log, detach } = tasks;
    let leaving = async {
        // Frames on their way are stored first, so that their callers learn it.
        ingress.iter().for_each(|ingress| ingress.close());
        join_all(ingress.iter().map(|ingress| ingress.drained())).await;
        join_all(&mut leaders).await;
    };
    if tokio::time::timeout(within, leaving).await.is_err() {
        abort.cancel();
        ingress.iter().for_each(|ingress| ingress.give_up());
        // Leaders end by themselves when their writes have been given up.
        join_all(leaders.iter_mut().filter(|leader| !leader.is_finished())).await;
    }
    log.close().await;
    // A frame may have been stored after the leader of its shard had ended.
    detach();
}

impl<T, R> Drop for Joined<T, R> {
    fn drop(&mut self) {
        self.shared.permits.close();
        self.stop.cancel();
        let tasks = self.tasks.take();
        let within = self.shared.limits().shutdown_timeout;
        if let (Some(tasks), Ok(runtime)) = (tasks, tokio::runtime::Handle::try_current()) {
            runtime.spawn(depart(tasks, self.abort.clone(), within));
        }
    }
}

impl<T, R> fmt::Debug for Joined<T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Joined").field("name", &self.shared.name).finish_non_exhaustive()
    }
}

/// A departure that begins when it is awaited, from [`Joined::leave`].
///
/// # Errors
///
/// None: what can't be ended in time is given up, and stays in doubt in the log.
///
/// # Cancel safety
///
/// Once begun, the departure goes on even if the future is dropped.
#[derive(Debug)]
#[must_use = "a departure begins when it is awaited"]
pub struct Leave<T, R = ()> {
    joined: Joined<T, R>,
    within: Option<Duration>,
}

impl<T, R> Leave<T, R> {
    /// How long it may take, instead of the [`shutdown_timeout`](crate::Limits::shutdown_timeout) of the limits. Writes that
    /// take longer are given up, and their ops are in doubt in the log.
    pub fn within(self, within: Duration) -> Self {
        Self { within: Some(within), ..self }
    }
}

impl<T: Send + 'static, R: Clone + Send + 'static> IntoFuture for Leave<T, R> {
    type Output = Result<Stats, Left>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { mut joined, within } = self;
        Box::pin(async move {
            let within = within.unwrap_or_else(|| joined.shared.limits().shutdown_timeout);
            joined.shared.permits.close();
            joined.stop.cancel();
            if let Some(tasks) = joined.tasks.take() {
                let leaving = depart(tasks, joined.abort.clone(), within);
                // In a task of its own, so that a caller that gives up leaves nothing half done.
                tokio::spawn(leaving).await.map_err(|_| Left)?;
            }
            Ok(joined.shared.stats())
        })
    }
}
