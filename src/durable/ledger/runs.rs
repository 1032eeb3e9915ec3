//! [`Runs`]: the settled positions of a shard, as its ledger has them. A transaction works on a copy, which counts once it has
//! committed.

use std::collections::BTreeMap;

/// All positions below the cursor, and runs above.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Runs {
    cursor: u64,
    /// The last position of a run, by the first.
    runs: BTreeMap<u64, u64>,
}

impl Runs {
    pub(super) fn new(cursor: u64, runs: &[(u64, u64)]) -> Self {
        Self { cursor, runs: runs.iter().copied().collect() }
    }

    pub(super) fn cursor(&self) -> u64 {
        self.cursor
    }

    /// Runs above the cursor, in order.
    pub(super) fn above(&self) -> Vec<(u64, u64)> {
        self.runs.iter().map(|(first, last)| (*first, *last)).collect()
    }

    /// Adds a run of positions that were not settled. Returns the whole run that it is a part of now.
    pub(super) fn insert(&mut self, mut first: u64, mut last: u64) -> (u64, u64) {
        if let Some(until) = self.runs.remove(&(last + 1)) {
            last = until;
        }
        if first <= self.cursor {
            self.cursor = self.cursor.max(last + 1);
            return (0, last);
        }
        if let Some((from, until)) = self.runs.range(..first).next_back()
            && until + 1 == first
        {
            first = *from;
        }
        self.runs.insert(first, last);
        (first, last)
    }

    /// Changes since an earlier state: the first positions of runs that are gone, and runs that are new or longer.
    pub(super) fn since(&self, before: &Self) -> (Vec<u64>, Vec<(u64, u64)>) {
        let gone = before.runs.keys().filter(|first| !self.runs.contains_key(first)).copied();
        let new = self.runs.iter().filter(|(first, last)| before.runs.get(first) != Some(last));
        (gone.collect(), new.map(|(first, last)| (*first, *last)).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Goal: runs are the same as a set of positions, and the changes lead from one state to the next. Method: positions
        /// settled in any order, a few at a time.
        #[test]
        fn runs_are_sets(order in Just((0..40_u64).collect::<Vec<_>>()).prop_shuffle(), chunk in 1..5_usize) {
            let (mut runs, mut stored, mut model) = (Runs::default(), BTreeMap::new(), BTreeSet::new());
            for positions in order.chunks(chunk) {
                let before = runs.clone();
                for position in positions {
                    model.insert(*position);
                    let (first, last) = runs.insert(*position, *position);
                    prop_assert!((first..=last).all(|at| model.contains(&at)) && (first..=last).contains(position));
                }
                let (gone, new) = runs.since(&before);
                stored.retain(|first, _| !gone.contains(first));
                stored.extend(new);
                prop_assert_eq!(&stored, &runs.runs);
                let settled = |at: &u64| *at < runs.cursor || stored.iter().any(|(first, last)| (first..=last).contains(&at));
                prop_assert_eq!((0..40).filter(settled).collect::<BTreeSet<_>>(), model.clone());
            }
            prop_assert_eq!(runs, Runs::new(40, &[]));
        }
    }
}
