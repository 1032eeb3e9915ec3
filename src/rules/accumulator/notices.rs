//! [`Notices`]: what has happened in a turn that a log should tell. One entry for each kind of event with a count, however
//! many ops it concerns. The accumulator adds to it; the driver takes it at the end of the turn and logs it.

use std::time::Duration;

use super::gate::Recovery;
use crate::rules::{
    adaptive::{CapEvent, Proof},
    batch::SinkError,
};

#[derive(Debug, Default)]
pub(crate) struct Notices {
    /// Ops that go back into the buffer, to be tried again.
    pub(crate) retries: Option<RetryNotice>,
    /// The destination is away.
    pub(crate) outage: Option<OutageNotice>,
    /// The destination answers again.
    pub(crate) recovery: Option<Recovery>,
    /// Panics of the user's functions, and what the first of them said.
    pub(crate) panics: Option<(u64, String)>,
    /// A sink reported on a bucket that the quota does not have.
    pub(crate) unknown_bucket: Option<Box<str>>,
    /// Changes of the cap on the size of a batch.
    pub(crate) caps: CapNotices,
}

/// Changes of the cap, the last one of each kind.
#[derive(Debug, Default)]
pub(crate) struct CapNotices {
    /// The new cap, and the size that failed.
    pub(crate) lowered: Option<(usize, usize)>,
    pub(crate) restored: Option<usize>,
    pub(crate) held: Option<Proof>,
    pub(crate) released: Option<Proof>,
}

impl CapNotices {
    pub(super) fn add(&mut self, event: CapEvent) {
        match event {
            CapEvent::Lowered { cap, failed } => self.lowered = Some((cap, failed)),
            CapEvent::Restored { cap } => self.restored = Some(cap),
            CapEvent::Held(proof) => self.held = Some(proof),
            CapEvent::Released(proof) => self.released = Some(proof),
        }
    }
}

#[derive(Debug)]
pub(crate) struct RetryNotice {
    pub(crate) ops: u64,
    /// The next attempt of the op that was tried most often.
    pub(crate) attempt: u32,
    /// The longest pause among them.
    pub(crate) pause: Duration,
    /// The first error.
    pub(crate) error: SinkError,
}

#[derive(Debug)]
pub(crate) struct OutageNotice {
    pub(crate) is_new: bool,
    /// Ops of the writes that met it and go back into the buffer.
    pub(crate) ops: u64,
    /// Ops that were given up because the outage lasted too long.
    pub(crate) given_up: u64,
    /// Writes in a row that met it.
    pub(crate) failures: u32,
    pub(crate) pause: Duration,
    /// The last error.
    pub(crate) error: SinkError,
}

impl Notices {
    pub(super) fn retry(&mut self, ops: u64, attempt: u32, pause: Duration, error: &SinkError) {
        match &mut self.retries {
            Some(notice) => {
                notice.ops += ops;
                notice.attempt = notice.attempt.max(attempt);
                notice.pause = notice.pause.max(pause);
            }
            None => self.retries = Some(RetryNotice { ops, attempt, pause, error: error.clone() }),
        }
    }

    pub(super) fn panicked(&mut self, message: impl FnOnce() -> String) {
        match &mut self.panics {
            Some((count, _)) => *count += 1,
            None => self.panics = Some((1, message())),
        }
    }
}
