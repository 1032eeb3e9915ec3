//! [`SizeStats`]: the largest batch that is cut just now, and why it is no larger.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The largest batch that is cut just now.
///
/// A batcher begins with [`max_items`](crate::Limits::max_items). Two failed writes in a row halve the cap, to half of the
/// size that failed; of batches refused as [`TooLarge`](crate::ErrorKind::TooLarge), the halves that land do not count in
/// between. A limit that the destination tells, [`SinkError::too_large_over`](crate::SinkError::too_large_over), holds at
/// once. Full batches that land raise the cap again, up to the size that failed, which is probed now and then. Outages and
/// throttling do not count.
///
/// With [`Limits::adaptive`](crate::Limits::adaptive) the cap also follows the time of writes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SizeStats {
    /// Ops in a batch, at most.
    pub cap: u64,
    /// Why the cap is what it is.
    pub reason: CapReason,
    /// Changes of the cap so far, without those by which sizes are compared.
    pub changes: u64,
    /// The smallest size that is too large by what the destination has said, and that has not landed since.
    pub too_large: Option<u64>,
}

/// Why the cap on the size of a batch is what it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CapReason {
    /// Nothing has lowered it: it is [`max_items`](crate::Limits::max_items).
    #[default]
    Free,
    /// Failures of large batches have lowered it.
    Halved,
    /// The destination refused a larger batch as too large.
    Refused,
    /// With [`Limits::adaptive`](crate::Limits::adaptive): larger batches have not been tried, or are being compared.
    Test,
    /// With [`Limits::adaptive`](crate::Limits::adaptive): larger batches were proven to take more time per op.
    Held,
}

impl CapReason {
    pub(crate) const ALL: [Self; 5] = [Self::Free, Self::Halved, Self::Refused, Self::Test, Self::Held];

    /// The name used in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Halved => "halved",
            Self::Refused => "refused",
            Self::Test => "test",
            Self::Held => "held",
        }
    }
}

impl fmt::Display for CapReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
