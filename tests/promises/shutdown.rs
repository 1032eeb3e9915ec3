//! Proves promise 8: shutdown drains, waits nothing out, and gives back what it could not write.

use std::time::Duration;

use roundlot::{
    Batcher, Limits, Stages,
    testing::{Gate, Recorder, until_idle},
};

use crate::{AGES, at_once, secs};

/// Goal: nobody waits for a resume that cannot come. Method: the last handle of a paused batcher is dropped right before
/// the worker is shut down without a limit.
#[tokio::test(start_paused = true)]
async fn a_paused_batcher_without_handles_ends_though_its_shutdown_has_all_the_time() {
    // Guards: the worker's `Stop` replaces the one of the last handle before the task has seen it, and with it the notice
    // that nobody can resume. Without the shutdown, or with a turn of the task in between, it ends at once.
    let (desk, worker) = Batcher::new(Recorder::new()).limits(Limits::new(10).linger(AGES)).spawn();
    desk.send(1).await.unwrap();
    desk.pause();
    until_idle().await;
    drop(desk);
    let summary = at_once(worker.shutdown().within(Duration::MAX).into_future()).await.unwrap();
    assert_eq!(summary.returned.len(), 1);
}

/// Goal: what comes back does so in the order in which it came, as the summary says. Method: a low op, a high one that
/// overtakes it and hangs, and a shutdown that does not wait.
#[tokio::test(start_paused = true)]
async fn returned_ops_are_in_the_order_in_which_they_came() {
    // Guards: ops in flight stand before all that wait, whatever came first.
    let gate = Gate::new(Recorder::new());
    let stages = Stages::new().priority_by(|op: &u32| *op);
    let (desk, worker) = Batcher::new(gate.clone()).stages(stages).limits(1).spawn();
    desk.pause();
    desk.send(1).await.unwrap();
    desk.send(2).await.unwrap();
    desk.resume();
    gate.reached(1).await;
    let summary = worker.shutdown().within(secs(1)).await.unwrap();
    let returned: Vec<_> = summary.returned.iter().map(|returned| (returned.op, returned.in_flight)).collect();
    assert_eq!(returned, [(1, false), (2, true)]);
}
