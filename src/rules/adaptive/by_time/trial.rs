//! [`Trial`]: a comparison of two sizes. A large batch among small ones makes a group; within a group, the difference of the
//! logarithms of the times per op is free of a level that moves slowly. Groups go on until the differences decide.
//!
//! That larger batches are worse is decided by a mixture likelihood ratio, which may be looked at after each group (Robbins,
//! Annals of Mathematical Statistics 1970): its chance to err does not grow with the number of looks. That they are not is
//! decided as soon as an upper bound of the difference is small, since to let go is what natural batching does anyway.

use super::Landing;

/// Scatter from which on a destination is noisy, and a group has more small batches.
const NOISY: f64 = 0.3;

/// Groups that have to agree that larger batches are worse: a pause may have met one of them.
const MIN_GROUPS: f64 = 2.0;

/// Groups that have to agree to anything where the destination is noisy.
const MIN_NOISY_GROUPS: f64 = 3.0;

/// Groups that the scatter before the trial counts for.
const PRIOR_GROUPS: f64 = 2.0;

/// A group is dropped where the time between its batches exceeds four times that of its writes by more than this: the level
/// may have moved. In nanoseconds.
const MAX_GAP: u64 = 250_000_000;

/// The reason of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A larger size is suspected. Sizes are tried upward from one that seems good, until one is worse.
    Climb,
    /// A held cap, and a larger one.
    Up,
    /// A held cap, and a smaller one.
    Down,
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Trial {
    pub(super) kind: Kind,
    pub(super) small: usize,
    pub(super) large: usize,
    /// Time of its beginning, in nanoseconds.
    pub(super) began: u64,
    /// Small batches before the large one of a group, and after it.
    around: u32,
    /// Batches of this group so far.
    step: u32,
    /// Beginning of this group, and the time that its writes took.
    group_began: u64,
    group_busy: u64,
    /// Sum of the logarithms of the costs of this group's small batches.
    smalls: f64,
    /// The same of its large one.
    large_cost: f64,
    groups: f64,
    sum: f64,
    squares: f64,
    /// Sum over all groups of the mean logarithm of the small ones' cost.
    small_sum: f64,
}

/// The end of a group.
#[derive(Debug, Clone, Copy)]
pub(super) struct Group {
    /// Time that it took beyond what the size that is held would have taken, in nanoseconds.
    pub(super) excess: f64,
    /// Whether the large size is worse, once that is decided.
    pub(super) is_worse: Option<bool>,
}

impl Trial {
    pub(super) fn new(kind: Kind, small: usize, large: usize, noise: f64, now: u64) -> Self {
        Self {
            kind,
            small,
            large,
            began: now,
            around: if noise > NOISY { 2 } else { 1 },
            step: 0,
            group_began: now,
            group_busy: 0,
            smalls: 0.0,
            large_cost: 0.0,
            groups: 0.0,
            sum: 0.0,
            squares: 0.0,
            small_sum: 0.0,
        }
    }

    fn awaits_small(&self) -> bool {
        self.step != self.around
    }

    /// The size of the next batch.
    pub(super) fn cap(&self) -> usize {
        if self.awaits_small() { self.small } else { self.large }
    }

    /// Nanoseconds per op of both sizes, in the mean.
    pub(super) fn costs(&self) -> (f64, f64) {
        let small = self.small_sum / self.groups.max(1.0);
        (small.exp(), (small + self.sum / self.groups.max(1.0)).exp())
    }

    /// A batch of the size that was asked for has landed, at this cost. Returns the group if it is complete.
    pub(super) fn landed(&mut self, landing: &Landing, cost: f64, noise: f64, now: u64) -> Option<Group> {
        if self.step == 0 {
            (self.group_began, self.group_busy) = (now.saturating_sub(landing.nanos), 0);
        }
        self.group_busy += landing.nanos;
        if now.saturating_sub(self.group_began) > 4 * self.group_busy + MAX_GAP {
            (self.step, self.smalls) = (0, 0.0);
            return None;
        }
        if self.awaits_small() {
            self.smalls += cost
        } else {
            self.large_cost = cost
        }
        self.step += 1;
        if self.step <= 2 * self.around {
            return None;
        }
        let count = f64::from(2 * self.around);
        let small = self.smalls / count;
        let difference = self.large_cost - small;
        (self.step, self.smalls) = (0, 0.0);
        self.groups += 1.0;
        self.sum += difference;
        self.squares += difference * difference;
        self.small_sum += small;
        let excess = match self.kind {
            Kind::Down => self.small as f64 * count * (small.exp() - self.large_cost.exp()),
            Kind::Climb | Kind::Up => self.large as f64 * (self.large_cost.exp() - small.exp()),
        };
        let excess = excess * landing.in_flight as f64;
        Some(Group { excess, is_worse: self.judge(noise) })
    }

    /// Whether the large size is worse, once that is decided.
    fn judge(&self, noise: f64) -> Option<bool> {
        let (groups, mean, is_noisy) = (self.groups, self.sum / self.groups, self.around > 1);
        // A large batch and the mean of the small ones scatter.
        let prior = (1.0 + 0.5 / f64::from(self.around)) * noise * noise;
        let within = (self.squares - self.sum * mean).max(0.0);
        let variance = (PRIOR_GROUPS * prior + within) / (PRIOR_GROUPS + groups - 1.0);
        let ratio = (self.large as f64 / self.small as f64).ln();
        // Logarithm of the likelihood ratio, mixed over differences of a size that a cost beyond its knee has.
        let spread = (0.7 * ratio).powi(2);
        let all = variance + groups * spread;
        let evidence = 0.5 * (variance / all).ln() + spread * self.sum * self.sum / (2.0 * variance * all);
        // Evidence that proves the large size worse, difference that does not matter, and the most groups.
        let (proof, margin, most) = match self.kind {
            Kind::Climb => (4.6, if is_noisy { 0.3 } else { 0.02 }, 60.0),
            Kind::Up => (3.0, if is_noisy { 0.2 } else { 0.01 }, 60.0),
            Kind::Down => (4.0, if is_noisy { 0.1 } else { 0.01 }, 100.0),
        };
        if is_noisy && groups < MIN_NOISY_GROUPS {
            None
        } else if mean > margin / 2.0 && evidence > proof {
            (groups >= MIN_GROUPS).then_some(true)
        } else if mean + (variance / groups).sqrt() < margin {
            Some(false)
        } else if groups >= most {
            Some(match self.kind {
                Kind::Climb => mean > 0.0 && evidence > 2.0,
                Kind::Up => mean > 0.1,
                Kind::Down => false,
            })
        } else {
            None
        }
    }
}
