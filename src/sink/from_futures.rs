//! [`FromFutures`], a `futures::Sink` as a sink. Ops are fed one by one and flushed once, and each is fed whole or not
//! at all. [`from_futures`] makes it.

use std::{error::Error, fmt, future::poll_fn, marker::PhantomData, pin::Pin, task::ready};

use futures::SinkExt;
use tokio::sync::Mutex;

use super::{ErrorKind, Sink, SinkError};
use crate::rules::{
    batch::{Batch, Settled},
    panics,
};

/// Makes a sink of a [`futures::Sink`]: a channel, a framed socket, a WebSocket.
///
/// The ops of a batch are cloned and fed in order, then flushed once; the single flush is what a batch saves. A
/// `futures::Sink` has one entrance, so writes take turns, and more than one in flight gains nothing.
///
/// A `futures::Sink` does not tell which item failed, and most are dead after the first failure. For one that can
/// reconnect, or a destination that answers, implement [`Sink`].
///
/// Receipts are of type `()`; see [`FromFutures::receipts`] for others.
///
/// # Cancel safety
///
/// A dropped write leaves no op half fed, and the next write continues after it. Ops that were fed may land with that
/// next flush, so they are in doubt.
///
/// # Errors
///
/// * An op that was fed before the error is [`Ambiguous`](ErrorKind::Ambiguous), and so is the op whose feed failed:
///   the inner sink had it.
/// * An op that was not fed is [`Transient`](ErrorKind::Transient), since nothing of it landed. If the inner sink is
///   dead, its retries run out. An error that is a [`SinkError`] keeps its kind for ops that were not fed. After
///   [`SinkError::outage`] or [`SinkError::connection_lost`] they wait.
/// * An op whose `clone` panics is refused alone; the rest is fed.
///
/// # Examples
///
/// ```
/// use futures::StreamExt;
/// use roundlot::{Batch, Sink, from_futures};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let (sender, screen) = futures::channel::mpsc::channel::<&str>(100);
/// let sink = from_futures(sender);
/// # let mut batch = Batch::for_test(vec!["EURUSD 1.0713", "EURUSD 1.0714"]);
/// # assert!(sink.write(&mut batch).await.is_ok());
/// # drop(sink);
/// assert_eq!(screen.collect::<Vec<_>>().await, ["EURUSD 1.0713", "EURUSD 1.0714"]);
/// # }
/// ```
pub fn from_futures<S>(sink: S) -> FromFutures<S> {
    FromFutures { inner: Mutex::new(Box::pin(sink)), receipts: PhantomData }
}

/// A [`futures::Sink`] as a [`Sink`]; made by [`from_futures`].
pub struct FromFutures<S, R = ()> {
    /// Pinned on the heap, so that sinks that are not `Unpin` work too.
    inner: Mutex<Pin<Box<S>>>,
    receipts: PhantomData<fn() -> R>,
}

impl<S, R> FromFutures<S, R> {
    /// Makes the same sink with receipts of type `Q`, each `Q::default()`: for a place that asks for them, such as the
    /// second of a [fan-out](Sink::fan_out).
    pub fn receipts<Q: Default>(self) -> FromFutures<S, Q> {
        FromFutures { inner: self.inner, receipts: PhantomData }
    }
}

impl<T, R, S> Sink<T, R> for FromFutures<S, R>
where
    S: futures::Sink<T> + Send + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    T: Clone + Send,
    R: Default + Send + 'static,
{
    async fn write(&self, batch: &mut Batch<T, R>) -> Result<Settled, SinkError> {
        let mut sink = self.inner.lock().await;
        let open: Vec<usize> = batch.pending_indexes().collect();
        for (fed, &i) in open.iter().enumerate() {
            // Readiness and feed are one poll without an await between them, so a dropped write never reserves a slot
            // without an op in it.
            let mut op = match panics::catch(|| batch[i].clone()) {
                Ok(op) => Some(op),
                Err(panic) => {
                    batch.refuse(i, SinkError::panicked("`clone` of an op", &*panic));
                    continue;
                }
            };
            let mut pinned = sink.as_mut();
            let feed = poll_fn(move |cx| {
                if let Err(error) = ready!(pinned.as_mut().poll_ready(cx)) {
                    return Err((fed, error)).into();
                }
                let sent = op.take().map_or(Ok(()), |op| pinned.as_mut().start_send(op));
                sent.map_err(|error| (fed + 1, error)).into()
            });
            let answer = feed.await;
            if let Err((begun, error)) = answer {
                let error = not_fed(error.into());
                for &i in &open[..begun] {
                    // Ops that were refused before stay so.
                    batch.refuse(i, error.clone().with_kind(ErrorKind::Ambiguous));
                }
                return Err(error);
            }
        }
        sink.flush().await.map_err(in_doubt)?;
        Ok(batch.accept_all())
    }

    async fn close(&self) -> Result<(), SinkError> {
        self.inner.lock().await.close().await.map_err(in_doubt)
    }
}

/// The meaning of an error for ops that the sink never had.
fn not_fed(error: Box<dyn Error + Send + Sync>) -> SinkError {
    match error.downcast::<SinkError>() {
        Ok(error) if error.kind() == ErrorKind::Ambiguous && error.is_outage() => error.with_kind(ErrorKind::Outage),
        Ok(error) if error.kind() == ErrorKind::Ambiguous => error.with_kind(ErrorKind::Transient),
        Ok(error) => *error,
        Err(error) => SinkError::transient(error),
    }
}

/// The meaning of an error for ops that the sink had.
fn in_doubt<E: Into<Box<dyn Error + Send + Sync>>>(error: E) -> SinkError {
    match error.into().downcast::<SinkError>() {
        Ok(error) => error.with_kind(ErrorKind::Ambiguous),
        Err(error) => SinkError::ambiguous(error),
    }
}

impl<S, R> fmt::Debug for FromFutures<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FromFutures").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::Arc,
        task::{Context, Poll},
        time::Duration,
    };

    use futures::{StreamExt, channel::mpsc};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Takes what it is given until the op it breaks at: `Ready` before that op, `Feed` at it, `Flush` after all.
    struct Breaks {
        at: Option<(u8, Step)>,
        fed: Vec<u8>,
    }

    #[derive(Clone, Copy, PartialEq, Debug)]
    enum Step {
        Ready,
        Feed,
        Flush,
    }

    impl Breaks {
        fn check(&self, op: u8, step: Step) -> Result<(), String> {
            if self.at == Some((op, step)) { Err(format!("broken at {step:?}")) } else { Ok(()) }
        }
    }

    impl futures::Sink<u8> for Breaks {
        type Error = String;

        fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), String>> {
            self.check(self.fed.len() as u8, Step::Ready).into()
        }

        fn start_send(mut self: Pin<&mut Self>, op: u8) -> Result<(), String> {
            self.check(op, Step::Feed)?;
            self.fed.push(op);
            Ok(())
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), String>> {
            self.check(self.fed.len() as u8, Step::Flush).into()
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), String>> {
            Poll::Ready(Err("cannot close".to_owned()))
        }
    }

    async fn broken(at: (u8, Step)) -> (Vec<Option<ErrorKind>>, ErrorKind) {
        let sink = from_futures(Breaks { at: Some(at), fed: Vec::new() });
        let mut batch = Batch::for_test(vec![0, 1, 2]);
        let error = sink.write(&mut batch).await.unwrap_err();
        assert_eq!(std::error::Error::source(&error).unwrap().to_string(), format!("broken at {:?}", at.1));
        let verdicts = (0..3).map(|i| batch.verdict(i).map(|verdict| verdict.unwrap_err().kind()));
        (verdicts.collect(), error.kind())
    }

    #[tokio::test]
    async fn an_error_is_ambiguous_for_what_was_fed_and_transient_for_the_rest() {
        use ErrorKind::{Ambiguous, Transient};
        assert_eq!(broken((0, Step::Ready)).await, (vec![None, None, None], Transient));
        assert_eq!(broken((0, Step::Feed)).await, (vec![Some(Ambiguous), None, None], Transient));
        assert_eq!(broken((2, Step::Ready)).await, (vec![Some(Ambiguous), Some(Ambiguous), None], Transient));
        assert_eq!(broken((3, Step::Flush)).await, (vec![None, None, None], Ambiguous));
    }

    #[tokio::test]
    async fn feeds_what_has_no_verdict_in_order_and_closes() {
        let sink = from_futures(Breaks { at: None, fed: Vec::new() }).receipts::<u32>();
        let mut batch = Batch::for_test(vec![5, 6, 7]);
        batch.accept(1, 99);
        assert!(sink.write(&mut batch).await.is_ok());
        assert_eq!(sink.inner.lock().await.fed, [5, 7]);
        assert_eq!(batch.verdict(1).unwrap().unwrap(), &99);
        assert_eq!(Sink::<u8, u32>::close(&sink).await.unwrap_err().to_string(), "may or may not have been written");
    }

    /// The channel takes two ops and no more until they are read. The first write is dropped with one op fed. The
    /// second finds the sink in order: nothing of the first is torn, repeated or lost.
    #[tokio::test(start_paused = true)]
    async fn a_dropped_write_leaves_a_sound_sink() {
        let (sender, mut receiver) = mpsc::channel::<u8>(1);
        let sink = Arc::new(from_futures(sender));
        let mut first = Batch::<u8>::for_test(vec![1, 2, 3, 4]);
        assert!(tokio::time::timeout(SECOND, sink.write(&mut first)).await.is_err());
        assert!(first.verdict(0).is_none());

        let second = tokio::spawn({
            let sink = sink.clone();
            async move { sink.write(&mut Batch::<u8>::for_test(vec![5, 6])).await.is_ok() }
        });
        let mut seen = Vec::new();
        for _ in 0..4 {
            seen.push(receiver.next().await.unwrap());
        }
        assert_eq!(seen, [1, 2, 5, 6]);
        assert!(second.await.unwrap());
    }
}
