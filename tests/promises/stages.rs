//! Tests of the stages: urgent, together, expiry, and partitions that cost nothing afterwards. The order of calls on
//! `Stages` has no effect.

use std::{
    hash::{Hash, Hasher},
    sync::atomic::{AtomicIsize, Ordering},
    time::SystemTime,
};

use futures::{StreamExt, stream::iter};
use roundlot::{
    AckError, Batch, BatchExt, Batcher, CutBy, End, Limits, Stages, sink_fn, stage,
    testing::{Gate, Recorder, advance, until_idle},
};
use tokio::time::Instant;

use crate::{AGES, at_once, conserved, ms};

/// Partition, key, level, and a number.
type Op = (char, char, u32, u32);

/// Goal: an op past its time of day is never sent, by a batcher or in a stream, though the clock goes on while that is checked.
/// Method: a time that is long over, and the clock is not paused.
#[tokio::test]
async fn a_time_of_day_that_is_over_expires() {
    let is_odd = |op: &u32| (op % 2 == 1).then_some(SystemTime::UNIX_EPOCH);
    let sink = Recorder::new();
    let (desk, _worker) = Batcher::new(sink.clone()).stages(Stages::new().expire_at(is_odd)).spawn();
    assert!(matches!(desk.submit(1).await.unwrap().await, Err(AckError::Expired)));
    desk.submit(2).await.unwrap().await.unwrap();
    assert_eq!(sink.ops(), [2]);
    let batches = iter([1, 2, 3, 4]).batched(Stages::new().expire_at(is_odd), 10);
    assert_eq!(batches.collect::<Vec<_>>().await.concat(), [2, 4]);
}

/// Goal: an urgent op makes only its own partition due at once, with the ops that wait there. Method: two partitions
/// that linger for ages.
#[tokio::test(start_paused = true)]
async fn an_urgent_op_takes_its_partition_with_it_and_no_other() {
    let sink = Recorder::new();
    let stages = Stages::new().partition_by(|op: &u32| op % 2).urgent_by(|op| *op >= 100);
    let (desk, _worker) = Batcher::new(sink.clone()).stages(stages).limits((10, AGES)).spawn();
    desk.send_all([1, 2, 3]).await.unwrap();
    until_idle().await;
    assert!(sink.is_empty());
    desk.send(101).await.unwrap();
    at_once(sink.wait_for(3)).await;
    assert_eq!((sink.batches(), sink.cuts()), (vec![vec![1, 3, 101]], vec![CutBy::Urgent]));
    desk.send(5).await.unwrap();
    until_idle().await;
    assert_eq!(desk.stats().waiting, 2, "what comes after it lingers");
}

/// Goal: an urgent op does not linger behind a full batch. Method: it is the seventh in a partition whose batches hold
/// three.
#[tokio::test(start_paused = true)]
async fn an_urgent_op_far_back_in_its_queue_does_not_linger() {
    let sink = Recorder::new();
    let (desk, _worker) =
        Batcher::new(sink.clone()).stages(Stages::new().urgent_by(|op: &u32| *op == 6)).limits((3, AGES)).spawn();
    desk.pause().await.unwrap();
    desk.send_all(0..7).await.unwrap();
    desk.resume().await.unwrap();
    at_once(sink.wait_for(7)).await;
    assert_eq!(sink.cuts(), [CutBy::Full, CutBy::Full, CutBy::Urgent]);
}

/// Goal: with `together`, one due partition makes all of them due; later ops linger. Method: three partitions; the
/// linger of the first ends, and then the batch of one is full.
#[tokio::test(start_paused = true)]
async fn with_together_one_due_partition_makes_all_partitions_due() {
    let sink = Recorder::new();
    let stages = Stages::new().partition_by(|op: &u32| op / 10).together();
    let (desk, _worker) = Batcher::new(sink.clone()).stages(stages).limits((2, ms(10))).spawn();
    for op in [10, 20, 30] {
        desk.send(op).await.unwrap();
        advance(ms(3)).await;
    }
    advance(ms(1)).await;
    assert_eq!(sink.batches(), [[10], [20], [30]]);
    assert_eq!(sink.cuts(), [CutBy::Linger, CutBy::Together, CutBy::Together]);
    sink.take();
    desk.send(40).await.unwrap();
    advance(ms(5)).await;
    assert!(sink.is_empty());
    desk.send_all([50, 51]).await.unwrap();
    at_once(sink.wait_for(3)).await;
    assert_eq!(sink.cuts(), [CutBy::Together, CutBy::Full]);
}

/// Goal: expiry is checked when a batch is cut: an op is expired at the very instant of its deadline. Method: an op
/// that expires at 10 ms; it is cut at 9, at 10, and at 11 ms, by the end of a pause.
#[tokio::test(start_paused = true)]
async fn an_op_expires_at_the_cut_after_a_pause() {
    for (resumed_at, end) in [(9, End::Delivered), (10, End::Expired), (11, End::Expired)] {
        let over = Instant::now() + ms(10);
        let stages = Stages::new().expire_by(move |_: &u32| Some(over));
        let (desk, _worker) = Batcher::new(Recorder::new()).stages(stages).limits(10).spawn();
        desk.pause().await.unwrap();
        let ack = desk.submit(1).await.unwrap();
        advance(ms(resumed_at)).await;
        desk.resume().await.unwrap();
        assert_eq!(at_once(ack.outcome()).await.end, end, "resumed at {resumed_at} ms");
    }
}

/// Goal: an op that expires while it waits for a slot is not sent; its neighbors are, and one already in flight is not
/// taken back. Method: a gate that is shut until the time is over.
#[tokio::test(start_paused = true)]
async fn an_op_that_expires_while_the_sink_is_busy_is_not_sent() {
    let sink = Recorder::new();
    let gate = Gate::new(sink.clone());
    let over = Instant::now() + ms(10);
    let stages = Stages::new().expire_by(move |op: &u32| (*op < 10).then_some(over));
    let (desk, _worker) = Batcher::new(gate.clone()).stages(stages).limits(1).spawn();
    desk.send_all([1, 2, 11]).await.unwrap();
    gate.reached(1).await;
    advance(ms(20)).await;
    gate.open();
    let report = at_once(desk.flush()).await.unwrap();
    assert_eq!((sink.ops(), report.outcomes.expired, report.is_ok()), (vec![1, 11], 1, true));
}

/// Goal: calls on `Stages` may come in any order and mean the same. Method: all rules in one order and in the other,
/// with the same ops; the batches must be equal.
#[tokio::test(start_paused = true)]
async fn stages_may_be_configured_in_any_order() {
    let over = Instant::now() + ms(10);
    let forward = Stages::<Op>::new()
        .dedup_by(|op| op.3 % 7, AGES)
        .partition_by(|op| op.0)
        .conflate_by(|op| op.1, stage::latest)
        .priority_by(|op| op.2)
        .aging(ms(50))
        .urgent_by(|op| op.3 == 99)
        .expire_by(move |op| (op.1 == 'e').then_some(over))
        .weigh_by(|op| op.3 as usize)
        .together();
    let backward = Stages::<Op>::new()
        .together()
        .weigh_by(|op| op.3 as usize)
        .expire_by(move |op| (op.1 == 'e').then_some(over))
        .urgent_by(|op| op.3 == 99)
        .aging(ms(50))
        .priority_by(|op| op.2)
        .conflate_by(|op| op.1, stage::latest)
        .partition_by(|op| op.0)
        .dedup_by(|op| op.3 % 7, AGES);
    let mut all = Vec::new();
    for stages in [forward, backward] {
        let sink = Recorder::new();
        let limits = Limits::new(3).max_weight(100).linger(ms(20));
        let (desk, _worker) = Batcher::new(sink.clone()).stages(stages).limits(limits).spawn();
        desk.pause().await.unwrap();
        for number in 0..20 {
            let part = ['a', 'b'][number as usize % 2];
            let key = ['c', 'd', 'e', 'f', 'g'][number as usize % 5];
            desk.send((part, key, number % 3, number * 5 + 4)).await.unwrap();
        }
        advance(ms(15)).await;
        desk.resume().await.unwrap();
        let _ = at_once(desk.flush()).await.unwrap();
        let stats = desk.stats();
        conserved(&stats);
        assert!(
            stats.outcomes.deduplicated > 0
                && stats.outcomes.conflated > 0
                && stats.outcomes.expired > 0
                && stats.outcomes.delivered > 0
        );
        all.push(sink.batches());
    }
    assert_eq!(all[0], all[1]);
}

/// Number of keys that are alive.
static KEYS: AtomicIsize = AtomicIsize::new(0);

/// A key that counts itself.
#[derive(PartialEq, Eq)]
struct Counted(u32);

impl Counted {
    fn new(key: u32) -> Self {
        KEYS.fetch_add(1, Ordering::Relaxed);
        Self(key)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        KEYS.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Hash for Counted {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

/// Goal: a symbol seen once costs nothing afterwards. Method: 50,000 keys of partition, conflation and dedup, each for
/// one op; once all is settled and the window of dedup is over, no key is alive but that of the last op.
#[tokio::test(start_paused = true)]
async fn partitions_and_keys_used_once_leave_no_memory_behind() {
    const SYMBOLS: u32 = 50_000;
    let sink = sink_fn(|batch: &mut Batch<u32>| Box::pin(async move { Ok(batch.accept_all()) }));
    let stages = Stages::new()
        .partition_by(|op: &u32| Counted::new(*op))
        .conflate_by(|op| Some(Counted::new(*op)), stage::latest)
        .dedup_by(|op| Some(Counted::new(*op)), ms(10));
    let (desk, _worker) = Batcher::new(sink).stages(stages).limits(Limits::new(10).max_in_flight(4)).spawn();
    desk.send_all(0..SYMBOLS).await.unwrap();
    assert_eq!(at_once(desk.flush()).await.unwrap().outcomes.delivered, u64::from(SYMBOLS));
    // Each op counts two keys: the partition lives as long as a key of dedup names it.
    assert_eq!(KEYS.load(Ordering::Relaxed), 2 * SYMBOLS as isize);
    advance(ms(10)).await;
    desk.send(SYMBOLS).await.unwrap();
    assert_eq!(at_once(desk.flush()).await.unwrap().outcomes.delivered, 1);
    assert_eq!(KEYS.load(Ordering::Relaxed), 2);
}
