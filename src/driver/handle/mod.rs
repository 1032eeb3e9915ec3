//! [`Handle`]: what callers hold. Cheap to clone; names neither stages nor sink. The last one dropped ends the batcher.

pub(crate) mod ack;
pub(crate) mod error;
pub(crate) mod permit;
mod port;
pub(crate) mod send;
pub(crate) mod send_all;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::oneshot, task::coop};

use crate::{
    driver::{
        handle::{
            ack::Ack,
            error::{Closed, SendAllError, SendError, SetLimitsError, TrySendError},
            permit::Permit,
            port::Port,
            send::Sending,
            send_all::send_all,
        },
        inbox::{
            Inbox, acquire,
            command::{Admission, Command, Submission},
        },
        reply::pair,
    },
    rules::{
        config::limits::{Limits, LimitsError},
        stats::{
            Stats,
            flush::{Cursor, Flush, FlushReport},
        },
    },
};

/// A cheap, clonable way to a [`Batcher`](crate::Batcher)'s task. It names neither its stages nor its sink.
///
/// When the last handle is dropped the batcher drains and ends; one that is paused then, which no caller could resume any
/// more, gives back what waits instead. Every method returns at once when the task is gone.
///
/// A handle keeps up to 64 KiB for its acks, as much as it has needed at a time; a new clone has none yet.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use roundlot::{Batch, Batcher, sink_fn};
///
/// let print = sink_fn(|batch: &mut Batch<u32>| {
///     Box::pin(async move {
///         batch.pending().for_each(|op| println!("{op}"));
///         Ok(batch.accept_all())
///     })
/// });
/// let (desk, worker) = Batcher::new(print).limits(100).spawn();
///
/// desk.send(1).await?;
/// desk.send_all([2, 3, 4]).await?;
/// desk.submit(5).await?.await?;
/// let report = desk.flush().await?;
/// assert_eq!(report.outcomes.delivered, 5);
/// worker.shutdown().await?;
/// assert!(desk.send(6).await.is_err());
/// # Ok(())
/// # }
/// ```
pub struct Handle<T, R = ()> {
    port: Port<T, R>,
    /// The position up to which this handle's flushes have reported.
    reported: Mutex<Cursor>,
}

impl<T, R> Handle<T, R> {
    /// The first handle of a batcher, which its inbox has already counted.
    pub(crate) fn first(inbox: Arc<Inbox<T, R>>) -> Self {
        Self { port: Port::new(inbox), reported: Mutex::default() }
    }

    /// Hands an op in, waiting for room if [`Overflow::Wait`](crate::Overflow::Wait) says so.
    ///
    /// Callers get room in the order in which they asked. Age counts from here; up to 16 ops that are sent or submitted, one
    /// by one, before the task has looked share the time stamp of the first, so that an op may count as a little older than
    /// it is, and never as newer.
    ///
    /// # Errors
    ///
    /// Gives the op back: [`Closed`](SendError::Closed), [`TooHeavy`](SendError::TooHeavy), or, unless the policy is to
    /// wait, [`Full`](SendError::Full).
    ///
    /// # Cancel safety
    ///
    /// **An op is lost to its caller if the future is dropped** while it waits for room; it is then not sent. Where that
    /// matters, [`reserve`](Self::reserve) first.
    #[inline]
    pub fn send(&self, op: T) -> impl Future<Output = Result<(), SendError<T>>> {
        Sending::new(&self.port, Submission::new(op))
    }

    /// Hands an op in if there is room now.
    ///
    /// # Errors
    ///
    /// Gives the op back: [`Full`](TrySendError::Full), [`Closed`](TrySendError::Closed) or
    /// [`TooHeavy`](TrySendError::TooHeavy).
    pub fn try_send(&self, op: T) -> Result<(), TrySendError<T>> {
        if self.port.is_too_heavy(&op) {
            return Err(TrySendError::TooHeavy(op));
        }
        self.port.put(Submission::new(op), Admission::TryAcquire).map(drop).map_err(SendError::at_once)
    }

    /// Hands many ops in, in order, a chunk at a time: the cheapest way in. Other callers' ops may come between chunks.
    ///
    /// # Errors
    ///
    /// Gives back the ops that were not taken, from the first one on that could not be.
    ///
    /// # Cancel safety
    ///
    /// **Not cancel safe:** a dropped future may have sent some of the ops, and drops the rest.
    pub async fn send_all(&self, ops: impl IntoIterator<Item = T>) -> Result<(), SendAllError<T>> {
        send_all(&self.port, ops.into_iter()).await
    }

    /// Waits for room, so that the op itself can be handed in without waiting: the cancel-safe form of `send`.
    ///
    /// It waits whatever the overflow policy says. A permit takes up room until it is used or dropped.
    ///
    /// # Errors
    ///
    /// If the batcher is closed.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped future takes no room, though it loses its place in the line.
    pub async fn reserve(&self) -> Result<Permit<'_, T, R>, Closed> {
        if self.port.is_budget_due() {
            coop::consume_budget().await;
        }
        match acquire(&self.port.inbox).await {
            Ok(()) => Ok(Permit::new(&self.port)),
            Err(_) => Err(Closed),
        }
    }

    /// Hands an op in like [`send`](Self::send), and returns an [`Ack`] that resolves to its receipt: the first await is
    /// for room, the second for the verdict.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    ///
    /// # Cancel safety
    ///
    /// As [`send`](Self::send).
    pub async fn submit(&self, op: T) -> Result<Ack<R>, SendError<T>> {
        let (ack, verdict) = self.port.replies.pair();
        let mut sending = Sending::new(&self.port, Submission { ack: Some(ack), ..Submission::new(op) });
        (&mut sending).await?;
        Ok(Ack::new(verdict, sending.sent_at))
    }

    /// Makes all that was accepted so far due, and waits until it is settled. Ops in flight or in backoff are included; ops
    /// sent later are not.
    ///
    /// The report counts every op that this handle has not been told of by an earlier flush, whichever handle sent it. So the
    /// first flush of a handle reports everything since the batcher began, or since the handle it was cloned from flushed.
    ///
    /// It shortens no backoff, breaks no limit and overtakes no priority; while the batcher is paused it waits. A sink that
    /// awaits it inside of a write waits for that very write.
    ///
    /// # Errors
    ///
    /// If the batcher is closed, or ends before the flush is done.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: once polled, the ops are flushed even if the future is dropped.
    pub async fn flush(&self) -> Result<FlushReport, Closed> {
        let (caller, answer) = pair();
        let since = *self.reported();
        self.port
            .inbox
            .push_other(Command::Flush(Box::new(Flush { since, caller: Box::new(caller) })))
            .map_err(|_| Closed)?;
        let (report, mark) = answer.await.ok_or(Closed)?;
        self.reported().advance(mark);
        Ok(report)
    }

    /// Takes back out every waiting op that satisfies the predicate: the kill switch. Ops that are in flight can't be
    /// withdrawn; those that back off can. Their callers are told that they were withdrawn or, where an earlier attempt may
    /// have landed, that they are in doubt.
    ///
    /// The predicate runs on the batcher's task.
    ///
    /// # Errors
    ///
    /// If the batcher is closed.
    ///
    /// # Cancel safety
    ///
    /// A future that was polled and is dropped before it is done may have withdrawn the ops all the same; **they are then
    /// dropped**, never sent.
    pub async fn withdraw(&self, wanted: impl FnMut(&T) -> bool + Send + 'static) -> Result<Vec<T>, Closed> {
        let (reply, answer) = oneshot::channel();
        self.port.inbox.push_other(Command::Withdraw { wanted: Box::new(wanted), reply }).map_err(|_| Closed)?;
        answer.await.map_err(|_| Closed)
    }

    /// Stops cutting batches, and returns when that is so: no cut begins afterwards, until a caller resumes. Writes that
    /// have begun go on, and so does intake until the buffer is full.
    ///
    /// Of callers that pause and resume at the same time the last one counts, and all are answered.
    ///
    /// # Errors
    ///
    /// If the batcher has ended. One that is draining can be paused and resumed.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: once polled, it takes effect even if the future is dropped.
    pub async fn pause(&self) -> Result<(), Closed> {
        self.set_paused(true).await
    }

    /// Starts cutting batches again, and returns when that is so.
    ///
    /// # Errors
    ///
    /// As [`pause`](Self::pause).
    ///
    /// # Cancel safety
    ///
    /// As [`pause`](Self::pause).
    pub async fn resume(&self) -> Result<(), Closed> {
        self.set_paused(false).await
    }

    async fn set_paused(&self, paused: bool) -> Result<(), Closed> {
        let (reply, answer) = oneshot::channel();
        self.port.inbox.set_paused(paused, reply).map_err(|_| Closed)?;
        answer.await.map_err(|_| Closed)
    }

    /// Changes the limits, from the next cut on. A smaller `max_pending` lets ops that are accepted already finish.
    ///
    /// # Errors
    ///
    /// If the limits contradict themselves, or set a `max_weight` where ops have no weight, or if the batcher is closed.
    /// Nothing is changed then.
    pub fn set_limits(&self, limits: impl Into<Limits>) -> Result<(), SetLimitsError> {
        let limits = limits.into();
        limits.check()?;
        if limits.max_weight.is_some() && !self.port.inbox.door.as_ref().is_some_and(|door| door.weighs()) {
            return Err(LimitsError::unweighed().into());
        }
        if self.port.inbox.is_closed() {
            return Err(SetLimitsError::Closed);
        }
        self.port.inbox.set_limits(limits);
        Ok(())
    }

    /// Counters and gauges of one moment.
    pub fn stats(&self) -> Stats {
        self.port.inbox.stats()
    }

    /// Whether the batcher takes no more ops.
    pub fn is_closed(&self) -> bool {
        self.port.inbox.is_closed()
    }

    pub(crate) fn stop(&self, within: Option<Duration>) {
        self.port.inbox.update_control(|control| control.stop(within, false));
    }

    fn reported(&self) -> MutexGuard<'_, Cursor> {
        self.reported.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T, R> Clone for Handle<T, R> {
    fn clone(&self) -> Self {
        self.port.inbox.add_handle();
        Self { port: self.port.another(), reported: Mutex::new(*self.reported()) }
    }
}

impl<T, R> Drop for Handle<T, R> {
    fn drop(&mut self) {
        self.port.inbox.remove_handle();
    }
}

impl<T, R> fmt::Debug for Handle<T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("is_closed", &self.is_closed()).finish_non_exhaustive()
    }
}
