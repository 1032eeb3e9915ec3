//! Proves promise 6: what is tried again, when, how often, and what may become of it meanwhile.

use std::time::Duration;

use roundlot::{
    Batch, Batcher, End, Limits, Retry, SinkError, sink_fn,
    testing::{Flaky, Recorder, advance, until_idle},
};

use crate::{at_once, secs};

/// Goal: a backoff longer than the clock can tell lasts for ever, as a linger does; it is no hot loop, and kills nobody.
/// Method: a transient failure and a policy of `Duration::MAX`; a year later nothing may have been tried again.
#[tokio::test(start_paused = true)]
async fn a_backoff_beyond_the_clock_is_waited_for() {
    // Guards: `now.checked_add(delay)` gives None, which is taken for no backoff. With `fail_times(2, ..)` it is worse: the
    // second failure overflows `history.backing_off`, the task panics, and `Actor::drop` panics in `lose_all` over the
    // half-changed buffer while unwinding, which aborts the process.
    let flaky = Flaky::new(Recorder::new()).fail(SinkError::transient("down"));
    let (desk, worker) = Batcher::new(flaky.clone())
        .limits(Limits::new(1))
        .retry(Retry::exponential(Duration::MAX, Duration::MAX).max_attempts(10))
        .spawn();
    let ack = desk.submit(1).await.unwrap();
    advance(secs(365 * 24 * 3600)).await;
    assert_eq!((flaky.writes(), desk.stats().waiting, desk.stats().lost), (1, 1, 0));
    let summary = at_once(worker.shutdown().into_future()).await.expect("the task is alive");
    assert_eq!(summary.returned.len(), 1);
    assert_eq!(ack.outcome().await.end, End::Returned);
}

/// Goal: an op marked `retry` goes back into the buffer, whatever the kind of the error. Method: the first write marks
/// the one op of its batch with `TooLarge`, the second takes it.
#[tokio::test(start_paused = true)]
async fn an_op_marked_retry_is_tried_again_even_if_the_error_says_too_large() {
    // Guards: `Batch::retry` lets `TooLarge` pass, for which an op by itself is given up.
    let sink = sink_fn(|batch: &mut Batch<u32>| {
        Box::pin(async move {
            if batch.attempt() == 1 {
                batch.retry(0, SinkError::too_large("not in this frame"));
            }
            Ok(batch.accept_all())
        })
    });
    let (desk, _worker) = Batcher::new(sink).limits(Limits::new(10)).retry(Retry::default().seed(1)).spawn();
    let outcome = desk.submit(1).await.unwrap().outcome().await;
    until_idle().await;
    assert_eq!((outcome.end, outcome.attempts), (End::Delivered, 2));
}
