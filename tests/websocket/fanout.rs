//! Tests of the fanout on a paused clock, with sinks in memory.

use std::time::Duration;

use roundlot::{
    Batcher, Fanout, Feed, Limits, Overflow, Sink, SinkError, Stages, Subscription,
    fanout::{Ended, SubscribeError},
    stage,
    testing::{Flaky, Gate, Recorder, until_idle},
};
use tokio::time::Instant;

use super::{eventually, ms, secs};

/// A key and a version.
type Quote = (u8, u32);

type Quotes = Feed<Quote, u8>;

fn quotes() -> (Quotes, roundlot::Worker<Quote>) {
    Fanout::by(|quote: &Quote| quote.0).spawn()
}

async fn publish(feed: &Quotes, quotes: &[Quote]) {
    quotes.iter().for_each(|quote| feed.publish(*quote).unwrap());
    feed.flush().await.unwrap();
}

async fn subscribe(feed: &Quotes, sink: impl Sink<Quote>, topics: &[u8]) -> Subscription<Quote, u8> {
    feed.subscribe(sink).to(topics.iter().copied()).start().await.unwrap()
}

/// Goal: the snapshot of the wanted topics comes first, then the updates. Method: two topics, and one that comes later.
#[tokio::test(start_paused = true)]
async fn a_new_subscriber_gets_the_latest_first() {
    let (feed, _worker) = quotes();
    publish(&feed, &[(1, 1), (2, 1), (1, 2), (3, 1)]).await;
    let screen = Recorder::new();
    let _subscription = subscribe(&feed, screen.clone(), &[1, 3, 9]).await;
    assert_eq!(screen.wait_for(2).await, [(1, 2), (3, 1)]);
    publish(&feed, &[(2, 2), (9, 1), (1, 3)]).await;
    assert_eq!(screen.wait_for(4).await[2..], [(9, 1), (1, 3)]);
    let all = Recorder::new();
    let _all = feed.subscribe(all.clone()).to_all().start().await.unwrap();
    assert_eq!(all.wait_for(4).await, [(1, 3), (2, 2), (3, 1), (9, 1)], "in the order in which keys came");
    publish(&feed, &[(7, 7)]).await;
    assert_eq!(all.wait_for(5).await[4], (7, 7));
}

/// Goal: a slow subscriber gets the latest values when it is ready, a fast one every update, and the feed never waits.
/// Method: one subscriber behind a gate, one not; then the gate opens.
#[tokio::test(start_paused = true)]
async fn a_slow_subscriber_gets_the_latest_and_a_fast_one_all_updates() {
    let (feed, _worker) = quotes();
    let (fast, slow) = (Recorder::new(), Recorder::new());
    let gate = Gate::new(slow.clone());
    let _fast = feed.subscribe(fast.clone()).to([1, 2]).stages(Stages::new()).start().await.unwrap();
    let subscription = subscribe(&feed, gate.clone(), &[1, 2]).await;
    let before = Instant::now();
    for version in 0..1000 {
        publish(&feed, &[(1, version), (2, version)]).await;
        until_idle().await;
    }
    assert_eq!(before.elapsed(), Duration::ZERO);
    assert_eq!(fast.len(), 2000);
    assert_eq!(slow.len(), 0);
    let stats = subscription.stats();
    assert!(stats.waiting + stats.in_flight <= 4, "{stats:?}");
    gate.open();
    // The ops in flight when the gate was shut, and the latest of each key.
    assert_eq!(slow.wait_for(4).await, [(1, 0), (2, 0), (1, 999), (2, 999)]);
}

/// Goal: topics change while a subscription runs. An added topic comes with its latest value; a waiting update of a
/// removed topic is taken back. Method: a gate, so that updates wait.
#[tokio::test(start_paused = true)]
async fn topics_can_be_added_and_removed() {
    let (feed, _worker) = quotes();
    publish(&feed, &[(1, 1), (2, 1), (3, 1)]).await;
    let screen = Recorder::new();
    let gate = Gate::new(screen.clone());
    let mut subscription = subscribe(&feed, gate.clone(), &[1]).await;
    gate.reached(1).await;
    subscription.add([2, 3, 1]).await.unwrap();
    publish(&feed, &[(2, 2), (1, 2)]).await;
    subscription.remove([2, 200]).await;
    publish(&feed, &[(2, 3), (3, 2)]).await;
    gate.open();
    assert_eq!(screen.wait_for(3).await, [(1, 1), (3, 2), (1, 2)]);
    assert_eq!(subscription.stats().outcomes.withdrawn, 1);
    subscription.add([2]).await.unwrap();
    assert_eq!(screen.wait_for(4).await[3], (2, 3), "what it missed comes as a snapshot");
    subscription.add_all().await.unwrap();
    publish(&feed, &[(8, 8)]).await;
    assert_eq!(screen.wait_for(8).await[7], (8, 8));
    subscription.remove([8]).await;
    publish(&feed, &[(8, 9)]).await;
    assert_eq!(screen.wait_for(9).await[8], (8, 9), "a subscriber to all topics stays subscribed to all");
}

/// Goal: a subscriber that takes nothing is dropped after its time, not before, and no other subscriber notices. Method: one shut
/// gate, one open.
#[tokio::test(start_paused = true)]
async fn a_stuck_subscriber_is_dropped() {
    let (feed, _worker) = quotes();
    let (fast, stuck) = (Recorder::new(), Recorder::new());
    let gate = Gate::new(stuck.clone());
    let _fast = subscribe(&feed, fast.clone(), &[1]).await;
    let limits = Limits::new(10).shutdown_timeout(secs(1));
    let dropped = feed.subscribe(gate.clone()).to([1]).limits(limits).stuck_after(secs(5)).start().await.unwrap();
    tokio::time::sleep(secs(100)).await;
    assert!(!dropped.is_ended(), "it had nothing to take");
    let before = Instant::now();
    for version in 0..20 {
        publish(&feed, &[(1, version)]).await;
        tokio::time::sleep(ms(500)).await;
    }
    assert!(matches!(eventually(dropped.ended()).await, Ended::Stuck(limit) if limit == secs(5)));
    assert_eq!(before.elapsed(), secs(10), "it ended while the feed went on");
    assert_eq!(fast.len(), 20);
    assert!(stuck.is_closed());
    let stats = feed.stats();
    assert_eq!((stats.subscribers, stats.stuck, stats.failed), (1, 1, 0));
}

/// Goal: a subscriber that fails with "not now" for ever is dropped, too; one that takes an op now and then is not.
/// Method: sinks that fail.
#[tokio::test(start_paused = true)]
async fn a_sink_with_endless_transient_failures_is_stuck() {
    let (feed, _worker) = quotes();
    let down = || SinkError::transient("down");
    let never = Flaky::new(Recorder::new()).fail_times(1_000_000, down());
    let rarely = Flaky::new(Recorder::new());
    (0..20).for_each(|_| drop(rarely.fail_times(4, down()).pass(1)));
    let start = async |sink| feed.subscribe(sink).to([1]).stuck_after(secs(5)).start().await.unwrap();
    let (never, rarely) = (start(never).await, start(rarely).await);
    for version in 0..100 {
        publish(&feed, &[(1, version)]).await;
        tokio::time::sleep(ms(200)).await;
    }
    assert!(matches!(eventually(never.ended()).await, Ended::Stuck(_)));
    assert!(!rarely.is_ended());
}

/// Goal: a sink that will take nothing any more ends its subscription, with its reason. Method: it refuses a batch.
#[tokio::test(start_paused = true)]
async fn a_sink_that_refuses_for_good_ends_its_subscription() {
    let (feed, _worker) = quotes();
    let recorder = Recorder::new();
    let sink = Flaky::new(recorder.clone()).pass(1).fail(SinkError::refused("final: the peer is gone"));
    let subscription = subscribe(&feed, sink, &[1]).await;
    publish(&feed, &[(1, 1)]).await;
    recorder.wait_for(1).await;
    publish(&feed, &[(1, 2)]).await;
    let ended = eventually(subscription.ended()).await;
    assert_eq!(ended.to_string(), "the subscriber is gone: refused: final: the peer is gone");
    publish(&feed, &[(1, 3)]).await;
    assert_eq!(feed.stats().subscribers, 0);
    assert_eq!((feed.stats().failed, feed.stats().offered), (1, 2));
}

/// Goal: memory is bounded, whatever a subscriber asks for. Method: more keys than room, a sink that takes nothing.
#[tokio::test(start_paused = true)]
async fn the_buffer_of_a_subscriber_is_bounded() {
    for overflow in [Overflow::Wait, Overflow::EvictOldest, Overflow::Reject] {
        let (feed, _worker) = quotes();
        let gate = Gate::new(Recorder::new());
        let limits = Limits::new(4).max_pending(10).overflow(overflow);
        let subscription =
            feed.subscribe(gate.clone()).to(100..200).stages(Stages::new()).limits(limits).start().await.unwrap();
        for key in 100..200 {
            publish(&feed, &[(key, 1), (key, 2)]).await;
            let stats = subscription.stats();
            until_idle().await;
            assert!(stats.waiting + stats.in_flight <= 12, "{stats:?}");
        }
        let stats = subscription.stats();
        assert_eq!(stats.waiting + stats.in_flight, 10);
        assert_eq!(stats.outcomes.evicted > 0, overflow != Overflow::Reject);
        assert_eq!(feed.stats().missed > 0, overflow == Overflow::Reject, "what a subscriber rejects is counted");
    }
}

/// Goal: a snapshot is whole or refused. Method: more values than room.
#[tokio::test(start_paused = true)]
async fn a_snapshot_that_finds_no_room_is_refused() {
    let (feed, _worker) = quotes();
    publish(&feed, &(0..20).map(|key| (key, 1)).collect::<Vec<_>>()).await;
    let screen = Recorder::new();
    let error =
        feed.subscribe(screen.clone()).to_all().limits(Limits::new(4).max_pending(19)).start().await.unwrap_err();
    assert_eq!(error, SubscribeError::NoRoom { values: 20, room: 19 });
    eventually(screen.wait_closed()).await;
    assert_eq!((screen.len(), feed.stats().subscribers), (0, 0));

    let gate = Gate::new(Recorder::new());
    let mut subscription = feed.subscribe(gate).to(0..10).limits(Limits::new(4).max_pending(19)).start().await.unwrap();
    let error = subscription.add(10..20).await.unwrap_err();
    assert_eq!(error, SubscribeError::NoRoom { values: 10, room: 9 });
    assert_eq!(subscription.add(10..19).await, Ok(()));

    let many = feed.subscribe(Recorder::new()).to((0..=u8::MAX).cycle().take(100_000)).start().await;
    assert!(many.is_ok(), "the same topic again is none more");
}

/// Goal: updates without a key are all handed on, and are in no snapshot. Method: fills beside quotes.
#[tokio::test(start_paused = true)]
async fn updates_without_a_key_are_all_published() {
    let (feed, _worker) = Fanout::by(|op: &Quote| op.0).key_by(|op| (op.0 != 7).then_some(())).spawn();
    let screen = Recorder::new();
    let _first = feed.subscribe(screen.clone()).to([7]).start().await.unwrap();
    for version in 0..500 {
        feed.publish((7, version)).unwrap();
    }
    assert_eq!(screen.wait_for(500).await, (0..500).map(|version| (7, version)).collect::<Vec<_>>());
    let late = Recorder::new();
    let _late = feed.subscribe(late.clone()).to([7]).start().await.unwrap();
    until_idle().await;
    assert_eq!((late.len(), feed.stats().keys), (0, 0));
}

/// Goal: the memory for snapshots is bounded. Method: more keys than the bound.
#[tokio::test(start_paused = true)]
async fn keys_beyond_the_limit_are_published_but_not_in_snapshots() {
    let (feed, _worker) = Fanout::by(|op: &Quote| op.0).max_keys(3).spawn();
    let screen = Recorder::new();
    let _all = feed.subscribe(screen.clone()).to_all().start().await.unwrap();
    publish(&feed, &[(1, 1), (2, 1), (3, 1), (4, 1), (1, 2), (4, 2)]).await;
    assert_eq!(screen.wait_for(4).await.len(), 4);
    let late = Recorder::new();
    let _late = feed.subscribe(late.clone()).to_all().start().await.unwrap();
    assert_eq!(late.wait_for(3).await, [(1, 2), (2, 1), (3, 1)]);
    assert_eq!((feed.stats().keys, feed.stats().forgotten), (3, 1));
}

/// Goal: the feed's end drains to every subscriber and closes its sink. Method: drop the last feed; and shut down.
#[tokio::test(start_paused = true)]
async fn the_end_of_the_feed_ends_every_subscription() {
    for shutdown in [false, true] {
        let (feed, worker) = quotes();
        let screens: Vec<Recorder<Quote>> = (0..10).map(|_| Recorder::new()).collect();
        let mut subscriptions = Vec::new();
        for screen in &screens {
            subscriptions.push(subscribe(&feed, screen.clone(), &[1]).await);
        }
        feed.publish((1, 1)).unwrap();
        let summary = if shutdown {
            let summary = eventually(worker.shutdown().into_future()).await.unwrap();
            assert!(feed.publish((1, 2)).unwrap_err().is_closed());
            let late = feed.subscribe(Recorder::new()).start().await.unwrap_err();
            assert_eq!(late, SubscribeError::Closed);
            summary
        } else {
            drop(feed);
            eventually(worker.join()).await.unwrap()
        };
        assert_eq!(summary.stats.outcomes.delivered, 1);
        assert!(screens.iter().all(|screen| screen.ops() == [(1, 1)] && screen.is_closed()));
        for subscription in subscriptions {
            assert!(matches!(eventually(subscription.ended()).await, Ended::Closed));
        }
    }
}

/// Goal: a subscription that is dropped or closed ends, writes what waits, and is forgotten. Method: both.
#[tokio::test(start_paused = true)]
async fn a_subscription_ends_when_it_is_dropped_or_closed() {
    let (feed, _worker) = quotes();
    let (dropped, closed) = (Recorder::new(), Recorder::new());
    drop(subscribe(&feed, dropped.clone(), &[1]).await);
    let subscription = subscribe(&feed, closed.clone(), &[1]).await;
    publish(&feed, &[(1, 1)]).await;
    assert!(matches!(eventually(subscription.close()).await, Ended::Closed));
    eventually(dropped.wait_closed()).await;
    assert_eq!(closed.ops(), [(1, 1)]);
    publish(&feed, &[(1, 2)]).await;
    let stats = feed.stats();
    assert_eq!((stats.subscribers, stats.subscribed, stats.closed), (0, 2, 2));
}

/// Goal: the fanout is an ordinary batcher's neighbor: settings that contradict each other are told. Method: bad limits.
#[tokio::test(start_paused = true)]
async fn contradicting_settings_are_errors() {
    assert_eq!(Fanout::by(|op: &Quote| op.0).limits(0).try_spawn().unwrap_err().field(), "max_items");
    let (feed, _worker) = quotes();
    let error = feed.subscribe(Recorder::new()).limits(Limits::new(1).max_weight(1)).start().await.unwrap_err();
    assert!(error.to_string().contains("max_weight"), "{error}");
    let stages = Stages::new().conflate_by(|op: &Quote| op.0, stage::latest);
    assert!(feed.subscribe(Recorder::new()).stages(stages).start().await.is_ok());
    let (desk, _desk) = Batcher::new(Recorder::<Quote>::new()).spawn();
    desk.send((1, 1)).await.unwrap();
}

/// Goal: a list of topics from a browser costs the feed no time, however long it is. Method: more than the maximum,
/// each one new; in quadratic time this would take minutes.
#[tokio::test(start_paused = true)]
async fn too_many_topics_are_refused_at_once() {
    let (feed, _worker) = Fanout::by(|topic: &u32| *topic).spawn();
    let subscribed = feed.subscribe(Recorder::new()).to(0..1_000_000).start().await;
    assert!(matches!(subscribed, Err(SubscribeError::TooManyTopics { .. })));
}

/// Goal: a value that is too heavy for a subscriber keeps nothing behind it from it. Method: one in a snapshot and one in
/// an update, with others on both sides.
#[tokio::test(start_paused = true)]
async fn a_value_above_max_weight_is_skipped_alone() {
    let (feed, _worker) = quotes();
    publish(&feed, &[(1, 1), (2, 500), (3, 1)]).await;
    let screen = Recorder::new();
    let light = Stages::new().weigh_by(|quote: &Quote| quote.1 as usize);
    let subscribe = feed.subscribe(screen.clone()).to([1, 2, 3]).stages(light);
    let _subscription = subscribe.limits(Limits::new(10).max_weight(100)).start().await.unwrap();
    publish(&feed, &[(1, 2), (2, 600), (3, 2)]).await;
    assert_eq!(screen.wait_for(4).await, [(1, 1), (3, 1), (1, 2), (3, 2)]);
    assert_eq!(feed.stats().missed, 1);
}

/// Goal: however the feed ends, its subscribers are told. Method: its worker is dropped with its runtime's task aborted, by
/// way of a driver that is polled once and dropped.
#[tokio::test(start_paused = true)]
async fn subscribers_end_with_a_feed_that_is_lost() {
    let other = std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (feed, _worker) = runtime.block_on(async { quotes() });
        (feed, runtime)
    });
    let (feed, runtime) = other.join().unwrap();
    let subscription = subscribe(&feed, Recorder::new(), &[1]).await;
    runtime.shutdown_background();
    assert!(matches!(eventually(subscription.ended()).await, Ended::Closed));
}
