//! Tests of quotas: what is over stays in the buffer and is decided late, and nothing goes that is not allowed.

use std::{future::IntoFuture, time::Duration};

use roundlot::{
    AckError, Batch, Batcher, Bucket, End, Limits, Quota, Retry, SendError, SharedBucket, SinkError, Stages, sink_fn,
    stage::{self, Merge},
    testing::{Flaky, Recorder, advance, until_idle},
};
use tokio::time::Instant;

use crate::{at_once, conserved, down, eventually, ms, secs, took};

/// An op: its symbol, and a value.
type Op = (char, u32);

/// A quota of ops per second, without jitter.
fn ops(limit: u64) -> Quota<Op> {
    Quota::new().bucket("ops", per_second(limit))
}

fn per_second<T>(limit: u64) -> Bucket<T> {
    Bucket::rolling(limit, secs(1)).jitter(Duration::ZERO).unpaced()
}

fn numbered(from: u32, to: u32) -> Vec<Op> {
    (from..to).map(|value| ('a', value)).collect()
}

/// Goal: a batch is trimmed to what is left, and the rest goes as soon as it may. Method: 25 ops, ten of which may go in a
/// second.
#[tokio::test(start_paused = true)]
async fn a_batch_is_trimmed_to_what_is_left() {
    let sink = Recorder::<Op>::new();
    let start = Instant::now();
    let (desk, _worker) = Batcher::new(sink.clone()).quota(ops(10)).spawn();
    desk.send_all(numbered(0, 25)).await.unwrap();
    took(secs(2), desk.flush()).await.unwrap();
    let sizes: Vec<usize> = sink.batches().iter().map(Vec::len).collect();
    let times: Vec<Duration> = sink.times().iter().map(|time| *time - start).collect();
    assert_eq!((sizes, times), (vec![10, 10, 5], vec![secs(0), secs(1), secs(2)]));
    assert_eq!(sink.ops(), numbered(0, 25));
    let stats = desk.stats();
    assert_eq!((stats.quota.time().max, stats.waiting_time.max), (secs(2), secs(0)));
    assert_eq!((stats.quota["ops"].used, stats.quota["ops"].limit), (5, 10));
    assert!(stats.quota["ops"].waited >= 2);
    conserved(&stats);
}

/// Goal: a price that is overtaken while the quota is spent is replaced. Method: two prices after the quota is used up.
#[tokio::test(start_paused = true)]
async fn a_price_that_is_overtaken_is_replaced() {
    let sink = Recorder::new();
    let stages = Stages::new().conflate_by(|op: &Op| op.0, stage::latest);
    let (desk, _worker) = Batcher::new(sink.clone()).stages(stages).quota(ops(1)).spawn();
    for value in 0..5 {
        desk.send(('a', value)).await.unwrap();
        until_idle().await;
    }
    took(secs(1), desk.flush()).await.unwrap();
    assert_eq!(sink.ops(), [('a', 0), ('a', 4)]);
}

/// Goal: an order that is canceled while the quota is spent is never sent. Method: a merge that nets.
#[tokio::test(start_paused = true)]
async fn an_order_that_is_canceled_is_netted() {
    let sink = Recorder::new();
    let stages = Stages::new().conflate_by(|op: &Op| op.0, |_, _| Merge::Net);
    let (desk, _worker) = Batcher::new(sink.clone()).stages(stages).quota(ops(1)).spawn();
    desk.send(('x', 0)).await.unwrap();
    until_idle().await;
    let (order, cancel) = (desk.submit(('a', 1)).await.unwrap(), desk.submit(('a', 2)).await.unwrap());
    assert!(matches!(at_once(order).await, Err(AckError::Netted)));
    assert!(matches!(at_once(cancel).await, Err(AckError::Netted)));
    took(secs(0), desk.flush()).await.unwrap();
    assert_eq!(sink.ops(), [('x', 0)]);
}

/// Goal: an op that expires while the quota is spent is told so when its turn comes, and costs nothing. Method: a deadline
/// within the window.
#[tokio::test(start_paused = true)]
async fn an_op_that_expires_is_told_so() {
    let sink = Recorder::new();
    let deadline = Instant::now() + ms(500);
    let stages = Stages::new().expire_by(move |op: &Op| (op.0 == 'e').then_some(deadline));
    let (desk, _worker) = Batcher::new(sink.clone()).stages(stages).quota(ops(1)).spawn();
    desk.send(('x', 0)).await.unwrap();
    until_idle().await;
    let expired = desk.submit(('e', 1)).await.unwrap();
    desk.send(('x', 2)).await.unwrap();
    assert!(matches!(took(secs(1), expired).await, Err(AckError::Expired)));
    took(secs(0), desk.flush()).await.unwrap();
    assert_eq!(sink.ops(), [('x', 0), ('x', 2)]);
}

/// Goal: what comes free goes to the greatest priority, of all partitions. Method: ops of three levels wait for one unit a
/// second.
#[tokio::test(start_paused = true)]
async fn priorities_decide_who_gets_what_comes_free() {
    let sink = Recorder::new();
    let stages = Stages::new().partition_by(|op: &Op| op.0).priority_by(|op: &Op| op.1);
    let limits = Limits::new(10).max_in_flight(4);
    let (desk, _worker) = Batcher::new(sink.clone()).stages(stages).limits(limits).quota(ops(1)).spawn();
    desk.send(('a', 0)).await.unwrap();
    until_idle().await;
    for op in [('b', 1), ('c', 3), ('a', 2), ('b', 4)] {
        desk.send(op).await.unwrap();
        until_idle().await;
    }
    took(secs(4), desk.flush()).await.unwrap();
    assert_eq!(sink.ops(), [('a', 0), ('b', 4), ('c', 3), ('a', 2), ('b', 1)]);
}

/// Goal: shutdown keeps to the quota, and gives back what can't go within its time. Method: ops for three seconds, of which it has
/// half.
#[tokio::test(start_paused = true)]
async fn a_shutdown_breaks_no_quota_and_loses_nothing() {
    let sink = Recorder::new();
    let (desk, worker) = Batcher::new(sink.clone()).quota(ops(2)).spawn();
    desk.send_all(numbered(0, 6)).await.unwrap();
    let summary = took(secs(1), worker.shutdown().within(ms(1500)).into_future()).await.unwrap();
    assert_eq!(sink.ops(), numbered(0, 4));
    let returned: Vec<Op> = summary.returned.into_iter().map(|returned| returned.op).collect();
    assert_eq!(returned, numbered(4, 6));
    conserved(&summary.stats);
}

/// Goal: nothing goes while paused, though the quota has room again. Method: a pause over the end of the window.
#[tokio::test(start_paused = true)]
async fn a_pause_holds_with_a_quota() {
    let sink = Recorder::new();
    let (desk, _worker) = Batcher::new(sink.clone()).quota(ops(1)).spawn();
    desk.send_all(numbered(0, 2)).await.unwrap();
    until_idle().await;
    at_once(desk.pause()).await.unwrap();
    advance(secs(5)).await;
    assert_eq!(sink.ops(), [('a', 0)]);
    at_once(desk.resume()).await.unwrap();
    took(secs(0), desk.flush()).await.unwrap();
    assert_eq!(sink.ops(), numbered(0, 2));
}

/// Goal: ops that wait for the quota can be withdrawn. Method: all are, and none goes later.
#[tokio::test(start_paused = true)]
async fn ops_that_wait_for_the_quota_can_be_withdrawn() {
    let sink = Recorder::new();
    let (desk, _worker) = Batcher::new(sink.clone()).quota(ops(1)).spawn();
    desk.send_all(numbered(0, 4)).await.unwrap();
    until_idle().await;
    assert_eq!(at_once(desk.withdraw(|_| true)).await.unwrap(), numbered(1, 4));
    advance(secs(5)).await;
    assert_eq!(sink.ops(), [('a', 0)]);
}

/// Goal: a key that has nothing left holds up no other. Method: a bucket per symbol.
#[tokio::test(start_paused = true)]
async fn a_spent_key_holds_up_no_other() {
    let sink = Recorder::new();
    let quota = Quota::new().bucket("pair", per_second(2).by(|op: &Op| op.0));
    let stages = Stages::new().partition_by(|op: &Op| op.0);
    let (desk, _worker) = Batcher::new(sink.clone()).stages(stages).quota(quota).spawn();
    let mut ops = numbered(0, 4);
    ops.extend([('b', 0), ('c', 0)]);
    desk.send_all(ops).await.unwrap();
    until_idle().await;
    let mut sent = sink.ops();
    sent.sort_unstable();
    assert_eq!(sent, [('a', 0), ('a', 1), ('b', 0), ('c', 0)]);
    assert_eq!(desk.stats().quota["pair"].used, 2);
    took(secs(1), desk.flush()).await.unwrap();
    assert_eq!(sink.ops()[4..], numbered(2, 4));
}

/// Goal: a counter that decays lets ops go one by one. Method: a counter of 3 that falls by 2 per second.
#[tokio::test(start_paused = true)]
async fn a_decaying_counter_lets_ops_go_as_it_falls() {
    let sink = Recorder::new();
    let start = Instant::now();
    let quota = Quota::new().bucket("counter", Bucket::decaying(3, 2.0).jitter(Duration::ZERO).unpaced());
    let (desk, _worker) = Batcher::new(sink.clone()).quota(quota).spawn();
    desk.send_all(numbered(0, 6)).await.unwrap();
    took(ms(1500), desk.flush()).await.unwrap();
    let times: Vec<Duration> = sink.times().iter().map(|time| *time - start).collect();
    assert_eq!(times, [ms(0), ms(500), ms(1000), ms(1500)]);
}

/// Goal: a call costs what it costs, whatever is in it. Method: two calls per second, and ops that come one by one.
#[tokio::test(start_paused = true)]
async fn calls_are_counted_and_not_their_ops() {
    let sink = Recorder::new();
    let (desk, _worker) =
        Batcher::new(sink.clone()).quota(Quota::new().bucket("calls", per_second(2).per_call(1))).spawn();
    for value in 0..10 {
        desk.send(('a', value)).await.unwrap();
        until_idle().await;
    }
    took(secs(1), desk.flush()).await.unwrap();
    let sizes: Vec<usize> = sink.batches().iter().map(Vec::len).collect();
    assert_eq!(sizes, [1, 1, 8]);
}

/// Goal: a cost that grows with the call trims it. Method: Hyperliquid's `1 + n / 40` with five units.
#[tokio::test(start_paused = true)]
async fn a_cost_by_the_size_of_a_call_trims_it() {
    let sink = Recorder::new();
    let quota = Quota::new().bucket("weight", per_second(5).per_call_by(|ops| 1 + ops as u64 / 40));
    let (desk, _worker) = Batcher::new(sink.clone()).limits(1000).quota(quota).spawn();
    desk.send_all(numbered(0, 300)).await.unwrap();
    until_idle().await;
    assert_eq!(sink.batches()[0].len(), 199);
}

/// Goal: the reserve is for what matters, which does not wait for the others. Method: a bucket of ten, three of which are
/// reserved, and a partition of its own for what matters.
#[tokio::test(start_paused = true)]
async fn a_reserve_is_left_for_what_matters() {
    let sink = Recorder::new();
    let stages = Stages::new().partition_by(|op: &Op| op.0).priority_by(|op: &Op| op.0 == '!');
    let quota = ops(10).reserve(0.3, |op: &Op| op.0 == '!');
    let (desk, _worker) = Batcher::new(sink.clone()).stages(stages).quota(quota).spawn();
    desk.send_all(numbered(0, 9)).await.unwrap();
    until_idle().await;
    assert_eq!(sink.ops(), numbered(0, 7));
    desk.send_all([('!', 0), ('!', 1), ('!', 2), ('!', 3)]).await.unwrap();
    until_idle().await;
    assert_eq!(sink.ops()[7..], [('!', 0), ('!', 1), ('!', 2)]);
    took(secs(1), desk.flush()).await.unwrap();
    assert_eq!(sink.len(), 13);
}

/// Goal: an op that comes first and is allowed goes at once, though its partition is held up. Method: an op that matters joins
/// a partition that waits.
#[tokio::test(start_paused = true)]
async fn a_better_op_of_a_waiting_partition_is_looked_at() {
    let sink = Recorder::new();
    let stages = Stages::new().priority_by(|op: &Op| op.0 == '!');
    let quota = ops(10).reserve(0.3, |op: &Op| op.0 == '!');
    let (desk, _worker) = Batcher::new(sink.clone()).stages(stages).quota(quota).spawn();
    desk.send_all(numbered(0, 9)).await.unwrap();
    until_idle().await;
    desk.send(('!', 0)).await.unwrap();
    until_idle().await;
    assert_eq!(sink.ops()[7..], [('!', 0)]);
}

/// Goal: an op that costs much is not starved by ops that cost little. Method: a cancel of 8 waits for a bucket of 10, and ops
/// of 1 come all the time with a lower priority.
#[tokio::test(start_paused = true)]
async fn an_expensive_op_that_comes_first_is_saved_for() {
    let sink = Recorder::new();
    let stages = Stages::new().partition_by(|op: &Op| op.0).priority_by(|op: &Op| op.0 == 'c');
    let quota = ops(10).cost("ops", |op: &Op| if op.0 == 'c' { 8 } else { 1 });
    let limits = Limits::new(100).max_in_flight(8);
    let (desk, _worker) = Batcher::new(sink.clone()).stages(stages).limits(limits).quota(quota).spawn();
    for step in 0..10 {
        desk.send(('a', step)).await.unwrap();
        advance(ms(100)).await;
    }
    let cancel = desk.submit(('c', 0)).await.unwrap();
    let waits = async {
        for step in 10..100 {
            desk.send(('a', step)).await.unwrap();
            advance(ms(100)).await;
        }
    };
    let start = Instant::now();
    let (outcome, ()) = tokio::join!(cancel.outcome(), waits);
    assert_eq!(outcome.end, End::Delivered);
    assert!(outcome.latency <= secs(1), "{:?} of {:?}", outcome.latency, start.elapsed());
}

/// Goal: an op that costs more than there ever is comes back at the door. Method: costs at the limit and above, with a part
/// that is reserved.
#[tokio::test(start_paused = true)]
async fn an_op_that_costs_too_much_is_given_back() {
    let sink = Recorder::new();
    let quota = ops(10).cost("ops", |op: &Op| u64::from(op.1)).reserve(0.2, |op: &Op| op.0 == '!');
    let (desk, _worker) = Batcher::new(sink.clone()).quota(quota).spawn();
    assert!(matches!(desk.send(('a', 9)).await, Err(SendError::TooHeavy(('a', 9)))));
    assert!(matches!(desk.send(('!', 11)).await, Err(SendError::TooHeavy(('!', 11)))));
    assert_eq!(desk.send_all([('a', 8), ('a', 9), ('a', 1)]).await.unwrap_err().into_inner(), [('a', 9), ('a', 1)]);
    desk.send(('!', 10)).await.unwrap();
    eventually(desk.flush()).await.unwrap();
    assert_eq!(sink.ops(), [('a', 8), ('!', 10)]);
}

/// Goal: an op that costs nothing waits for nothing. Method: cancels are free, and the quota is spent.
#[tokio::test(start_paused = true)]
async fn what_costs_nothing_does_not_wait() {
    let sink = Recorder::new();
    let stages = Stages::new().partition_by(|op: &Op| op.0);
    let quota = ops(1).cost("ops", |op: &Op| u64::from(op.0 != 'c'));
    let (desk, _worker) = Batcher::new(sink.clone()).stages(stages).quota(quota).spawn();
    desk.send_all([('a', 0), ('a', 1), ('c', 0), ('c', 1)]).await.unwrap();
    until_idle().await;
    assert_eq!(sink.ops(), [('a', 0), ('c', 0), ('c', 1)]);
}

/// Goal: the venue's own count holds. Method: a sink that reports what is used and what the limit is.
#[tokio::test(start_paused = true)]
async fn the_venue_corrects_the_count() {
    let sent = Recorder::new();
    let venue = sent.clone();
    let sink = sink_fn(move |batch: &mut Batch<Op>| {
        let venue = venue.clone();
        Box::pin(async move {
            let used = batch[0].1;
            batch.quota().used("ops", u64::from(used)).limit("ops", 20);
            roundlot::Sink::write(&venue, batch).await
        })
    });
    let (desk, _worker) = Batcher::new(sink).limits(10).quota(ops(10)).spawn();
    desk.send(('a', 15)).await.unwrap();
    until_idle().await;
    let stats = desk.stats();
    let bucket = &stats.quota["ops"];
    assert_eq!((bucket.used, bucket.limit, bucket.corrections), (15, 20, 1));
}

/// Goal: an op whose cost exceeds a limit that the venue lowered is refused. Method: a limit of 3, and an op of 5.
#[tokio::test(start_paused = true)]
async fn an_op_that_a_lowered_limit_can_never_hold_is_refused() {
    let sink = sink_fn(|batch: &mut Batch<Op>| {
        Box::pin(async move {
            batch.quota().limit("ops", 3);
            Ok(batch.accept_all())
        })
    });
    let quota = ops(10).cost("ops", |op: &Op| u64::from(op.1));
    let (desk, _worker) = Batcher::new(sink).quota(quota).spawn();
    desk.send(('a', 1)).await.unwrap();
    at_once(desk.flush()).await.unwrap();
    let refused = at_once(desk.submit(('a', 5)).await.unwrap().outcome()).await;
    assert_eq!(refused.end, End::Refused);
    let AckError::Refused(error) = refused.result.unwrap_err() else { panic!("it is refused") };
    let why = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(why, "it costs 5 in bucket `ops`, where it may use 3");
}

/// Goal: a retry is charged again. Method: a failure that is tried again, with two ops per second.
#[tokio::test(start_paused = true)]
async fn a_retry_is_charged_again() {
    let sink = Recorder::new();
    let flaky = Flaky::new(sink.clone()).fail_times(2, down());
    let retry = Retry::exponential(ms(1), ms(1)).seed(1);
    let (desk, _worker) = Batcher::new(flaky).retry(retry).quota(ops(2)).spawn();
    desk.send(('a', 0)).await.unwrap();
    took(secs(1), desk.flush()).await.unwrap();
    assert_eq!(sink.ops(), [('a', 0)]);
}

/// Goal: several batchers share a bucket. Method: two of them, with ten ops per second in all.
#[tokio::test(start_paused = true)]
async fn batchers_share_a_bucket() {
    let sinks = [Recorder::new(), Recorder::new()];
    let weight = SharedBucket::new(per_second(10));
    let batchers: Vec<_> = sinks
        .iter()
        .map(|sink| Batcher::new(sink.clone()).quota(Quota::<Op>::new().shared("weight", &weight)).spawn())
        .collect();
    for (desk, _) in &batchers {
        desk.send_all(numbered(0, 20)).await.unwrap();
    }
    for second in 1..=4 {
        until_idle().await;
        assert_eq!(sinks.iter().map(Recorder::len).sum::<usize>(), 10 * second);
        advance(secs(1)).await;
    }
}

/// Goal: a pause that the venue asks for stops all who draw from a shared bucket, and no longer than the cap says. Method: a ban
/// of a year, capped at ten seconds.
#[tokio::test(start_paused = true)]
async fn a_ban_stops_all_who_share_a_bucket() {
    let (first, second) = (Recorder::<Op>::new(), Recorder::<Op>::new());
    let weight = SharedBucket::new(per_second(10));
    let flaky = Flaky::new(first.clone()).fail(SinkError::throttled(secs(365 * 24 * 3600)));
    let quota = || Quota::new().shared("weight", &weight);
    let (banned, _one) = Batcher::new(flaky).retry(Retry::default().max_freeze(secs(10))).quota(quota()).spawn();
    let (other, _two) = Batcher::new(second.clone()).quota(quota()).spawn();
    banned.send(('a', 0)).await.unwrap();
    until_idle().await;
    other.send(('b', 0)).await.unwrap();
    took(secs(10), other.flush()).await.unwrap();
    assert_eq!(banned.stats().quota["weight"].throttled, 1);
    eventually(banned.flush()).await.unwrap();
    assert_eq!((first.ops(), second.ops()), (vec![('a', 0)], vec![('b', 0)]));
}

/// Goal: shared buckets are exact under many threads. Method: eight batchers on four threads draw from 1,000 units that never
/// come back.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_shared_bucket_is_exact_under_many_threads() {
    let sink = Recorder::new();
    let bucket = SharedBucket::new(Bucket::rolling(1000, secs(24 * 3600)).unpaced());
    let mut workers = Vec::new();
    for _ in 0..8 {
        let quota = Quota::<Op>::new().shared("all", &bucket);
        let (desk, worker) = Batcher::new(sink.clone()).limits(7).quota(quota).spawn();
        workers.push(tokio::spawn(async move {
            desk.send_all(numbered(0, 500)).await.unwrap();
            worker
        }));
    }
    let mut returned = 0;
    sink.wait_for(1000).await;
    for worker in workers {
        let summary = worker.await.unwrap().shutdown().within(Duration::ZERO).await.unwrap();
        returned += summary.returned.len();
        conserved(&summary.stats);
    }
    assert_eq!((sink.len(), returned), (1000, 3000));
}

/// Goal: a cost function that panics refuses its op, and the batcher lives. Method: it panics at one of three.
#[tokio::test(start_paused = true)]
async fn a_cost_that_panics_refuses_its_op() {
    let sink = Recorder::new();
    let cost = |op: &Op| if op.0 == 'p' { panic!("no price") } else { 1 };
    let (desk, _worker) = Batcher::new(sink.clone()).quota(ops(10).cost("ops", cost)).spawn();
    desk.send_all([('a', 0), ('p', 1), ('b', 2)]).await.unwrap();
    let report = at_once(desk.flush()).await.unwrap();
    assert_eq!((report.outcomes.delivered, report.outcomes.refused), (2, 1));
    assert_eq!(sink.ops(), [('a', 0), ('b', 2)]);
    assert!(desk.stats().panics >= 1);
}

/// Goal: a quota that contradicts itself or the stages is an error when the batcher is built. Method: each kind of mistake.
#[tokio::test]
async fn contradictions_are_errors() {
    let cases: Vec<(Quota<Op>, &str)> = vec![
        (ops(10).bucket("ops", per_second(1)), "bucket `ops` exists twice"),
        (ops(0), "bucket `ops` must have a limit"),
        (Quota::new().bucket("a", Bucket::rolling(1, Duration::ZERO)), "bucket `a` must have a window"),
        (Quota::new().bucket("a", Bucket::decaying(1, -1.0)), "bucket `a` must have a window, or a unit of decay"),
        (Quota::new().bucket("a", Bucket::decaying(1, f64::NAN)), "bucket `a` must have a window, or a unit of decay"),
        (Quota::new().bucket("a", per_second(1).by(|op: &Op| op.0)), "bucket `a` counts by key"),
        (Quota::new().bucket("a", per_second(1).per_call(2)), "bucket `a` costs more per call"),
        (Quota::new().bucket("a", Bucket::configured()), "bucket `a` is in the code, and not in the file"),
        (ops(10).cost("op", |_| 1), "bucket `op` has a cost, and is no bucket"),
        (ops(10).reserve(1.0, |_| true), "must have a reserve"),
        (ops(1).reserve(0.1, |_| true), "bucket `ops` is too small"),
        (Quota::new().shared("s", &SharedBucket::new(Bucket::configured())), "has a shared bucket that has no numbers"),
        (
            Quota::new().shared("s", &SharedBucket::new(per_second(1).by(|()| 1))),
            "has a shared bucket that counts by key",
        ),
    ];
    for (quota, expected) in cases {
        let error = Batcher::new(Recorder::<Op>::new()).quota(quota).try_spawn().unwrap_err();
        assert_eq!(error.field(), "quota");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

/// Goal: windows of the venue's clock give all of their limit at once when they begin. Method: a batcher that knows when they do.
#[tokio::test(start_paused = true)]
async fn a_fixed_window_begins_anew() {
    let sink = Recorder::new();
    let start = Instant::now();
    let bucket = Bucket::fixed(10, secs(60)).aligned_to(start).skew(ms(100)).jitter(Duration::ZERO).unpaced();
    let (desk, _worker) = Batcher::new(sink.clone()).quota(Quota::new().bucket("minute", bucket)).spawn();
    advance(secs(50)).await;
    desk.send_all(numbered(0, 20)).await.unwrap();
    until_idle().await;
    assert_eq!(sink.len(), 10);
    took(ms(10_100), desk.flush()).await.unwrap();
    assert_eq!(sink.len(), 20);
}

/// Goal: whatever a venue reports, it stops nothing for ever. Method: an absurd count for a counter that decays in ten seconds.
#[tokio::test(start_paused = true)]
async fn an_absurd_report_stops_nothing_for_ever() {
    let sink = sink_fn(|batch: &mut Batch<Op>| {
        Box::pin(async move {
            batch.quota().used("counter", u64::MAX);
            Ok(batch.accept_all())
        })
    });
    let quota = Quota::new().bucket("counter", Bucket::decaying(10, 1.0).jitter(Duration::ZERO));
    let (desk, _worker) = Batcher::new(sink).quota(quota).spawn();
    desk.send(('a', 0)).await.unwrap();
    at_once(desk.flush()).await.unwrap();
    desk.send(('a', 1)).await.unwrap();
    let before = Instant::now();
    eventually(desk.flush()).await.unwrap();
    assert!(before.elapsed() <= secs(21), "{:?}", before.elapsed());
}

/// Goal: an op that costs little does not wait for an expensive one behind it. Method: an expensive op is saved for when one of a greater
/// priority comes.
#[tokio::test(start_paused = true)]
async fn nothing_is_saved_from_what_comes_first() {
    let sink = Recorder::new();
    let stages = Stages::new().partition_by(|op: &Op| op.0).priority_by(|op: &Op| op.0 == '!');
    let quota = ops(10).cost("ops", |op: &Op| if op.0 == 'd' { 8 } else { 1 });
    let (desk, _worker) = Batcher::new(sink.clone()).stages(stages).quota(quota).spawn();
    desk.send_all(numbered(0, 5)).await.unwrap();
    until_idle().await;
    desk.send(('d', 0)).await.unwrap();
    until_idle().await;
    desk.send_all([('b', 0), ('!', 0)]).await.unwrap();
    until_idle().await;
    assert_eq!(sink.ops()[5..], [('!', 0)]);
}

/// Goal: a task that is dropped leaves a shared bucket as one that was shut down does. Method: one hangs in a write when it is
/// dropped; the venue then reports less to the other.
#[tokio::test(start_paused = true)]
async fn a_dropped_task_leaves_nothing_in_flight_in_a_shared_bucket() {
    let bucket = SharedBucket::new(per_second(10));
    let quota = || Quota::<Op>::new().shared("all", &bucket);
    let (desk, task) = Batcher::new(Flaky::new(Recorder::new()).hang(1)).quota(quota()).split();
    let task = tokio::spawn(task);
    desk.send_all(numbered(0, 8)).await.unwrap();
    until_idle().await;
    task.abort();
    until_idle().await;
    let sink = sink_fn(|batch: &mut Batch<Op>| {
        Box::pin(async move {
            batch.quota().used("all", 1);
            Ok(batch.accept_all())
        })
    });
    let (other, _worker) = Batcher::new(sink).quota(quota()).spawn();
    other.send(('a', 0)).await.unwrap();
    at_once(other.flush()).await.unwrap();
    assert_eq!(other.stats().quota["all"].used, 1);
}

/// Goal: only time that the quota held an op up counts as such. Method: an op lingers after another of its partition was held.
#[tokio::test(start_paused = true)]
async fn the_linger_of_a_later_op_is_no_wait_for_the_quota() {
    let sink = Recorder::new();
    let quota = Quota::new().bucket("pair", per_second(1).by(|op: &Op| op.0));
    let stages = Stages::new().partition_by(|op: &Op| op.0);
    let limits = Limits::new(10).linger(ms(10));
    let (desk, _worker) = Batcher::new(sink.clone()).stages(stages).limits(limits).quota(quota).spawn();
    desk.send_all(numbered(0, 2)).await.unwrap();
    advance(ms(20)).await;
    assert_eq!(at_once(desk.withdraw(|_| true)).await.unwrap().len(), 1);
    advance(secs(5)).await;
    desk.send(('a', 9)).await.unwrap();
    advance(ms(10)).await;
    assert_eq!(sink.len(), 2);
    assert_eq!(desk.stats().quota.time().max, Duration::ZERO);
}

/// Goal: a report that a venue made before it had counted another call does not lower the count. Method: two calls overlap, and the
/// answer to the first one, which tells of one unit, comes last.
#[tokio::test(start_paused = true)]
async fn a_report_from_before_another_call_lowers_nothing() {
    let sink = sink_fn(|batch: &mut Batch<Op>| {
        Box::pin(async move {
            let is_first = batch.ops()[0].0 == 'a';
            tokio::time::sleep(if is_first { ms(200) } else { ms(100) }).await;
            batch.quota().used("ops", if is_first { 1 } else { 2 });
            Ok(batch.accept_all())
        })
    });
    let stages = Stages::new().partition_by(|op: &Op| op.0);
    let limits = Limits::new(10).max_in_flight(2);
    let (desk, _worker) = Batcher::new(sink).stages(stages).limits(limits).quota(ops(10)).spawn();
    desk.send_all([('a', 0), ('b', 0)]).await.unwrap();
    took(ms(200), desk.flush()).await.unwrap();
    assert_eq!(desk.stats().quota["ops"].used, 2);
}

/// Goal: an op is not refused for the cost of the ops before it. Method: calls of three ops cost more than there is, and smaller
/// ones next to nothing.
#[tokio::test(start_paused = true)]
async fn an_op_that_makes_a_call_too_expensive_goes_with_the_next() {
    let sink = Recorder::new();
    let bucket = per_second(10).per_call_by(|ops| if ops > 2 { 100 } else { 1 });
    let (desk, _worker) = Batcher::new(sink.clone()).quota(Quota::new().bucket("calls", bucket)).spawn();
    desk.send_all(numbered(0, 6)).await.unwrap();
    took(secs(0), desk.flush()).await.unwrap();
    assert_eq!(sink.batches(), [numbered(0, 2), numbered(2, 4), numbered(4, 6)]);
}

/// Goal: a ban stops ops that cost nothing as well. Method: the venue bans the address, and another batcher has a free op.
#[tokio::test(start_paused = true)]
async fn a_ban_stops_ops_that_cost_nothing() {
    let (first, second) = (Recorder::<Op>::new(), Recorder::<Op>::new());
    let weight = SharedBucket::new(per_second(10));
    let quota = || Quota::new().shared("weight", &weight).cost("weight", |op: &Op| u64::from(op.0 != 'c'));
    let flaky = Flaky::new(first).fail(SinkError::throttled(secs(10)));
    let (banned, _one) = Batcher::new(flaky).quota(quota()).spawn();
    let (other, _two) = Batcher::new(second.clone()).quota(quota()).spawn();
    banned.send(('a', 0)).await.unwrap();
    until_idle().await;
    other.send(('c', 0)).await.unwrap();
    advance(secs(9)).await;
    assert_eq!(second.len(), 0);
    took(secs(1), other.flush()).await.unwrap();
    assert_eq!(second.ops(), [('c', 0)]);
}

/// Goal: a report counts though the call itself cost nothing. Method: the answer to a free op tells that another client has used
/// up all.
#[tokio::test(start_paused = true)]
async fn a_call_that_costs_nothing_brings_a_report() {
    let sink = sink_fn(|batch: &mut Batch<Op>| {
        Box::pin(async move {
            batch.quota().used("ops", 10);
            Ok(batch.accept_all())
        })
    });
    let quota = ops(10).cost("ops", |op: &Op| u64::from(op.0 != 'c'));
    let (desk, _worker) = Batcher::new(sink).quota(quota).spawn();
    desk.send(('c', 0)).await.unwrap();
    at_once(desk.flush()).await.unwrap();
    assert_eq!(desk.stats().quota["ops"].used, 10);
}

/// Goal: whatever a venue reports, it refuses no op for ever. Method: a limit of nothing is reported once, with a reserve and
/// without one.
#[tokio::test(start_paused = true)]
async fn a_reported_limit_of_nothing_refuses_nothing_for_ever() {
    for reserve in [0.0, 0.5] {
        let sink = sink_fn(|batch: &mut Batch<Op>| {
            Box::pin(async move {
                let is_first = batch.ops()[0].1 == 0;
                batch.quota().limit("ops", if is_first { 0 } else { 10 });
                Ok(batch.accept_all())
            })
        });
        let quota = ops(10).reserve(reserve, |op: &Op| op.0 == '!');
        let (desk, _worker) = Batcher::new(sink).quota(quota).spawn();
        desk.send(('a', 0)).await.unwrap();
        at_once(desk.flush()).await.unwrap();
        desk.send(('a', 1)).await.unwrap();
        eventually(desk.flush()).await.unwrap();
        let stats = desk.stats();
        assert_eq!((stats.outcomes.delivered, stats.quota["ops"].limit), (2, 10));
    }
}

/// Goal: an op that costs too much with its call is given back at `send`. Method: half of ten is reserved, and a call costs three.
#[tokio::test(start_paused = true)]
async fn the_cost_of_a_call_counts_at_the_door() {
    let sink = Recorder::new();
    let bucket = per_second(10).per_call(3);
    let quota =
        Quota::new().bucket("ops", bucket).cost("ops", |op: &Op| u64::from(op.1)).reserve(0.5, |op| op.0 == '!');
    let (desk, _worker) = Batcher::new(sink.clone()).quota(quota).spawn();
    assert!(matches!(desk.send(('a', 3)).await, Err(SendError::TooHeavy(_))));
    assert!(matches!(desk.send(('!', 8)).await, Err(SendError::TooHeavy(_))));
    desk.send_all([('a', 2), ('!', 7)]).await.unwrap();
    eventually(desk.flush()).await.unwrap();
    assert_eq!(sink.ops(), [('a', 2), ('!', 7)]);
}

/// Goal: a cost of a call that panics kills no batcher. Method: it panics from the third question on, as a table that has gone.
#[tokio::test(start_paused = true)]
async fn a_call_cost_that_panics_refuses_its_op() {
    let sink = Recorder::new();
    let asked = std::cell::Cell::new(0);
    let bucket = per_second(10).per_call_by(move |_| {
        asked.set(asked.get() + 1);
        if asked.get() > 4 { panic!("no price") } else { 1 }
    });
    let (desk, _worker) = Batcher::new(sink.clone()).quota(Quota::new().bucket("calls", bucket)).spawn();
    for value in 0..8 {
        desk.send(('a', value)).await.expect("the batcher lives");
        eventually(desk.flush()).await.expect("the batcher lives");
    }
    assert!(desk.stats().outcomes.refused >= 4);
    conserved(&desk.stats());
}

/// Goal: no op waits for budget that is there. Method: an expensive op is saved for, and ops that cost less wait behind it, until it is
/// withdrawn or replaced by a cheap one.
#[tokio::test(start_paused = true)]
async fn nothing_is_saved_for_an_op_that_is_gone() {
    for is_replaced in [false, true] {
        let sink = Recorder::new();
        let stages = Stages::new()
            .partition_by(|op: &Op| op.0)
            .priority_by(|op: &Op| op.0 == 'd')
            .conflate_by(|op: &Op| (op.0 == 'd').then_some(()), stage::latest);
        let quota = ops(10).cost("ops", |op: &Op| if op.0 == 'd' { u64::from(op.1) } else { 1 });
        let (desk, _worker) = Batcher::new(sink.clone()).stages(stages).quota(quota).spawn();
        desk.send_all(numbered(0, 5)).await.unwrap();
        until_idle().await;
        desk.send(('d', 8)).await.unwrap();
        until_idle().await;
        desk.send(('b', 0)).await.unwrap();
        until_idle().await;
        assert_eq!(sink.len(), 5);
        if is_replaced {
            desk.send(('d', 1)).await.unwrap();
        } else {
            assert_eq!(at_once(desk.withdraw(|op| op.0 == 'd')).await.unwrap().len(), 1);
        }
        until_idle().await;
        assert_eq!(sink.ops()[5..].last(), Some(&('b', 0)), "replaced: {is_replaced}");
    }
}

/// Goal: a bucket is saved for an op, whatever another one waits for. Method: an expensive op waits for one bucket, an op of less priority for
/// another, and cheap ops would use the first one up.
#[tokio::test(start_paused = true)]
async fn a_bucket_is_saved_while_another_one_is() {
    let sink = Recorder::new();
    let stages = Stages::new().partition_by(|op: &Op| op.0).priority_by(|op: &Op| match op.0 {
        'd' => 2,
        'y' => 1,
        _ => 0,
    });
    let quota = Quota::new()
        .bucket("x", per_second(10))
        .cost("x", |op: &Op| match op.0 {
            'd' => 8,
            'y' => 0,
            _ => 1,
        })
        .bucket("y", Bucket::rolling(1, secs(60)).jitter(Duration::ZERO).unpaced())
        .cost("y", |op: &Op| u64::from(op.0 == 'y'));
    let limits = Limits::new(100).max_in_flight(8);
    let (desk, _worker) = Batcher::new(sink.clone()).stages(stages).limits(limits).quota(quota).spawn();
    for step in 0..10 {
        desk.send_all([('a', step), ('y', step)]).await.unwrap();
        advance(ms(100)).await;
    }
    let expensive = desk.submit(('d', 0)).await.unwrap();
    let waits = async {
        for step in 10..100 {
            desk.send_all([('a', step), ('y', step)]).await.unwrap();
            advance(ms(100)).await;
        }
    };
    let (outcome, ()) = tokio::join!(expensive.outcome(), waits);
    assert!(outcome.latency <= secs(1), "{:?}", outcome.latency);
}

/// Goal: a bucket is not saved for an op that has expired. Method: an expensive op expires while it is saved for, and a cheap one waits
/// behind it.
#[tokio::test(start_paused = true)]
async fn nothing_is_saved_for_an_op_that_has_expired() {
    let sink = Recorder::new();
    let deadline = Instant::now() + ms(200);
    let stages = Stages::new()
        .partition_by(|op: &Op| op.0)
        .priority_by(|op: &Op| op.0 == 'd')
        .expire_by(move |op: &Op| (op.0 == 'd').then_some(deadline));
    let quota = ops(10).cost("ops", |op: &Op| if op.0 == 'd' { 8 } else { 1 });
    let (desk, _worker) = Batcher::new(sink.clone()).stages(stages).quota(quota).spawn();
    desk.send_all(numbered(0, 5)).await.unwrap();
    until_idle().await;
    desk.send(('d', 0)).await.unwrap();
    until_idle().await;
    desk.send(('b', 0)).await.unwrap();
    advance(ms(199)).await;
    assert_eq!(sink.len(), 5);
    advance(ms(1)).await;
    assert_eq!(sink.ops()[5..], [('b', 0)]);
}
