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

/// The share of throughput that `outcome` loses to `best`; zero if it loses none.
fn lost_to(best: &Outcome, outcome: &Outcome) -> f64 {
    if best.throughput == 0.0 { 0.0 } else { (1.0 - outcome.throughput / best.throughput).max(0.0) }
}
