//! Tests of batches on any stream: size, linger, the stages, the last partial batch, and bounded work.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{
    Stream, StreamExt,
    stream::{self, FusedStream},
};
use roundlot::{
    BatchExt, Batched, Limits, Stages, stage,
    testing::{advance, until_idle},
};
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use tokio_test::{assert_pending, assert_ready_eq, task};

use crate::{AGES, at_once, ms, secs, took};

/// Returns the sender of a stream, and the stream in batches.
fn fed(stages: Stages<u32>, limits: impl Into<Limits>) -> (mpsc::Sender<u32>, Batched<impl Stream<Item = u32>, u32>) {
    let (sender, receiver) = mpsc::channel(10_000);
    (sender, ReceiverStream::new(receiver).batched(stages, limits))
}

fn feed(sender: &mpsc::Sender<u32>, items: impl IntoIterator<Item = u32>) {
    items.into_iter().for_each(|item| sender.try_send(item).unwrap());
}

/// Returns all batches of items that are present from the start.
async fn all(items: impl IntoIterator<Item = u32>, stages: Stages<u32>, limits: impl Into<Limits>) -> Vec<Vec<u32>> {
    at_once(stream::iter(items).batched(stages, limits).collect()).await
}

/// Goal: full batches come at once, the last partial one when the stream ends. Method: seven items, three to a batch,
/// and a linger of ages.
#[tokio::test(start_paused = true)]
async fn full_batches_come_at_once_and_the_last_one_at_the_end() {
    assert_eq!(all(0..7, Stages::new(), (3, AGES)).await, [vec![0, 1, 2], vec![3, 4, 5], vec![6]]);
    assert!(all([], Stages::new(), 3).await.is_empty());
}

/// Goal: a batch comes when its oldest item has waited for the linger, and not before. Method: items at 0 and 6 ms
/// under a linger of 10 ms, and one at 10.
#[tokio::test(start_paused = true)]
async fn a_batch_comes_when_its_oldest_item_has_waited_for_the_linger() {
    let (sender, mut batches) = fed(Stages::new(), (10, ms(10)));
    let start = Instant::now();
    tokio::spawn(async move {
        for (item, wait) in [(1, 6), (2, 5), (3, 100)] {
            feed(&sender, [item]);
            advance(ms(wait)).await;
        }
    });
    assert_eq!(took(ms(10), batches.next()).await.unwrap(), [1, 2]);
    assert_eq!(batches.next().await.unwrap(), [3]);
    assert_eq!(start.elapsed(), ms(21));
}

/// Goal: with a linger of zero, all present items come at once. Method: two items, then three.
#[tokio::test(start_paused = true)]
async fn without_a_linger_ready_items_are_emitted_at_once() {
    let (sender, mut batches) = fed(Stages::new(), 10);
    feed(&sender, 0..2);
    assert_eq!(at_once(batches.next()).await.unwrap(), [0, 1]);
    feed(&sender, 2..5);
    assert_eq!(at_once(batches.next()).await.unwrap(), [2, 3, 4]);
}

/// Goal: a linger without end waits for the end of the stream. Method: `Duration::MAX`, and an hour.
#[tokio::test(start_paused = true)]
async fn a_linger_without_end_waits_for_the_end_of_the_stream() {
    let (sender, batches) = fed(Stages::new(), (10, Duration::MAX));
    let mut batches = task::spawn(batches);
    feed(&sender, [1]);
    assert_pending!(batches.poll_next());
    advance(secs(3600)).await;
    assert!(!batches.is_woken());
    drop(sender);
    assert_ready_eq!(batches.poll_next(), Some(vec![1]));
    assert_ready_eq!(batches.poll_next(), None);
}

/// Goal: each stage does to items what it does to ops. Method: a case for each stage, with items that are present at
/// once.
#[tokio::test(start_paused = true)]
async fn stages_apply_to_items_as_to_ops() {
    let over = Instant::now();
    let conflated = Stages::new().conflate_by(|item: &u32| item % 3, stage::latest);
    assert_eq!(all(0..8, conflated, 10).await, [[6, 7, 5]]);
    let netted = Stages::new().conflate_by(|item: &u32| item / 2, |_, _| None);
    assert_eq!(all([0, 2, 3, 4, 5, 6], netted, 10).await, [[0, 6]]);
    let deduplicated = Stages::new().dedup_by(|item: &u32| item % 3, AGES);
    assert_eq!(all(0..8, deduplicated, 10).await, [[0, 1, 2]]);
    let expired = Stages::new().expire_by(move |item: &u32| item.is_multiple_of(2).then_some(over));
    assert_eq!(all(0..6, expired, 10).await, [[1, 3, 5]]);
    let partitioned = Stages::new().partition_by(|item: &u32| item % 2);
    assert_eq!(all(0..6, partitioned, (2, AGES)).await, [vec![0, 2], vec![1, 3], vec![4], vec![5]]);
    let weighed = Stages::new().weigh_by(|item: &u32| *item as usize);
    assert_eq!(all([3, 3, 4, 9, 1], weighed, Limits::new(10).max_weight(10)).await, [vec![3, 3, 4], vec![9, 1]]);
    let by_level = Stages::new().priority_by(|item: &u32| item % 3);
    assert_eq!(all(0..6, by_level, (6, AGES)).await, [[2, 5, 1, 4, 0, 3]]);
}

/// Goal: an urgent item does not linger, and with `together` neither does any other partition. Method: two partitions.
#[tokio::test(start_paused = true)]
async fn an_urgent_item_does_not_linger() {
    for together in [false, true] {
        let mut stages = Stages::new().partition_by(|item: &u32| item % 2).urgent_by(|item| *item == 9);
        if together {
            stages = stages.together();
        }
        let (sender, batches) = fed(stages, (10, AGES));
        let mut batches = task::spawn(batches);
        feed(&sender, [1, 2, 9]);
        let mut came = BTreeSet::new();
        while let std::task::Poll::Ready(batch) = batches.poll_next() {
            came.extend(batch.unwrap());
        }
        assert_eq!(came.contains(&2), together);
        assert!(came.contains(&1) && came.contains(&9));
    }
}

/// Goal: an item that is heavier than the cap, or over which a stage panics, harms no other. Method: one of each among
/// others; it is not emitted, and counted.
#[tokio::test(start_paused = true)]
async fn an_item_that_cannot_be_emitted_harms_no_other() {
    let stages =
        Stages::new().weigh_by(|item: &u32| *item as usize).partition_by(|item: &u32| assert_ne!(*item, 7, "no key"));
    let mut batches = stream::iter([1, 100, 7, 2]).batched(stages, Limits::new(10).max_weight(50).linger(AGES));
    let mut came = Vec::new();
    while let Some(batch) = at_once(batches.next()).await {
        came.extend(batch);
    }
    let stats = batches.stats();
    assert_eq!((came, stats.accepted, stats.outcomes.delivered, stats.outcomes.refused), (vec![1, 2], 4, 2, 2));
}

/// Goal: waiting items never exceed `max_pending`, and a full buffer does not linger. Method: five items in five
/// partitions, and room for three.
#[tokio::test(start_paused = true)]
async fn a_full_buffer_does_not_linger() {
    let stages = Stages::new().partition_by(|item: &u32| *item);
    let limits = Limits::new(10).linger(AGES).max_pending(3);
    let (sender, mut batches) = fed(stages, limits);
    feed(&sender, 0..5);
    for item in 0..3 {
        assert_eq!(at_once(batches.next()).await.unwrap(), [item]);
        let stats = batches.stats();
        assert!(stats.waiting <= 3, "{stats:?}");
    }
}

/// Counts the items that are taken from an endless stream that is always ready.
fn endless() -> (Arc<AtomicUsize>, impl Stream<Item = u32>) {
    let taken = Arc::new(AtomicUsize::new(0));
    let items = stream::iter(0..).inspect({
        let taken = taken.clone();
        move |_| {
            taken.fetch_add(1, Ordering::Relaxed);
        }
    });
    (taken, items)
}

/// Goal: a stream that is always ready does not own the thread. Method: one all of whose items are repeats, or of one
/// key, or expired: a poll must end, ask to be polled again, and have taken no more than a few thousand items.
#[tokio::test(start_paused = true)]
async fn a_poll_does_bounded_work_on_a_stream_that_is_always_ready() {
    let over = Instant::now();
    let recipes = [
        Stages::new().dedup_by(|_: &u32| (), AGES),
        Stages::new().conflate_by(|_: &u32| (), stage::latest),
        Stages::new().expire_by(move |_: &u32| Some(over)),
    ];
    for (recipe, stages) in recipes.into_iter().enumerate() {
        let (taken, items) = endless();
        let limits = if recipe == 2 { Limits::new(10) } else { Limits::new(10).linger(AGES) };
        let mut batches = task::spawn(items.batched(stages, limits));
        for poll in 1..=3 {
            assert_pending!(batches.poll_next(), "recipe {recipe}");
            assert!(batches.is_woken());
            let taken = taken.load(Ordering::Relaxed);
            assert!(taken > 0 && taken <= poll * 4096, "{taken} items in {poll} polls");
        }
    }
}

/// Goal: the linger ends in time though the stream is always ready. Method: repeats without end, and one item before
/// them.
#[tokio::test(start_paused = true)]
async fn a_linger_ends_in_time_on_a_stream_that_is_always_ready() {
    let (_, items) = endless();
    let stages = Stages::new().dedup_by(|_: &u32| (), AGES);
    let mut batches = task::spawn(items.batched(stages, (10, ms(10))));
    assert_pending!(batches.poll_next());
    tokio::time::advance(ms(10)).await;
    assert_ready_eq!(batches.poll_next(), Some(vec![0]));
}

/// Goal: the batches backpressure the stream: it is polled only when they are, and not beyond a full one. Method: an
/// endless stream, three batches of four.
#[tokio::test(start_paused = true)]
async fn a_stream_reads_no_more_items_than_it_needs() {
    let (taken, items) = endless();
    let mut batches = items.batched(Stages::new(), (4, AGES));
    until_idle().await;
    assert_eq!(taken.load(Ordering::Relaxed), 0);
    for batch in 1..=3 {
        assert_eq!(batches.next().await.unwrap().len(), 4);
        assert_eq!(taken.load(Ordering::Relaxed), 4 * batch);
    }
}

/// Goal: the batches backpressure as well where items are spread: not beyond a full batch, and with small batches not
/// beyond a few of them. Method: an endless stream over two partitions, of which one is full after seven items; and
/// over more, of which none ever is.
#[tokio::test(start_paused = true)]
async fn a_stream_over_partitions_reads_no_more_items_than_it_needs() {
    let (taken, items) = endless();
    let mut batches = items.batched(Stages::new().partition_by(|item: &u32| item % 2), (4, AGES));
    assert_eq!(batches.next().await.unwrap(), [0, 2, 4, 6]);
    assert_eq!(taken.load(Ordering::Relaxed), 7);

    let (taken, items) = endless();
    let mut batches = items.batched(Stages::new().partition_by(|item: &u32| item % 10), 10);
    assert_eq!(batches.next().await.unwrap(), [0, 10, 20, 30], "more than one of a batch's worth");
    assert_eq!(taken.load(Ordering::Relaxed), 40);
}

/// Goal: giving the batches up hands back the rest of the stream and the waiting items, oldest first. Method: items of
/// two partitions and levels wait, and two have not been taken; and once the stream has ended.
#[tokio::test(start_paused = true)]
async fn into_parts_returns_the_stream_and_the_waiting_items() {
    let stages = || Stages::new().partition_by(|item: &u32| item % 2).priority_by(|item: &u32| *item);
    let (sender, mut batches) = fed(stages(), (10, AGES));
    feed(&sender, [3, 8, 5, 2]);
    let mut next = task::spawn(batches.next());
    assert_pending!(next.poll());
    drop(next);
    feed(&sender, [6, 7]);
    drop(sender);
    let (rest, waiting) = batches.into_parts();
    assert_eq!(waiting, [3, 8, 5, 2]);
    assert_eq!(rest.unwrap().collect::<Vec<_>>().await, [6, 7]);

    let mut batches = stream::iter([3, 8]).batched(stages(), (10, AGES));
    assert_eq!(batches.next().await.unwrap(), [8]);
    let (rest, waiting) = batches.into_parts();
    assert!(rest.is_none());
    assert_eq!(waiting, [3]);
}

/// Goal: items beyond a full batch are neither lost nor out of order. Method: thousands of keys, and a batch that is full in
/// the middle; then the stream goes on to its end, or is given up.
#[tokio::test(start_paused = true)]
async fn items_beyond_a_full_batch_stay_in_the_stream() {
    let batched = || {
        let stages = Stages::new().conflate_by(|item: &u32| *item, stage::latest);
        stream::iter(0..20_000).batched(stages, Limits::new(10_005).linger(AGES))
    };
    let mut batches = batched();
    assert!(batches.next().await.unwrap().into_iter().eq(0..10_005));
    assert!(batches.next().await.unwrap().into_iter().eq(10_005..20_000));
    assert_eq!(batches.next().await, None);

    let mut batches = batched();
    assert_eq!(batches.next().await.unwrap().len(), 10_005);
    let (rest, waiting) = batches.into_parts();
    assert!(waiting.is_empty(), "an item is taken only when there is room for it");
    let rest = rest.unwrap().collect::<Vec<_>>().await;
    assert!(waiting.into_iter().chain(rest).eq(10_005..20_000));
}

/// Goal: the batches stay ended after the end. Method: polls after `None`, and the `FusedStream` state on the way.
#[tokio::test(start_paused = true)]
async fn an_ended_stream_stays_ended() {
    let mut batches = stream::iter([1, 2, 3]).batched(Stages::new(), (2, AGES));
    assert!(!batches.is_terminated());
    assert_eq!(batches.next().await.unwrap(), [1, 2]);
    assert_eq!(batches.next().await.unwrap(), [3]);
    for _ in 0..3 {
        assert_eq!(batches.next().await, None);
        assert!(batches.is_terminated());
    }
}

/// Goal: no wake-up without waiting items. Method: a batch has come, its linger would end, and an hour passes.
#[tokio::test(start_paused = true)]
async fn an_idle_stream_is_not_woken_for_an_hour() {
    let (sender, batches) = fed(Stages::new(), (2, ms(10)));
    let mut batches = task::spawn(batches);
    feed(&sender, [1]);
    assert_pending!(batches.poll_next());
    feed(&sender, [2]);
    assert_ready_eq!(batches.poll_next(), Some(vec![1, 2]));
    assert_pending!(batches.poll_next());
    advance(secs(3600)).await;
    assert!(!batches.is_woken());
}

/// Goal: contradictions are errors that name the field. Method: the contradictions that a batcher refuses.
#[test]
fn contradictions_are_errors() {
    let field = |stages, limits: Limits| stream::empty::<u32>().try_batched(stages, limits).unwrap_err().field();
    assert_eq!(field(Stages::new(), Limits::new(0)), "max_items");
    assert_eq!(field(Stages::new(), Limits::new(1).max_weight(1)), "max_weight");
    assert_eq!(field(Stages::new().aging(ms(1)), Limits::new(1)), "aging");
}
