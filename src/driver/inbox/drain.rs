//! [`Drained`]: the contents of the inbox, taken in one swap. Intake drains it; its memory serves the next swap.

use std::vec;

use super::MAX_RETAINED;
use crate::{
    driver::{inbox::command::Command, reply::AckSender},
    rules::accumulator::Arrivals,
};

/// See the module's text.
pub(crate) struct Drained<T, R> {
    pub(crate) ops: Vec<T>,
    /// Acks of the ops that have one, in the order of the ops.
    pub(crate) acks: Vec<AckSender<R>>,
    pub(crate) commands: Vec<Command<T>>,
}

impl<T, R> Default for Drained<T, R> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T, R> Drained<T, R> {
    pub(crate) fn new() -> Self {
        Self { ops: Vec::new(), acks: Vec::new(), commands: Vec::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ops.is_empty() && self.acks.is_empty() && self.commands.is_empty()
    }

    /// Whether it has memory that a burst has left behind.
    pub(crate) fn has_excess_capacity(&self) -> bool {
        self.ops.capacity().max(self.acks.capacity()).max(self.commands.capacity()) > MAX_RETAINED
    }

    /// Whether nothing but ops with permits is in it.
    pub(crate) fn has_only_permitted_ops(&self) -> bool {
        self.commands.iter().all(|command| matches!(command, Command::Ops(run) if run.has_permit))
    }

    /// Everything in it, to be handled one by one.
    pub(crate) fn drain(&mut self) -> (vec::Drain<'_, Command<T>>, Arrivals<'_, T, AckSender<R>>) {
        let Self { ops, acks, commands } = self;
        (commands.drain(..), Arrivals::drain(ops, acks))
    }
}
