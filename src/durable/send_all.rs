//! Many ops at once: chunks of up to a frame, each encoded, permitted and stored as one. Two chunks are on their way at a time, so
//! that the log has the next one at hand when it has stored one; the ingress keeps their order.

use futures::future::BoxFuture;

use super::{
    error::{SendAllError, SendError},
    frame::{Entry, MAX_OPS, Packer},
    handle::Handle,
    ingress::NotStored,
    send::{encode, permits, store},
};
use crate::rules::outcome::OpId;

/// Ops of one shard, packed one after the other.
struct Group<T> {
    shard: u16,
    ops: Vec<(OpId, T)>,
    call: Packer,
}

/// Ops of one chunk, by shard, and why the chunk ends where it does.
struct Chunk<T> {
    groups: Vec<Group<T>>,
    /// An op that can't be sent, behind all ops of the chunk.
    failed: Option<(T, SendError<()>)>,
}

/// A group on its way into the log.
struct Sent<T> {
    shard: u16,
    ops: Vec<(OpId, T)>,
    stored: BoxFuture<'static, Result<(), NotStored>>,
}

/// Ops that are in doubt, ops that are not in the log, and why.
struct Failed<T> {
    in_doubt: Vec<(OpId, T)>,
    rest: Vec<T>,
    reason: SendError<()>,
}

impl<T> Failed<T> {
    fn new(ops: Vec<(OpId, T)>, reason: SendError<()>) -> Self {
        Self { in_doubt: Vec::new(), rest: without_ids(ops), reason }
    }

    /// The same with what became of the group behind it.
    fn then(mut self, next: Result<(), Self>) -> Self {
        if let Err(next) = next {
            self.in_doubt.extend(next.in_doubt);
            self.rest.extend(next.rest);
        }
        self
    }

    /// The error, with the ops behind.
    fn with(self, behind: impl Iterator<Item = T>) -> SendAllError<T> {
        let Self { in_doubt, mut rest, reason } = self;
        rest.extend(behind);
        SendAllError { in_doubt, rest, reason }
    }
}

fn without_ids<T>(ops: Vec<(OpId, T)>) -> Vec<T> {
    ops.into_iter().map(|(_, op)| op).collect()
}

async fn stored<T>(sent: Option<Sent<T>>) -> Result<(), Failed<T>> {
    let Some(Sent { shard, ops, stored }) = sent else { return Ok(()) };
    match stored.await {
        Ok(()) => Ok(()),
        Err(NotStored::Closed) => Err(Failed::new(ops, SendError::Closed(()))),
        Err(NotStored::InDoubt) => {
            let id = ops.first().map_or(OpId::new(0, shard, 0), |(id, _)| *id);
            Err(Failed { in_doubt: ops, rest: Vec::new(), reason: SendError::InDoubt { op: (), id } })
        }
    }
}

pub(super) async fn send_all<T, R>(
    handle: &Handle<T, R>,
    mut ops: impl Iterator<Item = T>,
) -> Result<(), SendAllError<T>>
where
    T: Send + 'static,
    R: Clone + Send + 'static,
{
    let mut on_way = None;
    loop {
        let Chunk { groups, failed } = chunk(handle, &mut ops);
        let is_last = groups.is_empty() || failed.is_some();
        let mut groups = groups.into_iter();
        while let Some(group) = groups.next() {
            if let Err(error) = send_group(handle, &mut on_way, group).await {
                let behind = groups.flat_map(|group| without_ids(group.ops));
                return Err(error.with(behind.chain(failed.map(|(op, _)| op)).chain(ops)));
            }
        }
        if is_last {
            return match (stored(on_way).await, failed) {
                (Ok(()), None) => Ok(()),
                (Ok(()), Some((op, reason))) => Err(Failed { in_doubt: Vec::new(), rest: vec![op], reason }.with(ops)),
                (Err(error), failed) => Err(error.with(failed.map(|(op, _)| op).into_iter().chain(ops))),
            };
        }
    }
}

/// Takes the next ops, as many as a frame holds and there are permits for.
fn chunk<T, R>(handle: &Handle<T, R>, ops: &mut impl Iterator<Item = T>) -> Chunk<T>
where
    T: Send + 'static,
    R: Clone + Send + 'static,
{
    let (shared, mut bytes) = (&handle.shared, Vec::new());
    let most = MAX_OPS.min(shared.permits.max()).max(1);
    let mut groups: Vec<Group<T>> = Vec::new();
    for _ in 0..most {
        let Some(op) = ops.next() else { break };
        bytes.clear();
        if let Err(reason) = encode(shared, &op, &mut bytes) {
            return Chunk { groups, failed: Some((op, reason)) };
        }
        let shard = shared.shard_of(&op);
        let at = groups.iter().position(|group| group.shard == shard).unwrap_or_else(|| {
            groups.push(Group { shard, ops: Vec::new(), call: Packer::new(shared.log.producer()) });
            groups.len() - 1
        });
        let (group, id) = (&mut groups[at], shared.next_id(shard));
        let entry = Entry { producer: id.producer(), number: id.number(), handle: handle.number, may_repeat: false };
        group.call.push(entry, &bytes);
        group.ops.push((id, op));
        if group.call.is_full() {
            break;
        }
    }
    Chunk { groups, failed: None }
}

/// Sends a group behind the one that is on its way, and waits for that.
async fn send_group<T, R>(handle: &Handle<T, R>, on_way: &mut Option<Sent<T>>, group: Group<T>) -> Result<(), Failed<T>>
where
    T: Send + 'static,
    R: Clone + Send + 'static,
{
    let (shared, Group { shard, ops, call }) = (&handle.shared, group);
    let count = ops.len() as u32;
    let held = match shared.permits.try_acquire(count) {
        Some(held) => held,
        None => {
            // The ops before may be what holds the permits.
            if let Err(error) = stored(on_way.take()).await {
                return Err(error.then(Err(Failed::new(ops, SendError::Closed(())))));
            }
            match permits(shared, count).await {
                Ok(held) => held,
                Err(reason) => return Err(Failed::new(ops, reason)),
            }
        }
    };
    let sent = match store(shared, shard, call, &held) {
        Ok(stored) => Sent { shard, ops, stored: Box::pin(stored) },
        Err(_) => {
            let closed = Err(Failed::new(ops, SendError::Closed(())));
            return match stored(on_way.take()).await {
                Ok(()) => closed,
                Err(error) => Err(error.then(closed)),
            };
        }
    };
    match stored(on_way.replace(sent)).await {
        Ok(()) => Ok(()),
        Err(error) => Err(error.then(stored(on_way.take()).await)),
    }
}
