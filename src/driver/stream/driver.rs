//! [`StreamDriver`]: polls a stream for items and hands out the batches that the rules cut, each time its consumer polls. An item
//! that was taken in waits here until it is handed out or ends. `Staged` and `Batched` call it.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures::Stream;

use crate::{
    driver::{clock, timer::Timer},
    rules::{
        accumulator::{Accumulator, Arrival, Policy},
        config::limits::{Limits, LimitsError},
        panics,
        stage::Stages,
        stats::Stats,
    },
};

/// Items that one poll takes from a stream that is always ready, before it lets others run.
pub(super) const ITEMS_PER_POLL: usize = 1024;

pub(super) struct StreamDriver<S, T> {
    /// `None` once it has ended.
    source: Option<Pin<Box<S>>>,
    accumulator: Accumulator<T, (), ()>,
    timer: Timer,
    /// Items are taken in until the buffer is full, and not only until the next batch is.
    reads_ahead: bool,
}

/// The limits without those that need the time of writes, which a stream has none of.
fn untimed(limits: &Limits) -> Limits {
    limits.clone().adaptive(false)
}

impl<S, T> StreamDriver<S, T> {
    /// Begins with an empty buffer. The stages have been checked against the limits.
    pub(super) fn new(source: S, stages: Stages<T>, limits: &Limits) -> Self {
        let stages = stages.on_clock(clock::time_of_day);
        let accumulator = Accumulator::new(stages, &untimed(limits), Policy::default());
        Self { source: Some(Box::pin(source)), accumulator, timer: Timer::new(), reads_ahead: false }
    }

    /// Goes on with other stages, and reads ahead if they say something of an item as it comes. `None` if an item has come
    /// already.
    pub(super) fn with_stages(self, stages: impl FnOnce(Stages<T>) -> Stages<T>, limits: &Limits) -> Option<Self> {
        if self.stats().accepted > 0 {
            return None;
        }
        let stages = stages(self.accumulator.into_stages());
        let reads_ahead = !stages.asks_nothing_on_arrival();
        let stages = stages.on_clock(clock::time_of_day);
        let accumulator = Accumulator::new(stages, &untimed(limits), Policy::default());
        Some(Self { accumulator, reads_ahead, ..self })
    }

    /// Goes on with other limits, and what waits; from now on, items are taken in until the next batch is full.
    pub(super) fn with_limits(mut self, limits: &Limits) -> Result<Self, LimitsError> {
        self.accumulator.stages().check(limits)?;
        self.accumulator.set_limits(&untimed(limits), clock::now());
        Ok(Self { reads_ahead: false, ..self })
    }

    pub(super) fn stats(&self) -> Stats {
        self.accumulator.stats()
    }

    /// The stream, if it has not ended, and the items that wait, oldest first.
    pub(super) fn into_parts(mut self) -> (Option<Pin<Box<S>>>, Vec<T>) {
        self.accumulator.return_waiting(clock::now());
        let waiting = self.accumulator.take_returned().into_iter().map(|item| item.op).collect();
        (self.source, waiting)
    }

    /// Whether the stream has given its last item; some may still wait.
    pub(super) fn is_source_done(&self) -> bool {
        self.source.is_none()
    }

    pub(super) fn has_ended(&self) -> bool {
        self.source.is_none() && self.accumulator.is_empty()
    }
}

impl<S: Stream<Item = T>, T> StreamDriver<S, T> {
    /// Takes items in, then cuts a batch and returns what `take` moves out of it; `take` must leave no item.
    pub(super) fn poll_batch<B>(&mut self, cx: &mut Context<'_>, take: impl Fn(&mut Vec<T>) -> B) -> Poll<Option<B>> {
        let mut budget = ITEMS_PER_POLL;
        let now = loop {
            let has_more = self.fill(cx, &mut budget);
            // Items that a stage panicked over are gone, as the docs of the stages say.
            drop(panics::discard_all(&mut self.accumulator.take_letters()));
            let now = clock::now();
            if let Some(batch) = self.accumulator.hand_over(now, &take) {
                return Poll::Ready(Some(batch));
            }
            if self.has_ended() {
                return Poll::Ready(None);
            }
            if !has_more {
                break now;
            }
            if budget == 0 {
                // The stream is always ready, but must not own the thread.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        };
        if self.accumulator.has_excess_capacity() {
            self.accumulator.shrink();
        }
        self.timer.set(self.accumulator.deadline(now));
        if self.timer.poll_fired(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Takes in what the stream has to give, until something is full: the later a batch is cut, the less of it is
    /// stale. Says whether the stream may have more right now. Each item spends one of `budget`, and so does finding
    /// that something is full.
    fn fill(&mut self, cx: &mut Context<'_>, budget: &mut usize) -> bool {
        // Items of one poll count as having come at the same time.
        let now = clock::now();
        while *budget > 0 {
            *budget -= 1;
            if self.has_enough() {
                return true;
            }
            let Some(source) = &mut self.source else {
                self.accumulator.close();
                return false;
            };
            match source.as_mut().poll_next(cx) {
                Poll::Pending => return false,
                Poll::Ready(None) => self.source = None,
                Poll::Ready(Some(op)) => self.accumulator.push(Arrival { op, at: now, token: None }, now),
            }
        }
        true
    }

    #[inline]
    fn has_enough(&self) -> bool {
        if self.reads_ahead { self.accumulator.is_full() } else { self.accumulator.has_enough() }
    }
}
