//! [`Plan`]: what one life of the victim does, as the driver draws it from a seed.

use std::path::PathBuf;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::op::Op;

/// The sort of a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Sort {
    /// Knows an op that comes twice by its first number.
    Idempotent,
    /// Lands an op as often as it comes, and can't be asked.
    Unknown,
    /// Lands an op as often as it comes, and can be asked what has landed.
    Asked,
    /// Rows in the log's own file, written in one transaction with the record of what is settled.
    Transactional,
}

impl Sort {
    pub(crate) const ALL: [Self; 4] = [Self::Idempotent, Self::Unknown, Self::Asked, Self::Transactional];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Idempotent => "idempotent",
            Self::Unknown => "unknown",
            Self::Asked => "asked",
            Self::Transactional => "transactional",
        }
    }
}

/// The steps of the library at which a victim can be killed, each before and after it. See `src/durable/step.rs`.
pub(crate) const STEPS: [&str; 19] = [
    "append",
    "commit",
    "mark",
    "term",
    "recovery",
    "reconcile",
    "intent",
    "write",
    "transaction",
    "settlement",
    "outcome",
    "pause",
    "withdrawal",
    "requeue",
    "discard",
    "compaction",
    "purge",
    "vacuum",
    "close",
];

/// A point at which the victim kills itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Failpoint {
    pub(crate) step: String,
    /// `before` or `after`.
    pub(crate) at: String,
}

impl Failpoint {
    /// All of them that a victim with such a destination passes.
    pub(crate) fn all(sort: Sort) -> Vec<Self> {
        let steps = STEPS.into_iter().filter(|step| match *step {
            "reconcile" => sort == Sort::Asked,
            "intent" => sort != Sort::Transactional,
            "transaction" => sort == Sort::Transactional,
            _ => true,
        });
        let both = |step: &str| ["before", "after"].map(|at| Self { step: step.to_owned(), at: at.to_owned() });
        steps.flat_map(both).collect()
    }
}

/// The file of the log, in the folder of a plan.
pub(crate) const LOG: &str = "orders.db";

/// Calls that the victim hastens to make, besides sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Bent {
    /// A bit of everything.
    Mixed,
    Pause,
    Withdraw,
    Requeue,
    Discard,
    /// Pauses and sends nothing, so that the log is idle.
    Idle,
    /// Leaves the log.
    Leave,
}

/// A call of an earlier life whose op is sent again, under the same id.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Again {
    pub(crate) id: String,
    pub(crate) op: Op,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) folder: PathBuf,
    pub(crate) sort: Sort,
    /// Counts the lives on one log, from one.
    pub(crate) life: u64,
    pub(crate) seed: u64,
    pub(crate) bent: Bent,
    /// Where the victim kills itself, and at which hit.
    pub(crate) failpoint: Option<(Failpoint, u64)>,
    /// The horizon of outcomes in milliseconds.
    pub(crate) horizon: u64,
    /// Shards of the log.
    pub(crate) shards: u16,
    pub(crate) again: Vec<Again>,
    /// Set for the last life, which drains the log and asks for the outcomes of these ids.
    pub(crate) ids: Option<Vec<String>>,
}
