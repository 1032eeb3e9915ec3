//! A batcher on a test stand: its task is polled by hand, and its sink waits behind a door, so that each phase of an op's way
//! can be run, and counted, by itself. In come ops, out comes what each phase did.

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

/// Whatever runs in here is counted: valgrind is told to count in the function of this name.
///
/// It is not generic, so that there is exactly one of it, and nothing inlines it.
#[inline(never)]
pub(crate) fn in_the_count(work: &mut dyn FnMut()) {
    black_box(&mut *work)();
    black_box(work);
}

/// A sink whose writes wait until the door is opened, each time anew, unless it is left open.
#[derive(Debug, Clone, Default)]
pub(crate) struct Door(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    opened: bool,
    stays_open: bool,
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

/// The batcher, its task, and whether that was woken.
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
    /// To be called inside of a runtime.
    pub(crate) fn new(door: Door, stages: Stages<Op>) -> Self {
        let limits = Limits::new(OPS_PER_ROUND as usize);
        let (desk, worker) = Batcher::new(door).stages(stages).limits(limits).split();
        let mut stand = Self { desk, worker: Box::pin(worker), woken: Arc::default() };
        stand.run();
        stand
    }

    /// Polls the task until it has nothing more to do.
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

    /// Asks the task to resume, which it does when it runs next.
    pub(crate) fn ask_to_resume(&self) {
        poll_once(self.desk.resume());
    }

    /// # Panics
    ///
    /// Unless all ops that were sent have ended well: a count must not be able to lie.
    pub(crate) fn check(&self, ops: u64) {
        let stats = self.desk.stats();
        assert_eq!(stats.outcomes.delivered + stats.outcomes.conflated, ops, "ops that have ended well");
    }
}

/// The output of a future that has nothing to wait for.
pub(crate) fn at_once<F: Future>(future: F) -> F::Output {
    let future = std::pin::pin!(future);
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("there is nothing to wait for"),
    }
}

/// Polls a future once, for what that sets off, and drops it.
fn poll_once(future: impl Future) {
    let _ = std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop()));
}
