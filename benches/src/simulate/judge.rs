//! [`Judgement`]: what each policy loses to the best fixed size in hindsight, over the cells of a sweep.

use super::{
    run::{Outcome, Policy},
    sweep::Cell,
};

/// Outcomes whose throughput differs by less than this share count as alike; the smaller mean time decides then.
const ALIKE: f64 = 0.01;

/// The policies of a sweep and its cells.
pub struct Judgement<'a> {
    pub policies: &'a [Policy],
    pub cells: &'a [Cell],
}

impl Judgement<'_> {
    /// The best fixed size of a cell, in hindsight, and its outcome.
    pub fn best(&self, cell: &Cell) -> (Policy, Outcome) {
        let fixed = || self.policies.iter().copied().zip(cell.outcomes.iter().copied());
        let fixed = || fixed().filter(|(policy, _)| matches!(policy, Policy::Fixed(_)));
        let most = fixed().map(|(_, outcome)| outcome.throughput).fold(0.0, f64::max);
        let alike = fixed().filter(|(_, outcome)| outcome.throughput >= most * (1.0 - ALIKE));
        alike.min_by_key(|(_, outcome)| outcome.mean).expect("a sweep has fixed sizes")
    }

    /// The outcome of a policy in a cell.
    pub fn outcome(&self, cell: &Cell, policy: Policy) -> Outcome {
        let at = self.policies.iter().position(|other| *other == policy);
        cell.outcomes[at.expect("the sweep has this policy")]
    }

    /// The share of throughput that a policy loses to the best fixed size.
    pub fn lost(&self, cell: &Cell, policy: Policy) -> f64 {
        let (_, best) = self.best(cell);
        lost_to(&best, &self.outcome(cell, policy))
    }

    /// The mean over all cells of what a policy loses, and the most that it loses in one.
    pub fn lost_mean_and_worst(&self, policy: Policy) -> (f64, f64) {
        let lost: Vec<f64> = self.cells.iter().map(|cell| self.lost(cell, policy)).collect();
        (lost.iter().sum::<f64>() / lost.len().max(1) as f64, lost.into_iter().fold(0.0, f64::max))
    }

    /// The cells in which a policy loses most, worst first.
    pub fn worst(&self, policy: Policy, count: usize) -> Vec<&Cell> {
        let mut cells: Vec<&Cell> = self.cells.iter().collect();
        cells.sort_by(|one, other| self.lost(other, policy).total_cmp(&self.lost(one, policy)));
        cells.truncate(count);
        cells
    }
}

/// A model under a load, over all seeds: what a policy loses to another one.
#[derive(Debug, Clone, Copy)]
pub struct Against {
    /// The share of throughput that is lost, in the mean; negative if it is won.
    pub throughput: f64,
    /// The same of the mean time from `send` to settled.
    pub time: f64,
    /// Standard deviations of both over the seeds: their spread.
    spread: (f64, f64),
}

impl Against {
    /// Whether the policy is worse: in throughput, or as good in throughput and worse in mean time; by more than 1 %, and by
    /// more than the spread of the seeds.
    pub fn is_worse(&self) -> bool {
        self.is_slower() || (self.throughput > -ALIKE && self.time > ALIKE && self.time > self.spread.1)
    }

    /// Whether the policy is worse in throughput.
    pub fn is_slower(&self) -> bool {
        self.throughput > ALIKE && self.throughput > self.spread.0
    }
}

impl Judgement<'_> {
    /// Compares two policies, by model and load. The cells of a sweep that differ in the seed alone stand together.
    pub fn against(&self, policy: Policy, other: Policy) -> Vec<(&Cell, Against)> {
        let groups = self.cells.chunk_by(|one, next| one.model == next.model && one.load == next.load);
        let compare = |cells: &'_ [Cell]| {
            let pair = |cell: &Cell| (self.outcome(cell, policy), self.outcome(cell, other));
            let throughput = |cell: &Cell| {
                let (ours, theirs) = pair(cell);
                if theirs.throughput == 0.0 { 0.0 } else { 1.0 - ours.throughput / theirs.throughput }
            };
            let time = |cell: &Cell| {
                let (ours, theirs) = pair(cell);
                if theirs.mean.is_zero() { 0.0 } else { ours.mean.as_secs_f64() / theirs.mean.as_secs_f64() - 1.0 }
            };
            let (throughput, spread) = mean_and_deviation(cells.iter().map(throughput).collect());
            let (time, spread_of_time) = mean_and_deviation(cells.iter().map(time).collect());
            Against { throughput, time, spread: (spread, spread_of_time) }
        };
        groups.filter_map(|cells| Some((cells.first()?, compare(cells)))).collect()
    }
}

fn mean_and_deviation(values: Vec<f64>) -> (f64, f64) {
    let count = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, (squares / (count - 1.0).max(1.0)).sqrt())
}

/// The share of throughput that `outcome` loses to `best`; zero if it loses none.
fn lost_to(best: &Outcome, outcome: &Outcome) -> f64 {
    if best.throughput == 0.0 { 0.0 } else { (1.0 - outcome.throughput / best.throughput).max(0.0) }
}
