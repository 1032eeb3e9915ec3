//! [`Settled`]: the settled positions of a shard. A term has those of its log, and changes them when a record has committed. A
//! ledger has those of its database: a transaction works on a copy, which counts once it has committed.

use std::collections::BTreeMap;

/// All positions below the cursor, and runs above. No two runs touch each other, or the cursor.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Settled {
    cursor: u64,
    /// The last position of a run, by the first.
    runs: BTreeMap<u64, u64>,
}

impl Settled {
    pub(crate) fn new(cursor: u64, runs: &[(u64, u64)]) -> Self {
        Self { cursor, runs: runs.iter().copied().collect() }
    }

    /// All positions below are settled.
    pub(crate) fn cursor(&self) -> u64 {
        self.cursor
    }

    pub(crate) fn contains(&self, position: u64) -> bool {
        position < self.cursor || self.runs.range(..=position).next_back().is_some_and(|(_, last)| position <= *last)
    }

    /// The first position from `from` on that is not settled.
    pub(crate) fn next_open(&self, from: u64) -> u64 {
        let from = from.max(self.cursor);
        match self.runs.range(..=from).next_back() {
            Some((_, last)) if *last >= from => last + 1,
            _ => from,
        }
    }

    /// Adds a run of positions that were not settled. Returns the whole run that it is a part of now.
    pub(crate) fn insert(&mut self, mut first: u64, mut last: u64) -> (u64, u64) {
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
}

#[cfg(feature = "postgres")]
impl Settled {
    /// Runs above the cursor, in order.
    pub(crate) fn above(&self) -> Vec<(u64, u64)> {
        self.runs.iter().map(|(first, last)| (*first, *last)).collect()
    }

    /// Changes since an earlier state: the first positions of runs that are gone, and runs that are new or longer.
    pub(crate) fn since(&self, before: &Self) -> (Vec<u64>, Vec<(u64, u64)>) {
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

    /// The positions in any order, in chunks.
    fn chunks() -> impl Strategy<Value = Vec<Vec<u64>>> {
        let order = Just((0..60_u64).collect::<Vec<_>>()).prop_shuffle();
        (order, 1..9_usize).prop_map(|(order, chunk)| order.chunks(chunk).map(<[u64]>::to_vec).collect())
    }

    proptest! {
        /// Goal: runs are the same as a set of positions. Method: positions settled in any order.
        #[test]
        fn runs_are_sets(chunks in chunks()) {
            let (mut settled, mut model) = (Settled::default(), BTreeSet::new());
            for position in chunks.into_iter().flatten() {
                model.insert(position);
                let (first, last) = settled.insert(position, position);
                prop_assert!((first..=last).all(|at| model.contains(&at)) && (first..=last).contains(&position));
                for from in 0..60 {
                    let open = (from..60).find(|position| !model.contains(position)).unwrap_or(60);
                    prop_assert_eq!((settled.next_open(from), settled.contains(from)), (open, open > from));
                }
                prop_assert_eq!(settled.cursor(), settled.next_open(0));
            }
            prop_assert_eq!(settled, Settled::new(60, &[]));
        }

        /// Goal: the changes lead from one state to the next. Method: positions settled in any order, a few at a time.
        #[cfg(feature = "postgres")]
        #[test]
        fn changes_lead_to_the_next_state(chunks in chunks()) {
            let (mut settled, mut stored) = (Settled::default(), BTreeMap::new());
            for positions in chunks {
                let before = settled.clone();
                for position in positions {
                    settled.insert(position, position);
                }
                let (gone, new) = settled.since(&before);
                stored.retain(|first, _| !gone.contains(first));
                stored.extend(new);
                prop_assert_eq!(stored.iter().map(|(first, last)| (*first, *last)).collect::<Vec<_>>(), settled.above());
            }
        }
    }
}
