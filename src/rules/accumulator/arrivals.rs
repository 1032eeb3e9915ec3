//! How ops arrive: in [`Run`]s, of which the ops and the acks come in two lists of their own ([`Arrivals`]). The driver drains
//! its channel into them.

use std::vec;

use crate::rules::{outcome::AckSender, time::Timestamp};

/// A run of consecutive ops with the same timestamp, permit state and ack state.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    pub(crate) count: u32,
    /// When their callers sent them: age counts from here.
    pub(crate) at: Timestamp,
    /// If false, the ops hold no permit and each evicts another op.
    pub(crate) has_permit: bool,
    /// Their callers wait for the verdicts.
    pub(crate) acked: bool,
    /// How many more ops may join this run.
    pub(crate) open_to: u32,
}

/// An op as it arrives from a handle.
#[derive(Debug)]
pub(crate) struct Arrival<T, R> {
    pub(crate) op: T,
    /// When its caller sent it: age counts from here.
    pub(crate) at: Timestamp,
    pub(crate) ack: Option<AckSender<R>>,
}

/// Ops, and the acks of those that have one, in order.
pub(crate) struct Arrivals<'a, T, R> {
    ops: vec::Drain<'a, T>,
    acks: vec::Drain<'a, AckSender<R>>,
}

impl<'a, T, R> Arrivals<'a, T, R> {
    /// All of `ops`, whose acks are `acks`.
    pub(crate) fn drain(ops: &'a mut Vec<T>, acks: &'a mut Vec<AckSender<R>>) -> Self {
        Self { ops: ops.drain(..), acks: acks.drain(..) }
    }

    /// How many ops are left.
    pub(crate) fn len(&self) -> usize {
        self.ops.len()
    }

    /// The next op of a run.
    pub(crate) fn next(&mut self, run: &Run) -> Arrival<T, R> {
        let ack = if run.acked { self.acks.next() } else { None };
        Arrival { op: self.ops.next().expect("a run has as many ops as it counts"), at: run.at, ack }
    }

    /// All ops of a run, and their acks.
    pub(crate) fn all_of(&mut self, run: &Run) -> (impl Iterator<Item = T>, impl Iterator<Item = AckSender<R>>) {
        let count = run.count as usize;
        (self.ops.by_ref().take(count), self.acks.by_ref().take(if run.acked { count } else { 0 }))
    }
}
