//! Proves that what may have landed is never called anything else: an ambiguous op is in doubt, whatever comes after.

use std::time::Duration;

use roundlot::{
    Batcher, DeadLetter, End, Limits, Overflow, Retry, Sink, SinkError, Stages,
    testing::{Flaky, Recorder, advance, until_idle},
};
use tokio::time::Instant;

use crate::{AGES, ms};

/// The first write lands and its answer is lost.
fn landed() -> Flaky<Recorder<u32>, u32> {
    Flaky::new(Recorder::new()).land_and_fail(SinkError::ambiguous("no answer"))
}

fn long_backoff() -> Retry {
    Retry::exponential(Duration::from_secs(60), Duration::from_secs(60))
}

/// Goal: the dead letter of an op that may have landed says so. Method: an idempotent batcher, an ambiguous attempt and
/// then a refusal; statistics, ack and letter must agree.
#[tokio::test(start_paused = true)]
async fn the_letter_of_an_op_that_landed_once_and_was_refused_then_is_in_doubt() {
    let letters = Recorder::<bool>::new();
    let (desk, _worker) = Batcher::new(landed().fail(SinkError::refused("duplicate order id")))
        .idempotent()
        .dead_letters(letters.clone().map(|letter: &DeadLetter<u32>| letter.is_in_doubt()))
        .spawn();
    let outcome = desk.submit(1).await.unwrap().outcome().await;
    until_idle().await;
    assert_eq!((outcome.end, desk.stats().in_doubt), (End::InDoubt, 1));
    assert_eq!(letters.ops(), [true]);
}

/// Goal: an op that may have landed is not said to have expired before it could be sent. Method: it lands without an
/// answer, and its time is over while it backs off.
#[tokio::test(start_paused = true)]
async fn an_op_that_landed_and_whose_time_is_over_is_in_doubt() {
    // Guards: it ends as `Expired`: "the operation expired before it could be sent".
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
/// withdrawn while it backs off.
#[tokio::test(start_paused = true)]
async fn an_op_that_landed_and_is_withdrawn_is_in_doubt() {
    // Guards: it ends as `Withdrawn`, and whoever pulled the kill switch cannot see that it may live at the venue.
    let (desk, _worker) = Batcher::new(landed()).retry(long_backoff()).idempotent().spawn();
    let ack = desk.submit(1).await.unwrap();
    advance(ms(10)).await;
    assert_eq!(desk.withdraw(|_| true).await.unwrap(), [1]);
    assert_eq!(ack.outcome().await.end, End::InDoubt);
}

/// Goal: an op that may have landed is not said to have been evicted. Method: it lands without an answer and has to make
/// room while it backs off.
#[tokio::test(start_paused = true)]
async fn an_op_that_landed_and_is_evicted_is_in_doubt() {
    // Guards: it ends as `Evicted`.
    let limits = Limits::new(1).linger(AGES).max_pending(1).overflow(Overflow::EvictOldest);
    let (desk, _worker) = Batcher::new(landed()).limits(limits).retry(long_backoff()).idempotent().spawn();
    let ack = desk.submit(1).await.unwrap();
    advance(ms(10)).await;
    desk.send(2).await.unwrap();
    assert_eq!(ack.outcome().await.end, End::InDoubt);
}
