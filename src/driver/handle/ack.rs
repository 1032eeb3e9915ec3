//! [`Ack`]: the caller's end of the answer to one op. The handle makes it on `submit`; the other end rides with the op.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use crate::{
    driver::{clock, reply::Receiver},
    rules::{
        outcome::{AckError, End, Outcome, Packed},
        time::Timestamp,
    },
};

/// Resolves to the receipt of one submitted op, or to why there is none.
///
/// Dropping it withdraws nothing.
///
/// # Cancel safety
///
/// Cancel safe: it can be polled on, by reference, after a `select!` has dropped the borrow.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use roundlot::{Batcher, End, sink_fn};
///
/// let (desk, _worker) = Batcher::new(sink_fn(|batch: &mut roundlot::Batch<&str, usize>| {
///     Box::pin(async move { Ok(batch.accept_all_with(|_, name| name.len())) })
/// }))
/// .spawn();
///
/// let receipt = desk.submit("four").await?.await?;
/// assert_eq!(receipt, 4);
///
/// let outcome = desk.submit("seven").await?.outcome().await;
/// assert_eq!(outcome.end, End::Delivered);
/// println!("answered after {:?}", outcome.latency);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "an ack tells what became of the operation; await it, or use `send`"]
pub struct Ack<R = ()> {
    verdict: Receiver<Packed<R>>,
    sent_at: Timestamp,
}

impl<R> Ack<R> {
    pub(crate) fn new(verdict: Receiver<Packed<R>>, sent_at: Timestamp) -> Self {
        Self { verdict, sent_at }
    }

    /// Like awaiting the ack itself, with more to read.
    ///
    /// # Cancel safety
    ///
    /// Takes the ack, so that dropping the future gives up on the answer. The op goes its way all the same.
    pub async fn outcome(self) -> Outcome<R> {
        let sent_at = self.sent_at;
        match self.verdict.await {
            Some(packed) => packed.into(),
            None => {
                let latency = clock::now().since(sent_at);
                Outcome { result: Err(AckError::Lost), end: End::Lost, attempts: 0, latency }
            }
        }
    }
}

impl<R> Future for Ack<R> {
    type Output = Result<R, AckError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // The sender answers when dropped, too: no path leaves a caller waiting.
        Poll::Ready(match ready!(Pin::new(&mut self.verdict).poll(cx)) {
            Some(packed) => packed.result.map_err(|error| *error),
            None => Err(AckError::Lost),
        })
    }
}
