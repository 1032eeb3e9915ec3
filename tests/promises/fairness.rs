//! Tests that optimizations break no promise: no stale op is sent, no caller is kept waiting, each task gets a turn.

use std::{
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Wake, Waker},
    time::Duration,
};

use futures::FutureExt;
use roundlot::{
    Batch, Batcher, End, Handle, Limits, Overflow, Sink, Stages, sink_fn, stage,
    testing::{Gate, Recorder, until_idle},
};
use tokio::time::Instant;

use crate::{ms, secs};

/// Returns a sink that takes every op at once.
fn instant() -> impl Sink<u64> {
    sink_fn(|batch: &mut Batch<u64>| Box::pin(std::future::ready(Ok(batch.accept_all()))))
}

/// Returns a batcher whose task drains an inbox so long that it yields in between, after ops 0 and 1.
async fn in_the_middle_of_taking_in(sink: impl Sink<u64>, stages: Stages<u64>) -> Handle<u64> {
    let (desk, _worker) = Batcher::new(sink).stages(stages).limits(Limits::new(500)).spawn();
    until_idle().await;
    desk.send_all([0, 1]).await.unwrap();
    tokio::task::yield_now().await;
    (2..30_000).for_each(|op| desk.try_send(op).unwrap());
    tokio::task::yield_now().await;
    assert_eq!(desk.stats().outcomes.delivered, 0);
    desk
}

/// Goal: an op whose time is over is never sent. Method: its time is over while the task takes in others.
#[tokio::test(start_paused = true)]
async fn an_op_that_expires_while_the_inbox_is_drained_is_not_sent() {
    let deadline = Instant::now() + ms(10);
    let stages = Stages::new().expire_by(move |op: &u64| (*op == 0).then_some(deadline));
    let desk = in_the_middle_of_taking_in(instant(), stages).await;
    tokio::time::advance(secs(1)).await;
    let _ = desk.flush().await.unwrap();
    assert_eq!(desk.stats().outcomes.expired, 1);
}

/// Goal: paused is paused. Method: a pause while the task takes in ops.
#[tokio::test(start_paused = true)]
async fn a_pause_while_the_inbox_is_drained_takes_effect() {
    let sink = Recorder::<u64>::new();
    let desk = in_the_middle_of_taking_in(sink.clone(), Stages::new().priority_by(|op: &u64| *op % 2)).await;
    desk.pause().await.unwrap();
    until_idle().await;
    assert!(sink.is_empty(), "{} ops were written after the pause", sink.len());
}

/// A waker that runs a function when it is dropped.
struct Last(Mutex<Option<Box<dyn FnOnce() + Send>>>);

impl Wake for Last {
    fn wake(self: Arc<Self>) {}
}

impl Drop for Last {
    fn drop(&mut self) {
        if let Some(act) = self.0.lock().unwrap().take() {
            act();
        }
    }
}

/// Goal: no lock is held while a waker is dropped, which may drop a whole task. Method: a waker that looks at the
/// batcher as it is dropped, in a line that another task polls on, and in one that is left. A deadlock would hang the
/// test.
#[tokio::test(start_paused = true)]
async fn a_waker_may_use_the_handle_as_it_is_dropped() {
    for leaves in [false, true] {
        let (desk, _task) = Batcher::new(instant()).limits(Limits::new(1).max_pending(1)).split();
        desk.try_send(1).unwrap();
        let mut waits = Box::pin(desk.reserve());
        let held = desk.clone();
        let last =
            Waker::from(Arc::new(Last(Mutex::new(Some(Box::new(move || assert_eq!(held.stats().accepted, 1)))))));
        assert!(waits.as_mut().poll(&mut Context::from_waker(&last)).is_pending());
        drop(last);
        if !leaves {
            assert!(waits.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
    }
}

struct Bomb;

impl Wake for Bomb {
    fn wake(self: Arc<Self>) {
        panic!("a waker panics");
    }
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Relaxed);
    }
}

/// Goal: no path leaves a caller waiting. Method: two waiting senders get permits at once; the waker of the first
/// panics.
#[tokio::test(start_paused = true)]
async fn a_waker_that_panics_delays_no_other_sender() {
    let (desk, _worker) = Batcher::new(instant()).limits(Limits::new(2).max_pending(2)).spawn();
    desk.pause().await.unwrap();
    desk.send_all([1, 2]).await.unwrap();
    until_idle().await;
    let woken = Arc::new(Woken(AtomicBool::new(false)));
    let (bomb, waker) = (Waker::from(Arc::new(Bomb)), Waker::from(Arc::clone(&woken)));
    let (mut first, mut second) = (pin!(desk.send(3)), pin!(desk.send(4)));
    assert!(first.as_mut().poll(&mut Context::from_waker(&bomb)).is_pending());
    assert!(second.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    desk.resume().await.unwrap();
    until_idle().await;
    assert!(woken.0.load(Relaxed) && !desk.is_closed());
}

/// Goal: levels that no op has are forgotten while nothing is cut. Method: paused, one op conflated again and again, each
/// time at another level; how often the level of the waiting op is compared tells how many are known.
#[tokio::test(start_paused = true)]
async fn levels_without_ops_are_forgotten_while_no_batch_is_cut() {
    static COMPARED: AtomicU64 = AtomicU64::new(0);
    #[derive(PartialEq, Eq)]
    struct Level(u64);
    impl PartialOrd for Level {
        fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
            Some(self.cmp(other))
        }
    }
    impl Ord for Level {
        fn cmp(&self, other: &Self) -> std::cmp::Ordering {
            COMPARED.fetch_add(1, Relaxed);
            self.0.cmp(&other.0)
        }
    }
    let stages = Stages::new().conflate_by(|_: &u64| 0, stage::latest).priority_by(|op: &u64| Level(*op));
    let (desk, _worker) = Batcher::new(instant()).stages(stages).limits(500).spawn();
    desk.pause().await.unwrap();
    for op in 0..10_000 {
        desk.send(op).await.unwrap();
    }
    until_idle().await;
    // Halving 64 levels takes 7 comparisons, and 10,000 levels 14.
    assert!(COMPARED.load(Relaxed) < 10_000 * 9, "{}", COMPARED.load(Relaxed));
}

/// A waker that notes how many writes were done when it was woken.
struct Note {
    writes: Arc<AtomicU64>,
    told_after: AtomicU64,
}

impl Wake for Note {
    fn wake(self: Arc<Self>) {
        self.told_after.store(self.writes.load(Relaxed), Relaxed);
    }
}

/// Goal: a caller is told when its op is settled. Method: 1,000 batches of one to a sink that takes each at once; how many
/// writes are done when the caller of the first is told?
#[tokio::test(start_paused = true)]
async fn an_answer_does_not_wait_for_later_writes() {
    let writes = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&writes);
    let sink = sink_fn(move |batch: &mut Batch<u64>| {
        count.fetch_add(1, Relaxed);
        Box::pin(std::future::ready(Ok(batch.accept_all())))
    });
    let (desk, _worker) = Batcher::new(sink).limits(1).spawn();
    let note = Arc::new(Note { writes: Arc::clone(&writes), told_after: AtomicU64::new(0) });
    let mut ack = pin!(desk.submit(0).await.unwrap());
    assert!(ack.as_mut().poll(&mut Context::from_waker(&Waker::from(Arc::clone(&note)))).is_pending());
    (1..1000).for_each(|op| desk.try_send(op).unwrap());
    until_idle().await;
    assert_eq!((note.told_after.load(Relaxed), writes.load(Relaxed)), (1, 1000));
}

// Guards: the task polls for more ops after several single ops, and other tasks run meanwhile.
/// Goal: results are published before the task yields. Method: each time that an op is answered, another one comes
/// alone; the task that runs next must find the answer.
#[tokio::test(start_paused = true)]
async fn an_answer_does_not_wait_for_coalescing_of_another_op() {
    let gate = Gate::new(Recorder::new());
    let (desk, _worker) = Batcher::new(gate.clone()).limits(500).spawn();
    let mut ack = desk.submit(0).await.unwrap();
    for op in 1..200 {
        until_idle().await;
        gate.pass(1);
        let next = desk.submit(op).await.unwrap();
        tokio::task::yield_now().await;
        assert!(ack.now_or_never().is_some(), "not told when op {op} came");
        ack = next;
    }
}

/// Goal: the same where the task is dropped while it yields. Method: by hand, with one poll after the op for which the
/// task polls for more ops, which it does after 32 single ops.
#[tokio::test(start_paused = true)]
async fn an_answer_is_not_lost_while_the_task_yields() {
    let gate = Gate::new(Recorder::new());
    let (desk, worker) = Batcher::new(gate.clone()).limits(500).split();
    let mut worker = tokio_test::task::spawn(worker);
    for op in 0..31 {
        desk.try_send(op).unwrap();
        assert!(worker.poll().is_pending());
        gate.pass(1);
        assert!(worker.poll().is_pending());
    }
    let ack = desk.submit(31).await.unwrap();
    assert!(worker.poll().is_pending());
    gate.pass(1);
    desk.try_send(32).unwrap();
    assert!(worker.poll().is_pending());
    drop(worker);
    assert_eq!((ack.outcome().await.end, desk.stats().outcomes.delivered), (End::Delivered, 32));
}

/// Goal: a sender yields now and then, by each way to send. Method: on one thread, another task has to run before
/// 100,000 ops are sent.
#[tokio::test(start_paused = true)]
async fn senders_yield_to_other_tasks() {
    for reserves in [false, true] {
        let (desk, _worker) = Batcher::new(instant()).limits(Limits::new(500).max_pending(1_000_000)).spawn();
        let ran = Arc::new(AtomicBool::new(false));
        let other = Arc::clone(&ran);
        tokio::spawn(async move { other.store(true, Relaxed) });
        let mut sent = 0;
        while !ran.load(Relaxed) {
            match reserves {
                true => desk.reserve().await.unwrap().send(sent).unwrap(),
                false => desk.clone().send(sent).await.unwrap(),
            }
            sent += 1;
            assert!(sent < 100_000, "no other task could run");
        }
    }
}

/// Goal: the caller that asked first gets the first permit, by whatever way other ops get theirs. Method: a full buffer
/// that evicts, a sink slower than the producer, and a caller that waits for a permit.
#[tokio::test(start_paused = true)]
async fn a_reservation_is_served_while_other_senders_evict() {
    let sink = sink_fn(|batch: &mut Batch<u64>| {
        Box::pin(async move {
            tokio::time::sleep(ms(1)).await;
            Ok(batch.accept_all())
        })
    });
    let limits = Limits::new(10).max_pending(10).overflow(Overflow::EvictOldest);
    let (desk, _worker) = Batcher::new(sink).limits(limits).spawn();
    let producer = desk.clone();
    tokio::spawn(async move {
        loop {
            (0..20).for_each(|op| drop(producer.try_send(op)));
            tokio::time::sleep(ms(1)).await;
        }
    });
    tokio::time::sleep(ms(10)).await;
    assert!(tokio::time::timeout(secs(10), desk.reserve()).await.is_ok());
}

/// Goal: no timer without waiting ops. Method: the worker is polled by hand until it has dealt with a burst; then an
/// hour passes.
#[tokio::test(start_paused = true)]
async fn a_burst_leaves_no_timer() {
    let (desk, worker) = Batcher::new(instant()).limits(500).split();
    let mut worker = tokio_test::task::spawn(worker);
    (0..5000).for_each(|op| desk.try_send(op).unwrap());
    for _ in 0..100 {
        assert!(worker.poll().is_pending());
        // A task that yields is woken when its thread has nothing else to do.
        tokio::task::yield_now().await;
    }
    assert!(!worker.is_woken());
    assert_eq!(desk.stats().outcomes.delivered, 5000);
    tokio::time::advance(secs(3600)).await;
    assert!(!worker.is_woken());
}

/// Goal: a task with many slots yields. Method: 30,000 partitions become due at once; how many writes are done
/// between two turns of another task?
#[tokio::test(start_paused = true)]
async fn many_slots_are_filled_a_turn_at_a_time() {
    let writes = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&writes);
    let sink = sink_fn(move |batch: &mut Batch<u64>| {
        count.fetch_add(1, Relaxed);
        Box::pin(std::future::ready(Ok(batch.accept_all())))
    });
    let limits = Limits::new(10).max_in_flight(100_000);
    let (desk, _worker) = Batcher::new(sink).stages(Stages::new().partition_by(|op: &u64| *op)).limits(limits).spawn();
    desk.pause().await.unwrap();
    (0..30_000).for_each(|op| desk.try_send(op).unwrap());
    until_idle().await;
    desk.resume().await.unwrap();
    // Writes of the turn in which the batcher resumed.
    let mut last = writes.load(Relaxed);
    assert!(last <= 10_000, "{last} writes in one go");
    while last < 30_000 {
        tokio::task::yield_now().await;
        let seen = writes.load(Relaxed);
        assert!(seen - last <= 10_000, "{} writes in one go", seen - last);
        last = seen;
    }
    let _ = tokio::time::timeout(Duration::from_secs(1), desk.flush()).await.unwrap().unwrap();
}
