//! [`Ticket`]: the mark by which the leader of a durable log finds a batch again that a sink writes in a transaction of the log; and
//! what happens to the batch on that way.

use std::{any::Any, sync::Arc};

use super::{Batch, SinkError, verdicts::Verdict};

/// The leader's own record of a batch that it lends.
pub(crate) type Ticket = Arc<dyn Any + Send + Sync>;

impl<T, R> Batch<T, R> {
    /// The place of the ticket that its leader has given it.
    pub(crate) fn ticket_mut(&mut self) -> &mut Option<Ticket> {
        &mut self.ticket
    }

    /// Moves it out, and leaves an empty one that goes by the same ticket.
    pub(crate) fn take(&mut self) -> Self {
        let mut left = Self::new(Vec::new(), self.cut_by, self.attempt);
        left.ticket.clone_from(&self.ticket);
        std::mem::replace(self, left)
    }

    /// How op `i` ends by its verdict: landed, or refused for good. `None` if it does not end yet.
    pub(crate) fn end_of(&self, i: usize) -> Option<Result<&R, &SinkError>> {
        self.verdicts.end_of(i)
    }

    /// Takes the verdicts on these ops back, which were given in a transaction that was undone.
    pub(crate) fn reopen(&mut self, indexes: &[usize]) {
        if indexes.len() == self.len() {
            return self.verdicts.clear();
        }
        let verdicts = self.verdicts_mut();
        indexes.iter().for_each(|i| verdicts[*i] = Verdict::Pending);
    }
}
