//! The rules of a process that follows a shard which another one leads: what became of its ops, and the pause, which any process
//! may store.

use super::{
    LogError,
    lead::{IdRun, Reach},
    store::{OutcomeRow, ShardRow, Store, Stored},
};
use crate::durable::{frame::Frame, intent::Intent};

/// Outcomes read at a time.
const READ: usize = 256;

/// Frames read at a time in the search for an op.
const FRAMES: usize = 64;

/// Outcomes of ops with these ids. Not all of them if there are many, and none only if there are none.
pub(crate) fn ended(store: &mut dyn Store, shard: u32, ids: &[IdRun]) -> Stored<Vec<OutcomeRow>> {
    let mut found = Vec::new();
    for IdRun { producer, first, count } in ids {
        // Ops that end together share a row, which may begin with one that was told of before.
        found.extend(store.outcome(shard, *producer, *first)?);
        // Each further row begins with an op of the run.
        let (limit, last) = (usize::try_from(count - 1).unwrap_or(READ).min(READ), first + count - 1);
        if limit > 0 {
            let rows = store.outcomes(shard, (*producer, *first), limit)?.into_iter();
            found.extend(rows.take_while(|row| row.producer == *producer && row.first <= last));
        }
        if found.len() >= READ {
            break;
        }
    }
    Ok(found)
}

/// How far a shard has come.
pub(crate) fn reach(store: &mut dyn Store, shard: u32) -> Stored<Reach> {
    let ShardRow { next, cursor, paused, .. } = store.shard(shard)?;
    Ok(Reach { next, cursor, paused })
}

/// Pauses a shard or ends the pause, whoever leads it. Returns how many ops may be under way: those that intents name.
pub(crate) fn set_paused(store: &mut dyn Store, shard: u32, paused: bool) -> Stored<u64> {
    let row = store.shard(shard)?;
    store.put_shard(shard, &ShardRow { paused, ..row })?;
    let mut under_way = 0;
    for (number, bytes) in store.intents(shard)? {
        let intent = Intent::decode(&bytes).ok_or_else(|| LogError::Damaged(format!("intent {number}")))?;
        under_way += intent.ops.len() as u64;
    }
    Ok(under_way)
}

/// Whether a frame holds an op of this id that is not settled.
pub(crate) fn holds(store: &mut dyn Store, shard: u32, producer: u64, number: u64) -> Stored<bool> {
    let mut from = store.shard(shard)?.cursor;
    loop {
        let frames = store.frames(shard, from, FRAMES)?;
        if frames.is_empty() {
            return Ok(false);
        }
        for (first, bytes) in frames {
            let frame = Frame::open(bytes).map_err(|error| LogError::Damaged(error.to_string()))?;
            from = first + frame.count;
            let entries = frame.entries().map_err(|error| LogError::Damaged(error.to_string()))?;
            for (place, entry, _) in entries {
                let position = first + place;
                let is_it = (entry.producer, entry.number) == (producer, number);
                if is_it && store.settled_at(shard, position)?.is_none_or(|(_, last)| last < position) {
                    return Ok(true);
                }
            }
        }
    }
}
