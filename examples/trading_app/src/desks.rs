//! The three batchers, which is all that there is to know about roundlot here. In come sinks and settings, out go handles
//! to send to and workers to end. Next room: `trader`, which sends.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use roundlot::{
    Batch, Batcher, BoxSink, DeadLetter, Handle, Settled, Sink, SinkError, Stages, Worker, WorkerGone,
    market::{PriceUpdate, Priority, TradeOp},
};

use crate::{
    Error,
    meter::{Meter, Metered},
    portfolio::Portfolio,
    report::Batchers,
    risk::Gate,
    settings::Settings,
    tick::Tick,
    venue::VenueOrderId,
};

/// What the app sends to. A clone is another handle to the same batchers.
#[derive(Clone)]
pub struct Desks {
    pub prices: Handle<PriceUpdate>,
    pub orders: Handle<TradeOp, VenueOrderId>,
    pub trades: Handle<Tick>,
}

impl Desks {
    /// How many operations have been handed in and have no verdict yet.
    pub fn unsettled(&self) -> u64 {
        let stats = [self.prices.stats(), self.orders.stats(), self.trades.stats()];
        stats.iter().map(|stats| stats.waiting + stats.in_flight).sum()
    }
}

/// What ends the batchers, and what they have done.
pub struct Workers {
    prices: Worker<PriceUpdate>,
    orders: Worker<TradeOp>,
    trades: Worker<Tick>,
    pub meters: Meters,
    pub rejections: Rejections,
}

/// How the sinks were called.
#[derive(Clone)]
pub struct Meters {
    pub prices: Arc<Meter>,
    pub orders: Arc<Meter>,
    pub trades: Arc<Meter>,
}

/// Starts the batchers.
pub fn open(
    settings: &Settings,
    portfolio: Portfolio,
    gate: Gate,
    database: BoxSink<Tick>,
) -> Result<(Desks, Workers), Error> {
    let (portfolio, priced) = Metered::new(portfolio);
    let (venue, ordered) = Metered::new(gate);
    let (database, traded) = Metered::new(database);
    let rejections = Rejections::default();

    // A price that is overtaken while it waits is not worth a valuation.
    let (prices, prices_worker) = Batcher::new(portfolio)
        .name("prices")
        .stages(Stages::new().conflate_by(|update: &PriceUpdate| update.symbol, PriceUpdate::latest))
        .limits(settings.prices.limits.clone())
        .retry(settings.prices.retry.clone())
        .try_spawn()
        .map_err(|error| format!("prices.limits: {error}"))?;

    // Orders of a symbol and side leave in order, those that protect from a loss first and at once. An order and its
    // cancel that meet while they wait are never sent.
    let stages = Stages::new()
        .partition_by(|op: &TradeOp| (op.symbol(), op.side()))
        .conflate_by(TradeOp::conflation_key, TradeOp::merge)
        .priority_by(TradeOp::priority)
        .urgent_by(|op| op.priority() == Priority::Critical);
    let (orders, orders_worker) = Batcher::new(venue)
        .name("orders")
        .stages(stages)
        .limits(settings.orders.limits.clone())
        .retry(settings.orders.retry.clone())
        .dead_letters(rejections.clone())
        .try_spawn()
        .map_err(|error| format!("orders.limits: {error}"))?;

    // No rules: every trade is written, in the order in which it came.
    let (trades, trades_worker) = Batcher::new(database)
        .name("trades")
        .limits(settings.trades.limits.clone())
        .retry(settings.trades.retry.clone())
        .try_spawn()
        .map_err(|error| format!("trades.limits: {error}"))?;

    let workers = Workers {
        prices: prices_worker,
        orders: orders_worker,
        trades: trades_worker,
        meters: Meters { prices: priced, orders: ordered, trades: traded },
        rejections,
    };
    Ok((Desks { prices, orders, trades }, workers))
}

impl Workers {
    /// Writes what waits, and ends the batchers, all three at once.
    pub async fn shutdown(self, within: Duration) -> Result<Batchers, WorkerGone> {
        let (prices, orders, trades) = tokio::join!(
            self.prices.shutdown().within(within),
            self.orders.shutdown().within(within),
            self.trades.shutdown().within(within),
        );
        Ok(Batchers { prices: prices?.stats, orders: orders?.stats, trades: trades?.stats })
    }
}

/// Dead letters of the orders, counted by their reasons. A clone counts on the same list.
#[derive(Clone, Default)]
pub struct Rejections {
    reasons: Arc<Mutex<BTreeMap<String, u64>>>,
}

impl Rejections {
    pub fn reasons(&self) -> BTreeMap<String, u64> {
        self.reasons.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Sink<DeadLetter<TradeOp>> for Rejections {
    async fn write(&self, batch: &mut Batch<DeadLetter<TradeOp>>) -> Result<Settled, SinkError> {
        let mut reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        for letter in batch.pending() {
            let reason = letter.error.source().map_or_else(|| letter.error.to_string(), ToString::to_string);
            *reasons.entry(reason).or_default() += 1;
        }
        Ok(batch.accept_all())
    }
}
