//! [`Caps`]: what the limits say, as far as it is looked at with each op or each cut. Made of [`Limits`] as a whole. Only the
//! number of ops in a batch changes in between: it is that of the [`BatchSize`](crate::rules::adaptive::BatchSize) in force.

use std::time::Duration;

use crate::rules::config::limits::{Limits, Overflow};

#[derive(Debug, Clone, Copy)]
pub(super) struct Caps {
    /// Ops accepted and not ended.
    pub(super) pending: usize,
    /// Ops in a batch, in force.
    pub(super) items: usize,
    /// Weight of a batch.
    pub(super) weight: usize,
    pub(super) in_flight: usize,
    pub(super) linger: Duration,
    pub(super) overflow: Overflow,
}

impl From<&Limits> for Caps {
    fn from(limits: &Limits) -> Self {
        Self {
            pending: limits.max_pending,
            items: limits.items(),
            weight: limits.weight(),
            in_flight: limits.max_in_flight,
            linger: limits.linger,
            overflow: limits.overflow,
        }
    }
}

impl Caps {
    /// Whether no more fits into a batch of so many ops and so much weight.
    #[inline]
    pub(super) fn is_full(&self, items: usize, weight: usize) -> bool {
        items >= self.items || weight >= self.weight
    }

    /// How full such a batch is, by whatever fills it more; 1 is full.
    pub(super) fn fill(&self, items: usize, weight: usize) -> f64 {
        (items as f64 / self.items as f64).max(weight as f64 / self.weight as f64)
    }
}
