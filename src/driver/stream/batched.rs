//! [`Batched`]: a stream of batches, which are cut when it is polled.

use std::{
    fmt, mem,
    pin::Pin,
    task::{Context, Poll},
};

use futures::{Stream, stream::FusedStream};

use super::StreamDriver;
use crate::rules::stats::Stats;

/// A stream of batches, from [`BatchExt::batched`](crate::BatchExt::batched) or [`Staged::batched`](crate::Staged::batched).
#[must_use = "streams do nothing unless polled"]
pub struct Batched<S, T> {
    driver: StreamDriver<S, T>,
}

impl<S, T> Batched<S, T>
where
    S: Stream<Item = T>,
{
    pub(super) fn new(driver: StreamDriver<S, T>) -> Self {
        Self { driver }
    }

    /// Counters and gauges, as for a batcher.
    pub fn stats(&self) -> Stats {
        self.driver.stats()
    }

    /// Gives up batching: the stream, pinned where it is, if it has not ended; and the items that wait, oldest first.
    pub fn into_parts(self) -> (Option<Pin<Box<S>>>, Vec<T>) {
        self.driver.into_parts()
    }
}

impl<S, T> Stream for Batched<S, T>
where
    S: Stream<Item = T>,
{
    type Item = Vec<T>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Vec<T>>> {
        self.driver.poll_batch(cx, mem::take)
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
        self.driver.has_ended()
    }
}

impl<S, T> Unpin for Batched<S, T> {}

impl<S, T> fmt::Debug for Batched<S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batched").field("has_ended", &self.driver.is_source_done()).finish_non_exhaustive()
    }
}
