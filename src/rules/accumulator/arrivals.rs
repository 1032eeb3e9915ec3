//! How ops arrive: in [`Run`]s, of which the ops and the tokens come in two lists of their own ([`Arrivals`]). The driver drains
//! its channel into them.

use std::vec;

use crate::rules::time::Timestamp;

/// A run of consecutive ops with the same timestamp, and of which all or none have a permit, or a token.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    pub(crate) count: u32,
    /// When their callers sent them: age counts from here.
    pub(crate) at: Timestamp,
    /// If false, the ops hold no permit and each evicts another op.
    pub(crate) has_permit: bool,
    /// Each op has a token, which is handed back with its end.
    pub(crate) has_tokens: bool,
    /// How many more ops may join this run.
    pub(crate) open_to: u32,
}

/// An op as it arrives.
#[derive(Debug)]
pub(crate) struct Arrival<T, A> {
    pub(crate) op: T,
    /// When its caller sent it: age counts from here.
    pub(crate) at: Timestamp,
    /// Handed back, whatever becomes of the op.
    pub(crate) token: Option<A>,
}

/// Ops, and the tokens of those that have one, in order.
pub(crate) struct Arrivals<'a, T, A> {
    ops: vec::Drain<'a, T>,
    tokens: vec::Drain<'a, A>,
}

impl<'a, T, A> Arrivals<'a, T, A> {
    /// All of `ops`, whose tokens are `tokens`.
    pub(crate) fn drain(ops: &'a mut Vec<T>, tokens: &'a mut Vec<A>) -> Self {
        Self { ops: ops.drain(..), tokens: tokens.drain(..) }
    }

    /// How many ops are left.
    pub(crate) fn len(&self) -> usize {
        self.ops.len()
    }

    /// The next op of a run.
    pub(crate) fn next(&mut self, run: &Run) -> Arrival<T, A> {
        let token = if run.has_tokens { self.tokens.next() } else { None };
        Arrival { op: self.ops.next().expect("a run has as many ops as it counts"), at: run.at, token }
    }

    /// All ops of a run, and their tokens.
    pub(crate) fn all_of(&mut self, run: &Run) -> (impl Iterator<Item = T>, impl Iterator<Item = A>) {
        let count = run.count as usize;
        (self.ops.by_ref().take(count), self.tokens.by_ref().take(if run.has_tokens { count } else { 0 }))
    }
}
