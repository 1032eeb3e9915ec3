//! Batches on their way out: an intent for each, or a way through a transaction of the log.

use std::sync::Arc;

use super::{
    draft::{Announced, Effects, Start, Writing},
    lent::{Lent, LentOps, encoded},
    positions::Token,
    running::Running,
    settle::Of,
};
use crate::{
    driver::actor::write::write,
    durable::{
        intent::{Intent, IntentOp},
        log::{Lease, store::ChargeRow},
        step::Step,
    },
    rules::{accumulator::Cut, batch::SinkError, time::Timestamp},
    sink::{Guarantee, Sink},
};

impl<T, R, S> Running<'_, T, R, S>
where
    T: Send + 'static,
    R: Clone + Send + 'static,
    S: Sink<T, R>,
{
    /// Sends a batch on its way: with an intent through the draft, or at once if a transaction will tell what became of it.
    pub(super) fn prepare(&mut self, mut cut: Box<Cut<T, R, Token>>) {
        let mut charges = self.charges_of(&cut);
        let lent = (self.guarantee == Guarantee::Transactional).then(|| {
            // A transaction that is undone has drawn from nothing but this term's own memory.
            self.lend(&mut cut, std::mem::take(&mut charges))
        });
        if lent.is_some() && !self.one_by_one {
            let start = Start { cut, writing: Writing { announced: None, lent } };
            if self.has_unrecorded_ends() {
                // A crash would let an op that was given up or withdrawn come back, after something newer of its key.
                self.draft.effects.starts.push(start);
            } else {
                self.start(start);
            }
            return;
        }
        self.draft.charges.append(&mut charges);
        let announced = Some(self.announce(&mut cut));
        self.draft.effects.starts.push(Start { cut, writing: Writing { announced, lent } });
    }

    /// Whether an op was given up or withdrawn by a command, and no record of that has committed. A request is in the log, and is
    /// executed at its place again.
    fn has_unrecorded_ends(&self) -> bool {
        let is_committing = |effects: &Effects<T, R>| effects.letters > 0 || !effects.withdrawn.is_empty();
        self.draft.told.has_letters()
            || !self.draft.effects.withdrawn.is_empty()
            || self.committing.as_ref().is_some_and(|committing| is_committing(&committing.effects))
    }

    /// Begins the writes of batches whose intents have committed. The sync may have taken long: what has expired meanwhile is left
    /// out. While the wall clock is in doubt, or the shard is paused, the batches go back.
    pub(super) fn begin_writes(&mut self, now: Timestamp) {
        for mut start in std::mem::take(&mut self.starting) {
            if self.paused || self.accumulator.is_stopped() || (self.expires && self.clock_in_doubt) {
                self.take_back(start, now);
            } else if !self.expires {
                self.start(start);
            } else {
                self.leave_out_expired(&mut start, now);
                if start.cut.batch.is_empty() {
                    self.accumulator.take_back_empty(start.cut, now);
                } else {
                    self.start(start);
                }
            }
        }
    }

    /// Ends the ops of a batch that have expired since it was cut. The next record settles them, and their part of the intent.
    fn leave_out_expired(&mut self, Start { cut, writing }: &mut Start<T, R>, now: Timestamp) {
        let gone = self.accumulator.leave_out_expired(cut, now);
        if gone.is_empty() {
            return;
        }
        self.collect(Of::Record);
        if let Some(announced) = &mut writing.announced {
            self.draft.effects.unwritten.extend(announced.certain(gone.iter().copied()));
            announced.leave_out(&gone);
            self.draft.resolved.extend(self.doubts.release(announced.number, gone.len()));
        }
    }

    /// Takes back a batch that must not be written now. None of it was.
    fn take_back(&mut self, Start { cut, writing }: Start<T, R>, now: Timestamp) {
        self.accumulator.take_back_unwritten(cut, now);
        let ended = self.collect(Of::Record);
        if let Some(announced) = writing.announced {
            self.draft.effects.unwritten.extend(announced.certain(0..announced.intent.ops.len()));
            self.resolve(&announced, &[], ended);
        }
    }

    /// Begins a write.
    pub(super) fn start(&mut self, Start { cut, writing }: Start<T, R>) {
        let (destination, limit) = (Arc::clone(&self.destination), self.limits.write_timeout);
        self.writes.push(Box::pin(async move {
            Step::Write.before();
            let (mut cut, written) = write(destination, cut, limit).await;
            if let Some(lent) = &writing.lent {
                lent.give_back(&mut cut.batch).await;
            }
            (writing, (cut, written))
        }));
    }

    /// Puts the intent of a batch into the draft.
    fn announce(&mut self, cut: &mut Cut<T, R, Token>) -> Announced {
        let ops = self.intent_ops(cut);
        let was_in_doubt = ops.iter().map(|op| self.doubts.is_in_doubt(op.first())).collect();
        let number = self.doubts.add(ops.len());
        // The new intent tells all that the earlier ones of these ops did.
        let resolved = ops.iter().filter_map(|op| self.doubts.release_op(op.first()));
        self.draft.resolved.extend(resolved.collect::<Vec<_>>());
        let intent = Intent { alone: self.one_by_one, schema: self.codec.op_schema(), ops };
        self.draft.intents.push((number, intent.encode()));
        Announced { number, intent, was_in_doubt }
    }

    /// The ops of a batch, as its intent tells them.
    fn intent_ops(&mut self, cut: &mut Cut<T, R, Token>) -> Vec<IntentOp> {
        let count = cut.batch.len();
        let mut ops: Vec<_> = (0..count).map(|_| IntentOp { positions: Vec::new(), attempts: 1, op: None }).collect();
        self.accumulator.for_each_token(cut, |i, attempts, token, _| {
            ops[i].positions.push(token.position);
            ops[i].attempts = attempts + 1;
        });
        for (i, op) in ops.iter_mut().enumerate() {
            op.positions.sort_unstable();
            if self.merges {
                op.op = encoded(&*self.codec, &cut.batch[i]);
                if op.op.is_none() {
                    // An op that is not in its intent must not be sent.
                    cut.batch.refuse(i, SinkError::refused("the codec has no bytes for the merged op"));
                }
            }
        }
        ops
    }

    /// Makes the way of a batch through transactions.
    fn lend(&self, cut: &mut Cut<T, R, Token>, charges: Vec<ChargeRow>) -> Arc<Lent<T, R>> {
        let (mut ops, count) = (LentOps::default(), cut.batch.len());
        self.accumulator.for_each_token(cut, |i, attempts, token, ended| ops.push(i, attempts, *token, ended));
        let shared = &self.leader.shared;
        let lease = Lease { shard: self.leader.shard, epoch: self.epoch, timeout: shared.transaction_timeout };
        let lent = Arc::new(Lent::new(
            Arc::clone(&shared.log),
            Arc::clone(&self.codec),
            lease,
            self.merges,
            ops,
            count,
            charges,
        ));
        *cut.batch.ticket_mut() = Some(Arc::<Lent<T, R>>::clone(&lent));
        lent
    }
}
