//! [`Gate`], a sink that holds writes until the test lets them through to the inner sink. Writes pass in the order in
//! which they came.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Semaphore, watch};

use crate::{
    rules::batch::{Batch, Settled},
    sink::{Guarantee, Sink, SinkError},
};

/// A sink whose writes wait at a gate in front of the inner sink. A clone is another handle to the same gate.
///
/// A new gate is shut. Use it for what happens while a write is in flight: waiting ops are conflated, a slot is taken,
/// a flush or a shutdown waits. Writes pass in the order in which they came.
///
/// # Cancel safety
///
/// A write that is dropped at the gate leaves it, and lets no other write through or out of turn.
///
/// # Errors
///
/// As those of the inner sink.
///
/// # Examples
///
/// ```
/// use roundlot::{Batch, Sink, testing::{Gate, Recorder, until_idle}};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let recorder = Recorder::new();
/// let gate = Gate::new(recorder.clone());
/// for op in [1, 2, 3] {
///     let gate = gate.clone();
///     tokio::spawn(async move { gate.write(&mut Batch::for_test(vec![op])).await.is_ok() });
/// }
/// gate.reached(3).await;
/// gate.pass(1);
/// until_idle().await;
/// assert_eq!(recorder.ops(), [1]);
/// assert_eq!((gate.waiting(), gate.peak()), (2, 3));
///
/// gate.open();
/// assert_eq!(recorder.wait_for(3).await, [1, 2, 3]);
/// # }
/// ```
pub struct Gate<S> {
    shared: Arc<Shared<S>>,
}

struct Shared<S> {
    inner: S,
    /// One permit is one pass. The semaphore is fair, and is closed while the gate is open: all acquires end at once.
    passes: Mutex<Arc<Semaphore>>,
    counts: watch::Sender<Counts>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    waiting: usize,
    running: usize,
    peak: usize,
}

impl<S> Gate<S> {
    /// Makes a gate in front of `inner`, shut.
    pub fn new(inner: S) -> Self {
        let passes = Mutex::new(Arc::new(Semaphore::new(0)));
        Self { shared: Arc::new(Shared { inner, passes, counts: watch::Sender::default() }) }
    }

    /// Opens the gate for waiting and future writes.
    pub fn open(&self) {
        self.passes().close();
    }

    /// Shuts the gate for future writes, and discards passes that no write has used. Writes that are through are not
    /// held. (Not named `close`, which is what the batcher does to a [`Sink`].)
    pub fn shut(&self) {
        let mut passes = self.passes();
        if passes.is_closed() {
            *passes = Arc::new(Semaphore::new(0));
        } else {
            passes.forget_permits(Semaphore::MAX_PERMITS);
        }
    }

    /// Lets `writes` writes through: waiting ones in their order, then future ones.
    pub fn pass(&self, writes: usize) {
        self.passes().add_permits(writes);
    }

    /// Number of writes that wait at the gate now.
    pub fn waiting(&self) -> usize {
        self.shared.counts.borrow().waiting
    }

    /// Number of writes that have begun and not ended, at the gate and behind it.
    pub fn running(&self) -> usize {
        self.shared.counts.borrow().running
    }

    /// Maximum number of writes that were [`running`](Self::running) at once so far.
    pub fn peak(&self) -> usize {
        self.shared.counts.borrow().peak
    }

    /// Waits until at least `writes` writes wait at the gate.
    ///
    /// If they never come, it waits for ever; on a paused clock a `tokio::time::timeout` around it fires at once.
    ///
    /// # Cancel safety
    ///
    /// Dropping it does nothing.
    pub async fn reached(&self, writes: usize) {
        // The wait cannot fail: `self` holds the sender.
        let _ = self.shared.counts.subscribe().wait_for(|counts| counts.waiting >= writes).await;
    }

    /// Nothing under this lock can panic, so it is never poisoned.
    fn passes(&self) -> MutexGuard<'_, Arc<Semaphore>> {
        self.shared.passes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T, R, S> Sink<T, R> for Gate<S>
where
    S: Sink<T, R>,
    T: Send,
    R: Send,
{
    async fn write(&self, batch: &mut Batch<T, R>) -> Result<Settled, SinkError> {
        let _running = Count::up(&self.shared.counts, |counts| &mut counts.running);
        let passes = self.passes().clone();
        let waiting = Count::up(&self.shared.counts, |counts| &mut counts.waiting);
        // An error means that the gate is open.
        if let Ok(pass) = passes.acquire().await {
            pass.forget();
        }
        drop(waiting);
        self.shared.inner.write(batch).await
    }

    async fn close(&self) -> Result<(), SinkError> {
        self.shared.inner.close().await
    }

    fn page(&self) -> Option<usize> {
        self.shared.inner.page()
    }

    fn guarantee(&self) -> Guarantee {
        self.shared.inner.guarantee()
    }

    async fn reconcile(&self, batch: &mut Batch<T, R>) -> Result<(), SinkError> {
        self.shared.inner.reconcile(batch).await
    }

    async fn gone(&self) -> SinkError {
        self.shared.inner.gone().await
    }
}

/// Counts one more, until it is dropped: a write may be dropped at any await.
struct Count<'a> {
    counts: &'a watch::Sender<Counts>,
    of: fn(&mut Counts) -> &mut usize,
}

impl<'a> Count<'a> {
    fn up(counts: &'a watch::Sender<Counts>, of: fn(&mut Counts) -> &mut usize) -> Self {
        counts.send_modify(|counts| {
            *of(counts) += 1;
            counts.peak = counts.peak.max(counts.running);
        });
        Self { counts, of }
    }
}

impl Drop for Count<'_> {
    fn drop(&mut self) {
        self.counts.send_modify(|counts| *(self.of)(counts) -= 1);
    }
}

impl<S> Clone for Gate<S> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<S> fmt::Debug for Gate<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = *self.shared.counts.borrow();
        f.debug_struct("Gate")
            .field("open", &self.passes().is_closed())
            .field("counts", &counts)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinHandle;

    use super::*;
    use crate::testing::{Recorder, until_idle};

    fn gate() -> (Gate<Recorder<u8>>, Recorder<u8>) {
        let recorder = Recorder::new();
        (Gate::new(recorder.clone()), recorder)
    }

    fn write(gate: &Gate<Recorder<u8>>, op: u8) -> JoinHandle<bool> {
        let gate = gate.clone();
        tokio::spawn(async move { gate.write(&mut Batch::for_test(vec![op])).await.is_ok() })
    }

    #[tokio::test(start_paused = true)]
    async fn passes_go_to_writes_in_their_order() {
        let (gate, recorder) = gate();
        let writes = [write(&gate, 1), write(&gate, 2), write(&gate, 3)];
        gate.reached(3).await;
        assert!(recorder.is_empty());
        gate.pass(2);
        assert_eq!(recorder.wait_for(2).await, [1, 2]);
        until_idle().await;
        assert_eq!((recorder.len(), gate.waiting(), gate.running(), gate.peak()), (2, 1, 1, 3));
        gate.open();
        for write in writes {
            assert!(write.await.unwrap());
        }
        assert_eq!((gate.waiting(), gate.running(), gate.peak()), (0, 0, 3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_gate_that_is_shut_again_holds_back_what_comes() {
        let (gate, recorder) = gate();
        gate.open();
        assert!(write(&gate, 1).await.unwrap());
        gate.shut();
        let held = write(&gate, 2);
        gate.reached(1).await;
        until_idle().await;
        assert_eq!(recorder.ops(), [1]);
        gate.pass(1);
        assert!(held.await.unwrap());

        gate.pass(5);
        gate.shut();
        let _held = write(&gate, 3);
        until_idle().await;
        assert_eq!(gate.waiting(), 1, "passes are forgotten");
    }

    /// A write that is dropped at the gate no longer waits, and its place in the queue is free.
    #[tokio::test(start_paused = true)]
    async fn a_dropped_write_takes_no_pass() {
        let (gate, recorder) = gate();
        let dropped = write(&gate, 1);
        let waits = write(&gate, 2);
        gate.reached(2).await;
        dropped.abort();
        until_idle().await;
        assert_eq!((gate.waiting(), gate.running()), (1, 1));
        gate.pass(1);
        assert!(waits.await.unwrap());
        assert_eq!(recorder.ops(), [2]);
        assert!(gate.close().await.is_ok());
        assert!(recorder.is_closed());
    }
}
