//! Tests of the kill switch, with the batchers and the venue of the app on a paused clock.

use roundlot::{
    BatcherConfig, End, Limits, Outcome, Retry, Sink,
    market::{PriceUpdate, Purpose, Side, Symbol},
    testing::{Recorder, until_idle},
};

use super::*;
use crate::bot::{
    batchers::{self, Batchers, OnLog, Workers},
    portfolio::Portfolio,
    settings,
    shards::Shards,
    tick::Tick,
    venue::{PaperVenue, VenueOrderId},
};

const BTC: Symbol = Symbol::from_static("BTC");
const ETH: Symbol = Symbol::from_static("ETH");

struct Stage {
    batchers: Batchers,
    venue: PaperVenue,
    switch: KillSwitch,
    _workers: Workers,
}

/// The bot without a strategy. A call of the venue takes 10 ms.
fn stage(change: impl FnOnce(&mut settings::Venue, &mut Limits)) -> Stage {
    let ms = Duration::from_millis;
    let mut venue = settings::Venue { slow_calls: 32, ..settings::Venue::reliable_for_test() };
    let mut limits = Limits::new(20).linger(ms(5)).max_pending(20_000).max_in_flight(16);
    change(&mut venue, &mut limits);
    let retry = Retry::exponential(ms(20), ms(1000)).max_attempts(5);
    let orders = BatcherConfig::new(limits).retry(retry);
    let settings = settings::Batchers { prices: &orders, orders: &orders, trades: &orders };

    let venue = PaperVenue::new(venue, 1);
    let halt = Halt::default();
    let gate = Gate::new(venue.clone(), halt.clone());
    let portfolio = Portfolio::new("1000".parse().unwrap());
    let (batchers, _workers) =
        batchers::open(settings, portfolio, gate.clone(), Recorder::<Tick>::new().boxed()).unwrap();
    let switch = KillSwitch::new(batchers.orders.clone(), halt, gate);
    Stage { batchers, venue, switch, _workers }
}

fn limit(id: u64, side: Side, price: &str) -> Order {
    Order::limit(id.into(), BTC, side, price.parse().unwrap(), "1".parse().unwrap()).unwrap()
}

fn stop(id: u64, symbol: Symbol) -> Order {
    Order::stop(id.into(), symbol, Side::Sell, "50".parse().unwrap(), "1".parse().unwrap()).unwrap()
}

impl Stage {
    /// Submits an op, and awaits its outcome in a task.
    async fn submit(&self, op: impl Into<TradeOp>) -> tokio::task::JoinHandle<Outcome<VenueOrderId>> {
        let ack = self.batchers.orders.submit(op.into()).await.unwrap();
        tokio::spawn(ack.outcome())
    }

    async fn rests(&self, order: &Order) {
        assert_eq!(self.submit(order.clone()).await.await.unwrap().end, End::Delivered);
    }

    /// Builds a position of one BTC.
    async fn hold(&self) {
        self.rests(&limit(1000, Side::Buy, "100")).await;
        let price = PriceUpdate::new(BTC, "99".parse().unwrap(), 0);
        assert_eq!(self.venue.on_price(&price).len(), 1);
    }

    fn resting(&self) -> Vec<String> {
        let mut ids: Vec<_> = self.venue.account().resting.iter().map(|order| order.id().to_string()).collect();
        ids.sort();
        ids
    }

    async fn pull(&self) -> Counts {
        let counts = SharedCounts::default();
        self.switch.pull(&counts).await.unwrap();
        counts.counts()
    }
}

fn done(counts: Counts) -> Counts {
    Counts { done: true, ..counts }
}

/// Goal: orders that add risk are taken back; cancels and orders that reduce still leave. Method: one op of each kind
/// waits, and one order of each kind rests.
#[tokio::test(start_paused = true)]
async fn waiting_orders_that_add_risk_are_withdrawn_and_other_ops_leave() {
    let stage = stage(|_, _| {});
    stage.hold().await;
    let canceled = limit(1, Side::Buy, "10");
    for order in [&canceled, &limit(2, Side::Buy, "11"), &stop(3, ETH)] {
        stage.rests(order).await;
    }
    stage.batchers.orders.pause().await.unwrap();
    let cancel = stage.submit(canceled.cancel()).await;
    let moved = stage.submit(stop(3, ETH).move_stop("51".parse().unwrap()).unwrap()).await;
    let entry = stage.submit(limit(4, Side::Buy, "12")).await;
    let exit = stage.submit(limit(5, Side::Sell, "200").with_purpose(Purpose::Exit)).await;
    let protects = stage.submit(stop(6, BTC)).await;
    until_idle().await;

    let counts = stage.pull().await;
    assert_eq!(entry.await.unwrap().end, End::Withdrawn);
    assert_eq!(exit.await.unwrap().end, End::Withdrawn, "with the stop it would sell more than is held");
    assert_eq!(protects.await.unwrap().end, End::Delivered);
    // The switch's own cancels of their orders may net with these two.
    assert!(cancel.await.unwrap().result.is_ok() && moved.await.unwrap().result.is_ok());
    assert_eq!(stage.resting(), ["6"], "only what reduces the position");
    let larger = stop(6, BTC).amend().with_quantity("2".parse().unwrap()).unwrap();
    assert_eq!(stage.submit(larger).await.await.unwrap().end, End::Refused, "it would sell more than is held");
    let trailed = stop(6, BTC).move_stop("51".parse().unwrap()).unwrap();
    assert_eq!(stage.submit(trailed).await.await.unwrap().end, End::Delivered);
    // The first order is canceled by its own cancel or by the switch's cancel, whichever comes first.
    assert!((2..=3).contains(&counts.canceled), "{counts:?}");
    let expected = Counts { withdrawn: 2, changes: 2, reducing: 1, kept: 1, ..Counts::default() };
    assert_eq!(counts, done(Counts { canceled: counts.canceled, ..expected }));
}

/// Goal: an order that lands while the switch acts does not stay. Method: pull the switch while the order is written.
#[tokio::test(start_paused = true)]
async fn an_order_in_flight_is_canceled_once_it_rests() {
    let stage = stage(|_, limits| *limits = limits.clone().linger(Duration::ZERO));
    stage.rests(&limit(1, Side::Buy, "10")).await;
    let late = stage.submit(limit(2, Side::Buy, "11")).await;
    until_idle().await;
    assert_eq!(stage.batchers.orders.stats().in_flight, 1);
    assert_eq!(stage.pull().await, done(Counts { canceled: 2, ..Counts::default() }));
    assert_eq!(late.await.unwrap().end, End::Delivered);
    assert_eq!(stage.resting(), [""; 0]);
    let mut told: Vec<String> = stage.switch.halt().take_canceled().iter().map(|(_, id)| id.to_string()).collect();
    told.sort();
    assert_eq!(told, ["1", "2"], "the strategy is told of them");
}

/// Goal: an op that the venue failed is not tried again after a pull. Method: a venue that is never available.
#[tokio::test(start_paused = true)]
async fn a_retry_does_not_pass_the_gate() {
    let stage = stage(|venue, limits| {
        venue.unavailable_percent = 100;
        *limits = limits.clone().linger(Duration::ZERO);
    });
    let late = stage.submit(limit(2, Side::Buy, "11")).await;
    until_idle().await;
    assert_eq!(stage.batchers.orders.stats().in_flight, 1);
    let _ = stage.pull().await;
    let outcome = late.await.unwrap();
    assert_eq!((outcome.end, outcome.attempts), (End::Refused, 2));
    // The gate refuses the op, whichever part of the program submits it.
    assert_eq!(stage.submit(limit(3, Side::Buy, "11")).await.await.unwrap().end, End::Refused);
    stage.switch.halt().lift();
    assert!(stage.submit(limit(4, Side::Buy, "11")).await.await.unwrap().attempts > 1);
}

/// Goal: neither a full buffer nor a bot that waits for a permit delays a pull, and a second pull finds no work.
/// Method: a bot that submits more ops than fit while the batcher is paused.
#[tokio::test(start_paused = true)]
async fn a_pull_works_with_a_full_buffer_and_may_be_repeated() {
    let stage = stage(|_, limits| *limits = limits.clone().max_pending(10));
    stage.rests(&limit(1, Side::Buy, "10")).await;
    stage.batchers.orders.pause().await.unwrap();
    let (halt, orders) = (stage.switch.halt().clone(), stage.batchers.orders.clone());
    let bot = tokio::spawn(async move {
        let _permit = halt.permit().await.unwrap();
        for id in 100..115 {
            orders.send(limit(id, Side::Buy, "12").into()).await.unwrap();
        }
    });
    until_idle().await;
    assert_eq!(stage.batchers.orders.stats().waiting, 10);
    assert_eq!(stage.pull().await, done(Counts { withdrawn: 15, canceled: 1, ..Counts::default() }));
    bot.await.unwrap();
    assert_eq!(stage.resting(), [""; 0]);
    assert_eq!(stage.pull().await, done(Counts::default()));
    assert!(stage.switch.halt().is_halted() && stage.switch.halt().permit().await.is_none());
}

/// Goal: orders that the switch could not cancel are reported. Method: a venue that fails after an order came to rest.
#[tokio::test(start_paused = true)]
async fn orders_that_the_venue_does_not_cancel_count_as_failed() {
    let stage = stage(|venue, _| venue.unavailable_percent = 100);
    stage.venue.rest_for_test(&limit(1, Side::Buy, "10"));
    let counts = stage.pull().await;
    assert_eq!(counts, done(Counts { failed: 1, ..Counts::default() }));
}

/// Goal: a pull at a hanging venue reports its counts exactly. Method: a venue that takes a day for a call, and an
/// hour.
#[tokio::test(start_paused = true)]
async fn a_pull_at_a_venue_that_hangs_withdraws_and_halts() {
    let stage = stage(|venue, _| venue.latency = Duration::from_secs(86_400));
    stage.venue.rest_for_test(&limit(1, Side::Buy, "10"));
    stage.batchers.orders.pause().await.unwrap();
    let entry = stage.submit(limit(2, Side::Buy, "11")).await;
    let counts = SharedCounts::default();
    assert!(timeout(Duration::from_secs(3600), stage.switch.pull(&counts)).await.is_err());
    assert_eq!(entry.await.unwrap().end, End::Withdrawn);
    assert_eq!(counts.counts(), Counts { withdrawn: 1, ..Counts::default() });
    assert!(stage.switch.halt().is_halted());
    // A second pull continues where the first one stopped.
    assert_eq!(stage.pull().await.failed, 0);
    assert_eq!(stage.resting(), [""; 0]);
}

/// Goal: the switch works on a log as in memory. Method: an order that rests and one that waits, both of which add risk, and one that
/// reduces; on the real clock, since the log is a file.
#[tokio::test]
async fn a_pull_clears_a_log_too() {
    let folder = tempfile::tempdir().unwrap();
    let (place, expire_after) = (settings::LogPlace::File(folder.path().join("orders.db")), Duration::from_secs(3600));
    let log = settings::OrdersLog { place, shards: 2, expire_after };
    let config = BatcherConfig::new(Limits::new(20).linger(Duration::from_millis(1)).max_in_flight(16));
    let settings = settings::Batchers { prices: &config, orders: &config, trades: &config };
    let venue = PaperVenue::new(settings::Venue::reliable_for_test(), 1);
    let halt = Halt::default();
    let gate = Gate::new(venue.clone(), halt.clone());
    let portfolio = Portfolio::new("1000".parse().unwrap());
    let trades = Recorder::<Tick>::new();
    let log = OnLog { settings: &log, is_shared: false, shards: &Shards::default() };
    let opened = batchers::open_on_log(log, settings, portfolio, (gate.clone(), |gate| gate), trades).await;
    let (batchers, _workers) = opened.unwrap();
    let switch = KillSwitch::new(batchers.orders.clone(), halt, gate);
    let stage = Stage { batchers, venue, switch, _workers };

    stage.hold().await;
    stage.rests(&limit(1, Side::Buy, "10")).await;
    stage.batchers.orders.pause().await.unwrap();
    assert!(stage.batchers.orders.stats().paused);
    let entry = stage.submit(limit(2, Side::Buy, "12")).await;
    let protects = stage.submit(stop(3, BTC)).await;
    let expected = Counts { withdrawn: 1, reducing: 1, canceled: 1, kept: 1, ..Counts::default() };
    assert_eq!(stage.pull().await, done(expected));
    assert_eq!(entry.await.unwrap().end, End::Withdrawn);
    assert_eq!(protects.await.unwrap().end, End::Delivered);
    assert_eq!(stage.resting(), ["3"]);
    let stats = stage.batchers.orders.stats();
    assert!(!stats.paused, "a pull ends a pause");
    assert_eq!((stats.accepted, stats.waiting, stats.in_flight), (5, 0, 0));
    assert_eq!((stats.written, stats.outcomes.withdrawn), (4, 1));
}
