//! [`Handle`]: what callers of a durable batcher hold. Its verbs return when the log has what they are about.

use std::{
    any::{TypeId, type_name},
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::future::join_all;
use tokio::sync::oneshot;

use super::{
    command::Command,
    error::{Left, WithdrawError, WithdrawKeyError},
    frame::MAX_NUMBER,
    log::Found,
    op_status::OpStatus,
    outcomes,
    send::Sending,
    shared::Shared,
    stats::Stats,
    tally::FlushReport,
    waiters::Ack,
    withdraw,
};
use crate::{
    driver::handle::error::SetLimitsError,
    durable::error::{SendAllError, SendError},
    rules::{
        config::limits::{Limits, LimitsError},
        outcome::OpId,
        stage::IntoKey,
    },
};

/// A way to a durable batcher. Each handle is counted by itself in [`flush`](Self::flush); a clone is another handle.
///
/// There is no `try_send` and no `reserve`, since they could only promise memory.
pub struct Handle<T, R = ()> {
    pub(super) shared: Arc<Shared<T, R>>,
    /// Its number, which rides with its ops.
    pub(super) number: u32,
}

impl<T, R> Handle<T, R>
where
    T: Send + 'static,
    R: Clone + Send + 'static,
{
    pub(crate) fn new(shared: Arc<Shared<T, R>>) -> Self {
        let number = shared.tallies.add_handle();
        Self { shared, number }
    }

    /// Hands an op in, and returns when it is in the log: it then survives the process.
    ///
    /// # Errors
    ///
    /// Gives the op back. After [`InDoubt`](SendError::InDoubt) it may be in the log; after any other error it is not.
    ///
    /// # Cancel safety
    ///
    /// **A future that is dropped after its first poll may have accepted the op.** Where that matters, take an id by
    /// [`next_id`](Self::next_id) first, and send by [`send_as`](Self::send_as).
    pub async fn send(&self, op: T) -> Result<(), SendError<T>> {
        let sending = Sending::encode(self, op)?;
        let id = self.shared.next_id(sending.shard());
        sending.send(id, false).await
    }

    /// Hands an op in like [`send`](Self::send), and returns an [`Ack`] that resolves to its receipt: the first await ends when
    /// the op is in the log, the second when its outcome is.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    ///
    /// # Cancel safety
    ///
    /// As [`send`](Self::send).
    pub async fn submit(&self, op: T) -> Result<Ack<R>, SendError<T>> {
        let sending = Sending::encode(self, op)?;
        let id = self.shared.next_id(sending.shard());
        sending.submit(id, false).await
    }

    /// Hands many ops in, in order, up to 1,000 per frame: the cheapest way in. Order holds within a shard. Two chunks are on their
    /// way at a time, so that one call with all ops is faster than a call per chunk.
    ///
    /// # Errors
    ///
    /// Gives back the ops that are not in the log, and with their ids those that may be.
    ///
    /// # Cancel safety
    ///
    /// **Not cancel safe:** a dropped future may have accepted some of the ops, and drops the rest.
    pub async fn send_all(&self, ops: impl IntoIterator<Item = T>) -> Result<(), SendAllError<T>> {
        super::send_all::send_all(self, ops.into_iter()).await
    }

    /// An id for an op that has not been sent. Keep it where it survives, and send the op by [`send_as`](Self::send_as); after
    /// a crash or in doubt, the same call again accepts the op once.
    pub fn next_id(&self, op: &T) -> OpId {
        self.shared.next_id(self.shared.shard_of(op))
    }

    /// Hands an op in under an id, which may be that of an earlier call or process. An op with an id that the log knows is not
    /// accepted anew; it shares that op's outcome, whichever process sent it first.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), and [`Forgotten`](SendError::Forgotten) if the log no longer knows what became of the id. An id
    /// of another shard than that of the op counts as forgotten, too.
    ///
    /// # Cancel safety
    ///
    /// As [`send`](Self::send); the same call again makes up for it.
    pub async fn send_as(&self, id: OpId, op: T) -> Result<(), SendError<T>> {
        self.checked(id, op).await?.send(id, true).await
    }

    /// The same with an [`Ack`], as [`submit`](Self::submit).
    ///
    /// # Errors
    ///
    /// As [`send_as`](Self::send_as).
    ///
    /// # Cancel safety
    ///
    /// As [`send_as`](Self::send_as).
    pub async fn submit_as(&self, id: OpId, op: T) -> Result<Ack<R>, SendError<T>> {
        self.checked(id, op).await?.submit(id, true).await
    }

    async fn checked(&self, id: OpId, op: T) -> Result<Sending<'_, T, R>, SendError<T>> {
        let sending = Sending::encode(self, op)?;
        if id.shard() != sending.shard() {
            return Err(SendError::Forgotten { op: sending.into_op(), id });
        }
        match self.outcome(id).await {
            Ok(OpStatus::Forgotten) => Err(SendError::Forgotten { op: sending.into_op(), id }),
            Ok(_) => Ok(sending),
            Err(Left) => Err(SendError::Closed(sending.into_op())),
        }
    }

    /// Says what is known of an op.
    ///
    /// # Errors
    ///
    /// If the batcher has left the log.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it changes nothing.
    pub async fn outcome(&self, id: OpId) -> Result<OpStatus<R>, Left> {
        let Some(shard) = self.shared.shards.get(usize::from(id.shard())) else {
            return Ok(OpStatus::Forgotten);
        };
        // No log gives such an id, and none may store it.
        if id.number() >= MAX_NUMBER {
            return Ok(OpStatus::Forgotten);
        }
        // Asked first: what it has sent by the time it is gone is found below.
        let may_come = self.shared.log.is_member(id.producer());
        let (reply, answer) = oneshot::channel();
        shard.commands.send(Command::IsWaiting { id, reply }).map_err(|_| Left)?;
        let is_waiting = answer.await.map_err(|_| Left)?;
        Ok(match self.shared.find(id).await? {
            // An op that has ended may come again: its process does not know yet that another one has sent it.
            Found::Ended(row) => OpStatus::Ended(outcomes::from_row(&*self.shared.codec, &row)),
            _ if is_waiting => OpStatus::Waiting,
            Found::Forgotten => OpStatus::Forgotten,
            // Frames of a process that is gone can't come any more.
            Found::Unknown if may_come => OpStatus::NotYetKnown,
            Found::Unknown => OpStatus::NeverAccepted,
        })
    }

    /// Makes all that the log holds now due, and waits until it is settled and that is in the log. While the batcher is paused
    /// it waits.
    ///
    /// The report counts what ended since the last flush of this handle, and apart what is not this handle's. Ops that were
    /// accepted later and have ended by then are counted, too.
    ///
    /// # Errors
    ///
    /// If the batcher leaves the log first.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: once polled, the ops are due even if the future is dropped.
    pub async fn flush(&self) -> Result<FlushReport, Left> {
        self.ask_all(Command::Flush).await?;
        Ok(self.shared.tallies.report(self.number))
    }

    /// Whether this process leads a shard: for the health check of a load balancer. Without other processes it leads all of them, unless
    /// one is held since its log can't be read; [`Stats::leading`] counts them.
    pub fn is_leading(&self) -> bool {
        self.shared.shards.iter().any(|shard| shard.stats().leads)
    }

    /// Age of the oldest op in the log that has not ended. Zero without one.
    pub fn lag(&self) -> Duration {
        self.stats().lag
    }

    /// Takes back out every waiting op that satisfies the predicate: the kill switch. They are handed back once that is in the
    /// log, so that no restart sends them. Ops under way can't be withdrawn. One that may have landed and waits to be tried again is
    /// handed back, and its ack says that it is in doubt.
    ///
    /// The predicate runs on the batcher's tasks.
    ///
    /// # Errors
    ///
    /// If the batcher leaves the log first, or a term does not learn whether that was stored: some of the ops may then be withdrawn. And
    /// while other processes have joined the log, where [`withdraw_key`](Self::withdraw_key) works.
    ///
    /// # Cancel safety
    ///
    /// A future that was polled and is dropped before it is done may have withdrawn the ops all the same; **they are then
    /// dropped**, never sent.
    pub async fn withdraw(&self, wanted: impl FnMut(&T) -> bool + Send + 'static) -> Result<Vec<T>, WithdrawError> {
        if self.shared.log.has_company() {
            return Err(WithdrawError::Shared);
        }
        let wanted = Arc::new(Mutex::new(wanted));
        let command = |reply| {
            let wanted = Arc::clone(&wanted);
            let wanted = move |op: &T| (*wanted.lock().unwrap_or_else(PoisonError::into_inner))(op);
            Command::Withdraw { wanted: Box::new(wanted), reply }
        };
        let ops: Option<Vec<Vec<T>>> = self.ask_all(command).await?.into_iter().collect();
        Ok(ops.ok_or(WithdrawError::Shared)?.into_iter().flatten().collect())
    }

    /// Takes back out the waiting ops with this conflation key, as [`withdraw`](Self::withdraw) does: after all that was accepted
    /// before this call, and before all that is accepted after it has returned. `None` withdraws nothing.
    ///
    /// # Errors
    ///
    /// If the stages do not [conflate by](crate::Stages::conflate_by) keys of this type. If the batcher leaves the log first: some of the
    /// ops may then be withdrawn, now or when a leader comes to the request, and are dropped. And if an op can't be read, see
    /// [`Unreadable`](WithdrawKeyError::Unreadable).
    ///
    /// # Several processes
    ///
    /// A request in the log asks whichever process leads. It takes no room in the buffer, and waits neither for a sink nor for the end of
    /// a pause, but until a process leads and the log has room. It names the key by a hash with 128 bits. Processes must be built by the
    /// same compiler for the same machine, so that they hash alike, or it finds nothing. Ops of more than 8 MB in a shard take several
    /// requests, which may find some that were accepted during the call.
    ///
    /// # Cancel safety
    ///
    /// As [`withdraw`](Self::withdraw). A process that dies while it waits loses the ops of its request in the same way.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[cfg(feature = "testing")]
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use roundlot::{Stages, durable::Durable, stage, testing::{MemoryLog, Recorder}};
    /// # let (log, recorder) = (MemoryLog::new(), Recorder::new());
    /// # let sink = recorder.clone();
    /// let prices = Durable::new("prices", log)
    ///     .stages(|| Stages::new().conflate_by(|(id, _): &(u32, u32)| *id, stage::latest))
    ///     .sink(move |_| sink.clone())
    ///     .join()
    ///     .await?;
    /// let desk = prices.handle();
    /// desk.pause().await?;
    /// desk.send_all([(7, 100), (8, 101)]).await?;
    /// assert_eq!(desk.withdraw_key(7_u32).await?, [(7, 100)]);
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "testing"))]
    /// # fn main() {}
    /// ```
    pub async fn withdraw_key<K: IntoKey>(&self, key: K) -> Result<Vec<T>, WithdrawKeyError>
    where
        K::Key: Sync,
    {
        if self.shared.conflation_key != Some(TypeId::of::<K::Key>()) {
            return Err(WithdrawKeyError::WrongKey(type_name::<K::Key>()));
        }
        match key.into_key() {
            Some(key) => withdraw::withdraw_key(self, key).await,
            None => Ok(Vec::new()),
        }
    }

    /// Stops cutting batches, and returns when that is in the log: no intent is recorded and no batch cut afterwards, until a
    /// caller resumes. A restart stays paused. Intake goes on until the buffer is full.
    ///
    /// Returns how many ops were under way.
    ///
    /// # Errors
    ///
    /// If the batcher leaves the log first.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: once polled, it takes effect even if the future is dropped.
    pub async fn pause(&self) -> Result<u64, Left> {
        Ok(self.ask_all(|reply| Command::Pause { paused: true, reply }).await?.into_iter().sum())
    }

    /// Starts cutting batches again, and returns when that is in the log.
    ///
    /// # Errors
    ///
    /// As [`pause`](Self::pause).
    ///
    /// # Cancel safety
    ///
    /// As [`pause`](Self::pause).
    pub async fn resume(&self) -> Result<(), Left> {
        self.ask_all(|reply| Command::Pause { paused: false, reply }).await.map(drop)
    }

    /// Changes the limits of this process, from the next cut on.
    ///
    /// # Errors
    ///
    /// If the limits contradict themselves, evict, or set a `max_weight` where ops have no weight, or if the batcher has left.
    /// Nothing is changed then.
    pub fn set_limits(&self, limits: impl Into<Limits>) -> Result<(), SetLimitsError> {
        let limits = limits.into();
        limits.check()?;
        if limits.max_weight.is_some() && self.shared.weigh.is_none() {
            return Err(LimitsError::unweighed().into());
        }
        if limits.overflow.evicts() {
            return Err(LimitsError::new("overflow", "may not evict what has been accepted into a log").into());
        }
        if self.shared.permits.is_closed() {
            return Err(SetLimitsError::Closed);
        }
        self.shared.permits.set_max(limits.max_pending);
        *self.shared.limits() = limits.clone();
        for shard in &self.shared.shards {
            // A leader between two terms begins the next one with the limits set above.
            let _ = shard.commands.send(Command::SetLimits(limits.clone()));
        }
        Ok(())
    }

    /// Counters and gauges of one moment.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// Whether the batcher takes no more ops.
    pub fn is_closed(&self) -> bool {
        self.shared.permits.is_closed()
    }

    /// Sends a command to the leader of each shard, and waits for all answers.
    async fn ask_all<V>(&self, command: impl Fn(oneshot::Sender<V>) -> Command<T>) -> Result<Vec<V>, Left> {
        let mut answers = Vec::with_capacity(self.shared.shards.len());
        for shard in &self.shared.shards {
            let (reply, answer) = oneshot::channel();
            shard.commands.send(command(reply)).map_err(|_| Left)?;
            answers.push(answer);
        }
        join_all(answers).await.into_iter().collect::<Result<_, _>>().map_err(|_| Left)
    }
}

impl<T: Send + 'static, R: Clone + Send + 'static> Clone for Handle<T, R> {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.shared))
    }
}

impl<T, R> Drop for Handle<T, R> {
    fn drop(&mut self) {
        self.shared.tallies.remove_handle(self.number);
    }
}

impl<T, R> fmt::Debug for Handle<T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("name", &self.shared.name).finish_non_exhaustive()
    }
}
