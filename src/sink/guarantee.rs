//! [`Guarantee`]: what a sink can promise about an op that is written twice. Durable batchers ask for it.

use serde::{Deserialize, Serialize};

/// The promise of a sink about an op that is written twice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Guarantee {
    /// An op that is written again lands once: it has a key of its own at the destination, or sets a value. After a crash a
    /// durable batcher sends again what may have landed.
    Idempotent,
    /// An op takes effect exactly once: its rows, and the record that it is settled, are one transaction, which
    /// `Term::transaction` runs. Nothing is in doubt after a crash, so that no intent is recorded before a write.
    Transactional,
    /// An op that is written again may land twice. After a crash a durable batcher asks
    /// [`Sink::reconcile`](crate::Sink::reconcile), and never sends again what may have landed.
    #[default]
    Unknown,
}
