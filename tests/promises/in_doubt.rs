//! Tests of doubt: an op that may have landed is in doubt, whatever comes after.

use std::time::Duration;

use roundlot::{
    Batch, Batcher, DeadLetter, End, Limits, Overflow, Retry, Sink, SinkError, Stages, sink_fn, stage,
    testing::{Flaky, Recorder, advance, until_idle},
};
use tokio::time::Instant;

use crate::{AGES, at_once, eventually, ms, refused, secs};

/// Returns a sink whose first write lands and loses its answer.
fn landed() -> Flaky<Recorder<u32>, u32> {
    Flaky::new(Recorder::new()).land_and_fail(SinkError::ambiguous("no answer"))
}

fn long_backoff() -> Retry {
    Retry::exponential(Duration::from_secs(60), Duration::from_secs(60))
}

/// Goal: the dead letter of an op that may have landed says so. Method: an idempotent batcher, an ambiguous attempt and
/// then a refusal; statistics, ack and letter must agree.
#[tokio::test(start_paused = true)]
async fn the_dead_letter_of_an_op_that_landed_and_was_then_refused_is_in_doubt() {
    let letters = Recorder::<bool>::new();
    let (desk, _worker) = Batcher::new(landed().fail(SinkError::refused("duplicate order id")))
        .idempotent()
        .dead_letters(letters.clone().map(|letter: &DeadLetter<u32>| letter.is_in_doubt()))
        .spawn();
    let outcome = desk.submit(1).await.unwrap().outcome().await;
    until_idle().await;
    assert_eq!((outcome.end, desk.stats().outcomes.in_doubt), (End::InDoubt, 1));
    assert_eq!(letters.ops(), [true]);
}

/// Goal: an op that may have landed is not said to have expired before it could be sent. Method: it lands without an
/// answer, and its time is over while it backs off.
#[tokio::test(start_paused = true)]
async fn an_op_that_landed_and_expires_is_in_doubt() {
    let over = Instant::now() + ms(10);
    let (desk, _worker) = Batcher::new(landed())
        .stages(Stages::new().expire_by(move |_: &u32| Some(over)))
        .retry(long_backoff())
        .idempotent()
        .spawn();
    let outcome = desk.submit(1).await.unwrap().outcome().await;
    assert_eq!(outcome.end, End::InDoubt);
}

/// Goal: an op that may have landed is not said to have been withdrawn. Method: it lands without an answer and is
/// withdrawn while it backs off. Guards: the user of the kill switch must see that it may live at the venue.
#[tokio::test(start_paused = true)]
async fn an_op_that_landed_and_is_withdrawn_is_in_doubt() {
    let (desk, _worker) = Batcher::new(landed()).retry(long_backoff()).idempotent().spawn();
    let ack = desk.submit(1).await.unwrap();
    advance(ms(10)).await;
    assert_eq!(desk.withdraw(|_| true).await.unwrap(), [1]);
    assert_eq!(ack.outcome().await.end, End::InDoubt);
}

/// Goal: an op that may have landed is not said to have been evicted. Method: it lands without an answer and has to
/// make room while it backs off.
#[tokio::test(start_paused = true)]
async fn an_op_that_landed_and_is_evicted_is_in_doubt() {
    let limits = Limits::new(1).linger(AGES).max_pending(1).overflow(Overflow::EvictOldest);
    let (desk, _worker) = Batcher::new(landed()).limits(limits).retry(long_backoff()).idempotent().spawn();
    let ack = desk.submit(1).await.unwrap();
    advance(ms(10)).await;
    desk.send(2).await.unwrap();
    assert_eq!(ack.outcome().await.end, End::InDoubt);
}

// Guards: `Batch::retry` turns `Ambiguous` into `Transient`, so that the doubt is forgotten.
/// Goal: an op that the sink has doubts about ends in doubt when it is not tried again. Method: the sink marks it
/// `retry` with an ambiguous error, at the last attempt, and in an idempotent batcher that has it refused at the next.
#[tokio::test(start_paused = true)]
async fn an_op_marked_retry_because_it_may_have_landed_is_in_doubt_at_the_end() {
    for attempts in [1, 2] {
        let sink = sink_fn(|batch: &mut Batch<u32>| {
            Box::pin(async move {
                match batch.attempt() {
                    1 => batch.retry(0, SinkError::ambiguous("no answer")),
                    _ => batch.refuse(0, refused()),
                }
                batch.settled()
            })
        });
        let (desk, _worker) =
            Batcher::new(sink).limits(1).retry(Retry::default().max_attempts(attempts)).idempotent().spawn();
        let outcome = eventually(desk.submit(1).await.unwrap().outcome()).await;
        assert_eq!(outcome.end, End::InDoubt, "{attempts} attempts: {outcome:?}");
    }
}

/// Goal: an op that may have landed is not replaced or netted by a newer one: that would hide the doubt, and leave a
/// value at the venue that is never corrected. Method: it lands without an answer and backs off while a newer value
/// and a cancel come; it is sent again, and then the newer one.
#[tokio::test(start_paused = true)]
async fn an_op_that_may_have_landed_is_neither_replaced_nor_netted() {
    let merges: [fn(u32, u32) -> Option<u32>; 2] = [stage::latest, |_, _| None];
    for merge in merges {
        let sink = Recorder::new();
        let flaky = Flaky::new(sink.clone()).land_and_fail(SinkError::ambiguous("no answer"));
        let (desk, _worker) = Batcher::new(flaky)
            .stages(Stages::new().conflate_by(|_: &u32| (), merge))
            .retry(long_backoff())
            .idempotent()
            .spawn();
        let first = desk.submit(1).await.unwrap();
        advance(ms(10)).await;
        let second = desk.submit(2).await.unwrap();
        assert_eq!(eventually(first.outcome()).await.end, End::Delivered);
        assert_eq!(at_once(second.outcome()).await.end, End::Delivered);
        assert_eq!(sink.batches(), [[1], [1], [2]]);
    }
}

/// Goal: an op that may have landed comes back from a shutdown with its doubt. Method: it lands without an answer, and
/// the shutdown does not wait for its backoff.
#[tokio::test(start_paused = true)]
async fn an_op_that_landed_and_is_returned_is_flagged() {
    let (desk, worker) = Batcher::new(landed()).limits(1).retry(long_backoff()).idempotent().spawn();
    desk.send_all([1, 2]).await.unwrap();
    advance(ms(10)).await;
    let summary = worker.shutdown().within(secs(1)).await.unwrap();
    let returned: Vec<_> = summary.returned.iter().map(|it| (it.op, it.in_flight, it.in_doubt)).collect();
    assert_eq!(returned, [(1, false, true), (2, false, false)]);
}
