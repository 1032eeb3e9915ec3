//! What the task takes out of the inbox in one go. In come the inbox's vectors, out come commands, and in the same order
//! the ops and the acks that they speak of. Next room: `actor::intake`.

use std::vec;

use super::KEPT;
use crate::{
    driver::{
        handle::ack::AckSender,
        inbox::command::{Command, Run},
    },
    rules::accumulator::Arrival,
};

/// Its memory is used again.
pub(crate) struct Taken<T, R> {
    pub(crate) ops: Vec<T>,
    /// Of those ops whose callers wait for the verdict.
    pub(crate) acks: Vec<AckSender<R>>,
    pub(crate) commands: Vec<Command<T>>,
}

impl<T, R> Default for Taken<T, R> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T, R> Taken<T, R> {
    pub(crate) fn new() -> Self {
        Self { ops: Vec::new(), acks: Vec::new(), commands: Vec::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ops.is_empty() && self.acks.is_empty() && self.commands.is_empty()
    }

    /// Whether it has memory that a burst has left behind.
    pub(crate) fn has_excess(&self) -> bool {
        self.ops.capacity().max(self.acks.capacity()).max(self.commands.capacity()) > KEPT
    }

    /// Everything in it, to be dealt with one by one.
    pub(crate) fn drain(&mut self) -> (vec::Drain<'_, Command<T>>, Arrivals<'_, T, R>) {
        let Self { ops, acks, commands } = self;
        (commands.drain(..), Arrivals { ops: ops.drain(..), acks: acks.drain(..) })
    }
}

/// Ops, and the acks of those that have one, in order.
pub(crate) struct Arrivals<'a, T, R> {
    ops: vec::Drain<'a, T>,
    acks: vec::Drain<'a, AckSender<R>>,
}

impl<T, R> Arrivals<'_, T, R> {
    /// How many ops are left.
    pub(crate) fn len(&self) -> usize {
        self.ops.len()
    }

    /// The ops that are left.
    pub(crate) fn ops(&self) -> &[T] {
        self.ops.as_slice()
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
