//! The [`Sink`] trait, its error type and its combinators. A sink writes batches and gives each op a verdict; the
//! worker of a batcher calls it.

mod boxed;
mod fan_out;
mod from_futures;
mod from_service;
mod guarantee;
mod map;
#[cfg(feature = "postgres")]
pub mod postgres;
mod sink_fn;
#[cfg(feature = "sqlite")]
pub mod sqlite;
pub mod table;
mod timeout;
#[cfg(feature = "websocket")]
pub mod websocket;

use std::{future::Future, sync::Arc, time::Duration};

pub use crate::rules::batch::{ErrorKind, SinkError};
pub use boxed::BoxSink;
pub use fan_out::FanOut;
pub use from_futures::{FromFutures, from_futures};
pub use from_service::{FromService, from_service};
pub use guarantee::Guarantee;
pub use map::Map;
pub use sink_fn::{SinkFn, sink_fn};
pub use timeout::Timeout;

use crate::rules::batch::{Batch, Settled};

/// A destination that takes operations of type `T` in batches and answers each with a receipt of type `R`.
///
/// The batch is *lent*: its ops stay where they are when a write fails, times out or panics, so no `T: Clone` is
/// needed for a retry. Write what is [`pending`](Batch::pending), give each op its verdict, and return the
/// [`Settled`] that the batch hands out once none is missing:
///
/// * `Ok(batch.accept_all())` accepts all that have no verdict yet;
/// * `Ok(batch.settle_each(|op| ..))` asks for a receipt or an error for each of them;
/// * [`Batch::accept`], [`Batch::refuse`] and [`Batch::retry`] answer one op each by its index, and [`Batch::settled`]
///   closes; [`batch.pending().indexed()`](crate::Pending::indexed) gives each op with that index, which is how results by
///   position find their ops;
/// * `Err(error)` answers every op that has no verdict yet with that error.
///
/// The [`ErrorKind`] of an error decides what happens to its ops.
///
/// `write` takes `&self` because up to [`max_in_flight`](crate::Limits::max_in_flight) writes run at once; batches
/// of one partition never overlap.
///
/// The future must be `Send`. If it holds a borrow of the batch, such as [`Batch::pending`], across an await, the ops
/// must be `Sync`. Otherwise copy out what is needed first.
///
/// # What a write may await
///
/// Anything but its own batcher. A write that awaits `send`, an ack or `flush` of its own batcher can wait for itself:
/// for capacity that only its end frees, or for a later op. It then never ends, and a
/// [`write_timeout`](crate::Limits::write_timeout) leaves the ops in doubt. Use [`try_send`](crate::Handle::try_send),
/// which returns at once, or another batcher.
///
/// # Cancel safety
///
/// A write is dropped when it exceeds the [`write_timeout`](crate::Limits::write_timeout) or when the shutdown limit
/// passes. Ops without a verdict are then in doubt after a timeout; at shutdown they are returned, flagged as
/// [`in_flight`](crate::Returned::in_flight).
///
/// # Panics
///
/// A panic inside `write` is caught. Ops without a verdict are then in doubt, as after a timeout.
///
/// # Examples
///
/// ```
/// use roundlot::{Batch, Settled, Sink, SinkError};
///
/// struct Printer;
///
/// impl Sink<String> for Printer {
///     async fn write(&self, batch: &mut Batch<String>) -> Result<Settled, SinkError> {
///         for line in batch.pending() {
///             println!("{line}");
///         }
///         Ok(batch.accept_all())
///     }
/// }
/// ```
///
/// A destination that answers with a list, one result per op by its position:
///
/// ```
/// use roundlot::{Batch, Settled, Sink, SinkError};
///
/// struct Venue;
///
/// impl Sink<u32, u64> for Venue {
///     async fn write(&self, batch: &mut Batch<u32, u64>) -> Result<Settled, SinkError> {
///         let (indexes, orders): (Vec<usize>, Vec<&u32>) = batch.pending().indexed().unzip();
///         let results = post(&orders).await?;
///         if results.len() != orders.len() {
///             return Err(SinkError::ambiguous("not one result per order")); // executed, but which of them?
///         }
///         for (i, result) in indexes.into_iter().zip(results) {
///             match result {
///                 Ok(id) => batch.accept(i, id),
///                 Err(reason) => batch.refuse(i, SinkError::refused(reason)),
///             }
///         }
///         batch.settled()
///     }
/// }
///
/// async fn post(orders: &[&u32]) -> Result<Vec<Result<u64, String>>, SinkError> {
///     // ...
/// #   Ok(orders.iter().map(|order| if **order > 100 { Err("too much".into()) } else { Ok(u64::from(**order)) }).collect())
/// }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// # let mut batch = Batch::for_test(vec![7, 700]);
/// # Venue.write(&mut batch).await.unwrap();
/// # assert_eq!(batch.verdict(0).unwrap().unwrap(), &7);
/// # assert!(batch.verdict(1).unwrap().is_err());
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a sink for operations of type `{T}` with receipts of type `{R}`",
    note = "implement `roundlot::Sink`, or make one with `sink_fn`, `from_futures` or `from_service`"
)]
pub trait Sink<T, R = ()>: Send + Sync + 'static {
    /// Writes one batch and gives each op in it a verdict.
    ///
    /// # Errors
    ///
    /// Returns the verdict of all ops that have none yet.
    fn write(&self, batch: &mut Batch<T, R>) -> impl Future<Output = Result<Settled, SinkError>> + Send;

    /// Closes the sink: called once when the batcher ends, after the last write. The default does nothing.
    ///
    /// # Errors
    ///
    /// An error appears in the [`Summary`](crate::Summary); by then every op has its verdict.
    fn close(&self) -> impl Future<Output = Result<(), SinkError>> + Send {
        async { Ok(()) }
    }

    /// The number of ops in a page, for a destination whose cost rises in steps: one more op than a page holds costs a whole
    /// further page. Where more than a page waits, a batch is then cut down to whole pages, and the rest stays in the buffer.
    ///
    /// Asked once, when the batcher is built. The default says that there are no pages.
    fn page(&self) -> Option<usize> {
        None
    }

    /// The sink's answer to an op that is written twice. A durable batcher asks once per term, and goes by it after a crash;
    /// a [`Batcher`](crate::Batcher) has [`idempotent`](crate::Batcher::idempotent). The default is
    /// [`Unknown`](Guarantee::Unknown).
    fn guarantee(&self) -> Guarantee {
        Guarantee::Unknown
    }

    /// Says what became of ops that a process may have written before it was killed. A durable batcher asks at the start of a
    /// term, before it writes anything, where the guarantee is [`Unknown`](Guarantee::Unknown). Verdicts mean what they mean
    /// in [`write`](Self::write):
    ///
    /// * [`accept`](Batch::accept): the op has landed, and this is its receipt;
    /// * [`retry`](Batch::retry): the op has not landed, and the call of the dead process never will land it, so that it is
    ///   sent again;
    /// * [`refuse`](Batch::refuse): the op never will land;
    /// * none: it is unknown, and the op ends in doubt. "Not there" is unknown while the call may still be under way.
    ///
    /// The default knows nothing.
    ///
    /// # Errors
    ///
    /// The batcher asks again after a backoff if the error is [`Transient`](ErrorKind::Transient),
    /// [`Throttled`](ErrorKind::Throttled) or an [`Outage`](ErrorKind::Outage). After any other error the ops without a verdict
    /// are unknown.
    fn reconcile(&self, batch: &mut Batch<T, R>) -> impl Future<Output = Result<(), SinkError>> + Send {
        let _ = batch;
        async { Ok(()) }
    }

    /// Waits until the destination has ended for good, and returns the reason. For a destination that notices this
    /// without a write, such as a WebSocket whose peer has left. A [`Fanout`](crate::Fanout) then ends the
    /// subscription, even if there is nothing to send. The default waits for ever.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future must change nothing.
    fn gone(&self) -> impl Future<Output = SinkError> + Send {
        std::future::pending()
    }

    /// Limits the time of each write: one that takes longer is dropped, and its ops without a verdict are ambiguous.
    ///
    /// [`Limits::write_timeout`](crate::Limits::write_timeout) does the same for a whole batcher; this one is for a
    /// part of a larger sink.
    fn timeout(self, limit: Duration) -> Timeout<Self>
    where
        Self: Sized,
    {
        Timeout::new(self, limit)
    }

    /// Makes a sink for `U` out of this sink for `T` by translating each op, which is borrowed and so survives.
    fn map<U, F>(self, translate: F) -> Map<Self, T, F>
    where
        Self: Sized,
        F: Fn(&U) -> T + Send + Sync + 'static,
    {
        Map::new(self, translate)
    }

    /// Writes each batch here first, then the accepted ops to `second`; receipts are this sink's.
    ///
    /// An op that this sink accepted and `second` did not is ambiguous, since part of it has landed.
    fn fan_out<S>(self, second: S) -> FanOut<Self, S>
    where
        Self: Sized,
        S: Sink<T, R>,
    {
        FanOut::new(self, second)
    }

    /// Hides the sink's type, at the price of one allocation per write.
    fn boxed(self) -> BoxSink<T, R>
    where
        Self: Sized,
        T: Send + 'static,
        R: Send + 'static,
    {
        BoxSink::new(self)
    }
}

impl<T, R, S> Sink<T, R> for Arc<S>
where
    S: Sink<T, R>,
    T: Send,
    R: Send,
{
    fn write(&self, batch: &mut Batch<T, R>) -> impl Future<Output = Result<Settled, SinkError>> + Send {
        (**self).write(batch)
    }

    fn close(&self) -> impl Future<Output = Result<(), SinkError>> + Send {
        (**self).close()
    }

    fn page(&self) -> Option<usize> {
        (**self).page()
    }

    fn guarantee(&self) -> Guarantee {
        (**self).guarantee()
    }

    fn reconcile(&self, batch: &mut Batch<T, R>) -> impl Future<Output = Result<(), SinkError>> + Send {
        (**self).reconcile(batch)
    }

    fn gone(&self) -> impl Future<Output = SinkError> + Send {
        (**self).gone()
    }
}
