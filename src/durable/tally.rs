//! [`Tallies`]: how ops ended since each handle was last told by a flush. Leaders count what has committed; handles read it.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use serde::{Deserialize, Serialize};

use crate::rules::{batch::SinkError, outcome::Outcomes};

/// A report keeps this many errors; the counts tell how many there were.
const MAX_ERRORS: usize = 8;

/// Counts of the ops that ended since this handle's last flush, in the log for good.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FlushReport {
    /// How many ops of this handle ended in each way.
    pub outcomes: Outcomes,
    /// How many ops of all other handles did, and of processes before this one.
    pub others: Outcomes,
    /// The first errors, at most eight, of ops of this handle that were refused, exhausted or in doubt.
    pub errors: Vec<SinkError>,
}

impl FlushReport {
    /// Whether no op of this handle failed: none was refused, exhausted, is in doubt, or was lost.
    pub fn is_ok(&self) -> bool {
        self.outcomes.failed() == 0
    }
}

#[derive(Debug, Default)]
pub(crate) struct Tallies {
    state: Mutex<State>,
    next_handle: AtomicU32,
}

#[derive(Debug, Default)]
struct State {
    total: Outcomes,
    handles: HashMap<u32, Tally>,
}

#[derive(Debug, Default)]
struct Tally {
    own: Outcomes,
    errors: Vec<SinkError>,
    /// The total when the handle was last told, or made.
    told: Outcomes,
}

impl Tallies {
    /// The number of a new handle. Ops of no handle of this process have the number 0.
    pub(crate) fn add_handle(&self) -> u32 {
        let handle = self.next_handle.fetch_add(1, Ordering::Relaxed) + 1;
        let mut state = self.state();
        let told = state.total;
        state.handles.insert(handle, Tally { told, ..Tally::default() });
        handle
    }

    pub(crate) fn remove_handle(&self, handle: u32) {
        self.state().handles.remove(&handle);
    }

    /// Counts ops whose outcomes have committed.
    pub(crate) fn count<'a>(
        &self,
        ended: impl Iterator<Item = (u32, crate::rules::outcome::End, Option<&'a SinkError>)>,
    ) {
        let mut state = self.state();
        let State { total, handles } = &mut *state;
        for (handle, end, error) in ended {
            total.add(end, 1);
            if let Some(tally) = handles.get_mut(&handle) {
                tally.own.add(end, 1);
                if tally.errors.len() < MAX_ERRORS {
                    tally.errors.extend(error.cloned());
                }
            }
        }
    }

    pub(crate) fn report(&self, handle: u32) -> FlushReport {
        let mut state = self.state();
        let total = state.total;
        let Some(tally) = state.handles.get_mut(&handle) else {
            return FlushReport::default();
        };
        let Tally { own, errors, told } = std::mem::replace(tally, Tally { told: total, ..Tally::default() });
        FlushReport { outcomes: own, others: total - told - own, errors }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
