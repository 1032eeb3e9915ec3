//! The beginning of a term: reads what waits in the log, learns what became of ops that an earlier term may have written, and
//! pushes everything into the accumulator in the order of the log.

use std::{collections::HashMap, ops::Range, panic::AssertUnwindSafe, sync::Arc};

use futures::FutureExt;
use tracing::{info, warn};

use super::{
    TermEnd,
    doubts::Doubts,
    found::{AllInDoubt, InDoubt},
    intake::{accepted_at, token_of},
    positions::Token,
    requests::Request,
    running::Running,
};
use crate::{
    driver::clock,
    durable::{frame::Frame, intent::IntentOp, log::TermState, step::Step},
    rules::{
        accumulator::Arrival,
        batch::{Batch, CutBy, ErrorKind, SinkError, verdicts::Verdict},
        outcome::{AckError, End, Outcome},
        time::Timestamp,
    },
    sink::{Guarantee, Sink},
};

/// An op that waits in the log.
pub(super) struct Waiting {
    pub(super) token: Token,
    pub(super) at: Timestamp,
    pub(super) may_repeat: bool,
    frame: Arc<[u8]>,
    range: Range<usize>,
    schema: u32,
}

/// Why an op is given up that may kill the process.
const KILLER: &str = "the process died each time it was written";

impl<T, R, S> Running<'_, T, R, S>
where
    T: Send + 'static,
    R: Clone + Send + 'static,
    S: Sink<T, R>,
{
    pub(super) async fn recover(&mut self, state: TermState) -> Result<(), TermEnd> {
        Step::Recovery.before();
        let unwritten = self.learn_unknown();
        let (waiting, requests, last_own) = self.read_all(state.next).await?;
        self.leader.hear_all().await?;
        let flagged = waiting.iter().filter(|op| op.may_repeat);
        flagged.for_each(|op| self.flagged.add((op.token.producer, op.token.number)));
        let mut in_doubt = self.open_intents(&state, &unwritten, &requests)?;
        self.balance(&waiting, requests.len(), in_doubt.len());
        // Counted from here on. If the recovery had failed before, a follower would have to take them up.
        self.leader.account.saw(last_own);
        if !waiting.is_empty() {
            info!(batcher = %self.destination.batcher, ops = waiting.len(), in_doubt = in_doubt.len(), "recovered");
        }
        let by_position: HashMap<u64, usize> = if in_doubt.is_empty() {
            HashMap::new()
        } else {
            (0..).zip(&waiting).map(|(i, op)| (op.token.position, i)).collect()
        };
        match self.guarantee {
            Guarantee::Unknown => self.reconcile(&mut in_doubt, &waiting, &by_position).await?,
            Guarantee::Idempotent => self.end_suspects(&mut in_doubt, &waiting, &by_position),
            Guarantee::Transactional => self.trust_positions(&mut in_doubt, &waiting, &by_position),
        }
        self.push_all(waiting, requests, in_doubt, &by_position).await?;
        Step::Recovery.after();
        Ok(())
    }

    /// All ops and requests below a position that are not settled, and the number of the last frame of this process.
    async fn read_all(&mut self, until: u64) -> Result<(Vec<Waiting>, Vec<Request>, u64), TermEnd> {
        let (mut waiting, mut requests, mut last_own) = (Vec::new(), Vec::new(), 0);
        let (log, shard) = (Arc::clone(&self.leader.shared.log), self.leader.shard);
        let mut reading = log.read(shard, self.next);
        while self.next < until {
            let mut frames = reading.await?;
            // Frames that have been stored since come by the other way.
            frames.retain(|stored| stored.first < until);
            let Some(last) = frames.last() else { break };
            // The log reads on while these are unpacked.
            reading = log.read(shard, last.first.saturating_add(last.count));
            for stored in frames {
                self.has_frames_until(stored.first)?;
                let frame = Frame::open(Arc::clone(&stored.bytes))?;
                let at = accepted_at(&*log, &frame);
                let is_own = frame.producer == log.producer();
                if is_own {
                    last_own = frame.number.max(last_own);
                }
                if is_own && self.leader.account.counted_to.is_none() {
                    // This process may not have been told of it, since an earlier attempt to lead has failed or the answer was lost.
                    self.leader.note(&stored)?;
                }
                self.wall.frame(frame.made_at);
                let (entries, before) = (frame.entries()?, waiting.len() + requests.len());
                let kept = entries.len();
                for (offset, entry, range) in entries {
                    let position = stored.first + offset;
                    self.has_frames_until(position)?;
                    self.next = position + 1;
                    if self.settled.contains(position) {
                        continue;
                    }
                    let token = token_of(&entry, position, is_own);
                    if let Some(key) = frame.key(&entry, &range) {
                        requests.push(Request { token, key });
                    } else {
                        let (may_repeat, schema) = (entry.may_repeat, frame.schema);
                        waiting.push(Waiting { token, at, may_repeat, frame: Arc::clone(&frame.bytes), range, schema });
                    }
                }
                let counts = (kept, waiting.len() + requests.len() - before);
                self.kept.push(stored.first, stored.count, frame.bytes.len(), counts, at);
                self.has_frames_until(stored.first + stored.count)?;
                self.next = stored.first + stored.count;
            }
            // A shard that is asked back is handed over when all of it is known.
            if self.leader.stop.is_cancelled() {
                return Err(TermEnd::Left);
            }
        }
        self.has_frames_until(until)?;
        self.next = until;
        Ok((waiting, requests, last_own))
    }

    /// Whether all positions that have not been read and come before this one are settled: their frames may be gone, and ops may
    /// be left out of a frame.
    fn has_frames_until(&self, position: u64) -> Result<(), TermEnd> {
        if position <= self.next {
            return Ok(());
        }
        let open = self.settled.next_open(self.next);
        if open >= position { Ok(()) } else { Err(TermEnd::Unreadable(format!("no frame holds position {open}"))) }
    }

    fn warn_of_killer(&self) {
        warn!(batcher = %self.destination.batcher, "an op that may have killed earlier processes is given up");
    }

    /// Ends ops that were written alone after earlier terms had died, and died with this one's predecessor, too: they may be
    /// what kills the process.
    fn end_suspects(&mut self, all: &mut AllInDoubt, waiting: &[Waiting], by_position: &HashMap<u64, usize>) {
        let suspects: Vec<u64> = all.iter().filter(|(_, op)| op.alone).map(|(first, _)| *first).collect();
        for suspect in suspects.iter().filter_map(|first| all.remove(first)) {
            self.warn_of_killer();
            let tokens = tokens_of(&suspect.op, waiting, by_position);
            self.end_in_doubt(&suspect, &tokens, SinkError::ambiguous(KILLER));
        }
    }

    /// Nothing that is not settled has landed in a transactional sink, whatever an intent says of it: the intent is of another
    /// kind of sink, or a mark on an op that was written alone, since it may be what kills the process.
    fn trust_positions(&mut self, all: &mut AllInDoubt, waiting: &[Waiting], by_position: &HashMap<u64, usize>) {
        for op in std::mem::take(all).into_values() {
            if op.alone {
                self.warn_of_killer();
                let tokens = tokens_of(&op.op, waiting, by_position);
                let error = SinkError::refused(KILLER);
                self.letter_of(&op, &tokens, End::Exhausted, &error);
                self.end_found(&op, &tokens, End::Exhausted, Err(AckError::Exhausted(error)));
            } else {
                self.draft.resolved.extend(self.doubts.release(op.intent, 1));
            }
        }
    }

    /// Asks the sink what became of ops in doubt, and ends those of which it knows, or never will.
    async fn reconcile(
        &mut self,
        all: &mut AllInDoubt,
        waiting: &[Waiting],
        by_position: &HashMap<u64, usize>,
    ) -> Result<(), TermEnd> {
        let mut asked: Vec<InDoubt> = all.drain().map(|(_, op)| op).collect();
        asked.sort_by_key(|op| op.op.first());
        let mut ops = Vec::with_capacity(asked.len());
        for op in &asked {
            match self.op_of(op, waiting, by_position)? {
                Some(decoded) => ops.push(decoded),
                None => return Err(TermEnd::Unreadable("an op in doubt can't be decoded".to_owned())),
            }
        }
        if ops.is_empty() {
            return Ok(());
        }
        let attempts = asked.iter().map(|op| op.op.attempts).max().unwrap_or(1);
        let mut batch = Batch::new(ops, CutBy::Retry, attempts);
        Step::Reconcile.before();
        self.ask(&mut batch).await?;
        Step::Reconcile.after();
        let verdicts: Vec<_> =
            batch.verdicts_mut().iter_mut().map(|verdict| std::mem::replace(verdict, Verdict::Pending)).collect();
        for (op, verdict) in asked.iter().zip(verdicts) {
            let tokens = tokens_of(&op.op, waiting, by_position);
            match verdict {
                Verdict::Accepted(receipt) => {
                    self.end_found(op, &tokens, End::Delivered, Ok(receipt));
                }
                Verdict::Failed(error) => {
                    self.letter_of(op, &tokens, End::Refused, &error);
                    self.end_found(op, &tokens, End::Refused, Err(AckError::Refused(error)));
                }
                Verdict::Pending => {
                    let error = SinkError::ambiguous("the process died while it was written");
                    self.end_in_doubt(op, &tokens, error);
                }
                // Nothing has landed, and trying again would kill this process, too.
                Verdict::Again(_) if op.alone => {
                    let error = SinkError::refused(KILLER);
                    self.letter_of(op, &tokens, End::Exhausted, &error);
                    self.end_found(op, &tokens, End::Exhausted, Err(AckError::Exhausted(error)));
                }
                // Nothing has landed: its ops wait as any others do.
                Verdict::Again(_) => self.draft.resolved.extend(self.doubts.release(op.intent, 1)),
            }
        }
        Ok(())
    }

    /// Asks until there is an answer, or the process leaves.
    async fn ask(&mut self, batch: &mut Batch<T, R>) -> Result<(), TermEnd> {
        let mut pause = super::PAUSE.0;
        loop {
            let sink = Arc::clone(&self.destination);
            let asking = AssertUnwindSafe(sink.sink.reconcile(batch)).catch_unwind();
            let answer = tokio::select! {
                answer = asking => answer,
                () = self.leader.stop.cancelled() => return Err(TermEnd::Left),
            };
            let error = match answer {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => error,
                Err(panic) => SinkError::panicked("reconcile", &*panic),
            };
            warn!(batcher = %self.destination.batcher, error = error.chain(), "the destination can't be asked");
            let asks_again =
                matches!(error.kind(), ErrorKind::Transient | ErrorKind::Throttled { .. } | ErrorKind::Outage);
            if !asks_again {
                return Ok(());
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(super::PAUSE.1),
                () = self.leader.stop.cancelled() => return Err(TermEnd::Left),
            }
        }
    }

    /// The op as it was sent.
    fn op_of(
        &mut self,
        in_doubt: &InDoubt,
        waiting: &[Waiting],
        by_position: &HashMap<u64, usize>,
    ) -> Result<Option<T>, TermEnd> {
        let Some(first) = by_position.get(&in_doubt.op.first()).and_then(|i| waiting.get(*i)) else {
            return Err(TermEnd::Unreadable(format!("intent {} names an op that is not there", in_doubt.intent)));
        };
        match &in_doubt.op.op {
            Some(bytes) => self.decode(first.token, bytes, in_doubt.schema),
            None => self.decode(first.token, &first.frame[first.range.clone()], first.schema),
        }
    }

    fn end_in_doubt(&mut self, op: &InDoubt, tokens: &[(Token, Timestamp)], error: SinkError) {
        self.letter_of(op, tokens, End::InDoubt, &error);
        self.end_found(op, tokens, End::InDoubt, Err(AckError::InDoubt(error)));
    }

    fn letter_of(&mut self, op: &InDoubt, tokens: &[(Token, Timestamp)], end: End, error: &SinkError) {
        if let Some((token, _)) = tokens.last() {
            self.draft.told.letter(*token, op.op.op.clone(), op.schema, end, op.op.attempts, error);
        }
    }

    /// Ends an op that the accumulator does not have.
    fn end_found(&mut self, op: &InDoubt, tokens: &[(Token, Timestamp)], end: End, result: Result<R, AckError>) {
        let now = clock::now();
        for (i, (token, at)) in tokens.iter().enumerate() {
            let end = if i + 1 < tokens.len() { End::Conflated } else { end };
            let outcome = Outcome { result: result.clone(), end, attempts: op.op.attempts, latency: now.since(*at) };
            self.ids.push(token);
            self.draft.end(&*self.codec, *token, outcome);
        }
        self.draft.effects.release += tokens.len();
        self.draft.resolved.extend(self.doubts.release(op.intent, 1));
    }

    async fn push_all(
        &mut self,
        waiting: Vec<Waiting>,
        requests: Vec<Request>,
        mut in_doubt: AllInDoubt,
        by_position: &HashMap<u64, usize>,
    ) -> Result<(), TermEnd> {
        let mut requests = requests.into_iter().peekable();
        let in_intents: Vec<IntentOp> = in_doubt.values().map(|op| op.op.clone()).collect();
        let with_others = Doubts::positions(&in_intents);
        let ended = self.draft.ended_positions();
        for (i, op) in waiting.iter().enumerate() {
            let now = clock::now();
            let position = op.token.position;
            while let Some(request) = requests.next_if(|request| request.token.position < position) {
                self.execute(request);
            }
            if ended.contains(&position) {
                continue;
            }
            if let Some(found) = in_doubt.remove(&position) {
                let tokens = tokens_of(&found.op, &waiting, by_position);
                tokens.iter().for_each(|(token, _)| self.ids.push(token));
                let attempts = found.op.attempts;
                if let Some(op) = self.op_of(&found, &waiting, by_position)? {
                    self.accumulator.push_in_doubt(op, tokens, attempts, now);
                    self.doubts.waits(position, found.intent);
                }
                continue;
            }
            // The op was sent as a part of another one.
            if with_others.contains(&position) {
                continue;
            }
            if op.may_repeat && self.is_repeat(op.token).await? {
                continue;
            }
            self.ids.push(&op.token);
            if let Some(decoded) = self.decode(op.token, &op.frame[op.range.clone()], op.schema)? {
                self.accumulator.push(Arrival { op: decoded, at: op.at, token: Some(op.token) }, now);
            }
            if i % 1000 == 999 {
                tokio::task::yield_now().await;
            }
        }
        requests.for_each(|request| self.execute(request));
        Ok(())
    }
}

/// The tokens of the ops that an op in doubt stands for.
fn tokens_of(op: &IntentOp, waiting: &[Waiting], by_position: &HashMap<u64, usize>) -> Vec<(Token, Timestamp)> {
    let found = op.positions.iter().filter_map(|position| waiting.get(*by_position.get(position)?));
    found.map(|op| (op.token, op.at)).collect()
}
