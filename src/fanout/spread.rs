//! The feed's sink: in comes a batch of updates, out they go through the hub. Next room: `hub`.

use std::{hash::Hash, sync::Arc};

use super::hub::Shared;
use crate::{
    batch::{Batch, Settled},
    sink::{Sink, SinkError},
};

/// So many updates are handed on before somebody else may have the hub: enough to make it cheap, few enough for a
/// subscriber that comes or goes.
const CHUNK: usize = 64;

pub(super) struct Spread<T, S>(pub(super) Arc<Shared<T, S>>);

impl<T, S> Sink<T> for Spread<T, S>
where
    T: Clone + Send + Sync + 'static,
    S: Hash + Eq + Clone + Send + Sync + 'static,
{
    async fn write(&self, batch: &mut Batch<T>) -> Result<Settled, SinkError> {
        let Shared { hub, topic, counts, .. } = &*self.0;
        // The feed tries nothing again, so that all of them are pending.
        for ops in batch.ops().chunks(CHUNK) {
            hub.lock().await.spread(ops, topic, counts).await;
        }
        Ok(batch.accept_all())
    }

    async fn close(&self) -> Result<(), SinkError> {
        self.0.hub.lock().await.close();
        // The sender is in `self.0`, so it can't be gone.
        drop(self.0.live.subscribe().wait_for(|live| *live == 0).await);
        Ok(())
    }
}
