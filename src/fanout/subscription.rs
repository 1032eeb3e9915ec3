//! What a subscriber's owner holds. In come wishes for topics, out goes why the subscription ended. Next room: `hub`.

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
/// Dropping it ends the subscription: what waits is written, within the
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
    /// Wants these topics, too: their latest values come first. Those that are wanted already change nothing.
    ///
    /// # Errors
    ///
    /// See [`SubscribeError`]; nothing is changed then.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped may have sent the snapshot without the updates behind it: call it again, or drop the
    /// subscription.
    pub async fn add(&mut self, topics: impl IntoIterator<Item = Topic>) -> Result<(), SubscribeError> {
        let topics = topics.into_iter().collect();
        self.shared.hub.lock().await.subscribe(self.id, topics).await
    }

    /// Wants everything, topics that come later included.
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

    /// Wants these topics no more, and takes back what waits of them. What is being written is written; it comes back if
    /// that fails. Changes nothing for a subscriber that wants everything.
    ///
    /// # Cancel safety
    ///
    /// A future that was polled and is dropped may leave what waits to be sent.
    pub async fn remove(&mut self, topics: impl IntoIterator<Item = Topic>) {
        let topics: Vec<Topic> = topics.into_iter().collect();
        let gone = self.shared.hub.lock().await.unsubscribe(self.id, &topics);
        if gone.is_empty() {
            return;
        }
        let topic = Arc::clone(&self.shared.topic);
        // A subscription that has ended sends nothing anyway.
        let _ = self.handle.withdraw(move |op| gone.contains(&topic(op))).await;
    }
}

impl<T, Topic> Subscription<T, Topic> {
    /// The statistics of this subscriber's batcher: what it was sent, how much of it was conflated or evicted, what waits.
    pub fn stats(&self) -> Stats {
        self.handle.stats()
    }

    /// Whether it has ended.
    pub fn is_ended(&self) -> bool {
        self.ended.borrow().is_some()
    }

    /// Waits until it has ended and its sink is closed, and says why.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it only looks.
    pub async fn ended(&self) -> Ended {
        let mut ended = self.ended.clone();
        // A task that was killed says nothing.
        let ended = ended.wait_for(Option::is_some).await.map(|ended| ended.clone());
        ended.ok().flatten().unwrap_or(Ended::Closed)
    }

    /// Ends it: what waits is written, its sink is closed.
    ///
    /// # Cancel safety
    ///
    /// Once polled, it ends even if the future is dropped.
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
