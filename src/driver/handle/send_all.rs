//! Sends many ops, acquiring permits and the lock once per chunk. Ops that were not accepted are returned in order.

use tokio::task::coop;

use crate::{
    driver::{
        clock,
        handle::{
            error::{SendAllError, SendError},
            port::{Port, SENDS_PER_BUDGET},
        },
        inbox::{
            acquire_by_policy,
            command::{Admission, PushError},
        },
    },
    rules::config::limits::Overflow,
};

/// Ops per chunk: enough to make room and lock cheap, few enough to let others in between.
const CHUNK: usize = 128;

/// See [`Handle::send_all`](crate::Handle::send_all).
pub(crate) async fn send_all<T, R>(port: &Port<T, R>, mut ops: impl Iterator<Item = T>) -> Result<(), SendAllError<T>> {
    let mut chunk = Vec::new();
    loop {
        let too_heavy = fill(&mut chunk, &mut ops, port);
        if chunk.is_empty() && too_heavy.is_none() {
            return Ok(());
        }
        // A sender that always finds room yields now and then, so that the task can drain the inbox.
        for _ in 0..CHUNK / SENDS_PER_BUDGET as usize {
            coop::consume_budget().await;
        }
        let reason = match send_chunk(port, &mut chunk).await {
            Err(rejected) => rejected.error(()),
            Ok(()) if too_heavy.is_some() => SendError::TooHeavy(()),
            Ok(()) => continue,
        };
        return Err(SendAllError { rest: chunk.into_iter().chain(too_heavy).chain(ops).collect(), reason });
    }
}

/// Fills a chunk, up to the first op that no batch could hold, which is returned.
fn fill<T, R>(chunk: &mut Vec<T>, ops: &mut impl Iterator<Item = T>, port: &Port<T, R>) -> Option<T> {
    if port.inbox.door.is_none() {
        chunk.extend(ops.take(CHUNK));
        return None;
    }
    for op in ops.take(CHUNK) {
        if port.is_too_heavy(&op) {
            return Some(op);
        }
        chunk.push(op);
    }
    None
}

/// Sends all of a chunk, as far as there is room at a time. What can't be taken stays in it.
async fn send_chunk<T, R>(port: &Port<T, R>, chunk: &mut Vec<T>) -> Result<(), PushError> {
    let at = clock::now();
    let mut admission = Admission::TryAcquire;
    while !chunk.is_empty() {
        match port.inbox.push_some(chunk, at, admission) {
            Ok(()) => admission = Admission::TryAcquire,
            Err(PushError::Full) if port.inbox.overflow() == Overflow::Wait => {
                admission = acquire_by_policy(&port.inbox).await?;
            }
            Err(rejected) => return Err(rejected),
        }
    }
    Ok(())
}
