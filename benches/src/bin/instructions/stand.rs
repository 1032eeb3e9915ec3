//! A batcher on a test stand: its task is polled by hand, and its sink waits for a door to open.
//!
//! Each phase of an op can thus run, and be counted, by itself. The scenarios use it.

use std::{
    hint::black_box,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use roundlot::{Batch, Batcher, Handle, Limits, Settled, Sink, SinkError, Stages, WorkerFuture};
use roundlot_bench::op::Op;

use crate::scenario::OPS_PER_ROUND;

/// Runs work whose instructions are counted: valgrind collects only inside of functions of this name.
///
/// The function is not generic and never inlined, so exactly one symbol has the name.
#[inline(never)]
pub(crate) fn in_the_count(work: &mut dyn FnMut()) {
    black_box(&mut *work)();
    black_box(work);
}

/// A sink whose writes each wait for a call of [`open`](Door::open), unless the door was left open.
#[derive(Debug, Clone, Default)]
pub(crate) struct Door(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// Whether the next write may pass; that write resets it.
    opened: bool,
    /// Whether all writes pass; fixed at the start.
    stays_open: bool,
    /// The waker of a write that waits.
    waker: Option<Waker>,
}

impl Door {
    pub(crate) fn left_open() -> Self {
        let door = Self::default();
        door.state(|state| state.stays_open = true);
        door
    }

    /// Lets one write through.
    pub(crate) fn open(&self) {
        let waker = self.state(|state| {
            state.opened = true;
            state.waker.take()
        });
        waker.into_iter().for_each(Waker::wake);
    }

    fn state<V>(&self, see: impl FnOnce(&mut State) -> V) -> V {
        see(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn pass(&self) {
        std::future::poll_fn(|cx| {
            self.state(|state| {
                if state.stays_open || std::mem::take(&mut state.opened) {
                    return Poll::Ready(());
                }
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            })
        })
        .await;
    }
}

impl Sink<Op> for Door {
    async fn write(&self, batch: &mut Batch<Op>) -> Result<Settled, SinkError> {
        self.pass().await;
        black_box(batch.ops());
        Ok(batch.accept_all())
    }
}

/// A batcher, its task, and whether the task was woken.
pub(crate) struct Stand {
    pub(crate) desk: Handle<Op>,
    worker: Pin<Box<WorkerFuture<Op>>>,
    woken: Arc<Woken>,
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Stand {
    /// Makes a batcher and polls its task until the task is idle. The caller must be inside of a runtime.
    pub(crate) fn new(door: Door, stages: Stages<Op>) -> Self {
        let limits = Limits::new(OPS_PER_ROUND as usize);
        let (desk, worker) = Batcher::new(door).stages(stages).limits(limits).split();
        let mut stand = Self { desk, worker: Box::pin(worker), woken: Arc::default() };
        stand.run();
        stand
    }

    /// Polls the task until it no longer wakes itself.
    pub(crate) fn run(&mut self) {
        let waker = Waker::from(Arc::clone(&self.woken));
        let mut cx = Context::from_waker(&waker);
        loop {
            self.woken.0.store(false, Ordering::Relaxed);
            assert!(self.worker.as_mut().poll(&mut cx).is_pending(), "nobody told it to end");
            if !self.woken.0.load(Ordering::Relaxed) {
                return;
            }
        }
    }

    /// Pauses the batcher.
    pub(crate) fn pause(&mut self) {
        poll_once(self.desk.pause());
        self.run();
    }

    /// Asks the task to resume on its next run.
    pub(crate) fn ask_to_resume(&self) {
        poll_once(self.desk.resume());
    }

    /// Checks the statistics, so that no count is of ops that were lost.
    ///
    /// # Panics
    ///
    /// Panics unless `ops` ops were delivered or conflated.
    pub(crate) fn check(&self, ops: u64) {
        let stats = self.desk.stats();
        assert_eq!(stats.outcomes.delivered + stats.outcomes.conflated, ops, "ops that have ended well");
    }
}

/// Returns the output of a future that is ready on its first poll.
///
/// # Panics
///
/// Panics if the future is pending.
pub(crate) fn at_once<F: Future>(future: F) -> F::Output {
    let future = std::pin::pin!(future);
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("there is nothing to wait for"),
    }
}

/// Polls a future once for its side effect, and drops it.
fn poll_once(future: impl Future) {
    let _ = std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop()));
}
