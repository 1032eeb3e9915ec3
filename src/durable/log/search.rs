//! Searches in the frames of a shard, for engines that read them over a network.

use std::collections::{BTreeMap, BTreeSet};

use super::{Answer, LogError, StoredFrame, store::Stored};
use crate::durable::frame::{Entry, Frame, FrameError};

/// Frames read at a time: some 30 MB at most.
pub(crate) const READ: u64 = 64;

/// The bytes of ops that are not settled, by their positions. `read` returns frames that hold a position or later ones, up to a number.
/// A transaction waits for them, so frames are read many at a time.
pub(crate) async fn ops<'a>(
    read: impl Fn(u64, u64) -> Answer<'a, Vec<StoredFrame>>,
    positions: &[u64],
) -> Stored<Vec<Vec<u8>>> {
    let mut left: BTreeSet<u64> = positions.iter().copied().collect();
    let mut ops = BTreeMap::new();
    while let Some(from) = left.first().copied() {
        for StoredFrame { first, bytes, .. } in read(from, READ.min(left.len() as u64)).await? {
            let frame = Frame::open(bytes).map_err(damaged)?;
            for (place, _, range) in frame.entries().map_err(damaged)? {
                if left.remove(&(first + place)) {
                    ops.insert(first + place, frame.bytes[range].to_vec());
                }
            }
        }
        if left.contains(&from) {
            return Err(LogError::Damaged(format!("no frame holds position {from}")));
        }
    }
    Ok(positions.iter().filter_map(|position| ops.get(position).cloned()).collect())
}

/// The first position from `least` on that holds an op of this id.
pub(crate) async fn position<'a>(
    read: impl Fn(u64, u64) -> Answer<'a, Vec<StoredFrame>>,
    least: u64,
    (producer, number): (u64, u64),
) -> Stored<Option<u64>> {
    let mut from = least;
    loop {
        let frames = read(from, READ).await?;
        let Some(last) = frames.last() else { return Ok(None) };
        from = last.first + last.count;
        for StoredFrame { first, bytes, .. } in frames {
            let entries = Frame::open(bytes).and_then(|frame| frame.entries()).map_err(damaged)?;
            let is_it = |place: u64, entry: &Entry| {
                first + place >= least && (entry.producer, entry.number) == (producer, number)
            };
            let found = entries.iter().find(|(place, entry, _)| is_it(*place, entry));
            if let Some((place, ..)) = found {
                return Ok(Some(first + place));
            }
        }
    }
}

fn damaged(error: FrameError) -> LogError {
    LogError::Damaged(error.to_string())
}
