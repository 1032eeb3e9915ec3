//! [`Ids`]: which op is where, as long as it is not settled. A term owns it and changes it when a record has committed.

use std::collections::BTreeMap;

use crate::{
    durable::{frame::Entry, settled::Settled},
    rules::outcome::OpId,
};

/// Rides with an op through the accumulator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) position: u64,
    pub(crate) producer: u64,
    pub(crate) number: u64,
    /// The handle that sent it, by its number in its process.
    pub(crate) handle: u32,
    /// Whether this process has sent it, under whatever id.
    pub(crate) is_own: bool,
}

impl Token {
    /// The op as its frame has it.
    pub(super) fn entry(&self, may_repeat: bool) -> Entry {
        let Self { producer, number, handle, .. } = *self;
        Entry { producer, number, handle, may_repeat, withdraws: false }
    }

    pub(crate) fn id(&self, shard: u16) -> OpId {
        OpId::new(self.producer, shard, self.number)
    }
}

/// Consecutive ops of one producer, at consecutive positions.
#[derive(Debug, Clone, Copy)]
struct Run {
    count: u64,
    producer: u64,
    number: u64,
    handle: u32,
    is_own: bool,
    /// Positions among them that are not settled.
    open: u64,
}

/// The ops that are read and not settled, by id. One entry per run, which is most often a frame.
#[derive(Debug, Default)]
pub(super) struct Ids {
    /// By the first position.
    runs: BTreeMap<u64, Run>,
    /// The first positions of runs, by producer and first number.
    by_id: BTreeMap<(u64, u64), u64>,
}

impl Ids {
    /// Adds an op that is read. Most come in the order of their positions.
    pub(super) fn push(&mut self, token: &Token) {
        let Token { position, producer, number, handle, is_own } = *token;
        if let Some(mut last) = self.runs.last_entry() {
            let (first, run) = (*last.key(), last.get_mut());
            let follows = first + run.count == position && run.number + run.count == number;
            if follows && (run.producer, run.handle, run.is_own) == (producer, handle, is_own) {
                run.count += 1;
                run.open += 1;
                return;
            }
        }
        self.runs.insert(position, Run { count: 1, producer, number, handle, is_own, open: 1 });
        self.by_id.insert((producer, number), position);
    }

    /// The position of an op that is not settled.
    pub(super) fn position(&self, id: OpId, settled: &Settled) -> Option<u64> {
        let of_producer = (id.producer(), 0)..=(id.producer(), id.number());
        let ((_, number), first) = self.by_id.range(of_producer).next_back()?;
        let run = self.runs.get(first)?;
        let index = id.number() - number;
        let position = first + index;
        (index < run.count && !settled.contains(position)).then_some(position)
    }

    /// The ops of this process that are not settled.
    pub(super) fn open_own(&self, settled: &Settled) -> impl Iterator<Item = Token> {
        self.runs.iter().filter(|(_, run)| run.is_own).flat_map(move |(first, run)| {
            let Run { producer, number, handle, is_own, .. } = *run;
            let open = (0..run.count).filter(move |i| !settled.contains(first + i));
            open.map(move |i| Token { position: first + i, producer, number: number + i, handle, is_own })
        })
    }

    /// Removes a run of positions that are settled now.
    pub(super) fn settle(&mut self, first: u64, last: u64) {
        let start = self.runs.range(..=first).next_back().map_or(first, |(start, _)| *start);
        let mut done = Vec::new();
        for (start, run) in self.runs.range_mut(start..=last) {
            let (from, until) = ((*start).max(first), (start + run.count - 1).min(last));
            if from <= until {
                run.open = run.open.saturating_sub(until - from + 1);
            }
            if run.open == 0 {
                done.push((*start, run.producer, run.number));
            }
        }
        for (start, producer, number) in done {
            self.runs.remove(&start);
            self.by_id.remove(&(producer, number));
        }
    }
}

/// Sorts positions, and joins those that are next to each other into runs of first and last.
pub(super) fn runs_of(mut positions: Vec<u64>) -> Vec<(u64, u64)> {
    positions.sort_unstable();
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for position in positions {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == position => *last = position,
            _ => runs.push((position, position)),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Goal: an op is found as long as its position is open. Method: ops of two producers, settled in any order, a few at a
        /// time.
        #[test]
        fn ops_are_found_until_they_are_settled(order in Just((0..60_u64).collect::<Vec<_>>()).prop_shuffle(), producers in prop::collection::vec(0..2_u64, 60), chunk in 1..9_usize) {
            let (mut settled, mut ids, mut model) = (Settled::default(), Ids::default(), BTreeSet::<u64>::new());
            let mut numbers = [1, 1];
            let tokens: Vec<Token> = producers.iter().zip(0..).map(|(producer, position)| {
                let number = numbers[*producer as usize];
                numbers[*producer as usize] += 1;
                Token { position, producer: *producer, number, handle: 0, is_own: *producer == 0 }
            }).collect();
            tokens.iter().for_each(|token| ids.push(token));
            for positions in order.chunks(chunk) {
                for (first, last) in runs_of(positions.to_vec()) {
                    settled.insert(first, last);
                    ids.settle(first, last);
                }
                model.extend(positions);
                for token in &tokens {
                    let open = !model.contains(&token.position);
                    prop_assert_eq!(ids.position(token.id(0), &settled), open.then_some(token.position));
                }
            }
            prop_assert!(ids.runs.is_empty() && ids.by_id.is_empty());
        }
    }
}
