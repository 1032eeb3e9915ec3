//! Software prefetching: loads the cache lines that the next 32 pushes will read. Used above 8,192 waiting ops.
//!
//! A push reads a table, then the key in it, then the waiting op, each far away in memory when there are a million, and each
//! known only when the one before has been read. Here they are read for 32 pushes in two rounds. The method is that of S. Chen,
//! A. Ailamaki, P. B. Gibbons and T. C. Mowry, "Improving hash join performance through prefetching" (2004), group
//! prefetching, by plain reads.

use super::{Accumulator, store::NONE};
use crate::rules::panics;

/// Ops prefetched together: enough to keep the memory busy, few enough to be in the cache when they are pushed.
/// Tests make do with the few that they have, here and below.
pub(crate) const GROUP: usize = if cfg!(test) { 3 } else { 32 };

/// Up to so many waiting ops are in the caches anyway.
const NEAR: usize = if cfg!(test) { 2 } else { 8192 };

impl<T, R: Clone> Accumulator<T, R> {
    /// Whether a look at the ops that come next is worth while.
    pub(crate) fn looks_ahead(&self) -> bool {
        self.nodes.len() > NEAR && self.rules.conflate.is_some()
    }

    /// Looks at the first [`GROUP`] of the ops that come next.
    pub(crate) fn look_ahead(&self, next: &[T]) {
        // The push of an op asks again, and deals with the panic then.
        drop(panics::catch(|| self.fetch(&next[..GROUP.min(next.len())])));
    }

    fn fetch(&self, next: &[T]) {
        let Some(conflate) = &self.rules.conflate else {
            return;
        };
        let mut guesses = [NONE; GROUP];
        for (op, guess) in next.iter().zip(&mut guesses) {
            let partition = self.rules.partition.as_ref().map_or(Some(0), |index| index.guess(0, op));
            *guess = partition.and_then(|partition| conflate.index.guess(partition, op)).unwrap_or(NONE);
        }
        for slot in guesses.into_iter().filter(|slot| *slot != NONE) {
            conflate.index.fetch(slot);
            self.nodes.fetch(slot);
        }
    }
}
