//! Quotas before a simulated venue, on a paused clock: a venue that counts calls and ops as they come to it, answers 429 to what is
//! over, and tells when to come back. Calls take up to 50 ms longer than each other on their way.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use fastrand::Rng;
use hdrhistogram::Histogram;
use roundlot::{Batch, Batcher, Bucket, Limits, Quota, Retry, Settled, Sink, SinkError, Stages};
use tokio::{
    runtime::Builder,
    time::{Instant, sleep, sleep_until},
};

use super::arrivals::{Arrivals, Load};

/// How a venue forgets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Forgets {
    Rolling,
    Fixed,
    /// The count falls by its limit within the window.
    Decaying,
}

/// One limit of the venue, as it documents it.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    pub name: &'static str,
    pub forgets: Forgets,
    pub limit: u64,
    pub window: Duration,
    /// A call costs 1, whatever is in it; otherwise each op does.
    pub per_call: bool,
    /// Counts each symbol by itself.
    pub per_symbol: bool,
}

/// A venue, its clock and its other client.
#[derive(Debug, Clone)]
pub struct Venue {
    pub name: &'static str,
    pub rules: Vec<Rule>,
    pub symbols: usize,
    /// Time of a write beyond 5 ms, per op.
    pub per_op: Duration,
    /// The most by which a call may take longer on its way than another.
    pub jitter: Duration,
    /// The venue's clock, ahead of the batcher's.
    pub clock_ahead: Duration,
    /// Another client draws half of the first limit, one op or call at a time, and the venue reports what is used.
    pub has_other_client: bool,
}

/// How the batcher treats the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeps {
    /// The batcher has no quota, and waits as long as a 429 says.
    Nothing,
    /// The batcher has an unpaced quota.
    Unpaced,
    /// The batcher has a quota.
    Paced,
}

/// The result of one simulation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QuotaOutcome {
    /// Calls that were answered with 429.
    pub too_many: u64,
    /// Calls among them that came after the venue's first correction: a report, or a first 429.
    pub too_many_later: u64,
    /// The share of the scarcest limit that was used.
    pub used: f64,
    /// Ops that landed.
    pub landed: u64,
    /// Time from `send` to settled, or to the end of the simulation.
    pub mean: Duration,
    pub p99: Duration,
}

fn rule(name: &'static str, forgets: Forgets, limit: u64, secs: u64, per_call: bool) -> Rule {
    Rule { name, forgets, limit, window: Duration::from_secs(secs), per_call, per_symbol: false }
}

/// The venues, in the order in which tables show them. Limits are like those of real ones.
pub fn venues() -> Vec<Venue> {
    use Forgets::{Decaying, Fixed, Rolling};
    let venue = |name, rules| Venue {
        name,
        rules,
        symbols: 1,
        per_op: Duration::from_micros(100),
        jitter: Duration::from_millis(50),
        clock_ahead: Duration::ZERO,
        has_other_client: false,
    };
    vec![
        Venue {
            jitter: Duration::ZERO,
            per_op: Duration::from_micros(20),
            ..venue("20 calls in 1 s", vec![rule("calls", Rolling, 20, 1, true)])
        },
        Venue { symbols: 8, ..venue("20 calls in 1 s, 8 symbols", vec![rule("calls", Rolling, 20, 1, true)]) },
        Venue { symbols: 8, ..venue("20 calls in 1 s, fixed", vec![rule("calls", Fixed, 20, 1, true)]) },
        venue("50 calls in 10 s", vec![rule("calls", Rolling, 50, 10, true)]),
        venue("300 ops in 10 s", vec![rule("ops", Rolling, 300, 10, false)]),
        venue("60 ops in 2 s", vec![rule("ops", Rolling, 60, 2, false)]),
        venue("1200 ops in 60 s, fixed", vec![rule("ops", Fixed, 1200, 60, false)]),
        venue(
            "300 ops in 10 s, 60 calls in 60 s",
            vec![rule("ops", Rolling, 300, 10, false), rule("calls", Fixed, 60, 60, true)],
        ),
        Venue {
            symbols: 8,
            ..venue("counter per symbol", vec![Rule { per_symbol: true, ..rule("pair", Decaying, 60, 60, false) }])
        },
        Venue {
            symbols: 8,
            ..venue("300 ops in 2 s per symbol", vec![Rule { per_symbol: true, ..rule("ops", Rolling, 300, 2, false) }])
        },
        Venue { has_other_client: true, ..venue("another client", vec![rule("ops", Rolling, 300, 10, false)]) },
        Venue {
            clock_ahead: Duration::from_millis(500),
            ..venue("clock 500 ms ahead", vec![rule("calls", Fixed, 50, 10, true)])
        },
    ]
}

impl Venue {
    /// Ops per second that it takes at most, however they are batched.
    pub fn capacity(&self) -> f64 {
        let by_ops = self.rules.iter().filter(|rule| !rule.per_call).map(|rule| {
            let symbols = if rule.per_symbol { self.symbols } else { 1 };
            rule.limit as f64 * symbols as f64 / rule.window.as_secs_f64()
        });
        // Where only calls are scarce, the destination itself is the limit.
        let by_ops = by_ops.fold(f64::INFINITY, f64::min);
        if by_ops.is_finite() { by_ops } else { 5_000.0 }
    }

    /// The share of its capacity that never meets a limit: each op could be a call of its own, ten times as often.
    fn trickle(&self) -> f64 {
        let rates = self.rules.iter().map(|rule| rule.limit as f64 / rule.window.as_secs_f64());
        rates.fold(f64::INFINITY, f64::min) / 10.0 / self.capacity()
    }

    /// Whether calls are scarce, and ops are not.
    pub fn has_scarce_calls(&self) -> bool {
        self.rules.iter().all(|rule| rule.per_call)
    }

    fn quota(&self, keeps: Keeps, start: Instant) -> Option<Quota<Op>> {
        let bucket = |rule: &Rule| -> Bucket<Op> {
            let bucket = match rule.forgets {
                Forgets::Rolling => Bucket::rolling(rule.limit, rule.window),
                Forgets::Fixed => {
                    Bucket::fixed(rule.limit, rule.window).aligned_to(start).skew(Duration::from_millis(100))
                }
                Forgets::Decaying => Bucket::decaying(rule.limit, rule.limit as f64 / rule.window.as_secs_f64()),
            };
            let bucket = if rule.per_call { bucket.per_call(1) } else { bucket };
            let bucket = if rule.per_symbol { bucket.by(|op: &Op| op.symbol as u64) } else { bucket };
            if keeps == Keeps::Paced { bucket } else { bucket.unpaced() }
        };
        (keeps != Keeps::Nothing)
            .then(|| self.rules.iter().fold(Quota::new(), |quota, rule| quota.bucket(rule.name, bucket(rule))))
    }
}

#[derive(Debug, Clone, Copy)]
struct Op {
    sent: Duration,
    symbol: usize,
}

/// The venue's counts, by rule and symbol: when, and how much.
struct Counts {
    venue: Venue,
    counts: HashMap<(usize, usize), VecDeque<(Duration, u64)>>,
    levels: HashMap<(usize, usize), (Duration, f64)>,
    /// Cost of all that was taken, by rule.
    taken: Vec<u64>,
    too_many: u64,
    too_many_later: u64,
    is_corrected: bool,
    times: Histogram<u64>,
    rng: Rng,
}

impl Counts {
    /// Counts a call, or says when to come back.
    fn count(&mut self, ops: u64, symbol: usize, now: Duration) -> Result<(), Duration> {
        let now = now + self.venue.clock_ahead;
        let costs: Vec<u64> = self.venue.rules.iter().map(|rule| if rule.per_call { 1 } else { ops }).collect();
        let rules = self.venue.rules.clone();
        for (at, rule) in rules.iter().enumerate() {
            let key = (at, if rule.per_symbol { symbol } else { 0 });
            if let Some(wait) = self.wait(rule, key, costs[at], now) {
                return Err(wait);
            }
        }
        for (at, rule) in rules.iter().enumerate() {
            let key = (at, if rule.per_symbol { symbol } else { 0 });
            self.taken[at] += costs[at];
            self.counts.entry(key).or_default().push_back((now, costs[at]));
            self.levels.entry(key).or_insert((now, 0.0)).1 += costs[at] as f64;
        }
        Ok(())
    }

    /// How long a call of this cost would have to wait, if it must.
    fn wait(&mut self, rule: &Rule, key: (usize, usize), cost: u64, now: Duration) -> Option<Duration> {
        if rule.forgets == Forgets::Decaying {
            let per_second = rule.limit as f64 / rule.window.as_secs_f64();
            let (at, level) = self.levels.entry(key).or_insert((now, 0.0));
            *level = (*level - (now - *at).as_secs_f64() * per_second).max(0.0);
            *at = now;
            let over = *level + cost as f64 - rule.limit as f64;
            return (over > 1e-9).then(|| Duration::from_secs_f64(over / per_second));
        }
        let used = self.used(rule, key, now);
        if used + cost <= rule.limit {
            return None;
        }
        Some(match rule.forgets {
            Forgets::Fixed => rule.window - Duration::from_nanos((now.as_nanos() % rule.window.as_nanos()) as u64),
            _ => {
                let oldest = self.counts[&key].front().map_or(now, |(at, _)| *at);
                oldest + rule.window - now
            }
        })
    }

    fn used(&mut self, rule: &Rule, key: (usize, usize), now: Duration) -> u64 {
        let begin = |at: Duration| at.as_nanos() / rule.window.as_nanos();
        let counts = self.counts.entry(key).or_default();
        let is_over = |at: Duration| match rule.forgets {
            Forgets::Fixed => begin(at) < begin(now),
            _ => now - at >= rule.window,
        };
        while counts.front().is_some_and(|(at, _)| is_over(*at)) {
            counts.pop_front();
        }
        counts.iter().map(|(_, cost)| cost).sum()
    }
}

struct Simulated {
    counts: Arc<Mutex<Counts>>,
    start: Instant,
    end: Duration,
}

impl Simulated {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink<Op> for Simulated {
    async fn write(&self, batch: &mut Batch<Op>) -> Result<Settled, SinkError> {
        let way = {
            let counts = &mut *self.counts();
            counts.rng.u64(..=counts.venue.jitter.as_millis() as u64)
        };
        sleep(Duration::from_millis(way)).await;
        let (now, ops, symbol) = (self.start.elapsed(), batch.len() as u64, batch[0].symbol);
        let counted = {
            let counts = &mut *self.counts();
            let counted = counts.count(ops, symbol, now);
            if counted.is_err() {
                counts.too_many += 1;
                counts.too_many_later += u64::from(counts.is_corrected);
                counts.is_corrected = true;
            }
            if counts.venue.has_other_client {
                let rule = counts.venue.rules[0];
                batch.quota().used(rule.name, counts.used(&rule, (0, 0), now));
                counts.is_corrected = true;
            }
            counted
        };
        if let Err(wait) = counted {
            return Err(SinkError::throttled(wait));
        }
        let per_op = self.counts().venue.per_op;
        sleep(Duration::from_millis(5) + per_op * batch.len() as u32).await;
        let (now, mut counts) = (self.start.elapsed(), self.counts());
        if now <= self.end {
            for op in batch.iter() {
                counts.times.saturating_record((now - op.sent).as_millis() as u64);
            }
        }
        drop(counts);
        Ok(batch.accept_all())
    }
}

/// Simulates one batcher before a venue for `length`.
pub fn run_quota(venue: &Venue, keeps: Keeps, load: Load, length: Duration, seed: u64) -> QuotaOutcome {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime of one thread needs next to nothing");
    runtime.block_on(simulate(venue, keeps, load, length, seed))
}

async fn simulate(venue: &Venue, keeps: Keeps, load: Load, length: Duration, seed: u64) -> QuotaOutcome {
    let times = Histogram::new_with_bounds(1, 3_600_000, 3).expect("the bounds are valid");
    let counts = Counts {
        venue: venue.clone(),
        counts: HashMap::new(),
        levels: HashMap::new(),
        taken: vec![0; venue.rules.len()],
        too_many: 0,
        too_many_later: 0,
        is_corrected: false,
        times,
        rng: Rng::with_seed(seed),
    };
    let (counts, start, symbols) = (Arc::new(Mutex::new(counts)), Instant::now(), venue.symbols);
    let sink = Simulated { counts: Arc::clone(&counts), start, end: length };
    let stages = if symbols == 1 { Stages::new() } else { Stages::new().partition_by(|op: &Op| op.symbol) };
    let mut batcher = Batcher::new(sink)
        .stages(stages)
        .limits(Limits::new(16_384).max_pending(65_536).max_in_flight(symbols))
        .retry(Retry::default().max_attempts(u32::MAX).seed(seed));
    if let Some(quota) = venue.quota(keeps, start) {
        batcher = batcher.quota(quota);
    }
    let (desk, worker) = batcher.spawn();
    let load = if load == Load::Trickle { Load::Poisson(venue.trickle()) } else { load };
    let mut arrivals = Arrivals::new(load, venue.capacity(), length.as_millis() as u64, seed);
    let producer = async {
        let mut next = 0;
        for ms in 0.. {
            sleep_until(start + Duration::from_millis(ms)).await;
            let (count, sent) = (arrivals.count(ms), start.elapsed());
            let ops = (next..next + count).map(|number| Op { sent, symbol: number % symbols }).collect::<Vec<_>>();
            next += count;
            if !ops.is_empty() && desk.send_all(ops).await.is_err() {
                return;
            }
        }
    };
    let other = async {
        let rule = venue.rules[0];
        if !venue.has_other_client {
            return std::future::pending().await;
        }
        loop {
            sleep(rule.window * 2 / rule.limit as u32).await;
            // The other client knows its half, and is never answered with 429.
            let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
            counts.counts.entry((0, 0)).or_default().push_back((start.elapsed(), 1));
        }
    };
    let _is_over = tokio::time::timeout(length, async { tokio::join!(producer, other) }).await;
    let summary = worker.shutdown().within(Duration::ZERO).await;
    let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
    let landed = counts.times.len();
    for left in summary.iter().flat_map(|summary| &summary.returned) {
        counts.times.saturating_record(length.saturating_sub(left.op.sent).as_millis() as u64);
    }
    let used = venue.rules.iter().zip(&counts.taken).map(|(rule, taken)| {
        let keys = if rule.per_symbol { symbols } else { 1 };
        let windows = length.as_secs_f64() / rule.window.as_secs_f64();
        *taken as f64 / (rule.limit as f64 * windows * keys as f64)
    });
    QuotaOutcome {
        too_many: counts.too_many,
        too_many_later: counts.too_many_later,
        used: used.fold(0.0, f64::max),
        landed,
        mean: Duration::from_secs_f64(counts.times.mean() / 1000.0),
        p99: Duration::from_millis(counts.times.value_at_quantile(0.99)),
    }
}
