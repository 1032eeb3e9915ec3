//! What publishers hold. In come updates and subscribers, out go statistics. Next room: the feed's batcher, and `spread`.

use std::{
    fmt,
    hash::Hash,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use serde::Serialize;

use super::{Subscribe, hub::Shared};
use crate::{
    Closed, Handle, TrySendError,
    rules::{stage::Stages, stats::Stats},
    sink::Sink,
};

/// A cheap, clonable way to a [`Fanout`](super::Fanout).
///
/// When the last one is dropped the feed drains, then every subscriber does, and their sinks are closed.
pub struct Feed<T, Topic> {
    pub(super) handle: Handle<T>,
    pub(super) shared: Arc<Shared<T, Topic>>,
    pub(super) usual_stages: Arc<dyn Fn() -> Stages<T> + Send + Sync>,
}

/// Counters and gauges of a [`Fanout`](super::Fanout). Frames and bytes are in the
/// statistics of the `WebSocket` that made the sinks, a subscriber's own in
/// [`Subscription::stats`](super::Subscription::stats).
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct FanoutStats {
    /// The feed's own batcher: `delivered` are updates that were handed on, `conflated` those that were replaced before.
    pub feed: Stats,
    /// Subscribers now, those that are being closed included.
    pub subscribers: u64,
    /// Subscribers so far.
    pub subscribed: u64,
    /// Subscriptions that were closed.
    pub closed: u64,
    /// Subscribers that were dropped because they were stuck.
    pub stuck: u64,
    /// Subscribers whose sinks failed for good: most often, the peer left.
    pub failed: u64,
    /// Keys whose latest value is remembered.
    pub keys: u64,
    /// Updates that were not remembered for snapshots, because there was room for no more keys.
    pub forgotten: u64,
    /// Updates handed to subscribers, snapshots not counted.
    pub offered: u64,
    /// Those of them that a subscriber's buffer did not take.
    pub missed: u64,
    /// Updates that subscribers' sinks took, snapshots included.
    pub delivered: u64,
    /// Updates that a subscriber's sink took a batch of and could not deal with, such as one that fits into no frame. Logged
    /// at debug level only: one op would be a line for each subscriber.
    pub refused: u64,
}

impl<T, Topic> Feed<T, Topic>
where
    T: Clone + Send + Sync + 'static,
    Topic: Hash + Eq + Clone + Send + Sync + 'static,
{
    /// Publishes an update, without waiting for anybody.
    ///
    /// # Errors
    ///
    /// Gives the update back if the feed is over, or, when the hub is far behind with updates that nothing replaces, as
    /// full.
    pub fn publish(&self, update: T) -> Result<(), TrySendError<T>> {
        self.handle.try_send(update)
    }

    /// A subscriber that writes to `sink`, to be told what it wants and [started](Subscribe::start).
    pub fn subscribe<S: Sink<T>>(&self, sink: S) -> Subscribe<T, Topic, S> {
        Subscribe::new(Arc::clone(&self.shared), sink, (self.usual_stages)())
    }

    /// Waits until all that was published so far is with the subscribers' batchers.
    ///
    /// # Errors
    ///
    /// If the feed is over.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn settled(&self) -> Result<(), Closed> {
        self.handle.flush().await.map(drop)
    }

    /// Counters and gauges. Costs the same whatever the number of subscribers.
    pub fn stats(&self) -> FanoutStats {
        let counts = &self.shared.counts;
        FanoutStats {
            feed: self.handle.stats(),
            subscribers: *self.shared.live.borrow() as u64,
            subscribed: counts.subscribed.load(Relaxed),
            closed: counts.closed.load(Relaxed),
            stuck: counts.stuck.load(Relaxed),
            failed: counts.failed.load(Relaxed),
            keys: counts.keys.load(Relaxed),
            forgotten: counts.forgotten.load(Relaxed),
            offered: counts.offered.load(Relaxed),
            missed: counts.missed.load(Relaxed),
            delivered: counts.delivered.load(Relaxed),
            refused: counts.refused.load(Relaxed),
        }
    }
}

impl<T, Topic> Clone for Feed<T, Topic> {
    fn clone(&self) -> Self {
        Self {
            handle: self.handle.clone(),
            shared: Arc::clone(&self.shared),
            usual_stages: Arc::clone(&self.usual_stages),
        }
    }
}

impl<T, Topic> fmt::Debug for Feed<T, Topic> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed").field("is_closed", &self.handle.is_closed()).finish_non_exhaustive()
    }
}
