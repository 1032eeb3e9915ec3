//! [`Feed`], the publisher's handle, and [`FanoutStats`]. A feed publishes into the batcher of the fanout; it never
//! waits for a subscriber.

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

/// A cheap, clonable handle to a [`Fanout`](super::Fanout).
///
/// After the last one is dropped, the feed drains, then every subscriber drains, and their sinks are closed.
pub struct Feed<T, Topic> {
    pub(super) handle: Handle<T>,
    pub(super) shared: Arc<Shared<T, Topic>>,
    pub(super) usual_stages: Arc<dyn Fn() -> Stages<T> + Send + Sync>,
}

/// Counters and gauges of a [`Fanout`](super::Fanout). The statistics of a `WebSocket` count frames and bytes;
/// [`Subscription::stats`](super::Subscription::stats) has those of one subscriber.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct FanoutStats {
    /// The feed's own batcher: `delivered` counts updates that were published, `conflated` those that were replaced
    /// before.
    pub feed: Stats,
    /// Live subscribers, including those that are being closed.
    pub subscribers: u64,
    /// Subscribers that were ever started.
    pub subscribed: u64,
    /// Subscriptions that were closed.
    pub closed: u64,
    /// Subscribers that were dropped because they were stuck.
    pub stuck: u64,
    /// Subscribers whose sinks failed for good: usually the peer left.
    pub failed: u64,
    /// Keys whose latest value is remembered.
    pub keys: u64,
    /// Updates that are in no snapshot, because `max_keys` keys were remembered already.
    pub forgotten: u64,
    /// Updates handed to subscribers' buffers, snapshots not counted.
    pub offered: u64,
    /// Offered updates that a subscriber's buffer did not take.
    pub missed: u64,
    /// Updates that subscribers' sinks accepted, including snapshots.
    pub delivered: u64,
    /// Updates that a subscriber's sink refused one by one, such as one that fits into no frame. Logged at debug level
    /// only, because one update would give a line for each subscriber.
    pub refused: u64,
}

impl<T, Topic> Feed<T, Topic>
where
    T: Clone + Send + Sync + 'static,
    Topic: Hash + Eq + Clone + Send + Sync + 'static,
{
    /// Publishes an update, without waiting.
    ///
    /// # Errors
    ///
    /// Gives the update back if the feed has ended, or as full when the hub is far behind with updates that nothing
    /// replaces.
    pub fn publish(&self, update: T) -> Result<(), TrySendError<T>> {
        self.handle.try_send(update)
    }

    /// Returns a subscriber that writes to `sink`, to be given its topics and [started](Subscribe::start).
    pub fn subscribe<S: Sink<T>>(&self, sink: S) -> Subscribe<T, Topic, S> {
        Subscribe::new(Arc::clone(&self.shared), sink, (self.usual_stages)())
    }

    /// Waits until every update published so far is in the buffers of its subscribers.
    ///
    /// # Errors
    ///
    /// If the feed has ended.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn flush(&self) -> Result<(), Closed> {
        self.handle.flush().await.map(drop)
    }

    /// Returns counters and gauges. The cost does not depend on the number of subscribers.
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
