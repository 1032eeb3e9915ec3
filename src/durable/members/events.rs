//! Events of the tasks that renew leases, each of which is emitted here alone, whatever the engine.

use std::fmt::Display;

use tracing::{info, warn};

/// This process has not shown that it is alive.
pub(crate) fn can_not_renew(error: impl Display) {
    warn!(%error, "a process can't renew its leases");
}

/// This process has left, and the others will take it for dead.
pub(crate) fn left_in_silence(error: impl Display) {
    warn!(%error, "a process has left without saying so");
}

/// A process that was silent for an hour is no member any more.
pub(crate) fn dead_was_removed(producer: u64) {
    info!(producer, "a process that died was removed from the log");
}
