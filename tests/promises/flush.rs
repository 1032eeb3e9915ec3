//! Proves promise 4: a flush is a snapshot barrier that reports.

use roundlot::{
    Batcher, ErrorKind, Limits, SinkError,
    testing::{Flaky, Gate, Recorder, until_idle},
};
use tokio_test::{assert_pending, task};

use crate::AGES;

/// Goal: a failure is reported to the flush that is listened to. Method: a flush is given up (a timeout around it) while
/// its op is being written, the op is refused, and the next flush asks.
#[tokio::test(start_paused = true)]
async fn a_failure_is_reported_even_if_the_flush_before_was_given_up() {
    // Guards: the epoch of a flush that nobody waits for counts as reported: the next flush says that all is well.
    let gate = Gate::new(Flaky::new(Recorder::new()).fail(SinkError::refused("no")));
    let (desk, _worker) = Batcher::new(gate.clone()).limits(Limits::new(10).linger(AGES)).spawn();
    desk.send(1).await.unwrap();
    {
        let mut given_up = task::spawn(desk.flush());
        assert_pending!(given_up.poll());
        gate.reached(1).await;
    }
    gate.open();
    until_idle().await;
    let report = desk.flush().await.unwrap();
    assert_eq!((report.refused, report.is_ok()), (1, false));
}

/// Goal: a failed write is never reported as success. Method: the sink says of its op that it is lost.
#[tokio::test(start_paused = true)]
async fn an_op_that_the_sink_lost_is_no_success() {
    // Guards: `FlushReport` has no count for lost ops, so the report says `is_ok` and a total of 0.
    let flaky = Flaky::new(Recorder::new()).fail(ErrorKind::Lost.into());
    let (desk, _worker) = Batcher::new(flaky).limits(Limits::new(10).linger(AGES)).spawn();
    desk.send(1).await.unwrap();
    let report = desk.flush().await.unwrap();
    assert_eq!(desk.stats().lost, 1);
    assert!(!report.is_ok(), "{report:?}");
}
