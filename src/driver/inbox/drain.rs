//! [`Taken`]: the contents of the inbox, taken in one swap. Intake drains it; its memory serves the next swap.

use std::vec;

use super::KEPT;
use crate::{
    driver::inbox::command::Command,
    rules::{accumulator::Arrivals, outcome::AckSender},
};

/// Its memory is used again.
pub(crate) struct Taken<T, R> {
    pub(crate) ops: Vec<T>,
    /// Acks of the ops that have one, in the order of the ops.
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

    /// Whether nothing but ops with permits is in it.
    pub(crate) fn has_only_paid_ops(&self) -> bool {
        self.commands.iter().all(|command| matches!(command, Command::Ops(run) if run.paid))
    }

    /// Everything in it, to be dealt with one by one.
    pub(crate) fn drain(&mut self) -> (vec::Drain<'_, Command<T>>, Arrivals<'_, T, R>) {
        let Self { ops, acks, commands } = self;
        (commands.drain(..), Arrivals::drain(ops, acks))
    }
}
