//! [`Sending`]: one op on its way into the log. The op stays here, in its caller's task, until the log has it.

use std::sync::Arc;

use super::{
    error::SendError,
    fate::NotStored,
    frame::{Entry, MAX_OP_BYTES, Packer},
    handle::Handle,
    permits::Held,
    shared::Shared,
    waiters::Ack,
};
use crate::rules::{config::limits::Overflow, outcome::OpId, stage::Weigh};

pub(super) struct Sending<'a, T, R> {
    handle: &'a Handle<T, R>,
    op: T,
    shard: u16,
    bytes: Vec<u8>,
}

impl<'a, T, R> Sending<'a, T, R>
where
    T: Send + 'static,
    R: Clone + Send + 'static,
{
    /// Encodes an op, and finds its shard.
    pub(super) fn encode(handle: &'a Handle<T, R>, op: T) -> Result<Self, SendError<T>> {
        let mut bytes = Vec::new();
        match encode(&handle.shared, &op, &mut bytes) {
            Ok(()) => Ok(Self { handle, shard: handle.shared.shard_of(&op), op, bytes }),
            Err(reason) => Err(with_op(reason, op)),
        }
    }

    pub(super) fn shard(&self) -> u16 {
        self.shard
    }

    pub(super) fn into_op(self) -> T {
        self.op
    }

    pub(super) async fn submit(self, id: OpId, may_repeat: bool) -> Result<Ack<R>, SendError<T>> {
        let shared = Arc::clone(&self.handle.shared);
        let registered = shared.waiters.register(id);
        self.send(id, may_repeat).await?;
        Ok(registered.ack())
    }

    pub(super) async fn send(self, id: OpId, may_repeat: bool) -> Result<(), SendError<T>> {
        let Self { handle, op, shard, bytes } = self;
        let held = match permits(&handle.shared, 1).await {
            Ok(held) => held,
            Err(reason) => return Err(with_op(reason, op)),
        };
        let entry =
            Entry { producer: id.producer(), number: id.number(), handle: handle.number, may_repeat, withdraws: false };
        let mut call = Packer::new(handle.shared.log.producer());
        call.push(entry, &bytes);
        let stored = match store(&handle.shared, shard, call, &held) {
            Ok(stored) => stored.await,
            Err(error) => Err(error),
        };
        match stored {
            Ok(()) => Ok(()),
            Err(NotStored::Closed) => Err(SendError::Closed(op)),
            Err(NotStored::InDoubt) => Err(SendError::InDoubt { op, id }),
        }
    }
}

/// Appends the bytes of an op, or nothing if it can't be sent.
pub(super) fn encode<T, R>(shared: &Shared<T, R>, op: &T, to: &mut Vec<u8>) -> Result<(), SendError<()>> {
    let before = to.len();
    if let Err(error) = shared.codec.encode_op(op, to) {
        to.truncate(before);
        return Err(SendError::Encode { op: (), error });
    }
    let is_heavy = |weigh: &Weigh<T>| shared.limits().max_weight.is_some_and(|max| weigh(op) > max);
    let is_too_expensive = || shared.exceeds_limit.as_ref().is_some_and(|exceeds| exceeds(op));
    if to.len() - before > MAX_OP_BYTES || shared.weigh.as_ref().is_some_and(is_heavy) || is_too_expensive() {
        to.truncate(before);
        return Err(SendError::TooLarge(()));
    }
    Ok(())
}

/// Obtains permits as the limits say.
pub(super) async fn permits<T, R>(shared: &Shared<T, R>, count: u32) -> Result<Held, SendError<()>> {
    if let Some(held) = shared.permits.try_acquire(count) {
        return Ok(held);
    }
    if shared.permits.is_closed() {
        return Err(SendError::Closed(()));
    }
    if shared.limits().overflow == Overflow::Reject {
        return Err(SendError::Full(()));
    }
    for shard in &shared.shards {
        shard.pressed.notify_one();
    }
    shared.permits.acquire(count).await.ok_or(SendError::Closed(()))
}

/// Hands encoded ops to the ingress. The future returned waits until they are in the log.
pub(super) fn store<T, R>(
    shared: &Shared<T, R>,
    shard: u16,
    call: Packer,
    held: &Held,
) -> Result<impl Future<Output = Result<(), NotStored>> + use<T, R>, NotStored> {
    let stored = tokio::time::timeout(shared.append_timeout, shared.shard(shard).ingress.submit(call, held)?);
    Ok(async move { stored.await.unwrap_or(Err(NotStored::InDoubt)) })
}

/// The same error with the op in it.
pub(super) fn with_op<T>(error: SendError<()>, op: T) -> SendError<T> {
    match error {
        SendError::Closed(()) => SendError::Closed(op),
        SendError::Full(()) => SendError::Full(op),
        SendError::TooLarge(()) => SendError::TooLarge(op),
        SendError::Encode { error, .. } => SendError::Encode { op, error },
        SendError::InDoubt { id, .. } => SendError::InDoubt { op, id },
        SendError::Forgotten { id, .. } => SendError::Forgotten { op, id },
    }
}
