//! [`Lent`]: a batch that a transactional sink writes, on its way into a transaction of the log and back. The leader makes one per
//! write, and asks it afterwards which ops have landed. The batch is in the sink's hands, or here while the log has the work;
//! if the sink's future is dropped meanwhile, the leader takes it back.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;

use super::{draft::Told, positions::Token};
use crate::{
    durable::{
        codec::OpCodec,
        log::{Lease, Log, LogError, Record, Work, store::ChargeRow},
        step::Step,
        transaction::Transaction,
    },
    rules::{
        batch::{Batch, Settled, SinkError},
        outcome::{AckError, End, Outcome},
        panics,
    },
};

/// The ops of the batch.
#[derive(Debug, Default)]
pub(super) struct LentOps {
    /// Attempts of each before this one, and where its tokens end.
    ops: Vec<(u32, usize)>,
    /// The ops that they stand for, one after the other, and how those ended that were merged into them.
    tokens: Vec<(Token, Option<End>)>,
}

impl LentOps {
    /// Adds a token of an op, which is the last one or a later one.
    pub(super) fn push(&mut self, op: usize, attempts: u32, token: Token, ended: Option<End>) {
        self.ops.resize(op + 1, (attempts, self.tokens.len()));
        self.tokens.push((token, ended));
        self.ops[op].1 = self.tokens.len();
    }

    fn attempts(&self, op: usize) -> u32 {
        self.ops.get(op).map_or(0, |(attempts, _)| *attempts)
    }

    fn tokens(&self, op: usize) -> &[(Token, Option<End>)] {
        let start = op.checked_sub(1).and_then(|before| self.ops.get(before)).map_or(0, |(_, end)| *end);
        self.ops.get(op).and_then(|(_, end)| self.tokens.get(start..*end)).unwrap_or_default()
    }
}

pub(super) struct Lent<T, R> {
    pub(super) log: Arc<dyn Log>,
    codec: Arc<dyn OpCodec<T, R>>,
    pub(super) lease: Lease,
    /// Whether what is sent may differ from what the log has.
    merges: bool,
    ops: LentOps,
    /// The number of ops.
    pub(super) count: usize,
    state: Mutex<State<T, R>>,
    /// Notified when a transaction has ended.
    ended: Notify,
}

pub(super) struct State<T, R> {
    /// The batch, while the log has the work and does not run it.
    batch: Option<Batch<T, R>>,
    /// Whether the log has the work.
    pub(super) is_out: bool,
    /// Ops that had no verdict when the work was handed over.
    open: Vec<usize>,
    /// Ops that end if the transaction commits.
    ending: Vec<usize>,
    answer: Option<Result<Settled, SinkError>>,
    pub(super) landed: Landed,
    /// Draws of the batch from the quota, until the log has them.
    pub(super) charges: Vec<ChargeRow>,
}

/// Positions that transactions of a write have settled, in order.
#[derive(Debug, Default)]
pub(super) struct Landed {
    pub(super) positions: Vec<u64>,
    /// Whether a commit had no known result, so that all of it may have been undone.
    pub(super) is_unknown: bool,
}

impl<T, R> Lent<T, R>
where
    T: Send + 'static,
    R: Clone + Send + 'static,
{
    pub(super) fn new(
        log: Arc<dyn Log>,
        codec: Arc<dyn OpCodec<T, R>>,
        lease: Lease,
        merges: bool,
        ops: LentOps,
        count: usize,
        charges: Vec<ChargeRow>,
    ) -> Self {
        let landed = Landed::default();
        let state =
            State { batch: None, is_out: false, open: Vec::new(), ending: Vec::new(), answer: None, landed, charges };
        Self { log, codec, lease, merges, ops, count, state: Mutex::new(state), ended: Notify::new() }
    }

    /// Hands a batch and what is to be done with it to the log, and gets the batch back.
    pub(super) async fn write<F>(self: Arc<Self>, batch: &mut Batch<T, R>, work: F) -> Result<Settled, SinkError>
    where
        F: FnMut(&mut Transaction<'_>, &mut Batch<T, R>) -> Result<Settled, SinkError> + Send + 'static,
    {
        {
            let mut state = self.state();
            if state.is_out || batch.len() != self.count {
                // The sink gave up on a transaction of this write, and the leader takes the batch back.
                return Err(SinkError::transient("a transaction of this write has not ended"));
            }
            state.open = batch.pending_indexes().collect();
            let mut taken = batch.take();
            // The ticket in the batch would keep this alive for ever.
            *taken.ticket_mut() = None;
            (state.batch, state.is_out, state.answer) = (Some(taken), true, None);
        }
        self.log.transact(self.lease, Box::new(InTransaction { lent: Arc::clone(&self), work, is_ended: false }));
        self.give_back(batch).await;
        let answer = self.state().answer.take();
        answer.unwrap_or_else(|| Err(SinkError::outage("the log is closed")))
    }

    /// Waits until the log has no work on the batch any more, and puts it back into its place.
    pub(super) async fn give_back(self: &Arc<Self>, batch: &mut Batch<T, R>) {
        loop {
            let ended = self.ended.notified();
            if self.try_give_back(batch) {
                return;
            }
            ended.await;
        }
    }

    fn try_give_back(self: &Arc<Self>, batch: &mut Batch<T, R>) -> bool {
        let mut state = self.state();
        if state.is_out {
            return false;
        }
        if let Some(taken) = state.batch.take() {
            *batch = taken;
            *batch.ticket_mut() = Some(Arc::<Self>::clone(self));
        }
        true
    }

    /// Positions that have been settled.
    pub(super) fn take_landed(&self) -> Landed {
        let mut landed = std::mem::take(&mut self.state().landed);
        landed.positions.sort_unstable();
        landed
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State<T, R>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the log which ops end with the transaction, and how.
    pub(super) fn record(&self, batch: &Batch<T, R>, open: &[usize]) -> (Vec<usize>, Record) {
        let (mut ending, mut told) = (Vec::new(), Told::default());
        for i in open.iter().copied() {
            let (attempts, tokens) = (self.ops.attempts(i) + 1, self.ops.tokens(i));
            let (result, own) = match batch.end_of(i) {
                Some(Ok(receipt)) => (Ok(receipt.clone()), End::Delivered),
                Some(Err(error)) => {
                    if let Some((token, _)) = tokens.last() {
                        let op = self.merges.then(|| encoded(&*self.codec, &batch[i])).flatten();
                        told.letter(*token, op, self.codec.op_schema(), End::Refused, attempts, error);
                    }
                    (Err(AckError::Refused(error.clone())), End::Refused)
                }
                None => continue,
            };
            ending.push(i);
            for (token, ended) in tokens {
                let (end, latency) = (ended.unwrap_or(own), Duration::ZERO);
                told.end(&*self.codec, *token, &Outcome { result: result.clone(), end, attempts, latency });
            }
        }
        let record = told.into_record(self.lease.shard, self.lease.epoch);
        (ending, Record { charges: self.state().charges.clone(), ..record })
    }

    /// Notes how a transaction has ended. Verdicts of one that was undone are taken back.
    fn end(&self, result: Result<bool, LogError>) {
        let mut state = self.state();
        let stays = matches!(result, Ok(true) | Err(LogError::Unknown(_)));
        if stays {
            let tokens = state.ending.iter().flat_map(|i| self.ops.tokens(*i));
            let positions = tokens.map(|(token, _)| token.position);
            let positions: Vec<u64> = positions.collect();
            state.landed.positions.extend(positions);
            state.charges.clear();
        } else if let Some(mut batch) = state.batch.take() {
            batch.reopen(&state.open);
            state.batch = Some(batch);
        }
        state.answer = match result {
            Ok(true) => state.answer.take(),
            Ok(false) => match state.answer.take() {
                Some(Err(error)) => Some(Err(error)),
                _ => Some(Err(SinkError::transient(format!("it took longer than {:?}", self.lease.timeout)))),
            },
            Err(error) => {
                state.landed.is_unknown |= stays;
                Some(Err(sink_error(error)))
            }
        };
        state.is_out = false;
        drop(state);
        self.ended.notify_waiters();
    }
}

/// The bytes of an op as it is sent. `None` if the codec has none for it.
pub(super) fn encoded<T, R>(codec: &dyn OpCodec<T, R>, op: &T) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    codec.encode_op(op, &mut bytes).is_ok().then_some(bytes)
}

/// The meaning of an error of the log for the ops of a transaction.
pub(super) fn sink_error(error: LogError) -> SinkError {
    match error {
        LogError::Fenced | LogError::WentBack => SinkError::fenced(error),
        LogError::Unknown(_) => SinkError::ambiguous(error),
        // The batch is halved until the op stands alone.
        LogError::Uncommittable(_) => SinkError::refused(error),
        // Nothing has landed, and no op is to blame.
        error => SinkError::outage(error),
    }
}

/// The work of a sink, in the hands of the log.
struct InTransaction<T, R, F>
where
    T: Send + 'static,
    R: Clone + Send + 'static,
{
    lent: Arc<Lent<T, R>>,
    work: F,
    is_ended: bool,
}

impl<T, R, F> Work for InTransaction<T, R, F>
where
    T: Send + 'static,
    R: Clone + Send + 'static,
    F: FnMut(&mut Transaction<'_>, &mut Batch<T, R>) -> Result<Settled, SinkError> + Send + 'static,
{
    fn run(&mut self, transaction: &mut Transaction<'_>) -> Option<Record> {
        let (mut batch, open) = {
            let mut state = self.lent.state();
            (state.batch.take()?, std::mem::take(&mut state.open))
        };
        Step::Transaction.before();
        // Verdicts of a run that was undone.
        batch.reopen(&open);
        // The receipts are cloned for the record, which may panic, too.
        let ran = panics::catch(|| {
            let settled = (self.work)(transaction, &mut batch)?;
            Ok((settled, self.lent.record(&batch, &open)))
        });
        let (answer, ending, record) = match ran {
            Ok(Ok((settled, (ending, record)))) => (Ok(settled), ending, Some(record)),
            Ok(Err(error)) => (Err(error), Vec::new(), None),
            // Nothing has landed.
            Err(panic) => {
                let error = format!("a transaction panicked: {}", panics::message(&*panic));
                (Err(SinkError::transient(error)), Vec::new(), None)
            }
        };
        let mut state = self.lent.state();
        (state.batch, state.open, state.ending, state.answer) = (Some(batch), open, ending, Some(answer));
        record
    }

    fn end(mut self: Box<Self>, result: Result<bool, LogError>) {
        Step::Transaction.after();
        self.is_ended = true;
        self.lent.end(result);
    }
}

/// Work that the log has dropped has changed nothing.
impl<T, R, F> Drop for InTransaction<T, R, F>
where
    T: Send + 'static,
    R: Clone + Send + 'static,
{
    fn drop(&mut self) {
        if !self.is_ended {
            self.lent.end(Err(LogError::Closed));
        }
    }
}
