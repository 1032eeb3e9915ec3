//! Outages and freezes: the destination as a whole is away, or asks for a pause. Called when a batch is settled. No op
//! loses an attempt by an outage; all of them wait until the gate opens again.

use std::time::Duration;

use super::{Accumulator, OutageNotice, Written, finish::GivenUp, gate::Frozen};
use crate::rules::{
    batch::{SinkError, verdicts::Verdicts},
    time::Timestamp,
};

impl<T, R: Clone, A> Accumulator<T, R, A> {
    /// The destination asks for a pause, which counts from now on.
    pub(super) fn throttle(&mut self, now: Timestamp, retry_after: Duration) {
        let pause = retry_after.min(self.policy.backoff.max_freeze());
        self.gate.freeze(now, pause);
        if let Some(quota) = &mut self.quota {
            quota.throttled(now.checked_add(pause).unwrap_or(Timestamp::END));
        }
    }

    /// A write met an outage. Returns whether the outage has lasted too long, so that what it holds up is to be given up.
    pub(super) fn met_outage(&mut self, mark: u64, error: &SinkError, now: Timestamp) -> bool {
        let Frozen { pause, failures, is_given_up, is_new } = self.gate.met_outage(mark, &mut self.policy.backoff, now);
        self.ledger.counters().outages += u64::from(is_new);
        let (is_new, ops, given_up) = match self.outbox.notices().outage.take() {
            Some(before) => (is_new || before.is_new, before.ops, before.given_up),
            None => (is_new, 0, 0),
        };
        self.outbox.notices().outage =
            Some(OutageNotice { is_new, ops, given_up, failures, pause, error: error.clone() });
        is_given_up
    }

    /// Ends an outage if the write brought an answer of the destination. A sink that tells each op of the outage brings none.
    pub(super) fn hear(&mut self, verdicts: &Verdicts<R>, written: &Written, mark: u64, now: Timestamp) {
        let is_answer = || verdicts.have_answer() || matches!(written, Written::Failed(error) if error.is_answer());
        if self.gate.is_in_outage() && is_answer() {
            let recovery = self.gate.heard(mark, now);
            let notices = self.outbox.notices();
            notices.recovery = recovery.or(notices.recovery.take());
        }
    }

    /// Gives up all that waits, since the outage has lasted too long.
    pub(super) fn give_up_waiting(&mut self, error: &SinkError, now: Timestamp) {
        let waiting = self.waiting_by_age();
        if let Some(notice) = &mut self.outbox.notices().outage {
            notice.given_up += waiting.len() as u64;
        }
        for slot in waiting {
            self.give_up_queued(slot, GivenUp::Exhausted, error, now);
        }
    }
}
