//! Batches that come back, ops that end, and records that have committed.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{
    TermEnd,
    draft::{Announced, Effects, Writing, dead_error, still_in_doubt},
    lent::{Landed, encoded},
    positions::{Token, runs_of},
    running::{Committing, Running},
};
use crate::{
    driver::{
        actor::{log, write::Completed},
        clock,
    },
    durable::{
        log::{LogError, Record},
        step::Step,
    },
    rules::{
        accumulator::{Cut, Written},
        batch::{ErrorKind, verdicts::Verdict},
        outcome::{AckError, Answer, End, Outcome},
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
    pub(super) fn written(
        &mut self,
        writing: Writing<T, R>,
        (mut cut, written): Completed<T, R, Token>,
    ) -> Result<(), TermEnd> {
        let Writing { announced, lent } = writing;
        Step::Write.after();
        let is_given_up = matches!(written, Written::Aborted);
        let in_doubt = if lent.is_some() { Vec::new() } else { may_have_landed(&mut cut, &written) };
        if lent.is_some() {
            // The effects of what the transaction has settled are told apart from the others.
            self.collect(Of::Record);
        }
        self.accumulator.settle(cut, written, clock::now());
        if let Some(lent) = lent {
            let went = self.collect_landed(lent.take_landed());
            if let Some(Announced { number, intent, .. }) = announced {
                self.draft.resolved.extend(self.doubts.release(number, intent.ops.len()));
            }
            return went;
        }
        let ended = self.collect(Of::Record);
        // The intent of a write that was given up stays, for the next term.
        if let Some(announced) = announced.filter(|_| !is_given_up) {
            self.resolve(&announced, &in_doubt, ended);
        }
        Ok(())
    }

    /// Resolves the intent of a batch that has come back, whose ops at the positions `ended` have ended. An op that waits and may
    /// have landed gets an intent of its own: by this write if `in_doubt` says so, or by an earlier one.
    pub(super) fn resolve(&mut self, announced: &Announced, in_doubt: &[bool], ended: Vec<u64>) {
        let Announced { number, intent, was_in_doubt } = announced;
        let is_in_doubt = |i: usize| was_in_doubt.get(i) == Some(&true) || in_doubt.get(i) == Some(&true);
        // Most often none is.
        let has_doubts = (0..intent.ops.len()).any(is_in_doubt);
        let ended: HashSet<u64> = if has_doubts { ended.into_iter().collect() } else { HashSet::new() };
        for (i, op) in intent.ops.iter().enumerate() {
            if is_in_doubt(i) && !ended.contains(&op.first()) {
                let number = self.doubts.add(1);
                self.doubts.waits(op.first(), number);
                self.draft.intents.push((number, still_in_doubt(op, intent).encode()));
            }
        }
        self.draft.resolved.extend(self.doubts.release(*number, intent.ops.len()));
    }

    /// Takes up what transactions of a write have settled.
    fn collect_landed(&mut self, landed: Landed) -> Result<(), TermEnd> {
        let mut effects = Effects::new();
        self.collect(Of::Transaction(&landed.positions, &mut effects));
        effects.settled = runs_of(effects.ended.iter().map(|(token, _)| token.position).collect());
        if landed.is_unknown {
            self.leader.account.unknown.push(effects);
            return Err(TermEnd::Again("the commit of a transaction has no known result".to_owned()));
        }
        if !effects.ended.is_empty() {
            self.landed(effects);
        }
        Ok(())
    }

    /// Takes up what has ended: into the draft, unless the log has it already. Returns the positions.
    pub(super) fn collect(&mut self, mut of: Of<'_, T, R>) -> Vec<u64> {
        let (letters, answers) = self.accumulator.take_ended();
        let freed = self.accumulator.take_settled();
        if let Some(notices) = self.accumulator.take_notices() {
            log::notices(&self.destination.batcher, &notices);
        }
        let mut letters: HashMap<usize, _> = letters.into_iter().collect();
        // A permit of an op that was merged away is free at once. The others are free when the record has committed.
        let whole = answers.iter().filter(|answer| answer.outcome.end() != End::Conflated).count();
        self.release(freed.saturating_sub(whole));
        let mut ended = Vec::with_capacity(answers.len());
        for (i, Answer { token, outcome }) in answers.into_iter().enumerate() {
            let outcome: Outcome<R> = outcome.into();
            if matches!(outcome.result, Err(AckError::Returned { .. })) {
                // The op stays in the log, for the next term, and so do those that were merged into it.
                continue;
            }
            ended.push(token.position);
            self.draft.resolved.extend(self.doubts.release_op(token.position));
            let (letter, release) = (
                if letters.is_empty() { None } else { letters.remove(&(i + 1)) },
                usize::from(outcome.end != End::Conflated),
            );
            if let Of::Transaction(landed, effects) = &mut of
                && landed.binary_search(&token.position).is_ok()
            {
                effects.release += release;
                effects.letters += usize::from(letter.is_some());
                effects.ended.push((token, outcome));
                continue;
            }
            self.draft.effects.release += release;
            match letter {
                Some(letter) => {
                    let op = if self.merges { encoded(&*self.codec, &letter.op) } else { None };
                    let schema = self.codec.op_schema();
                    self.draft.told.letter(token, op, schema, letter.end(), letter.attempts, &letter.error);
                }
                // A merge that panicked has used the op up; the log still has it.
                None if !matches!(of, Of::Withdrawal) => {
                    if let Some(error) = dead_error(&outcome).cloned() {
                        let (end, attempts) = (outcome.end, outcome.attempts);
                        self.draft.told.letter(token, None, self.codec.op_schema(), end, attempts, &error);
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
        let Some(Committing { record, mut effects, .. }) = self.committing.take() else {
            return Ok(());
        };
        if let Err(error) = result {
            if error == LogError::Paused {
                // Another process has paused the shard. All is stored that there is to tell, and then the batches go back.
                self.paused = record.paused.unwrap_or(true);
                self.set_gate();
                self.store(Arc::new(Record { starts: false, ..Record::clone(&record) }), effects);
                return Ok(());
            }
            if matches!(error, LogError::Unknown(_)) {
                self.leader.account.unknown.push(effects);
            } else {
                self.leader.account.commands.extend(effects.take_commands());
            }
            return Err(error.into());
        }
        effects.steps().for_each(Step::after);
        self.landed(effects);
        if self.overlooks_pause {
            self.leader.shared.log.news(self.leader.shard).changed.notify_one();
        }
        Ok(())
    }

    /// All that has an effect is in the log.
    fn landed(&mut self, effects: Effects<T, R>) {
        let mut count = 0;
        for (first, last) in &effects.settled {
            self.settled.insert(*first, *last);
            self.ids.settle(*first, *last);
            self.kept.settle(*first, *last);
            count += (last - first + 1) as usize;
        }
        self.leader.account.settled(&self.leader.shared.permits, count);
        if count > 0 {
            self.idle_terms = 0;
        }
        if self.one_by_one && self.settled.cursor() >= self.found_until {
            self.one_by_one = false;
            self.set_limits(self.limits.clone());
        }
        self.take_effect(effects);
        self.end_flushes();
    }

    /// Answers the flushes whose ops are settled.
    pub(super) fn end_flushes(&mut self) {
        let cursor = self.settled.cursor();
        for (_, reply) in self.leader.account.flushes.extract_if(.., |(until, _)| *until <= cursor) {
            // A caller that gave up hears nothing.
            let _ = reply.send(());
        }
    }

    /// The effects of a record that has committed, but for what the term knows of positions.
    pub(super) fn take_effect(&mut self, effects: Effects<T, R>) {
        let Effects { ended, repeats, release, letters, starts, withdrawn, answered, paused, .. } = effects;
        let (shared, shard) = (Arc::clone(&self.leader.shared), self.leader.shard);
        let handle = |token: &Token| if token.is_own { token.handle } else { 0 };
        shared.tallies.count(ended.iter().map(|(token, outcome)| (handle(token), outcome.end, dead_error(outcome))));
        {
            let mut stats = shared.shard(shard).stats();
            ended.iter().for_each(|(_, outcome)| stats.outcomes.add(outcome.end, 1));
            stats.repeats += repeats.len() as u64;
        }
        let counts = |token: &&Token| token.is_own || token.position < self.found_until;
        let counted = ended.iter().map(|(token, _)| token).chain(&repeats).filter(counts).count();
        self.leader.account.ended(counted);
        self.release(release);
        if letters > 0 {
            shared.letters.notify_one();
        }
        self.starting.extend(starts);
        self.publish();
        repeats.iter().for_each(|token| self.flagged.remove((token.producer, token.number)));
        let tells = !ended.is_empty();
        if tells {
            Step::Outcome.before();
        }
        for (token, outcome) in ended {
            let id = token.id(shard);
            if !self.repeats.is_empty() {
                self.repeats.remove(&id).into_iter().flatten().for_each(|token| self.draft.repeat(token));
            }
            self.flagged.remove((token.producer, token.number));
            shared.waiters.tell(id, outcome);
        }
        if tells {
            Step::Outcome.after();
        }
        // Withdrawn is withdrawn and paused is paused, even if the caller gave up.
        for (command, ops) in withdrawn {
            command.answer(Some(ops));
        }
        // A request of another process is answered by the log.
        for (token, withdrawn) in answered.into_iter().filter(|(token, _)| token.is_own) {
            shared.shard(shard).requests.tell(token.number, withdrawn);
        }
        if !paused.is_empty() {
            self.set_gate();
        }
        let in_flight = self.accumulator.stats().in_flight;
        for (_, reply) in paused {
            let _ = reply.send(in_flight);
        }
    }

    fn release(&mut self, count: usize) {
        self.leader.account.release(&self.leader.shared.permits, count);
    }

    /// Shows how things stand.
    pub(super) fn publish(&mut self) {
        let now = self.accumulator.stats();
        let shared = &self.leader.shared;
        let mut stats = shared.shard(self.leader.shard).stats();
        (stats.in_flight, stats.paused, stats.leads) = (now.in_flight, self.paused, true);
        (stats.in_doubt, stats.oldest) = (self.doubts.count() as u64, self.kept.oldest());
        let stats = *stats;
        self.meter.publish(shared.log.size(), &stats, clock::now());
        // Counters of a batcher never fall, though a new term begins with a new accumulator.
        let (accepted, waiting) =
            (stats.accepted + stats.recovered + stats.received, stats.pending().saturating_sub(now.in_flight));
        let max_pending = shared.permits.max() as u64;
        let shown = Stats { accepted, waiting, outcomes: stats.outcomes, paused: stats.paused, max_pending, ..now };
        self.accumulator.counters().publish(&shown);
        if !shown.quota.is_empty() {
            let timed = self.accumulator.counters().timed();
            shared.shard(self.leader.shard).quota().set(shown.quota, timed);
        }
    }
}

/// The reason why ops have ended, which says who records it.
pub(super) enum Of<'a, T, R> {
    /// The next record tells the log.
    Record,
    /// The same, but ops that are handed back are no dead letters.
    Withdrawal,
    /// A transaction has told the log of those at these positions, which are in order. Their effects come by themselves.
    Transaction(&'a [u64], &'a mut Effects<T, R>),
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
