//! Tests of promise 5: within a partition, batches leave in the order (priority, arrival). Across partitions the best
//! head goes first, and within a key no op leaves after a newer one.

use roundlot::{
    Batcher, Handle, Limits, Retry, SinkError, Stages, stage,
    testing::{Flaky, Gate, Recorder, advance, until_idle},
};

use crate::{AGES, at_once, down, eventually, ms};

/// Partition, level, and a unique number.
type Op = (char, u32, u32);

fn by_level() -> Stages<Op> {
    Stages::new().partition_by(|op: &Op| op.0).priority_by(|op: &Op| op.1)
}

fn numbers(ops: &[Op]) -> Vec<u32> {
    ops.iter().map(|op| op.2).collect()
}

fn slow_retry() -> Retry {
    Retry::exponential(ms(50), ms(50)).max_attempts(100).seed(1)
}

async fn drained(desk: &Handle<Op>, sink: &Recorder<Op>) -> Vec<u32> {
    let _ = eventually(desk.flush()).await.unwrap();
    numbers(&sink.ops())
}

/// Goal: the greatest level first, and by arrival within it. Method: mixed levels into a paused batcher, three to a
/// batch.
#[tokio::test(start_paused = true)]
async fn the_greatest_level_leaves_first_and_equal_levels_leave_in_order_of_arrival() {
    let sink = Recorder::new();
    let (desk, _worker) = Batcher::new(sink.clone()).stages(by_level()).limits(3).spawn();
    desk.pause().await.unwrap();
    let levels = [1, 3, 2, 1, 3, 2, 0, 3, 1];
    desk.send_all(levels.into_iter().zip(0..).map(|(level, number)| ('a', level, number))).await.unwrap();
    desk.resume().await.unwrap();
    assert_eq!(drained(&desk, &sink).await, [1, 4, 7, 2, 5, 0, 3, 8, 6]);
}

/// Goal: the order survives retries. Method: the first batch fails three times; later ops of the same or a lower level
/// stay behind it, and ops of a greater level go first.
#[tokio::test(start_paused = true)]
async fn retried_ops_keep_their_position() {
    let sink = Recorder::new();
    let flaky = Flaky::new(sink.clone()).fail_times(3, down());
    let (desk, _worker) = Batcher::new(flaky).stages(by_level()).limits(2).retry(slow_retry()).spawn();
    desk.send_all([('a', 1, 0), ('a', 1, 1), ('a', 1, 2)]).await.unwrap();
    until_idle().await;
    desk.send_all([('a', 0, 3), ('a', 1, 4), ('a', 2, 5)]).await.unwrap();
    assert_eq!(drained(&desk, &sink).await, [5, 0, 1, 2, 4, 3]);
}

/// Goal: an op that fails alone stands in front of the ops behind it. Method: of a batch of three the one in the middle
/// fails once; it must be first in the next batch, ahead of the waiting ops.
#[tokio::test(start_paused = true)]
async fn a_requeued_op_of_a_failed_batch_goes_before_later_ops() {
    let sink = Recorder::new();
    let flaky = Flaky::new(sink.clone()).fail_ops(|op: &Op| (op.2 == 1).then(down));
    let (desk, _worker) = Batcher::new(flaky.clone()).stages(by_level()).limits(3).retry(slow_retry()).spawn();
    desk.send_all((0..6).map(|number| ('a', 1, number))).await.unwrap();
    until_idle().await;
    flaky.heal();
    assert_eq!(drained(&desk, &sink).await, [0, 2, 1, 3, 4, 5]);
    assert_eq!(sink.batches()[1].len(), 3);
}

/// Goal: order holds with many writes at once. Method: three partitions, three slots, single ops, failures now and
/// then; within each partition the numbers go up.
#[tokio::test(start_paused = true)]
async fn with_many_writes_at_once_each_partition_keeps_its_order() {
    let sink = Recorder::new();
    let flaky = Flaky::new(sink.clone());
    for _ in 0..10 {
        flaky.pass(2).fail(down()).pass(1).fail(down());
    }
    let limits = Limits::new(2).max_in_flight(3);
    let (desk, _worker) = Batcher::new(flaky.slow(ms(3))).stages(by_level()).limits(limits).retry(slow_retry()).spawn();
    desk.send_all((0..60).map(|number| (['a', 'b', 'c'][number as usize % 3], 1, number))).await.unwrap();
    assert_eq!(drained(&desk, &sink).await.len(), 60);
    for partition in ['a', 'b', 'c'] {
        let ops: Vec<Op> = sink.ops().into_iter().filter(|op| op.0 == partition).collect();
        assert!(ops.is_sorted_by_key(|op| op.2), "{ops:?}");
    }
}

/// Goal: order holds through splits. Method: a destination that takes two at a time, and batches of eight.
#[tokio::test(start_paused = true)]
async fn a_split_batch_keeps_its_order() {
    let sink = Recorder::new();
    let picky = roundlot::sink_fn({
        let sink = sink.clone();
        move |batch| {
            let sink = sink.clone();
            Box::pin(async move {
                if batch.len() > 2 {
                    return Err(SinkError::too_large("two at most"));
                }
                roundlot::Sink::write(&sink, batch).await
            })
        }
    });
    let (desk, _worker) = Batcher::new(picky).stages(by_level()).limits((8, AGES)).spawn();
    desk.send_all((0..13).map(|number| ('a', 1, number))).await.unwrap();
    assert_eq!(drained(&desk, &sink).await, (0..13).collect::<Vec<_>>());
    assert!(sink.batches().iter().all(|batch| batch.len() <= 2));
}

/// Goal: across partitions the best head goes first, and the oldest among equals. Method: five partitions wait in a
/// paused batcher.
#[tokio::test(start_paused = true)]
async fn the_partition_with_the_best_head_goes_first() {
    let sink = Recorder::new();
    let (desk, _worker) = Batcher::new(sink.clone()).stages(by_level()).limits(10).spawn();
    desk.pause().await.unwrap();
    desk.send_all([('a', 1, 0), ('b', 5, 1), ('c', 3, 2), ('d', 5, 3), ('a', 4, 4), ('e', 0, 5)]).await.unwrap();
    desk.resume().await.unwrap();
    let _ = drained(&desk, &sink).await;
    let order: String = sink.batches().iter().map(|batch| batch[0].0).collect();
    assert_eq!(order, "bdace");
}

/// Goal: a better op that joins a partition that is due already moves the whole partition up. Method: the only slot is
/// taken while partitions fall due, and then one of them gets a critical op.
#[tokio::test(start_paused = true)]
async fn a_better_op_moves_its_partition_up_while_it_waits_for_a_slot() {
    let sink = Recorder::new();
    let gate = Gate::new(sink.clone());
    let (desk, _worker) = Batcher::new(gate.clone()).stages(by_level()).limits(10).spawn();
    desk.send(('x', 0, 0)).await.unwrap();
    gate.reached(1).await;
    desk.send_all([('a', 2, 1), ('b', 1, 2)]).await.unwrap();
    until_idle().await;
    desk.send(('b', 9, 3)).await.unwrap();
    gate.open();
    assert_eq!(drained(&desk, &sink).await, [0, 3, 2, 1]);
}

/// Goal: age moves an op up level by level. Method: a low op of some age and an op each of the other levels; at 9 ms it
/// is the last, at 10 it goes before the middle one, at 20 it goes first. Two partitions show the same across them.
#[tokio::test(start_paused = true)]
async fn age_moves_an_op_up_level_by_level() {
    for (age, order) in [(9, "hml"), (10, "hlm"), (19, "hlm"), (20, "lhm")] {
        for partitions in [true, false] {
            let sink = Recorder::new();
            let stages = by_level().aging(ms(10)).partition_by(move |op: &Op| if partitions { op.0 } else { ' ' });
            let (desk, _worker) = Batcher::new(sink.clone()).stages(stages).limits(1).spawn();
            desk.pause().await.unwrap();
            desk.send(('l', 0, 0)).await.unwrap();
            advance(ms(age)).await;
            desk.send_all([('m', 1, 1), ('h', 2, 2)]).await.unwrap();
            desk.resume().await.unwrap();
            let _ = drained(&desk, &sink).await;
            let left: String = sink.ops().iter().map(|op| op.0).collect();
            assert_eq!(left, order, "age {age}, partitions: {partitions}");
        }
    }
}

/// Goal: age counts while partitions wait for a slot, too. Method: the only slot is taken while a low op becomes as
/// good as the high one that is due with it.
#[tokio::test(start_paused = true)]
async fn age_moves_a_due_partition_up_while_it_waits_for_a_slot() {
    let sink = Recorder::new();
    let gate = Gate::new(sink.clone());
    let (desk, _worker) = Batcher::new(gate.clone()).stages(by_level().aging(ms(10))).limits(1).spawn();
    desk.send(('x', 0, 0)).await.unwrap();
    gate.reached(1).await;
    desk.send_all([('a', 0, 1), ('b', 1, 2)]).await.unwrap();
    until_idle().await;
    advance(ms(10)).await;
    gate.open();
    assert_eq!(drained(&desk, &sink).await, [0, 1, 2]);
}

/// Goal: a conflated update keeps its place, and moves up if the newer one is more important. Method: of three keys the
/// second is updated with the same level, and then the third with a greater one.
#[tokio::test(start_paused = true)]
async fn a_conflated_update_keeps_its_place_or_moves_up() {
    let sink = Recorder::new();
    let stages = Stages::new().conflate_by(|op: &Op| op.0, stage::latest).priority_by(|op: &Op| op.1);
    let (desk, _worker) = Batcher::new(sink.clone()).stages(stages).limits(1).spawn();
    desk.pause().await.unwrap();
    desk.send_all([('a', 1, 0), ('b', 1, 1), ('c', 1, 2), ('b', 1, 3), ('c', 2, 4), ('a', 0, 5)]).await.unwrap();
    desk.resume().await.unwrap();
    assert_eq!(drained(&desk, &sink).await, [4, 5, 3]);
}

/// Goal: a stale value never leaves after a newer one. Method: a value fails while a newer one waits, of a greater and
/// of a lower level; only the newer one is written, and in the place of the older.
#[tokio::test(start_paused = true)]
async fn a_requeued_value_is_merged_with_the_newer_one() {
    for level in [0, 1, 2] {
        let sink = Recorder::new();
        let gate = Gate::new(Flaky::new(sink.clone()).fail(down()));
        let stages = Stages::new().conflate_by(|op: &Op| op.0, stage::latest).priority_by(|op: &Op| op.1);
        let (desk, _worker) = Batcher::new(gate.clone()).stages(stages).limits(1).retry(slow_retry()).spawn();
        desk.send(('a', 1, 0)).await.unwrap();
        gate.reached(1).await;
        desk.send_all([('b', 1, 1), ('a', level, 2)]).await.unwrap();
        gate.open();
        assert_eq!(drained(&desk, &sink).await, [2, 1], "level {level}");
    }
}

/// Goal: ops that must not be merged leave in the order of their key, whatever the priorities. Method: `Merge::Apart`
/// with a newer op of a greater level; the older one is lifted, and the two never share a batch.
#[tokio::test(start_paused = true)]
async fn ops_that_keep_both_leave_in_order_and_in_separate_batches() {
    let sink = Recorder::new();
    let apart = |waiting, newer| stage::Merge::Apart { waiting, newer };
    let stages = Stages::new().conflate_by(|op: &Op| op.0, apart).priority_by(|op: &Op| op.1);
    let (desk, _worker) = Batcher::new(sink.clone()).stages(stages).limits(10).spawn();
    desk.pause().await.unwrap();
    desk.send_all([('a', 0, 0), ('b', 1, 1), ('a', 2, 2), ('a', 1, 3)]).await.unwrap();
    desk.resume().await.unwrap();
    at_once(sink.wait_for(4)).await;
    assert_eq!(sink.batches().iter().map(|batch| numbers(batch)).collect::<Vec<_>>(), [vec![0], vec![2, 1], vec![3]]);
}

// Guards: expiry is asked before `behind` is looked at, and an op that expires does not hand its `behind` on to the next
// of its key, which then joins the batch of the oldest.
/// Goal: two ops of one key share no batch, so that none can land after a newer one, also if an op between them expires
/// as the batch is cut. Method: three ops that wait apart, of which the second expires; the first one is down once. It
/// must be written again before the third.
#[tokio::test(start_paused = true)]
async fn an_op_that_expires_between_two_of_its_key_does_not_let_them_share_a_batch() {
    let sink = Recorder::new();
    let flaky = Flaky::new(sink.clone()).fail_ops(|op: &Op| (op.2 == 0).then(down));
    let over = tokio::time::Instant::now() + ms(10);
    let apart = |waiting, newer| stage::Merge::Apart { waiting, newer };
    let stages = Stages::new().conflate_by(|op: &Op| op.0, apart).expire_by(move |op: &Op| (op.2 == 1).then_some(over));
    let (desk, _worker) = Batcher::new(flaky.clone()).stages(stages).limits(10).retry(slow_retry()).spawn();
    desk.pause().await.unwrap();
    desk.send_all([('a', 0, 0), ('a', 0, 1), ('a', 0, 2)]).await.unwrap();
    advance(ms(10)).await;
    desk.resume().await.unwrap();
    until_idle().await;
    flaky.heal();
    assert_eq!(drained(&desk, &sink).await, [0, 2]);
}

/// Goal: within a key, age lifts nothing above something older. Method: a sender that waits for room is old when its op
/// comes in, behind a younger one of a greater level that it can't be merged with, which is cut, or comes back in doubt.
#[tokio::test(start_paused = true)]
async fn an_op_that_waited_for_a_permit_stays_behind_earlier_ops() {
    let key = |op: &Op| (op.1 < 9).then_some(op.0);
    for in_doubt in [false, true] {
        let (sink, stages) = (Recorder::new(), Stages::new().priority_by(|op: &Op| op.1).aging(ms(10)));
        let stages = if in_doubt {
            stages.conflate_by(key, stage::latest)
        } else {
            stages.conflate_by(key, |waiting, newer| stage::Merge::Apart { waiting, newer })
        };
        let flaky = Flaky::new(sink.clone()).pass(1);
        let flaky = if in_doubt { flaky.fail(SinkError::ambiguous("unknown")) } else { flaky };
        let (desk, _worker) = Batcher::new(flaky)
            .stages(stages)
            .limits(Limits::new(1).max_pending(2))
            .idempotent()
            .retry(slow_retry())
            .spawn();
        desk.send((' ', 9, 0)).await.unwrap();
        sink.wait_for(1).await;
        let (first, second) = (desk.reserve().await.unwrap(), desk.reserve().await.unwrap());
        let late = desk.clone();
        let waits = tokio::spawn(async move { late.send((' ', 0, 2)).await });
        until_idle().await;
        advance(ms(25)).await;
        if !in_doubt {
            desk.pause().await.unwrap();
        }
        first.send((' ', 1, 1)).unwrap();
        until_idle().await;
        drop(second);
        waits.await.unwrap().unwrap();
        desk.resume().await.unwrap();
        assert_eq!(drained(&desk, &sink).await, [0, 1, 2], "in doubt: {in_doubt}");
    }
}
