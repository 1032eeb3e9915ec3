//! Tests of promise 8: shutdown drains, waits out no linger, and gives back the ops that it could not write.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use roundlot::{
    Batch, Batcher, End, ErrorKind, Handle, Limits, Retry, SendError, Settled, Sink, SinkError, Stages, Summary,
    TrySendError, Worker, WorkerGone, sink_fn,
    testing::{Flaky, Gate, Recorder, advance, until_idle},
};
use tokio_test::{assert_pending, task};
use tokio_util::sync::CancellationToken;

use crate::{AGES, at_once, conserved, down, eventually, ms, secs, took};

fn lingering(max_items: usize) -> Limits {
    Limits::new(max_items).linger(AGES)
}

/// Returns the ops that came back, and whether each was in flight.
fn returned<T: Copy>(summary: &Summary<T>) -> Vec<(T, bool)> {
    conserved(&summary.stats);
    assert_eq!(summary.returned.len() as u64, summary.stats.outcomes.returned);
    summary.returned.iter().map(|returned| (returned.op, returned.in_flight)).collect()
}

/// Goal: everything that was accepted is written at once, whatever its linger, and intake is closed. Method: two
/// partitions that linger; each way to send afterwards gives its op back.
#[tokio::test(start_paused = true)]
async fn shutdown_drains_at_once_and_closes_intake() {
    let sink = Recorder::new();
    let stages = Stages::new().partition_by(|op: &u32| op % 2);
    let (desk, worker) = Batcher::new(sink.clone()).stages(stages).limits(lingering(10)).spawn();
    desk.send_all(0..5).await.unwrap();
    let summary = at_once(worker.shutdown().into_future()).await.unwrap();
    assert_eq!(sink.batches(), [vec![0, 2, 4], vec![1, 3]]);
    assert_eq!((summary.stats.outcomes.delivered, summary.stats.cuts.close, returned(&summary).len()), (5, 2, 0));
    assert!(desk.is_closed() && sink.is_closed());
    assert_eq!(desk.send(7).await, Err(SendError::Closed(7)));
    assert_eq!(desk.try_send(7), Err(TrySendError::Closed(7)));
    assert_eq!(desk.send_all([7, 8]).await.unwrap_err().into_inner(), [7, 8]);
    assert_eq!(desk.submit(7).await.unwrap_err(), SendError::Closed(7));
    assert!(desk.reserve().await.is_err() && desk.flush().await.is_err() && desk.withdraw(|_| true).await.is_err());
    assert!(desk.set_limits(5).is_err());
}

/// Goal: past the limit, unsettled ops come back in order, and those in flight are flagged. Method: two slots hang with
/// a batch each, and more ops wait in both partitions.
#[tokio::test(start_paused = true)]
async fn after_the_shutdown_deadline_unsettled_ops_are_returned_in_order() {
    let gate = Gate::new(Recorder::new());
    let stages = Stages::new().partition_by(|op: &u32| op % 2);
    let (desk, worker) = Batcher::new(gate.clone()).stages(stages).limits(Limits::new(2).max_in_flight(2)).spawn();
    desk.send_all(0..8).await.unwrap();
    gate.reached(2).await;
    let summary = took(secs(3), worker.shutdown().within(secs(3)).into_future()).await.unwrap();
    let expected: Vec<_> = (0..8).map(|op| (op, op < 4)).collect();
    assert_eq!(returned(&summary), expected);
    assert!(summary.returned.iter().all(|returned| returned.in_doubt == returned.in_flight));
    assert_eq!(gate.running(), 0, "the hung writes are dropped");
}

/// Goal: a limit of zero writes nothing more. Method: ops that wait, none in flight.
#[tokio::test(start_paused = true)]
async fn a_shutdown_within_zero_time_returns_all_ops() {
    let sink = Recorder::new();
    let (desk, worker) = Batcher::new(sink.clone()).limits(lingering(10)).spawn();
    desk.send_all([1, 2]).await.unwrap();
    let summary = at_once(worker.shutdown().within(Duration::ZERO).into_future()).await.unwrap();
    assert_eq!(returned(&summary), [(1, false), (2, false)]);
    assert!(sink.is_empty() && sink.is_closed());
}

/// Goal: a verdict that comes as the time ends counts. Method: a write that takes exactly as long as the shutdown may.
#[tokio::test(start_paused = true)]
async fn a_verdict_at_the_shutdown_deadline_counts() {
    let (desk, worker) = Batcher::new(Flaky::new(Recorder::new()).slow(secs(1))).limits(1).spawn();
    desk.send_all([1, 2]).await.unwrap();
    let summary = took(secs(1), worker.shutdown().within(secs(1)).into_future()).await.unwrap();
    assert_eq!((summary.stats.outcomes.delivered, returned(&summary)), (1, vec![(2, false)]));
}

/// Goal: the limit of the settings counts where none is given. Method: a hung write and a `shutdown_timeout` of 7 s.
#[tokio::test(start_paused = true)]
async fn a_shutdown_without_a_time_limit_uses_shutdown_timeout() {
    let gate = Gate::new(Recorder::new());
    let (desk, worker) = Batcher::new(gate.clone()).limits(Limits::new(1).shutdown_timeout(secs(7))).spawn();
    desk.send(1).await.unwrap();
    gate.reached(1).await;
    let summary = took(secs(7), worker.shutdown().into_future()).await.unwrap();
    assert_eq!(returned(&summary), [(1, true)]);
}

/// Goal: a backoff is not cut short, and the shutdown waits for it if it ends in time. Method: the only op backs off
/// for at least 1 s when the batcher has 10 s.
#[tokio::test(start_paused = true)]
async fn a_backoff_that_ends_in_time_is_waited_for() {
    let sink = Recorder::new();
    let (desk, worker) = Batcher::new(Flaky::new(sink.clone()).fail(down()))
        .limits(1)
        .retry(Retry::exponential(secs(2), secs(2)))
        .spawn();
    let ack = desk.submit(1).await.unwrap();
    until_idle().await;
    let summary = worker.shutdown().within(secs(10)).await.unwrap();
    let outcome = ack.outcome().await;
    assert_eq!((outcome.end, outcome.attempts, returned(&summary).len()), (End::Delivered, 2, 0));
    assert!((secs(1)..=ms(2001)).contains(&outcome.latency), "{:?}", outcome.latency);
}

/// Goal: a backoff that ends too late is not waited out, nor is a pause that the sink has asked for. Method: 10 s of
/// time, a minute of backoff; another partition is written meanwhile.
#[tokio::test(start_paused = true)]
async fn a_backoff_that_ends_too_late_is_not_waited_out() {
    for error in [down(), SinkError::throttled(secs(60))] {
        let sink = Recorder::new();
        let (desk, worker) = Batcher::new(Flaky::new(sink.clone()).fail(error))
            .limits(1)
            .retry(Retry::exponential(secs(120), secs(120)))
            .spawn();
        desk.send(1).await.unwrap();
        until_idle().await;
        let summary = at_once(worker.shutdown().within(secs(10)).into_future()).await.unwrap();
        assert_eq!(returned(&summary), [(1, false)]);
    }
}

/// Goal: while one partition backs off beyond the limit other partitions are drained, before any op is returned.
/// Method: three slow writes of another partition.
#[tokio::test(start_paused = true)]
async fn other_partitions_are_drained_while_one_backs_off_past_the_deadline() {
    let sink = Recorder::new();
    let flaky = Flaky::new(sink.clone()).slow(ms(500)).fail(down());
    let stages = Stages::new().partition_by(|op: &u32| op / 10);
    let (desk, worker) =
        Batcher::new(flaky).stages(stages).limits(1).retry(Retry::exponential(secs(120), secs(120))).spawn();
    desk.send(1).await.unwrap();
    advance(ms(600)).await;
    desk.send_all([21, 22, 23]).await.unwrap();
    let summary = took(ms(1500), worker.shutdown().within(secs(10)).into_future()).await.unwrap();
    assert_eq!(sink.ops(), [21, 22, 23]);
    assert_eq!(returned(&summary), [(1, false)]);
}

/// Goal: a batcher that is paused waits for `resume` as long as it has time, and no longer. Method: it is resumed after
/// 2 s, and never.
#[tokio::test(start_paused = true)]
async fn a_paused_batcher_waits_for_resume_until_its_shutdown_deadline() {
    for resumes in [true, false] {
        let sink = Recorder::new();
        let (desk, worker) = Batcher::new(sink.clone()).limits(1).spawn();
        desk.pause().await.unwrap();
        desk.send(1).await.unwrap();
        let shutdown = tokio::spawn(worker.shutdown().within(secs(5)).into_future());
        advance(secs(2)).await;
        if resumes {
            desk.resume().await.unwrap();
        }
        let summary = took(secs(if resumes { 0 } else { 3 }), shutdown).await.unwrap().unwrap();
        assert_eq!((sink.len(), returned(&summary).len()), if resumes { (1, 0) } else { (0, 1) });
    }
}

/// Goal: a canceled token is noticed however much there is to do. Method: a sender that never pauses, and a sink that takes
/// everything at once.
#[tokio::test(start_paused = true)]
async fn a_canceled_token_is_noticed_under_load() {
    let token = CancellationToken::new();
    let (desk, worker) =
        Batcher::new(sink_fn(|batch: &mut Batch<u32>| Box::pin(std::future::ready(Ok(batch.accept_all())))))
            .limits(1024)
            .stop_on(token.clone())
            .spawn();
    let mut sent = 0;
    while desk.send(sent).await.is_ok() {
        sent += 1;
        if sent == 100_000 {
            token.cancel();
        }
        assert!(sent < 1_000_000, "the task has not looked at the token");
    }
    assert_eq!(worker.join().await.unwrap().stats.outcomes.delivered, u64::from(sent));
}

/// Goal: a canceled token drains and ends the batcher. Method: before and after ops were sent; with the handle alive.
#[tokio::test(start_paused = true)]
async fn a_canceled_token_drains_and_ends_the_batcher() {
    for canceled_first in [false, true] {
        let (sink, token) = (Recorder::new(), CancellationToken::new());
        if canceled_first {
            token.cancel();
        }
        let (desk, worker) = Batcher::new(sink.clone()).limits(lingering(10)).stop_on(token.child_token()).spawn();
        desk.send_all([1, 2]).await.unwrap();
        if !canceled_first {
            until_idle().await;
            assert!(sink.is_empty());
        }
        token.cancel();
        let summary = at_once(worker.join()).await.unwrap();
        assert_eq!((summary.stats.outcomes.delivered, sink.ops()), (2, vec![1, 2]));
        assert!(desk.is_closed());
    }
}

/// Goal: no task needs to hold the worker. Method: it is dropped; ops are written, and the last handle drains.
#[tokio::test(start_paused = true)]
async fn a_batcher_without_its_worker_runs_until_the_last_handle_is_dropped() {
    let sink = Recorder::new();
    let (desk, worker) = Batcher::new(sink.clone()).limits(lingering(2)).spawn();
    drop(worker);
    desk.send_all([1, 2]).await.unwrap();
    at_once(sink.wait_for(2)).await;
    let clone = desk.clone();
    drop(desk);
    clone.send(3).await.unwrap();
    until_idle().await;
    assert!(!sink.is_closed() && !clone.is_closed());
    drop(clone);
    at_once(sink.wait_closed()).await;
    assert_eq!(sink.batches(), [vec![1, 2], vec![3]]);
}

/// Goal: when the last handle drops, waiting ops are drained, and `join` ends with the summary. Method: `join` runs
/// before.
#[tokio::test(start_paused = true)]
async fn join_waits_for_the_last_handle_and_the_drain() {
    let (desk, worker) = Batcher::new(Recorder::new()).limits(lingering(10)).spawn();
    let join = tokio::spawn(worker.join());
    desk.send(1).await.unwrap();
    advance(secs(3600)).await;
    assert!(!join.is_finished());
    drop(desk);
    let summary = at_once(join).await.unwrap().unwrap();
    assert_eq!((summary.stats.outcomes.delivered, summary.close_error.is_none()), (1, true));
}

/// Goal: a sender that waits for a permit when the batcher closes gets its op back, and a flush gets its report.
/// Method: a hung write, a waiting sender, a permit that is used too late, and a flush.
#[tokio::test(start_paused = true)]
async fn waiting_senders_and_flushes_are_answered_at_shutdown() {
    let gate = Gate::new(Recorder::new());
    let (desk, worker) = Batcher::new(gate.clone()).limits(Limits::new(1).max_pending(2)).spawn();
    desk.send(1).await.unwrap();
    gate.reached(1).await;
    let permit = desk.reserve().await.unwrap();
    let (mut line, mut flush) = (task::spawn(desk.send(2)), task::spawn(desk.flush()));
    assert_pending!(line.poll());
    assert_pending!(flush.poll());
    let shutdown = tokio::spawn(worker.shutdown().within(secs(1)).into_future());
    assert_eq!(at_once(line).await, Err(SendError::Closed(2)));
    assert_eq!(permit.send(3), Err(SendError::Closed(3)));
    assert_eq!(took(secs(1), flush).await.unwrap().outcomes.returned, 1);
    assert_eq!(returned(&shutdown.await.unwrap().unwrap()), [(1, true)]);
}

/// A sink that counts its writes and closes, and fails to close.
#[derive(Clone, Default)]
struct Audited(Arc<Audit>);

#[derive(Default)]
struct Audit {
    writing: AtomicUsize,
    closes: AtomicUsize,
    late: AtomicUsize,
}

impl Sink<u32> for Audited {
    async fn write(&self, batch: &mut Batch<u32>) -> Result<Settled, SinkError> {
        self.0.late.fetch_add(self.0.closes.load(Ordering::Relaxed), Ordering::Relaxed);
        self.0.writing.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(ms(10)).await;
        self.0.writing.fetch_sub(1, Ordering::Relaxed);
        Ok(batch.accept_all())
    }

    async fn close(&self) -> Result<(), SinkError> {
        self.0.late.fetch_add(self.0.writing.load(Ordering::Relaxed), Ordering::Relaxed);
        self.0.closes.fetch_add(1, Ordering::Relaxed);
        Err(SinkError::refused("cannot close"))
    }
}

/// Goal: the sink is closed once, after the last write, and its error is told. Method: three partitions are being
/// written when the batcher is told to stop, in each of the three ways.
#[tokio::test(start_paused = true)]
async fn the_sink_is_closed_once_after_the_last_write() {
    for way in 0..3 {
        let (sink, token) = (Audited::default(), CancellationToken::new());
        let (desk, worker) = Batcher::new(sink.clone())
            .stages(Stages::new().partition_by(|op: &u32| op % 3))
            .limits(Limits::new(1).max_in_flight(3))
            .stop_on(token.clone())
            .spawn();
        desk.send_all(0..7).await.unwrap();
        until_idle().await;
        match way {
            0 => token.cancel(),
            1 => drop(desk),
            _ => {}
        }
        let ended = if way == 2 { worker.shutdown().into_future().await } else { worker.join().await };
        let summary = ended.unwrap();
        assert_eq!((sink.0.closes.load(Ordering::Relaxed), sink.0.late.load(Ordering::Relaxed)), (1, 0));
        assert_eq!(summary.stats.outcomes.delivered, 7);
        assert_eq!(summary.close_error.unwrap().kind(), ErrorKind::Refused);
    }
}

/// Goal: a close that hangs delays no task longer than the shutdown may take. Method: a sink whose close never ends.
#[tokio::test(start_paused = true)]
async fn a_hung_close_ends_at_the_shutdown_deadline() {
    struct Hung;
    impl Sink<u32> for Hung {
        async fn write(&self, batch: &mut Batch<u32>) -> Result<Settled, SinkError> {
            Ok(batch.accept_all())
        }

        async fn close(&self) -> Result<(), SinkError> {
            std::future::pending().await
        }
    }
    let (desk, worker) = Batcher::new(Hung).limits(1).spawn();
    desk.send(1).await.unwrap();
    let summary = took(secs(4), worker.shutdown().within(secs(4)).into_future()).await.unwrap();
    assert_eq!((summary.stats.outcomes.delivered, summary.close_error.is_some()), (1, true));
}

/// Goal: a shutdown does not wait for a resume that cannot come. Method: the last handle of a paused batcher is
/// dropped right before the worker is shut down without a limit. Guards: one stop request that replaces another.
#[tokio::test(start_paused = true)]
async fn a_paused_batcher_without_handles_ends_although_its_shutdown_has_no_deadline() {
    let (desk, worker) = Batcher::new(Recorder::new()).limits(lingering(10)).spawn();
    desk.send(1).await.unwrap();
    desk.pause().await.unwrap();
    until_idle().await;
    drop(desk);
    let summary = at_once(worker.shutdown().within(Duration::MAX).into_future()).await.unwrap();
    assert_eq!(summary.returned.len(), 1);
}

/// Goal: returned ops come back in the order of sending, as the summary says. Method: a low op, a high one that
/// overtakes it and hangs, and a shutdown that does not wait. Guards: ops in flight that stand before all waiting ops.
#[tokio::test(start_paused = true)]
async fn returned_ops_are_in_order_of_arrival() {
    let gate = Gate::new(Recorder::new());
    let stages = Stages::new().priority_by(|op: &u32| *op);
    let (desk, worker): (Handle<u32>, _) = Batcher::new(gate.clone()).stages(stages).limits(1).spawn();
    desk.pause().await.unwrap();
    desk.send_all([1, 2]).await.unwrap();
    desk.resume().await.unwrap();
    gate.reached(1).await;
    let summary = eventually(worker.shutdown().within(secs(1)).into_future()).await.unwrap();
    assert_eq!(returned(&summary), [(1, false), (2, true)]);
}

/// Goal: a shutdown that has given up its writes ends, though it is granted more time then. Method: the write that is
/// given up asks for it as it is dropped.
#[tokio::test(start_paused = true)]
async fn more_time_after_writes_were_abandoned_does_not_delay_the_end() {
    type Ending = Mutex<Option<BoxFuture<'static, Result<Summary<u32>, WorkerGone>>>>;
    struct Asks(Arc<Mutex<Option<Worker<u32>>>>, Arc<Ending>);
    impl Drop for Asks {
        fn drop(&mut self) {
            let worker = self.0.lock().unwrap().take().unwrap();
            let mut ending = worker.shutdown().within(AGES).into_future();
            assert!((&mut ending).now_or_never().is_none());
            *self.1.lock().unwrap() = Some(ending);
        }
    }
    let (worker, ending) = (Arc::default(), Arc::<Ending>::default());
    let asks = (Arc::clone(&worker), Arc::clone(&ending));
    let sink = sink_fn(move |_: &mut Batch<u32>| {
        let asks = Asks(Arc::clone(&asks.0), Arc::clone(&asks.1));
        Box::pin(async move {
            let _asks = asks;
            std::future::pending().await
        })
    });
    let token = CancellationToken::new();
    let (desk, started) =
        Batcher::new(sink).limits(Limits::new(1).shutdown_timeout(secs(1))).stop_on(token.clone()).spawn();
    *worker.lock().unwrap() = Some(started);
    desk.send_all([1, 2]).await.unwrap();
    until_idle().await;
    token.cancel();
    advance(secs(1)).await;
    let ending = ending.lock().unwrap().take().unwrap();
    assert_eq!(returned(&at_once(ending).await.unwrap()), [(1, true), (2, false)]);
}
