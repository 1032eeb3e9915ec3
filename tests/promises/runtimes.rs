//! Tests of promise 11 and of promises in any interleaving: one thread, several threads, a runtime that is dropped.

use std::{
    collections::HashSet,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use roundlot::{
    AckError, Batcher, End, Limits, Overflow, SendError, Stages, TrySendError, stage,
    testing::{Gate, Recorder, advance, until_idle},
};

use tokio::sync::Notify;

use crate::{AGES, at_once, conserved, eventually, ms, secs};

/// Goal: a verdict means that the op takes no room any more. Method: on two threads, wait for the verdict on the only
/// op that may be pending, and send the next at once. Guards: answers that go out before the room is free.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answered_op_has_released_its_permit() {
    let limits = Limits::new(10).max_pending(1).overflow(Overflow::Reject);
    let (desk, _worker) = Batcher::new(Recorder::new()).limits(limits).spawn();
    for op in 0..5000u32 {
        let ack = desk.submit(op).await.unwrap_or_else(|error| panic!("op {op}: {error}"));
        ack.await.unwrap();
    }
}

/// Goal: an answered caller finds its op in the statistics. Method: on two threads, look right after each verdict.
/// Guards: answers that go out before the statistics are published, which shows a few times in 100,000.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answered_op_is_in_the_statistics() {
    let (desk, _worker) = Batcher::new(Recorder::new()).limits(10).spawn();
    for op in 0..50_000u64 {
        desk.submit(op).await.unwrap().await.unwrap();
        assert_eq!(desk.stats().outcomes.delivered, op + 1);
    }
}

/// Goal: statistics are of one moment, at every moment. Method: two senders, a sink, conflation, and a third thread
/// that adds the statistics up all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statistics_add_up_at_every_moment() {
    let stages = Stages::new().conflate_by(|op: &u32| op.is_multiple_of(2).then_some(op % 8), stage::latest);
    let (desk, worker) = Batcher::new(Recorder::new()).stages(stages).limits((16, crate::ms(1))).spawn();
    let over = Arc::new(AtomicBool::new(false));
    let looks = std::thread::spawn({
        let (desk, over) = (desk.clone(), over.clone());
        move || {
            let mut looks = 0;
            while !over.load(Ordering::Relaxed) {
                conserved(&desk.stats());
                looks += 1;
            }
            looks
        }
    });
    let senders: Vec<_> = (0..2)
        .map(|_| {
            let desk = desk.clone();
            tokio::spawn(async move {
                for op in 0..20_000u32 {
                    desk.send(op).await.unwrap();
                }
            })
        })
        .collect();
    for sender in senders {
        sender.await.unwrap();
    }
    let summary = worker.shutdown().await.unwrap();
    over.store(true, Ordering::Relaxed);
    assert!(looks.join().unwrap() > 0);
    assert_eq!((summary.stats.accepted, summary.stats.ended()), (40_000, 40_000));
}

/// Goal: a send that races with shutdown is delivered or gives its op back; never `Ok` and lost. Method: two thousand
/// times, two tasks send until they are turned away, and a third shuts down once one of them has got so far.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sends_that_race_with_shutdown_are_delivered_or_given_back() {
    for round in 0..2000u32 {
        let sink = Recorder::new();
        let (desk, worker) = Batcher::new(sink.clone()).limits(Limits::new(3).max_pending(4)).spawn();
        let got_so_far = Arc::new(Notify::new());
        let senders: Vec<_> = (0..2u32)
            .map(|sender| {
                let (desk, got_so_far) = (desk.clone(), got_so_far.clone());
                tokio::spawn(async move {
                    let mut taken = Vec::new();
                    for op in 0.. {
                        if op == round % 20 {
                            got_so_far.notify_one();
                        }
                        let op = op * 2 + sender;
                        match desk.send(op).await {
                            Ok(()) => taken.push(op),
                            Err(SendError::Closed(back)) => {
                                assert_eq!(back, op);
                                return taken;
                            }
                            Err(error) => panic!("{error}"),
                        }
                    }
                    taken
                })
            })
            .collect();
        got_so_far.notified().await;
        let summary = worker.shutdown().await.unwrap();
        let mut taken = HashSet::new();
        for sender in senders {
            taken.extend(sender.await.unwrap());
        }
        let written = sink.ops();
        assert_eq!(written.len(), taken.len(), "round {round}");
        assert_eq!(written.into_iter().collect::<HashSet<_>>(), taken, "round {round}");
        assert_eq!(summary.stats.outcomes.delivered, taken.len() as u64);
    }
}

/// Goal: the same for the last handle and for a submitted op. Method: two thousand times, one task submits and drops
/// its handle while another drops the last but one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ops_submitted_before_the_last_handle_is_dropped_are_delivered() {
    for round in 0..2000u32 {
        let (desk, worker) = Batcher::new(Recorder::new()).limits(Limits::new(3).linger(AGES)).spawn();
        let other = tokio::spawn({
            let desk = desk.clone();
            async move {
                let ack = desk.submit(round).await.unwrap();
                drop(desk);
                ack.outcome().await.end
            }
        });
        drop(desk);
        assert_eq!(other.await.unwrap(), End::Delivered);
        assert_eq!(worker.join().await.unwrap().stats.outcomes.delivered, 1);
    }
}

/// Goal: callers who wait for their verdicts share batches on any runtime. Method: 64 of them on one worker thread,
/// where the first one's submit wakes the task, which runs next. Guards: batches of one, cut by a task that never lets
/// other callers have their turn.
#[test]
fn callers_that_await_their_acks_share_batches() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
    let stats = runtime.block_on(async {
        let (desk, worker) = Batcher::new(Recorder::new()).limits(1000).spawn();
        let callers: tokio::task::JoinSet<()> = (0..64u32)
            .map(|op| {
                let desk = desk.clone();
                async move {
                    for _ in 0..200 {
                        desk.submit(op).await.unwrap().await.unwrap();
                    }
                }
            })
            .collect();
        callers.join_all().await;
        worker.shutdown().await.unwrap().stats
    });
    assert!(stats.mean_batch() > 16.0, "{} ops a batch", stats.mean_batch());
}

/// Goal: no caller waits for a runtime that is gone, and its ops are reported as lost. Method: a runtime of its own is
/// dropped with ops waiting, in flight and in the channel, and with callers that wait on each kind of future.
#[tokio::test(start_paused = true)]
async fn a_dropped_runtime_answers_all_callers() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
    let gate = Gate::new(Recorder::new());
    let (desk, worker) = {
        let _inside = runtime.enter();
        Batcher::new(gate.clone()).limits(Limits::new(1).linger(AGES).max_pending(3)).spawn()
    };
    let in_flight = desk.submit(1).await.unwrap();
    // The gate is on another thread: it announces itself without the clock.
    gate.reached(1).await;
    let waiting = desk.submit(2).await.unwrap();
    let last = desk.submit(3).await.unwrap();
    let waits = tokio::spawn({
        let desk = desk.clone();
        async move { desk.send(4).await }
    });
    let flushes = tokio::spawn({
        let desk = desk.clone();
        async move { desk.flush().await }
    });
    until_idle().await;
    // Dropping the runtime in place would block; the test needs only that its tasks are dropped.
    tokio::task::spawn_blocking(move || drop(runtime)).await.unwrap();
    for ack in [in_flight, waiting, last] {
        let outcome = at_once(ack.outcome()).await;
        assert_eq!(outcome.end, End::Lost);
        assert!(matches!(outcome.result, Err(AckError::Lost)));
    }
    assert_eq!(at_once(waits).await.unwrap(), Err(SendError::Closed(4)));
    assert!(at_once(flushes).await.unwrap().is_err());
    assert!(desk.is_closed());
    assert_eq!(at_once(desk.send(5)).await, Err(SendError::Closed(5)));
    assert_eq!(desk.try_send(5), Err(TrySendError::Closed(5)));
    assert_eq!(at_once(desk.send_all([5, 6])).await.unwrap_err().into_inner(), [5, 6]);
    assert!(at_once(desk.reserve()).await.is_err());
    assert!(at_once(desk.submit(5)).await.is_err());
    assert!(at_once(desk.flush()).await.is_err());
    assert!(at_once(desk.withdraw(|_| true)).await.is_err());
    assert!(at_once(desk.pause()).await.is_err());
    assert!(at_once(desk.resume()).await.is_err());
    let stats = desk.stats();
    conserved(&stats);
    assert_eq!((stats.accepted, stats.outcomes.lost, stats.waiting, stats.in_flight), (3, 3, 0, 0));
    assert!(at_once(worker.join()).await.is_err());
}

/// Goal: the same on each kind of runtime, with a real clock and with a paused one. Method: an op that lingers, one
/// whose receipt is awaited, a flush and a shutdown.
#[test]
fn a_batcher_runs_on_each_kind_of_runtime() {
    let current =
        |paused| tokio::runtime::Builder::new_current_thread().enable_time().start_paused(paused).build().unwrap();
    let multi =
        |threads| tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_time().build().unwrap();
    for runtime in [current(true), current(false), multi(1), multi(2)] {
        runtime.block_on(async {
            let (desk, worker) = Batcher::new(Recorder::new()).limits((10, ms(1))).spawn();
            desk.submit(1).await.unwrap().await.unwrap();
            desk.send(2).await.unwrap();
            assert_eq!(eventually(desk.flush()).await.unwrap().outcomes.delivered, 2);
            desk.send(3).await.unwrap();
            assert_eq!(eventually(worker.shutdown().into_future()).await.unwrap().stats.outcomes.delivered, 3);
        });
    }
}

/// Variable that tells this test program that it runs the one test of its own process.
const ALONE: &str = "ROUNDLOT_TEST_ALONE";

// Guards: `Moment` counts from the clock that first asked, which a paused test may have set ahead: for all others, time
// stands still until they have caught up with it.
/// Goal: a paused clock that is ahead of the others does not stop theirs. Method: in a process of its own, since it is
/// about which comes first: a runtime is a day ahead when it builds the first batcher; on the next one a linger of 10
/// ms must end.
#[test]
fn clocks_of_other_runtimes_do_not_matter() {
    let name = "runtimes::clocks_of_other_runtimes_do_not_matter";
    if std::env::var_os(ALONE).is_none() {
        let this = std::env::current_exe().unwrap();
        let output = Command::new(this).args(["--exact", name]).env(ALONE, "1").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        return;
    }
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime().block_on(async {
        tokio::time::advance(secs(24 * 3600)).await;
        let (desk, _worker) = Batcher::new(Recorder::new()).limits(1).spawn();
        desk.submit(1).await.unwrap().await.unwrap();
    });
    runtime().block_on(async {
        let sink = Recorder::new();
        let (desk, _worker) = Batcher::new(sink.clone()).limits((10, ms(10))).spawn();
        desk.send(2).await.unwrap();
        advance(ms(10)).await;
        assert_eq!(sink.ops(), [2]);
    });
}
