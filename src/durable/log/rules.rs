//! Each request to a log as a change of its rows. A request that is refused has changed nothing, so that those that share its
//! transaction stand. An error of the store fails the transaction as a whole.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    Found, Lease, LogError, Purge, Record, StoredFrame, TermState, Work,
    store::{FrameRow, LetterRow, LogRow, OutcomeRow, ProducerRow, ShardRow, Store, Stored},
};
#[cfg(feature = "durable-file")]
use crate::durable::intent::{Intent, IntentOp};
use crate::durable::{
    frame::{Entry, Frame, FrameError, MAX_COUNT, MAX_NUMBER, Packer},
    outcomes::only,
};

/// The age at which a frame is no longer stored: its callers gave up long before, and may have sent the ops again.
pub(crate) const GHOST_AFTER: Duration = Duration::from_secs(3600);

/// Frames read at a time: some 30 MB at most.
const READ: usize = 64;

/// Outcomes forgotten at a time, so that no transaction is long.
pub(crate) const PURGE: usize = 1000;

/// Adds a process to the log of this name, and makes the log if there is none. Returns its number and the process's.
pub(crate) fn join(store: &mut dyn Store, name: &str, shards: u16) -> Stored<(u16, u64)> {
    let row = match store.log(name)? {
        Some(row) if row.shards != shards => return Err(LogError::Shards { has: row.shards, wanted: shards }),
        Some(row) if store.pairing(row.log)?.is_some() => {
            return Err(LogError::Unpaired("it is settled by a ledger, and was joined without one".to_owned()));
        }
        Some(row) => row,
        None => LogRow { log: store.logs()?, shards, next_producer: 1 },
    };
    store.put_log(name, &LogRow { next_producer: row.next_producer + 1, ..row })?;
    Ok((row.log, row.next_producer))
}

/// Stores a frame at `now`, in nanoseconds since 1970. Ops that another process may have sent meanwhile are flagged in it.
pub(crate) fn append(store: &mut dyn Store, shard: u32, frame: &Frame, now: u64) -> Stored<StoredFrame> {
    let producer = store.producer(shard, frame.producer)?.unwrap_or_default();
    let flagged = flagged(&producer, frame)?;
    let frame = flagged.as_ref().unwrap_or(frame);
    let stored = |first| StoredFrame { first, count: frame.count, bytes: Arc::clone(&frame.bytes) };
    if let Some(first) = stored_at(&producer, frame, now)? {
        return Ok(stored(first));
    }
    if !store.has_room(frame.bytes.len())? {
        return Err(LogError::Full);
    }
    let first = push_frame(store, shard, frame)?;
    store.put_producer(shard, frame.producer, &ProducerRow { frame: frame.number, first, ..producer })?;
    for (producer, below) in claims(frame)? {
        // A producer without a row has never been here, and its ids are forgotten.
        if let Some(row) = store.producer(shard, producer)?.filter(|row| row.claimed < below) {
            store.put_producer(shard, producer, &ProducerRow { claimed: below, ..row })?;
        }
    }
    Ok(stored(first))
}

/// The frame with a flag on each op that another process may have sent meanwhile, if there may be such ops.
pub(crate) fn flagged(producer: &ProducerRow, frame: &Frame) -> Stored<Option<Frame>> {
    match producer.claimed {
        0 => Ok(None),
        below => frame.flagged(below).map_err(|error| LogError::Damaged(error.to_string())),
    }
}

/// The position of a frame's first op, if the frame is stored. `None` if it is to be stored at `now`.
pub(crate) fn stored_at(producer: &ProducerRow, frame: &Frame, now: u64) -> Stored<Option<u64>> {
    if frame.number == producer.frame {
        return Ok(Some(producer.first));
    }
    // A producer has one frame on the way, so an older one was answered long ago.
    if frame.number < producer.frame || frame.count > MAX_COUNT {
        return Err(LogError::Ghost);
    }
    if now.saturating_sub(frame.made_at) > GHOST_AFTER.as_nanos() as u64 {
        return Err(LogError::Ghost);
    }
    Ok(None)
}

/// The ids of other producers that are in a frame: below which number, by producer. A frame of theirs with the same ids may come later.
pub(crate) fn claims(frame: &Frame) -> Stored<BTreeMap<u64, u64>> {
    let mut claimed: BTreeMap<u64, u64> = BTreeMap::new();
    if !frame.may_be_foreign {
        return Ok(claimed);
    }
    for (_, entry, _) in frame.entries().map_err(|error| LogError::Damaged(error.to_string()))? {
        if entry.producer != frame.producer {
            let below = claimed.entry(entry.producer).or_default();
            *below = (entry.number + 1).max(*below);
        }
    }
    Ok(claimed)
}

pub(super) fn push_frame(store: &mut dyn Store, shard: u32, frame: &Frame) -> Stored<u64> {
    let row = store.shard(shard)?;
    store.put_frame(shard, row.next, frame.count, &frame.bytes)?;
    store.put_shard(shard, &ShardRow { next: row.next + frame.count, ..row })?;
    Ok(row.next)
}

/// Begins a term.
pub(crate) fn begin(store: &mut dyn Store, shard: u32) -> Stored<TermState> {
    let row = store.shard(shard)?;
    let row = row.in_next_term(row.next);
    store.put_shard(shard, &row)?;
    let ShardRow { epoch, next, cursor, paused, idle_terms } = row;
    let (settled, intents) = (store.settled(shard)?, store.intents(shard)?);
    if !are_runs(cursor, &settled, next) {
        return Err(LogError::Damaged("the settled positions contradict each other".to_owned()));
    }
    let charges = store.charges(shard)?;
    Ok(TermState { epoch, cursor, settled, next, intents, charges, paused, idle_terms })
}

/// Whether runs of settled positions lie one behind the other, above the cursor and below the next position. Between any two of
/// them is an open one, since neighbours are joined.
fn are_runs(cursor: u64, runs: &[(u64, u64)], next: u64) -> bool {
    let mut open = Some(cursor);
    for (first, last) in runs {
        open = open.filter(|open| open < first && first <= last).and_then(|_| last.checked_add(1));
    }
    open.is_some_and(|open| open <= next) && next <= MAX_NUMBER
}

/// Some frames with positions from `from` on.
pub(crate) fn read(store: &mut dyn Store, shard: u32, from: u64) -> Stored<Vec<StoredFrame>> {
    let rows = store.frames(shard, from, READ)?.into_iter();
    // The store has compared the checksums of the rows; the leader opens the frames.
    let frame = |(first, bytes): FrameRow| match Frame::count_of(&bytes) {
        Some(count) if count <= MAX_COUNT && first < MAX_NUMBER => Ok(StoredFrame { first, count, bytes }),
        _ => Err(LogError::Damaged(format!("the frame at position {first}"))),
    };
    rows.map(frame).collect()
}

/// Stores what a term has to tell.
pub(crate) fn record(store: &mut dyn Store, shard: u32, record: &Record, now: u64) -> Stored<()> {
    let row = store.shard(shard)?;
    if record.survived {
        return store.put_shard(shard, &row.survived());
    }
    if row.epoch != record.epoch {
        return Err(LogError::Fenced);
    }
    if row.paused && record.starts {
        return Err(LogError::Paused);
    }
    if !record.letters.is_empty() && !store.has_letter_room()? {
        return Err(LogError::LettersFull);
    }
    for letter in &record.letters {
        let op = match letter.position {
            Some(position) => op_at(store, shard, position)?,
            None => letter.op.clone(),
        };
        store.put_letter(shard, &LetterRow { op, position: None, at: now, ..letter.clone() })?;
    }
    for outcome in &record.outcomes {
        store.put_outcome(shard, &OutcomeRow { at: now, ..outcome.clone() })?;
    }
    for charge in &record.charges {
        store.add_charge(shard, charge)?;
    }
    for (number, intent) in &record.intents {
        store.put_intent(shard, *number, intent)?;
    }
    for number in &record.resolved {
        store.remove_intent(shard, *number)?;
    }
    let mut cursor = row.cursor;
    for (first, last) in &record.settled {
        cursor = settle(store, shard, cursor, *first, *last)?;
    }
    store.put_shard(shard, &row.with(record, cursor))
}

/// Runs work of a sink under the fence of a term, and stores with it what the term has to tell. Returns whether both stay.
pub(crate) fn transact(store: &mut dyn Store, shard: u32, lease: Lease, work: &mut dyn Work, now: u64) -> Stored<bool> {
    let row = store.shard(shard)?;
    if row.epoch != lease.epoch {
        return Err(LogError::Fenced);
    }
    if row.paused {
        return Err(LogError::Paused);
    }
    let has_letter_room = store.has_letter_room()?;
    let (mut told, mut is_full) = (None, false);
    let stays = store.nested(lease.timeout, &mut |transaction| {
        told = work.run(transaction);
        is_full = told.as_ref().is_some_and(|told| !told.letters.is_empty() && !has_letter_room);
        told.is_some() && !is_full
    })?;
    if is_full {
        return Err(LogError::LettersFull);
    }
    match told.filter(|_| stays) {
        Some(told) => record(store, shard, &told, now).map(|()| true),
        None => Ok(false),
    }
}

/// The bytes of the op at a position that is not settled.
pub(super) fn op_at(store: &mut dyn Store, shard: u32, position: u64) -> Stored<Vec<u8>> {
    let damaged = |why: String| LogError::Damaged(why);
    let Some((first, bytes)) = store.frames(shard, position, 1)?.into_iter().next() else {
        return Err(damaged(format!("no frame holds position {position}")));
    };
    let frame = Frame::open(bytes).map_err(|error| damaged(error.to_string()))?;
    let entries = frame.entries().map_err(|error| damaged(error.to_string()))?;
    let entry = entries.into_iter().find(|(place, ..)| first + place == position);
    let (.., range) = entry.ok_or_else(|| damaged(format!("no frame holds position {position}")))?;
    Ok(frame.bytes[range].to_vec())
}

/// Settles a run of positions, and removes the frames that hold nothing else any more. Returns the new cursor.
fn settle(store: &mut dyn Store, shard: u32, cursor: u64, mut first: u64, mut last: u64) -> Stored<u64> {
    if last < cursor {
        return Ok(cursor);
    }
    if let Some((_, until)) = store.settled_at(shard, last + 1)?.filter(|(next, _)| *next == last + 1) {
        store.remove_settled(shard, last + 1)?;
        last = until;
    }
    if first <= cursor {
        store.remove_frames(shard, 0, last)?;
        return Ok(last + 1);
    }
    if let Some((from, _)) = store.settled_at(shard, first - 1)?.filter(|(_, until)| until + 1 == first) {
        first = from;
    }
    store.put_settled(shard, first, last)?;
    store.remove_frames(shard, first, last)?;
    Ok(cursor)
}

/// Leaves settled ops out of the frames with these first positions.
pub(crate) fn compact(store: &mut dyn Store, shard: u32, frames: &[u64]) -> Stored<()> {
    let (row, settled) = (store.shard(shard)?, store.settled(shard)?);
    compact_by(store, shard, frames, row.cursor, &settled)
}

/// The same by the cursor of a shard and its settled runs above.
pub(super) fn compact_by(
    store: &mut dyn Store,
    shard: u32,
    frames: &[u64],
    cursor: u64,
    settled: &[(u64, u64)],
) -> Stored<()> {
    let is_settled = |position: u64| {
        let run = settled.partition_point(|(first, _)| *first <= position).checked_sub(1).map(|i| settled[i]);
        position < cursor || run.is_some_and(|(_, last)| position <= last)
    };
    for wanted in frames {
        // A frame that is wholly settled meanwhile is gone.
        let Some((first, bytes)) = store.frames(shard, *wanted, 1)?.into_iter().find(|(first, _)| first == wanted)
        else {
            continue;
        };
        let damaged = |error: FrameError| LogError::Damaged(error.to_string());
        let frame = Frame::open(bytes).map_err(damaged)?;
        let compacted = frame.without(&mut |place| is_settled(first + place)).map_err(damaged)?;
        store.put_frame(shard, first, compacted.count, &compacted.bytes)?;
    }
    Ok(())
}

/// Says what is known of an op.
pub(crate) fn find(store: &mut dyn Store, shard: u32, producer: u64, number: u64) -> Stored<Found> {
    if let Some(row) = store.outcome(shard, producer, number)? {
        let damaged = || LogError::Damaged(format!("the outcomes of producer {producer} from {}", row.first));
        return only(&row, number).map(Found::Ended).ok_or_else(damaged);
    }
    let row = store.producer(shard, producer)?;
    Ok(if row.is_some_and(|row| number >= row.floor) { Found::Unknown } else { Found::Forgotten })
}

/// Makes a process known to a shard, so that its ids are not taken for forgotten ones.
pub(crate) fn introduce(store: &mut dyn Store, shard: u32, producer: u64) -> Stored<()> {
    store.put_producer(shard, producer, &ProducerRow::default())
}

/// The lowest number, by producer, of ops that may repeat an id and are not settled, those included that the term has not read.
/// `None` if the term is far behind, as its next purge will not be.
pub(super) fn open_ids(store: &mut dyn Store, shard: u32, purge: &Purge) -> Stored<Option<BTreeMap<u64, u64>>> {
    let mut open = purge.open.clone();
    let unread = read(store, shard, purge.unread)?;
    if unread.len() == READ {
        return Ok(None);
    }
    unread.into_iter().try_for_each(|stored| add_open_ids(&mut open, stored))?;
    Ok(Some(open))
}

/// Adds the ids of a frame that may be repeats.
pub(crate) fn add_open_ids(open: &mut BTreeMap<u64, u64>, stored: StoredFrame) -> Stored<()> {
    let entries = Frame::open(stored.bytes).and_then(|frame| frame.entries());
    for (_, entry, _) in entries.map_err(|error| LogError::Damaged(error.to_string()))? {
        if entry.may_repeat {
            open.entry(entry.producer).and_modify(|least| *least = entry.number.min(*least)).or_insert(entry.number);
        }
    }
    Ok(())
}

/// Forgets some outcomes recorded before a time, and charges that have expired. Returns whether there may be more.
pub(crate) fn purge(store: &mut dyn Store, shard: u32, purge: &Purge) -> Stored<bool> {
    store.remove_charges(shard, purge.now)?;
    let Some(open) = open_ids(store, shard, purge)? else {
        return Ok(false);
    };
    let (mut after, mut left) = ((0, 0), PURGE);
    while left > 0 {
        let rows = store.outcomes(shard, after, left)?;
        let Some(last) = rows.last() else {
            return Ok(false);
        };
        after = (last.producer, last.first);
        let is_kept = |row: &OutcomeRow| {
            let is_open = open.get(&row.producer).is_some_and(|number| row.first + row.count > *number);
            row.at >= purge.before || is_open
        };
        for row in rows {
            if is_kept(&row) {
                // The rest of this producer is newer, and kept as well.
                after = (row.producer, MAX_NUMBER);
                break;
            }
            let OutcomeRow { producer, first, count, .. } = row;
            store.remove_outcome(shard, producer, first)?;
            let row = store.producer(shard, producer)?.unwrap_or_default();
            let floor = row.floor.max(first + count);
            store.put_producer(shard, producer, &ProducerRow { floor, ..row })?;
            left -= 1;
        }
    }
    Ok(true)
}

/// Puts all ops that wait in doubt: the log is a backup, and they may have been sent since it was made.
#[cfg(feature = "durable-file")]
pub(crate) fn doubt_all(store: &mut dyn Store, shard: u32) -> Stored<()> {
    let (row, settled) = (store.shard(shard)?, store.settled(shard)?);
    let known = store.intents(shard)?;
    let number = known.last().map_or(0, |(number, _)| number + 1);
    let mut named: Vec<u64> = Vec::new();
    for (number, bytes) in known {
        let intent = Intent::decode(&bytes).ok_or_else(|| LogError::Damaged(format!("intent {number}")))?;
        named.extend(intent.ops.into_iter().flat_map(|op| op.positions));
    }
    named.sort_unstable();
    let is_settled = |position: u64| settled.iter().any(|(first, last)| (*first..=*last).contains(&position));
    let open = (row.cursor..row.next).filter(|at| named.binary_search(at).is_err() && !is_settled(*at));
    let ops: Vec<_> = open.map(|position| IntentOp { positions: vec![position], attempts: 1, op: None }).collect();
    if ops.is_empty() {
        return Ok(());
    }
    store.put_intent(shard, number, &Intent { alone: false, schema: 0, ops }.encode())
}

/// Removes a dead letter. Returns whether there was one.
pub(crate) fn discard(store: &mut dyn Store, shard: u32, producer: u64, number: u64) -> Stored<bool> {
    let known = store.letter(shard, producer, number)?.is_some();
    if known {
        store.remove_letter(shard, producer, number)?;
    }
    Ok(known)
}

/// Moves the op of a dead letter to the end of the log, as the op `to` of a process. Returns the frame, if there was a letter.
pub(crate) fn requeue(
    store: &mut dyn Store,
    shard: u32,
    (producer, number): (u64, u64),
    to: (u64, u64),
    now: u64,
) -> Stored<Option<StoredFrame>> {
    let Some(letter) = store.letter(shard, producer, number)? else {
        return Ok(None);
    };
    let mut packer = Packer::new(to.0);
    packer.push(Entry { producer: to.0, number: to.1, handle: 0, may_repeat: false, withdraws: false }, &letter.op);
    let frame = packer.seal(0, now, letter.schema);
    if !store.has_room(frame.bytes.len())? {
        return Err(LogError::Full);
    }
    store.remove_letter(shard, producer, number)?;
    let first = push_frame(store, shard, &frame)?;
    Ok(Some(StoredFrame { first, count: frame.count, bytes: frame.bytes }))
}
