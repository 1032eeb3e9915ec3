//! Inputs of the accumulator and its model: ops, recipes of rules, and the ends of writes.

use std::time::Duration;

use crate::{
    Retry,
    rules::{config::limits::Limits, stage::Merge},
};

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Op {
    pub(super) id: u32,
    pub(super) part: u8,
    pub(super) key: Option<u8>,
    pub(super) dup: Option<u8>,
    pub(super) level: u8,
    pub(super) weight: usize,
    pub(super) urgent: bool,
    /// In milliseconds since the start.
    pub(super) expires: Option<u64>,
    pub(super) meeting: Meeting,
}

/// Says what becomes of an op that meets a waiting one of its key.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Meeting {
    Replace,
    Yield,
    Net,
    Apart,
}

pub(super) fn merge(waiting: Op, newer: Op) -> Merge<Op> {
    match newer.meeting {
        Meeting::Replace => Merge::Into(newer),
        Meeting::Yield => Merge::Into(waiting),
        Meeting::Net => Merge::Net,
        Meeting::Apart => Merge::Apart { waiting, newer },
    }
}

impl Op {
    /// An op of which no rule has anything to say.
    pub(super) fn plain(self) -> Self {
        Self { weight: 1, urgent: false, expires: None, ..self }
    }
}

/// Which rules a run uses.
#[derive(Debug, Clone)]
pub(super) struct Recipe {
    /// None at all.
    pub(super) plain: bool,
    pub(super) partition: bool,
    pub(super) conflate: bool,
    pub(super) dedup: Option<u64>,
    pub(super) priority: bool,
    pub(super) aging: Option<u64>,
    pub(super) limits: Limits,
    pub(super) max_attempts: u32,
    /// In milliseconds.
    pub(super) give_up_after: Option<u64>,
    pub(super) idempotent: bool,
    pub(super) bisect: bool,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Rest {
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

pub(super) const RETRY_BASE: Duration = Duration::from_millis(8);
pub(super) const SEED: u64 = 5;

pub(super) fn retry(recipe: &Recipe) -> Retry {
    let retry = Retry::exponential(RETRY_BASE, RETRY_BASE * 4).max_attempts(recipe.max_attempts).seed(SEED);
    match recipe.give_up_after {
        Some(limit) => retry.give_up_after(Duration::from_millis(limit)),
        None => retry,
    }
}

pub(super) const THROTTLE: Duration = Duration::from_millis(30);

/// Verdicts as the steps encode them; `None` leaves the op to the rest.
pub(super) fn verdict(verdicts: &[u8], i: usize) -> Option<Rest> {
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
