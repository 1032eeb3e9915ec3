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

pub(super) async fn send_all<T, R>(
    handle: &Handle<T, R>,
    mut ops: impl Iterator<Item = T>,
) -> Result<(), SendAllError<T>>
where
    T: Send + 'static,
    R: Clone + Send + 'static,
{
    loop {
        let Chunk { groups, failed } = chunk(handle, &mut ops);
        if groups.is_empty() && failed.is_none() {
            return Ok(());
        }
        let mut groups = groups.into_iter();
        while let Some(group) = groups.next() {
            let Err((in_doubt, rest, reason)) = send_group(handle, group).await else {
                continue;
            };
            let behind = groups.flat_map(|group| group.ops).map(|(_, op)| op);
            let rest = rest.into_iter().chain(behind).chain(failed.map(|(op, _)| op)).chain(ops);
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
        let (shard, bytes) = match encode(shared, &op, &mut Vec::new()) {
            Ok(encoded) => encoded,
            Err(reason) => return Chunk { groups, failed: Some((op, reason)) },
        };
        let at = groups.iter().position(|group| group.shard == shard).unwrap_or_else(|| {
            groups.push(Group::new(shard));
            groups.len() - 1
        });
        let (group, id) = (&mut groups[at], shared.next_id(shard));
        let start = group.bytes.len();
        group.bytes.extend_from_slice(&bytes);
        let entry = Entry { producer: id.producer(), number: id.number(), handle: handle.number, may_repeat: false };
        group.entries.push((entry, start..start + bytes.len()));
        group.weight += weight(bytes.len());
        group.ops.push((id, op));
        if group.weight >= MAX_WEIGHT {
            break;
        }
    }
    Chunk { groups, failed: None }
}

type Failed<T> = (Vec<(OpId, T)>, Vec<T>, SendError<()>);

async fn send_group<T, R>(handle: &Handle<T, R>, group: Group<T>) -> Result<(), Failed<T>>
where
    T: Send + 'static,
    R: Clone + Send + 'static,
{
    let Group { shard, ops, entries, bytes, .. } = group;
    let without_ids = |ops: Vec<(OpId, T)>| ops.into_iter().map(|(_, op)| op).collect();
    let held = match permits(&handle.shared, entries.len() as u32).await {
        Ok(held) => held,
        Err(reason) => return Err((Vec::new(), without_ids(ops), reason)),
    };
    match store(&handle.shared, shard, Encoded { entries, bytes, held }).await {
        Ok(()) => Ok(()),
        Err(NotStored::Closed) => Err((Vec::new(), without_ids(ops), SendError::Closed(()))),
        Err(NotStored::InDoubt) => {
            let id = ops.first().map_or(OpId::new(0, shard, 0), |(id, _)| *id);
            Err((ops, Vec::new(), SendError::InDoubt { op: (), id }))
        }
    }
}
