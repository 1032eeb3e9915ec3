//! Tests of promise 10: the cancellation behavior that each public future documents, one test for each.

use std::{future::Future, pin::pin};

use futures::{FutureExt, StreamExt};
use roundlot::{
    BatchExt, Batcher, End, Handle, Limits, SendError, Stages, TrySendError, Worker,
    testing::{Gate, Recorder, until_idle},
};
use tokio::{select, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_test::{assert_pending, assert_ready, task};

use crate::{AGES, at_once, eventually, ms, secs};

/// Returns a batcher of one op, which is in flight behind a gate: the next sender waits for a permit.
async fn full() -> (Handle<u32>, Worker<u32>, Gate<Recorder<u32>>, Recorder<u32>) {
    let sink = Recorder::new();
    let gate = Gate::new(sink.clone());
    let (desk, worker) = Batcher::new(gate.clone()).limits(Limits::new(1).max_pending(1)).spawn();
    desk.send(0).await.unwrap();
    gate.reached(1).await;
    (desk, worker, gate, sink)
}

/// Polls `future` once, so that it waits, and drops it.
async fn given_up(future: impl Future) {
    let mut future = pin!(future);
    select! {
        biased;
        _ = &mut future => panic!("it did not wait"),
        () = until_idle() => {}
    }
}

/// Asserts that an abandoned future left nothing: only the op in flight exists, and there is room for the next.
async fn nothing_is_left(desk: &Handle<u32>, gate: &Gate<Recorder<u32>>, sink: &Recorder<u32>) {
    assert_eq!(desk.stats().accepted, 1);
    gate.open();
    at_once(desk.send(9)).await.unwrap();
    let _ = at_once(desk.flush()).await.unwrap();
    assert_eq!(sink.ops(), [0, 9]);
}

/// `send` says: an op is lost to its caller if the future is dropped while it waits; it is then not sent.
#[tokio::test(start_paused = true)]
async fn a_send_that_is_dropped_sends_nothing_and_takes_no_room() {
    let (desk, _worker, gate, sink) = full().await;
    given_up(desk.send(1)).await;
    nothing_is_left(&desk, &gate, &sink).await;
}

/// The same, when room has been found for it and it has not run since.
#[tokio::test(start_paused = true)]
async fn a_send_dropped_as_it_gets_its_permit_releases_the_permit() {
    let (desk, _worker, gate, sink) = full().await;
    let mut send = task::spawn(desk.send(1));
    assert_pending!(send.poll());
    gate.pass(1);
    until_idle().await;
    assert!(send.is_woken());
    drop(send);
    nothing_is_left(&desk, &gate, &sink).await;
}

/// `submit` says the same as `send`.
#[tokio::test(start_paused = true)]
async fn a_submit_that_is_dropped_sends_nothing_and_takes_no_room() {
    let (desk, _worker, gate, sink) = full().await;
    given_up(desk.submit(1)).await;
    nothing_is_left(&desk, &gate, &sink).await;
}

/// `send_all` says: some may have been sent, the rest is dropped. The sent ops are a prefix, and no room is lost.
#[tokio::test(start_paused = true)]
async fn a_send_all_that_is_dropped_has_sent_a_prefix_and_takes_no_room() {
    let sink = Recorder::new();
    let (desk, _worker) = Batcher::new(sink.clone()).limits(Limits::new(10).linger(AGES).max_pending(4)).spawn();
    desk.pause().await.unwrap();
    given_up(desk.send_all(0..10)).await;
    assert_eq!(desk.stats().waiting, 4);
    desk.resume().await.unwrap();
    let _ = at_once(desk.flush()).await.unwrap();
    assert_eq!(sink.ops(), [0, 1, 2, 3]);
    desk.pause().await.unwrap();
    assert_eq!((0..9).filter(|op| desk.try_send(*op).is_ok()).count(), 4);
}

/// `reserve` says: cancel safe. In a loop of `select!` that gives it up again and again, the op stays with its owner,
/// and is sent once there is room.
#[tokio::test(start_paused = true)]
async fn a_reserve_that_is_dropped_takes_no_room() {
    let (desk, _worker, gate, sink) = full().await;
    let mut op = Some(1);
    for round in 0.. {
        select! {
            biased;
            permit = desk.reserve() => {
                permit.unwrap().send(op.take().unwrap()).unwrap();
                break;
            }
            () = until_idle() => {}
        }
        if round == 5 {
            gate.open();
        }
    }
    let _ = at_once(desk.flush()).await.unwrap();
    assert_eq!(sink.ops(), [0, 1]);
}

/// `reserve` says: a dropped future loses its place in the wait queue, and no other sender does.
#[tokio::test(start_paused = true)]
async fn a_dropped_reserve_gives_its_turn_to_the_next_waiter() {
    let (desk, _worker, gate, _sink) = full().await;
    let (mut first, mut second) = (task::spawn(desk.reserve()), task::spawn(desk.reserve()));
    assert_pending!(first.poll());
    assert_pending!(second.poll());
    gate.pass(1);
    until_idle().await;
    assert!(first.is_woken() && !second.is_woken());
    drop(first);
    assert!(second.is_woken());
    assert_ready!(second.poll()).unwrap().send(1).unwrap();
}

/// `Ack` says: cancel safe, by reference. An ack is polled in a `select!` that loses, and resolves later.
#[tokio::test(start_paused = true)]
async fn an_ack_can_be_polled_on_by_reference() {
    let (desk, _worker, gate, _sink) = full().await;
    gate.pass(1);
    let mut ack = desk.submit(1).await.unwrap();
    for _ in 0..3 {
        select! {
            biased;
            _ = &mut ack => panic!("it is not written yet"),
            () = until_idle() => {}
        }
    }
    gate.open();
    at_once(&mut ack).await.unwrap();
}

/// `Ack` says: dropping it withdraws nothing; `outcome` says that it gives up on the answer only.
#[tokio::test(start_paused = true)]
async fn an_op_whose_ack_or_outcome_is_dropped_is_still_written() {
    let sink = Recorder::new();
    let (desk, _worker) = Batcher::new(sink.clone()).limits((10, AGES)).spawn();
    drop(desk.submit(1).await.unwrap());
    given_up(desk.submit(2).await.unwrap().outcome()).await;
    let _ = at_once(desk.flush()).await.unwrap();
    assert_eq!(sink.ops(), [1, 2]);
}

/// `flush` says: once polled, the ops are flushed even if the future is dropped; before that, nothing happens.
#[tokio::test(start_paused = true)]
async fn a_flush_that_is_dropped_flushes_if_it_was_polled() {
    let sink = Recorder::new();
    let (desk, _worker) = Batcher::new(sink.clone()).limits((10, AGES)).spawn();
    desk.send(1).await.unwrap();
    drop(desk.flush());
    until_idle().await;
    assert!(sink.is_empty());
    let mut flush = task::spawn(desk.flush());
    assert_pending!(flush.poll());
    drop(flush);
    until_idle().await;
    assert_eq!(sink.ops(), [1]);
}

/// `withdraw` says: a future that was polled may have withdrawn the ops all the same; they are never sent. If it is
/// dropped before the task has looked, they stay; if it is dropped after, they are withdrawn.
#[tokio::test(start_paused = true)]
async fn a_withdraw_that_is_dropped_withdraws_before_the_task_looks_or_not_at_all() {
    for task_looks in [false, true] {
        let sink = Recorder::new();
        let (desk, _worker) = Batcher::new(sink.clone()).limits((10, AGES)).spawn();
        let ack = desk.submit(1).await.unwrap();
        let mut withdraw = task::spawn(desk.withdraw(|_| true));
        assert_pending!(withdraw.poll());
        if task_looks {
            until_idle().await;
        }
        drop(withdraw);
        let _ = at_once(desk.flush()).await.unwrap();
        let end = at_once(ack.outcome()).await.end;
        assert_eq!((end, sink.len()), if task_looks { (End::Withdrawn, 0) } else { (End::Delivered, 1) });
    }
}

/// `Shutdown` says: once begun it goes on, even if the future is dropped; before that, nothing happens.
#[tokio::test(start_paused = true)]
async fn a_shutdown_that_is_dropped_goes_on_if_it_has_begun() {
    let sink = Recorder::new();
    let (desk, worker) = Batcher::new(sink.clone()).limits((10, AGES)).spawn();
    desk.send(1).await.unwrap();
    let mut shutdown = task::spawn(worker.shutdown().into_future());
    assert_pending!(shutdown.poll());
    drop(shutdown);
    at_once(sink.wait_closed()).await;
    assert_eq!((sink.ops(), desk.try_send(2)), (vec![1], Err(TrySendError::Closed(2))));

    let (desk, worker) = Batcher::new(Recorder::new()).limits((10, AGES)).spawn();
    drop(worker.shutdown().within(secs(1)).into_future());
    until_idle().await;
    desk.send(1).await.unwrap();
    assert_eq!(at_once(desk.flush()).await.unwrap().outcomes.delivered, 1);
}

/// `join` says: dropping the future lets the task go on unwatched.
#[tokio::test(start_paused = true)]
async fn a_join_that_is_dropped_lets_the_task_go_on() {
    let (desk, worker) = Batcher::new(Recorder::new()).limits((10, AGES)).spawn();
    given_up(worker.join()).await;
    desk.send(1).await.unwrap();
    assert_eq!(at_once(desk.flush()).await.unwrap().outcomes.delivered, 1);
}

/// `Batched` says: dropping `next()` loses nothing. A call is given up after each item, and all items come in order.
#[tokio::test(start_paused = true)]
async fn a_next_that_is_dropped_loses_no_items() {
    let (sender, receiver) = mpsc::channel(8);
    let mut batches = ReceiverStream::new(receiver).batched(Stages::new(), (3, ms(50)));
    let mut seen = Vec::new();
    for item in 0..20 {
        sender.send(item).await.unwrap();
        select! {
            biased;
            batch = batches.next() => seen.extend(batch.unwrap()),
            () = until_idle() => {}
        }
    }
    drop(sender);
    while let Some(batch) = eventually(batches.next()).await {
        seen.extend(batch);
    }
    assert!(seen.into_iter().eq(0..20));
}

/// `WorkerFuture` says: dropping it before it is done loses what it holds, and callers who wait are told.
#[tokio::test(start_paused = true)]
async fn a_dropped_worker_future_answers_waiting_callers() {
    let (desk, worker) = Batcher::new(Gate::new(Recorder::new())).limits(Limits::new(1).max_pending(2)).split();
    let mut worker = task::spawn(worker);
    let acks = [desk.submit(1).await.unwrap(), desk.submit(2).await.unwrap()];
    let mut flush = task::spawn(desk.flush());
    assert_pending!(flush.poll());
    assert_pending!(worker.poll());
    let (mut withdraw, mut send) = (task::spawn(desk.withdraw(|_| true)), task::spawn(desk.send(3)));
    assert_pending!(withdraw.poll());
    assert_pending!(send.poll());
    drop(worker);
    for ack in acks {
        assert_eq!(at_once(ack.outcome()).await.end, End::Lost);
    }
    assert!(at_once(flush).await.is_err());
    assert!(at_once(withdraw).await.is_err());
    assert_eq!(at_once(send).await, Err(SendError::Closed(3)));
}

/// `pause` and `resume` say: cancel safe, and done when it is so. Method: a pause that was polled once and dropped holds
/// the ops back; one that was awaited lets no cut begin, nor does a wish that is dropped unpolled change anything.
#[tokio::test(start_paused = true)]
async fn a_pause_that_is_dropped_takes_effect_and_one_that_is_awaited_has() {
    let sink = Recorder::new();
    let (desk, worker) = Batcher::new(sink.clone()).limits(1).spawn();
    assert!(desk.pause().now_or_never().is_none());
    desk.send_all([1, 2]).await.unwrap();
    drop(desk.resume());
    until_idle().await;
    assert!(desk.stats().paused && sink.is_empty());
    assert!(desk.resume().now_or_never().is_none());
    sink.wait_for(2).await;
    desk.send(3).await.unwrap();
    at_once(desk.pause()).await.unwrap();
    let (begun, paused) = (desk.stats().batches, desk.stats().paused);
    assert!(paused);
    desk.send(4).await.unwrap();
    until_idle().await;
    assert_eq!(desk.stats().batches, begun);
    // The last of concurrent wishes counts, and all are answered.
    let (resumed, paused_again) = at_once(async { tokio::join!(desk.resume(), desk.pause()) }).await;
    assert!(resumed.is_ok() && paused_again.is_ok() && desk.stats().paused);
    at_once(desk.resume()).await.unwrap();
    let _ = worker.shutdown().await.unwrap();
    assert_eq!(sink.ops(), [1, 2, 3, 4]);
    assert!(at_once(desk.pause()).await.is_err() && at_once(desk.resume()).await.is_err());
}
