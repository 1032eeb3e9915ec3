//! Upkeep of the log by the leader of a shard: frames become smaller, and old outcomes are forgotten.

use std::{sync::Arc, time::Duration};

use super::running::Running;
use crate::{
    durable::{
        log::{Purge, local::nanos},
        step::Step,
    },
    rules::time::Timestamp,
    sink::Sink,
};

/// The pause before outcomes are purged again.
const PURGE_EVERY: Duration = Duration::from_secs(10);

impl<T, R, S> Running<'_, T, R, S>
where
    T: Send + 'static,
    R: Clone + Send + 'static,
    S: Sink<T, R>,
{
    /// Leaves the bytes of settled ops out of frames that hold few others.
    pub(super) fn compact(&mut self) {
        let sparse = self.kept.take_sparse();
        if !sparse.is_empty() {
            let (shared, shard) = (Arc::clone(&self.leader.shared), self.leader.shard);
            tokio::spawn(async move {
                // A failure costs room, and nothing else.
                let _ = shared.log.compact(shard, sparse).await;
            });
        }
    }

    /// Forgets outcomes older than the horizon, a few at a time.
    pub(super) fn purge(&mut self, now: Timestamp) {
        if now < self.purge_at {
            return;
        }
        self.purge_at = now.checked_add(PURGE_EVERY).unwrap_or(Timestamp::END);
        let (shared, shard) = (Arc::clone(&self.leader.shared), self.leader.shard);
        let before = shared.log.now().checked_sub(shared.horizon).map_or(0, crate::durable::log::local::nanos);
        let purge = Purge { before, now: nanos(shared.log.now()), open: self.flagged.lowest(), unread: self.next };
        tokio::spawn(async move {
            Step::Purge.before();
            while matches!(shared.log.purge(shard, purge.clone()).await, Ok(true)) {}
            Step::Purge.after();
        });
    }
}
