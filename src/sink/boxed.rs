//! [`BoxSink`], a sink whose type is erased. It passes every call through unchanged; [`Sink::boxed`] makes it.

use std::fmt;

use futures::future::BoxFuture;

use super::{Guarantee, Sink, SinkError};
use crate::rules::batch::{Batch, Settled};

/// A [`Sink`] of any type, behind one pointer; made by [`Sink::boxed`].
///
/// For a sink that is chosen at run time, kept in a field, or put in a list. It costs one allocation and one dynamic
/// call per write, which is little next to a batch.
///
/// # Cancel safety, errors, panics
///
/// As those of the inner sink; nothing is added or hidden.
///
/// # Examples
///
/// ```
/// use roundlot::{Batch, BoxSink, Sink, sink_fn};
///
/// fn venue(paper: bool) -> BoxSink<String> {
///     if paper {
///         sink_fn(|batch: &mut Batch<String>| Box::pin(async move { Ok(batch.accept_all()) })).boxed()
///     } else {
///         sink_fn(|batch: &mut Batch<String>| {
///             Box::pin(async move {
///                 for order in batch.pending() {
///                     println!("to the exchange: {order}");
///                 }
///                 Ok(batch.accept_all())
///             })
///         })
///         .boxed()
///     }
/// }
/// # let _ = venue(true);
/// ```
pub struct BoxSink<T, R = ()> {
    inner: Box<dyn DynSink<T, R>>,
}

impl<T, R> BoxSink<T, R> {
    pub(crate) fn new<S>(sink: S) -> Self
    where
        S: Sink<T, R>,
        T: Send + 'static,
        R: Send + 'static,
    {
        Self { inner: Box::new(sink) }
    }
}

/// `Sink` with its futures boxed, since a trait whose methods return `impl Future` cannot be a `dyn`.
trait DynSink<T, R>: Send + Sync {
    fn write<'a>(&'a self, batch: &'a mut Batch<T, R>) -> BoxFuture<'a, Result<Settled, SinkError>>;
    fn close(&self) -> BoxFuture<'_, Result<(), SinkError>>;
    fn page(&self) -> Option<usize>;
    fn guarantee(&self) -> Guarantee;
    fn reconcile<'a>(&'a self, batch: &'a mut Batch<T, R>) -> BoxFuture<'a, Result<(), SinkError>>;
    fn gone(&self) -> BoxFuture<'_, SinkError>;
}

impl<T, R, S> DynSink<T, R> for S
where
    S: Sink<T, R>,
    T: Send + 'static,
    R: Send + 'static,
{
    fn write<'a>(&'a self, batch: &'a mut Batch<T, R>) -> BoxFuture<'a, Result<Settled, SinkError>> {
        Box::pin(Sink::write(self, batch))
    }

    fn close(&self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(Sink::close(self))
    }

    fn page(&self) -> Option<usize> {
        Sink::page(self)
    }

    fn guarantee(&self) -> Guarantee {
        Sink::guarantee(self)
    }

    fn reconcile<'a>(&'a self, batch: &'a mut Batch<T, R>) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(Sink::reconcile(self, batch))
    }

    fn gone(&self) -> BoxFuture<'_, SinkError> {
        Box::pin(Sink::gone(self))
    }
}

impl<T, R> Sink<T, R> for BoxSink<T, R>
where
    T: Send + 'static,
    R: Send + 'static,
{
    // The dynamic call is named in full: `BoxSink` is a `DynSink` too, and a plain `.write` must not find itself.
    async fn write(&self, batch: &mut Batch<T, R>) -> Result<Settled, SinkError> {
        DynSink::write(&*self.inner, batch).await
    }

    async fn close(&self) -> Result<(), SinkError> {
        DynSink::close(&*self.inner).await
    }

    fn page(&self) -> Option<usize> {
        DynSink::page(&*self.inner)
    }

    fn guarantee(&self) -> Guarantee {
        DynSink::guarantee(&*self.inner)
    }

    async fn reconcile(&self, batch: &mut Batch<T, R>) -> Result<(), SinkError> {
        DynSink::reconcile(&*self.inner, batch).await
    }

    async fn gone(&self) -> SinkError {
        DynSink::gone(&*self.inner).await
    }

    /// Returns the sink itself: it is boxed already.
    fn boxed(self) -> Self {
        self
    }
}

impl<T, R> fmt::Debug for BoxSink<T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoxSink").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use super::*;
    use crate::sink::sink_fn;

    struct Closing(Arc<AtomicU32>);

    impl Sink<u8, u32> for Closing {
        async fn write(&self, batch: &mut Batch<u8, u32>) -> Result<Settled, SinkError> {
            batch.accept(0, 7);
            Err(SinkError::transient("half way"))
        }

        async fn close(&self) -> Result<(), SinkError> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Err(SinkError::refused("no"))
        }
    }

    /// Everything the inner sink returns comes through, close included, however often it is boxed.
    #[tokio::test]
    async fn hides_the_type_and_nothing_else() {
        let closes = Arc::new(AtomicU32::new(0));
        let sink = Closing(closes.clone()).boxed().boxed();
        let mut batch = Batch::for_test(vec![1, 2]);
        let error = Sink::write(&sink, &mut batch).await.unwrap_err();
        assert_eq!(error.chain(), "not written for now: half way");
        assert_eq!(batch.verdict(0).unwrap().unwrap(), &7);
        assert!(batch.verdict(1).is_none());
        assert!(Sink::close(&sink).await.is_err());
        assert_eq!(closes.load(Ordering::Relaxed), 1);
    }

    /// Boxed sinks of different types fit in one list, and what they borrow is a `Send` future.
    #[tokio::test]
    async fn different_sinks_fit_in_one_list() {
        let sinks: Vec<BoxSink<u8, u32>> = vec![
            Closing(Arc::default()).boxed(),
            sink_fn(|batch: &mut Batch<u8, u32>| Box::pin(async move { Ok(batch.accept_all()) })).boxed(),
        ];
        let answers = tokio::spawn(async move {
            let mut answers = Vec::new();
            for sink in &sinks {
                answers.push(Sink::write(sink, &mut Batch::for_test(vec![1])).await.is_ok());
            }
            answers
        });
        assert_eq!(answers.await.unwrap(), [false, true]);
    }
}
