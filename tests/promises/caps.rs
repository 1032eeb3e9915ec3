//! Tests of promise 2: no batch, no number of writes and no buffer exceeds its cap, and a full buffer never lingers.

use futures::{FutureExt, future::join_all};
use roundlot::{
    Batcher, CutBy, End, Limits, SendError, Stages, TrySendError,
    testing::{Gate, Recorder, advance, until_idle},
};
use tokio_test::{assert_pending, task};

use crate::{AGES, at_once, conserved, ms};

/// Goal: no more than `max_in_flight` writes at once, and one at most for a partition. Method: ten partitions of three
/// ops, which leave one by one, behind a gate that counts.
#[tokio::test(start_paused = true)]
async fn writes_at_once_are_capped_in_all_and_per_partition() {
    for (partitions, in_flight, peak) in [(10, 3, 3), (2, 3, 2), (1, 3, 1), (10, 1, 1)] {
        let sink = Recorder::new();
        let gate = Gate::new(sink.clone());
        let (desk, _worker) = Batcher::new(gate.clone())
            .stages(Stages::new().partition_by(move |op: &u32| op % partitions))
            .limits(Limits::new(1).max_in_flight(in_flight))
            .spawn();
        desk.send_all(0..30).await.unwrap();
        for done in 0..30 {
            until_idle().await;
            assert_eq!(desk.stats().batches_in_flight, gate.running() as u64);
            gate.pass(1);
            at_once(sink.wait_for(done + 1)).await;
        }
        assert_eq!(gate.peak(), peak, "{partitions} partitions, {in_flight} in flight");
        conserved(&desk.stats());
    }
}

/// Goal: a batch is full at `max_items`, and never holds more. Method: 25 ops at once, ten to a batch.
#[tokio::test(start_paused = true)]
async fn a_batch_holds_max_items_at_most() {
    let sink = Recorder::new();
    let (desk, _worker) = Batcher::new(sink.clone()).limits((10, AGES)).spawn();
    desk.send_all(0..25).await.unwrap();
    until_idle().await;
    assert_eq!(sink.batches(), [(0..10).collect::<Vec<_>>(), (10..20).collect()]);
    assert_eq!(sink.cuts(), [CutBy::Full; 2]);
    let _ = at_once(desk.flush()).await.unwrap();
    assert_eq!(sink.batches()[2], [20, 21, 22, 23, 24]);
}

/// Goal: no batch is heavier than `max_weight`, and one is full when the next op would not fit. Method: a cap of 10,
/// and ops that are their own weight.
#[tokio::test(start_paused = true)]
async fn a_batch_weighs_max_weight_at_most() {
    let sink = Recorder::new();
    let (desk, _worker) = Batcher::new(sink.clone())
        .stages(Stages::new().weigh_by(|op: &usize| *op))
        .limits(Limits::new(4).max_weight(10).linger(AGES))
        .spawn();
    desk.send_all([6, 4, 6, 3, 2, 10, 1, 1, 1, 1, 1, 9]).await.unwrap();
    let _ = at_once(desk.flush()).await.unwrap();
    let expected: [&[usize]; 6] = [&[6, 4], &[6, 3], &[2], &[10], &[1, 1, 1, 1], &[1, 9]];
    assert_eq!(sink.batches(), expected);
}

/// Goal: an op that no batch could hold is given back at the door, by each way to send, and takes no room. Method: ops
/// of weight 11 under a cap of 10, and then a buffer that is still as large as it was.
#[tokio::test(start_paused = true)]
async fn an_op_heavier_than_the_cap_is_given_back() {
    let (desk, _worker) = Batcher::new(Recorder::new())
        .stages(Stages::new().weigh_by(|op: &usize| *op))
        .limits(Limits::new(10).max_weight(10).linger(AGES).max_pending(4))
        .spawn();
    assert_eq!(desk.send(11).await, Err(SendError::TooHeavy(11)));
    assert_eq!(desk.try_send(11), Err(TrySendError::TooHeavy(11)));
    assert_eq!(desk.submit(11).await.unwrap_err(), SendError::TooHeavy(11));
    assert_eq!(desk.reserve().await.unwrap().send(11), Err(SendError::TooHeavy(11)));
    assert_eq!(desk.reserve().await.unwrap().submit(11).unwrap_err(), SendError::TooHeavy(11));
    let rest = desk.send_all([1, 11, 2, 12]).await.unwrap_err();
    assert_eq!(rest.reason(), &SendError::TooHeavy(()));
    assert_eq!(rest.into_inner(), [11, 2, 12]);
    until_idle().await;
    assert_eq!((desk.stats().accepted, desk.stats().waiting), (1, 1));
    desk.pause().await.unwrap();
    let more = (0..9).filter(|_| desk.try_send(1).is_ok()).count();
    assert_eq!(more, 3);
}

/// Goal: an op that has outgrown the cap by a merge is refused and never written; others are. Method: a merge that adds
/// up.
#[tokio::test(start_paused = true)]
async fn an_op_that_a_merge_made_too_heavy_is_refused() {
    let sink = Recorder::new();
    let (desk, _worker) = Batcher::new(sink.clone())
        .stages(Stages::new().weigh_by(|op: &usize| *op).conflate_by(|op: &usize| *op % 2, |a, b| Some(a + b)))
        .limits(Limits::new(10).max_weight(10).linger(AGES))
        .spawn();
    let acks = [desk.submit(6).await.unwrap(), desk.submit(8).await.unwrap()];
    desk.send(3).await.unwrap();
    let report = at_once(desk.flush()).await.unwrap();
    assert_eq!((report.outcomes.delivered, report.outcomes.refused, report.outcomes.conflated), (1, 1, 1));
    assert_eq!(sink.batches(), [[3]]);
    for (ack, end) in acks.into_iter().zip([End::Conflated, End::Refused]) {
        let outcome = ack.outcome().await;
        assert_eq!((outcome.end, outcome.result.unwrap_err().end()), (end, End::Refused));
    }
}

/// Goal: a lowered cap holds for waiting ops already. Method: an op of weight 8 waits when the cap becomes 5.
#[tokio::test(start_paused = true)]
async fn an_op_heavier_than_a_lowered_cap_is_refused_and_other_ops_are_written() {
    let sink = Recorder::new();
    let limits = Limits::new(10).max_weight(10).linger(AGES);
    let (desk, _worker) =
        Batcher::new(sink.clone()).stages(Stages::new().weigh_by(|op: &usize| *op)).limits(limits.clone()).spawn();
    desk.pause().await.unwrap();
    let heavy = desk.submit(8).await.unwrap();
    desk.send_all([5, 1]).await.unwrap();
    until_idle().await;
    desk.set_limits(limits.max_weight(5)).unwrap();
    desk.resume().await.unwrap();
    let _ = at_once(desk.flush()).await.unwrap();
    assert_eq!(heavy.outcome().await.end, End::Refused);
    assert_eq!(sink.batches(), [[5], [1]]);
}

/// Goal: never an empty batch. Method: all ops of one partition have expired when it is due, and some of another.
#[tokio::test(start_paused = true)]
async fn a_batch_of_which_all_has_expired_is_not_written() {
    let sink = Recorder::new();
    let soon = tokio::time::Instant::now() + ms(5);
    let (desk, _worker) = Batcher::new(sink.clone())
        .stages(Stages::new().partition_by(|op: &u32| op / 10).expire_by(move |op| (op % 10 < 3).then_some(soon)))
        .limits((10, ms(20)))
        .spawn();
    desk.send_all([0, 1, 2, 11, 13]).await.unwrap();
    advance(ms(20)).await;
    assert_eq!(sink.batches(), [[13]]);
    let stats = desk.stats();
    assert_eq!((stats.batches, stats.written, stats.outcomes.expired, stats.in_flight), (1, 1, 4, 0));
}

/// Goal: raising `max_pending` admits waiting senders at once. Method: two wait when `max_pending` goes from two to
/// three.
#[tokio::test(start_paused = true)]
async fn raising_max_pending_admits_waiting_senders() {
    let limits = Limits::new(100).linger(AGES).max_pending(2);
    let (desk, _worker) = Batcher::new(Recorder::new()).limits(limits.clone()).spawn();
    desk.pause().await.unwrap();
    desk.send_all([1, 2]).await.unwrap();
    let mut lines = [task::spawn(desk.send(3)), task::spawn(desk.send(4))];
    for line in &mut lines {
        assert_pending!(line.poll());
    }
    desk.set_limits(limits.max_pending(3)).unwrap();
    until_idle().await;
    assert!(lines[0].poll().is_ready());
    assert_pending!(lines[1].poll());
}

/// Goal: less room lets accepted ops finish, and admits new ops only below the new bound. Method: from four to two with
/// four ops waiting.
#[tokio::test(start_paused = true)]
async fn a_lowered_max_pending_holds_once_ops_have_left() {
    let sink = Recorder::new();
    let gate = Gate::new(sink.clone());
    let limits = Limits::new(1).max_pending(4);
    let (desk, _worker) = Batcher::new(gate.clone()).limits(limits.clone()).spawn();
    desk.send_all(0..4).await.unwrap();
    until_idle().await;
    desk.set_limits(limits.max_pending(2)).unwrap();
    for written in 1..=2 {
        gate.pass(1);
        at_once(sink.wait_for(written)).await;
        until_idle().await;
        assert_eq!(desk.try_send(9), Err(TrySendError::Full(9)), "{written} written");
    }
    gate.pass(1);
    until_idle().await;
    desk.try_send(9).unwrap();
    assert_eq!(desk.try_send(9), Err(TrySendError::Full(9)));
}

/// Goal: a buffer that a lowered `max_pending` makes full does not sit out its linger. Method: three ops wait when the
/// bound becomes two.
#[tokio::test(start_paused = true)]
async fn lowering_max_pending_makes_waiting_ops_due() {
    let sink = Recorder::new();
    let limits = Limits::new(100).linger(AGES).max_pending(9);
    let (desk, _worker) = Batcher::new(sink.clone()).limits(limits.clone()).spawn();
    desk.send_all(0..3).await.unwrap();
    until_idle().await;
    assert!(sink.is_empty());
    desk.set_limits(limits.max_pending(2)).unwrap();
    at_once(sink.wait_for(3)).await;
    assert_eq!(sink.cuts(), [CutBy::Pressure]);
}

/// Goal: a full buffer never sits out its linger, also while a part of the room is only reserved. Method: one permit is
/// held for good, more senders than there is room wait, and no time may pass until all are in. Guards: pressure that
/// counts only ops in the buffer, or that is told only when a sender begins to wait.
#[tokio::test(start_paused = true)]
async fn waiting_senders_do_not_sit_out_the_linger_while_another_task_holds_a_permit() {
    let sink = Recorder::new();
    let (desk, _worker) = Batcher::new(sink.clone()).limits(Limits::new(100).linger(AGES).max_pending(3)).spawn();
    let _held = desk.reserve().await.unwrap();
    let senders: Vec<_> = (0..6u32)
        .map(|op| {
            let desk = desk.clone();
            tokio::spawn(async move { desk.send(op).await })
        })
        .collect();
    for sender in senders {
        at_once(sender).await.unwrap().unwrap();
    }
}

/// Goal: `max_pending` is hard when it is lowered while permits are out. Method: three permits are reserved, the limit
/// becomes one, the permits are dropped, and only one op may get in. Guards: the debt that a lowered limit leaves.
#[tokio::test(start_paused = true)]
async fn permits_dropped_after_max_pending_was_lowered_do_not_make_room_above_it() {
    let sink = Recorder::new();
    let limits = Limits::new(100).linger(AGES).max_pending(3);
    let (desk, _worker) = Batcher::new(sink.clone()).limits(limits.clone()).spawn();
    desk.pause().await.unwrap();
    let permits = [desk.reserve().await.unwrap(), desk.reserve().await.unwrap(), desk.reserve().await.unwrap()];
    desk.set_limits(limits.max_pending(1)).unwrap();
    until_idle().await;
    drop(permits);
    let taken = (0..3u32).filter(|op| desk.try_send(*op).is_ok()).count();
    until_idle().await;
    assert_eq!((taken, desk.stats().waiting), (1, 1));
}

/// Goal: a panic of the caller's own iterator costs no room. Method: `send_all` of an iterator that panics half way,
/// and then the whole buffer must still be there. Guards: room that was taken for the chunk so far.
#[tokio::test(start_paused = true)]
async fn an_iterator_that_panics_in_send_all_takes_no_room_with_it() {
    let sink = Recorder::new();
    let (desk, _worker) = Batcher::new(sink.clone()).limits(Limits::new(100).linger(AGES).max_pending(10)).spawn();
    let ops = (0..10u32).inspect(|op| assert!(*op < 5, "the iterator panics"));
    let panicked = std::panic::AssertUnwindSafe(desk.send_all(ops)).catch_unwind().await;
    assert!(panicked.is_err());
    desk.pause().await.unwrap();
    until_idle().await;
    let taken = desk.stats().waiting;
    let mut more = 0;
    while desk.try_send(9).is_ok() {
        more += 1;
    }
    assert_eq!(taken + more, 10);
    assert!(matches!(desk.try_send(9), Err(TrySendError::Full(9))));
}

/// Goal: weights without a cap may be anything. Method: two that overflow together.
#[tokio::test(start_paused = true)]
async fn weights_without_a_cap_may_be_of_any_size() {
    let sink = Recorder::new();
    let stages = Stages::new().weigh_by(|_: &u32| usize::MAX);
    let (desk, _worker) = Batcher::new(sink.clone()).stages(stages).limits(10).spawn();
    let acks = [desk.submit(1).await.unwrap(), desk.submit(2).await.unwrap()];
    assert!(at_once(join_all(acks)).await.iter().all(Result::is_ok));
    assert_eq!(sink.ops(), [1, 2]);
}
