//! [`Turns`]: the requests that wait for an engine's next transaction. The engine takes all of them at once, runs them in order,
//! commits, and answers. One transaction serves all callers that came meanwhile: group commit.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::{
    Answer, LogError,
    callers::Callers,
    store::{Store, Stored},
};

/// A request on its way through a transaction.
pub(crate) trait Job: Send {
    /// Changes rows. Returns an error only if the transaction must be given up: a request that is refused keeps its refusal.
    fn run(&mut self, store: &mut dyn Store) -> Result<(), LogError>;

    /// Answers, once the fate of the transaction is known.
    fn end(self: Box<Self>, committed: Result<(), LogError>);

    /// Whether it changes nothing, so that it needs no other process to wait.
    fn only_reads(&self) -> bool {
        false
    }
}

/// The way of requests to the engine.
#[derive(Clone)]
pub(crate) struct Turns {
    callers: Arc<Callers>,
    push: Arc<dyn Fn(Box<dyn Job>) -> bool + Send + Sync>,
}

impl Turns {
    /// `push` hands a job to the engine, or returns false if the engine is gone. The number of jobs is bounded by their
    /// callers: a shard has one frame and one record on the way.
    pub(crate) fn new(callers: Arc<Callers>, push: impl Fn(Box<dyn Job>) -> bool + Send + Sync + 'static) -> Self {
        Self { callers, push: Arc::new(push) }
    }

    pub(crate) fn callers(&self) -> Arc<Callers> {
        Arc::clone(&self.callers)
    }

    /// Hands a job to the engine, which drops it if it is closed.
    pub(crate) fn hand(&self, job: Box<dyn Job>) {
        (self.push)(job);
    }

    /// Runs `work` in the next transaction. `committed` is called on the engine's side, before the answer goes out and in the
    /// order of the requests.
    pub(crate) fn run<V, F, C>(&self, work: F, committed: C) -> Answer<'static, V>
    where
        V: Send + 'static,
        F: FnMut(&mut dyn Store) -> Stored<V> + Send + 'static,
        C: FnOnce(&V) + Send + 'static,
    {
        self.ask(false, work, committed)
    }

    /// The same for `work` that changes nothing.
    pub(crate) fn read<V, F>(&self, work: F) -> Answer<'static, V>
    where
        V: Send + 'static,
        F: FnMut(&mut dyn Store) -> Stored<V> + Send + 'static,
    {
        self.ask(true, work, |_: &V| {})
    }

    fn ask<V, F, C>(&self, only_reads: bool, work: F, committed: C) -> Answer<'static, V>
    where
        V: Send + 'static,
        F: FnMut(&mut dyn Store) -> Stored<V> + Send + 'static,
        C: FnOnce(&V) + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        // A caller that gave up hears nothing; the request is done all the same.
        let reply = move |result| drop(reply.send(result));
        self.hand(Box::new(Request { work, only_reads, committed, value: None, reply }));
        Box::pin(async move { answer.await.unwrap_or(Err(LogError::Closed)) })
    }

    /// Like `run`, with a function that gets the answer. It is dropped uncalled if the engine is gone.
    pub(crate) fn push<V, F, C, D>(&self, work: F, committed: C, reply: D)
    where
        V: Send + 'static,
        F: FnMut(&mut dyn Store) -> Stored<V> + Send + 'static,
        C: FnOnce(&V) + Send + 'static,
        D: FnOnce(Stored<V>) + Send + 'static,
    {
        self.hand(Box::new(Request { work, only_reads: false, committed, value: None, reply }));
    }
}

/// Tells the error of a job by which its transaction has to be given up. A request that is refused keeps its refusal.
pub(crate) fn fails_turn<V>(value: &Stored<V>) -> Result<(), LogError> {
    match value {
        Err(
            error @ (LogError::Failed(_)
            | LogError::Uncommittable(_)
            | LogError::Unknown(_)
            | LogError::Damaged(_)
            | LogError::Closed),
        ) => Err(error.clone()),
        _ => Ok(()),
    }
}

struct Request<V, F, C, D> {
    work: F,
    only_reads: bool,
    committed: C,
    value: Option<Stored<V>>,
    reply: D,
}

impl<V, F, C, D> Job for Request<V, F, C, D>
where
    V: Send,
    F: FnMut(&mut dyn Store) -> Stored<V> + Send,
    C: FnOnce(&V) + Send,
    D: FnOnce(Stored<V>) + Send,
{
    fn run(&mut self, store: &mut dyn Store) -> Result<(), LogError> {
        let value = (self.work)(store);
        let result = fails_turn(&value);
        self.value = Some(value);
        result
    }

    fn end(self: Box<Self>, committed: Result<(), LogError>) {
        let Self { committed: then, value, reply, .. } = *self;
        let result = committed.and_then(|()| value.unwrap_or(Err(LogError::Closed)));
        if let Ok(value) = &result {
            then(value);
        }
        reply(result);
    }

    fn only_reads(&self) -> bool {
        self.only_reads
    }
}
