//! The feed's sink: in comes a batch of updates, out they go through the hub. Next room: `hub`.

use std::{hash::Hash, sync::Arc};

use tokio_util::sync::DropGuard;

use super::hub::Shared;
use crate::{
    rules::batch::{Batch, Settled},
    sink::{Sink, SinkError},
};

/// So many updates are handed on before somebody else may have the hub: enough to make it cheap, few enough for a
/// subscriber that comes or goes.
const CHUNK: usize = 64;

pub(super) struct FeedSink<T, Topic> {
    shared: Arc<Shared<T, Topic>>,
    /// However the feed ends, its subscribers are told.
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
        // The feed tries nothing again, so that all of them are pending.
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
        // The sender is in `self.shared`, so it can't be gone.
        drop(self.shared.live.subscribe().wait_for(|live| *live == 0).await);
        Ok(())
    }
}
