//! [`Draft`]: what the next record of a term tells the log, and what happens once it has committed. **No effect of a draft
//! happens before**: no caller is told, no permit is released, no batch is written.

use std::{collections::HashSet, sync::Arc};

use tokio::sync::oneshot;

use super::{
    lent::Lent,
    positions::{Token, runs_of},
};
use crate::{
    durable::{
        codec::OpCodec,
        command::Command,
        intent::{Intent, IntentOp},
        log::{
            Record,
            store::{ChargeRow, LetterRow},
        },
        outcomes::Results,
        step::Step,
        withdraw::Withdrawn,
    },
    rules::{
        accumulator::Cut,
        batch::SinkError,
        outcome::{AckError, End, Outcome},
        panics,
    },
};

/// A batch that is about to be written. If it has an intent, that is on its way to the log.
pub(super) struct Start<T, R> {
    pub(super) cut: Box<Cut<T, R, Token>>,
    pub(super) writing: Writing<T, R>,
}

/// Facts about a batch that is being written.
pub(super) struct Writing<T, R> {
    pub(super) announced: Option<Announced>,
    /// The way of the batch through transactions, if the sink is transactional.
    pub(super) lent: Option<Arc<Lent<T, R>>>,
}

/// The intent of a batch that is being written.
pub(super) struct Announced {
    pub(super) number: u64,
    pub(super) intent: Intent,
    /// Whether each op was in doubt before.
    pub(super) was_in_doubt: Vec<bool>,
}

impl Announced {
    /// The first positions of those ops that are in no doubt as long as this batch is not written.
    pub(super) fn certain(&self, ops: impl IntoIterator<Item = usize>) -> Vec<u64> {
        let certain = ops.into_iter().filter(|i| self.was_in_doubt.get(*i) == Some(&false));
        certain.filter_map(|i| self.intent.ops.get(i)).map(IntentOp::first).collect()
    }

    /// The values of all ops but those at the indexes, which are in order.
    fn without<V>(all: Vec<V>, ops: &[usize]) -> Vec<V> {
        let left = all.into_iter().enumerate().filter(|(i, _)| ops.binary_search(i).is_err());
        left.map(|(_, value)| value).collect()
    }

    /// Forgets ops that are left out of the batch and have ended. Their indexes are in order.
    pub(super) fn leave_out(&mut self, ops: &[usize]) {
        self.intent.ops = Self::without(std::mem::take(&mut self.intent.ops), ops);
        self.was_in_doubt = Self::without(std::mem::take(&mut self.was_in_doubt), ops);
    }
}

/// Effects that follow once a record has committed.
pub(super) struct Effects<T, R> {
    /// Ops that have ended.
    pub(super) ended: Vec<(Token, Outcome<R>)>,
    /// Positions that are settled with them, or by themselves.
    pub(super) settled: Vec<(u64, u64)>,
    /// First positions of ops that have an intent and were certainly not written: should the record be lost, they are not in doubt.
    pub(super) unwritten: Vec<u64>,
    /// Repeats among them.
    pub(super) repeats: Vec<Token>,
    /// Permits that are free then.
    pub(super) release: usize,
    /// Dead letters among them.
    pub(super) letters: usize,
    pub(super) starts: Vec<Start<T, R>>,
    /// Commands, with the ops that they have withdrawn.
    pub(super) withdrawn: Vec<(Command<T>, Vec<T>)>,
    /// Requests that are executed, with what they have withdrawn. They are no ops, and hold no permits.
    pub(super) answered: Vec<(Token, Withdrawn)>,
    /// Callers, and whether they pause or resume.
    pub(super) paused: Vec<(bool, oneshot::Sender<u64>)>,
}

impl<T, R> Effects<T, R> {
    /// The commands of a record that is not in the log. The next term, or whichever process leads, obeys them.
    pub(super) fn take_commands(&mut self) -> Vec<Command<T>> {
        let withdrawn = std::mem::take(&mut self.withdrawn).into_iter().map(|(command, ops)| {
            // The log has them.
            ops.into_iter().for_each(|op| drop(panics::discard(op)));
            command
        });
        withdrawn.chain(self.take_pauses()).collect()
    }

    /// The commands of a record of which nobody will tell whether it is in the log. To pause twice does no harm. Ops that may be
    /// withdrawn can't be: their callers hear that the batcher does not know.
    pub(super) fn take_pauses(&mut self) -> Vec<Command<T>> {
        self.paused.drain(..).map(|(paused, reply)| Command::Pause { paused, reply }).collect()
    }

    /// The steps that the record takes.
    pub(super) fn steps(&self) -> impl Iterator<Item = Step> + use<T, R> {
        let steps = [
            (!self.starts.is_empty(), Step::Intent),
            (!self.settled.is_empty(), Step::Settlement),
            (!self.paused.is_empty(), Step::Pause),
            (!self.withdrawn.is_empty() || !self.answered.is_empty(), Step::Withdrawal),
        ];
        steps.into_iter().filter_map(|(is_taken, step)| is_taken.then_some(step))
    }
}

/// The part of a record that says how ops have ended.
#[derive(Debug, Default)]
pub(super) struct Told {
    positions: Vec<u64>,
    outcomes: Results,
    letters: Vec<LetterRow>,
}

impl Told {
    /// An op has ended.
    pub(super) fn end<T, R>(&mut self, codec: &dyn OpCodec<T, R>, token: Token, outcome: &Outcome<R>) {
        self.positions.push(token.position);
        self.outcomes.push(codec, (token.producer, token.number), outcome);
    }

    /// An op becomes a dead letter, with its bytes unless the log has them at its position.
    pub(super) fn letter(
        &mut self,
        token: Token,
        op: Option<Vec<u8>>,
        schema: u32,
        end: End,
        attempts: u32,
        error: &SinkError,
    ) {
        self.letters.push(LetterRow {
            producer: token.producer,
            number: token.number,
            position: op.is_none().then_some(token.position),
            op: op.unwrap_or_default(),
            schema,
            end: end.name(),
            attempts,
            error: serde_json::to_vec(error).unwrap_or_default(),
            at: 0,
        });
    }

    pub(super) fn has_letters(&self) -> bool {
        !self.letters.is_empty()
    }

    pub(super) fn into_record(self, shard: u16, epoch: u64) -> Record {
        let Self { positions, outcomes, letters } = self;
        let (settled, outcomes) = (runs_of(positions), outcomes.into_rows());
        Record { shard, epoch, settled, outcomes, letters, ..Record::default() }
    }
}

pub(super) struct Draft<T, R> {
    pub(super) told: Told,
    pub(super) intents: Vec<(u64, Vec<u8>)>,
    pub(super) resolved: Vec<u64>,
    pub(super) charges: Vec<ChargeRow>,
    pub(super) pause: Option<bool>,
    pub(super) effects: Effects<T, R>,
}

impl<T, R> Effects<T, R> {
    pub(super) fn new() -> Self {
        Self {
            ended: Vec::new(),
            settled: Vec::new(),
            unwritten: Vec::new(),
            repeats: Vec::new(),
            release: 0,
            letters: 0,
            starts: Vec::new(),
            withdrawn: Vec::new(),
            answered: Vec::new(),
            paused: Vec::new(),
        }
    }
}

impl<T, R> Draft<T, R> {
    pub(super) fn new() -> Self {
        let (told, effects) = (Told::default(), Effects::new());
        Self { told, intents: Vec::new(), resolved: Vec::new(), charges: Vec::new(), pause: None, effects }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.told.positions.is_empty()
            && self.intents.is_empty()
            && self.resolved.is_empty()
            && self.pause.is_none()
            && self.effects.starts.is_empty()
            && self.effects.withdrawn.is_empty()
    }

    /// The positions that end with the record.
    pub(super) fn ended_positions(&self) -> HashSet<u64> {
        self.told.positions.iter().copied().collect()
    }

    /// Whether something waits for the record, besides callers of ops that have ended.
    pub(super) fn is_urgent(&self) -> bool {
        let Effects { starts, withdrawn, answered, paused, .. } = &self.effects;
        !starts.is_empty() || !withdrawn.is_empty() || !answered.is_empty() || !paused.is_empty()
    }

    /// An op has ended.
    pub(super) fn end(&mut self, codec: &dyn OpCodec<T, R>, token: Token, outcome: Outcome<R>) {
        self.told.end(codec, token, &outcome);
        self.effects.ended.push((token, outcome));
    }

    /// An op shares the outcome of one with the same id, and has none of its own.
    pub(super) fn repeat(&mut self, token: Token) {
        self.told.positions.push(token.position);
        self.effects.repeats.push(token);
        self.effects.release += 1;
    }

    /// A request is executed.
    pub(super) fn answer(&mut self, token: Token, withdrawn: Withdrawn) {
        self.told.positions.push(token.position);
        self.told.outcomes.push_withdrawn((token.producer, token.number), &withdrawn);
        self.effects.answered.push((token, withdrawn));
    }

    /// The record, and what follows its commit.
    pub(super) fn seal(self, shard: u16, epoch: u64) -> (Record, Effects<T, R>) {
        let Self { told, intents, resolved, charges, pause: paused, mut effects } = self;
        let starts = !effects.starts.is_empty();
        let record = Record { intents, resolved, charges, paused, starts, ..told.into_record(shard, epoch) };
        (effects.settled, effects.letters) = (record.settled.clone(), record.letters.len());
        (record, effects)
    }
}

/// The error of a result that makes a dead letter.
pub(super) fn dead_error<R>(outcome: &Outcome<R>) -> Option<&SinkError> {
    match (&outcome.result, outcome.end) {
        (
            Err(AckError::Refused(error) | AckError::Exhausted(error) | AckError::InDoubt(error)),
            End::Refused | End::Exhausted | End::InDoubt,
        ) => Some(error),
        _ => None,
    }
}

/// The ops of an intent that are not in doubt any more are left out of the next.
pub(super) fn still_in_doubt(op: &IntentOp, intent: &Intent) -> Intent {
    Intent { alone: false, schema: intent.schema, ops: vec![op.clone()] }
}
