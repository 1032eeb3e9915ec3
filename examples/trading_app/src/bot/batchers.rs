//! The three batchers: prices to the portfolio, orders to the venue, trades to the database. This file holds the whole
//! roundlot setup of the bot: stages, limits, quota, retries, dead letters, shutdown. `main` opens the batchers; `trader`
//! sends to them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use roundlot::{
    Batch, Batcher, Bucket, DeadLetter, Handle, Quota, QuotaConfig, Settled, Sink, SinkError, Stages, Stats, Worker,
    WorkerGone,
    market::{PriceUpdate, Priority, TradeOp},
};
use serde::Serialize;

use super::{
    Error, settings,
    tick::Tick,
    venue::{self, VenueOrderId},
};

/// Handles to the three batchers. A clone sends to the same batchers.
#[derive(Clone)]
pub struct Batchers {
    pub prices: Handle<PriceUpdate>,
    pub orders: Handle<TradeOp, VenueOrderId>,
    pub trades: Handle<Tick>,
}

impl Batchers {
    /// Number of ops that were accepted and are not settled.
    pub fn unsettled(&self) -> u64 {
        let stats = [self.prices.stats(), self.orders.stats(), self.trades.stats()];
        stats.iter().map(|stats| stats.waiting + stats.in_flight).sum()
    }
}

/// The workers, which shut the three batchers down, and the reasons of rejected orders.
pub struct Workers {
    prices: Worker<PriceUpdate>,
    orders: Worker<TradeOp>,
    trades: Worker<Tick>,
    pub rejections: Rejections,
}

/// Final statistics of the three batchers.
#[derive(Debug, Serialize)]
pub struct FinalStats {
    pub prices: Stats,
    pub orders: Stats,
    pub trades: Stats,
}

/// Starts the batchers.
pub fn open(
    settings: settings::Batchers<'_>,
    portfolio: impl Sink<PriceUpdate>,
    venue: impl Sink<TradeOp, VenueOrderId>,
    database: impl Sink<Tick>,
) -> Result<(Batchers, Workers), Error> {
    // A newer price replaces a waiting one of its symbol: an outdated price is not worth a valuation.
    let (prices, prices_worker) = Batcher::new(portfolio)
        .name("prices")
        .stages(Stages::new().conflate_by(|update: &PriceUpdate| update.symbol, PriceUpdate::latest))
        .config(settings.prices.clone())
        .try_spawn()
        .map_err(|error| format!("prices.limits: {error}"))?;

    // Orders of a symbol and side leave in order, except that orders which protect from a loss leave first and at once.
    // An order and its cancel are never sent if they meet while they wait.
    let stages = Stages::new()
        .partition_by(|op: &TradeOp| (op.symbol(), op.side()))
        .conflate_by(TradeOp::conflation_key, TradeOp::merge)
        .priority_by(TradeOp::priority)
        .urgent_by(|op| op.priority() == Priority::Critical);
    let rejections = Rejections::default();
    let orders = Batcher::new(venue)
        .name("orders")
        .stages(stages)
        .config(settings.orders.clone())
        .dead_letters(rejections.clone());
    // Settings without a quota are for a venue without limits.
    let orders = if settings.orders.quota == QuotaConfig::default() { orders } else { orders.quota(quota()) };
    let (orders, orders_worker) = orders.try_spawn().map_err(|error| format!("orders: {error}"))?;

    // No stages: every trade is written, in the order of sending.
    let (trades, trades_worker) = Batcher::new(database)
        .name("trades")
        .config(settings.trades.clone())
        .try_spawn()
        .map_err(|error| format!("trades.limits: {error}"))?;

    let workers = Workers { prices: prices_worker, orders: orders_worker, trades: trades_worker, rejections };
    Ok((Batchers { prices, orders, trades }, workers))
}

/// Costs of the ops in the limits of the venue. The numbers are in the settings, by the same names.
///
/// A part of each limit is kept for orders that protect from a loss, and for their cancels. Cancels of bids and offers are half of
/// all ops, and would leave nothing of it.
fn quota() -> Quota<TradeOp> {
    Quota::new()
        .bucket(venue::ORDERS_10S, Bucket::configured())
        .cost(venue::ORDERS_10S, |op| u64::from(venue::is_counted(op)))
        .bucket(venue::CALLS_1M, Bucket::configured())
        .bucket(venue::WEIGHT_1M, Bucket::configured().per_call_by(venue::weight))
        .reserve(0.0, |op| op.priority() == Priority::Critical)
}

impl Workers {
    /// Drains and ends the three batchers at the same time, each in the given time at most.
    pub async fn shutdown(self, within: Duration) -> Result<FinalStats, WorkerGone> {
        let (prices, orders, trades) = tokio::join!(
            self.prices.shutdown().within(within),
            self.orders.shutdown().within(within),
            self.trades.shutdown().within(within),
        );
        Ok(FinalStats { prices: prices?.stats, orders: orders?.stats, trades: trades?.stats })
    }
}

/// The sink for dead letters of `orders`: counts them by reason. A clone shares the counts.
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
