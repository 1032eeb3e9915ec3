//! The simulated feed: a random walk per pair, which repeats with its seed. `feed` runs it as a task.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use roundlot::market::{Price, Quantity, Side, Symbol};
use rust_decimal::{Decimal, prelude::ToPrimitive};
use tokio::{
    sync::mpsc::Sender,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use super::{chunk::Chunk, settings};
use crate::bot::{Error, tick::Tick, venue::Rng};

const COINS: [&str; 25] = [
    "BTC", "ETH", "SOL", "XRP", "BNB", "DOGE", "ADA", "TRX", "AVAX", "LINK", "SUI", "XLM", "BCH", "HBAR", "LTC", "TON",
    "DOT", "UNI", "NEAR", "APT", "ICP", "ETC", "AAVE", "ATOM", "FIL",
];
const QUOTES: [&str; 4] = ["USDT", "USDC", "FDUSD", "USD"];

/// Time between two chunks.
const PERIOD: Duration = Duration::from_millis(5);

/// A pair and its price, as a whole number of its smallest step.
struct Pair {
    symbol: Symbol,
    steps: i64,
    scale: u32,
}

pub struct Sim {
    pairs: Vec<Pair>,
    rng: Rng,
    /// Standard deviation of one update, in millionths of the price.
    step: u64,
    sent: u64,
}

impl Sim {
    pub fn new(settings: &settings::Sim, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let pairs = (0..settings.pairs.max(1)).filter_map(|i| {
            Some(Pair {
                symbol: Symbol::new(&name(i)).ok()?,
                steps: 100_000 + rng.below(900_000) as i64,
                scale: 1 + rng.below(5) as u32,
            })
        });
        let pairs = pairs.collect();
        let step = settings.step_percent.to_decimal().checked_mul(Decimal::from(10_000)).and_then(|step| step.to_u64());
        Self { pairs, rng, step: step.unwrap_or(u64::MAX).min(1_000_000), sent: 0 }
    }

    /// Returns the next tick, of a random pair, so that some pairs get two in a row and others wait.
    fn next(&mut self, time_ns: i64) -> Result<Tick, Error> {
        let pair = self.rng.below(self.pairs.len() as u64) as usize;
        let move_ppm = self.rng.around_zero(self.step);
        let pair = &mut self.pairs[pair];
        pair.steps = (pair.steps + pair.steps * move_ppm / 1_000_000).clamp(1_000, 100_000_000);
        self.sent += 1;
        Ok(Tick {
            id: self.sent.to_string(),
            time_ns,
            symbol: pair.symbol,
            price: Price::from_scaled(pair.steps, pair.scale)?,
            quantity: Some(Quantity::from_scaled(1 + self.rng.below(5_000) as i64, 3)?),
            side: Some(if move_ppm < 0 { Side::Sell } else { Side::Buy }),
        })
    }
}

fn name(i: usize) -> String {
    let (coin, quote) = (COINS[i % COINS.len()], QUOTES[i / COINS.len() % QUOTES.len()]);
    match i / (COINS.len() * QUOTES.len()) {
        0 => format!("{coin}{quote}"),
        more => format!("{coin}{quote}-{more}"),
    }
}

/// Sends ticks at the rate of the settings until it is told to stop.
pub async fn run(settings: settings::Sim, seed: u64, out: Sender<Result<Chunk, Error>>, stop: CancellationToken) {
    let per_second = (settings.pairs as u64).saturating_mul(settings.updates_per_second);
    let mut sim = Sim::new(&settings, seed);
    let mut clock = interval(PERIOD);
    clock.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let (began, began_ns) = (Instant::now(), now_ns());
    while stop.run_until_cancelled(clock.tick()).await.is_some() {
        let passed = began.elapsed();
        let due = (passed.as_secs_f64() * per_second as f64) as u64;
        let time_ns = began_ns.saturating_add(i64::try_from(passed.as_nanos()).unwrap_or(i64::MAX));
        let ticks: Result<Vec<Tick>, Error> = (sim.sent..due).map(|_| sim.next(time_ns)).collect();
        let chunk = ticks.map(|ticks| Chunk { ticks, bad: Vec::new() });
        if out.send(chunk).await.is_err() {
            return;
        }
    }
}

fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn sim(pairs: usize, seed: u64) -> Sim {
        let step_percent = "0.02".parse().unwrap();
        Sim::new(&settings::Sim { pairs, updates_per_second: 10, step_percent }, seed)
    }

    #[test]
    fn a_seed_gives_the_same_walk() {
        let walk = |seed| {
            let mut sim = sim(100, seed);
            (0..1_000).map(|i| sim.next(i).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(walk(1), walk(1));
        assert_ne!(walk(1), walk(2));
    }

    #[test]
    fn each_pair_has_its_name_and_moves_a_little() {
        let mut sim = sim(250, 3);
        assert_eq!(sim.step, 200);
        assert_eq!(sim.pairs.iter().map(|pair| pair.symbol).collect::<BTreeSet<_>>().len(), 250);
        let before: Vec<i64> = sim.pairs.iter().map(|pair| pair.steps).collect();
        for i in 0..10_000 {
            sim.next(i).unwrap();
        }
        let moved = before.iter().zip(&sim.pairs).filter(|(before, pair)| **before != pair.steps).count();
        assert!(moved > 240, "{moved}");
        assert!(before.iter().zip(&sim.pairs).all(|(before, pair)| (before - pair.steps).abs() < before / 10));
    }
}
