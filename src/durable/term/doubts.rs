//! [`Doubts`]: which intents the log has, and which ops that wait they put in doubt. [`Unwritten`]: which they do not, as the
//! process knows.

use std::collections::{HashMap, HashSet};

use crate::durable::intent::IntentOp;

/// Ops and batches that were not written, though the log has an intent of them.
#[derive(Default)]
pub(super) struct Unwritten {
    /// Batches by the numbers of their intents: whether each op was in doubt before.
    pub(super) batches: HashMap<u64, Vec<bool>>,
    /// First positions of ops that are in no doubt.
    pub(super) ops: HashSet<u64>,
}

/// The intents in the log.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    next: u64,
    /// Ops of an intent that still need it, by its number.
    needed: HashMap<u64, usize>,
    /// The intent of an op that waits and may have landed, by its first position.
    by_first: HashMap<u64, u64>,
}

impl Doubts {
    /// The number of a new intent, which so many ops need.
    pub(super) fn add(&mut self, ops: usize) -> u64 {
        let number = self.next;
        self.next += 1;
        self.needed.insert(number, ops);
        number
    }

    /// An intent that an earlier term has left, which so many ops need.
    pub(super) fn found(&mut self, number: u64, ops: usize) {
        self.next = self.next.max(number + 1);
        self.needed.insert(number, ops);
    }

    /// An op waits that may have landed, as this intent tells.
    pub(super) fn waits(&mut self, first: u64, number: u64) {
        self.by_first.insert(first, number);
    }

    pub(super) fn is_in_doubt(&self, first: u64) -> bool {
        // Most often none is, and hashing costs more than the rest.
        !self.by_first.is_empty() && self.by_first.contains_key(&first)
    }

    /// Ops that wait and may have landed.
    pub(super) fn count(&self) -> usize {
        self.by_first.len()
    }

    /// An op needs its earlier intent no more. Returns the number of the intent if no op needs it.
    pub(super) fn release_op(&mut self, first: u64) -> Option<u64> {
        if self.by_first.is_empty() {
            return None;
        }
        let number = self.by_first.remove(&first)?;
        self.release(number, 1)
    }

    /// Notes that `ops` ops need an intent no more. Returns its number if no op does.
    pub(super) fn release(&mut self, number: u64, ops: usize) -> Option<u64> {
        let needed = self.needed.get_mut(&number)?;
        *needed = needed.saturating_sub(ops);
        if *needed > 0 {
            return None;
        }
        self.needed.remove(&number);
        Some(number)
    }

    /// All positions of these ops.
    pub(super) fn positions(ops: &[IntentOp]) -> HashSet<u64> {
        ops.iter().flat_map(|op| op.positions.iter().copied()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_intent_goes_with_the_last_op_that_needs_it() {
        let mut doubts = Doubts::default();
        doubts.found(7, 2);
        doubts.waits(3, 7);
        doubts.waits(4, 7);
        assert_eq!(doubts.add(1), 8);
        assert_eq!(doubts.release_op(3), None);
        assert!(doubts.is_in_doubt(4) && !doubts.is_in_doubt(3));
        assert_eq!(doubts.release_op(4), Some(7));
        assert_eq!(doubts.release(8, 1), Some(8));
    }
}
