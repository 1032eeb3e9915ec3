//! [`WriteSet`]: the writes in progress. The actor adds a write for each batch that it cuts and polls for completed ones.
//!
//! The memory of a completed write serves the next one, so that a sink that completes at once costs no allocation.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::{StreamExt, stream::FuturesUnordered};

/// The memory of so many writes is kept.
const IDLE: usize = 64;

pub(crate) struct WriteSet<F: Future> {
    running: FuturesUnordered<Running<F>>,
    done: VecDeque<F::Output>,
    /// Memory of writes that are done.
    idle: Vec<Write<F>>,
}

/// A write, as long as it is not done.
type Write<F> = Pin<Box<Option<F>>>;

impl<F: Future> WriteSet<F> {
    pub(crate) fn new() -> Self {
        Self { running: FuturesUnordered::new(), done: VecDeque::new(), idle: Vec::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.done.is_empty() && self.running.is_empty()
    }

    /// Begins a write.
    pub(crate) fn begin(&mut self, begun: F, cx: &mut Context<'_>) {
        let mut write = self.idle.pop().unwrap_or_else(|| Box::pin(None));
        write.set(Some(begun));
        match poll(&mut write, cx) {
            Poll::Ready(done) => {
                self.done.push_back(done);
                self.keep(write);
            }
            Poll::Pending => self.running.push(Running(Some(write))),
        }
    }

    /// The output of the next write that has completed; `None` if there are no writes.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<F::Output>> {
        if let Some(done) = self.done.pop_front() {
            return Poll::Ready(Some(done));
        }
        Poll::Ready(ready!(self.running.poll_next_unpin(cx)).map(|(write, done)| {
            self.keep(write);
            done
        }))
    }

    fn keep(&mut self, write: Write<F>) {
        if self.idle.len() < IDLE {
            self.idle.push(write);
        }
    }
}

fn poll<F: Future>(write: &mut Write<F>, cx: &mut Context<'_>) -> Poll<F::Output> {
    let running = write.as_mut().as_pin_mut().expect("it is not polled again when it is done");
    let done = ready!(running.poll(cx));
    write.set(None);
    Poll::Ready(done)
}

/// A write that gives its memory back when it is done.
struct Running<F>(Option<Write<F>>);

impl<F: Future> Future for Running<F> {
    type Output = (Write<F>, F::Output);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut write = self.0.take().expect("it is not polled again when it is done");
        match poll(&mut write, cx) {
            Poll::Ready(done) => Poll::Ready((write, done)),
            Poll::Pending => {
                self.0 = Some(write);
                Poll::Pending
            }
        }
    }
}
