//! The simulated feed: a random walk per pair, which starts near the usual price of its coin and repeats with its seed.
//! `feed` runs it as a task.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use roundlot::market::{InvalidField, Price, Quantity, Side, Symbol};
use rust_decimal::{Decimal, prelude::ToPrimitive};
use tokio::{
    sync::mpsc::Sender,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use super::{
    chunk::Chunk,
    coins::{COINS, Coin, QUOTES},
    settings,
};
use crate::bot::{Error, tick::Tick, venue::Rng};

/// Time between two chunks.
const PERIOD: Duration = Duration::from_millis(5);

/// Minimum number of price steps that a pair starts with, so that its usual move of 0.02 % is some tens of steps.
const MIN_STEPS: i64 = 100_000;

/// Minimum number of decimal places of a price: two, for cents.
const MIN_PLACES: u32 = 2;

/// Factor by which a price may leave its start, up or down, so that a run of days ends at no absurd price.
const MAX_FACTOR: i64 = 10;

/// Greatest difference between the start of a pair and the usual price of its coin, in millionths.
const MAX_OFFSET: u64 = 5_000;

/// A pair and its price, as a whole number of its smallest step.
struct Pair {
    symbol: Symbol,
    start: i64,
    steps: i64,
    scale: u32,
    /// Number of decimal places of a quantity.
    quantity_scale: u32,
}

impl Pair {
    /// Returns a pair near the usual price of its coin, with steps fine enough for a random walk.
    fn new(symbol: Symbol, coin: &Coin, rng: &mut Rng) -> Option<Self> {
        let price: Decimal = coin.price.parse().ok()?;
        let steps = |scale: u32| price.checked_mul(Decimal::from(10_u64.pow(scale)))?.to_i64();
        let scale = (MIN_PLACES..10).find(|scale| steps(*scale) >= Some(MIN_STEPS))?;
        let offset = rng.below(2 * MAX_OFFSET + 1) as i64 - MAX_OFFSET as i64;
        let start = steps(scale)? + steps(scale)? * offset / 1_000_000;
        // The smallest quantity is worth a dollar or so, or one coin if that is less.
        let quantity_scale = (0..10).find(|scale| price <= Decimal::from(10_u64.pow(*scale)))?;
        Some(Self { symbol, start, steps: start, scale, quantity_scale })
    }

    /// Moves the price by some millionths.
    fn walk(&mut self, ppm: i64) {
        let range = self.start / MAX_FACTOR..=self.start * MAX_FACTOR;
        self.steps = (self.steps + self.steps * ppm / 1_000_000).clamp(*range.start(), *range.end());
    }

    /// Returns the quantity of a trade: worth 10 to 12,800 dollars at the start price, and seldom much.
    fn quantity(&self, rng: &mut Rng) -> Result<Quantity, InvalidField> {
        let cost = (10 + rng.below(91)) << rng.below(8);
        let units = cost * 10_u64.pow(self.quantity_scale + self.scale) / self.start.unsigned_abs();
        Quantity::from_scaled(units.max(1) as i64, self.quantity_scale)
    }
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
            let symbol = Symbol::new(&name(i)).ok()?;
            Pair::new(symbol, &COINS[i % COINS.len()], &mut rng)
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
        pair.walk(move_ppm);
        self.sent += 1;
        Ok(Tick {
            id: self.sent.to_string(),
            time_ns,
            symbol: pair.symbol,
            price: Price::from_scaled(pair.steps, pair.scale)?,
            quantity: Some(pair.quantity(&mut self.rng)?),
            side: Some(if move_ppm < 0 { Side::Sell } else { Side::Buy }),
        })
    }
}

fn name(i: usize) -> String {
    let (coin, quote) = (COINS[i % COINS.len()].name, QUOTES[i / COINS.len() % QUOTES.len()]);
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

    /// Goal: prices and quantities look like those of a market. Method: the first ticks of all pairs.
    #[test]
    fn pairs_start_near_the_usual_prices_of_their_coins() {
        for seed in 0..20 {
            let mut sim = sim(100, seed);
            assert_eq!(sim.pairs.len(), 100);
            for pair in &sim.pairs {
                let coin = COINS
                    .iter()
                    .find(|coin| QUOTES.iter().any(|quote| pair.symbol.as_str() == format!("{}{quote}", coin.name)))
                    .unwrap();
                let (usual, start) =
                    (coin.price.parse::<f64>().unwrap(), pair.start as f64 / 10f64.powi(pair.scale as i32));
                assert!((start / usual - 1.0).abs() <= 0.0051, "{} at {start}", pair.symbol);
            }
            for i in 0..1_000 {
                let tick = sim.next(i).unwrap();
                let worth = tick.price.to_decimal() * tick.quantity.unwrap().to_decimal();
                assert!((Decimal::from(5)..Decimal::from(14_000)).contains(&worth), "{tick:?} is worth {worth}");
            }
        }
    }

    #[test]
    fn a_long_walk_stays_within_a_factor_of_its_start() {
        let mut sim = sim(1, 1);
        for ppm in [1_000_000, -900_000] {
            (0..100).for_each(|_| sim.pairs[0].walk(ppm));
            let Pair { start, steps, .. } = sim.pairs[0];
            assert_eq!(steps, if ppm > 0 { start * MAX_FACTOR } else { start / MAX_FACTOR });
        }
    }
}
