//! [`FeedSink`], the sink of the feed's batcher: it publishes each batch through the hub. When it is dropped or closed,
//! the fanout is over.

use std::{hash::Hash, sync::Arc};

use tokio_util::sync::DropGuard;

use super::hub::Shared;
use crate::{
    rules::batch::{Batch, Settled},
    sink::{Sink, SinkError},
};

/// Updates published under one hold of the hub's lock. They are enough to make the lock cheap, and few enough that
/// subscribing waits for microseconds.
const CHUNK: usize = 64;

pub(super) struct FeedSink<T, Topic> {
    shared: Arc<Shared<T, Topic>>,
    /// Ends the subscribers however the feed ends.
    _over: DropGuard,
}

impl<T, Topic> FeedSink<T, Topic> {
    pub(super) fn new(shared: Arc<Shared<T, Topic>>) -> Self {
        let _over = shared.over.clone().drop_guard();
        Self { shared, _over }
    }
}

impl<T, Topic> Sink<T> for FeedSink<T, Topic>
where
    T: Clone + Send + Sync + 'static,
    Topic: Hash + Eq + Clone + Send + Sync + 'static,
{
    async fn write(&self, batch: &mut Batch<T>) -> Result<Settled, SinkError> {
        let Shared { hub, topic, counts, .. } = &*self.shared;
        let mut panicked = Vec::new();
        // The feed never retries, so every op of the batch is pending.
        for (n, ops) in batch.ops().chunks(CHUNK).enumerate() {
            let found = hub.lock().await.publish(ops, topic, counts).await;
            panicked.extend(found.into_iter().map(|panicked| (n * CHUNK + panicked.op, panicked.error)));
        }
        for (i, error) in panicked {
            batch.refuse(i, error);
        }
        Ok(batch.accept_all())
    }

    async fn close(&self) -> Result<(), SinkError> {
        self.shared.over.cancel();
        // The wait cannot fail: `self.shared` holds the sender.
        drop(self.shared.live.subscribe().wait_for(|live| *live == 0).await);
        Ok(())
    }
}
