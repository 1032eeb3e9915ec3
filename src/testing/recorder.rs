//! [`Recorder`], a sink that accepts everything and records it. A write is recorded whole or not at all.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{sync::Notify, time::Instant};

use crate::{
    rules::batch::{Batch, CutBy, Settled},
    sink::{Sink, SinkError},
};

/// A sink that accepts everything and remembers it. A clone is another handle to the same record.
///
/// Only ops without a verdict are recorded: ops that a [`Flaky`](super::Flaky) around it failed are not.
///
/// # Cancel safety
///
/// A write has no await: it records the whole batch or none of it.
///
/// # Examples
///
/// ```
/// use roundlot::{Batch, Sink, testing::Recorder};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let recorder = Recorder::new();
/// let sink = recorder.clone();
/// tokio::spawn(async move {
///     let mut batch = Batch::for_test(vec!["a", "b"]);
///     assert!(sink.write(&mut batch).await.is_ok());
/// });
/// assert_eq!(recorder.wait_for(2).await, ["a", "b"]);
/// assert_eq!(recorder.writes()[0].attempt, 1);
/// # }
/// ```
pub struct Recorder<T, R = ()> {
    shared: Arc<Shared<T, R>>,
}

/// One write, as a [`Recorder`] saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Written<T> {
    /// Ops of the write, in order.
    pub ops: Vec<T>,
    /// Why the batch was cut.
    pub cut_by: CutBy,
    /// Attempt number.
    pub attempt: u32,
    /// Time of the write, on tokio's clock.
    pub at: Instant,
}

struct Shared<T, R> {
    log: Mutex<Log<T>>,
    /// Woken after each change of the log.
    changed: Notify,
    receipt: Box<dyn Fn(&T) -> R + Send + Sync>,
}

struct Log<T> {
    writes: Vec<Written<T>>,
    closed: bool,
}

impl<T> Recorder<T> {
    /// An empty record, for batchers without receipts.
    pub fn new() -> Self {
        Self::with_receipts(|_| ())
    }
}

impl<T> Default for Recorder<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T, R> Recorder<T, R> {
    /// An empty record that gives each op the receipt that `receipt` makes of it.
    pub fn with_receipts(receipt: impl Fn(&T) -> R + Send + Sync + 'static) -> Self {
        let log = Mutex::new(Log { writes: Vec::new(), closed: false });
        Self { shared: Arc::new(Shared { log, changed: Notify::new(), receipt: Box::new(receipt) }) }
    }

    /// Number of recorded ops.
    pub fn len(&self) -> usize {
        self.log().len()
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.log().writes.is_empty()
    }

    /// Why each batch was cut.
    pub fn cuts(&self) -> Vec<CutBy> {
        self.log().writes.iter().map(|write| write.cut_by).collect()
    }

    /// When each batch was written.
    pub fn times(&self) -> Vec<Instant> {
        self.log().writes.iter().map(|write| write.at).collect()
    }

    /// Attempt number of each write.
    pub fn attempts(&self) -> Vec<u32> {
        self.log().writes.iter().map(|write| write.attempt).collect()
    }

    /// Whether the batcher closed the sink, which it does after the last write.
    pub fn is_closed(&self) -> bool {
        self.log().closed
    }

    /// Returns everything recorded since the last `take`, and clears the record.
    pub fn take(&self) -> Vec<Written<T>> {
        std::mem::take(&mut self.log().writes)
    }

    /// Waits until the sink is closed.
    ///
    /// # Cancel safety
    ///
    /// Dropping it does nothing.
    pub async fn wait_closed(&self) {
        self.wait_until(|log| log.closed.then_some(())).await;
    }

    /// The notification is requested before the record is read, and each change notifies after it is made. No change is
    /// missed between the read and the wait.
    async fn wait_until<A>(&self, look: impl Fn(&Log<T>) -> Option<A>) -> A {
        loop {
            let changed = self.shared.changed.notified();
            if let Some(answer) = look(&self.log()) {
                return answer;
            }
            changed.await;
        }
    }

    /// The lock is only poisoned by a `T::clone` that panicked, which leaves the record whole.
    fn log(&self) -> MutexGuard<'_, Log<T>> {
        self.shared.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Clone, R> Recorder<T, R> {
    /// All writes, with when and why.
    pub fn writes(&self) -> Vec<Written<T>> {
        self.log().writes.clone()
    }

    /// The ops of each batch.
    pub fn batches(&self) -> Vec<Vec<T>> {
        self.log().writes.iter().map(|write| write.ops.clone()).collect()
    }

    /// All ops in the order in which they were written.
    pub fn ops(&self) -> Vec<T> {
        self.log().ops()
    }

    /// Waits until at least `ops` ops were written, and returns all there are.
    ///
    /// If they never come it waits for ever; on a paused clock a `tokio::time::timeout` around it tells at once.
    ///
    /// # Cancel safety
    ///
    /// Dropping it does nothing.
    pub async fn wait_for(&self, ops: usize) -> Vec<T> {
        self.wait_until(|log| (log.len() >= ops).then(|| log.ops())).await
    }

    /// Waits until at least `writes` batches were written, and returns all there are.
    ///
    /// # Cancel safety
    ///
    /// Dropping it does nothing.
    pub async fn wait_for_writes(&self, writes: usize) -> Vec<Written<T>> {
        self.wait_until(|log| (log.writes.len() >= writes).then(|| log.writes.clone())).await
    }
}

impl<T> Log<T> {
    fn len(&self) -> usize {
        self.writes.iter().map(|write| write.ops.len()).sum()
    }

    fn ops(&self) -> Vec<T>
    where
        T: Clone,
    {
        self.writes.iter().flat_map(|write| write.ops.iter().cloned()).collect()
    }
}

impl<T, R> Sink<T, R> for Recorder<T, R>
where
    T: Clone + Send + 'static,
    R: Send + 'static,
{
    async fn write(&self, batch: &mut Batch<T, R>) -> Result<Settled, SinkError> {
        let ops: Vec<T> = batch.pending().cloned().collect();
        if !ops.is_empty() {
            let (cut_by, attempt, at) = (batch.cut_by(), batch.attempt(), Instant::now());
            self.log().writes.push(Written { ops, cut_by, attempt, at });
            self.shared.changed.notify_waiters();
        }
        Ok(batch.accept_all_with(|_, op| (self.shared.receipt)(op)))
    }

    async fn close(&self) -> Result<(), SinkError> {
        self.log().closed = true;
        self.shared.changed.notify_waiters();
        Ok(())
    }
}

impl<T, R> Clone for Recorder<T, R> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<T, R> fmt::Debug for Recorder<T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let log = self.log();
        let (writes, ops) = (log.writes.len(), log.len());
        f.debug_struct("Recorder").field("writes", &writes).field("ops", &ops).field("closed", &log.closed).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::testing::{advance, until_idle};

    async fn write<R: Send + 'static>(recorder: &Recorder<u8, R>, ops: &[u8]) -> Batch<u8, R> {
        let mut batch = Batch::new(ops.to_vec(), CutBy::Linger, 2);
        assert!(recorder.write(&mut batch).await.is_ok());
        batch
    }

    #[tokio::test(start_paused = true)]
    async fn remembers_what_was_written_when_and_why() {
        let recorder = Recorder::new();
        let started = Instant::now();
        assert!(recorder.is_empty());
        write(&recorder, &[1, 2]).await;
        advance(Duration::from_secs(7)).await;
        write(&recorder, &[3]).await;

        assert_eq!(recorder.batches(), [vec![1, 2], vec![3]]);
        assert_eq!((recorder.ops(), recorder.len()), (vec![1, 2, 3], 3));
        assert_eq!(recorder.cuts(), [CutBy::Linger; 2]);
        assert_eq!(recorder.attempts(), [2, 2]);
        assert_eq!(recorder.times(), [started, started + Duration::from_secs(7)]);

        let taken = recorder.take();
        assert_eq!(taken[0], Written { ops: vec![1, 2], cut_by: CutBy::Linger, attempt: 2, at: started });
        assert!(recorder.is_empty() && recorder.ops().is_empty());
    }

    /// A verdict from before is kept, and its op is not recorded.
    #[tokio::test]
    async fn records_and_answers_only_what_is_pending() {
        let recorder = Recorder::with_receipts(|op: &u8| u32::from(*op) * 10);
        let mut batch = Batch::for_test(vec![1, 2]);
        batch.refuse(0, SinkError::refused("no"));
        for _ in 0..2 {
            assert!(recorder.write(&mut batch).await.is_ok());
        }
        assert_eq!(recorder.batches(), [[2]]);
        assert!(batch.verdict(0).unwrap().is_err());
        assert_eq!(batch.verdict(1).unwrap().unwrap(), &20);
    }

    /// Waits without polling: it is woken by each write, and done with the one that completes the number.
    #[tokio::test(start_paused = true)]
    async fn waiting_ends_with_the_op_that_was_waited_for() {
        let recorder = Recorder::new();
        let mut ops = tokio_test::task::spawn(recorder.wait_for(3));
        assert!(ops.poll().is_pending());
        write(&recorder, &[1, 2]).await;
        assert!(ops.is_woken());
        assert!(ops.poll().is_pending());
        write(&recorder, &[3, 4]).await;
        tokio_test::assert_ready_eq!(ops.poll(), vec![1, 2, 3, 4]);
        assert_eq!(recorder.wait_for_writes(2).await.len(), 2);

        let closed = tokio::spawn({
            let recorder = recorder.clone();
            async move { recorder.wait_closed().await }
        });
        until_idle().await;
        assert!(!closed.is_finished() && !recorder.is_closed());
        assert!(recorder.close().await.is_ok());
        closed.await.unwrap();
    }
}
