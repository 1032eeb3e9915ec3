//! [`Budget`]: how much a task may do before it publishes its results and yields. The actor renews it whenever other tasks
//! have had their turn.

use std::time::Duration;

use crate::rules::time::Timestamp;

/// Ops processed per turn before the task yields: about 100 us of work, and more than a sender sends before it yields.
pub(super) const WORK_PER_TURN: usize = 8192;

/// Maximum time between two publications of results while writes complete synchronously.
const TURN: Duration = Duration::from_micros(200);

pub(super) struct Budget {
    /// When other tasks last had their turn.
    since: Timestamp,
    /// Ops drained or cut since then.
    work: usize,
}

impl Budget {
    pub(super) fn new(now: Timestamp) -> Self {
        Self { since: now, work: 0 }
    }

    pub(super) fn spend(&mut self, ops: usize) {
        self.work += ops;
    }

    /// Whether the task has done so much that it has to yield.
    pub(super) fn is_spent(&self) -> bool {
        self.work >= WORK_PER_TURN
    }

    /// The same by the clock, which is asked where a write has just completed.
    pub(super) fn is_spent_at(&self, now: Timestamp) -> bool {
        self.is_spent() || now.since(self.since) >= TURN
    }

    /// Leaves nothing for this turn.
    pub(super) fn exhaust(&mut self) {
        self.work = WORK_PER_TURN;
    }
}
