//! Tests of the overflow policies: wait, reject, evict the oldest, evict the lowest.

use roundlot::{
    Ack, Batcher, End, Handle, Limits, Overflow, SendError, Stages, TrySendError, stage,
    testing::{Gate, Recorder, until_idle},
};
use tokio_test::{assert_pending, task};

use crate::{AGES, at_once, conserved};

/// Returns a batcher with room for three ops, paused so that no op leaves until it is resumed.
async fn paused<T: Clone + Send + 'static>(stages: Stages<T>, overflow: Overflow) -> (Handle<T>, Recorder<T>) {
    let sink = Recorder::new();
    let limits = Limits::new(100).linger(AGES).max_pending(3).overflow(overflow);
    let (desk, worker) = Batcher::new(sink.clone()).stages(stages).limits(limits).spawn();
    desk.pause().await.unwrap();
    drop(worker);
    (desk, sink)
}

/// Resumes the batcher, and returns the written ops.
async fn written<T: Clone + Send + 'static>(desk: &Handle<T>, sink: &Recorder<T>) -> Vec<T> {
    desk.resume().await.unwrap();
    let _ = at_once(desk.flush()).await.unwrap();
    conserved(&desk.stats());
    sink.ops()
}

/// Goal: `Wait` is first come, first served, and no sender overtakes. Method: two senders wait behind a full buffer,
/// and a `try_send` after them.
#[tokio::test(start_paused = true)]
async fn waiting_senders_are_admitted_in_order() {
    let (desk, sink) = paused(Stages::new(), Overflow::Wait).await;
    desk.send_all([1, 2, 3]).await.unwrap();
    let mut lines = [task::spawn(desk.send(4)), task::spawn(desk.send(5))];
    for line in &mut lines {
        assert_pending!(line.poll());
    }
    assert_eq!(desk.try_send(6), Err(TrySendError::Full(6)));
    desk.resume().await.unwrap();
    for line in lines {
        at_once(line).await.unwrap();
    }
    assert_eq!(written(&desk, &sink).await, [1, 2, 3, 4, 5]);
}

/// Goal: `Reject` gives the op back at once. Method: each way to send, with a full buffer.
#[tokio::test(start_paused = true)]
async fn ops_are_rejected_when_the_buffer_is_full() {
    let (desk, sink) = paused(Stages::new(), Overflow::Reject).await;
    let rest = at_once(desk.send_all(1..=5)).await.unwrap_err();
    assert_eq!(rest.reason(), &SendError::Full(()));
    assert_eq!(rest.into_inner(), [4, 5]);
    assert_eq!(at_once(desk.send(4)).await, Err(SendError::Full(4)));
    assert_eq!(desk.try_send(4), Err(TrySendError::Full(4)));
    assert_eq!(at_once(desk.submit(4)).await.unwrap_err(), SendError::Full(4));
    assert_eq!(written(&desk, &sink).await, [1, 2, 3]);
}

/// Goal: `EvictOldest` lets the op in and the oldest out, whose caller is told. Method: five ops into a buffer of
/// three.
#[tokio::test(start_paused = true)]
async fn the_oldest_op_is_evicted() {
    let (desk, sink) = paused(Stages::new(), Overflow::EvictOldest).await;
    let first = desk.submit(1).await.unwrap();
    desk.send_all(2..=4).await.unwrap();
    desk.try_send(5).unwrap();
    assert_eq!(at_once(first.outcome()).await.end, End::Evicted);
    assert_eq!(written(&desk, &sink).await, [3, 4, 5]);
    assert_eq!(desk.stats().outcomes.evicted, 2);
}

/// Goal: `EvictLowest` evicts the oldest op of the lowest level, even if it is the new one. Method: ops of levels 2, 1,
/// 1, and then of levels 3, 2 and 0.
#[tokio::test(start_paused = true)]
async fn the_oldest_op_of_the_lowest_level_is_evicted() {
    let stages = Stages::new().priority_by(|op: &(u32, u32)| op.0);
    let (desk, sink) = paused(stages, Overflow::EvictLowest).await;
    desk.send_all([(2, 0), (1, 1), (1, 2)]).await.unwrap();
    desk.send_all([(3, 3), (2, 4)]).await.unwrap();
    let lowest = desk.submit((0, 5)).await.unwrap();
    assert_eq!(at_once(lowest.outcome()).await.end, End::Evicted);
    assert_eq!(written(&desk, &sink).await, [(3, 3), (2, 0), (2, 4)]);
}

// Guards: an op that a merge has moved up is listed as the youngest of its new level, wherever it stands there.
/// Goal: among equals it is the oldest that makes room, also if it was lifted there. Method: a low op between two high
/// ones is lifted by a merge; two more high ones come, and the two that came first must go.
#[tokio::test(start_paused = true)]
async fn an_op_that_moved_up_is_evicted_by_its_age() {
    let stages = Stages::new()
        .priority_by(|op: &(&'static str, u32)| op.1)
        .conflate_by(|op: &(&'static str, u32)| op.0, stage::latest);
    let (desk, sink) = paused(stages, Overflow::EvictLowest).await;
    desk.send_all([("first", 5), ("second", 1), ("third", 5)]).await.unwrap();
    until_idle().await;
    desk.send(("second", 5)).await.unwrap();
    until_idle().await;
    desk.send_all([("fourth", 5), ("fifth", 5)]).await.unwrap();
    let left: Vec<_> = written(&desk, &sink).await.into_iter().map(|(name, _)| name).collect();
    assert_eq!(left, ["third", "fourth", "fifth"]);
}

/// Goal: ops in flight cannot be evicted, and the bound still holds. Method: the whole buffer is in flight; the new op
/// is the only one that waits.
#[tokio::test(start_paused = true)]
async fn the_new_op_is_evicted_when_all_other_ops_are_in_flight() {
    for overflow in [Overflow::EvictOldest, Overflow::EvictLowest] {
        let sink = Recorder::new();
        let gate = Gate::new(sink.clone());
        let (desk, _worker) =
            Batcher::new(gate.clone()).limits(Limits::new(3).max_pending(3).overflow(overflow)).spawn();
        desk.send_all([1, 2, 3]).await.unwrap();
        gate.reached(1).await;
        let newcomer: Ack = desk.submit(4).await.unwrap();
        assert_eq!(at_once(newcomer.outcome()).await.end, End::Evicted);
        gate.open();
        let _ = at_once(desk.flush()).await.unwrap();
        assert_eq!(sink.ops(), [1, 2, 3]);
    }
}

/// Goal: an op that is merged into another, or is a repeat, evicts no op. Method: a full buffer that evicts, and
/// one op more under a key that waits.
#[tokio::test(start_paused = true)]
async fn an_op_that_takes_no_permit_evicts_no_op() {
    let conflated = Stages::new().conflate_by(|op: &u32| op % 10, stage::latest);
    let deduplicated = Stages::new().dedup_by(|op: &u32| op % 10, AGES);
    for stages in [conflated, deduplicated] {
        let (desk, sink) = paused(stages, Overflow::EvictOldest).await;
        desk.send_all([1, 2, 3, 11]).await.unwrap();
        let ops = written(&desk, &sink).await;
        assert_eq!(ops.into_iter().map(|op| op % 10).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(desk.stats().outcomes.evicted, 0);
    }
}

/// Goal: the bound holds when the policy changes under ops that came to evict. Method: a full, paused buffer, three ops
/// more under `EvictOldest`, and `Wait` before the task has looked. Guards: ops that were admitted under the old
/// policy.
#[tokio::test(start_paused = true)]
async fn ops_sent_to_evict_keep_the_bound_when_the_policy_becomes_wait() {
    let (desk, _sink) = paused(Stages::new(), Overflow::EvictOldest).await;
    until_idle().await;
    for op in 0..6u32 {
        desk.try_send(op).unwrap();
    }
    desk.set_limits(Limits::new(100).linger(AGES).max_pending(3)).unwrap();
    until_idle().await;
    assert_eq!((desk.stats().waiting, desk.stats().outcomes.evicted), (3, 3));
}

/// Goal: the policy can be changed while ops wait, and covers the waiting ops. Method: `Wait` becomes `EvictOldest`
/// with a full buffer.
#[tokio::test(start_paused = true)]
async fn a_policy_changed_to_evict_applies_to_ops_already_waiting() {
    let (desk, sink) = paused(Stages::new(), Overflow::Wait).await;
    desk.send_all([1, 2, 3]).await.unwrap();
    until_idle().await;
    desk.set_limits(Limits::new(100).linger(AGES).max_pending(3).overflow(Overflow::EvictOldest)).unwrap();
    desk.try_send(4).unwrap();
    assert_eq!(written(&desk, &sink).await, [2, 3, 4]);
}

/// Goal: under an evicting policy, any number of ops sent at once get in. Method: far more than may be under way, on
/// one thread, where the task can take them in only if the sender yields.
#[tokio::test(start_paused = true)]
async fn a_long_send_all_lets_the_task_drain_the_inbox() {
    let limits = Limits::new(10).max_pending(10).overflow(Overflow::EvictOldest);
    let (desk, worker) = Batcher::new(Recorder::new()).limits(limits).spawn();
    desk.send_all(0..200_000u32).await.unwrap();
    let stats = worker.shutdown().await.unwrap().stats;
    assert_eq!((stats.accepted, stats.outcomes.delivered + stats.outcomes.evicted), (200_000, 200_000));
}

/// Goal: a waiting sender obeys the current policy, not that of its arrival. Method: with each way to wait
/// behind a full buffer, the policy is switched to `Reject`: the ops come back. A permit is waited for all the same.
#[tokio::test(start_paused = true)]
async fn waiting_senders_are_rejected_when_the_policy_becomes_reject() {
    let (desk, sink) = paused(Stages::new(), Overflow::Wait).await;
    desk.send_all([1, 2, 3]).await.unwrap();
    let mut send = task::spawn(desk.send(4));
    let mut submit = task::spawn(desk.submit(5));
    let mut all = task::spawn(desk.send_all([6, 7]));
    let mut permit = task::spawn(desk.reserve());
    assert_pending!(send.poll());
    assert_pending!(submit.poll());
    assert_pending!(all.poll());
    assert_pending!(permit.poll());
    desk.set_limits(Limits::new(100).linger(AGES).max_pending(3).overflow(Overflow::Reject)).unwrap();
    assert!(send.is_woken() && submit.is_woken() && all.is_woken());
    assert_eq!(at_once(send).await, Err(SendError::Full(4)));
    assert_eq!(at_once(submit).await.unwrap_err(), SendError::Full(5));
    assert_eq!(at_once(all).await.unwrap_err().into_inner(), [6, 7]);
    assert_pending!(permit.poll());
    assert_eq!(written(&desk, &sink).await, [1, 2, 3]);
    at_once(permit).await.unwrap().send(8).unwrap();
}

/// Goal: the same for a policy that evicts: waiting ops are admitted before later ones. Method: two wait, the
/// policy is switched, and a third is sent once they have been polled.
#[tokio::test(start_paused = true)]
async fn waiting_senders_evict_when_the_policy_becomes_evict() {
    let (desk, sink) = paused(Stages::new(), Overflow::Wait).await;
    desk.send_all([1, 2, 3]).await.unwrap();
    let mut send = task::spawn(desk.send(4));
    let mut all = task::spawn(desk.send_all([5, 6]));
    assert_pending!(send.poll());
    assert_pending!(all.poll());
    desk.set_limits(Limits::new(100).linger(AGES).max_pending(3).overflow(Overflow::EvictOldest)).unwrap();
    at_once(send).await.unwrap();
    at_once(all).await.unwrap();
    desk.send(7).await.unwrap();
    assert_eq!(written(&desk, &sink).await, [5, 6, 7]);
    assert_eq!(desk.stats().outcomes.evicted, 4);
}
