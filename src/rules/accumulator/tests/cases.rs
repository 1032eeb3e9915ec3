//! Inputs of the accumulator and its model: ops, recipes of rules, and the ends of writes.

use std::time::Duration;

use crate::{
    Retry,
    rules::{config::limits::Limits, stage::Merge},
};

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Op {
    pub(crate) id: u32,
    pub(crate) part: u8,
    pub(crate) key: Option<u8>,
    pub(crate) dup: Option<u8>,
    pub(crate) level: u8,
    pub(crate) weight: usize,
    pub(crate) urgent: bool,
    /// In milliseconds since the start.
    pub(crate) expires: Option<u64>,
    pub(crate) meeting: Meeting,
}

/// Says what becomes of an op that meets a waiting one of its key.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Meeting {
    Replace,
    Yield,
    Net,
    Apart,
}

pub(crate) fn merge(waiting: Op, newer: Op) -> Merge<Op> {
    match newer.meeting {
        Meeting::Replace => Merge::Into(newer),
        Meeting::Yield => Merge::Into(waiting),
        Meeting::Net => Merge::Net,
        Meeting::Apart => Merge::Apart { waiting, newer },
    }
}

impl Op {
    /// An op of which no rule has anything to say.
    pub(crate) fn plain(self) -> Self {
        Self { weight: 1, urgent: false, expires: None, ..self }
    }
}

/// Which rules a run uses.
#[derive(Debug, Clone)]
pub(crate) struct Recipe {
    /// None at all.
    pub(crate) plain: bool,
    pub(crate) partition: bool,
    pub(crate) conflate: bool,
    pub(crate) dedup: Option<u64>,
    pub(crate) priority: bool,
    pub(crate) aging: Option<u64>,
    pub(crate) limits: Limits,
    pub(crate) max_attempts: u32,
    /// In milliseconds.
    pub(crate) give_up_after: Option<u64>,
    pub(crate) idempotent: bool,
    pub(crate) bisect: bool,
    pub(crate) page: Option<usize>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Rest {
    Accept,
    Transient,
    Ambiguous,
    /// Only for one op: it may have landed, and is to be tried again all the same.
    AmbiguousAgain,
    Refused,
    TooLarge,
    Throttled,
    /// The destination is away, and nothing landed.
    Outage,
    /// The connection was lost on the way.
    ConnectionLost,
    Panicked,
    Aborted,
}

pub(crate) const RETRY_BASE: Duration = Duration::from_millis(8);
pub(crate) const SEED: u64 = 5;

pub(crate) fn retry(recipe: &Recipe) -> Retry {
    let retry = Retry::exponential(RETRY_BASE, RETRY_BASE * 4).max_attempts(recipe.max_attempts).seed(SEED);
    match recipe.give_up_after {
        Some(limit) => retry.give_up_after(Duration::from_millis(limit)),
        None => retry,
    }
}

pub(crate) const THROTTLE: Duration = Duration::from_millis(30);

/// Verdicts as the steps encode them; `None` leaves the op to the rest.
pub(crate) fn verdict(verdicts: &[u8], i: usize) -> Option<Rest> {
    match verdicts.get(i)? {
        0 => Some(Rest::Accept),
        1 => Some(Rest::Transient),
        2 => Some(Rest::Refused),
        3 => Some(Rest::Ambiguous),
        4 => Some(Rest::AmbiguousAgain),
        5 => Some(Rest::Outage),
        _ => None,
    }
}
