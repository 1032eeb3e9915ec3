//! Batchers whose ops end in each way, and to which everything happens that telemetry tells of. The clock is paused.

use std::{future::IntoFuture, time::Duration};

use roundlot::{
    Batch, Batcher, DeadLetter, ErrorKind, Limits, Overflow, Quota, Retry, Sink, SinkError, Stages, sink_fn, stage,
    testing::{Flaky, Gate, Recorder, advance, until_idle},
};
use tokio::time::Instant;

use crate::record::Emitted;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn flaky() -> Flaky<Recorder<u32>, u32> {
    Flaky::new(Recorder::new())
}

fn away() -> SinkError {
    SinkError::outage("connection refused")
}

/// Sends ops through a batcher and shuts it down.
async fn run<S: Sink<u32>>(batcher: Batcher<u32, (), S>, ops: impl IntoIterator<Item = u32>) {
    let (desk, worker) = batcher.spawn();
    desk.send_all(ops).await.unwrap();
    desk.flush().await.unwrap();
    worker.shutdown().await.unwrap();
}

/// Cuts batches for each reason: full, linger, urgent, flush, pressure, close, together.
pub(crate) async fn cuts() {
    let stages = Stages::new().partition_by(|op: &u32| op / 10).urgent_by(|op| *op == 99);
    let limits = Limits::new(4).linger(ms(5)).max_pending(6).max_in_flight(2);
    let (desk, worker) = Batcher::new(Recorder::new()).name("cuts").stages(stages).limits(limits).spawn();
    desk.send_all([1, 2, 3, 4]).await.unwrap();
    until_idle().await;
    desk.send(1).await.unwrap();
    advance(ms(6)).await;
    desk.send(99).await.unwrap();
    until_idle().await;
    desk.send(1).await.unwrap();
    desk.flush().await.unwrap();
    desk.send_all([1, 2, 11, 12, 21, 22]).await.unwrap();
    until_idle().await;
    desk.send(1).await.unwrap();
    worker.shutdown().await.unwrap();

    let stages = Stages::new().partition_by(|op: &u32| op / 10).urgent_by(|op| *op == 99).together();
    let limits = Limits::new(4).linger(secs(9)).max_in_flight(2);
    let (desk, worker) = Batcher::new(Recorder::new()).name("together").stages(stages).limits(limits).spawn();
    desk.send_all([1, 99]).await.unwrap();
    until_idle().await;
    worker.shutdown().await.unwrap();
}

/// Refuses, exhausts, puts in doubt, loses: ends that a sink decides.
pub(crate) async fn failures() {
    let names = ["refused", "exhausted", "in-doubt", "lost"];
    let errors = [
        SinkError::refused("no"),
        SinkError::transient("busy"),
        SinkError::ambiguous("no answer"),
        SinkError::new(ErrorKind::Lost, "gone"),
    ];
    for (name, error) in names.into_iter().zip(errors) {
        run(Batcher::new(flaky().fail(error)).name(name).retry(Retry::none()), [1]).await;
    }
    let throttled = flaky().fail(SinkError::throttled(secs(1))).fail(SinkError::transient("busy"));
    run(Batcher::new(throttled).name("retries"), [1]).await;
    let limits = Limits::new(4).linger(secs(1));
    let split = flaky().fail(SinkError::too_large("413"));
    run(Batcher::new(split).name("split").limits(limits.clone()), [1, 2]).await;
    run(Batcher::new(flaky().fail(SinkError::too_large_over(1))).name("cap").limits(limits), [1, 2]).await;
    run(Batcher::new(flaky().panic(1)).name("panic"), [1]).await;
    let closing = flaky().fail_close(SinkError::transient("busy"));
    run(Batcher::new(closing).name("close").limits(Limits::new(1).max_in_flight(4)), [1]).await;
}

/// Conflates, deduplicates, nets, expires and evicts: ends that stages and limits decide.
pub(crate) async fn stages() {
    let limits = || Limits::new(10).linger(secs(1));
    let latest = Stages::new().conflate_by(|op: &u32| *op, stage::latest);
    run(Batcher::new(Recorder::new()).name("conflated").stages(latest).limits(limits()), [1, 1]).await;
    let repeats = Stages::new().dedup_by(|op: &u32| *op, secs(9));
    run(Batcher::new(Recorder::new()).name("deduplicated").stages(repeats).limits(limits()), [1, 1]).await;
    let netting = Stages::new().conflate_by(|_: &u32| (), |_: u32, _: u32| None::<u32>);
    run(Batcher::new(Recorder::new()).name("netted").stages(netting).limits(limits()), [1, 2]).await;
    let over = Instant::now();
    let expiry = Stages::new().expire_by(move |_: &u32| Some(over));
    run(Batcher::new(Recorder::new()).name("expired").stages(expiry).limits(limits()), [1]).await;
    let evicts = limits().max_pending(1).overflow(Overflow::EvictOldest);
    let (desk, _worker) = Batcher::new(Recorder::new()).name("evicted").limits(evicts).spawn();
    desk.pause().await.unwrap();
    desk.send_all([1, 2]).await.unwrap();
    until_idle().await;
}

/// Waits for a quota that the sink corrects, and is asked for a pause.
pub(crate) async fn quotas() {
    let reports = sink_fn(|batch: &mut Batch<u32>| {
        Box::pin(async move {
            batch.quota().used("ops", 1).used("opps", 1);
            match batch.attempt() {
                1 => Err(SinkError::throttled(secs(1))),
                _ => Ok(batch.accept_all()),
            }
        })
    });
    run(Batcher::new(reports).name("quota").quota(Quota::new().ops(1, secs(1))), [1, 2]).await;
}

/// Withdraws, pauses and returns: ends that callers decide. Gauges are looked at while ops wait and are written.
pub(crate) async fn callers(emitted: &Emitted) {
    let gate = Gate::new(flaky().hang(1));
    let (desk, worker) = Batcher::new(gate.clone()).name("callers").limits(Limits::new(2)).spawn();
    desk.pause().await.unwrap();
    desk.send_all([1, 2, 3]).await.unwrap();
    desk.withdraw(|op| *op == 3).await.unwrap();
    emitted.collect();
    desk.resume().await.unwrap();
    gate.reached(1).await;
    emitted.collect();
    gate.open();
    worker.shutdown().within(ms(10)).into_future().await.unwrap();

    let (desk, task) = Batcher::new(Recorder::new()).name("dropped").split();
    desk.try_send(1).unwrap();
    drop(task);
}

/// An outage that ends, one that is given up, a fence and a peer that leaves.
pub(crate) async fn outages(emitted: &Emitted) {
    let retry = Retry::exponential(ms(100), ms(800)).seed(1);
    let (desk, worker) = Batcher::new(flaky().fail_times(2, away())).name("outage").retry(retry).spawn();
    desk.send(1).await.unwrap();
    until_idle().await;
    emitted.collect();
    desk.flush().await.unwrap();
    worker.shutdown().await.unwrap();
    let retry = Retry::exponential(ms(100), ms(800)).give_up_after(secs(1)).seed(1);
    run(Batcher::new(flaky().fail_times(99, away())).name("given-up").retry(retry), [1]).await; // in flight at the end

    let stops = [("fenced", SinkError::fenced("epoch 7")), ("left", SinkError::closed("1001"))];
    for (name, error) in stops {
        let (desk, worker) = Batcher::new(flaky().fail(error)).name(name).spawn();
        desk.send(1).await.unwrap();
        worker.join().await.unwrap();
    }
}

/// Dead letters that a sink takes, and one more than there is room for while it takes none.
pub(crate) async fn dead_letters() {
    const ROOM: u32 = 65_536;
    let refuse = sink_fn(|batch: &mut Batch<u32>| {
        Box::pin(async move {
            (0..batch.len()).for_each(|i| batch.refuse(i, SinkError::refused("no")));
            batch.settled()
        })
    });
    let gate = Gate::new(Recorder::<u32>::new());
    let limits = Limits::new(ROOM as usize + 1).linger(secs(1));
    let letters = gate.clone().map(|letter: &DeadLetter<u32>| letter.op);
    let (desk, worker) = Batcher::new(refuse).name("letters").limits(limits).dead_letters(letters).spawn();
    desk.send_all(0..=ROOM).await.unwrap();
    desk.flush().await.unwrap();
    gate.open();
    let summary = worker.shutdown().await.unwrap();
    assert_eq!(summary.stats.dead_letters_lost, 1);
}
