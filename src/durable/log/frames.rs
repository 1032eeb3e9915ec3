//! Requests to an engine that keeps the frames of a log, and has a ledger elsewhere to settle them. The rows of a shard then
//! tell no more than which frames may be removed: the ledger is the truth.

use std::collections::BTreeMap;

use super::{
    Found, LogError, Purge, StoredFrame, TermState, rules,
    store::{LogRow, OldOutcome, Paired, ProducerRow, ShardRow, Store, Stored},
};
use crate::durable::frame::{Entry, Packer};

/// Finds the log of this name, or makes it with a number to share with its ledger.
pub(crate) fn pair(store: &mut dyn Store, name: &str, shards: u16, fresh: u64) -> Stored<Paired> {
    let Some(row) = store.log(name)? else {
        let row = LogRow { log: store.logs()?, shards, next_producer: 1 };
        store.put_log(name, &row)?;
        store.put_pairing(row.log, fresh)?;
        return Ok(Paired { log: row.log, pairing: fresh, next_producer: 1, has_begun: false });
    };
    if row.shards != shards {
        return Err(LogError::Shards { has: row.shards, wanted: shards });
    }
    let Some(pairing) = store.pairing(row.log)? else {
        return Err(LogError::Unpaired("it was made without one, and settles itself".to_owned()));
    };
    let mut has_begun = false;
    for shard in 0..shards {
        has_begun |= store.shard(super::store::shard_key(row.log, shard))?.epoch > 0;
    }
    Ok(Paired { log: row.log, pairing, next_producer: row.next_producer, has_begun })
}

/// Makes a process known whose number the ledger has given.
pub(crate) fn introduce(store: &mut dyn Store, name: &str, producer: u64) -> Stored<()> {
    let row = store.log(name)?.ok_or(LogError::Closed)?;
    store.put_log(name, &LogRow { next_producer: row.next_producer.max(producer + 1), ..row })?;
    (0..row.shards).try_for_each(|shard| rules::introduce(store, super::store::shard_key(row.log, shard), producer))
}

/// Begins the term that the ledger has begun. Returns the position of the next op. Frames that were settled when an earlier
/// process died are removed.
pub(crate) fn begin(store: &mut dyn Store, shard: u32, state: &TermState) -> Stored<u64> {
    let row = store.shard(shard)?;
    let unpaired = |why: &str| Err(LogError::Unpaired(why.to_owned()));
    // The ledger's epoch has just gone up, and the file's follows it.
    if row.epoch >= state.epoch || row.cursor > state.cursor {
        return unpaired("the ledger is older than the log: its database is a backup, or has lost what was confirmed");
    }
    let last = state.settled.last().map_or(0, |(_, last)| last + 1);
    if state.cursor.max(last) > row.next {
        return unpaired("the log is older than its ledger: it is a backup, or has lost what was confirmed");
    }
    store.put_shard(shard, &ShardRow { epoch: state.epoch, cursor: state.cursor, ..row })?;
    let below = state.cursor.checked_sub(1).map(|last| (0, last));
    for (first, last) in below.iter().chain(&state.settled) {
        store.remove_frames(shard, *first, *last)?;
    }
    Ok(row.next)
}

/// Removes the frames within runs of positions that the ledger has settled.
pub(crate) fn forget(store: &mut dyn Store, shard: u32, cursor: u64, runs: &[(u64, u64)]) -> Stored<()> {
    let row = store.shard(shard)?;
    if cursor > row.cursor {
        store.put_shard(shard, &ShardRow { cursor, ..row })?;
    }
    runs.iter().try_for_each(|(first, last)| store.remove_frames(shard, *first, *last))
}

/// The bytes of ops that are not settled, by their positions.
pub(crate) fn ops(store: &mut dyn Store, shard: u32, positions: &[u64]) -> Stored<Vec<Vec<u8>>> {
    positions.iter().map(|position| rules::op_at(store, shard, *position)).collect()
}

/// Says what is known of an id that has no outcome.
pub(crate) fn find(store: &mut dyn Store, shard: u32, producer: u64, number: u64) -> Stored<Found> {
    let row = store.producer(shard, producer)?;
    Ok(if row.is_some_and(|row| number >= row.floor) { Found::Unknown } else { Found::Forgotten })
}

/// Forgets the ids of old outcomes, in order of producer and number, but for those that an op may still repeat. Returns the floor
/// of each producer: the outcomes below may be removed now, and their ids are never taken for new ones.
pub(crate) fn forget_ids(
    store: &mut dyn Store,
    shard: u32,
    purge: &Purge,
    old: &[OldOutcome],
) -> Stored<Vec<(u64, u64)>> {
    let Some(open) = rules::open_ids(store, shard, purge)? else {
        return Ok(Vec::new());
    };
    let mut floors = BTreeMap::new();
    for (producer, first, count) in old {
        let is_open = open.get(producer).is_some_and(|number| first + count > *number);
        if !is_open {
            floors.insert(*producer, first + count);
        }
    }
    for (producer, floor) in &floors {
        let row = store.producer(shard, *producer)?.unwrap_or_default();
        store.put_producer(shard, *producer, &ProducerRow { floor: row.floor.max(*floor), ..row })?;
    }
    Ok(floors.into_iter().collect())
}

/// Leaves ops that the ledger has settled out of the frames with these first positions.
pub(crate) fn compact(
    store: &mut dyn Store,
    shard: u32,
    frames: &[u64],
    (cursor, settled): (u64, &[(u64, u64)]),
) -> Stored<()> {
    rules::compact_by(store, shard, frames, cursor, settled)
}

/// Puts one op at the end of the log.
pub(crate) fn push_op(
    store: &mut dyn Store,
    shard: u32,
    entry: Entry,
    (op, schema): (&[u8], u32),
    now: u64,
) -> Stored<StoredFrame> {
    let mut packer = Packer::new(entry.producer);
    packer.push(entry, op);
    let frame = packer.seal(0, now, schema);
    if !store.has_room(frame.bytes.len())? {
        return Err(LogError::Full);
    }
    let first = rules::push_frame(store, shard, &frame)?;
    Ok(StoredFrame { first, count: frame.count, bytes: frame.bytes })
}
