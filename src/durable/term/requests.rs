//! Requests to withdraw ops, which are in the log so that a process can ask whichever leads. A leader executes each at its place among
//! the ops: it withdraws what came before and waits, and nothing that comes after. The record that settles the ops settles the request,
//! with the ops as its outcome. If that does not commit, the next leader executes the request at the same place.

use std::sync::Arc;

use super::{Leader, TermEnd, following::passing, positions::Token, running::Running, settle::Of};
use crate::{
    driver::clock,
    durable::{log::Found, outcomes, withdraw::Withdrawn},
    rules::{outcome::OpId, panics},
    sink::Sink,
};

/// A request that is in the log and not settled.
pub(super) struct Request {
    pub(super) token: Token,
    /// The hash of the key.
    pub(super) key: u128,
}

impl<T, R, S> Running<'_, T, R, S>
where
    T: Send + 'static,
    R: Clone + Send + 'static,
    S: Sink<T, R>,
{
    /// Withdraws the ops that wait under the key of a request, into the next record. All ops before it have been pushed, and none
    /// behind it.
    pub(super) fn execute(&mut self, Request { token, key }: Request) {
        self.collect(Of::Record);
        // Only the keys are asked for, so that other stages than those in use will do.
        let (stages, codec) = ((self.leader.recipe)(), Arc::clone(&self.codec));
        let mut withdrawn = Withdrawn::new(codec.op_schema());
        let is_wanted = |op: &T| {
            let hash = stages.conflate.as_ref().and_then(|conflate| conflate.index.wide_hash(op));
            hash == Some(key) && withdrawn.push(&*codec, op)
        };
        let ops = self.accumulator.withdraw(is_wanted, clock::now());
        self.collect(Of::Withdrawal);
        for op in ops {
            // The answer has the ops as they were packed.
            drop(panics::discard(op));
        }
        self.draft.answer(token, withdrawn);
    }
}

impl<T, R> Leader<T, R>
where
    T: Send + 'static,
    R: Clone + Send + 'static,
{
    /// Tells callers of this process what has become of their requests, as the log knows. Returns false if it can't be read now.
    pub(super) async fn tell_requests(&mut self) -> Result<bool, TermEnd> {
        let shared = Arc::clone(&self.shared);
        let (log, requests) = (&shared.log, &shared.shard(self.shard).requests);
        for number in requests.numbers() {
            let id = OpId::new(log.producer(), self.shard, number);
            match passing(log.find(id).await)? {
                None => return Ok(false),
                Some(Found::Unknown) => {}
                Some(Found::Ended(row)) => match outcomes::withdrawn(&row) {
                    Some(withdrawn) => requests.tell(number, withdrawn),
                    None => requests.forget(number),
                },
                Some(Found::Forgotten) => match passing(log.holds(id).await)? {
                    None => return Ok(false),
                    Some(true) => {}
                    Some(false) => requests.forget(number),
                },
            }
        }
        Ok(true)
    }
}
