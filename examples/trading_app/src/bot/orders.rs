//! The way to the orders batcher, in memory or on a log. [`Orders`] has the verbs that both have, and the same statistics of both.
//! `batchers` makes it; the trader, the kill switch and the page of the demo send through it.

use std::{
    error::Error as StdError,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::future::join_all;
use roundlot::{
    Ack, Batch, Handle, OpId, Outcome, Outcomes, Settled, Sink, SinkError, Stats,
    durable::{self, SendError, WithdrawError},
    market::{Cancel, Purpose, Side, Symbol, TradeOp},
    sink::Guarantee,
};

use super::{Error, ids::Ids, venue::VenueOrderId};

/// Handle to the orders batcher. A clone sends to the same one.
#[derive(Clone)]
pub enum Orders {
    /// Accepted orders are in memory.
    Memory(Handle<TradeOp, VenueOrderId>),
    /// Accepted orders are in a log, and survive the program.
    Log(Logged),
}

/// The handle to a batcher on a log, and what its statistics do not have.
#[derive(Clone)]
pub struct Logged {
    desk: durable::Handle<TradeOp, VenueOrderId>,
    written: Arc<Written>,
    verdicts: Arc<Mutex<Verdicts>>,
    /// Whether several processes may join the log.
    is_shared: bool,
}

/// The answer that an order waits for.
pub enum OrderAck {
    Memory(Ack<VenueOrderId>),
    Log(durable::Ack<VenueOrderId>, Arc<Mutex<Verdicts>>),
}

/// The batcher has ended, and takes nothing any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended;

/// Why waiting ops can't be withdrawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unwithdrawn {
    Ended,
    /// Other bots have joined the log, and some of the ops are theirs.
    Shared,
}

impl Orders {
    /// Hands ops in, in this order. Returns an ack for each, when all are accepted.
    pub async fn submit_all(&self, ops: impl IntoIterator<Item = TradeOp>) -> Result<Vec<OrderAck>, Error> {
        match self {
            Self::Memory(desk) => {
                let mut acks = Vec::new();
                for op in ops {
                    acks.push(OrderAck::Memory(desk.submit(op).await?));
                }
                Ok(acks)
            }
            // At once, so that they share a record of the log, and its sync.
            Self::Log(logged) => join_all(ops.into_iter().map(|op| logged.submit(op))).await.into_iter().collect(),
        }
    }

    pub async fn submit(&self, op: TradeOp) -> Result<OrderAck, Error> {
        match self {
            Self::Memory(desk) => Ok(OrderAck::Memory(desk.submit(op).await?)),
            Self::Log(logged) => logged.submit(op).await,
        }
    }

    #[cfg(test)]
    pub async fn send(&self, op: TradeOp) -> Result<(), Error> {
        match self {
            Self::Memory(desk) => Ok(desk.send(op).await?),
            Self::Log(logged) => Ok(logged.desk.send(op).await?),
        }
    }

    /// Settles all that was accepted, and returns how ops ended since the last flush. On a log, ops of earlier runs count, too.
    pub async fn flush(&self) -> Result<Outcomes, Ended> {
        match self {
            Self::Memory(desk) => Ok(desk.flush().await.map_err(|_| Ended)?.outcomes),
            Self::Log(logged) => {
                let mut report = logged.desk.flush().await.map_err(|_| Ended)?;
                report.outcomes += report.others;
                Ok(report.outcomes)
            }
        }
    }

    /// Takes waiting ops back out.
    pub async fn withdraw(
        &self,
        wanted: impl FnMut(&TradeOp) -> bool + Send + 'static,
    ) -> Result<Vec<TradeOp>, Unwithdrawn> {
        match self {
            Self::Memory(desk) => desk.withdraw(wanted).await.map_err(|_| Unwithdrawn::Ended),
            Self::Log(logged) => logged.desk.withdraw(wanted).await.map_err(|error| match error {
                WithdrawError::Shared => Unwithdrawn::Shared,
                _ => Unwithdrawn::Ended,
            }),
        }
    }

    /// Stops sending. On a log, all bots that share it and later runs are paused, too.
    pub async fn pause(&self) -> Result<(), Ended> {
        match self {
            Self::Memory(desk) => desk.pause().await.map_err(|_| Ended),
            Self::Log(logged) => logged.desk.pause().await.map(drop).map_err(|_| Ended),
        }
    }

    pub async fn resume(&self) -> Result<(), Ended> {
        match self {
            Self::Memory(desk) => desk.resume().await.map_err(|_| Ended),
            Self::Log(logged) => logged.desk.resume().await.map_err(|_| Ended),
        }
    }

    /// Counters and gauges. On a log, ops that were recovered count as accepted, and the parts of the time in the buffer are not
    /// known.
    pub fn stats(&self) -> Stats {
        match self {
            Self::Memory(desk) => desk.stats(),
            Self::Log(logged) => logged.stats(&logged.desk.stats()),
        }
    }

    /// The shard of the log that has the orders of a symbol. Zero in memory.
    pub fn shard_of(&self, symbol: Symbol) -> u16 {
        self.id_in_log(symbol).map_or(0, |id| id.shard())
    }

    /// A source of client ids that no other process uses, and no other run, at a venue that remembers orders.
    pub fn client_ids(&self) -> Ids {
        // All ids in the log have the same number of this process.
        self.id_in_log(Symbol::from_static("-")).map_or(Ids::ByTime(0), |id| Ids::ByProcess(0, id.producer()))
    }

    /// An id that an op of a symbol could have. No op gets it.
    fn id_in_log(&self, symbol: Symbol) -> Option<OpId> {
        let Self::Log(logged) = self else { return None };
        Some(logged.desk.next_id(&Cancel::new(0.into(), symbol, Side::Buy, Purpose::Entry).into()))
    }

    /// Whether several processes may join the log.
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::Log(logged) if logged.is_shared)
    }

    pub fn is_closed(&self) -> bool {
        match self {
            Self::Memory(desk) => desk.is_closed(),
            Self::Log(logged) => logged.desk.is_closed(),
        }
    }

    /// Statistics of the log; `None` in memory.
    pub fn log_stats(&self) -> Option<durable::Stats> {
        match self {
            Self::Memory(_) => None,
            Self::Log(logged) => Some(logged.desk.stats()),
        }
    }
}

impl Logged {
    pub fn new(desk: durable::Handle<TradeOp, VenueOrderId>, written: Arc<Written>, is_shared: bool) -> Self {
        Self { desk, written, verdicts: Arc::default(), is_shared }
    }

    /// Hands an op in. If the log gives no answer in time, the op is handed in again as the same one, so that it is accepted once.
    async fn submit(&self, op: TradeOp) -> Result<OrderAck, Error> {
        let mut submitted = self.desk.submit(op).await;
        loop {
            match submitted {
                Ok(ack) => return Ok(OrderAck::Log(ack, Arc::clone(&self.verdicts))),
                Err(SendError::InDoubt { op, id }) => submitted = self.desk.submit_as(id, op).await,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Returns the statistics of the log in the form of a batcher in memory.
    pub fn stats(&self, log: &durable::Stats) -> Stats {
        let (batches, written) = self.written.counts();
        let verdicts = lock(&self.verdicts);
        let mut stats = Stats::default();
        // Ops of other processes that this one led count here, unless yet another one has led them since.
        let came = log.accepted + log.recovered + log.received;
        stats.accepted = came.saturating_sub(log.handed_over + log.repeats);
        stats.outcomes = log.outcomes;
        (stats.waiting, stats.in_flight) = (log.waiting, log.in_flight);
        (stats.batches, stats.written, stats.retries) = (batches, written, verdicts.retries);
        (stats.paused, stats.max_pending) = (log.paused, log.max_pending);
        stats.quota = log.quota.clone();
        (stats.in_buffer.mean, stats.in_buffer.max) = (verdicts.mean(), verdicts.max);
        stats
    }
}

impl OrderAck {
    /// Waits for what becomes of the op.
    pub async fn outcome(self) -> Outcome<VenueOrderId> {
        match self {
            Self::Memory(ack) => ack.outcome().await,
            Self::Log(ack, verdicts) => {
                let outcome = ack.outcome().await;
                lock(&verdicts).add(&outcome);
                outcome
            }
        }
    }
}

/// Times of the ops of this run that were sent, and how often they were tried again.
#[derive(Default)]
pub struct Verdicts {
    sent: u32,
    total: Duration,
    max: Duration,
    retries: u64,
}

impl Verdicts {
    fn add(&mut self, outcome: &Outcome<VenueOrderId>) {
        if outcome.attempts == 0 {
            return;
        }
        self.sent = self.sent.saturating_add(1);
        self.total = self.total.saturating_add(outcome.latency);
        self.max = self.max.max(outcome.latency);
        self.retries += u64::from(outcome.attempts - 1);
    }

    fn mean(&self) -> Duration {
        self.total.checked_div(self.sent).unwrap_or_default()
    }
}

fn lock(verdicts: &Mutex<Verdicts>) -> MutexGuard<'_, Verdicts> {
    verdicts.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Batches that were handed to the sink, and ops in them.
#[derive(Debug, Default)]
pub struct Written {
    batches: AtomicU64,
    ops: AtomicU64,
}

impl Written {
    fn counts(&self) -> (u64, u64) {
        (self.batches.load(Ordering::Relaxed), self.ops.load(Ordering::Relaxed))
    }
}

/// A sink whose batches are counted.
pub struct Counted<S> {
    inner: S,
    written: Arc<Written>,
}

impl<S> Counted<S> {
    pub fn new(inner: S, written: Arc<Written>) -> Self {
        Self { inner, written }
    }
}

impl<S: Sink<TradeOp, VenueOrderId>> Sink<TradeOp, VenueOrderId> for Counted<S> {
    async fn write(&self, batch: &mut Batch<TradeOp, VenueOrderId>) -> Result<Settled, SinkError> {
        self.written.batches.fetch_add(1, Ordering::Relaxed);
        self.written.ops.fetch_add(batch.len() as u64, Ordering::Relaxed);
        self.inner.write(batch).await
    }

    async fn close(&self) -> Result<(), SinkError> {
        self.inner.close().await
    }

    fn guarantee(&self) -> Guarantee {
        self.inner.guarantee()
    }

    async fn reconcile(&self, batch: &mut Batch<TradeOp, VenueOrderId>) -> Result<(), SinkError> {
        self.inner.reconcile(batch).await
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the batcher of orders has ended")
    }
}

impl StdError for Ended {}

impl fmt::Display for Unwithdrawn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended => Ended.fmt(f),
            Self::Shared => f.write_str("orders of several bots can't be withdrawn"),
        }
    }
}

impl StdError for Unwithdrawn {}
