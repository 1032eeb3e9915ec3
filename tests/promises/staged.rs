//! Tests of the rules by themselves on a stream: each alone, when it decides, how much it reads, and what it hands on.

use std::{
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
use roundlot::{BatchExt, Limits, Staged, Stages, stage, testing::advance};
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::{ReceiverStream, UnboundedReceiverStream};
use tokio_test::{assert_pending, assert_ready_eq, task};

use crate::{AGES, at_once, eventually, ms, secs};

type Sender = mpsc::UnboundedSender<u32>;

/// Returns the sender of a stream, and the stream without a rule.
fn fed() -> (Sender, Staged<impl Stream<Item = u32>, u32>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (sender, UnboundedReceiverStream::new(receiver).stages())
}

fn feed(sender: &Sender, items: impl IntoIterator<Item = u32>) {
    items.into_iter().for_each(|item| sender.send(item).unwrap());
}

/// Returns all items that come of those that are present from the start.
async fn all(items: impl IntoIterator<Item = u32>, rules: impl FnOnce(Items) -> Items) -> Vec<u32> {
    let items: Vec<u32> = items.into_iter().collect();
    at_once(rules(stream::iter(items).stages()).collect()).await
}

type Items = Staged<stream::Iter<std::vec::IntoIter<u32>>, u32>;

/// Goal: each rule can be used alone. Method: a case for each, with items that are present at once.
#[tokio::test(start_paused = true)]
async fn each_rule_works_alone() {
    let over = Instant::now();
    assert_eq!(all(0..8, |items| items).await, [0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(all(0..8, |items| items.conflate_by(|item| item % 3, stage::latest)).await, [6, 7, 5]);
    assert_eq!(all([0, 2, 3, 4], |items| items.conflate_by(|item| item / 2, |_, _| None)).await, [0, 4]);
    assert_eq!(all(0..8, |items| items.dedup_by(|item| item % 3, AGES)).await, [0, 1, 2]);
    assert_eq!(all(0..6, |items| items.priority_by(|item| item % 3)).await, [2, 5, 1, 4, 0, 3]);
    let expires = move |item: &u32| item.is_multiple_of(2).then_some(over);
    assert_eq!(all(0..6, |items| items.expire_by(expires)).await, [1, 3, 5]);
}

/// Goal: rules that say something of batches alone leave single items as they are, and keys hold within a partition.
/// Method: each of them, and a partition with conflation.
#[tokio::test(start_paused = true)]
async fn rules_about_batches_leave_single_items_in_order() {
    let order = [3, 1, 2, 1, 9];
    assert_eq!(all(order, |items| items.partition_by(|item| item % 2)).await, order);
    assert_eq!(all(order, |items| items.partition_by(|item| item % 2).together()).await, order);
    assert_eq!(all(order, |items| items.urgent_by(|item| *item == 9)).await, order);
    assert_eq!(all(order, |items| items.weigh_by(|item| *item as usize)).await, order);
    assert_eq!(all(order, |items| items.weigh_by(|_| usize::MAX)).await, order);
    let conflated = |items: Items| items.partition_by(|item| item % 2).conflate_by(|_| (), stage::latest);
    assert_eq!(all(order, conflated).await, [9, 2]);
}

/// Goal: which item goes next is decided when the consumer polls. Method: newer and greater items come between polls.
#[tokio::test(start_paused = true)]
async fn an_item_is_decided_when_the_consumer_polls() {
    let (sender, items) = fed();
    let mut items = items.conflate_by(|item| item % 10, stage::latest).priority_by(|item| item % 10 == 7);
    feed(&sender, [1, 2]);
    assert_eq!(at_once(items.next()).await, Some(1));
    feed(&sender, [12, 11]);
    assert_eq!(at_once(items.next()).await, Some(12), "2 was replaced in its place");
    feed(&sender, [21, 7, 17]);
    assert_eq!(at_once(items.next()).await, Some(17));
    assert_eq!(at_once(items.next()).await, Some(21));
    assert!(task::spawn(items.next()).poll().is_pending(), "nothing waits");
}

/// Goal: an item that waits ages and expires while the consumer is away. Method: 20 ms pass.
#[tokio::test(start_paused = true)]
async fn time_passes_for_items_that_wait() {
    let start = Instant::now();
    let (sender, items) = fed();
    let levels = |items: Staged<_, u32>| items.priority_by(|item: &u32| item % 3).aging(ms(10));
    let mut items = levels(items).expire_by(move |item| Some(start + ms(u64::from(*item))));
    feed(&sender, [60, 61, 15, 62]);
    assert_eq!(at_once(items.next()).await, Some(62));
    advance(ms(20)).await;
    feed(&sender, [63, 64, 65]);
    assert_eq!(at_once(items.next()).await, Some(60), "it has risen by two levels");
    assert_eq!(at_once(items.next()).await, Some(61));
    assert_eq!(at_once(items.next()).await, Some(65));
    assert_eq!(at_once(items.next()).await, Some(64));
    assert_eq!(at_once(items.next()).await, Some(63));
    assert_eq!(items.stats().outcomes.expired, 1);
}

/// Goal: no item lingers, and no timer runs. Method: an idle stream, an hour, then an item.
#[tokio::test(start_paused = true)]
async fn nothing_lingers_and_an_idle_stream_is_not_woken() {
    let (sender, items) = fed();
    let mut items = task::spawn(items.conflate_by(|item| *item, stage::latest));
    assert_pending!(items.poll_next());
    advance(secs(3600)).await;
    assert!(!items.is_woken());
    feed(&sender, [1]);
    assert!(items.is_woken());
    assert_ready_eq!(items.poll_next(), Some(1));
}

/// Counts the items that are taken from an endless stream that is always ready.
fn endless() -> (Arc<AtomicUsize>, impl Stream<Item = u32>) {
    let taken = Arc::new(AtomicUsize::new(0));
    let count = taken.clone();
    let items = stream::iter(0..).inspect(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
    });
    (taken, items)
}

/// Goal: memory is bounded, and without need nothing is read ahead. Method: an endless stream; the documented number of
/// items with a rule that may choose, one without.
#[tokio::test(start_paused = true)]
async fn no_more_than_the_documented_number_of_items_waits() {
    let (taken, items) = endless();
    let mut greatest = items.stages().priority_by(|item| *item);
    assert_eq!(taken.load(Ordering::Relaxed), 0, "nothing is read before it is polled");
    assert_eq!(greatest.next().await, Some(1023));
    assert_eq!(taken.load(Ordering::Relaxed), 1024);
    assert_eq!(greatest.next().await, Some(1024));
    assert_eq!((taken.load(Ordering::Relaxed), greatest.stats().waiting), (1025, 1023));

    for rules in [|items: Boxed| items.stages(), |items: Boxed| items.stages().expire_by(|_| None::<Instant>)] {
        let (taken, items) = endless();
        let mut items = rules(items.boxed());
        assert_eq!(items.next().await, Some(0));
        assert_eq!(items.next().await, Some(1));
        assert_eq!(taken.load(Ordering::Relaxed), 2);
    }
}

type Boxed = stream::BoxStream<'static, u32>;

/// Goal: a stream that is always ready does not own the thread. Method: one of repeats, of one key, of expired items; a
/// poll takes no more than the documented number. A consumer that never waits yields, too.
#[tokio::test(start_paused = true)]
async fn a_poll_does_bounded_work_on_a_stream_that_is_always_ready() {
    let over = Instant::now();
    let (taken, items) = endless();
    let mut repeats = task::spawn(items.stages().dedup_by(|_| (), AGES));
    assert_ready_eq!(repeats.poll_next(), Some(0));
    assert_pending!(repeats.poll_next());
    assert!(repeats.is_woken());
    assert_eq!(taken.load(Ordering::Relaxed), 2 * 1024);

    let (taken, items) = endless();
    let mut latest = task::spawn(items.stages().conflate_by(|_| (), stage::latest));
    assert_ready_eq!(latest.poll_next(), Some(1023));
    assert_eq!(taken.load(Ordering::Relaxed), 1024);

    let (taken, items) = endless();
    let mut expired = task::spawn(items.stages().expire_by(move |_| Some(over)));
    assert_pending!(expired.poll_next());
    assert!(expired.is_woken());
    let taken = taken.load(Ordering::Relaxed);
    assert!((500..=1024).contains(&taken), "{taken} items in one poll");

    let (_, items) = endless();
    let (mut items, others) = (items.stages(), Arc::new(AtomicUsize::new(0)));
    let other = others.clone();
    tokio::spawn(async move {
        other.fetch_add(1, Ordering::Relaxed);
    });
    while others.load(Ordering::Relaxed) == 0 {
        assert!(items.next().await.unwrap() < 10_000, "no other task runs");
    }
}

/// Goal: a consumer that never waits gets what is new, also from a channel that spends cooperative budget. Method: a
/// thousand keys with an old value each, then a new one; of each key the new one comes, but for the few that were
/// emitted before the budget was renewed.
#[tokio::test(start_paused = true)]
async fn a_channel_that_spends_budget_does_not_make_items_stale() {
    let (sender, items) = fed();
    let mut items = items.conflate_by(|item| item % 1000, stage::latest);
    feed(&sender, 0..2000);
    drop(sender);
    let mut stale = 0;
    while let Some(item) = at_once(items.next()).await {
        stale += usize::from(item < 1000);
    }
    assert!(stale <= 1000 / 64, "{stale} items were stale");
}

/// Goal: a stream that backpressures is held up. Method: a bounded channel, whose sender waits until items leave.
#[tokio::test(start_paused = true)]
async fn a_bounded_channel_is_held_up() {
    let (sender, receiver) = mpsc::channel(4);
    let mut items = ReceiverStream::new(receiver).stages();
    (0..4).for_each(|item| sender.try_send(item).unwrap());
    assert!(sender.try_send(4).is_err());
    assert_eq!(at_once(items.next()).await, Some(0));
    assert!(sender.try_send(4).is_ok());
    assert!(sender.try_send(5).is_err());
}

/// Goal: dropping `next()` loses nothing, and giving up hands all back. Method: a `next()` that was polled, and one item
/// that was emitted.
#[tokio::test(start_paused = true)]
async fn a_dropped_next_and_into_parts_lose_nothing() {
    let (sender, mut items) = fed();
    items = items.priority_by(|item| *item);
    let mut next = task::spawn(items.next());
    assert_pending!(next.poll());
    drop(next);
    feed(&sender, [3, 8, 5]);
    assert_eq!(at_once(items.next()).await, Some(8));
    feed(&sender, [6]);
    drop(sender);
    let (rest, waiting) = items.into_parts();
    assert_eq!(waiting, [3, 5]);
    assert_eq!(rest.unwrap().collect::<Vec<_>>().await, [6]);
}

/// Goal: the stream ends once, with all that waited emitted. Method: polls after `None`, and the `FusedStream` state.
#[tokio::test(start_paused = true)]
async fn an_ended_stream_stays_ended() {
    let mut items = stream::iter([1, 2]).stages().priority_by(|item| *item);
    for item in [2, 1] {
        assert!(!items.is_terminated());
        assert_eq!(items.next().await, Some(item));
    }
    for _ in 0..3 {
        assert_eq!(items.next().await, None);
        assert!(items.is_terminated());
    }
    assert!(items.into_parts().0.is_none());
}

/// Goal: an item over which a rule panics harms no other. Method: one among three.
#[tokio::test(start_paused = true)]
async fn an_item_over_which_a_rule_panics_harms_no_other() {
    let mut items = stream::iter([1, 7, 2]).stages().priority_by(|item: &u32| assert_ne!(*item, 7, "no level"));
    assert_eq!(eventually(items.by_ref().collect::<Vec<_>>()).await, [1, 2]);
    assert_eq!(items.stats().outcomes.refused, 1);
}

/// Goal: rules and then batches are the same as batches with those rules. Method: both, of the same items.
#[tokio::test(start_paused = true)]
async fn rules_then_batches_are_batches_with_the_rules() {
    let items = || stream::iter((0..500).map(|item| item * 7 % 101));
    let limits = Limits::new(10).linger(ms(5)).max_weight(300);
    let stages = Stages::new()
        .partition_by(|item: &u32| item % 3)
        .conflate_by(|item| item % 50, stage::latest)
        .dedup_by(|item| *item, secs(1))
        .priority_by(|item| item % 4)
        .aging(ms(1))
        .weigh_by(|item| *item as usize);
    let staged = items()
        .stages()
        .partition_by(|item| item % 3)
        .conflate_by(|item| item % 50, stage::latest)
        .dedup_by(|item| *item, secs(1))
        .priority_by(|item| item % 4)
        .aging(ms(1))
        .weigh_by(|item| *item as usize);
    let expected: Vec<_> = eventually(items().batched(stages, limits.clone()).collect()).await;
    let batches: Vec<_> = eventually(staged.batched(limits).collect()).await;
    assert!(batches.len() > 5, "{batches:?}");
    assert_eq!(batches, expected);
}

/// Goal: batches may begin in the middle. Method: items wait, one of them a repeat's first; they go on under the limits.
#[tokio::test(start_paused = true)]
async fn batches_go_on_with_what_waits() {
    let (sender, mut items) = fed();
    items = items.dedup_by(|item| *item, AGES);
    feed(&sender, [1, 2, 3]);
    assert_eq!(at_once(items.next()).await, Some(1));
    let mut batches = items.batched((3, ms(10)));
    feed(&sender, [1, 3, 4]);
    assert_eq!(at_once(batches.next()).await.unwrap(), [2, 3, 4]);
    feed(&sender, [5]);
    let before = Instant::now();
    assert_eq!(batches.next().await.unwrap(), [5]);
    assert_eq!(before.elapsed(), ms(10));
}

/// Goal: contradictions are errors that name the field. Method: those of the limits, with and without items.
#[test]
fn contradictions_are_errors() {
    let items = || stream::iter([1u32]).stages();
    assert_eq!(items().try_batched(0).unwrap_err().field(), "max_items");
    assert_eq!(items().try_batched(Limits::new(1).max_weight(1)).unwrap_err().field(), "max_weight");
    assert!(items().weigh_by(|_| 1).try_batched(Limits::new(1).max_weight(1)).is_ok());
}

/// Goal: aging without levels is refused where it is written. Method: a panic that names the reason.
#[test]
#[should_panic(expected = "aging needs a priority_by stage")]
fn aging_without_levels_panics() {
    let _ = stream::empty::<u32>().stages().aging(Duration::from_millis(1));
}

/// Goal: a rule comes before the items that it is for. Method: a panic that says so.
#[tokio::test]
#[should_panic(expected = "a rule must be chosen before the stream has taken in an item")]
async fn a_rule_after_an_item_panics() {
    let mut items = stream::iter([1u32, 2]).stages();
    assert_eq!(items.next().await, Some(1));
    let _ = items.dedup_by(|item| *item, AGES);
}
