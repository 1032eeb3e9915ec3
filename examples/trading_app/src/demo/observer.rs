//! The demo's view of a run: [`RunObserver`] feeds the live page, takes the sample for `unbatched`, and sums up decisions
//! and verdicts for the report. `trader` calls it.

use std::{collections::HashSet, time::Duration};

use roundlot::{
    End, Outcome, Stats,
    market::{PriceUpdate, Side, Symbol, TradeOp},
};
use serde::Serialize;
use tokio::time::Instant;

use super::{page::Ticker, progress::Progress, unbatched::Sample};
use crate::bot::{assignment::Takeover, orders::Orders, tick::Tick, trader::Observer, venue::VenueOrderId};

pub struct RunObserver {
    /// The live page, if there is one.
    pub ticker: Option<Ticker>,
    pub sample: Sample,
    pub decisions: Decisions,
    pub verdicts: Verdicts,
    pub held: Held,
    /// The batcher whose quota is watched.
    orders: Orders,
    /// Where takeovers are told.
    progress: Progress,
}

/// Ops that were never sent, of those that waited while the quota held batches back. The statistics do not tell for a single
/// op what held it, so this is an upper bound: the quota may have held back another partition's batch.
#[derive(Debug, Default)]
pub struct Held {
    /// Number of ops that were conflated, netted or expired after such a wait.
    pub unsent: u64,
    /// Batches that were cut, and refusals of the quota, at the last look.
    batches: u64,
    refusals: u64,
    holds: bool,
    /// The last look at which the quota held batches back.
    last: Option<Instant>,
}

/// Ops of the strategy by the partition that they wait in: a symbol and a side.
#[derive(Debug, Default)]
pub struct Decisions {
    partitions: HashSet<Partition>,
    /// Number of ops.
    ops: u64,
    /// Number of times that a decision had ops for a partition.
    groups: u64,
}

type Partition = (Option<Symbol>, Option<Side>);

/// Verdicts on the ops of the strategy, summed up. Each op has one.
#[derive(Debug, Default, Serialize)]
pub struct Verdicts {
    pub delivered: u64,
    /// Number of ops that were merged into a later one, such as a stop that moved twice.
    pub conflated: u64,
    /// Number of orders that were canceled before they were sent, and of their cancels.
    pub netted: u64,
    /// Number of all other ops, by what they are.
    pub failed_orders: u64,
    pub failed_cancels: u64,
    pub failed_amends: u64,
    /// Mean time from `submit` to the verdict.
    pub mean_seconds: f64,
    pub max_seconds: f64,
}

impl RunObserver {
    /// The sample has this number of ops of each batcher at most.
    pub fn new(ticker: Option<Ticker>, sample: usize, orders: &Orders, progress: &Progress) -> Self {
        let (sample, orders, progress) = (Sample::new(sample), orders.clone(), progress.clone());
        let (decisions, verdicts, held) = (Decisions::default(), Verdicts::default(), Held::default());
        Self { ticker, sample, decisions, verdicts, held, orders, progress }
    }
}

impl Observer for RunObserver {
    fn on_ticks(&mut self, ticks: &[Tick], updates: &[PriceUpdate]) {
        self.sample.take(ticks, updates);
        self.held.look(&self.orders.stats(), Instant::now());
    }

    fn on_price(&mut self, update: &PriceUpdate) {
        if let Some(ticker) = &self.ticker {
            ticker.on_price(update);
        }
    }

    fn on_ops(&mut self, ops: &[TradeOp]) {
        self.sample.take_orders(ops);
        self.decisions.add(ops);
    }

    fn on_verdict(&mut self, op: &TradeOp, outcome: &Outcome<VenueOrderId>) {
        if let Some(ticker) = &self.ticker {
            ticker.on_verdict(op, outcome);
        }
        self.verdicts.add(op, outcome);
        self.held.add(outcome.end, outcome.latency, Instant::now());
    }

    fn on_takeover(&mut self, takeover: &Takeover) {
        if self.orders.log_stats().is_some() {
            let Takeover { shard, term, positions, resting } = takeover;
            self.progress.say(&format!(
                "takeover   shard {shard} in its term {term}: {positions} positions and {resting} resting orders"
            ));
        }
    }

    fn on_loss(&mut self, shard: u16) {
        self.progress.say(&format!("given up   shard {shard}"));
    }
}

impl Held {
    /// Looks whether the quota holds batches back: from a refusal on until batches are cut without another one.
    fn look(&mut self, stats: &Stats, now: Instant) {
        let refusals = stats.quota.iter().map(|bucket| bucket.waited).sum();
        self.holds = refusals > self.refusals || (self.holds && stats.batches == self.batches);
        (self.refusals, self.batches) = (refusals, stats.batches);
        if self.holds {
            self.last = Some(now);
        }
    }

    /// Counts an op that has just ended, after this time.
    fn add(&mut self, end: End, waited: Duration, now: Instant) {
        let is_unsent = matches!(end, End::Conflated | End::Netted | End::Expired);
        self.unsent += u64::from(is_unsent && self.last.is_some_and(|last| now.duration_since(last) <= waited));
    }
}

impl Decisions {
    fn add(&mut self, ops: &[TradeOp]) {
        let partition = |op: &TradeOp| -> Partition { (op.symbol(), op.side()) };
        for (i, op) in ops.iter().enumerate() {
            self.partitions.insert(partition(op));
            // A decision has at most a handful of ops.
            self.groups += u64::from(!ops[..i].iter().any(|other| partition(other) == partition(op)));
        }
        self.ops += ops.len() as u64;
    }

    pub fn partitions(&self) -> usize {
        self.partitions.len()
    }

    /// Returns the mean number of ops that a decision had for a partition; `None` before the first.
    pub fn ops_at_once(&self) -> Option<f64> {
        (self.groups > 0).then(|| self.ops as f64 / self.groups as f64)
    }

    /// Returns the mean time between two decisions for the same partition in a run of this many seconds; `None` before
    /// the first.
    pub fn seconds_between(&self, run: f64) -> Option<f64> {
        (self.groups > 0).then(|| run * self.partitions.len() as f64 / self.groups as f64)
    }
}

impl Verdicts {
    fn add(&mut self, op: &TradeOp, outcome: &Outcome<VenueOrderId>) {
        let count = match (outcome.end, op) {
            (End::Delivered, _) => &mut self.delivered,
            (End::Conflated, _) => &mut self.conflated,
            (End::Netted, _) => &mut self.netted,
            (_, TradeOp::Order(_)) => &mut self.failed_orders,
            (_, TradeOp::Cancel(_)) => &mut self.failed_cancels,
            _ => &mut self.failed_amends,
        };
        *count += 1;
        let (seconds, all) = (outcome.latency.as_secs_f64(), self.all());
        self.mean_seconds += (seconds - self.mean_seconds) / all as f64;
        self.max_seconds = self.max_seconds.max(seconds);
    }

    /// Number of verdicts.
    pub fn all(&self) -> u64 {
        self.delivered + self.conflated + self.netted + self.failed()
    }

    pub fn failed(&self) -> u64 {
        self.failed_orders + self.failed_cancels + self.failed_amends
    }
}

#[cfg(test)]
mod tests {
    use roundlot::market::Order;

    use super::*;

    #[test]
    fn decisions_are_counted_by_partition() {
        let (price, quantity) = ("100".parse().unwrap(), "1".parse().unwrap());
        let order =
            |symbol: &str, side| Order::limit(1.into(), symbol.parse().unwrap(), side, price, quantity).unwrap();
        let [bid, offer, other] =
            [("BTC", Side::Buy), ("BTC", Side::Sell), ("ETH", Side::Buy)].map(|(symbol, side)| order(symbol, side));
        let mut decisions = Decisions::default();
        assert_eq!((decisions.ops_at_once(), decisions.seconds_between(10.0)), (None, None));
        decisions.add(&[]);
        decisions.add(&[bid.cancel().into(), bid.clone().into(), offer.into()]);
        decisions.add(&[bid.cancel().into(), bid.into()]);
        decisions.add(&[other.into()]);
        // Four groups: twice the bids of BTC, once its offers, once the bids of ETH.
        assert_eq!((decisions.partitions(), decisions.ops_at_once()), (3, Some(1.5)));
        assert_eq!(decisions.seconds_between(10.0), Some(7.5));
    }

    /// Goal: an op counts that ended unsent after a wait with a hold in it. Method: one bucket that refuses once, then a look
    /// without a cut, and one with a cut.
    #[tokio::test(start_paused = true)]
    async fn ops_that_ended_unsent_while_the_quota_held_are_counted() {
        let stats = |batches: u64, waited: u64| -> Stats {
            let bucket = serde_json::json!({
                "name": "orders_10s", "used": 0, "limit": 1, "waited": waited, "corrections": 0, "throttled": 0,
            });
            let mut stats = serde_json::to_value(Stats::default()).unwrap();
            stats["batches"] = batches.into();
            stats["quota"] = serde_json::json!({ "buckets": [bucket] });
            serde_json::from_value(stats).unwrap()
        };
        let (start, ms) = (Instant::now(), Duration::from_millis);
        let mut held = Held::default();
        held.look(&stats(1, 0), start);
        held.add(End::Netted, ms(50), start + ms(50));
        assert_eq!(held.unsent, 0, "nothing was held back");
        held.look(&stats(1, 1), start + ms(100));
        held.look(&stats(1, 1), start + ms(200));
        held.add(End::Netted, ms(20), start + ms(210));
        held.add(End::Conflated, ms(5), start + ms(210));
        held.add(End::Delivered, ms(100), start + ms(210));
        assert_eq!(held.unsent, 1, "the second came later, the third was sent");
        held.look(&stats(2, 1), start + ms(300));
        held.add(End::Netted, ms(50), start + ms(300));
        assert_eq!(held.unsent, 1, "batches are cut again");
    }
}
