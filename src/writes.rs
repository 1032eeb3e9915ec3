//! The writes in progress. In come batches, each with its write; out they come again as they are done. Next room: `write`,
//! for each of them.
//!
//! The memory of a write that is done serves the next one, so that a sink that takes its batches at once costs no
//! allocation.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::{StreamExt, stream::FuturesUnordered};
use tokio_util::sync::ReusableBoxFuture;

use crate::accumulator::{Cut, Written};

/// A batch that has come back, and how its write ended.
pub(crate) type Back<T, R> = (Box<Cut<T, R>>, Written);

type Write<T, R> = ReusableBoxFuture<'static, Back<T, R>>;

/// The memory of so many writes is kept.
const IDLE: usize = 64;

pub(crate) struct Writes<T, R> {
    running: FuturesUnordered<Running<T, R>>,
    done: VecDeque<Back<T, R>>,
    /// Memory of writes that are done.
    idle: Vec<Write<T, R>>,
}

impl<T, R> Writes<T, R>
where
    T: Send + 'static,
    R: Send + 'static,
{
    pub(crate) fn new() -> Self {
        Self { running: FuturesUnordered::new(), done: VecDeque::new(), idle: Vec::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.done.is_empty() && self.running.is_empty()
    }

    /// Begins a write.
    pub(crate) fn begin(&mut self, write: impl Future<Output = Back<T, R>> + Send + 'static, cx: &mut Context<'_>) {
        let mut write = match self.idle.pop() {
            Some(mut idle) => {
                idle.set(write);
                idle
            }
            None => ReusableBoxFuture::new(write),
        };
        match write.poll(cx) {
            Poll::Ready(done) => {
                self.done.push_back(done);
                self.keep(write);
            }
            Poll::Pending => self.running.push(Running(Some(write))),
        }
    }

    /// The next batch that comes back; `None` if none is on its way.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Back<T, R>>> {
        if let Some(done) = self.done.pop_front() {
            return Poll::Ready(Some(done));
        }
        Poll::Ready(ready!(self.running.poll_next_unpin(cx)).map(|(write, done)| {
            self.keep(write);
            done
        }))
    }

    fn keep(&mut self, write: Write<T, R>) {
        if self.idle.len() < IDLE {
            self.idle.push(write);
        }
    }
}

/// A write that gives its memory back when it is done.
struct Running<T, R>(Option<Write<T, R>>);

impl<T, R> Future for Running<T, R> {
    type Output = (Write<T, R>, Back<T, R>);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut write = self.0.take().expect("it is not polled again when it is done");
        match write.poll(cx) {
            Poll::Ready(done) => Poll::Ready((write, done)),
            Poll::Pending => {
                self.0 = Some(write);
                Poll::Pending
            }
        }
    }
}
