//! [`QuotaStats`]: the use of each bucket of a quota, and how often a bucket held ops up.

use std::{fmt, ops::Index, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::rules::stats::Times;

/// The buckets of a [`Quota`](crate::Quota), in the order in which they were added; empty without a quota.
///
/// Indexed by the name of a bucket, which panics if there is none of that name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Whole", into = "Whole")]
pub struct QuotaStats {
    /// `None` without a quota: a copy of all statistics is made in each turn of the task.
    whole: Option<Box<Whole>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Whole {
    buckets: Vec<BucketStats>,
    time: Times,
}

/// Use of one bucket, as of when the batcher last cut or settled a batch. Nothing is counted while it is idle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BucketStats {
    /// Name of the bucket.
    #[serde(with = "text")]
    pub name: Arc<str>,
    /// Units that are used and count; of a keyed bucket, for the key that has used most. When that key's units have expired, the
    /// next one is known after as many batches as there are keys.
    pub used: u64,
    /// Units that may be used within a window.
    pub limit: u64,
    /// Times that a batch was trimmed, or not cut, because too little was left.
    pub waited: u64,
    /// Reports of the sink that were taken over.
    pub corrections: u64,
    /// Times that the destination asked for a pause.
    pub throttled: u64,
}

/// A name that is shared in memory, as a string of its own in serde.
mod text {
    use super::*;

    pub(super) fn serialize<S: serde::Serializer>(name: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(name)
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Arc<str>, D::Error> {
        String::deserialize(deserializer).map(Arc::from)
    }
}

impl QuotaStats {
    pub(crate) fn new(buckets: Vec<BucketStats>, time: Times) -> Self {
        Whole { buckets, time }.into()
    }

    /// The part of [`Stats::in_buffer`](crate::Stats::in_buffer) that ops were due and waited for the quota. It is not in
    /// [`Stats::waiting_time`](crate::Stats::waiting_time).
    pub fn time(&self) -> Times {
        self.whole.as_ref().map(|whole| whole.time).unwrap_or_default()
    }

    /// The bucket of that name.
    pub fn get(&self, name: &str) -> Option<&BucketStats> {
        self.iter().find(|bucket| &*bucket.name == name)
    }

    /// All buckets.
    pub fn iter(&self) -> std::slice::Iter<'_, BucketStats> {
        self.whole.as_ref().map_or(&[][..], |whole| &whole.buckets).iter()
    }

    /// Whether there is no bucket.
    pub fn is_empty(&self) -> bool {
        self.whole.is_none()
    }
}

impl From<Whole> for QuotaStats {
    fn from(whole: Whole) -> Self {
        Self { whole: (!whole.buckets.is_empty()).then(|| Box::new(whole)) }
    }
}

impl From<QuotaStats> for Whole {
    fn from(stats: QuotaStats) -> Self {
        stats.whole.map(|whole| *whole).unwrap_or_default()
    }
}

impl Index<&str> for QuotaStats {
    type Output = BucketStats;

    fn index(&self, name: &str) -> &BucketStats {
        self.get(name).unwrap_or_else(|| panic!("the quota has no bucket `{name}`"))
    }
}

impl<'a> IntoIterator for &'a QuotaStats {
    type Item = &'a BucketStats;
    type IntoIter = std::slice::Iter<'a, BucketStats>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for BucketStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, used, limit, .. } = self;
        f.pad(&format!("{name} {used}/{limit}"))
    }
}
