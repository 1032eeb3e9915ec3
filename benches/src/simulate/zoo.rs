//! The models of the simulator: destinations that differ in how the cost of a write depends on its size, time and luck.

use std::time::Duration;

use fastrand::Rng;

use super::{
    later,
    model::{Model, Reply, Write},
};

/// A model by name, made anew for each run.
pub struct Entry {
    pub name: &'static str,
    pub make: fn() -> Box<dyn Model>,
}

/// The models, in the order in which tables show them.
pub fn models() -> Vec<Entry> {
    let mut models = vec![
        Entry { name: "linear", make: || simple(|write, _| (linear(write.size), Reply::Accepted)) },
        Entry { name: "knee", make: || simple(|write, _| (knee(write.size, 500.0), Reply::Accepted)) },
        Entry { name: "stairs", make: || simple(|write, _| (stairs(write.size), Reply::Accepted)) },
        Entry { name: "jump", make: || simple(jump) },
        Entry { name: "pauses", make: || Box::new(Pauses { next: 2.0 }) },
        Entry { name: "shared", make: || Box::new(Shared) },
        Entry { name: "refused over 300", make: || simple(|write, _| refused_over(write, 300, Reply::TooLarge)) },
        Entry { name: "limit told", make: || simple(|write, _| refused_over(write, 700, Reply::TooLargeOver(700))) },
        Entry { name: "quota of ops", make: || Box::new(QuotaModel::new(2_000.0, false)) },
        Entry { name: "quota of calls", make: || Box::new(QuotaModel::new(20.0, true)) },
        Entry { name: "noisy", make: || simple(|write, rng| (noisy(write.size, rng), Reply::Accepted)) },
        Entry { name: "heavy tail", make: || simple(|write, rng| (heavy(write.size, rng), Reply::Accepted)) },
        Entry { name: "noisy knee", make: || simple(noisy_knee) },
        Entry { name: "failures grow", make: || simple(failures_grow) },
        Entry { name: "gateway", make: || simple(gateway) },
        Entry { name: "moving knee", make: || simple(moving_knee) },
        Entry { name: "warm-up", make: || Box::new(WarmUp { written: 0 }) },
        Entry { name: "two regimes", make: || simple(two_regimes) },
    ];
    models.extend(later::models());
    models
}

/// A model without memory.
struct Simple<F>(F);

impl<F: FnMut(&Write, &mut Rng) -> (Duration, Reply) + Send> Model for Simple<F> {
    fn write(&mut self, write: &Write, rng: &mut Rng) -> (Duration, Reply) {
        (self.0)(write, rng)
    }
}

pub(super) fn simple(write: impl FnMut(&Write, &mut Rng) -> (Duration, Reply) + Send + 'static) -> Box<dyn Model> {
    Box::new(Simple(write))
}

pub(super) fn millis(millis: f64) -> Duration {
    Duration::from_secs_f64(millis / 1000.0)
}

/// 5 ms a call and 0.1 ms an op.
fn linear(size: usize) -> Duration {
    millis(linear_millis(size))
}

fn linear_millis(size: usize) -> f64 {
    5.0 + 0.1 * size as f64
}

/// Linear up to a size, and quadratic beyond.
fn knee(size: usize, at: f64) -> Duration {
    let over = (size as f64 - at).max(0.0) / at;
    millis(linear_millis(size) + 0.1 * at * 3.0 * over * over)
}

/// Pages of 128 ops, 8 ms each.
fn stairs(size: usize) -> Duration {
    millis(4.0 + 8.0 * size.div_ceil(128) as f64)
}

/// Four times as slow in the middle third of a minute.
fn jump(write: &Write, _: &mut Rng) -> (Duration, Reply) {
    let factor = if (20..40).contains(&(write.at.as_secs() % 60)) { 4 } else { 1 };
    (linear(write.size) * factor, Reply::Accepted)
}

fn refused_over(write: &Write, most: usize, reply: Reply) -> (Duration, Reply) {
    if write.size > most { (millis(5.0), reply) } else { (linear(write.size), Reply::Accepted) }
}

/// A normal deviate (Box and Muller, 1958).
pub(super) fn normal(rng: &mut Rng) -> f64 {
    let (one, other) = (1.0 - rng.f64(), rng.f64());
    (-2.0 * one.ln()).sqrt() * (std::f64::consts::TAU * other).cos()
}

/// Lognormal with sigma 1 and mean 1.
fn luck(rng: &mut Rng) -> f64 {
    (normal(rng) - 0.5).exp()
}

fn noisy(size: usize, rng: &mut Rng) -> Duration {
    millis(linear_millis(size) * luck(rng))
}

fn noisy_knee(write: &Write, rng: &mut Rng) -> (Duration, Reply) {
    (knee(write.size, 500.0).mul_f64(luck(rng)), Reply::Accepted)
}

/// A Pareto tail with exponent 1.5 and mean 1, at most 200.
fn heavy(size: usize, rng: &mut Rng) -> Duration {
    let pareto = (1.0 - rng.f64()).powf(-1.0 / 1.5) / 3.0;
    millis(linear_millis(size) * pareto.min(200.0))
}

/// One op in 2,000 fails its whole batch.
fn failures_grow(write: &Write, rng: &mut Rng) -> (Duration, Reply) {
    let survives = (1.0 - 0.0005_f64).powi(write.size as i32);
    (linear(write.size), if rng.f64() < survives { Reply::Accepted } else { Reply::Failed })
}

/// A gateway that gives up after 100 ms.
fn gateway(write: &Write, _: &mut Rng) -> (Duration, Reply) {
    let (takes, limit) = (linear(write.size), millis(100.0));
    if takes > limit { (limit, Reply::Unanswered) } else { (takes, Reply::Accepted) }
}

/// A knee that moves from 100 to 800 within a minute.
fn moving_knee(write: &Write, _: &mut Rng) -> (Duration, Reply) {
    let at = 100.0 * 8.0_f64.powf((write.at.as_secs_f64() / 60.0).min(1.0));
    (knee(write.size, at), Reply::Accepted)
}

/// Linear for five seconds, and a knee at 100 for the next five.
fn two_regimes(write: &Write, _: &mut Rng) -> (Duration, Reply) {
    let has_knee = write.at.as_secs() / 5 % 2 == 1;
    (if has_knee { knee(write.size, 100.0) } else { linear(write.size) }, Reply::Accepted)
}

/// A destination that stops for 150 ms, every two seconds on average.
struct Pauses {
    /// The next pause, in seconds.
    next: f64,
}

impl Model for Pauses {
    fn write(&mut self, write: &Write, rng: &mut Rng) -> (Duration, Reply) {
        let mut takes = linear(write.size);
        if write.at.as_secs_f64() >= self.next {
            takes += millis(150.0);
            self.next = write.at.as_secs_f64() - 2.0 * (1.0 - rng.f64()).ln();
        }
        (takes, Reply::Accepted)
    }
}

/// A destination of 16 partitions, each slower with each other write under way.
struct Shared;

impl Model for Shared {
    fn write(&mut self, write: &Write, _: &mut Rng) -> (Duration, Reply) {
        (linear(write.size) + linear(write.size).mul_f64(0.8 * write.others as f64), Reply::Accepted)
    }

    fn partitions(&self) -> usize {
        16
    }
}

/// A destination that takes so much in each window of a second, and asks for a pause beyond.
struct QuotaModel {
    limit: f64,
    of_calls: bool,
    window: u64,
    used: f64,
}

impl QuotaModel {
    fn new(limit: f64, of_calls: bool) -> Self {
        Self { limit, of_calls, window: 0, used: 0.0 }
    }
}

impl Model for QuotaModel {
    fn write(&mut self, write: &Write, _: &mut Rng) -> (Duration, Reply) {
        let window = write.at.as_secs();
        if window != self.window {
            (self.window, self.used) = (window, 0.0);
        }
        let cost = if self.of_calls { 1.0 } else { write.size as f64 };
        if self.used + cost > self.limit {
            let left = Duration::from_secs(window + 1) - write.at;
            return (millis(5.0), Reply::Throttled(left.saturating_sub(millis(5.0))));
        }
        self.used += cost;
        (linear(write.size), Reply::Accepted)
    }
}

/// Five times as slow at first, less so with each of the first 300 writes.
struct WarmUp {
    written: u32,
}

impl Model for WarmUp {
    fn write(&mut self, write: &Write, _: &mut Rng) -> (Duration, Reply) {
        self.written += 1;
        let cold = (1.0 - f64::from(self.written) / 300.0).max(0.0);
        (linear(write.size).mul_f64(1.0 + 4.0 * cold), Reply::Accepted)
    }
}
