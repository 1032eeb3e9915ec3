//! [`SinkFn`], a sink made of a closure, which gives the verdicts. [`sink_fn`] makes it.

use std::{fmt, marker::PhantomData};

use futures::future::BoxFuture;

use super::{Sink, SinkError};
use crate::rules::batch::{Batch, Settled};

/// Makes a sink of a closure that returns a boxed future.
///
/// The future borrows the batch, so it is written `Box::pin(async move { .. })`; the future of an `async` closure
/// cannot be required to be `Send`. Clone shared state into the closure first: it is called for each batch, possibly
/// several times at once. Naming the batch's type in the parameter is enough for type inference. To add a `close`,
/// implement [`Sink`].
///
/// # Cancel safety
///
/// As that of the closure's future, which is dropped when a write takes too long.
///
/// # Errors, panics
///
/// As those of the closure; see [`Sink::write`].
///
/// # Examples
///
/// A sink with state, which is shared by all its writes:
///
/// ```
/// use std::sync::{Arc, atomic::{AtomicU64, Ordering}};
/// use roundlot::{Batch, Sink, sink_fn};
///
/// struct Tick { volume: u64 }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let total = Arc::new(AtomicU64::new(0));
/// let sink = sink_fn({
///     let total = total.clone();
///     move |batch: &mut Batch<Tick>| {
///         let total = total.clone();
///         Box::pin(async move {
///             for tick in batch.pending() {
///                 total.fetch_add(tick.volume, Ordering::Relaxed);
///             }
///             Ok(batch.accept_all())
///         })
///     }
/// });
/// # let mut batch = Batch::for_test(vec![Tick { volume: 3 }, Tick { volume: 4 }]);
/// # assert!(sink.write(&mut batch).await.is_ok());
/// # assert_eq!(total.load(Ordering::Relaxed), 7);
/// # }
/// ```
///
/// A sink that answers each op by itself, with a receipt:
///
/// ```
/// use roundlot::{Batch, SinkError, sink_fn};
///
/// let sink = sink_fn(|batch: &mut Batch<i64, u64>| {
///     Box::pin(async move {
///         for i in 0..batch.len() {
///             match u64::try_from(batch[i]) {
///                 Ok(id) => batch.accept(i, id),
///                 Err(error) => batch.refuse(i, SinkError::refused(error)),
///             }
///         }
///         batch.settled()
///     })
/// });
/// # roundlot::Sink::boxed(sink);
/// ```
pub fn sink_fn<T, R, F>(write: F) -> SinkFn<F, T, R>
where
    F: for<'a> Fn(&'a mut Batch<T, R>) -> BoxFuture<'a, Result<Settled, SinkError>> + Send + Sync + 'static,
{
    SinkFn { write, types: PhantomData }
}

/// A closure as a [`Sink`]; made by [`sink_fn`].
pub struct SinkFn<F, T, R = ()> {
    write: F,
    /// Types of the closure's parameters, named here so that a method such as `boxed` knows them.
    types: PhantomData<fn(T, R)>,
}

impl<F, T, R> Sink<T, R> for SinkFn<F, T, R>
where
    F: for<'a> Fn(&'a mut Batch<T, R>) -> BoxFuture<'a, Result<Settled, SinkError>> + Send + Sync + 'static,
    T: Send + 'static,
    R: Send + 'static,
{
    fn write(&self, batch: &mut Batch<T, R>) -> impl Future<Output = Result<Settled, SinkError>> + Send {
        (self.write)(batch)
    }
}

impl<F: Clone, T, R> Clone for SinkFn<F, T, R> {
    fn clone(&self) -> Self {
        Self { write: self.write.clone(), types: PhantomData }
    }
}

impl<F, T, R> fmt::Debug for SinkFn<F, T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SinkFn").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    fn takes(_: &impl Sink<String>) {}

    #[tokio::test]
    async fn captured_state_is_shared_by_all_writes() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = sink_fn({
            let seen = seen.clone();
            move |batch: &mut Batch<String>| {
                let seen = seen.clone();
                Box::pin(async move {
                    tokio::task::yield_now().await;
                    seen.lock().unwrap().extend(batch.pending().cloned());
                    Ok(batch.accept_all())
                })
            }
        });
        takes(&sink);
        let copy = sink.clone();
        assert!(sink.write(&mut Batch::for_test(vec!["a".to_owned()])).await.is_ok());
        assert!(copy.write(&mut Batch::for_test(vec!["b".to_owned()])).await.is_ok());
        assert_eq!(*seen.lock().unwrap(), ["a", "b"]);
    }

    /// With the types known from elsewhere, the closure names none.
    #[tokio::test]
    async fn types_are_inferred_from_the_context() {
        let sink = sink_fn(|batch| Box::pin(async move { Ok(batch.accept_all()) }));
        takes(&sink);
        let sink = sink_fn(|batch| Box::pin(async move { Ok(batch.accept_all()) }));
        assert!(sink.write(&mut Batch::<u8, u8>::for_test(vec![1])).await.is_ok());
    }

    /// A function with the right signature is as good as a closure.
    #[tokio::test]
    async fn a_function_is_a_sink_too() {
        fn write(batch: &mut Batch<u8>) -> BoxFuture<'_, Result<Settled, SinkError>> {
            Box::pin(async move { Ok(batch.accept_all()) })
        }
        assert!(sink_fn(write).write(&mut Batch::for_test(vec![1])).await.is_ok());
    }
}
