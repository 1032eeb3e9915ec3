//! Many ops at once: chunks of up to a frame, each encoded, permitted and stored as one. Two chunks are on their way at a time, so
//! that the log has the next one at hand when it has stored one; the ingress keeps their order.

use std::collections::VecDeque;

use futures::future::BoxFuture;

use super::{
    error::{SendAllError, SendError},
    fate::NotStored,
    frame::{Entry, MAX_OPS, Packer},
    handle::Handle,
    permits::Held,
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
        let mut groups = VecDeque::from(groups);
        while let Some(group) = groups.pop_front() {
            let (held, group) = match permits_for(handle, &mut on_way, group, &mut groups).await {
                Ok(ready) => ready,
                Err(error) => {
                    let behind = groups.into_iter().flat_map(|group| without_ids(group.ops));
                    return Err(error.with(behind.chain(failed.map(|(op, _)| op)).chain(ops)));
                }
            };
            if let Err(error) = send_group(handle, &mut on_way, group, &held).await {
                let behind = groups.into_iter().flat_map(|group| without_ids(group.ops));
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
        let (producer, number, handle) = (id.producer(), id.number(), handle.number);
        let entry = Entry { producer, number, handle, may_repeat: false, withdraws: false };
        group.call.push(entry, &bytes);
        group.ops.push((id, op));
        if group.call.is_full() {
            break;
        }
    }
    Chunk { groups, failed: None }
}

/// Obtains permits for a group. Where there are not enough, a part of it goes with those that there are, and the rest is put before
/// the others: ops that are held up must not keep these from the permits that are free.
async fn permits_for<T, R>(
    handle: &Handle<T, R>,
    on_way: &mut Option<Sent<T>>,
    group: Group<T>,
    behind: &mut VecDeque<Group<T>>,
) -> Result<(Held, Group<T>), Failed<T>>
where
    T: Send + 'static,
    R: Clone + Send + 'static,
{
    let (shared, count) = (&handle.shared, group.ops.len() as u32);
    if let Some(held) = shared.permits.try_acquire(count) {
        return Ok((held, group));
    }
    // The ops before may be what holds the permits.
    if let Err(error) = stored(on_way.take()).await {
        return Err(error.then(Err(Failed::new(group.ops, SendError::Closed(())))));
    }
    let held = match permits(shared, 1).await {
        Ok(held) => held,
        Err(reason) => return Err(Failed::new(group.ops, reason)),
    };
    let more = shared.permits.take_up_to(count - 1);
    let taken = held.count() + more.count();
    held.merge(&more);
    let (group, rest) = split(group, taken as usize, shared.log.producer());
    if let Some(rest) = rest {
        behind.push_front(rest);
    }
    Ok((held, group))
}

/// Packs the first so many ops of a group by themselves, and the others.
fn split<T>(group: Group<T>, count: usize, producer: u64) -> (Group<T>, Option<Group<T>>) {
    if count >= group.ops.len() {
        return (group, None);
    }
    let Group { shard, mut ops, call } = group;
    let rest = ops.split_off(count);
    let (mut first, mut second) = (Packer::new(producer), Packer::new(producer));
    let frame = call.seal(0, 0, 0);
    // A frame that was packed in this process can be unpacked.
    for (place, entry, range) in frame.entries().unwrap_or_default() {
        let packer = if (place as usize) < count { &mut first } else { &mut second };
        packer.push(entry, &frame.bytes[range]);
    }
    (Group { shard, ops, call: first }, Some(Group { shard, ops: rest, call: second }))
}

/// Sends a group behind the one that is on its way, and waits for that.
async fn send_group<T, R>(
    handle: &Handle<T, R>,
    on_way: &mut Option<Sent<T>>,
    group: Group<T>,
    held: &Held,
) -> Result<(), Failed<T>>
where
    T: Send + 'static,
    R: Clone + Send + 'static,
{
    let (shared, Group { shard, ops, call }) = (&handle.shared, group);
    let sent = match store(shared, shard, call, held) {
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
