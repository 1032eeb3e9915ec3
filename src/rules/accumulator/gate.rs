//! [`Gate`]: whether the batcher as a whole may cut. The pause of a caller, the freeze that a destination asked for, an
//! outage of the destination, and the fence of a newer leader close it. The accumulator asks it before each cut, and
//! tells it how each write ended.

use std::time::Duration;

use crate::rules::{config::retry::Backoff, time::Timestamp};

#[derive(Debug, Default)]
pub(super) struct Gate {
    pub(super) paused: bool,
    pub(super) fenced: bool,
    /// The peer has left for good.
    pub(super) peer_left: bool,
    /// No batch is cut before this moment.
    frozen_until: Option<Timestamp>,
    outage: Option<Outage>,
    /// Freezes by outages so far. A batch carries the number at its cut, which tells whether its end is news.
    freezes: u64,
}

/// The destination as a whole is away.
#[derive(Debug, Clone, Copy)]
struct Outage {
    since: Timestamp,
    /// Freezes since then, and so writes in a row that met the outage. Writes that began before a freeze count with it.
    failures: u32,
}

/// The gate's answer to a write that met an outage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frozen {
    pub(super) pause: Duration,
    /// Writes in a row that met the outage.
    pub(super) failures: u32,
    /// The outage has lasted for [`Retry::give_up_after`](crate::Retry::give_up_after).
    pub(super) is_given_up: bool,
    /// This write is the first one to meet it.
    pub(super) is_new: bool,
}

/// The end of an outage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Recovery {
    pub(crate) lasted: Duration,
    /// Writes in a row that met the outage.
    pub(crate) failures: u32,
}

impl Gate {
    /// Whether nothing can be cut until a caller resumes, or ever again.
    pub(super) fn is_shut(&self) -> bool {
        self.paused || self.is_stopped()
    }

    /// Whether the sink will take nothing any more.
    pub(super) fn is_stopped(&self) -> bool {
        self.fenced || self.peer_left
    }

    /// The end of a freeze that is not over yet.
    pub(super) fn frozen_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.frozen_until.filter(|until| now < *until)
    }

    pub(super) fn is_in_outage(&self) -> bool {
        self.outage.is_some()
    }

    /// The mark of a batch that is cut now, to be handed back when its write has ended.
    pub(super) fn mark(&self) -> u64 {
        self.freezes
    }

    /// Freezes the gate from now on, unless it already is for longer.
    pub(super) fn freeze(&mut self, now: Timestamp, pause: Duration) {
        // A pause beyond the clock's range is one for ever.
        let until = now.checked_add(pause).unwrap_or(Timestamp::END);
        self.frozen_until = self.frozen_until.max(Some(until));
    }

    /// A write with this mark met an outage. Of the writes that were in flight when the gate froze only the first one
    /// counts.
    pub(super) fn met_outage(&mut self, mark: u64, backoff: &mut Backoff, now: Timestamp) -> Frozen {
        let is_new = self.outage.is_none();
        let Outage { since, mut failures } = self.outage.unwrap_or(Outage { since: now, failures: 0 });
        let left = backoff.give_up_after().map(|limit| limit.saturating_sub(now.since(since)));
        let is_given_up = left.is_some_and(|left| left.is_zero());
        if is_new || mark == self.freezes {
            failures = failures.saturating_add(1);
            let delay = backoff.outage_delay(failures);
            // The last write is tried when the time is over, and no later.
            let pause = left.filter(|left| !left.is_zero()).map_or(delay, |left| left.min(delay));
            self.freezes += 1;
            self.freeze(now, pause);
        }
        self.outage = Some(Outage { since, failures });
        let pause = self.frozen_until.map_or(Duration::ZERO, |until| until.since(now));
        Frozen { pause, failures, is_given_up, is_new }
    }

    /// The destination answered a write with this mark. That ends an outage, unless the write began before its last freeze.
    pub(super) fn heard(&mut self, mark: u64, now: Timestamp) -> Option<Recovery> {
        let Outage { since, failures } = self.outage.take_if(|_| mark == self.freezes)?;
        Some(Recovery { lasted: now.since(since), failures })
    }
}
