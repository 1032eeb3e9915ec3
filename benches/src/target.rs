//! The destination of all peers, which takes ops without waiting and counts them.

use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use roundlot::{Batch, Settled, Sink, SinkError};

use crate::op::Op;

/// A destination that counts ops. `black_box` keeps the compiler from optimizing the ops away. Clones share the count.
#[derive(Debug, Clone, Default)]
pub struct Target {
    arrived: Arc<AtomicU64>,
}

impl Target {
    pub fn take(&self, ops: &[Op]) {
        self.arrived.fetch_add(black_box(ops).len() as u64, Ordering::Relaxed);
    }

    pub fn arrived(&self) -> u64 {
        self.arrived.load(Ordering::Acquire)
    }

    /// Checks the count, so that a variant that loses ops has no figures.
    ///
    /// # Panics
    ///
    /// Panics unless exactly `ops` ops have arrived.
    pub fn check(&self, ops: u64) {
        assert_eq!(self.arrived(), ops, "ops that arrived");
    }
}

impl Sink<Op> for Target {
    async fn write(&self, batch: &mut Batch<Op>) -> Result<Settled, SinkError> {
        self.take(batch.ops());
        Ok(batch.accept_all())
    }
}
