//! Where batches go: the [`Sink`] trait, its error and its combinators. In comes a [`Batch`], out goes a verdict
//! for each of its ops. Next room: `ack`, where the callers hear of it.

mod boxed;
mod fan_out;
mod from_futures;
mod from_service;
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
/// * [`Batch::accept`], [`Batch::refuse`] and [`Batch::retry`] answer one op each, and [`Batch::settled`] closes;
/// * `Err(error)` answers every op that has no verdict yet with that error.
///
/// What becomes of an error depends on its [`ErrorKind`].
///
/// `write` takes `&self` because up to [`max_in_flight`](crate::Limits::max_in_flight) writes run at once; batches
/// of one partition never overlap.
///
/// The future must be `Send`. One that holds on to a borrow of the batch, such as [`Batch::pending`], across an await
/// is so only if the ops are `Sync`; take what is needed out first otherwise.
///
/// # What a write may await
///
/// Nothing of its own batcher but [`try_send`](crate::Handle::try_send), which never waits. A write that awaits `send` on
/// its own handle waits for room that only its own end makes, one that awaits `flush` or an [`Ack`](crate::Ack) waits
/// for itself: neither ever ends, and a [`write_timeout`](crate::Limits::write_timeout) leaves the ops in doubt. Ops that
/// follow from a write go to another batcher, or to a task of their own.
///
/// # Cancel safety
///
/// A write is dropped when it exceeds the [`write_timeout`](crate::Limits::write_timeout) or when the shutdown
/// limit passes. What had no verdict by then is in doubt, respectively given back flagged as in flight.
///
/// # Panics
///
/// A panic inside `write` is caught. The ops without a verdict are then in doubt, as after a timeout.
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
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a sink for operations of type `{T}` with receipts of type `{R}`",
    note = "implement `roundlot::Sink`, or make one with `sink_fn`, `from_futures` or `from_service`"
)]
pub trait Sink<T, R = ()>: Send + Sync + 'static {
    /// Writes one batch and gives each op in it a verdict.
    ///
    /// # Errors
    ///
    /// The error is the verdict of each op that has none yet.
    fn write(&self, batch: &mut Batch<T, R>) -> impl Future<Output = Result<Settled, SinkError>> + Send;

    /// Called once when the batcher ends, after the last write. The default does nothing.
    ///
    /// # Errors
    ///
    /// An error is reported in the [`Summary`](crate::Summary); by then every op has its verdict.
    fn close(&self) -> impl Future<Output = Result<(), SinkError>> + Send {
        async { Ok(()) }
    }

    /// Waits until the destination has ended for good, and says why: for one that can tell without a write, such as a
    /// WebSocket whose peer has left. A [`Fanout`](crate::Fanout) ends the subscription then, so that a peer that leaves
    /// while there is nothing to send is not counted any more. The default waits for ever.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future must change nothing.
    fn gone(&self) -> impl Future<Output = SinkError> + Send {
        std::future::pending()
    }

    /// Bounds each write: one that takes longer is dropped and its ops without a verdict are ambiguous.
    ///
    /// [`Limits::write_timeout`](crate::Limits::write_timeout) does the same for a whole batcher; this one is for a
    /// part of a larger sink.
    fn timeout(self, limit: Duration) -> Timeout<Self>
    where
        Self: Sized,
    {
        Timeout::new(self, limit)
    }

    /// Makes a sink for `U` out of this sink for `T` by translating each op, which is lent and so survives.
    fn map<U, F>(self, translate: F) -> Map<Self, T, F>
    where
        Self: Sized,
        F: Fn(&U) -> T + Send + Sync + 'static,
    {
        Map::new(self, translate)
    }

    /// Writes each batch here first, and then what was accepted to `second` too; receipts are this sink's.
    ///
    /// An op that this sink took and `second` did not is ambiguous, since part of it has landed.
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

    fn gone(&self) -> impl Future<Output = SinkError> + Send {
        (**self).gone()
    }
}
