//! [`Command`] and [`Control`]: what crosses from the handles to the task. Ops carry the permit that they keep until they are
//! settled.

use std::time::Duration;

use tokio::sync::oneshot;

use crate::{
    driver::{handle::error::SendError, reply::AckSender},
    rules::{accumulator::Run, config::limits::Limits, stats::flush::Flush, time::Timestamp},
};

pub(crate) enum Command<T> {
    /// The next ops of those that were sent.
    Ops(Run),
    Flush(Box<Flush>),
    Withdraw {
        wanted: Box<dyn FnMut(&T) -> bool + Send>,
        reply: oneshot::Sender<Vec<T>>,
    },
}

impl<T> Command<T> {
    /// The run of ops, if it is one.
    pub(crate) fn run(&self) -> Option<Run> {
        match self {
            Self::Ops(run) => Some(*run),
            Self::Flush(_) | Self::Withdraw { .. } => None,
        }
    }
}

/// An op on its way in.
pub(crate) struct Submission<T, R> {
    pub(crate) op: T,
    /// When its caller sent it, if not just now.
    pub(crate) at: Option<Timestamp>,
    pub(crate) ack: Option<AckSender<R>>,
}

impl<T, R> Submission<T, R> {
    pub(crate) fn new(op: T) -> Self {
        Self { op, at: None, ack: None }
    }
}

/// How an op obtains its permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// The op takes a permit if one is available, or evicts another op if that is the policy.
    TryAcquire,
    /// The op holds a permit.
    Permit,
    /// The op waited for a permit: the buffer was full, so no op that waits now is to linger.
    Queued,
}

/// Why a handle's command was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PushError {
    Closed,
    Full,
}

impl PushError {
    /// The error that gives the op back.
    #[cold]
    pub(crate) fn error<T>(self, op: T) -> SendError<T> {
        match self {
            Self::Closed => SendError::Closed(op),
            Self::Full => SendError::Full(op),
        }
    }

    /// The same for an op that was not taken out of its slot.
    #[cold]
    pub(crate) fn give_back<T, R>(self, submission: &mut Option<Submission<T, R>>) -> SendError<T> {
        self.error(submission.take().expect("an op that is not admitted stays in its slot").op)
    }
}

/// Control state that handles set beside the commands. The last writer wins, so requests do not pile up.
#[derive(Debug, Default)]
pub(crate) struct Control {
    pub(crate) limits: Option<Limits>,
    pub(crate) paused: Option<bool>,
    /// Callers to be told that the pause or resume is in force, or that a later request has replaced it.
    pub(crate) pausing: Vec<oneshot::Sender<()>>,
    /// A sender waits for a permit.
    pub(crate) under_pressure: bool,
    /// Drain and end; within this time, if one is given.
    pub(crate) stop: Option<Stop>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stop {
    pub(crate) within: Option<Duration>,
    /// No handle is left to resume a paused batcher.
    pub(crate) no_handles_left: bool,
}

impl Control {
    /// Merges a request to stop with an earlier one.
    pub(crate) fn stop(&mut self, within: Option<Duration>, no_handles_left: bool) {
        let before = self.stop;
        self.stop = Some(Stop {
            within: within.or(before.and_then(|stop| stop.within)),
            no_handles_left: no_handles_left || before.is_some_and(|stop| stop.no_handles_left),
        });
    }

    pub(crate) fn is_none(&self) -> bool {
        self.limits.is_none() && self.paused.is_none() && !self.under_pressure && self.stop.is_none()
    }
}
