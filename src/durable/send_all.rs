//! Many ops at once: chunks of up to a frame, each encoded, permitted and stored as one.

use std::ops::Range;

use super::{
    error::{SendAllError, SendError},
    frame::{Entry, MAX_OPS},
    handle::Handle,
    ingress::{Encoded, MAX_WEIGHT, NotStored, weight},
    send::{encode, permits, store},
};
use crate::rules::outcome::OpId;

/// Ops of one shard, encoded one after the other.
struct Group<T> {
    shard: u16,
    ops: Vec<(OpId, T)>,
    entries: Vec<(Entry, Range<usize>)>,
    bytes: Vec<u8>,
    weight: usize,
}

impl<T> Group<T> {
    fn new(shard: u16) -> Self {
        Self { shard, ops: Vec::new(), entries: Vec::new(), bytes: Vec::new(), weight: 0 }
    }
}

/// Ops of one chunk, by shard, and why the chunk ends where it does.
struct Chunk<T> {
    groups: Vec<Group<T>>,
    /// An op that can't be sent, behind all ops of the chunk.
    failed: Option<(T, SendError<()>)>,
}

impl<T> Chunk<T> {
    fn into_ops(self) -> impl Iterator<Item = T> {
        let ops = self.groups.into_iter().flat_map(|group| group.ops).map(|(_, op)| op);
        ops.chain(self.failed.map(|(op, _)| op))
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
    let mut next = chunk(handle, &mut ops);
    loop {
        let Chunk { groups, failed } = next;
        if let (true, None) = (groups.is_empty(), &failed) {
            return Ok(());
        }
        next = Chunk { groups: Vec::new(), failed: None };
        let mut groups = groups.into_iter();
        while let Some(group) = groups.next() {
            let sent = match begin(handle, group).await {
                // The next chunk is encoded while the log stores this one.
                Ok(sent) if groups.len() == 0 && failed.is_none() => {
                    next = chunk(handle, &mut ops);
                    sent.stored().await
                }
                Ok(sent) => sent.stored().await,
                Err(error) => Err(error),
            };
            let Err((in_doubt, rest, reason)) = sent else { continue };
            let behind = Chunk { groups: groups.collect(), failed };
            let rest = rest.into_iter().chain(behind.into_ops()).chain(next.into_ops()).chain(ops);
            return Err(SendAllError { in_doubt, rest: rest.collect(), reason });
        }
        if let Some((op, reason)) = failed {
            let rest = std::iter::once(op).chain(ops).collect();
            return Err(SendAllError { in_doubt: Vec::new(), rest, reason });
        }
    }
}

/// Takes the next ops, as many as a frame holds and there are permits for.
fn chunk<T, R>(handle: &Handle<T, R>, ops: &mut impl Iterator<Item = T>) -> Chunk<T>
where
    T: Send + 'static,
    R: Clone + Send + 'static,
{
    let shared = &handle.shared;
    let most = MAX_OPS.min(shared.permits.max()).max(1);
    let mut groups: Vec<Group<T>> = Vec::new();
    for _ in 0..most {
        let Some(op) = ops.next() else { break };
        let shard = shared.shard_of(&op);
        let at = groups.iter().position(|group| group.shard == shard).unwrap_or_else(|| {
            groups.push(Group::new(shard));
            groups.len() - 1
        });
        let group = &mut groups[at];
        let start = group.bytes.len();
        if let Err(reason) = encode(shared, &op, &mut group.bytes) {
            groups.retain(|group| !group.ops.is_empty());
            return Chunk { groups, failed: Some((op, reason)) };
        }
        let (id, end) = (shared.next_id(shard), group.bytes.len());
        let entry = Entry { producer: id.producer(), number: id.number(), handle: handle.number, may_repeat: false };
        group.entries.push((entry, start..end));
        group.weight += weight(end - start);
        group.ops.push((id, op));
        if group.weight >= MAX_WEIGHT {
            break;
        }
    }
    Chunk { groups, failed: None }
}

/// Ops that are in doubt, ops that are not in the log, and why.
type Failed<T> = (Vec<(OpId, T)>, Vec<T>, SendError<()>);

/// Ops of one shard, on their way into the log.
struct Sent<T, F> {
    ops: Vec<(OpId, T)>,
    shard: u16,
    stored: F,
}

impl<T, F: Future<Output = Result<(), NotStored>>> Sent<T, F> {
    async fn stored(self) -> Result<(), Failed<T>> {
        match self.stored.await {
            Ok(()) => Ok(()),
            Err(NotStored::Closed) => Err((Vec::new(), without_ids(self.ops), SendError::Closed(()))),
            Err(NotStored::InDoubt) => {
                let id = self.ops.first().map_or(OpId::new(0, self.shard, 0), |(id, _)| *id);
                Err((self.ops, Vec::new(), SendError::InDoubt { op: (), id }))
            }
        }
    }
}

async fn begin<T, R>(
    handle: &Handle<T, R>,
    group: Group<T>,
) -> Result<Sent<T, impl Future<Output = Result<(), NotStored>> + use<T, R>>, Failed<T>>
where
    T: Send + 'static,
    R: Clone + Send + 'static,
{
    let Group { shard, ops, entries, bytes, .. } = group;
    let held = match permits(&handle.shared, entries.len() as u32).await {
        Ok(held) => held,
        Err(reason) => return Err((Vec::new(), without_ids(ops), reason)),
    };
    match store(&handle.shared, shard, Encoded { entries, bytes, held }) {
        Ok(stored) => Ok(Sent { ops, shard, stored }),
        Err(_) => Err((Vec::new(), without_ids(ops), SendError::Closed(()))),
    }
}

fn without_ids<T>(ops: Vec<(OpId, T)>) -> Vec<T> {
    ops.into_iter().map(|(_, op)| op).collect()
}
