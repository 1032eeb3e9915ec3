//! Tests of promise 4: a flush is a snapshot barrier that reports.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use roundlot::{
    Batch, Batcher, CutBy, End, ErrorKind, Handle, Limits, Retry, SinkError, Stages, sink_fn,
    testing::{Flaky, Gate, Recorder, advance, until_idle},
};
use tokio::time::{Instant, timeout};
use tokio_test::{assert_pending, assert_ready, task};

use crate::{AGES, at_once, down, eventually, ms, refused, secs, took};

fn lingering(max_items: usize) -> Limits {
    Limits::new(max_items).linger(AGES)
}

/// Goal: a flush covers all ops accepted before it, through any handle and in flight too, and no later op. Method: one
/// op in flight, one waiting, one sent by a clone, and one that comes after the flush.
#[tokio::test(start_paused = true)]
async fn a_flush_waits_for_earlier_ops_only() {
    let sink = Recorder::new();
    let gate = Gate::new(sink.clone());
    let (desk, _worker) = Batcher::new(gate.clone()).limits(lingering(2)).spawn();
    desk.send_all([1, 2, 3]).await.unwrap();
    gate.reached(1).await;
    desk.clone().send(4).await.unwrap();
    let mut flush = task::spawn(desk.flush());
    assert_pending!(flush.poll());
    desk.send(5).await.unwrap();
    gate.pass(1);
    until_idle().await;
    assert_pending!(flush.poll());
    gate.pass(1);
    until_idle().await;
    let report = assert_ready!(flush.poll()).unwrap();
    assert_eq!((report.outcomes.delivered, report.total()), (4, 4));
    assert_eq!(sink.batches(), [[1, 2], [3, 4]]);
    advance(secs(3600)).await;
    assert_eq!(desk.stats().waiting, 1, "the later op lingers on");
}

/// Goal: steady traffic can't starve a flush. Method: a sink of 10 ms, a batch of at most four, and four new ops for
/// each write; a flush of the first eight takes two writes.
#[tokio::test(start_paused = true)]
async fn steady_traffic_does_not_hold_a_flush_up() {
    let (desk, _worker) = Batcher::new(Flaky::new(Recorder::new()).slow(ms(10))).limits(4).spawn();
    desk.send_all(0..8).await.unwrap();
    let traffic = tokio::spawn({
        let desk = desk.clone();
        async move {
            loop {
                desk.send_all(0..4).await.unwrap();
                tokio::time::sleep(ms(10)).await;
            }
        }
    });
    let report = took(ms(20), desk.flush()).await.unwrap();
    assert_eq!(report.outcomes.delivered, 8);
    traffic.abort();
}

/// Goal: a flush waits for ops that back off, and shortens no backoff. Method: the same failure with the same seed,
/// with and without a flush in the middle of it; the second attempt must be at the same time.
#[tokio::test(start_paused = true)]
async fn a_flush_during_a_backoff_waits_for_its_end() {
    let mut ends = Vec::new();
    for flushes in [false, true] {
        let sink = Recorder::new();
        let (desk, _worker) = Batcher::new(Flaky::new(sink.clone()).fail(down()))
            .limits(1)
            .retry(Retry::exponential(ms(100), ms(100)).seed(3))
            .spawn();
        let start = Instant::now();
        desk.send(1).await.unwrap();
        advance(ms(20)).await;
        if flushes {
            let report = eventually(desk.flush()).await.unwrap();
            assert_eq!((report.outcomes.delivered, report.is_ok()), (1, true));
        }
        sink.wait_for(1).await;
        ends.push(start.elapsed());
    }
    assert!(ends[0] >= ms(50) && ends[0] == ends[1], "{ends:?}");
}

/// Goal: concurrent flushes are independent. Method: three flushes with an op before each, and a gate that lets one
/// write through at a time.
#[tokio::test(start_paused = true)]
async fn concurrent_flushes_are_done_one_by_one() {
    let gate = Gate::new(Recorder::new());
    let (desk, _worker) = Batcher::new(gate.clone()).limits(lingering(1)).spawn();
    let handles: Vec<Handle<u32>> = (0..3).map(|_| desk.clone()).collect();
    let mut flushes = Vec::new();
    for (op, handle) in handles.iter().enumerate() {
        handle.send(op as u32).await.unwrap();
        let mut flush = task::spawn(handle.flush());
        assert_pending!(flush.poll());
        flushes.push(flush);
    }
    for done in 1..=3u64 {
        gate.pass(1);
        until_idle().await;
        let mut flush = flushes.remove(0);
        assert_eq!(assert_ready!(flush.poll()).unwrap().outcomes.delivered, done);
        flushes.iter_mut().for_each(|flush| assert_pending!(flush.poll()));
    }
}

/// Goal: dropping the future cancels nothing. Method: a flush is polled once and dropped; the op must be written, and
/// the next flush tells of it.
#[tokio::test(start_paused = true)]
async fn a_dropped_flush_still_flushes() {
    let sink = Recorder::new();
    let (desk, _worker) = Batcher::new(sink.clone()).limits(lingering(10)).spawn();
    desk.send(1).await.unwrap();
    {
        let mut flush = task::spawn(desk.flush());
        assert_pending!(flush.poll());
    }
    at_once(sink.wait_for(1)).await;
    assert_eq!(sink.cuts(), [CutBy::Flush]);
    assert_eq!(at_once(desk.flush()).await.unwrap().outcomes.delivered, 1);
}

/// Goal: a report tells each handle the outcomes that it has not yet reported. Method: two flushes of one handle, then
/// one of a clone made before the first flush and one of a clone made after it.
#[tokio::test(start_paused = true)]
async fn a_report_covers_the_ops_since_the_last_report_of_its_handle() {
    let (desk, _worker) = Batcher::new(Recorder::new()).limits(lingering(10)).spawn();
    let before = desk.clone();
    desk.send_all([1, 2]).await.unwrap();
    assert_eq!(at_once(desk.flush()).await.unwrap().total(), 2);
    assert_eq!(at_once(desk.flush()).await.unwrap().total(), 0);
    assert_eq!(at_once(before.flush()).await.unwrap().total(), 2);
    assert_eq!(at_once(desk.clone().flush()).await.unwrap().total(), 0);
}

/// Goal: while the batcher is paused a flush waits. Method: a flush of a paused batcher, an hour, and `resume`.
#[tokio::test(start_paused = true)]
async fn a_flush_of_a_paused_batcher_waits_for_resume() {
    let (desk, _worker) = Batcher::new(Recorder::new()).limits(lingering(10)).spawn();
    desk.pause().await.unwrap();
    desk.send(1).await.unwrap();
    let mut flush = task::spawn(desk.flush());
    assert_pending!(flush.poll());
    advance(secs(3600)).await;
    assert_pending!(flush.poll());
    desk.resume().await.unwrap();
    assert_eq!(at_once(flush).await.unwrap().outcomes.delivered, 1);
}

/// Goal: a flush makes only the ops that it covers due. Method: two partitions, one of which gets its op after the
/// flush.
#[tokio::test(start_paused = true)]
async fn a_flush_makes_other_partitions_no_more_due_than_they_are() {
    let sink = Recorder::new();
    let stages = Stages::new().partition_by(|op: &u32| *op);
    let (desk, _worker) = Batcher::new(sink.clone()).stages(stages).limits(lingering(10)).spawn();
    desk.send(1).await.unwrap();
    let mut flush = task::spawn(desk.flush());
    assert_pending!(flush.poll());
    desk.send(2).await.unwrap();
    let _ = at_once(flush).await.unwrap();
    advance(secs(3600)).await;
    assert_eq!(sink.ops(), [1]);
}

/// Returns a sink that flushes its own batcher inside each write of an odd op, for the given time at most.
fn flushing(limit: Option<Duration>) -> (Arc<OnceLock<Handle<u32>>>, impl roundlot::Sink<u32>) {
    let desk = Arc::new(OnceLock::<Handle<u32>>::new());
    let sink = sink_fn({
        let desk = desk.clone();
        move |batch: &mut Batch<u32>| {
            let desk = desk.get().cloned();
            Box::pin(async move {
                if batch[0] % 2 == 1 {
                    let desk = desk.unwrap();
                    let _ = match limit {
                        None => desk.flush().await.ok(),
                        Some(limit) => timeout(limit, desk.flush()).await.ok().and_then(Result::ok),
                    };
                }
                Ok(batch.accept_all())
            })
        }
    });
    (desk, sink)
}

/// Goal: a flush from inside the sink, which waits for the very write that awaits it, hangs that write alone, and only
/// until its time is over. Method: two partitions, one of which hangs so; the other one's linger, intake, statistics
/// and its flush go on, and after the write timeout so does the first.
#[tokio::test(start_paused = true)]
async fn a_flush_inside_a_write_hangs_only_that_write() {
    let (slot, sink) = flushing(None);
    let limits = Limits::new(10).linger(ms(5)).max_in_flight(2).write_timeout(ms(100));
    let stages = Stages::new().partition_by(|op: &u32| op % 2);
    let (desk, _worker) = Batcher::new(sink).stages(stages).limits(limits).spawn();
    assert!(slot.set(desk.clone()).is_ok());
    let own = desk.submit(1).await.unwrap();
    advance(ms(10)).await;
    assert_eq!(desk.stats().in_flight, 1);
    let other = desk.submit(2).await.unwrap();
    assert_eq!(took(ms(5), other.outcome()).await.end, End::Delivered);
    assert_eq!(took(ms(90), own.outcome()).await.end, End::InDoubt);
    desk.send(4).await.unwrap();
    assert_eq!(at_once(desk.flush()).await.unwrap().outcomes.delivered, 2);
}

/// Goal: a sink that gives such a flush up in time goes on as if nothing had been. Method: a timeout of 20 ms around
/// it; the op is delivered after it, and so is the next.
#[tokio::test(start_paused = true)]
async fn a_flush_inside_a_timed_out_write_harms_no_other_op() {
    let (slot, sink) = flushing(Some(ms(20)));
    let (desk, _worker) = Batcher::new(sink).limits(lingering(1)).spawn();
    assert!(slot.set(desk.clone()).is_ok());
    for op in [1, 3] {
        let ack = desk.submit(op).await.unwrap();
        assert_eq!(took(ms(20), ack.outcome()).await.end, End::Delivered);
    }
    assert_eq!(at_once(desk.flush()).await.unwrap().outcomes.delivered, 2);
}

/// Goal: a report counts failures, and a failed write is never success. Method: of six ops two are refused, and then
/// all of a write is in doubt.
#[tokio::test(start_paused = true)]
async fn a_report_counts_failures_and_keeps_their_errors() {
    let flaky = Flaky::new(Recorder::new()).fail_ops(|op: &u32| op.is_multiple_of(3).then(refused));
    let (desk, _worker) = Batcher::new(flaky.clone()).limits(lingering(10)).spawn();
    desk.send_all(0..6).await.unwrap();
    let report = at_once(desk.flush()).await.unwrap();
    assert_eq!((report.outcomes.delivered, report.outcomes.refused, report.errors.len()), (4, 2, 2));
    assert!(!report.is_ok());
    flaky.heal().fail(SinkError::ambiguous("no answer"));
    desk.send(7).await.unwrap();
    let report = at_once(desk.flush()).await.unwrap();
    assert_eq!((report.outcomes.in_doubt, report.total(), report.is_ok()), (1, 1, false));
    assert_eq!(report.errors[0].kind(), ErrorKind::Ambiguous);
}

// Guards: of more than 64 errors the last are kept, so that the first eight of a flush are gone.
/// Goal: the first errors are kept, however many there are. Method: a hundred ops, each refused with an error of its
/// own.
#[tokio::test(start_paused = true)]
async fn a_report_keeps_the_first_errors_of_many() {
    let flaky = Flaky::new(Recorder::new()).fail_ops(|op: &u32| Some(SinkError::refused(format!("op {op}"))));
    let (desk, _worker) = Batcher::new(flaky).limits(lingering(10)).spawn();
    desk.send_all(0..100).await.unwrap();
    let report = at_once(desk.flush()).await.unwrap();
    let errors: Vec<_> = report.errors.iter().map(SinkError::chain).collect();
    assert_eq!((report.outcomes.refused, errors.len()), (100, 8));
    assert_eq!(errors[..2], ["refused: op 0", "refused: op 1"]);
}

/// Goal: a failure is reported to the flush that is listened to. Method: a flush is given up (a timeout around it)
/// while its op is being written, the op is refused, and the next flush asks. Guards: reports that were never read.
#[tokio::test(start_paused = true)]
async fn a_failure_is_reported_after_a_dropped_flush() {
    let gate = Gate::new(Flaky::new(Recorder::new()).fail(refused()));
    let (desk, _worker) = Batcher::new(gate.clone()).limits(lingering(10)).spawn();
    desk.send(1).await.unwrap();
    {
        let mut given_up = task::spawn(desk.flush());
        assert_pending!(given_up.poll());
        gate.reached(1).await;
    }
    gate.open();
    until_idle().await;
    let report = desk.flush().await.unwrap();
    assert_eq!((report.outcomes.refused, report.is_ok()), (1, false));
}

/// Goal: a failed write is never reported as success. Method: the sink says of its op that it is lost. Guards: a kind
/// of end that the report has no count for.
#[tokio::test(start_paused = true)]
async fn an_op_that_the_sink_lost_counts_as_a_failure() {
    let flaky = Flaky::new(Recorder::new()).fail(ErrorKind::Lost.into());
    let (desk, _worker) = Batcher::new(flaky).limits(lingering(10)).spawn();
    desk.send(1).await.unwrap();
    let report = desk.flush().await.unwrap();
    assert_eq!((desk.stats().outcomes.lost, report.outcomes.lost), (1, 1));
    assert!(!report.is_ok(), "{report:?}");
}

/// Callers that only wait need not look at the report: this compiles.
#[deny(unused_must_use)]
#[tokio::test(start_paused = true)]
async fn an_unused_report_causes_no_compiler_warning() -> Result<(), Box<dyn std::error::Error>> {
    let (desk, _worker) = Batcher::new(Recorder::<u32>::new()).spawn();
    desk.flush().await?;
    Ok(())
}
