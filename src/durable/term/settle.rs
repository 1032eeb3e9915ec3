//! Batches that come back, ops that end, and records that have committed.

use std::collections::{HashMap, HashSet};

use super::{
    TermEnd,
    draft::{Effects, Start, Writing, dead_error, still_in_doubt},
    positions::Token,
    running::Running,
};
use crate::{
    driver::{
        actor::{
            log,
            write::{Completed, write},
        },
        clock,
    },
    durable::{log::LogError, step::Step},
    rules::{
        accumulator::{Cut, Written},
        batch::{ErrorKind, verdicts::Verdict},
        outcome::{Answer, End, Outcome},
        stats::Stats,
    },
    sink::Sink,
};

impl<T, R, S> Running<'_, T, R, S>
where
    T: Send + 'static,
    R: Clone + Send + 'static,
    S: Sink<T, R>,
{
    /// Settles a batch, and says in the next record which of its ops may still have landed.
    pub(super) fn written(&mut self, writing: Writing, (mut cut, written): Completed<T, R, Token>) {
        Step::Write.after();
        let is_given_up = matches!(written, Written::Aborted);
        let in_doubt = may_have_landed(&mut cut, &written);
        self.accumulator.settle(cut, written, clock::now());
        let ended = self.collect(false);
        if is_given_up {
            // The intent stays, for the next term.
            return;
        }
        let Writing { number, intent, was_in_doubt } = writing;
        for ((op, in_doubt), was_in_doubt) in intent.ops.iter().zip(in_doubt).zip(was_in_doubt) {
            if (in_doubt || was_in_doubt) && !ended.contains(&op.first()) {
                let number = self.doubts.add(1);
                self.doubts.waits(op.first(), number);
                self.draft.intents.push((number, still_in_doubt(op, &intent).encode()));
            }
        }
        self.draft.resolved.extend(self.doubts.release(number, intent.ops.len()));
    }

    /// Puts what has ended into the draft. Returns the positions. Ops that were withdrawn go back to their callers, and so
    /// become no dead letters.
    pub(super) fn collect(&mut self, withdrawn: bool) -> HashSet<u64> {
        let (letters, answers) = self.accumulator.take_ended();
        let freed = self.accumulator.take_settled();
        if let Some(notices) = self.accumulator.take_notices() {
            log::notices(&self.destination.batcher, &notices);
        }
        let mut letters: HashMap<usize, _> = letters.into_iter().collect();
        // A permit of an op that was merged away is free at once. The others are free when the record has committed.
        let whole = answers.iter().filter(|answer| answer.outcome.end() != End::Conflated).count();
        self.release(freed.saturating_sub(whole));
        let mut ended = HashSet::with_capacity(answers.len());
        for (i, Answer { token, outcome }) in answers.into_iter().enumerate() {
            let outcome: Outcome<R> = outcome.into();
            if outcome.end == End::Returned {
                // The op stays in the log, for the next term.
                continue;
            }
            ended.insert(token.position);
            self.draft.resolved.extend(self.doubts.release_op(token.position));
            self.draft.effects.release += usize::from(outcome.end != End::Conflated);
            match letters.remove(&(i + 1)) {
                Some(letter) => {
                    let mut bytes = Vec::new();
                    let merged = self.merges && self.codec.encode_op(&letter.op, &mut bytes).is_ok();
                    let (op, schema) = (merged.then_some(bytes), self.codec.op_schema());
                    self.draft.letter(token, op, schema, letter.end(), letter.attempts, &letter.error);
                }
                // A merge that panicked has used the op up; the log still has it.
                None if !withdrawn => {
                    if let Some(error) = dead_error(&outcome).cloned() {
                        let (end, attempts) = (outcome.end, outcome.attempts);
                        self.draft.letter(token, None, self.codec.op_schema(), end, attempts, &error);
                    }
                }
                None => {}
            }
            self.draft.end(&*self.codec, token, outcome);
        }
        ended
    }

    /// A record is in the log, or may be.
    pub(super) fn committed(&mut self, result: Result<(), LogError>) -> Result<(), TermEnd> {
        let Some((_, effects)) = self.committing.take() else {
            return Ok(());
        };
        if let Err(error) = result {
            if matches!(error, LogError::Unknown(_)) {
                self.leader.account.unknown = Some(effects);
            }
            return Err(error.into());
        }
        effects.steps().for_each(Step::after);
        let mut count = 0;
        for (first, last) in &effects.settled {
            self.settled.insert(*first, *last);
            self.ids.settle(*first, *last);
            count += (last - first + 1) as usize;
        }
        self.leader.account.open = self.leader.account.open.saturating_sub(count);
        self.leader.shared.permits.opened(0, count);
        if self.one_by_one && self.settled.cursor() >= self.suspected_until {
            self.one_by_one = false;
            self.set_limits(self.limits.clone());
        }
        self.take_effect(effects);
        let cursor = self.settled.cursor();
        for (_, reply) in self.flushes.extract_if(.., |(until, _)| *until <= cursor) {
            // A caller that gave up hears nothing.
            let _ = reply.send(());
        }
        Ok(())
    }

    /// The effects of a record that has committed, but for what the term knows of positions.
    pub(super) fn take_effect(&mut self, effects: Effects<T, R>) {
        let Effects { ended, repeats, release, letters, starts, withdrawn, paused, .. } = effects;
        let (shared, shard) = (std::sync::Arc::clone(&self.leader.shared), self.leader.shard);
        let producer = shared.log.producer();
        let handle = |token: &Token| if token.producer == producer { token.handle } else { 0 };
        shared.tallies.count(ended.iter().map(|(token, outcome)| (handle(token), outcome.end, dead_error(outcome))));
        {
            let mut stats = shared.shard(shard).stats();
            ended.iter().for_each(|(_, outcome)| stats.outcomes.add(outcome.end, 1));
            stats.repeats += repeats as u64;
        }
        self.release(release);
        if letters > 0 {
            shared.letters.notify_one();
        }
        for Start { cut, written } in starts {
            let (destination, limit) = (std::sync::Arc::clone(&self.destination), self.limits.write_timeout);
            self.writes.push(Box::pin(async move {
                Step::Write.before();
                (written, write(destination, cut, limit).await)
            }));
        }
        self.publish();
        let tells = !ended.is_empty();
        if tells {
            Step::Outcome.before();
        }
        for (token, outcome) in ended {
            let id = token.id(shard);
            for position in self.repeats.remove(&id).into_iter().flatten() {
                self.draft.repeat(position);
            }
            shared.waiters.tell(id, outcome);
        }
        if tells {
            Step::Outcome.after();
        }
        // Withdrawn is withdrawn and paused is paused, even if the caller gave up.
        for (reply, ops) in withdrawn {
            let _ = reply.send(ops);
        }
        let in_flight = self.accumulator.stats().in_flight;
        for reply in paused {
            let _ = reply.send(in_flight);
        }
    }

    fn release(&mut self, count: usize) {
        let account = &mut self.leader.account;
        account.unreleased = account.unreleased.saturating_sub(count);
        self.leader.shared.permits.release(count);
    }

    /// Shows how things stand.
    pub(super) fn publish(&mut self) {
        let now = self.accumulator.stats();
        let shared = &self.leader.shared;
        let mut stats = shared.shard(self.leader.shard).stats();
        (stats.in_flight, stats.paused, stats.leads) = (now.in_flight, self.paused, true);
        let stats = *stats;
        // Counters of a batcher never fall, though a new term begins with a new accumulator.
        let (accepted, waiting) = (stats.accepted + stats.recovered, stats.pending().saturating_sub(now.in_flight));
        let max_pending = shared.permits.max() as u64;
        let shown = Stats { accepted, waiting, outcomes: stats.outcomes, paused: stats.paused, max_pending, ..now };
        self.accumulator.counters().publish(&shown);
    }
}

/// Which ops of a batch may have landed without a verdict that says so.
fn may_have_landed<T, R, A>(cut: &mut Cut<T, R, A>, written: &Written) -> Vec<bool> {
    let count = cut.batch.len();
    let rest = match written {
        Written::Failed(error) => error.kind() == ErrorKind::Ambiguous,
        // An op without a verdict is in doubt.
        Written::Answered | Written::Panicked(_) | Written::Aborted => true,
    };
    let (is_settled, has_errors) = (cut.batch.pending().is_empty(), cut.batch.errors().next().is_some());
    if is_settled && !has_errors {
        return vec![false; count];
    }
    let verdicts = cut.batch.verdicts_mut().iter();
    let in_doubt = verdicts.map(|verdict| match verdict {
        Verdict::Accepted(_) => false,
        Verdict::Failed(error) | Verdict::Again(error) => error.kind() == ErrorKind::Ambiguous,
        Verdict::Pending => rest,
    });
    in_doubt.collect()
}
