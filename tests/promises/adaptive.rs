//! Tests of the cap by the time of writes: the promises hold while it searches, and it holds what it is meant to hold.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::StreamExt;
use proptest::prelude::*;
use roundlot::{
    Batch, BatchExt, Batcher, CapReason, Handle, Limits, Retry, Settled, Sink, SinkError, Stages, Stats,
    testing::until_idle,
};
use tokio::time::sleep;

use crate::ms;

#[derive(Debug, Clone, Copy)]
struct Op {
    id: u64,
    part: u64,
    key: Option<u64>,
}

/// A destination whose writes take more time per op beyond a size, and fail now and then.
#[derive(Debug, Clone)]
struct Knee {
    at: u64,
    /// Writes per failure, which take each kind of error in turn; 0: none fails.
    fails: usize,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    writes: usize,
    in_flight: usize,
    most_in_flight: usize,
    largest: usize,
    /// The last op that landed, of each partition, or of each key where ops are merged.
    last: HashMap<(u64, Option<u64>), u64>,
    landed: u64,
    out_of_order: bool,
}

/// A guard that ends a write, however it ends.
struct InFlight(Arc<Mutex<Seen>>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.lock().unwrap().in_flight -= 1;
    }
}

impl Knee {
    fn new(at: u64, fails: usize) -> Self {
        Self { at, fails, seen: Arc::default() }
    }

    fn begin(&self, batch: &Batch<Op>) -> (InFlight, Option<SinkError>) {
        let mut seen = self.seen.lock().unwrap();
        seen.writes += 1;
        seen.in_flight += 1;
        seen.most_in_flight = seen.most_in_flight.max(seen.in_flight);
        seen.largest = seen.largest.max(batch.len());
        let fails = self.fails > 0 && seen.writes.is_multiple_of(self.fails);
        let error = fails.then(|| match seen.writes / self.fails % 5 {
            0 => SinkError::transient("scripted"),
            // One op that is too large by itself is refused.
            1 if batch.len() > 1 => SinkError::too_large("scripted"),
            2 => SinkError::outage("scripted"),
            3 => SinkError::throttled(ms(30)),
            _ => SinkError::connection_lost("scripted"),
        });
        (InFlight(Arc::clone(&self.seen)), error)
    }
}

impl Sink<Op> for Knee {
    async fn write(&self, batch: &mut Batch<Op>) -> Result<Settled, SinkError> {
        let (_in_flight, error) = self.begin(batch);
        let size = batch.len() as u64;
        let beyond = size.saturating_sub(self.at);
        sleep(ms(2 + size / 4 + beyond * beyond / self.at)).await;
        if let Some(error) = error {
            return Err(error);
        }
        let mut seen = self.seen.lock().unwrap();
        for op in batch.iter() {
            let last = seen.last.insert((op.part, op.key), op.id);
            seen.out_of_order |= last.is_some_and(|last| last > op.id);
        }
        seen.landed += size;
        Ok(batch.accept_all())
    }
}

fn ops(count: u64, parts: u64, keys: Option<u64>) -> impl Iterator<Item = Op> {
    (0..count).map(move |id| Op { id, part: id % parts, key: keys.map(|keys| id / parts % keys) })
}

fn conserved(stats: &Stats) -> bool {
    stats.accepted == stats.ended() + stats.waiting + stats.in_flight
}

/// Sends ops in chunks, changing the limits between them now and then.
async fn send(desk: &Handle<Op>, ops: impl Iterator<Item = Op>, limits: &Limits, changes: &[usize]) {
    let mut changes = changes.iter();
    let ops: Vec<Op> = ops.collect();
    for chunk in ops.chunks(1000) {
        desk.send_all(chunk.to_vec()).await.unwrap();
        assert!(conserved(&desk.stats()), "{:?}", desk.stats());
        if let Some(items) = changes.next() {
            desk.set_limits(limits.clone().max_items(*items).adaptive(items % 5 != 0)).unwrap();
        }
    }
}

/// Goal: a cap near the knee is held, and told, and named as the reason. Method: a queue that does not end before a destination
/// whose knee is at 50.
#[tokio::test(start_paused = true)]
async fn a_cap_near_the_knee_is_held() {
    let sink = Knee::new(50, 0);
    let limits = Limits::new(10_000).adaptive(true);
    let (desk, worker) = Batcher::new(sink.clone()).limits(limits.clone()).spawn();
    send(&desk, ops(100_000, 1, None), &limits, &[]).await;
    let size = desk.stats().size;
    assert!(matches!(size.reason, CapReason::Held | CapReason::Test), "{size:?}");
    assert!((30..100).contains(&size.cap), "{size:?}");
    desk.flush().await.unwrap();
    let stats = worker.shutdown().await.unwrap().stats;
    assert_eq!(stats.outcomes.delivered, 100_000);
    assert!(!sink.seen.lock().unwrap().out_of_order);
}

/// Goal: a trickle sees the same with and without. Method: lone ops; the batches and times of both are compared.
#[tokio::test(start_paused = true)]
async fn a_trickle_is_the_same_with_and_without() {
    let mut all = Vec::new();
    for adaptive in [false, true] {
        let sink = Knee::new(50, 0);
        let (desk, worker) = Batcher::new(sink).limits(Limits::new(10_000).adaptive(adaptive)).spawn();
        for op in ops(2000, 1, None) {
            desk.send(op).await.unwrap();
            sleep(ms(op.id * 7 % 11)).await;
        }
        let stats = worker.shutdown().await.unwrap().stats;
        let Stats { batches, cuts, in_buffer, waiting_time, writing_time, outcomes, .. } = stats;
        all.push((batches, cuts, in_buffer, waiting_time, writing_time, outcomes));
    }
    assert_eq!(all[0], all[1]);
}

/// Goal: the floor holds. Method: a knee far below it.
#[tokio::test(start_paused = true)]
async fn no_cap_is_below_the_floor() {
    let limits = Limits::new(5000).adaptive(true).adaptive_floor(200);
    let (desk, worker) = Batcher::new(Knee::new(20, 0)).limits(limits).spawn();
    until_idle().await;
    for _ in 0..50 {
        desk.send_all(ops(1000, 1, None).collect::<Vec<_>>()).await.unwrap();
        assert!(desk.stats().size.cap >= 200, "{:?}", desk.stats().size);
    }
    worker.shutdown().within(Duration::ZERO).await.unwrap();
}

/// Goal: a stream, which has no writes, does not change. Method: more items than any first cap.
#[tokio::test(start_paused = true)]
async fn a_stream_ignores_it() {
    let batches = async |adaptive| -> Vec<usize> {
        let stream = futures::stream::iter(ops(5000, 1, None));
        let batched = stream.batched(Stages::new(), Limits::new(5000).adaptive(adaptive));
        batched.map(|batch| batch.len()).collect().await
    };
    let with = batches(true).await;
    assert_eq!(with, batches(false).await);
    assert!(with[0] > 256, "the first cap of a batcher");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Goal: every promise holds while sizes are searched: conservation, caps, order, writes in flight. Method: destinations
    /// with a knee and failures of all kinds, partitions, conflation, timeouts, limits that change and switch it off and on.
    #[test]
    fn the_promises_hold_while_sizes_are_searched(
        (at, fails) in (4u64..150, prop_oneof![Just(0usize), 3usize..40]),
        (parts, in_flight) in (1u64..4, 1usize..4),
        keys in prop::option::of(50u64..3000),
        timeout in prop::option::of(100u64..3000),
        changes in prop::collection::vec(1usize..1500, 0..12),
        (items, weight, bisect) in (1usize..1500, prop::option::of(20usize..900), any::<bool>()),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let (sink, most) = (Knee::new(at, fails), changes.iter().copied().max().unwrap_or(0).max(items));
        let mut limits = Limits::new(items).max_pending(4000).max_in_flight(in_flight).adaptive(true);
        limits.max_weight = weight;
        limits.write_timeout = timeout.map(ms);
        let mut stages = Stages::new().partition_by(|op: &Op| op.part).weigh_by(|_| 1);
        if keys.is_some() {
            stages = stages.conflate_by(|op| op.key, roundlot::stage::latest);
        }
        let stats = runtime.block_on(async {
            let retry = Retry::exponential(ms(1), ms(20)).max_attempts(u32::MAX).seed(1);
            let batcher = Batcher::new(sink.clone()).stages(stages).limits(limits.clone()).retry(retry).idempotent();
            let batcher = if bisect { batcher.bisect() } else { batcher };
            let (desk, worker) = batcher.spawn();
            send(&desk, ops(20_000, parts, keys), &limits, &changes).await;
            worker.shutdown().within(Duration::from_secs(100_000)).await.unwrap().stats
        });
        prop_assert!(conserved(&stats), "{stats:?}");
        let seen = sink.seen.lock().unwrap();
        prop_assert_eq!(stats.accepted, 20_000);
        prop_assert_eq!(seen.landed, stats.outcomes.delivered);
        prop_assert_eq!(stats.outcomes.delivered + stats.outcomes.conflated, 20_000, "{:?}", stats);
        prop_assert!(seen.largest <= most.min(weight.unwrap_or(usize::MAX)), "{} ops", seen.largest);
        prop_assert!(seen.most_in_flight <= in_flight.min(parts as usize));
        prop_assert!(!seen.out_of_order, "order within a partition");
    }
}
