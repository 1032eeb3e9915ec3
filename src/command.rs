//! What crosses from the handles to the task: ops, each with a permit that covers it until it is settled, and wishes. Next
//! room: `inbox`, on which they cross.

use std::time::Duration;

use tokio::sync::oneshot;

use crate::{accumulator::Arrival, error::SendError, flush::Flush, limits::Limits};

pub(crate) enum Command<T, R> {
    /// An op. One that is not `paid` for took no permit: it makes its own room by evicting another.
    Op {
        arrival: Arrival<T, R>,
        paid: bool,
    },
    Flush(Flush),
    Withdraw {
        wanted: Box<dyn FnMut(&T) -> bool + Send>,
        reply: oneshot::Sender<Vec<T>>,
    },
}

impl<T, R> Command<T, R> {
    pub(crate) fn into_op(self) -> Option<T> {
        match self {
            Self::Op { arrival, .. } => Some(arrival.op),
            _ => None,
        }
    }
}

/// How an op comes to its place in the buffer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pass {
    /// It has a permit; otherwise it makes its own room by evicting another.
    pub(crate) paid: bool,
    /// It had to wait for room: there was none, and so nothing that waits now is to linger.
    pub(crate) stood_in_line: bool,
}

impl Pass {
    /// With a permit that was there.
    pub(crate) const PAID: Self = Self { paid: true, stood_in_line: false };
    /// With one that had to be waited for.
    pub(crate) const WAITED: Self = Self { paid: true, stood_in_line: true };
    pub(crate) const UNPAID: Self = Self { paid: false, stood_in_line: false };
}

/// Why a handle's command was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Barred {
    Closed,
    Full,
}

impl Barred {
    /// The error that gives the op back.
    pub(crate) fn error<T>(self, op: T) -> SendError<T> {
        match self {
            Self::Closed => SendError::Closed(op),
            Self::Full => SendError::Full(op),
        }
    }
}

/// What handles want of the task besides commands. The last wish counts, so that wishes do not pile up.
#[derive(Debug, Default)]
pub(crate) struct News {
    pub(crate) limits: Option<Limits>,
    pub(crate) paused: Option<bool>,
    /// A sender waits for room.
    pub(crate) pressed: bool,
    /// Drain and end; within this time, if one is given.
    pub(crate) stop: Option<Stop>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stop {
    pub(crate) within: Option<Duration>,
    /// Nobody is left who could resume a paused batcher.
    pub(crate) deserted: bool,
}

impl News {
    /// Adds a wish to stop to one that may be there already.
    pub(crate) fn stop(&mut self, within: Option<Duration>, deserted: bool) {
        let before = self.stop;
        self.stop = Some(Stop {
            within: within.or(before.and_then(|stop| stop.within)),
            deserted: deserted || before.is_some_and(|stop| stop.deserted),
        });
    }

    pub(crate) fn is_none(&self) -> bool {
        self.limits.is_none() && self.paused.is_none() && !self.pressed && self.stop.is_none()
    }
}
