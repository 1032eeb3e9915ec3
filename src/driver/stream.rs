//! [`Batched`]: the same rules on any `Stream`, with no task and no sink. Batches are cut when it is polled.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use futures::{Stream, stream::FusedStream};

use crate::{
    driver::{clock, timer::Timer},
    rules::{
        accumulator::{Accumulator, Arrival, Policy},
        config::limits::{Limits, LimitsError},
        panics,
        stage::Stages,
        stats::Stats,
        time::Timestamp,
    },
};

/// Items that one poll takes from a stream that is always ready, before it lets others run.
const ITEMS_PER_POLL: usize = 1024;

/// Adds [`batched`](Self::batched) to every stream.
pub trait BatchExt: Stream {
    /// Groups the stream's items into batches, by the same rules as a [`Batcher`](crate::Batcher).
    ///
    /// * Emits a batch when it is full, when its oldest item has waited for the linger, when an item is urgent, and with
    ///   a linger of zero as soon as the stream has nothing more to give just then, or has given 1,024 items in one poll.
    ///   Items that expired, were conflated, deduplicated or netted, weigh more than `max_weight`, or over which a stage
    ///   panicked, are not emitted.
    /// * Backpressures: it polls the stream only when it is polled, and not while the batch that goes next is full,
    ///   `max_pending` items wait or, where they are spread over partitions, four times `max_items`. The overflow
    ///   policy has nothing to do.
    /// * Completes when the stream has ended and what waited has been emitted.
    ///
    /// # Cancel safety
    ///
    /// Dropping `next()` loses nothing: items wait in the adaptor. [`Batched::into_parts`] hands them back.
    ///
    /// # Panics
    ///
    /// If limits and stages contradict each other; see [`try_batched`](Self::try_batched).
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// use std::time::Duration;
    /// use futures::StreamExt;
    /// use roundlot::{BatchExt, Limits, Stages, stage};
    ///
    /// let quotes = futures::stream::iter([("BTC", 1), ("ETH", 2), ("BTC", 3)]);
    /// let stages = Stages::new().conflate_by(|quote: &(&'static str, u32)| quote.0, stage::latest);
    /// let mut batches = quotes.batched(stages, Limits::new(500).linger(Duration::from_millis(2)));
    /// assert_eq!(batches.next().await.unwrap(), [("BTC", 3), ("ETH", 2)]);
    /// assert_eq!(batches.next().await, None);
    /// # }
    /// ```
    #[doc(alias = "chunks_timeout")]
    #[doc(alias = "ready_chunks")]
    fn batched(self, stages: Stages<Self::Item>, limits: impl Into<Limits>) -> Batched<Self, Self::Item>
    where
        Self: Sized,
    {
        self.try_batched(stages, limits).unwrap_or_else(|error| panic!("invalid batched stream: {error}"))
    }

    /// Like [`batched`](Self::batched), for settings that may be wrong.
    ///
    /// # Errors
    ///
    /// Names the setting that contradicts itself or another.
    fn try_batched(
        self,
        stages: Stages<Self::Item>,
        limits: impl Into<Limits>,
    ) -> Result<Batched<Self, Self::Item>, LimitsError>
    where
        Self: Sized,
    {
        let limits = limits.into();
        stages.check(&limits)?;
        Ok(Batched {
            source: Some(Box::pin(self)),
            accumulator: Accumulator::new(stages, &limits, Policy::default()),
            timer: Timer::new(),
        })
    }
}

impl<S: Stream> BatchExt for S {}

/// A stream of batches, from [`BatchExt::batched`].
#[must_use = "streams do nothing unless polled"]
pub struct Batched<S, T> {
    /// `None` once it has ended.
    source: Option<Pin<Box<S>>>,
    accumulator: Accumulator<T, (), ()>,
    timer: Timer,
}

impl<S, T> Batched<S, T>
where
    S: Stream<Item = T>,
{
    /// Counters and gauges, as for a batcher.
    pub fn stats(&self) -> Stats {
        self.accumulator.stats()
    }

    /// Gives up batching: the stream, pinned where it is, if it has not ended; and the items that wait, oldest first.
    pub fn into_parts(mut self) -> (Option<Pin<Box<S>>>, Vec<T>) {
        self.accumulator.return_waiting(clock::now());
        let waiting = self.accumulator.take_returned().into_iter().map(|item| item.op).collect();
        (self.source.take(), waiting)
    }

    #[inline]
    fn push(&mut self, op: T, now: Timestamp) {
        self.accumulator.push(Arrival { op, at: now, token: None }, now);
    }

    fn has_ended(&self) -> bool {
        self.source.is_none() && self.accumulator.is_empty()
    }

    /// Takes in what the stream has to give, until something is full: the later a batch is cut, the less of it is
    /// stale. Says whether the stream may have more right now.
    fn fill(&mut self, cx: &mut Context<'_>) -> bool {
        // Items of one poll come at the same time, as far as anybody can tell.
        let now = clock::now();
        for _ in 0..ITEMS_PER_POLL {
            if self.accumulator.has_enough() {
                return true;
            }
            let Some(source) = &mut self.source else {
                self.accumulator.close();
                return false;
            };
            match source.as_mut().poll_next(cx) {
                Poll::Pending => return false,
                Poll::Ready(None) => self.source = None,
                Poll::Ready(Some(op)) => self.push(op, now),
            }
        }
        true
    }
}

impl<S, T> Stream for Batched<S, T>
where
    S: Stream<Item = T>,
{
    type Item = Vec<T>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Vec<T>>> {
        let this = &mut *self;
        let has_more = this.fill(cx);
        // Items that a stage panicked over are gone, as the docs of the stages say.
        drop(panics::discard_all(&mut this.accumulator.take_letters()));
        let now = clock::now();
        if let Some(batch) = this.accumulator.hand_over(now) {
            return Poll::Ready(Some(batch));
        }
        if this.has_ended() {
            return Poll::Ready(None);
        }
        if has_more {
            // The stream is always ready, but must not own the thread.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if this.accumulator.has_excess_capacity() {
            this.accumulator.shrink();
        }
        this.timer.set(this.accumulator.deadline(now));
        if this.timer.poll_fired(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, None)
    }
}

impl<S, T> FusedStream for Batched<S, T>
where
    S: Stream<Item = T>,
{
    fn is_terminated(&self) -> bool {
        self.has_ended()
    }
}

impl<S, T> Unpin for Batched<S, T> {}

impl<S, T> fmt::Debug for Batched<S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batched").field("has_ended", &self.source.is_none()).finish_non_exhaustive()
    }
}
