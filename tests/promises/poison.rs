//! Tests of promise 7: bisecting isolates the ops that a sink refuses as a batch, and a batch that is too large is
//! split.

use std::collections::BTreeSet;

use roundlot::{
    Batch, Batcher, DeadLetter, End, Limits, Sink, SinkError, sink_fn,
    testing::{Recorder, until_idle},
};

use crate::{AGES, at_once, conserved};

/// Returns a sink that accepts or refuses the whole batch. Poison, or more than `most` ops, makes it refuse.
fn all_or_nothing(poison: impl IntoIterator<Item = u32>, most: usize) -> (Recorder<u32>, impl Sink<u32>) {
    let inner = Recorder::new();
    let poison: BTreeSet<u32> = poison.into_iter().collect();
    let sink = sink_fn({
        let inner = inner.clone();
        move |batch: &mut Batch<u32>| {
            let inner = inner.clone();
            let verdict = if batch.len() > most {
                Err(SinkError::too_large("too many"))
            } else if batch.iter().any(|op| poison.contains(op)) {
                Err(SinkError::refused("poison"))
            } else {
                Ok(())
            };
            Box::pin(async move {
                verdict?;
                Sink::write(&inner, batch).await
            })
        }
    });
    (inner, sink)
}

/// Goal: of n ops, k poisoned ones are found in O(k log n) writes, and all others land, in order. Method: 256 ops and
/// poison at the ends, side by side, spread out, and everywhere.
#[tokio::test(start_paused = true)]
async fn poison_is_isolated_in_few_writes_and_the_rest_lands() {
    let cases = [vec![], vec![0], vec![255], vec![100, 101], vec![3, 77, 130, 200], (0..256).collect()];
    for poison in cases {
        let (landed, sink) = all_or_nothing(poison.clone(), usize::MAX);
        let letters = Recorder::<u32>::new();
        let (desk, _worker) = Batcher::new(sink)
            .limits((256, AGES))
            .bisect()
            .dead_letters(letters.clone().map(|letter: &DeadLetter<u32>| letter.op))
            .spawn();
        desk.send_all(0..256).await.unwrap();
        let report = at_once(desk.flush()).await.unwrap();
        until_idle().await;
        let k = poison.len();
        assert_eq!((report.outcomes.delivered, report.outcomes.refused), (256 - k as u64, k as u64));
        assert_eq!(letters.ops(), poison);
        assert_eq!(landed.ops(), (0..256).filter(|op| !poison.contains(op)).collect::<Vec<_>>());
        // Halving costs two writes for each of log2(256) levels and each poisoned op, at most; all of it is 511.
        let stats = desk.stats();
        assert!(stats.batches <= (1 + 2 * 8 * k as u64).min(511), "{k} poisoned: {} writes", stats.batches);
        assert_eq!(stats.retries, 0, "being in a batch with poison is no failed attempt");
        conserved(&stats);
    }
}

/// Goal: callers are told the same: refused for the poison, delivered for the rest, at the first attempt. Method: five
/// ops, one of them poisoned.
#[tokio::test(start_paused = true)]
async fn only_poisoned_ops_are_refused() {
    let (_, sink) = all_or_nothing([2], usize::MAX);
    let (desk, _worker) = Batcher::new(sink).limits((5, AGES)).bisect().spawn();
    let mut acks = Vec::new();
    for op in 0..5 {
        acks.push(desk.submit(op).await.unwrap());
    }
    for (op, ack) in acks.into_iter().enumerate() {
        let outcome = at_once(ack.outcome()).await;
        let expected = if op == 2 { End::Refused } else { End::Delivered };
        assert_eq!((outcome.end, outcome.attempts), (expected, 1));
    }
}

/// Goal: without `bisect` a refusal is for the whole batch. Method: the same sink, one write.
#[tokio::test(start_paused = true)]
async fn without_bisect_a_refused_batch_is_refused() {
    let (landed, sink) = all_or_nothing([2], usize::MAX);
    let (desk, _worker) = Batcher::new(sink).limits((5, AGES)).spawn();
    desk.send_all(0..5).await.unwrap();
    assert_eq!(at_once(desk.flush()).await.unwrap().outcomes.refused, 5);
    assert!(landed.is_empty());
}

/// Goal: ops that come while a batch is being halved are not harmed, and wait behind it. Method: one poisoned op of
/// four, and four more ops of the same partition after each write.
#[tokio::test(start_paused = true)]
async fn new_ops_wait_behind_the_halves() {
    let (landed, sink) = all_or_nothing([1], usize::MAX);
    let gate = roundlot::testing::Gate::new(sink);
    let (desk, _worker) = Batcher::new(gate.clone()).limits((4, AGES)).bisect().spawn();
    desk.send_all(0..4).await.unwrap();
    gate.reached(1).await;
    desk.send_all(4..8).await.unwrap();
    gate.open();
    assert_eq!(at_once(desk.flush()).await.unwrap().outcomes.refused, 1);
    assert_eq!(landed.batches(), [vec![0], vec![2, 3], vec![4, 5, 6, 7]]);
}

/// Goal: a batch that is too large is split until it fits, without `bisect`; one op that is too large by itself is
/// refused. Method: a destination that takes three, and one that takes none.
#[tokio::test(start_paused = true)]
async fn a_batch_that_is_too_large_is_split_and_a_single_op_is_refused() {
    for (most, delivered, refused) in [(3, 10, 0), (0, 0, 10)] {
        let (landed, sink) = all_or_nothing([], most);
        let (desk, _worker) = Batcher::new(sink).limits((10, AGES)).spawn();
        desk.send_all(0..10).await.unwrap();
        let report = at_once(desk.flush()).await.unwrap();
        assert_eq!((report.outcomes.delivered, report.outcomes.refused), (delivered, refused));
        assert!(landed.batches().iter().all(|batch| batch.len() <= most));
        assert!(desk.stats().splits > 0);
    }
}

/// Goal: a split leaves nothing behind: the next batches are as large as the limits say. Method: a batch is split, then
/// a full one that passes.
#[tokio::test(start_paused = true)]
async fn after_a_split_batches_are_full_again() {
    let inner = Recorder::new();
    let flaky = roundlot::testing::Flaky::new(inner.clone()).fail(SinkError::too_large("too many"));
    let (desk, _worker) = Batcher::new(flaky).limits(Limits::new(8).linger(AGES)).spawn();
    desk.send_all(0..24).await.unwrap();
    let _ = at_once(desk.flush()).await.unwrap();
    assert_eq!(inner.batches().iter().map(Vec::len).collect::<Vec<_>>(), [4, 4, 8, 8]);
}

// Guards: parts of a split that outlive the ops they were made for, while other ops wait behind them.
/// Goal: the same, where the halves are never written. Method: all of a split batch is withdrawn, and only later ops
/// stay.
#[tokio::test(start_paused = true)]
async fn withdrawn_halves_make_no_later_batch_smaller() {
    let inner = Recorder::new();
    let gate = roundlot::testing::Gate::new(
        roundlot::testing::Flaky::new(inner.clone()).fail(SinkError::too_large("too many")),
    );
    let (desk, _worker) = Batcher::new(gate.clone()).limits(Limits::new(4).linger(AGES)).spawn();
    desk.send_all(0..4).await.unwrap();
    gate.reached(1).await;
    desk.send_all(4..8).await.unwrap();
    desk.pause().await.unwrap();
    gate.open();
    until_idle().await;
    assert_eq!(at_once(desk.withdraw(|op| *op < 4)).await.unwrap(), [0, 1, 2, 3]);
    desk.resume().await.unwrap();
    let _ = at_once(desk.flush()).await.unwrap();
    assert_eq!(inner.batches(), [[4, 5, 6, 7]]);
}
