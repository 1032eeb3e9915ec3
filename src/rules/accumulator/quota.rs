//! The quota of the destination, at the cut and when a batch comes back. The budget decides; this file asks it, and tells it
//! what happened.

use super::{Accumulator, Cut, store::SortKey};
#[cfg(feature = "durable")]
use crate::rules::quota::kept::KeptDraw;
use crate::rules::{
    batch::SinkError,
    panics,
    quota::{Budget, Charge, Drawn},
    time::Timestamp,
};

/// Whether the op that comes next goes with a batch.
pub(super) enum Fit {
    /// The op goes, and is charged.
    Fits,
    /// The batch has no weight left for it.
    Full,
    /// The op waits for the quota until then, and with it what stands behind it.
    Waits(Timestamp),
    /// No batch will ever hold the op.
    Refused(SinkError),
}

impl<T, R: Clone, A> Accumulator<T, R, A> {
    /// Obeys a quota from now on. No op has come yet.
    pub(crate) fn set_quota(&mut self, budget: Budget<T>) {
        self.quota = Some(Box::new(budget));
        self.choose_intake();
    }

    /// Draws of a batch that has just been cut, as a log keeps them.
    #[cfg(feature = "durable")]
    pub(crate) fn draws(&self, cut: &Cut<T, R, A>, now: Timestamp) -> Vec<KeptDraw> {
        self.quota.as_ref().map(|quota| quota.draws(&cut.charges, now).collect()).unwrap_or_default()
    }

    /// Whether the quota has nothing left for any op. Asked when a partition is due.
    #[inline]
    pub(super) fn is_spent(&mut self, now: Timestamp) -> bool {
        self.quota.as_mut().is_some_and(|quota| quota.is_closed(now))
    }

    /// Charges an op that would be number `ops` of its batch.
    #[inline]
    pub(super) fn charge(&mut self, slot: u32, ops: usize, charges: &mut Vec<Charge>, now: Timestamp) -> Fit {
        if self.quota.is_none() { Fit::Fits } else { self.charge_quota(slot, ops, charges, now) }
    }

    #[inline(never)]
    fn charge_quota(&mut self, slot: u32, ops: usize, charges: &mut Vec<Charge>, now: Timestamp) -> Fit {
        let Self { quota: Some(quota), nodes, schedule, rules, .. } = self else {
            return Fit::Fits;
        };
        if ops == 0 {
            let partition = nodes[slot].partition;
            let head = schedule.queue(partition).head(nodes, &rules.order, now);
            quota.begin(partition, head.map_or(u128::MAX, SortKey::number), now);
        }
        match quota.draw(nodes[slot].waiting_op(), ops, charges, now) {
            Drawn::Charged => Fit::Fits,
            Drawn::Full => Fit::Full,
            Drawn::Later(until) => Fit::Waits(self.expiry_of(slot, now).map_or(until, |expiry| expiry.min(until))),
            Drawn::Never(why) => Fit::Refused(SinkError::refused(why)),
            Drawn::Panicked(panic) => Fit::Refused(self.caught("a cost", &*panic)),
        }
    }

    /// When an op that waits for the quota expires. Others may wait for it, so that its end is not to be missed.
    fn expiry_of(&self, slot: u32, now: Timestamp) -> Option<Timestamp> {
        let expiry = self.rules.expiry.as_ref()?;
        // A panic is caught and answered when the op is asked again.
        let expiry = panics::catch(|| expiry(self.nodes[slot].waiting_op())).ok().flatten();
        expiry.filter(|expiry| now < *expiry)
    }

    /// Asks the quota anew for partitions that were held up for one that is empty now, or whose batch has left.
    #[inline]
    pub(super) fn release_saved(&mut self, id: u32, has_left: bool, now: Timestamp) {
        if self.quota.is_some() {
            self.release_what_was_saved(id, has_left, now);
        }
    }

    #[inline(never)]
    fn release_what_was_saved(&mut self, id: u32, has_left: bool, now: Timestamp) {
        let Self { quota: Some(quota), schedule, .. } = self else {
            return;
        };
        let is_empty = !schedule.partitions().contains(id) || schedule.queue(id).is_empty();
        if (has_left && quota.was_saved_for()) || (is_empty && quota.emptied(id, now)) {
            let (schedule, view) = self.scheduling();
            schedule.release_held(&view, now);
        }
    }

    /// The next op of a partition that the quota holds up may have got another cost.
    #[inline]
    pub(super) fn cost_changed(&mut self, slot: u32, now: Timestamp) {
        if self.quota.as_ref().is_some_and(|quota| quota.has_costs()) {
            let id = self.nodes[slot].partition;
            if self.schedule.queue(id).next(&self.nodes, &self.rules.order, now) == Some(slot) {
                self.reorder_due(id, now);
            }
        }
    }

    /// Notes how long the ops of a batch that leaves were held up.
    #[inline]
    pub(super) fn note_held(&mut self, id: u32, cut: &Cut<T, R, A>, is_trimmed: bool, now: Timestamp) {
        if self.quota.is_some() {
            self.note_held_by_quota(id, cut, is_trimmed, now);
        }
    }

    #[inline(never)]
    fn note_held_by_quota(&mut self, id: u32, cut: &Cut<T, R, A>, is_trimmed: bool, now: Timestamp) {
        let Some(quota) = &self.quota else {
            return;
        };
        let held_since = self.schedule.partitions_mut()[id].passes(is_trimmed, now);
        for &slot in &cut.slots {
            let came = self.nodes[slot].at;
            let by_partition = held_since.map_or(0, |since| now.nanos_since(since.max(came)));
            let held = quota.held_since(came, now).max(by_partition);
            if held > 0 {
                let history = self.nodes.history_mut(slot);
                history.quota = history.quota.max(held);
            }
        }
    }

    /// A batch has come back, with the reports of its sink.
    #[inline]
    pub(super) fn settle_quota(&mut self, cut: &mut Cut<T, R, A>, now: Timestamp) {
        if self.quota.is_some() || !cut.batch.reports().is_empty() {
            self.settle_reports(cut, now);
        }
    }

    #[inline(never)]
    fn settle_reports(&mut self, cut: &mut Cut<T, R, A>, now: Timestamp) {
        let Cut { batch, charges, at, .. } = cut;
        let reports = batch.reports();
        let Some(quota) = &mut self.quota else {
            return reports.clear();
        };
        let has_reports = !reports.is_empty();
        if let Some(unknown) = quota.returned(charges, reports, *at, now) {
            self.outbox.notices().unknown_bucket = Some(unknown);
        }
        if has_reports {
            // There may be more left than was thought.
            let (schedule, view) = self.scheduling();
            schedule.release_held(&view, now);
        }
    }
}
