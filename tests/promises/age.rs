//! Tests of promise 3: age counts from `send`, the deadline is that of the oldest op, and an idle batcher sleeps.

use std::time::Duration;

use roundlot::{
    Batcher, CutBy, Limits,
    testing::{Flaky, Gate, Recorder, advance, until_idle},
};
use tokio::time::{Instant, sleep};
use tokio_test::{assert_pending, assert_ready, task};

use crate::{AGES, at_once, ms, secs, took};

/// Returns the time of each write since `start`, in milliseconds.
fn times(sink: &Recorder<u32>, start: Instant) -> Vec<u128> {
    sink.times().into_iter().map(|at| (at - start).as_millis()).collect()
}

/// Goal: age counts from `send`, the time in the channel included. Method: the task first runs 30 ms after the send;
/// its linger of 50 ms must end 20 ms later.
#[tokio::test(start_paused = true)]
async fn time_in_the_inbox_counts_for_the_linger() {
    let sink = Recorder::new();
    let (desk, worker) = Batcher::new(sink.clone()).limits(Limits::new(10).linger(ms(50))).split();
    let start = Instant::now();
    desk.try_send(1).unwrap();
    advance(ms(30)).await;
    let _task = tokio::spawn(worker);
    sink.wait_for(1).await;
    assert_eq!(times(&sink, start), [50]);
}

/// Goal: the wait for a permit counts, too. Method: a full buffer is in flight for longer than the linger; a sender
/// that waited meanwhile must see its op leave as soon as it has a permit.
#[tokio::test(start_paused = true)]
async fn time_in_the_wait_queue_counts_for_the_linger() {
    let sink = Recorder::new();
    let gate = Gate::new(sink.clone());
    let limits = Limits::new(2).linger(ms(50)).max_pending(2);
    let (desk, _worker) = Batcher::new(gate.clone()).limits(limits).spawn();
    let start = Instant::now();
    desk.send_all([1, 2]).await.unwrap();
    gate.reached(1).await;
    let mut late = task::spawn(desk.send(3));
    assert_pending!(late.poll());
    advance(ms(100)).await;
    gate.open();
    until_idle().await;
    assert_ready!(late.poll()).unwrap();
    until_idle().await;
    assert_eq!(times(&sink, start), [100, 100]);
    assert_eq!(sink.cuts(), [CutBy::Full, CutBy::Linger]);
}

// Guards: the deadline of a partition is that of the op that arrived first, though another may have been sent earlier.
/// Goal: the deadline is that of the oldest op, not of the first in the queue. Method: an op waits for a permit for
/// 100 ms; one that had a permit is sent right before it gets in. The linger of 50 ms is long over for the one that
/// waited.
#[tokio::test(start_paused = true)]
async fn an_op_that_queued_for_a_permit_does_not_wait_for_a_newer_op_with_a_permit() {
    let sink = Recorder::new();
    let gate = Gate::new(sink.clone());
    let limits = Limits::new(3).linger(ms(50)).max_pending(4);
    let (desk, _worker) = Batcher::new(gate.clone()).limits(limits).spawn();
    let start = Instant::now();
    let permit = desk.reserve().await.unwrap();
    desk.send_all([1, 2, 3]).await.unwrap();
    gate.reached(1).await;
    let mut late = task::spawn(desk.send(5));
    assert_pending!(late.poll());
    advance(ms(100)).await;
    gate.open();
    until_idle().await;
    permit.send(4).unwrap();
    assert_ready!(late.poll()).unwrap();
    advance(ms(100)).await;
    assert_eq!(sink.batches(), [vec![1, 2, 3], vec![4, 5]]);
    assert_eq!(times(&sink, start), [100, 100]);
}

// Guards: sends that come right behind each other share a time stamp, and one that waited has an old one.
/// Goal: an op never counts as older than it is by more than the task took to drain the inbox. Method: an op waits for
/// a permit for ten seconds, one is submitted right behind it, and both are answered seven milliseconds later.
#[tokio::test(start_paused = true)]
async fn an_op_does_not_inherit_the_age_of_an_op_that_queued_for_a_permit() {
    let gate = Gate::new(Recorder::new());
    let (desk, _worker) = Batcher::new(gate.clone()).limits(Limits::new(2).max_pending(2)).spawn();
    let first = [desk.submit(1).await.unwrap(), desk.submit(2).await.unwrap()];
    gate.reached(1).await;
    let late = tokio::spawn(async move {
        let old = desk.submit(3).await.unwrap();
        let young = desk.submit(4).await.unwrap();
        [old.outcome().await.latency, young.outcome().await.latency]
    });
    advance(secs(10)).await;
    gate.pass(1);
    for ack in first {
        ack.await.unwrap();
    }
    until_idle().await;
    advance(ms(7)).await;
    gate.open();
    assert_eq!(late.await.unwrap(), [ms(10_007), ms(7)]);
}

/// Goal: later ops do not postpone the deadline of the oldest. Method: an op every 4 ms and a linger of 10 ms.
#[tokio::test(start_paused = true)]
async fn the_deadline_of_the_oldest_op_is_not_postponed_by_later_ones() {
    let sink = Recorder::new();
    let (desk, _worker) = Batcher::new(sink.clone()).limits((100, ms(10))).spawn();
    let start = Instant::now();
    for op in 0..6 {
        desk.send(op).await.unwrap();
        advance(ms(4)).await;
    }
    assert_eq!(sink.batches(), [[0, 1, 2], [3, 4, 5]]);
    assert_eq!(times(&sink, start), [10, 22]);
}

/// Goal: a stale timer never fires into the next batch. Method: a batch leaves full before its linger is over, and
/// another one begins; at the deadline of the first, nothing may happen.
#[tokio::test(start_paused = true)]
async fn a_stale_timer_does_not_fire_into_the_next_batch() {
    let sink = Recorder::new();
    let (desk, _worker) = Batcher::new(sink.clone()).limits((2, ms(10))).spawn();
    let start = Instant::now();
    desk.send(1).await.unwrap();
    advance(ms(5)).await;
    desk.send(2).await.unwrap();
    advance(ms(3)).await;
    desk.send(3).await.unwrap();
    advance(ms(20)).await;
    assert_eq!(sink.batches(), [vec![1, 2], vec![3]]);
    assert_eq!(times(&sink, start), [5, 18]);
}

/// Goal: timer and size trigger at the same instant make one batch each time, and no empty one. Method: the op that
/// fills the batch is sent at the instant at which the linger ends, by a task that sleeps since before or since after
/// it.
#[tokio::test(start_paused = true)]
async fn an_op_that_arrives_as_timer_and_size_are_both_due_is_written_once() {
    for sleeps_first in [false, true] {
        let sink = Recorder::new();
        let (desk, _worker) = Batcher::new(sink.clone()).limits((2, ms(10))).spawn();
        let start = Instant::now();
        let second = {
            let desk = desk.clone();
            async move {
                sleep(ms(10)).await;
                desk.send(2).await.unwrap();
            }
        };
        if sleeps_first {
            tokio::spawn(second);
            until_idle().await;
            desk.send(1).await.unwrap();
        } else {
            desk.send(1).await.unwrap();
            until_idle().await;
            tokio::spawn(second);
        }
        advance(ms(40)).await;
        let written = sink.batches();
        assert!(written == [vec![1, 2]] || written == [vec![1], vec![2]], "{written:?}");
        assert_eq!(times(&sink, start)[0], 10);
        assert!(times(&sink, start).last().is_some_and(|last| [10, 20].contains(last)));
        assert_eq!(desk.stats().batches, written.len() as u64);
    }
}

/// Goal: with a linger of zero, batches grow exactly while the sink is busy. Method: a gate that lets one write through
/// at a time, and more ops at each; once it is open, each op leaves by itself.
#[tokio::test(start_paused = true)]
async fn without_a_linger_batches_grow_exactly_while_the_sink_is_busy() {
    let sink = Recorder::new();
    let gate = Gate::new(sink.clone());
    let (desk, _worker) = Batcher::new(gate.clone()).limits(100).spawn();
    for ops in [0..1, 1..4, 4..9] {
        desk.send_all(ops).await.unwrap();
        at_once(gate.reached(1)).await;
    }
    gate.pass(2);
    until_idle().await;
    assert_eq!(sink.batches(), [vec![0], vec![1, 2, 3, 4, 5, 6, 7, 8]]);
    gate.open();
    for op in 9..12 {
        desk.send(op).await.unwrap();
        at_once(sink.wait_for(op as usize + 1)).await;
    }
    assert_eq!(sink.batches()[2..], [[9], [10], [11]]);
    assert_eq!(sink.cuts(), [CutBy::Linger; 5]);
}

/// Goal: a linger of `Duration::MAX` has no end, and no overflow. Method: years pass; then a flush gets the op out.
#[tokio::test(start_paused = true)]
async fn a_flush_cuts_a_batch_whose_linger_never_ends() {
    let sink = Recorder::new();
    let (desk, _worker) = Batcher::new(sink.clone()).limits((10, Duration::MAX)).spawn();
    desk.send(1).await.unwrap();
    advance(secs(5 * 365 * 24 * 3600)).await;
    assert!(sink.is_empty());
    assert_eq!(at_once(desk.flush()).await.unwrap().outcomes.delivered, 1);
}

/// Goal: a sink that is ten times slower than the linger gets as few writes as possible, each with all ops that came
/// meanwhile. Method: an op every 7 ms, a linger of 10 ms, a sink of 100 ms.
#[tokio::test(start_paused = true)]
async fn a_sink_slower_than_the_linger_gets_all_ops_sent_meanwhile() {
    let sink = Recorder::new();
    let flaky = Flaky::new(sink.clone()).slow(ms(100));
    let (desk, _worker) = Batcher::new(flaky).limits((1000, ms(10))).spawn();
    let start = Instant::now();
    for op in 0..45 {
        desk.send(op).await.unwrap();
        advance(ms(7)).await;
    }
    advance(ms(200)).await;
    // The first write is from 10 to 110, and ops are sent at 0, 7, 14, ..., 308.
    assert_eq!(times(&sink, start), [110, 210, 310, 410]);
    let firsts: Vec<u32> = sink.batches().iter().map(|batch| batch[0]).collect();
    assert_eq!(firsts, [0, 2, 16, 30]);
    assert!(sink.ops().into_iter().eq(0..45));
}

/// Goal: a full buffer never sits out a long linger. Method: `max_pending` ops, far fewer than a batch may hold.
#[tokio::test(start_paused = true)]
async fn a_full_buffer_does_not_sit_out_its_linger() {
    let sink = Recorder::new();
    let (desk, _worker) = Batcher::new(sink.clone()).limits(Limits::new(100).linger(AGES).max_pending(4)).spawn();
    desk.send_all(0..3).await.unwrap();
    until_idle().await;
    assert!(sink.is_empty());
    desk.send(3).await.unwrap();
    at_once(sink.wait_for(4)).await;
    assert_eq!(sink.cuts(), [CutBy::Pressure]);
}

/// Goal: a changed linger counts for waiting ops already, from their send on. Method: at 30 ms the linger of an hour
/// becomes one of 10, 30, 50 or 200 ms.
#[tokio::test(start_paused = true)]
async fn set_limits_moves_the_deadline_of_waiting_ops() {
    for (linger, due_at) in [(10, 30), (30, 30), (50, 50), (200, 200)] {
        let sink = Recorder::new();
        let (desk, _worker) = Batcher::new(sink.clone()).limits((10, secs(3600))).spawn();
        let start = Instant::now();
        desk.send(1).await.unwrap();
        advance(ms(30)).await;
        desk.set_limits((10, ms(linger))).unwrap();
        sink.wait_for(1).await;
        assert_eq!(times(&sink, start), [due_at], "linger {linger}");
    }
}

/// Goal: a longer linger applies to waiting ops, too. Method: 20 ms become 100 ms after 10 ms.
#[tokio::test(start_paused = true)]
async fn set_limits_can_move_a_deadline_back() {
    let sink = Recorder::new();
    let (desk, _worker) = Batcher::new(sink.clone()).limits((10, ms(20))).spawn();
    desk.send(1).await.unwrap();
    advance(ms(10)).await;
    desk.set_limits((10, ms(100))).unwrap();
    took(ms(90), sink.wait_for(1)).await;
}

/// Goal: a batcher without waiting ops has no wake-up. Method: batchers that were never used, with and without dead
/// letters, and an hour.
#[tokio::test(start_paused = true)]
async fn an_idle_batcher_is_not_woken_for_an_hour() {
    for has_letters in [false, true] {
        let mut batcher = Batcher::<u32, (), _>::new(Recorder::new()).limits(Limits::new(10).linger(ms(1)));
        if has_letters {
            batcher = batcher.dead_letters(roundlot::sink_fn(|_| Box::pin(std::future::pending())));
        }
        let (_desk, worker) = batcher.split();
        let mut worker = task::spawn(worker);
        assert_pending!(worker.poll());
        advance(secs(3600)).await;
        assert!(!worker.is_woken());
    }
}

/// Goal: a batcher without waiting ops has no wake-up, also where a timer was set before. Method: an op arms the linger
/// and is then flushed; its deadline passes, and the task must not be woken. Guards: a timer that stays armed when it
/// is not needed.
#[tokio::test(start_paused = true)]
async fn an_early_settled_deadline_causes_no_later_wake_up() {
    let (desk, worker) = Batcher::new(Recorder::new()).limits(Limits::new(10).linger(secs(3600))).split();
    let mut worker = task::spawn(worker);
    assert_pending!(worker.poll());
    desk.try_send(1).unwrap();
    assert!(worker.is_woken());
    assert_pending!(worker.poll());
    let mut flush = task::spawn(desk.flush());
    assert_pending!(flush.poll());
    while worker.is_woken() {
        assert_pending!(worker.poll());
    }
    assert!(flush.is_woken());
    advance(secs(7200)).await;
    assert!(!worker.is_woken(), "an idle batcher was woken");
}

/// Goal: ops that wait for a slot need no timer. Method: the only slot is taken for an hour; a lingering op must wake
/// no task, and leave as soon as the slot is free.
#[tokio::test(start_paused = true)]
async fn a_batcher_whose_slots_are_taken_is_not_woken_by_lingers() {
    let sink = Recorder::new();
    let gate = Gate::new(sink.clone());
    let (desk, worker) = Batcher::new(gate.clone()).limits((1, ms(10))).split();
    let mut worker = task::spawn(worker);
    desk.try_send(1).unwrap();
    assert_pending!(worker.poll());
    desk.try_send(2).unwrap();
    while worker.is_woken() {
        assert_pending!(worker.poll());
    }
    advance(secs(3600)).await;
    assert!(!worker.is_woken());
    gate.open();
    while worker.is_woken() {
        assert_pending!(worker.poll());
    }
    assert_eq!(sink.ops(), [1, 2]);
}
