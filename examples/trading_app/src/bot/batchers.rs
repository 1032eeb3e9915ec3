//! The three batchers: prices to the portfolio, orders to the venue, trades to the database. This file holds the whole
//! roundlot setup of the bot: stages, limits, quota, retries, dead letters, the log of orders, shutdown. `main` opens the batchers; `trader`
//! sends to them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use roundlot::{
    Batch, Batcher, BatcherConfig, Bucket, DeadLetter, Handle, Quota, QuotaConfig, Settled, Sink, SinkError, Stages,
    Stats, Worker,
    durable::{self, Durable, Engine, File, Joined, Nats, PostgreSql},
    market::{OrderKind, PriceUpdate, Priority, Purpose, Side, Symbol, TradeOp},
    sink::Guarantee,
};
use serde::Serialize;
use tokio::time::{Instant, sleep, timeout};

use super::{
    Error,
    ids::placed_at,
    kill_switch::Gate,
    orders::{Counted, Logged, Orders, Written},
    settings::{self, LogPlace, NatsLog},
    shards::Shards,
    tick::Tick,
    venue::{self, VenueOrderId},
};

/// Handles to the three batchers. A clone sends to the same batchers.
#[derive(Clone)]
pub struct Batchers {
    pub prices: Handle<PriceUpdate>,
    pub orders: Orders,
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
    orders: OrdersWorker,
    trades: Worker<Tick>,
    rejections: Rejections,
}

enum OrdersWorker {
    Memory(Worker<TradeOp>),
    Log(Joined<TradeOp, VenueOrderId>, Logged),
}

/// Final statistics of the three batchers.
#[derive(Debug, Serialize)]
pub struct FinalStats {
    pub prices: Stats,
    pub orders: Stats,
    pub trades: Stats,
    /// Number of dead letters of `orders`, by reason.
    #[serde(skip)]
    pub rejections: BTreeMap<String, u64>,
    /// Statistics of the log of orders; `None` without one.
    #[serde(skip)]
    pub log: Option<durable::Stats>,
}

/// Starts the batchers, all of them in memory.
pub fn open(
    settings: settings::Batchers<'_>,
    portfolio: impl Sink<PriceUpdate>,
    venue: impl Sink<TradeOp, VenueOrderId>,
    database: impl Sink<Tick>,
) -> Result<(Batchers, Workers), Error> {
    let rejections = Rejections::default();
    let is_idempotent = venue.guarantee() == Guarantee::Idempotent;
    let orders = Batcher::new(venue)
        .name("orders")
        .stages(stages())
        .config(settings.orders.clone())
        .dead_letters(rejections.clone());
    let orders = if is_idempotent { orders.idempotent() } else { orders };
    // Settings without a quota are for a venue without limits.
    let orders = if settings.orders.quota == QuotaConfig::default() { orders } else { orders.quota(quota()) };
    let (orders, worker) = orders.try_spawn().map_err(|error| format!("orders: {error}"))?;
    let orders = (Orders::Memory(orders), OrdersWorker::Memory(worker));
    open_with(orders, rejections, settings, portfolio, database)
}

/// The log of orders, and what this process has to do with it.
pub struct OnLog<'a> {
    pub settings: &'a settings::OrdersLog,
    /// Whether other processes may join the log, each with this venue.
    pub is_shared: bool,
    /// Learns which shards this process leads.
    pub shards: &'a Shards,
}

/// Starts the batchers, that of orders on a log: what is accepted survives the program, and is sent by whichever process leads its shard.
/// `venue` makes a sink for each term of a shard, of the gate in the lane of that shard.
pub async fn open_on_log<S: Sink<TradeOp, VenueOrderId>>(
    OnLog { settings: log, is_shared, shards }: OnLog<'_>,
    settings: settings::Batchers<'_>,
    portfolio: impl Sink<PriceUpdate>,
    (gate, venue): (Gate, impl Fn(Gate) -> S + Clone + Send + Sync + 'static),
    database: impl Sink<Tick>,
) -> Result<(Batchers, Workers), Error> {
    let (rejections, written) = (Rejections::default(), Arc::new(Written::default()));
    let joining = Joining { log, orders: settings.orders, shards, rejections: &rejections, written: &written };
    let joined = match &log.place {
        LogPlace::File(path) if is_shared => joining.join(File::at(path), gate, venue).await,
        LogPlace::File(path) => joining.join(File::at(path).exclusive(), gate, venue).await,
        LogPlace::Postgres(url) => joining.join(PostgreSql::at(url), gate, venue).await,
        LogPlace::Nats(log) => joining.join(on_nats(log), gate, venue).await,
    };
    let joined = joined?;
    let logged = Logged::new(joined.handle(), written, is_shared);
    let orders = (Orders::Log(logged.clone()), OrdersWorker::Log(joined, logged));
    open_with(orders, rejections, settings, portfolio, database)
}

/// The engine of a log in NATS. Nothing is declared of its servers: what they say at their monitoring URLs counts.
fn on_nats(NatsLog { servers, ledger, monitoring, credentials }: &NatsLog) -> Nats {
    let nats = Nats::at(servers).ledger(ledger);
    let nats = if monitoring.is_empty() { nats } else { nats.monitoring(monitoring) };
    match credentials {
        Some(path) => nats.credentials(path),
        None => nats,
    }
}

/// Parts of the orders batcher on a log of any engine.
struct Joining<'a> {
    log: &'a settings::OrdersLog,
    orders: &'a BatcherConfig,
    shards: &'a Shards,
    rejections: &'a Rejections,
    written: &'a Arc<Written>,
}

impl Joining<'_> {
    async fn join<S: Sink<TradeOp, VenueOrderId>>(
        self,
        engine: impl Engine,
        gate: Gate,
        venue: impl Fn(Gate) -> S + Clone + Send + Sync + 'static,
    ) -> Result<Joined<TradeOp, VenueOrderId>, Error> {
        let Self { log, orders, rejections, .. } = self;
        let (shards, number, counted, expire_after) =
            (self.shards.clone(), log.shards, Arc::clone(self.written), log.expire_after);
        let durable = Durable::new("orders", engine)
            .shards(log.shards, |key: &Partition| shard_key(key.0))
            .stages(move || stages().expire_at(move |op| expires_at(op, expire_after)))
            .limits(orders.limits.clone())
            .retry(orders.retry.clone())
            .dead_letters(rejections.clone())
            .sink(move |term| {
                let gate = gate.of_shard(term.shard(), number);
                let lane = gate.venue.clone();
                shards.begin(&term, lane, Counted::new(venue(gate), Arc::clone(&counted)))
            });
        let numbers = orders.quota.clone();
        let durable = if numbers == QuotaConfig::default() {
            durable
        } else {
            quota().configure(&numbers).map(drop).map_err(|error| format!("orders: {error}"))?;
            // Each term begins with a quota of the same numbers, which are sound by the line above.
            durable.quota(move || quota().configure(&numbers).unwrap_or_default())
        };
        Ok(durable.join().await.map_err(|error| format!("orders.log {}: {error}", log.place))?)
    }
}

fn open_with(
    (orders, orders_worker): (Orders, OrdersWorker),
    rejections: Rejections,
    settings: settings::Batchers<'_>,
    portfolio: impl Sink<PriceUpdate>,
    database: impl Sink<Tick>,
) -> Result<(Batchers, Workers), Error> {
    // A newer price replaces a waiting one of its symbol: an outdated price is not worth a valuation.
    let (prices, prices_worker) = Batcher::new(portfolio)
        .name("prices")
        .stages(Stages::new().conflate_by(|update: &PriceUpdate| update.symbol, PriceUpdate::latest))
        .config(settings.prices.clone())
        .try_spawn()
        .map_err(|error| format!("prices.limits: {error}"))?;

    // No stages: every trade is written, in the order of sending.
    let (trades, trades_worker) = Batcher::new(database)
        .name("trades")
        .config(settings.trades.clone())
        .try_spawn()
        .map_err(|error| format!("trades.limits: {error}"))?;

    let workers = Workers { prices: prices_worker, orders: orders_worker, trades: trades_worker, rejections };
    Ok((Batchers { prices, orders, trades }, workers))
}

/// A batch holds ops of one symbol and side.
type Partition = (Option<Symbol>, Option<Side>);

/// The orders of a symbol are in one shard, whatever their side, so that one bot trades it.
fn shard_key(symbol: Option<Symbol>) -> String {
    symbol.map_or_else(String::new, |symbol| symbol.to_string())
}

/// Orders of a symbol and side leave in order, except that orders which protect from a loss leave first and at once. An order and
/// its cancel are never sent if they meet while they wait.
fn stages() -> Stages<TradeOp> {
    Stages::new()
        .partition_by(|op: &TradeOp| -> Partition { (op.symbol(), op.side()) })
        .conflate_by(TradeOp::conflation_key, TradeOp::merge)
        .priority_by(TradeOp::priority)
        .urgent_by(|op| op.priority() == Priority::Critical)
}

/// When an op in the log is outdated: an entry or an exit by the time of its id, since its price is of that time. Orders that protect
/// from a loss, cancels and amends are never outdated.
fn expires_at(op: &TradeOp, after: Duration) -> Option<SystemTime> {
    let order = op.as_order()?;
    let is_quote = order.purpose() <= Purpose::Exit && matches!(order.kind(), OrderKind::Limit { .. });
    if is_quote { placed_at(order.id())?.checked_add(after) } else { None }
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
    pub async fn shutdown(self, within: Duration) -> Result<FinalStats, Error> {
        let (prices, orders, trades) = tokio::join!(
            self.prices.shutdown().within(within),
            self.orders.shutdown(within),
            self.trades.shutdown().within(within),
        );
        let (orders, log) = orders?;
        let rejections = self.rejections.reasons();
        Ok(FinalStats { prices: prices?.stats, orders, trades: trades?.stats, rejections, log })
    }
}

/// Pause before another flush: some commits of a log.
const FLUSH_AGAIN: Duration = Duration::from_millis(20);

impl OrdersWorker {
    /// Drains and ends the batcher. Ops that cannot be settled in time, or are paused, stay in the log, if there is one.
    async fn shutdown(self, within: Duration) -> Result<(Stats, Option<durable::Stats>), Error> {
        match self {
            Self::Memory(worker) => Ok((worker.shutdown().within(within).await?.stats, None)),
            Self::Log(joined, logged) => {
                let until = Instant::now() + within;
                if !joined.stats().paused {
                    // A flush ends early where the batcher begins anew, after a doubtful commit for example.
                    let flushed = async {
                        while joined.handle().flush().await.is_err() && !joined.handle().is_closed() {
                            sleep(FLUSH_AGAIN).await;
                        }
                    };
                    let _ = timeout(within, flushed).await;
                }
                let left = joined.leave().within(until.saturating_duration_since(Instant::now())).await?;
                Ok((logged.stats(&left), Some(left)))
            }
        }
    }
}

/// The sink for dead letters of `orders`: counts them by reason. A clone shares the counts.
#[derive(Clone, Default)]
pub struct Rejections {
    reasons: Arc<Mutex<BTreeMap<String, u64>>>,
}

impl Rejections {
    fn reasons(&self) -> BTreeMap<String, u64> {
        self.reasons.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Sink<DeadLetter<TradeOp>> for Rejections {
    async fn write(&self, batch: &mut Batch<DeadLetter<TradeOp>>) -> Result<Settled, SinkError> {
        let mut reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        for letter in batch.pending() {
            if letter.is_in_doubt() {
                tracing::info!(op = ?letter.op, "an order ended in doubt: the venue knows what became of it");
            }
            let reason = letter.error.source().map_or_else(|| letter.error.to_string(), ToString::to_string);
            *reasons.entry(reason).or_default() += 1;
        }
        Ok(batch.accept_all())
    }
}

#[cfg(test)]
mod tests {
    use roundlot::market::{ClientOrderId, Order, Side, Symbol};

    use super::*;

    #[test]
    fn entries_and_exits_are_outdated_and_stops_are_not() {
        let after = Duration::from_secs(30);
        let micros = 1_700_000_000_000_000;
        let (symbol, price, quantity) = (Symbol::from_static("BTC"), "1".parse().unwrap(), "1".parse().unwrap());
        let limit = |id: ClientOrderId| Order::limit(id, symbol, Side::Buy, price, quantity).unwrap();
        let entry = limit(micros.into());
        let stop = Order::stop(micros.into(), symbol, Side::Sell, price, quantity).unwrap();
        let at = SystemTime::UNIX_EPOCH + Duration::from_micros(micros) + after;
        assert_eq!(expires_at(&entry.clone().into(), after), Some(at));
        assert_eq!(expires_at(&entry.clone().with_purpose(Purpose::Exit).into(), after), Some(at));
        for op in [stop.into(), entry.cancel().into(), limit(7.into()).into()] {
            assert_eq!(expires_at(&op, after), None, "{op:?}");
        }
    }
}
