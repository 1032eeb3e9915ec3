//! The end of a batcher: intake is closed, waiting ops are drained or returned, the sink is closed. The actor calls these
//! functions; the result is the [`Summary`].

use std::time::Duration;

use tracing::{debug, error};

use super::Actor;
use crate::{
    driver::{
        actor::{DeadLetterRoute, write::close},
        clock,
        worker::Summary,
    },
    rules::{panics, time::Timestamp},
    sink::Sink,
};

#[derive(Clone, Copy)]
pub(super) struct Closing {
    /// `None`: the drain may take for ever.
    deadline: Option<Timestamp>,
    /// No handle is left to resume a paused batcher.
    no_handles_left: bool,
}

impl<T, R, S> Actor<T, R, S>
where
    T: Send + 'static,
    R: Clone + Send + 'static,
    S: Sink<T, R>,
{
    /// Closes intake and makes everything due.
    pub(super) fn close(&mut self, within: Option<Duration>, no_handles_left: bool) {
        self.inbox.close();
        self.accumulator.close();
        if self.deadline_passed(clock::now()) {
            // More time comes too late: writes have been given up.
            return;
        }
        let limit = within.unwrap_or(self.limits.shutdown_timeout);
        let closing = self.state.closing.get_or_insert_with(|| {
            debug!(batcher = %self.name, ?limit, "closing");
            Closing { deadline: clock::now().checked_add(limit), no_handles_left }
        });
        closing.no_handles_left |= no_handles_left;
        if within.is_some() {
            closing.deadline = clock::now().checked_add(limit);
        }
    }

    /// Whether the time to close is over: nothing is written any more.
    pub(super) fn deadline_passed(&self, now: Timestamp) -> bool {
        self.state.closing.is_some_and(|closing| closing.deadline.is_some_and(|deadline| deadline <= now))
    }

    /// When to look again if nothing happens.
    pub(super) fn deadline(&self, now: Timestamp) -> Option<Timestamp> {
        let closing = self.state.closing.and_then(|closing| closing.deadline).filter(|deadline| now < *deadline);
        self.accumulator.deadline(now).into_iter().chain(closing).min()
    }

    /// Whether everything is drained, or what is left can't be before the deadline.
    pub(super) fn is_done(&self, idle: bool, now: Timestamp) -> bool {
        let Some(closing) = self.state.closing else {
            return false;
        };
        if !self.inbox.is_empty() || !idle {
            return false;
        }
        if self.accumulator.is_empty() || self.accumulator.is_stopped() || self.deadline_passed(now) {
            return true;
        }
        if self.accumulator.is_paused() {
            return closing.no_handles_left;
        }
        // A backoff is not cut short, and one that ends too late is not waited out.
        let next = self.accumulator.deadline(now);
        closing.deadline.is_some_and(|deadline| next.is_none_or(|next| deadline <= next))
    }

    /// Gives back what was not drained, closes the sink, and sums up.
    pub(super) async fn end(mut self) -> Summary<T> {
        self.accumulator.return_waiting(clock::now());
        self.publish_results();
        self.inbox.leave();
        let returned = self.accumulator.take_returned();
        let left = |closing: Option<Closing>| {
            let deadline = closing.and_then(|closing| closing.deadline);
            deadline.map(|deadline| deadline.since(clock::now()))
        };
        let close_error = close(&self.name, &self.destination.sink, left(self.state.closing)).await.err();
        if let DeadLetterRoute::Forward(batcher) = &self.letters {
            batcher.stop(left(self.state.closing));
        }
        self.state.ended = true;
        let stats = self.inbox.stats();
        debug!(batcher = %self.name, delivered = stats.outcomes.delivered, returned = returned.len(), "ended");
        let dead_letters = std::mem::take(&mut self.state.letters);
        // The sink and the stages are the user's: their destructors must not cost the summary.
        drop(panics::discard(self));
        Summary { stats, returned, dead_letters, close_error }
    }
}

/// A task that is dropped before it has ended loses what it held, with notice: callers are answered, and the statistics
/// tell.
impl<T, R: Clone, S> Drop for Actor<T, R, S> {
    fn drop(&mut self) {
        if self.state.ended {
            return;
        }
        self.inbox.close();
        self.inbox.leave();
        // Acks answer their callers when they are dropped. The accumulator is not asked: it may be half way through a change.
        let lost = self.inbox.lose_all();
        if lost > 0 {
            error!(batcher = %self.name, ops = lost, "the task was dropped: operations are lost");
        }
    }
}
