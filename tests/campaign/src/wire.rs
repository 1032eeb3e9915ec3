//! The words between victim and destination: a line of JSON for each request, and one for its answer.

use serde::{Deserialize, Serialize};

use crate::op::Op;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Request {
    /// The first on each connection. A gentle destination fails nothing and does not dawdle.
    Hello { life: u64, is_gentle: bool },
    /// A batch, and when the sink was called with it, in milliseconds since 1970.
    Write { begun: u64, ops: Vec<Op> },
    /// Asks what became of ops that an earlier life may have written.
    Ask { ops: Vec<Op> },
    /// Notes something between the arrivals.
    Mark(Mark),
}

/// An event of the victim, as the journal of the destination keeps it among the arrivals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Mark {
    /// A call of `pause` returned, and counted so many ops under way.
    Paused { under_way: u64 },
    /// The log was found paused.
    FoundPaused,
    /// `resume` is about to be called.
    Resuming,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// The verdicts on a batch, in the order of its ops.
    Verdicts(Vec<Verdict>),
    /// Nothing of the batch has landed.
    Busy,
    /// Nothing of the batch has landed, and it may be tried again at once.
    Throttled,
    /// Nothing of the batch has landed, since it has more ops than this.
    TooLarge(usize),
    Known(Vec<Known>),
    Noted,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Verdict {
    /// The op has landed, as this arrival.
    Landed(u64),
    Busy,
    Refused,
    /// The destination does not say whether the op has landed.
    Unclear,
}

/// The answer about one op that an earlier life may have written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Known {
    Landed(u64),
    /// The op has not landed, and the connection of that life has ended.
    Never,
    Refused,
    Unknown,
}

/// The fate of an op of a call, as the journal of the destination tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Fate {
    Landed,
    /// The op had landed before.
    Repeated,
    NotTaken,
    Refused,
}

/// A line of the journal of the destination. Lines are numbered from one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Line {
    Call { seq: u64, life: u64, begun: u64, ops: Vec<(Op, Fate)> },
    Mark { seq: u64, life: u64, mark: Mark },
}
