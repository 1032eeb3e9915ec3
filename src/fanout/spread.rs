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

pub(super) struct Spread<T, S> {
    shared: Arc<Shared<T, S>>,
    /// However the feed ends, its subscribers are told.
    _over: DropGuard,
}

impl<T, S> Spread<T, S> {
    pub(super) fn new(shared: Arc<Shared<T, S>>) -> Self {
        let _over = shared.over.clone().drop_guard();
        Self { shared, _over }
    }
}

impl<T, S> Sink<T> for Spread<T, S>
where
    T: Clone + Send + Sync + 'static,
    S: Hash + Eq + Clone + Send + Sync + 'static,
{
    async fn write(&self, batch: &mut Batch<T>) -> Result<Settled, SinkError> {
        let Shared { hub, topic, counts, .. } = &*self.shared;
        let mut faults = Vec::new();
        // The feed tries nothing again, so that all of them are pending.
        for (n, ops) in batch.ops().chunks(CHUNK).enumerate() {
            let found = hub.lock().await.spread(ops, topic, counts).await;
            faults.extend(found.into_iter().map(|fault| (n * CHUNK + fault.op, fault.error)));
        }
        for (i, error) in faults {
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
