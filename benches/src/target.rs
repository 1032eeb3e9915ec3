//! Where everything goes: a destination that takes ops at once. In come batches, out comes how many ops arrived.

use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use roundlot::{Batch, Settled, Sink, SinkError};

use crate::op::Op;

/// Takes ops and counts them. The compiler is told that somebody looks at them.
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

    /// # Panics
    ///
    /// Unless exactly `ops` have arrived: a bench must not be able to lie.
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
