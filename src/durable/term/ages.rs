//! [`Ages`]: when the ops that are not settled were accepted, frame by frame, so that a leader knows how far it lags behind.

use std::collections::VecDeque;

use crate::rules::time::Timestamp;

/// Acceptance times by the last position of their frames, in the order of the log.
#[derive(Debug, Default)]
pub(super) struct Ages(VecDeque<(u64, Timestamp)>);

impl Ages {
    /// A frame was read whose positions go up to `last`.
    pub(super) fn push(&mut self, last: u64, at: Timestamp) {
        self.0.push_back((last, at));
    }

    /// When the oldest op was accepted that is not settled; all positions below `cursor` are. `None` without such an op.
    pub(super) fn oldest(&mut self, cursor: u64) -> Option<Timestamp> {
        while self.0.front().is_some_and(|(last, _)| *last < cursor) {
            self.0.pop_front();
        }
        self.0.front().map(|(_, at)| *at)
    }
}
