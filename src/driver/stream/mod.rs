//! [`BatchExt`]: the same rules on any `Stream`, with no task and no sink: by themselves ([`Staged`]), or in batches
//! ([`Batched`]). Both are polled by their consumer, and share [`StreamDriver`].

mod batched;
mod driver;
mod staged;
#[cfg(test)]
mod tests;

use futures::Stream;

use crate::rules::{
    config::limits::{Limits, LimitsError},
    stage::Stages,
};
pub use batched::Batched;
use driver::StreamDriver;
pub use staged::Staged;

/// Adds [`stages`](Self::stages) and [`batched`](Self::batched) to every stream.
pub trait BatchExt: Stream {
    /// Applies the rules of [`Stages`] to single items: each rule can be used alone, before any other combinator.
    ///
    /// The rules are methods of the [`Staged`] stream that is returned, which has none at first and passes the items on
    /// in order. They may be followed by [`Staged::batched`].
    ///
    /// * Emits the one item that goes next by the rules, decided when the consumer polls. First it takes in what the stream
    ///   has to give just then: an item that waits can still be superseded, overtaken, netted or expire. There is no
    ///   linger. Items that expired, were conflated, deduplicated or netted, or over which a stage panicked, are not emitted.
    /// * Backpressures: it polls the stream only when it is polled, takes in at most 1,024 items in one poll, and none
    ///   while 1,024 items wait. With no rule, or with [`expire_by`](Staged::expire_by) alone, at most one item waits.
    /// * Completes when the stream has ended and what waited has been emitted.
    ///
    /// A consumer that never waits yields now and then, by the cooperative budget of tokio. A channel of tokio spends the same
    /// budget, and gives up to 128 items in one poll.
    ///
    /// # Cancel safety
    ///
    /// Dropping `next()` loses nothing: items wait in the adaptor. [`Staged::into_parts`] hands them back.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// use futures::StreamExt;
    /// use roundlot::{BatchExt, stage};
    ///
    /// let quotes = futures::stream::iter([("BTC", 1), ("ETH", 2), ("BTC", 3)]);
    /// let latest = quotes.stages().conflate_by(|quote| quote.0, stage::latest);
    /// let lines: Vec<String> = latest.map(|(symbol, bid)| format!("{symbol} {bid}")).collect().await;
    /// assert_eq!(lines, ["BTC 3", "ETH 2"]);
    /// # }
    /// ```
    fn stages(self) -> Staged<Self, Self::Item>
    where
        Self: Sized,
    {
        Staged::new(self)
    }

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
        Ok(Batched::new(StreamDriver::new(self, stages, &limits)))
    }
}

impl<S: Stream> BatchExt for S {}
