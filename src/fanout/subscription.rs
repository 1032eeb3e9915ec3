//! [`Subscription`], the owner's handle of one subscriber. It changes topics, tells why the subscriber ended, and ends
//! it when dropped.

use std::{fmt, hash::Hash, sync::Arc};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    error::{Ended, SubscribeError},
    hub::Shared,
};
use crate::{Handle, rules::stats::Stats};

/// One subscriber of a [`Feed`](super::Feed), from [`Feed::subscribe`](super::Feed::subscribe).
///
/// Dropping it ends the subscription: waiting updates are written, within the
/// [`shutdown_timeout`](crate::Limits::shutdown_timeout) of its limits, and its sink is closed.
#[must_use = "a subscription ends when it is dropped"]
pub struct Subscription<T, Topic> {
    pub(super) id: u64,
    pub(super) shared: Arc<Shared<T, Topic>>,
    pub(super) handle: Handle<T>,
    pub(super) stop: CancellationToken,
    pub(super) ended: watch::Receiver<Option<Ended>>,
}

impl<T, Topic> Subscription<T, Topic>
where
    T: Clone + Send + Sync + 'static,
    Topic: Hash + Eq + Clone + Send + Sync + 'static,
{
    /// Subscribes to these topics; their latest values come first. Topics that are subscribed already are skipped.
    ///
    /// # Errors
    ///
    /// See [`SubscribeError`]; the subscription is unchanged then.
    ///
    /// # Cancel safety
    ///
    /// A dropped future may have sent the snapshot without the updates that follow. Call it again, or drop the
    /// subscription.
    pub async fn add(&mut self, topics: impl IntoIterator<Item = Topic>) -> Result<(), SubscribeError> {
        let topics = topics.into_iter().collect();
        self.shared.hub.lock().await.subscribe(self.id, topics).await
    }

    /// Subscribes to all topics, including those that come later.
    ///
    /// # Errors
    ///
    /// As [`add`](Self::add).
    ///
    /// # Cancel safety
    ///
    /// As [`add`](Self::add).
    pub async fn add_all(&mut self) -> Result<(), SubscribeError> {
        self.shared.hub.lock().await.subscribe_all(self.id).await
    }

    /// Unsubscribes and withdraws waiting updates of these topics. An update that is being written may still arrive;
    /// after a failed write it is withdrawn. Does nothing for a subscriber to all topics.
    ///
    /// # Cancel safety
    ///
    /// A future that was polled and dropped may leave waiting updates to be sent.
    pub async fn remove(&mut self, topics: impl IntoIterator<Item = Topic>) {
        let topics: Vec<Topic> = topics.into_iter().collect();
        let gone = self.shared.hub.lock().await.unsubscribe(self.id, &topics);
        if gone.is_empty() {
            return;
        }
        let topic = Arc::clone(&self.shared.topic);
        // An error means that the subscription has ended: it sends nothing anyway.
        let _ = self.handle.withdraw(move |op| gone.contains(&topic(op))).await;
    }
}

impl<T, Topic> Subscription<T, Topic> {
    /// Returns the statistics of this subscriber's batcher: updates sent, conflated, evicted and waiting.
    pub fn stats(&self) -> Stats {
        self.handle.stats()
    }

    /// Whether the subscription has ended.
    pub fn is_ended(&self) -> bool {
        self.ended.borrow().is_some()
    }

    /// Waits until the subscription has ended and its sink is closed, and returns the reason.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the future only observes.
    pub async fn ended(&self) -> Ended {
        let mut ended = self.ended.clone();
        // A task that was killed leaves no reason.
        let ended = ended.wait_for(Option::is_some).await.map(|ended| ended.clone());
        ended.ok().flatten().unwrap_or(Ended::Closed)
    }

    /// Ends the subscription: waiting updates are written, and its sink is closed.
    ///
    /// # Cancel safety
    ///
    /// Once polled, the subscription ends even if the future is dropped.
    pub async fn close(self) -> Ended {
        self.stop.cancel();
        self.ended().await
    }
}

impl<T, Topic> Drop for Subscription<T, Topic> {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl<T, Topic> fmt::Debug for Subscription<T, Topic> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("id", &self.id).field("is_ended", &self.is_ended()).finish_non_exhaustive()
    }
}
