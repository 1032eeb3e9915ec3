//! Proves promise 11, and what must hold in each interleaving: one thread, several threads, a runtime that is dropped.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use roundlot::{
    AckError, Batcher, End, Limits, Overflow, SendError, Stages, stage,
    testing::{Gate, Recorder, until_idle},
};

use crate::{AGES, at_once, conserved};

/// Goal: a verdict means that the op takes no room any more. Method: on two threads, wait for the verdict on the only op
/// that may be pending, and send the next at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_knows_the_verdict_finds_the_room() {
    // Guards: callers are answered in `settle`, their room is given back only in `balance`.
    let limits = Limits::new(10).max_pending(1).overflow(Overflow::Reject);
    let (desk, _worker) = Batcher::new(Recorder::new()).limits(limits).spawn();
    for op in 0..5000u32 {
        let ack = desk.submit(op).await.unwrap_or_else(|error| panic!("op {op}: {error}"));
        ack.await.unwrap();
    }
}

/// Goal: who has been answered sees statistics that know of it. Method: on two threads, look right after each verdict.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_knows_the_verdict_finds_it_in_the_statistics() {
    // Guards: only flushes are answered after the statistics are published; acks and withdrawals are answered before. (Rare:
    // a few in 100,000 without other load.)
    let (desk, _worker) = Batcher::new(Recorder::new()).limits(10).spawn();
    for op in 0..50_000u64 {
        desk.submit(op).await.unwrap().await.unwrap();
        assert_eq!(desk.stats().delivered, op + 1);
    }
}

/// Goal: statistics are of one moment, at every moment. Method: two senders, a sink, conflation, and a third thread that
/// adds them up all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statistics_add_up_whenever_somebody_looks() {
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
/// times, two tasks send until they are turned away while a third shuts down.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sends_that_race_with_shutdown_are_delivered_or_given_back() {
    for round in 0..2000u32 {
        let sink = Recorder::new();
        let (desk, worker) = Batcher::new(sink.clone()).limits(Limits::new(3).max_pending(4)).spawn();
        let sent = Arc::new(AtomicU32::new(0));
        let senders: Vec<_> = (0..2u32)
            .map(|sender| {
                let (desk, sent) = (desk.clone(), sent.clone());
                tokio::spawn(async move {
                    let mut taken = Vec::new();
                    for op in 0.. {
                        let op = op * 2 + sender;
                        match desk.send(op).await {
                            Ok(()) => taken.push(op),
                            Err(SendError::Closed(back)) => {
                                assert_eq!(back, op);
                                return taken;
                            }
                            Err(error) => panic!("{error}"),
                        }
                        sent.fetch_add(1, Ordering::Relaxed);
                    }
                    taken
                })
            })
            .collect();
        while sent.load(Ordering::Relaxed) < round % 20 {
            tokio::task::yield_now().await;
        }
        let summary = worker.shutdown().await.unwrap();
        let mut taken = HashSet::new();
        for sender in senders {
            taken.extend(sender.await.unwrap());
        }
        let written = sink.ops();
        assert_eq!(written.len(), taken.len(), "round {round}");
        assert_eq!(written.into_iter().collect::<HashSet<_>>(), taken, "round {round}");
        assert_eq!(summary.stats.delivered, taken.len() as u64);
    }
}

/// Goal: the same for the last handle and for a submitted op. Method: two thousand times, one task submits and drops its
/// handle while another drops the last but one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_submitted_before_the_last_handle_is_dropped_is_delivered() {
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
        assert_eq!(worker.join().await.unwrap().stats.delivered, 1);
    }
}

/// Goal: nobody waits for a runtime that is gone, and what it held is lost with notice. Method: a runtime of its own is
/// dropped with ops waiting, in flight and in the channel, and with callers that wait for all there is to wait for.
#[tokio::test(start_paused = true)]
async fn a_runtime_that_is_dropped_answers_everybody() {
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
    // Dropping it in place would block; what matters is that its tasks are dropped.
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
    assert_eq!(desk.try_send(5), Err(SendError::Closed(5)));
    assert_eq!(at_once(desk.send_all([5, 6])).await.unwrap_err().into_inner(), [5, 6]);
    assert!(at_once(desk.reserve()).await.is_err());
    assert!(at_once(desk.submit(5)).await.is_err());
    assert!(at_once(desk.flush()).await.is_err());
    assert!(at_once(desk.withdraw(|_| true)).await.is_err());
    desk.pause();
    desk.resume();
    let stats = desk.stats();
    conserved(&stats);
    assert_eq!((stats.accepted, stats.lost, stats.waiting, stats.in_flight), (3, 3, 0, 0));
    assert!(at_once(worker.join()).await.is_err());
}
