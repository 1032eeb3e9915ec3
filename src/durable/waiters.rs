//! [`Waiters`]: callers of this process that wait for the outcome of an op, by its id; and [`Ack`], their end.

use std::{
    collections::HashMap,
    future::Future,
    pin::Pin,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::sync::oneshot;

use super::log::lead::IdRun;
use crate::rules::{
    outcome::{AckError, End, OpId, Outcome},
    panics,
};

/// Resolves to the receipt of one submitted op, or to why there is none, once the record of it has committed.
///
/// Dropping it withdraws nothing. If the batcher leaves the log first, it ends as [`AckError::Detached`].
///
/// # Cancel safety
///
/// Cancel safe: it can be polled on, by reference, after a `select!` has dropped the borrow.
#[derive(Debug)]
#[must_use = "an ack tells what became of the operation; await it, or use `send`"]
pub struct Ack<R = ()> {
    id: OpId,
    outcome: oneshot::Receiver<Outcome<R>>,
}

impl<R> Ack<R> {
    /// The op's name in the log, by which its outcome can be asked for later, and by another process.
    pub fn id(&self) -> OpId {
        self.id
    }

    /// Like awaiting the ack itself, with more to read.
    ///
    /// # Cancel safety
    ///
    /// Takes the ack, so that dropping the future gives up on the answer. The op goes its way all the same.
    pub async fn outcome(self) -> Outcome<R> {
        let detached = AckError::Detached { id: self.id };
        self.outcome.await.unwrap_or(Outcome {
            result: Err(detached),
            end: End::Returned,
            attempts: 0,
            latency: Duration::ZERO,
        })
    }
}

impl<R> Future for Ack<R> {
    type Output = Result<R, AckError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let id = self.id;
        let outcome = ready!(Pin::new(&mut self.outcome).poll(cx));
        Poll::Ready(outcome.map_or(Err(AckError::Detached { id }), |outcome| outcome.result))
    }
}

#[derive(Debug)]
pub(crate) struct Waiters<R> {
    /// This process.
    me: u64,
    /// Ops of this process.
    own: Mutex<ById<R>>,
    /// Ops of other processes.
    others: Mutex<ById<R>>,
}

type ById<R> = HashMap<OpId, Vec<oneshot::Sender<Outcome<R>>>>;

impl<R> Waiters<R> {
    pub(crate) fn new(me: u64) -> Self {
        Self { me, own: Mutex::default(), others: Mutex::default() }
    }

    /// Makes an ack for an op that is about to be sent.
    pub(crate) fn register(&self, id: OpId) -> Registered<'_, R> {
        let (sender, outcome) = oneshot::channel();
        let mut by_id = self.of(id);
        let waiting = by_id.entry(id).or_default();
        waiting.retain(|sender| !sender.is_closed());
        waiting.push(sender);
        Registered { waiters: self, id, ack: Some(Ack { id, outcome }) }
    }

    /// Drops the senders whose acks are gone.
    fn forget_dropped(&self, id: OpId) {
        let mut by_id = self.of(id);
        if let Some(waiting) = by_id.get_mut(&id) {
            waiting.retain(|sender| !sender.is_closed());
            if waiting.is_empty() {
                by_id.remove(&id);
            }
        }
    }

    /// Whether a caller waits for any of these ops.
    pub(crate) fn want_any(&self, ids: impl Iterator<Item = OpId>) -> bool {
        let (own, others) = (locked(&self.own), locked(&self.others));
        let has = |id: &OpId| own.contains_key(id) || others.contains_key(id);
        !(own.is_empty() && others.is_empty()) && ids.into_iter().any(|id| has(&id))
    }

    /// The ids of a shard, each as a run, that are of other processes and are waited for.
    pub(crate) fn of_others(&self, shard: u16) -> Vec<IdRun> {
        let others = locked(&self.others);
        let ids = others.keys().filter(|id| id.shard() == shard);
        ids.map(|id| IdRun { producer: id.producer(), first: id.number(), count: 1 }).collect()
    }

    /// Callers of these ops learn that they are detached.
    pub(crate) fn detach(&self, are_gone: impl Fn(OpId) -> bool) {
        for by_id in [&self.own, &self.others] {
            locked(by_id).retain(|id, _| !are_gone(*id));
        }
    }

    /// The waiters among whom those of an op are.
    fn of(&self, id: OpId) -> MutexGuard<'_, ById<R>> {
        locked(if id.producer() == self.me { &self.own } else { &self.others })
    }
}

fn locked<R>(by_id: &Mutex<ById<R>>) -> MutexGuard<'_, ById<R>> {
    by_id.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The ack of an op that may not be accepted. Dropped before that is known, it leaves nothing behind.
#[derive(Debug)]
pub(crate) struct Registered<'a, R> {
    waiters: &'a Waiters<R>,
    id: OpId,
    ack: Option<Ack<R>>,
}

impl<R> Registered<'_, R> {
    /// The op is accepted.
    pub(crate) fn ack(mut self) -> Ack<R> {
        self.ack.take().expect("an ack is taken once, by value")
    }
}

impl<R> Drop for Registered<'_, R> {
    fn drop(&mut self) {
        if let Some(ack) = self.ack.take() {
            drop(ack);
            self.waiters.forget_dropped(self.id);
        }
    }
}

impl<R: Clone> Waiters<R> {
    /// Tells the callers of an op its outcome.
    pub(crate) fn tell(&self, id: OpId, outcome: Outcome<R>) {
        let waiting = {
            let mut by_id = self.of(id);
            if by_id.is_empty() { None } else { by_id.remove(&id) }
        };
        let Some(mut waiting) = waiting else { return };
        let last = waiting.pop();
        for sender in waiting {
            // A caller that gave up hears nothing, and so does one whose receipt can't be cloned.
            let _ = panics::catch(|| outcome.clone()).map(|outcome| sender.send(outcome));
        }
        if let Some(sender) = last {
            let _ = sender.send(outcome);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: callers that give up leave nothing behind. Method: many that are dropped before their op is accepted, and one
    /// that is told.
    #[tokio::test]
    async fn a_caller_that_gives_up_is_forgotten() {
        let waiters = Waiters::new(1);
        let id = |number| OpId::new(1, 0, number);
        let ack = waiters.register(id(0)).ack();
        (0..100).for_each(|number| drop(waiters.register(id(number % 10))));
        assert_eq!(waiters.of(id(0)).len(), 1);
        let outcome = Outcome { result: Ok(7), end: End::Delivered, attempts: 1, latency: Duration::ZERO };
        waiters.tell(id(0), outcome);
        assert_eq!(ack.await.unwrap(), 7);
        assert!(waiters.of(id(0)).is_empty());
    }
}
