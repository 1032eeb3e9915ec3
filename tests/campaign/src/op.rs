//! [`Op`]: the ops that the victim sends. Each carries the numbers of all calls that it stands for, so that the judge can tell
//! that nothing vanished in a merge.

use std::time::{Duration, SystemTime};

use roundlot::{Stages, stage::Merge};
use serde::{Deserialize, Serialize};

/// How an op merges with another one of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Kind {
    /// Never merges.
    Plain,
    /// The newer price replaces the waiting one.
    Price,
    /// An order, which nets with its cancel while both wait.
    New,
    Cancel,
    /// Two sums become one with the numbers of both.
    Sum,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Op {
    /// Numbers of the calls that it stands for, in the order of acceptance.
    pub(crate) numbers: Vec<u64>,
    pub(crate) kind: Kind,
    pub(crate) partition: u8,
    /// The key of conflation, within the kind.
    pub(crate) key: u64,
    /// Greater levels leave first.
    pub(crate) level: u8,
    /// Selects ops to withdraw. Zero is never withdrawn.
    pub(crate) tag: u8,
    /// When it expires, in milliseconds since 1970.
    pub(crate) expires: Option<u64>,
}

/// Lives times this, plus a sender times [`SENDER`], plus a count, make a number.
const LIFE: u64 = 1_000_000_000;
const SENDER: u64 = 1_000_000;

/// The number of a call. Those of one sender rise in the order of its calls, over all lives.
pub(crate) fn number(life: u64, sender: u64, count: u64) -> u64 {
    life * LIFE + sender * SENDER + count
}

/// The sender of a call.
pub(crate) fn sender_of(number: u64) -> u64 {
    number % LIFE / SENDER
}

impl Op {
    /// The number of its first call, which names it at the destination.
    pub(crate) fn first(&self) -> u64 {
        self.numbers.first().copied().unwrap_or_default()
    }

    /// The key under which it meets others.
    pub(crate) fn conflation_key(&self) -> Option<(u8, u64)> {
        match self.kind {
            Kind::Plain => None,
            Kind::Price => Some((0, self.key)),
            Kind::New | Kind::Cancel => Some((1, self.key)),
            Kind::Sum => Some((2, self.key)),
        }
    }
}

fn merge(mut waiting: Op, newer: Op) -> Merge<Op> {
    match (waiting.kind, newer.kind) {
        (Kind::Price, Kind::Price) => Merge::Into(newer),
        (Kind::Sum, Kind::Sum) => {
            waiting.numbers.extend(newer.numbers);
            Merge::Into(waiting)
        }
        (Kind::New, Kind::Cancel) => Merge::Net,
        _ => Merge::Apart { waiting, newer },
    }
}

/// The rules under which ops wait.
pub(crate) fn stages() -> Stages<Op> {
    Stages::new()
        .partition_by(|op: &Op| op.partition)
        .conflate_by(Op::conflation_key, merge)
        .priority_by(|op: &Op| op.level)
        .expire_at(|op: &Op| op.expires.map(|at| SystemTime::UNIX_EPOCH + Duration::from_millis(at)))
}

/// Milliseconds since 1970.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
