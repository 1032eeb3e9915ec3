//! Tests of the orders batcher against the venue's limits, on a paused clock: with the quota it keeps to them, without it the
//! same ops meet 429s.

use std::time::Duration;

use roundlot::{
    BatcherConfig, Limits, Retry, Sink, Stats,
    market::{Order, Purpose, Side, Symbol},
    testing::Recorder,
};
use tokio::time::sleep;

use super::{
    batchers,
    portfolio::Portfolio,
    settings::{self, VenueLimits},
    tick::Tick,
    venue::{PaperVenue, VenueCounts},
};

const PAIRS: [&str; 4] = ["BTC", "ETH", "SOL", "XRP"];

/// Time between two quotes of a pair. Four pairs then send 200 orders in 10 seconds.
const REQUOTE: Duration = Duration::from_millis(200);

fn limits() -> VenueLimits {
    VenueLimits {
        orders_per_10s: 50,
        calls_per_minute: 400,
        weight_per_minute: 500,
        ignored_before_ban: 3,
        ban: Duration::from_secs(120),
    }
}

/// The settings of the orders batcher, with the numbers of `limits` in its quota.
fn with_quota() -> BatcherConfig {
    let text = r#"
        [limits]
        max_items = 20
        linger = "5ms"
        max_pending = 20000
        max_in_flight = 16

        [retry]
        base = "20ms"
        max = "1s"
        max_attempts = 5

        [quota]
        reserve = 0.1
        orders_10s = { limit = 50, window = "10s" }
        calls_1m = { limit = 400, kind = "fixed", window = "1m", per_call = 1 }
        weight_1m = { limit = 500, kind = "fixed", window = "1m" }
    "#;
    toml::from_str(text).unwrap()
}

fn without_quota() -> BatcherConfig {
    let ms = Duration::from_millis;
    let limits = Limits::new(20).linger(ms(5)).max_pending(20_000).max_in_flight(16);
    BatcherConfig::new(limits).retry(Retry::exponential(ms(20), ms(1000)).max_attempts(5))
}

fn bid(id: u64, pair: &'static str) -> Order {
    let (price, quantity) = ("100".parse().unwrap(), "1".parse().unwrap());
    Order::limit(id.into(), Symbol::from_static(pair), Side::Buy, price, quantity).unwrap()
}

/// Replaces the bid of each pair again and again for 90 seconds, so that a minute ends in the middle.
async fn trade(orders: &BatcherConfig) -> (Stats, VenueCounts) {
    let venue = PaperVenue::new(settings::Venue { limits: Some(limits()), ..settings::Venue::reliable_for_test() }, 1);
    let settings = settings::Batchers { prices: &without_quota(), orders, trades: &without_quota() };
    let portfolio = Portfolio::new("1000".parse().unwrap());
    let (batchers, workers) =
        batchers::open(settings, portfolio, venue.clone(), Recorder::<Tick>::new().boxed()).unwrap();
    let mut id = 0;
    for round in 0..450 {
        for (i, pair) in PAIRS.into_iter().enumerate() {
            id += 1;
            if round > 0 {
                batchers.orders.send(bid(id - PAIRS.len() as u64, pair).cancel().into()).await.unwrap();
            }
            batchers.orders.send(bid(id, pair).into()).await.unwrap();
            // Some orders protect from a loss, and draw from the reserve.
            if (round + i) % 50 == 0 {
                let stop = bid(100_000 + id, pair).with_purpose(Purpose::StopLoss);
                batchers.orders.send(stop.into()).await.unwrap();
            }
        }
        sleep(REQUOTE).await;
    }
    let stats = workers.shutdown(Duration::from_secs(300)).await.unwrap();
    (stats.orders, venue.counts().unwrap())
}

/// Goal: no call is beyond a limit, and the limits are used. Method: four times as many orders as the venue allows.
#[tokio::test(start_paused = true)]
async fn with_the_quota_no_call_is_answered_by_429() {
    let (stats, counts) = trade(&with_quota()).await;
    assert_eq!((counts.too_many, counts.banned, counts.bans), (0, 0, 0));
    for peak in &counts.peaks {
        assert!(peak.used <= peak.limit, "{peak:?}");
    }
    assert!(counts.peaks[0].used > 40, "the limit is used: {:?}", counts.peaks);
    let bucket = &stats.quota["orders_10s"];
    assert_eq!((bucket.limit, bucket.throttled), (50, 0));
    assert!(bucket.waited > 0 && bucket.corrections > 0, "{bucket:?}");
    assert!(!stats.quota.time().max.is_zero(), "orders have waited for it");
    assert!(stats.outcomes.netted > stats.outcomes.delivered, "orders met their cancels meanwhile: {stats}");
    assert_eq!((stats.outcomes.exhausted, stats.outcomes.returned), (0, 0));
}

/// Goal: the test above could fail. Method: the same orders without the quota. They wait as long as each 429 says, so that
/// there is no ban.
#[tokio::test(start_paused = true)]
async fn without_the_quota_calls_are_answered_by_429() {
    let (stats, counts) = trade(&without_quota()).await;
    assert!(counts.too_many >= 5, "{counts:?}");
    assert_eq!(counts.bans, 0, "the batcher waits as it is told");
    assert!(stats.quota.is_empty() && stats.retries > 0, "{stats}");
}

/// Goal: numbers that the venue's limits do not have are an error at the start. Method: a bucket of another name, and one
/// too few.
#[tokio::test]
async fn a_quota_has_the_limits_of_the_venue() {
    let quotas = ["pair = { limit = 1, window = \"1s\" }", "orders_10s = { limit = 50, window = \"10s\" }"];
    for (quota, expected) in quotas.into_iter().zip(["`pair` is in the file, and not in the code", "not in the file"]) {
        let orders: BatcherConfig = toml::from_str(&format!("[quota]\n{quota}")).unwrap();
        let settings = settings::Batchers { prices: &without_quota(), orders: &orders, trades: &without_quota() };
        let venue = PaperVenue::new(settings::Venue::reliable_for_test(), 1);
        let opened =
            batchers::open(settings, Portfolio::new("1".parse().unwrap()), venue, Recorder::<Tick>::new().boxed());
        let error = opened.err().unwrap().to_string();
        assert!(error.starts_with("orders: quota bucket ") && error.contains(expected), "{error}");
    }
}
