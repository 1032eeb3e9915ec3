//! [`Sent`]: ops of this process in a shard that another process leads, until they have ended. One entry per run of consecutive
//! numbers, which is most often a frame.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::{
    durable::{frame::Entry, log::lead::IdRun},
    rules::{outcome::OpId, time::Timestamp},
};

#[derive(Debug, Default)]
pub(super) struct Sent {
    /// By producer and first number.
    runs: BTreeMap<(u64, u64), Run>,
    /// How often an id was sent again.
    again: HashMap<(u64, u64), usize>,
    /// Ids that may have been known to the log before.
    flagged: BTreeSet<(u64, u64)>,
    len: usize,
}

#[derive(Debug, Clone, Copy)]
struct Run {
    count: u64,
    handle: u32,
    /// When its ops were accepted.
    at: Timestamp,
}

/// An op that is sent no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) handle: u32,
    /// How often it was sent.
    pub(super) times: usize,
}

impl Sent {
    /// Ops, those included that were sent again.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Adds an op that was accepted at a time.
    pub(super) fn push(&mut self, entry: &Entry, at: Timestamp) {
        let Entry { producer, number, handle, .. } = *entry;
        self.len += 1;
        if entry.may_repeat {
            self.flagged.insert((producer, number));
        }
        if self.contains(producer, number) {
            *self.again.entry((producer, number)).or_default() += 1;
            return;
        }
        if let Some((first, run)) =
            self.runs.range_mut((producer, 0)..(producer, number)).next_back().map(|((_, first), run)| (*first, run))
            && first + run.count == number
            && run.handle == handle
        {
            run.count += 1;
            return;
        }
        self.runs.insert((producer, number), Run { count: 1, handle, at });
    }

    fn run_of(&self, producer: u64, number: u64) -> Option<(u64, Run)> {
        let ((_, first), run) = self.runs.range((producer, 0)..=(producer, number)).next_back()?;
        (number - first < run.count).then_some((*first, *run))
    }

    fn contains(&self, producer: u64, number: u64) -> bool {
        self.run_of(producer, number).is_some()
    }

    pub(super) fn has(&self, id: OpId) -> bool {
        self.contains(id.producer(), id.number())
    }

    /// Takes an op out.
    pub(super) fn take(&mut self, producer: u64, number: u64) -> Option<Taken> {
        let (first, run) = self.run_of(producer, number)?;
        self.runs.remove(&(producer, first));
        let (before, after) = (number - first, first + run.count - number - 1);
        if before > 0 {
            self.runs.insert((producer, first), Run { count: before, ..run });
        }
        if after > 0 {
            self.runs.insert((producer, number + 1), Run { count: after, ..run });
        }
        self.flagged.remove(&(producer, number));
        let times = 1 + self.again.remove(&(producer, number)).unwrap_or(0);
        self.len -= times;
        Some(Taken { handle: run.handle, times })
    }

    /// The ids of all.
    pub(super) fn ids(&self) -> Vec<IdRun> {
        self.runs
            .iter()
            .map(|((producer, first), run)| IdRun { producer: *producer, first: *first, count: run.count })
            .collect()
    }

    /// The first ids that may have been known to the log before.
    pub(super) fn sent_again(&self, shard: u16, count: usize) -> Vec<OpId> {
        let ids = self.flagged.iter().map(|(producer, number)| OpId::new(*producer, shard, *number));
        ids.take(count).collect()
    }

    /// The first ids of all.
    pub(super) fn all(&self, shard: u16, count: usize) -> Vec<OpId> {
        let numbers = |((producer, first), run): (&(u64, u64), &Run)| {
            let (producer, first) = (*producer, *first);
            (first..first + run.count).map(move |number| OpId::new(producer, shard, number))
        };
        self.runs.iter().flat_map(numbers).take(count).collect()
    }

    /// When the oldest was accepted.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        self.runs.values().map(|run| run.at).min()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Goal: what was sent is there until it is taken out, as often as it was sent. Method: ids of two producers, sent and taken
        /// in any order, against a map.
        #[test]
        fn what_was_sent_is_there(steps in prop::collection::vec((any::<bool>(), 0..2_u64, 1..12_u64), 0..60)) {
            let (mut sent, mut model) = (Sent::default(), BTreeMap::<(u64, u64), (u32, usize)>::new());
            for (sends, producer, number) in steps {
                if sends {
                    let entry = Entry { producer, number, handle: number as u32 % 3, may_repeat: true, withdraws: false };
                    sent.push(&entry, Timestamp::END);
                    model.entry((producer, number)).or_insert((entry.handle, 0)).1 += 1;
                } else {
                    let taken = sent.take(producer, number).map(|taken| (taken.handle, taken.times));
                    prop_assert_eq!(taken, model.remove(&(producer, number)));
                }
                prop_assert_eq!(sent.len(), model.values().map(|(_, times)| times).sum::<usize>());
                let ids = sent.ids();
                let all = ids.iter().flat_map(|run| (run.first..run.first + run.count).map(|number| (run.producer, number)));
                prop_assert_eq!(all.collect::<Vec<_>>(), model.keys().copied().collect::<Vec<_>>());
            }
        }
    }
}
