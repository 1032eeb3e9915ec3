//! Proves promise 3: age counts from `send`, the deadline is that of the oldest op, and an idle batcher sleeps.

use roundlot::{
    Batcher, Limits,
    testing::{Recorder, advance},
};
use tokio_test::{assert_pending, task};

use crate::secs;

/// Goal: nothing waiting means no wake-up, also where a timer was set before. Method: an op arms the linger and is then
/// flushed; the deadline that is now stale passes, and the task must not be woken.
#[tokio::test(start_paused = true)]
async fn a_deadline_that_is_settled_early_wakes_nobody_later() {
    // Guards: `Timer::set(None)` leaves the `Sleep` armed with its old deadline and waker.
    let (desk, worker) = Batcher::new(Recorder::new()).limits(Limits::new(10).linger(secs(3600))).split();
    let mut worker = task::spawn(worker);
    assert_pending!(worker.poll());
    desk.try_send(1).unwrap();
    assert!(worker.is_woken());
    assert_pending!(worker.poll());
    let mut flush = task::spawn(desk.flush());
    assert_pending!(flush.poll());
    while worker.is_woken() {
        assert_pending!(worker.poll());
    }
    assert!(flush.is_woken());
    advance(secs(7200)).await;
    assert!(!worker.is_woken(), "an idle batcher was woken");
}
