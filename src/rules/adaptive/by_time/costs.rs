//! [`Costs`]: the time per op of writes of each size, forgotten within some 20 seconds, and how much it scatters. It sees all
//! batches, of whatever size the load made them, so it costs nothing; it gives rise to a comparison, and proves nothing, since
//! writes of different sizes were at different times. [`ByTime`](super::ByTime) owns it.
//!
//! Times are compared by their logarithms. The mean of those is moved little by a pause or a heavy tail, which the mean of the
//! times themselves follows for minutes. A destination whose large batches are only more often unlucky is therefore not found.

/// Classes of size, by powers of two: as many as a size has bits.
const CLASSES: usize = usize::BITS as usize;

/// Time in nanoseconds after which the weight of what was seen has fallen to 1/e: shorter than an optimum takes to move by half,
/// and long enough for a few bursts.
const MEMORY: f64 = 20e9;

/// Writes that the mean of a class goes back, at most.
const MAX_WEIGHT: f64 = 16.0;

/// Weight from which on a class counts: a single write of 7 seconds ago.
const MIN_WEIGHT: f64 = 0.7;

/// Scatter, as a standard deviation of the logarithm, before any is measured: between a quiet destination and a noisy one.
const FIRST_NOISE: f64 = 0.4;

/// The least scatter that is assumed: clocks tick, and tasks wait for their turn.
const MIN_NOISE: f64 = 0.02;

/// Writes that the scatter goes back, at most.
const MAX_NOISE_WEIGHT: f64 = 30.0;

/// Sizes whose logarithms differ by less are alike enough for their difference in time to be scatter.
const ALIKE: f64 = 0.35;

/// Excess of the time per op from which on a size is suspected: 15 %.
const WORTHWHILE: f64 = 0.14;

/// Standard errors from which on a size is suspected. A comparison follows, so a wrong suspicion is cheap.
const SUSPICIOUS: f64 = 2.5;

/// Excess of the time per op, a standard error included, up to which larger batches may be tried: 50 %.
const TOLERABLE: f64 = 0.4;

/// Gain of twice the size that is next to nothing: 1 %. All larger sizes together gain no more than that again.
const FLAT: f64 = 0.01;

/// Scatter below which one write tells what a size costs; otherwise it takes two.
const QUIET: f64 = 0.15;

/// The writes of one class.
#[derive(Debug, Clone, Copy, Default)]
struct Class {
    weight: f64,
    /// Mean logarithm of the nanoseconds per op.
    cost: f64,
    /// Mean logarithm of the size.
    size: f64,
    /// Time of the last write, in nanoseconds.
    at: u64,
}

impl Class {
    fn weight(&self, now: u64) -> f64 {
        self.weight * (-(now.saturating_sub(self.at) as f64) / MEMORY).exp()
    }
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Costs {
    classes: [Class; CLASSES],
    noise: f64,
    noise_weight: f64,
    /// Logarithms of size and cost of the last write.
    last: Option<(f64, f64)>,
}

impl Costs {
    pub(super) fn new() -> Self {
        Self { classes: [Class::default(); CLASSES], noise: FIRST_NOISE, noise_weight: 2.0, last: None }
    }

    /// The standard deviation of the logarithm of a write's time.
    pub(super) fn noise(&self) -> f64 {
        self.noise.max(MIN_NOISE)
    }

    /// A write of `size` ops took `cost`, a logarithm of the time per op.
    pub(super) fn observe(&mut self, size: usize, cost: f64, now: u64) {
        let log_size = (size as f64).ln();
        if let Some((last_size, last_cost)) = self.last.replace((log_size, cost)) {
            let (larger, dearer) = (log_size - last_size, cost - last_cost);
            if larger.abs() < ALIKE {
                // A cost of `a + b * n` lowers the time per op by as much as the size grows, at most.
                let explained = dearer.clamp((-larger).min(0.0), (-larger).max(0.0));
                self.scatter((dearer - explained).abs() / std::f64::consts::SQRT_2);
            }
        }
        let class = &mut self.classes[class_of(size)];
        class.weight = (class.weight(now) + 1.0).min(MAX_WEIGHT);
        class.cost += (cost - class.cost) / class.weight;
        class.size += (log_size - class.size) / class.weight;
        class.at = now;
    }

    /// Mean absolute deviation, which an outlier moves little. 1.25 of it is the standard deviation of a normal one.
    fn scatter(&mut self, deviation: f64) {
        let deviation = 1.25 * deviation.min(4.0 * self.noise.max(0.05));
        self.noise_weight = (self.noise_weight + 1.0).min(MAX_NOISE_WEIGHT);
        self.noise += (deviation - self.noise) / self.noise_weight;
    }

    fn known(&self, below: usize, now: u64) -> impl DoubleEndedIterator<Item = (&Class, f64)> {
        let classes = self.classes[..below].iter().map(move |class| (class, class.weight(now)));
        classes.filter(|(_, weight)| *weight >= MIN_WEIGHT)
    }

    /// A smaller size than this one that seems to take less time per op: the largest one that is about as good as the best.
    /// The best one is found by an upper bound, not by the mean, which a lucky write may have lowered.
    pub(super) fn smaller_and_cheaper(&self, size: usize, now: u64) -> Option<usize> {
        let (at, noise) = (class_of(size), self.noise());
        let bound = |class: &Class, weight: f64| class.cost + noise / weight.sqrt();
        let best = self.known(at, now).min_by(|(one, w1), (other, w2)| bound(one, *w1).total_cmp(&bound(other, *w2)));
        let (best, weight) = best?;
        let large = &self.classes[at];
        let excess = large.cost - best.cost;
        let error = noise * (1.0 / weight + 1.0 / large.weight(now)).sqrt();
        if excess <= WORTHWHILE || excess <= SUSPICIOUS * error {
            return None;
        }
        let alike = |other: f64| 0.03 + 0.4 * noise * (1.0 / weight + 1.0 / other).sqrt();
        let good = self.known(at, now).rev().find(|(class, other)| class.cost - best.cost < alike(*other));
        good.map(|(class, _)| class.size.exp().round() as usize)
    }

    /// Whether batches of this size are known not to take much more time per op than smaller ones.
    pub(super) fn is_tolerable(&self, size: usize, now: u64) -> Tolerance {
        let at = class_of(size);
        let weight = self.classes[at].weight(now);
        let below = self.classes[at.saturating_sub(3)..at].iter().map(|class| (class.weight(now), class.cost));
        let (sum, costs) = below.fold((0.0, 0.0), |(sum, costs), (weight, cost)| (sum + weight, costs + weight * cost));
        let error = self.noise() * (1.0 / sum + 1.0 / weight).sqrt();
        if sum > 0.5 && self.classes[at].cost - costs / sum + error >= TOLERABLE {
            Tolerance::Doubtful
        } else if weight > if self.noise() < QUIET { 0.9 } else { 1.5 } {
            Tolerance::Fine
        } else {
            Tolerance::Unknown
        }
    }

    /// Whether twice the size has gained next to nothing, as far as that can be told.
    pub(super) fn is_flat(&self, size: usize, now: u64) -> bool {
        let at = class_of(size);
        let half = self.classes[at.saturating_sub(1)];
        let is_known = at > 0 && half.weight(now) > 0.5 && self.noise() < QUIET;
        is_known && half.cost - self.classes[at].cost < FLAT
    }

    /// Forgets all that is older, since it was of another level.
    pub(super) fn forget_before(&mut self, since: u64) {
        self.classes.iter_mut().filter(|class| class.at < since).for_each(|class| *class = Class::default());
    }
}

/// The state of knowledge of a size, compared with smaller ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tolerance {
    Fine,
    Doubtful,
    /// Too few batches of this size have landed.
    Unknown,
}

fn class_of(size: usize) -> usize {
    size.max(1).ilog2() as usize
}
