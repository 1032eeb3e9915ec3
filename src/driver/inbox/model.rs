//! The inbox under a model checker: every order in which threads can take its lock, up to a bound. Built only with
//! `--cfg roundlot_loom`, which puts loom's mutex in the place of the usual one; `tests/run.sh` does that.

use std::{
    pin::pin,
    task::{Context, Poll},
    time::Duration,
};

use futures::task::noop_waker;
use loom::{
    future::block_on,
    model::Builder,
    sync::Arc,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use super::*;
use crate::{
    driver::reply::ReplyPool,
    rules::{
        accumulator::Arrival,
        outcome::{End, Outcome},
    },
};

type Numbers = Inbox<u32, ()>;

fn inbox(permits: usize) -> Arc<Numbers> {
    Arc::new(Inbox::new(&Limits::new(permits).max_pending(permits), None))
}

/// Explores all runs with up to two preemptions, which is where almost all bugs of this kind are.
fn check(run: impl Fn() + Send + Sync + 'static) {
    let mut model = Builder::new();
    model.preemption_bound = Some(2);
    model.check(run);
}

/// Does what a handle's `send` does: tries, and waits for a permit if none is available.
async fn send(inbox: &Numbers, op: u32) -> Result<Timestamp, PushError> {
    let mut submission = Some(Submission { op, at: Some(Timestamp::END), ack: None });
    match inbox.push(&mut submission, Admission::TryAcquire) {
        Err(PushError::Full) => {
            acquire(inbox).await?;
            inbox.push(&mut submission, Admission::Queued)
        }
        done => done,
    }
}

/// Does what a handle's `send` does while the policy may change.
async fn send_by_policy(inbox: &Numbers, op: u32) -> Result<Timestamp, PushError> {
    let mut submission = Some(Submission { op, at: Some(Timestamp::END), ack: None });
    match inbox.push(&mut submission, Admission::TryAcquire) {
        Err(PushError::Full) if inbox.overflow() == Overflow::Wait => {
            let admission = acquire_by_policy(inbox).await?;
            inbox.push(&mut submission, admission)
        }
        done => done,
    }
}

/// Goal: a waiting sender hears of a policy that does not wait, whenever it changes, and its place passes to the next.
/// Method: one sender more than there are permits, and a change to `Reject` at any moment; the task drains nothing.
#[test]
fn no_sender_sleeps_through_a_change_of_policy() {
    check(|| {
        let inbox = inbox(1);
        block_on(send(&inbox, 1)).unwrap();
        let sender = {
            let inbox = Arc::clone(&inbox);
            thread::spawn(move || block_on(send_by_policy(&inbox, 2)))
        };
        inbox.set_limits(Limits::new(1).max_pending(1).overflow(Overflow::Reject));
        assert_eq!(sender.join().unwrap().unwrap_err(), PushError::Full);
        assert!(inbox.state().wait_queue.is_empty());
    });
}

/// Does what the task does: takes what has come in, settles it at once, and sleeps when there is nothing, until it has `count`
/// ops or the inbox is closed and empty.
async fn receive(inbox: &Numbers, count: usize) -> Vec<u32> {
    let (mut taken, mut got) = (Drained::new(), Vec::new());
    while got.len() < count {
        inbox.readable().await;
        let stops = inbox.take(&mut taken).is_some_and(|control| control.stop.is_some());
        taken.commands.clear();
        inbox.release(taken.ops.len());
        got.append(&mut taken.ops);
        if stops && inbox.is_empty() {
            break;
        }
    }
    got
}

/// Goal: no op is lost, each sender's order holds, and no sender or task sleeps for ever. Method: two senders, fewer permits
/// than ops.
#[test]
fn ops_arrive_in_order_with_fewer_permits_than_ops() {
    check(|| {
        let inbox = inbox(1);
        let senders = [&[1, 2][..], &[3]].map(|ops| {
            let inbox = Arc::clone(&inbox);
            thread::spawn(move || {
                block_on(async {
                    for op in ops {
                        send(&inbox, *op).await.unwrap();
                    }
                });
            })
        });
        let got = block_on(receive(&inbox, 3));
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        assert!([[1, 2, 3], [1, 3, 2], [3, 1, 2]].iter().any(|order| *order == *got), "{got:?}");
        assert_eq!(inbox.charge(), (0, false), "one op has a permit, and no sender waits");
    });
}

/// Goal: a send that races with the end is taken or given back, never both and never neither. Method: close in between.
#[test]
fn a_send_that_races_with_close_is_taken_or_given_back() {
    check(|| {
        let inbox = inbox(1);
        let taken = Arc::new(AtomicUsize::new(0));
        let senders = [1, 2].map(|op| {
            let (inbox, taken) = (Arc::clone(&inbox), Arc::clone(&taken));
            thread::spawn(move || {
                if block_on(send(&inbox, op)).is_ok() {
                    taken.fetch_add(1, Ordering::Relaxed);
                }
            })
        });
        inbox.close();
        inbox.update_control(|control| control.stop(None, false));
        let early = block_on(receive(&inbox, 2)).len();
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        let mut late = Drained::new();
        inbox.take(&mut late);
        assert_eq!(early + late.ops.len(), taken.load(Ordering::Relaxed));
    });
}

/// Goal: a permit granted to a dropped sender passes on. Method: one joins the queue and is dropped while a permit is
/// freed; the other one must get it.
#[test]
fn the_permit_of_a_dropped_sender_passes_on() {
    check(|| {
        let inbox = inbox(1);
        block_on(send(&inbox, 1)).unwrap();
        let quitter = {
            let inbox = Arc::clone(&inbox);
            thread::spawn(move || {
                let waker = noop_waker();
                let mut waits = pin!(acquire(&inbox));
                match waits.as_mut().poll(&mut Context::from_waker(&waker)) {
                    Poll::Ready(Ok(())) => inbox.release(1),
                    Poll::Ready(Err(_)) => unreachable!("the inbox is not closed"),
                    Poll::Pending => {}
                }
            })
        };
        let waiting = {
            let inbox = Arc::clone(&inbox);
            thread::spawn(move || block_on(send(&inbox, 2)).unwrap())
        };
        let got = block_on(receive(&inbox, 2));
        quitter.join().unwrap();
        waiting.join().unwrap();
        assert_eq!(got, [1, 2]);
        // All permits are back.
        block_on(send(&inbox, 3)).unwrap();
    });
}

/// Goal: many ops at once stay together. Method: two senders of chunks.
#[test]
fn a_chunk_stays_together() {
    check(|| {
        let inbox = inbox(8);
        let senders = [10, 20].map(|first| {
            let inbox = Arc::clone(&inbox);
            thread::spawn(move || {
                inbox.push_some(&mut vec![first, first + 1], Timestamp::END, Admission::TryAcquire).unwrap()
            })
        });
        let got = block_on(receive(&inbox, 4));
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        assert!(got == [10, 11, 20, 21] || got == [20, 21, 10, 11], "{got:?}");
    });
}

/// Goal: each caller is told of its own op, whatever comes between. Method: two submit and wait for the answer, which is
/// their op; the first sends another op before.
#[test]
fn answers_find_their_callers() {
    check(|| {
        let inbox = Arc::new(Inbox::<u32, u32>::new(&Limits::new(8), None));
        let callers = [&[1, 2][..], &[3]].map(|ops| {
            let inbox = Arc::clone(&inbox);
            thread::spawn(move || {
                let (op, before) = ops.split_last().unwrap();
                for op in before {
                    inbox.push(&mut Some(Submission::new(*op)), Admission::TryAcquire).unwrap();
                }
                let (ack, verdict) = ReplyPool::new().pair();
                inbox
                    .push(&mut Some(Submission { ack: Some(ack), ..Submission::new(*op) }), Admission::TryAcquire)
                    .unwrap();
                let outcome = Outcome::from(block_on(verdict).unwrap());
                assert_eq!(outcome.result.unwrap(), *op);
            })
        });
        let (mut taken, mut count) = (Drained::new(), 0);
        while count < 3 {
            block_on(inbox.readable());
            inbox.take(&mut taken);
            let (commands, mut arrivals) = taken.drain();
            for command in commands {
                let Command::Ops(run) = command else { unreachable!("nothing else is sent") };
                for Arrival { op, token, .. } in (0..run.count).map(|_| arrivals.next(&run)) {
                    let outcome = Outcome { result: Ok(op), end: End::Delivered, attempts: 1, latency: Duration::ZERO };
                    token.into_iter().for_each(|ack| ack.tell(outcome.clone().into()));
                    count += 1;
                }
            }
        }
        callers.into_iter().for_each(|caller| caller.join().unwrap());
    });
}
