//! Tests of the kill switch, with the batchers and the venue of the app on a paused clock.

use clap::Parser;
use roundlot::{
    End, Outcome, Sink,
    market::{PriceUpdate, Purpose, Side, StopMove, Symbol},
    testing::{Recorder, until_idle},
};

use super::*;
use crate::{
    cli::Cli,
    desks::{self, Desks, Workers},
    portfolio::Portfolio,
    settings,
    tick::Tick,
    venue::PaperVenue,
};

const BTC: Symbol = Symbol::from_static("BTC");
const ETH: Symbol = Symbol::from_static("ETH");

struct Stage {
    desks: Desks,
    venue: PaperVenue,
    switch: KillSwitch,
    _workers: Workers,
}

/// The app without a bot. A call of the venue takes 10 ms.
fn stage(more: &[&str]) -> Stage {
    let usual = ["venue.latency=10ms", "venue.slow_percent=0", "venue.unavailable_percent=0", "venue.reject_percent=0"];
    let set = usual.iter().chain(more).flat_map(|setting| ["--set", setting]);
    let settings = settings::load(&Cli::parse_from(["trading_app"].into_iter().chain(set)), []).unwrap();
    let venue = PaperVenue::new(settings.venue.clone(), 1);
    let halt = Halt::default();
    let gate = Gate::new(venue.clone(), halt.clone());
    let portfolio = Portfolio::new("1000".parse().unwrap());
    let (desks, _workers) = desks::open(&settings, portfolio, gate.clone(), Recorder::<Tick>::new().boxed()).unwrap();
    let switch = KillSwitch::new(desks.orders.clone(), halt, gate);
    Stage { desks, venue, switch, _workers }
}

fn limit(id: u64, side: Side, price: &str) -> Order {
    Order::limit(id.into(), BTC, side, price.parse().unwrap(), "1".parse().unwrap()).unwrap()
}

fn stop(id: u64, symbol: Symbol) -> Order {
    Order::stop(id.into(), symbol, Side::Sell, "50".parse().unwrap(), "1".parse().unwrap()).unwrap()
}

impl Stage {
    /// Hands in an op, and hears of its end in a task.
    async fn submit(&self, op: impl Into<TradeOp>) -> tokio::task::JoinHandle<Outcome<VenueOrderId>> {
        let ack = self.desks.orders.submit(op.into()).await.unwrap();
        tokio::spawn(ack.outcome())
    }

    async fn rests(&self, order: &Order) {
        assert_eq!(self.submit(order.clone()).await.await.unwrap().end, End::Delivered);
    }

    /// Buys one BTC.
    async fn hold(&self) {
        self.rests(&limit(1000, Side::Buy, "100")).await;
        let price = PriceUpdate { symbol: BTC, price: "99".parse().unwrap(), time_ns: 0 };
        assert_eq!(self.venue.on_price(&price).len(), 1);
    }

    fn resting(&self) -> Vec<String> {
        let mut ids: Vec<_> = self.venue.account().resting.iter().map(|order| order.id().to_string()).collect();
        ids.sort();
        ids
    }

    async fn pull(&self) -> Counts {
        let tally = Tally::default();
        self.switch.pull(&tally).await.unwrap();
        tally.counts()
    }
}

fn done(counts: Counts) -> Counts {
    Counts { done: true, ..counts }
}

/// Goal: what adds risk is taken back, cancels and what reduces leave. Method: one of each waits, and one of each rests.
#[tokio::test(start_paused = true)]
async fn it_withdraws_what_adds_risk_and_lets_the_rest_go() {
    let stage = stage(&[]);
    stage.hold().await;
    let canceled = limit(1, Side::Buy, "10");
    for order in [&canceled, &limit(2, Side::Buy, "11"), &stop(3, ETH)] {
        stage.rests(order).await;
    }
    stage.desks.orders.pause().await.unwrap();
    let cancel = stage.submit(canceled.cancel()).await;
    let stop_price = "51".parse().unwrap();
    let moved = stage.submit(StopMove { order_id: 3.into(), symbol: ETH, side: Side::Sell, stop_price }).await;
    let entry = stage.submit(limit(4, Side::Buy, "12")).await;
    let exit = stage.submit(limit(5, Side::Sell, "200").with_purpose(Purpose::Exit)).await;
    let protects = stage.submit(stop(6, BTC)).await;
    until_idle().await;

    let counts = stage.pull().await;
    assert_eq!(entry.await.unwrap().end, End::Withdrawn);
    assert_eq!(exit.await.unwrap().end, End::Withdrawn, "with the stop it would sell more than is held");
    assert_eq!(protects.await.unwrap().end, End::Delivered);
    // These two may be met by the switch's own cancel of their orders.
    assert!(cancel.await.unwrap().result.is_ok() && moved.await.unwrap().result.is_ok());
    assert_eq!(stage.resting(), ["6"], "only what reduces the position");
    // The first is canceled by its own cancel or by the switch's, whichever came first.
    assert!((2..=3).contains(&counts.canceled), "{counts:?}");
    let expected =
        Counts { withdrawn: 2, changes: 2, reducing: 1, canceled: counts.canceled, failed: 0, kept: 1, done: true };
    assert_eq!(counts, expected);
    assert!(
        counts.to_string().starts_with("2 waiting orders withdrawn; let go: 2 cancels and moved stops, 1 orders that")
    );
}

/// Goal: an order that lands while the switch acts doesn't stay. Method: pull it while the order is being written.
#[tokio::test(start_paused = true)]
async fn what_lands_meanwhile_is_canceled() {
    let stage = stage(&["orders.limits.linger=0ms"]);
    stage.rests(&limit(1, Side::Buy, "10")).await;
    let late = stage.submit(limit(2, Side::Buy, "11")).await;
    until_idle().await;
    assert_eq!(stage.desks.orders.stats().in_flight, 1);
    assert_eq!(stage.pull().await, done(Counts { canceled: 2, ..Counts::default() }));
    assert_eq!(late.await.unwrap().end, End::Delivered);
    assert_eq!(stage.resting(), [""; 0]);
    let mut told: Vec<String> = stage.switch.halt().take_canceled().iter().map(|(_, id)| id.to_string()).collect();
    told.sort();
    assert_eq!(told, ["1", "2"], "the bot hears of them");
}

/// Goal: what comes back from the venue to be tried again isn't. Method: a venue that is never there.
#[tokio::test(start_paused = true)]
async fn what_comes_back_does_not_leave_again() {
    let stage = stage(&["venue.unavailable_percent=100", "orders.limits.linger=0ms"]);
    let late = stage.submit(limit(2, Side::Buy, "11")).await;
    until_idle().await;
    assert_eq!(stage.desks.orders.stats().in_flight, 1);
    let _ = stage.pull().await;
    let outcome = late.await.unwrap();
    assert_eq!((outcome.end, outcome.attempts), (End::Refused, 2));
    // Handed in by whatever part of the program, it passes no more.
    assert_eq!(stage.submit(limit(3, Side::Buy, "11")).await.await.unwrap().end, End::Refused);
    stage.switch.halt().lift();
    assert!(stage.submit(limit(4, Side::Buy, "11")).await.await.unwrap().attempts > 1);
}

/// Goal: a full buffer and a bot that waits for room in it hold nothing up, and a second pull finds nothing to do. Method:
/// a bot that hands in more than fits while the desk is paused.
#[tokio::test(start_paused = true)]
async fn it_works_when_the_buffer_is_full_and_twice() {
    let stage = stage(&["orders.limits.max_pending=10"]);
    stage.rests(&limit(1, Side::Buy, "10")).await;
    stage.desks.orders.pause().await.unwrap();
    let (halt, desk) = (stage.switch.halt().clone(), stage.desks.orders.clone());
    let bot = tokio::spawn(async move {
        let _leave = halt.leave().await.unwrap();
        for id in 100..115 {
            desk.send(limit(id, Side::Buy, "12").into()).await.unwrap();
        }
    });
    until_idle().await;
    assert_eq!(stage.desks.orders.stats().waiting, 10);
    assert_eq!(stage.pull().await, done(Counts { withdrawn: 15, canceled: 1, ..Counts::default() }));
    bot.await.unwrap();
    assert_eq!(stage.resting(), [""; 0]);
    assert_eq!(stage.pull().await, done(Counts::default()));
    assert!(stage.switch.halt().is_halted() && stage.switch.halt().leave().await.is_none());
}

/// Goal: what the switch couldn't do is told. Method: a venue that went away after an order came to rest.
#[tokio::test(start_paused = true)]
async fn what_the_venue_keeps_is_told() {
    let stage = stage(&["venue.unavailable_percent=100"]);
    stage.venue.rest_for_test(&limit(1, Side::Buy, "10"));
    let counts = stage.pull().await;
    assert_eq!(counts, done(Counts { failed: 1, ..Counts::default() }));
    assert!(counts.to_string().contains("0 orders canceled at the venue, 1 failed"), "{counts}");
}

/// Goal: a venue that hangs leaves no doubt about what is done. Method: one that takes a day for a call, and an hour.
#[tokio::test(start_paused = true)]
async fn a_venue_that_hangs_is_told() {
    let stage = stage(&["venue.latency=1day"]);
    stage.venue.rest_for_test(&limit(1, Side::Buy, "10"));
    stage.desks.orders.pause().await.unwrap();
    let entry = stage.submit(limit(2, Side::Buy, "11")).await;
    let tally = Tally::default();
    assert!(timeout(Duration::from_secs(3600), stage.switch.pull(&tally)).await.is_err());
    assert_eq!(entry.await.unwrap().end, End::Withdrawn);
    assert_eq!(tally.counts(), Counts { withdrawn: 1, ..Counts::default() });
    assert!(
        tally
            .counts()
            .to_string()
            .ends_with("0 orders canceled at the venue so far: it has not answered all, and this goes on")
    );
    assert!(stage.switch.halt().is_halted());
    // Pulled again, it goes on where it was.
    assert_eq!(stage.pull().await.failed, 0);
    assert_eq!(stage.resting(), [""; 0]);
}
