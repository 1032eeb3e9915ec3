//! The model's way to settle a batch.

use std::time::Duration;

use super::{
    cases::{Op, Rest, THROTTLE, merge, verdict},
    model::{Batch, Model, Waiting},
};
use crate::rules::{
    adaptive::{Failure, Landing},
    outcome::End,
    stage::Merge,
    time::Timestamp,
};

impl Model {
    pub(crate) fn settle(&mut self, at: usize, verdicts: &[u8], rest: Rest, now: Duration) {
        let Batch { part: id, mark, at, cap, is_full, in_flight, ops } = self.in_flight.remove(at);
        self.parts.get_mut(&id).unwrap().in_flight = false;
        if let Rest::Throttled = rest {
            self.frozen = self.frozen.max(Some(now + THROTTLE));
        }
        let given_up = self.notice_outage(mark, &verdicts[..verdicts.len().min(ops.len())], ops.len(), rest, now);
        let nanos = (now - at).as_nanos() as u64;
        self.learn_size(Landing { size: ops.len(), cap, is_full, nanos, in_flight }, verdicts, rest, now);
        let open = (0..ops.len()).filter(|i| verdict(verdicts, *i).is_none()).count();
        let split = open > 0
            && ops.len() > 1
            && (matches!(rest, Rest::TooLarge) || self.recipe.bisect && matches!(rest, Rest::Refused));
        let (mut again, mut failed) = (Vec::new(), false);
        for (i, mut op) in ops.into_iter().enumerate() {
            op.was_written = true;
            let given = verdict(verdicts, i);
            if given.is_none() && split {
                again.push(op);
                continue;
            }
            let before = again.len();
            let ended = given.unwrap_or(rest);
            op.attempts += u32::from(!matches!(ended, Rest::Outage));
            let last = op.attempts >= self.recipe.max_attempts;
            match ended {
                Rest::Outage if !given_up => {
                    again.push(op);
                    continue;
                }
                Rest::ConnectionLost if given_up => self.end(End::InDoubt),
                Rest::Accept => self.end(End::Delivered),
                Rest::Transient | Rest::Throttled if !last => again.push(op),
                Rest::Ambiguous | Rest::ConnectionLost | Rest::Panicked => {
                    op.in_doubt = true;
                    if self.recipe.idempotent && !last { again.push(op) } else { self.end(End::InDoubt) }
                }
                Rest::AmbiguousAgain => {
                    op.in_doubt = true;
                    if last { self.end(End::InDoubt) } else { again.push(op) }
                }
                Rest::Aborted => self.end(End::Returned),
                _ if op.in_doubt => self.end(End::InDoubt),
                // An outage that lasted too long, or the last attempt.
                Rest::Outage | Rest::Transient | Rest::Throttled => self.end(End::Exhausted),
                _ => self.end(End::Refused),
            }
            failed |= again.len() > before;
        }
        let part = self.parts.get_mut(&id).unwrap();
        if split {
            part.parts.extend([open / 2, open - open / 2].into_iter().filter(|size| *size > 0));
        }
        if let Some(attempts) = again.iter().map(|op| op.attempts).max()
            && failed
        {
            part.backing_off = Some(now + self.backoff.delay(attempts));
        }
        again.sort_by_key(|op| op.seq);
        for op in again.into_iter().rev() {
            self.reinsert(id, op);
        }
        if given_up {
            let waiting: Vec<Waiting> = self.parts.values_mut().flat_map(|part| part.waiting.drain(..)).collect();
            waiting.iter().for_each(|w| self.end(if w.in_doubt { End::InDoubt } else { End::Exhausted }));
        }
    }

    /// Batches that land or fail as a whole decide how large the next ones are.
    fn learn_size(&mut self, landing: Landing, verdicts: &[u8], rest: Rest, now: Duration) {
        let ops = landing.size;
        let given: Vec<Rest> = (0..ops).filter_map(|i| verdict(verdicts, i)).collect();
        let is_accepted = |rest: &Rest| matches!(rest, Rest::Accept);
        if given.iter().all(is_accepted) && (given.len() == ops || is_accepted(&rest)) {
            let now = Timestamp::some().checked_add(now).expect("a run is short");
            self.size.landed(&landing, now);
            return;
        }
        match rest {
            _ if !given.is_empty() => {}
            Rest::Transient | Rest::Ambiguous | Rest::AmbiguousAgain => drop(self.size.failed(ops, Failure::Unclear)),
            Rest::TooLarge => drop(self.size.failed(ops, Failure::TooLarge { limit: None })),
            _ => {}
        }
    }

    /// The gate: whether the write tells of an outage, or that one is over. Says whether an outage has lasted too long.
    fn notice_outage(&mut self, mark: u64, verdicts: &[u8], ops: usize, rest: Rest, now: Duration) -> bool {
        let answers = |rest: &Rest| {
            matches!(rest, Rest::Accept | Rest::Transient | Rest::Refused | Rest::TooLarge | Rest::Throttled)
        };
        let given: Vec<Rest> = (0..verdicts.len()).filter_map(|i| verdict(verdicts, i)).collect();
        let is_rest_given = !matches!(rest, Rest::Accept) || given.len() < ops;
        let is_answer = given.iter().any(answers) || (is_rest_given && answers(&rest));
        if is_answer && mark == self.freezes {
            self.outage = None;
        }
        let told = (0..verdicts.len()).any(|i| matches!(verdict(verdicts, i), Some(Rest::Outage)));
        if !told && !matches!(rest, Rest::Outage | Rest::ConnectionLost) {
            return false;
        }
        let is_new = self.outage.is_none();
        let (since, mut failures) = self.outage.unwrap_or((now, 0));
        let left = self.recipe.give_up_after.map(|limit| Duration::from_millis(limit).saturating_sub(now - since));
        if is_new || mark == self.freezes {
            failures += 1;
            let delay = self.backoff.outage_delay(failures);
            let pause = left.filter(|left| !left.is_zero()).map_or(delay, |left| left.min(delay));
            self.frozen = self.frozen.max(Some(now + pause));
            self.freezes += 1;
        }
        self.outage = Some((since, failures));
        left.is_some_and(|left| left.is_zero())
    }

    /// An older op comes back. What waits under its key is newer; it meets the eldest of that.
    pub(crate) fn reinsert(&mut self, part: u8, mut old: Waiting) {
        let key = self.key_of(&old.op);
        let same = |op: &Op| key.is_some() && self.key_of(op) == key;
        let waiting = &self.parts[&part].waiting;
        let met = (0..waiting.len()).filter(|i| same(&waiting[*i].op)).min_by_key(|i| waiting[*i].seq);
        let waiting = &mut self.parts.get_mut(&part).unwrap().waiting;
        let Some(met) = met else { return waiting.push(old) };
        let outcome = if old.in_doubt || waiting[met].in_doubt {
            Merge::Apart { waiting: old.op.clone(), newer: waiting[met].op.clone() }
        } else {
            merge(old.op.clone(), waiting[met].op.clone())
        };
        match outcome {
            Merge::Into(op) => {
                let newer = waiting.remove(met);
                old.level = old.level.max(newer.level);
                old.urgent |= op.urgent;
                old.op = op;
                waiting.push(old);
                self.lift(part);
                self.end(End::Conflated);
            }
            Merge::Net => {
                waiting.remove(met);
                self.end(End::Netted);
                self.end(End::Netted);
            }
            Merge::Apart { .. } => {
                waiting.push(old);
                self.lift(part);
            }
        }
    }
}
