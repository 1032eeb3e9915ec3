//! [`Subscribe`], the builder of a subscriber: its sink, topics, stages and limits. It starts a batcher and the task
//! that owns it, and registers both with the hub.

use std::{
    fmt,
    hash::Hash,
    pin::pin,
    sync::{Arc, Mutex, OnceLock, atomic::Ordering::Relaxed},
    time::Duration,
};

use metrics::NoopRecorder;
use tokio::sync::watch;
use tracing::debug;

use super::{
    Subscription,
    error::{Ended, SubscribeError},
    hub::Shared,
    stall_guard::StallGuard,
};
use crate::{
    batcher::Batcher,
    rules::{
        config::{
            limits::{Limits, Overflow},
            retry::Retry,
        },
        stage::Stages,
    },
    sink::Sink,
};

/// Default time that a sink may take nothing. Longer than a pause for garbage collection or a change of networks, it
/// still frees the memory of a dead peer soon.
const DEFAULT_STUCK_AFTER: Duration = Duration::from_secs(10);

/// The builder of a subscriber, from [`Feed::subscribe`](super::Feed::subscribe).
#[must_use = "a subscription begins when it is started"]
pub struct Subscribe<T, Topic, S> {
    shared: Arc<Shared<T, Topic>>,
    sink: S,
    topics: Vec<Topic>,
    all: bool,
    stages: Stages<T>,
    limits: Limits,
    stuck_after: Duration,
}

impl<T, Topic, S> Subscribe<T, Topic, S>
where
    T: Clone + Send + Sync + 'static,
    Topic: Hash + Eq + Clone + Send + Sync + 'static,
    S: Sink<T>,
{
    pub(super) fn new(shared: Arc<Shared<T, Topic>>, sink: S, stages: Stages<T>) -> Self {
        let limits = Limits::new(1000).max_pending(4096);
        Self { shared, sink, topics: Vec::new(), all: false, stages, limits, stuck_after: DEFAULT_STUCK_AFTER }
    }

    /// Adds topics. Without any, the subscriber gets nothing until the subscription [adds](Subscription::add) some.
    pub fn to(mut self, topics: impl IntoIterator<Item = Topic>) -> Self {
        self.topics.extend(topics);
        self
    }

    /// Subscribes to all topics, including those that come later.
    pub fn to_all(self) -> Self {
        Self { all: true, ..self }
    }

    /// Sets the stages of the subscriber's buffer. By default the latest update of each key of the feed is kept.
    pub fn stages(self, stages: Stages<T>) -> Self {
        Self { stages, ..self }
    }

    /// Sets the limits of the subscriber's batcher: by default batches of 1000, and 4096 updates that wait or are being
    /// written.
    ///
    /// `max_pending` bounds the memory of the subscriber. With conflation it should be at least the number of its keys,
    /// since an evicted update may be the only one of its key. A feed never waits for a subscriber, so
    /// [`Overflow::Wait`] means [`Overflow::EvictOldest`] here. `shutdown_timeout` bounds the final writes and the
    /// closing of the sink when the subscription ends.
    pub fn limits(self, limits: impl Into<Limits>) -> Self {
        Self { limits: limits.into(), ..self }
    }

    /// Time that the sink may take nothing while there is something to take, until the subscriber is dropped: 10 s by
    /// default. A batch that is refused for now counts as nothing taken.
    pub fn stuck_after(self, stuck_after: Duration) -> Self {
        Self { stuck_after, ..self }
    }

    /// Starts the subscriber. The latest values of its topics go first.
    ///
    /// # Errors
    ///
    /// See [`SubscribeError`]. The sink is then closed, or only dropped if the settings were wrong.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves no subscription behind. The sink is closed, or only dropped if the feed was not
    /// reached yet.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime with time enabled.
    pub async fn start(self) -> Result<Subscription<T, Topic>, SubscribeError> {
        let Self { shared, sink, topics, all, stages, mut limits, stuck_after } = self;
        if limits.overflow == Overflow::Wait {
            limits = limits.overflow(Overflow::EvictOldest);
        }
        let (stop, reason) = (shared.over.child_token(), Arc::new(OnceLock::new()));
        let guarded = Arc::new(StallGuard {
            sink,
            shared: Arc::clone(&shared),
            stuck_after,
            since: Mutex::default(),
            ended: Arc::clone(&reason),
        });
        let max_pending = limits.max_pending;
        let batcher = Batcher::new(Arc::clone(&guarded))
            .name("subscriber")
            .letters_unwanted()
            .stages(stages)
            .limits(limits)
            // A stalled sink ends the subscriber, not a number of attempts.
            .retry(Retry::default().max_attempts(u32::MAX))
            .stop_on(stop.clone());
        // No metrics: ten thousand subscribers would overwrite each other under one name, and be too many under their
        // own.
        let (handle, task) = metrics::with_local_recorder(&NoopRecorder, || batcher.try_split())?;

        let (tell, ended) = watch::channel(None);
        let mut hub = shared.hub.lock().await;
        let id = hub.admit(handle.clone(), max_pending);
        // On any early return the drop ends the subscriber again; its task then closes the sink.
        let subscription = Subscription { id, shared: Arc::clone(&shared), handle, stop: stop.clone(), ended };
        let live = Live::count(&shared);
        tokio::spawn(async move {
            let mut task = pin!(task);
            tokio::select! {
                biased;
                _ = &mut task => {}
                () = guarded.peer_left(&stop) => {
                    stop.cancel();
                    task.await;
                }
            }
            // The sink is dropped before `Subscription::ended` returns.
            drop(guarded);
            let ended = reason.get().cloned().unwrap_or(Ended::Closed);
            if !live.0.over.is_cancelled() {
                live.0.hub.lock().await.remove(id);
            }
            live.0.counts.ended(&ended);
            debug!(reason = %ended, "a subscriber has ended");
            drop(live);
            // An error means that the subscription was dropped.
            let _ = tell.send(Some(ended));
        });
        if shared.over.is_cancelled() {
            return Err(SubscribeError::Closed);
        }
        if all {
            hub.subscribe_all(id).await?
        } else {
            hub.subscribe(id, topics).await?
        }
        drop(hub);
        Ok(subscription)
    }
}

/// Counts a live subscriber until its task ends, in whatever way.
struct Live<T, Topic>(Arc<Shared<T, Topic>>);

impl<T, Topic> Live<T, Topic> {
    fn count(shared: &Arc<Shared<T, Topic>>) -> Self {
        shared.counts.subscribed.fetch_add(1, Relaxed);
        shared.live.send_modify(|live| *live += 1);
        Self(Arc::clone(shared))
    }
}

impl<T, Topic> Drop for Live<T, Topic> {
    fn drop(&mut self) {
        self.0.live.send_modify(|live| *live -= 1);
    }
}

impl<T, Topic, S> fmt::Debug for Subscribe<T, Topic, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscribe")
            .field("topics", &self.topics.len())
            .field("all", &self.all)
            .field("stages", &self.stages)
            .field("limits", &self.limits)
            .field("stuck_after", &self.stuck_after)
            .finish_non_exhaustive()
    }
}
