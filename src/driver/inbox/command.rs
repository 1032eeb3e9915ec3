//! [`Command`] and [`News`]: what crosses from the handles to the task. Ops carry the permit that they keep until they are
//! settled.

use std::time::Duration;

use tokio::sync::oneshot;

use crate::{
    driver::handle::error::SendError,
    rules::{accumulator::Run, config::limits::Limits, outcome::AckSender, stats::flush::Flush, time::Moment},
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
    pub(crate) fn into_run(self) -> Option<Run> {
        match self {
            Self::Ops(run) => Some(run),
            Self::Flush(_) | Self::Withdraw { .. } => None,
        }
    }
}

/// An op on its way in.
pub(crate) struct Parcel<T, R> {
    pub(crate) op: T,
    /// When its caller sent it, if not just now.
    pub(crate) at: Option<Moment>,
    pub(crate) ack: Option<AckSender<R>>,
}

impl<T, R> Parcel<T, R> {
    pub(crate) fn new(op: T) -> Self {
        Self { op, at: None, ack: None }
    }
}

/// How an op comes to its room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pass {
    /// It takes some if there is some, or makes its own by evicting another op if that is the policy.
    Free,
    /// It has a permit.
    Paid,
    /// It had to wait for it: there was none, and so nothing that waits now is to linger.
    Waited,
}

/// Why a handle's command was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Barred {
    Closed,
    Full,
}

impl Barred {
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
    pub(crate) fn give_back<T, R>(self, parcel: &mut Option<Parcel<T, R>>) -> SendError<T> {
        self.error(parcel.take().expect("what is not let in stays where it is").op)
    }
}

/// What handles want of the task besides commands. The last wish counts, so that wishes do not pile up.
#[derive(Debug, Default)]
pub(crate) struct News {
    pub(crate) limits: Option<Limits>,
    pub(crate) paused: Option<bool>,
    /// Callers to be told that the wish to pause or resume is fulfilled, or that a later one has replaced it.
    pub(crate) pausing: Vec<oneshot::Sender<()>>,
    /// A sender waits for room.
    pub(crate) pressed: bool,
    /// Drain and end; within this time, if one is given.
    pub(crate) stop: Option<Stop>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stop {
    pub(crate) within: Option<Duration>,
    /// No handle is left to resume a paused batcher.
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
