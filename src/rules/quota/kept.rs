//! [`KeptDraw`]: what was drawn from a bucket, as a durable log keeps it, so that a restart begins with what was used.

use std::sync::Arc;

use super::{Quota, Source, account::Account};
use crate::rules::time::Timestamp;

/// Costs drawn from one window of a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeptDraw {
    pub(crate) bucket: Arc<str>,
    /// A hash of the key, which is the same in each process; 0 for a bucket without keys.
    pub(crate) key: u64,
    pub(crate) at: Timestamp,
    pub(crate) cost: u64,
    /// When it stops counting.
    pub(crate) expires: Timestamp,
    /// Nanoseconds within which draws may be kept as one.
    pub(crate) grain: u64,
}

impl<T> Account<T> {
    /// `None` if the bucket is shared with other batchers.
    pub(super) fn kept_draw(&self, slot: u32, cost: u64, now: Timestamp) -> Option<KeptDraw> {
        let (window, key) = self.own_window(slot)?;
        let (expires, grain) = (window.expiry(now), window.grain());
        Some(KeptDraw { bucket: self.name_arc(), key, at: now, cost, expires, grain })
    }
}

impl<T> Quota<T> {
    /// Whether [`share`](Self::share) gives each shard a part of a bucket, for each of them.
    pub(crate) fn are_divided(&self) -> Vec<bool> {
        let is_divided = |source: &Source<T>| matches!(source, Source::Own(bucket) if bucket.key.is_none());
        self.buckets.iter().map(|(_, source)| is_divided(source)).collect()
    }

    /// The part of one of so many shards: all of each keyed bucket, and a share of the others.
    pub(crate) fn share(mut self, shards: u16) -> Self {
        for (_, source) in &mut self.buckets {
            if let Source::Own(bucket) = source
                && bucket.key.is_none()
                && let Some(numbers) = &mut bucket.numbers
            {
                numbers.limit /= u64::from(shards.max(1));
            }
        }
        self
    }
}
