//! Frames: up to 1,000 ops in one record of the log. The ingress packs one and repeats it unchanged until the log answers; the
//! leader of the shard unpacks it. An entry may be a request to withdraw ops instead of an op: it has an id and a position like one.
//!
//! ```text
//! version, producer, frame number, time made, schema, number of entries
//! entries: flags, what the flags say, length, bytes; or the number of entries that were left out, since they are settled
//! checksum of all that
//! ```

mod packer;

use std::{ops::Range, sync::Arc};

use thiserror::Error;

use super::bytes::{Reader, checksum};
pub(crate) use packer::Packer;

/// Ops in a frame, at most: with natural batching more would only add to the latency of the first.
pub(crate) const MAX_OPS: usize = 1000;

/// Bytes of the ops in a frame, at most, unless a single op has more: half a megabyte is a tenth of a second on a slow disk.
pub(crate) const MAX_BYTES: usize = 512 * 1000;

/// Bytes of one op, at most: twice a frame.
pub(crate) const MAX_OP_BYTES: usize = 2 * MAX_BYTES;

/// The bound of producers, numbers and positions, which are all below: engines have signed integers.
pub(crate) const MAX_NUMBER: u64 = i64::MAX as u64;

/// Positions that a frame takes, at most. The log would lose count of a larger span.
pub(crate) const MAX_COUNT: u64 = 1 << 20;

/// The format that is written, and the only one that is read.
const VERSION: u8 = 1;

/// The number is not one more than that of the entry before.
const JUMPS: u8 = 1;
/// The op's producer is not the frame's.
const FOREIGN: u8 = 1 << 1;
/// The op's id may be in the log already.
const MAY_REPEAT: u8 = 1 << 2;
/// The handle is not that of the entry before.
const OTHER_HANDLE: u8 = 1 << 3;
/// No op, but a number of positions whose ops were settled and left out. No other flag is set then.
const GONE: u8 = 1 << 4;
/// No op, but a request to withdraw ops. Its bytes are the hash of their key. A version that does not know the flag takes the frame
/// for damaged.
const WITHDRAWS: u8 = 1 << 5;
const KNOWN: u8 = JUMPS | FOREIGN | MAY_REPEAT | OTHER_HANDLE | WITHDRAWS;

/// Bytes of the hash of a key.
pub(crate) const KEY_BYTES: usize = 16;

/// Bytes of an entry, at least: its flags and a length.
const MIN_ENTRY: usize = 2;

/// A frame that can't be unpacked.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum FrameError {
    #[error("a frame of format {0}, which this version does not read")]
    Version(u8),
    #[error("a damaged frame: {0}")]
    Damaged(&'static str),
}

/// The facts about one op in a frame, or about a request to withdraw ops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) producer: u64,
    pub(crate) number: u64,
    /// The handle that sent it, by its number in that process.
    pub(crate) handle: u32,
    /// Whether an op with this id may be in the log already.
    pub(crate) may_repeat: bool,
    /// Whether it is a request to withdraw ops.
    pub(crate) withdraws: bool,
}

/// A frame, packed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) producer: u64,
    /// Counts the frames of its producer and shard, from 1.
    pub(crate) number: u64,
    /// When it was made, in nanoseconds since 1970: its ops were accepted at that time, if they were.
    pub(crate) made_at: u64,
    pub(crate) schema: u32,
    pub(crate) count: u64,
    /// Whether it may have ops under ids of other producers.
    pub(crate) may_be_foreign: bool,
    pub(crate) bytes: Arc<[u8]>,
}

impl Frame {
    /// Reads the head of a frame, and its checksum.
    pub(crate) fn open(bytes: Arc<[u8]>) -> Result<Self, FrameError> {
        let Some((body, sum)) = bytes.split_last_chunk::<8>() else {
            return Err(FrameError::Damaged("it is too short"));
        };
        match body.first() {
            Some(&VERSION) => {}
            Some(version) => return Err(FrameError::Version(*version)),
            None => return Err(FrameError::Damaged("it is empty")),
        }
        if checksum(&[], body) != u64::from_le_bytes(*sum) {
            return Err(FrameError::Damaged("its checksum is wrong"));
        }
        let (head, _) = Self::head(body).ok_or(FrameError::Damaged("it ends in its head"))?;
        let [producer, number, made_at, schema, count] = head;
        let schema = u32::try_from(schema).map_err(|_| FrameError::Damaged("its schema is no number"))?;
        if count > MAX_COUNT || producer >= MAX_NUMBER || number >= MAX_NUMBER {
            return Err(FrameError::Damaged("its head has a number that is too large"));
        }
        Ok(Self { producer, number, made_at, schema, count, may_be_foreign: true, bytes })
    }

    /// The positions that a frame takes, by its head alone.
    pub(crate) fn count_of(bytes: &[u8]) -> Option<u64> {
        let ([.., count], _) = Self::head(bytes)?;
        Some(count)
    }

    /// The process that has made a frame, by its head alone.
    pub(crate) fn producer_of(bytes: &[u8]) -> Option<u64> {
        let ([producer, ..], _) = Self::head(bytes)?;
        Some(producer)
    }

    fn head(body: &[u8]) -> Option<([u64; 5], Reader<'_>)> {
        let mut reader = Reader::new(body);
        reader.byte()?;
        let (producer, number) = (reader.varint()?, reader.varint()?);
        let (made_at, schema, count) = (reader.word()?, reader.varint()?, reader.varint()?);
        Some(([producer, number, made_at, schema, count], reader))
    }

    /// The entries, each behind its place among the positions of the frame, and where its bytes are in the frame.
    pub(crate) fn entries(&self) -> Result<Vec<(u64, Entry, Range<usize>)>, FrameError> {
        let damaged = FrameError::Damaged("it ends in an entry");
        let body = &self.bytes[..self.bytes.len().saturating_sub(8)];
        let (_, mut reader) = Self::head(body).ok_or(damaged.clone())?;
        let mut last = Entry { producer: self.producer, number: 0, handle: 0, may_repeat: false, withdraws: false };
        // The count is a claim; the bytes bound it.
        let mut entries = Vec::with_capacity(usize::try_from(self.count).unwrap_or(0).min(body.len() / MIN_ENTRY));
        let mut offset = 0;
        while offset < self.count {
            let flags = reader.byte().ok_or(damaged.clone())?;
            if flags == GONE {
                let gone = reader.varint().filter(|gone| *gone > 0 && *gone <= self.count - offset);
                offset += gone.ok_or(damaged.clone())?;
                continue;
            }
            let (entry, range) = Self::entry(self.producer, last, flags, &mut reader).ok_or(damaged.clone())?;
            entries.push((offset, entry, range));
            last = entry;
            offset += 1;
        }
        if reader.is_at_end() { Ok(entries) } else { Err(FrameError::Damaged("it has more than its entries")) }
    }

    /// The hash of the key whose ops an entry wants to be withdrawn; `None` if it is an op.
    pub(crate) fn key(&self, entry: &Entry, range: &Range<usize>) -> Option<u128> {
        let bytes = entry.withdraws.then(|| &self.bytes[range.clone()])?;
        bytes.try_into().ok().map(u128::from_le_bytes)
    }

    /// The same frame without the entries at these places.
    pub(crate) fn without(&self, is_gone: &mut dyn FnMut(u64) -> bool) -> Result<Self, FrameError> {
        let (mut packer, mut next) = (Packer::new(self.producer), 0);
        for (place, entry, range) in self.entries()?.into_iter().filter(|(place, ..)| !is_gone(*place)) {
            packer.skip(place - next);
            packer.push(entry, &self.bytes[range]);
            next = place + 1;
        }
        packer.skip(self.count - next);
        Ok(packer.seal(self.number, self.made_at, self.schema))
    }

    /// The same frame, in which its producer's ops with numbers below `below` are flagged as possible repeats. `None` if it has none.
    pub(crate) fn flagged(&self, below: u64) -> Result<Option<Self>, FrameError> {
        let is_claimed = |entry: &Entry| entry.producer == self.producer && entry.number < below && !entry.withdraws;
        let entries = self.entries()?;
        if !entries.iter().any(|(_, entry, _)| is_claimed(entry)) {
            return Ok(None);
        }
        let mut packer = Packer::new(self.producer);
        for (_, entry, range) in entries {
            packer.push(Entry { may_repeat: entry.may_repeat || is_claimed(&entry), ..entry }, &self.bytes[range]);
        }
        Ok(Some(packer.seal(self.number, self.made_at, self.schema)))
    }

    fn entry(producer: u64, last: Entry, flags: u8, reader: &mut Reader<'_>) -> Option<(Entry, Range<usize>)> {
        if flags & !KNOWN != 0 {
            return None;
        }
        let has = |flag| flags & flag != 0;
        let number = if has(JUMPS) { reader.varint()? } else { last.number.checked_add(1)? };
        let producer = if has(FOREIGN) { reader.varint()? } else { producer };
        let handle = if has(OTHER_HANDLE) { u32::try_from(reader.varint()?).ok()? } else { last.handle };
        let (at, bytes) = reader.bytes()?;
        if number >= MAX_NUMBER || producer >= MAX_NUMBER {
            return None;
        }
        let (may_repeat, withdraws) = (has(MAY_REPEAT), has(WITHDRAWS));
        if withdraws && (may_repeat || bytes.len() != KEY_BYTES) {
            return None;
        }
        Some((Entry { producer, number, handle, may_repeat, withdraws }, at..at + bytes.len()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entries() -> impl Strategy<Value = Vec<(Entry, Vec<u8>)>> {
        let entry = (0..3_u64, 0..5_u64, 0..3_u32, 0..3_u8, prop::collection::vec(any::<u8>(), 0..5), any::<u128>());
        let entry = entry.prop_map(|(producer, number, handle, kind, op, key)| {
            let (may_repeat, withdraws) = (kind == 1, kind == 2);
            let bytes = if withdraws { key.to_le_bytes().to_vec() } else { op };
            (Entry { producer, number, handle, may_repeat, withdraws }, bytes)
        });
        prop::collection::vec(entry, 0..20)
    }

    fn pack(entries: &[(Entry, Vec<u8>)]) -> Frame {
        let mut packer = Packer::new(1);
        entries.iter().for_each(|(entry, bytes)| packer.push(*entry, bytes));
        packer.seal(7, 1_700_000_000_000_000_000, 3)
    }

    proptest! {
        /// Goal: a frame comes back as it was packed. Method: entries with all kinds of jumps, of several calls.
        #[test]
        fn frames_come_back(entries in entries(), calls in 1..4_usize) {
            let mut packer = Packer::new(1);
            for entries in entries.chunks(calls) {
                let mut call = Packer::new(1);
                entries.iter().for_each(|(entry, bytes)| call.push(*entry, bytes));
                prop_assert!(packer.has_room_for(&call));
                packer.append(call);
            }
            let frame = packer.seal(7, 1_700_000_000_000_000_000, 3);
            let read = Frame::open(Arc::clone(&frame.bytes)).unwrap();
            let is_foreign = entries.iter().any(|(entry, _)| entry.producer != 1);
            prop_assert_eq!(frame.may_be_foreign, is_foreign);
            prop_assert_eq!(&read, &Frame { may_be_foreign: true, ..frame.clone() });
            let unpacked = read.entries().unwrap();
            let bytes = |(entry, at): (Entry, Range<usize>)| (entry, frame.bytes[at].to_vec());
            let places: Vec<u64> = unpacked.iter().map(|(place, ..)| *place).collect();
            for (_, entry, at) in &unpacked {
                let key = entry.withdraws.then(|| u128::from_le_bytes(frame.bytes[at.clone()].try_into().unwrap()));
                prop_assert_eq!(frame.key(entry, at), key);
            }
            let unpacked: Vec<_> = unpacked.into_iter().map(|(_, entry, at)| bytes((entry, at))).collect();
            prop_assert_eq!(places, (0..entries.len() as u64).collect::<Vec<_>>());
            prop_assert_eq!(unpacked, entries);
        }

        /// Goal: flags change nothing else, and the ops of other producers not at all. Method: any bound.
        #[test]
        fn ops_are_flagged(entries in entries(), below in 0..6_u64) {
            let flagged = pack(&entries).flagged(below).unwrap();
            let is_claimed = |entry: &Entry| entry.producer == 1 && entry.number < below && !entry.withdraws;
            prop_assert_eq!(flagged.is_some(), entries.iter().any(|(entry, _)| is_claimed(entry)));
            let flagged = flagged.unwrap_or_else(|| pack(&entries));
            let expected: Vec<_> = entries.into_iter().map(|(entry, op)| {
                (Entry { may_repeat: entry.may_repeat || is_claimed(&entry), ..entry }, op)
            }).collect();
            prop_assert_eq!(flagged, pack(&expected));
        }

        /// Goal: a frame from which entries were left out has the others, at their positions. Method: any set of them.
        #[test]
        fn entries_can_be_left_out(entries in entries(), gone in any::<u32>()) {
            let is_gone = |place: u64| gone >> (place % 32) & 1 == 1;
            let frame = pack(&entries).without(&mut |place| is_gone(place)).unwrap();
            let read = Frame::open(Arc::clone(&frame.bytes)).unwrap();
            prop_assert_eq!(read.count, entries.len() as u64);
            let left: Vec<_> = read.entries().unwrap().into_iter().map(|(place, entry, at)| {
                (place, (entry, frame.bytes[at].to_vec()))
            }).collect();
            let expected: Vec<_> = (0..).zip(entries).filter(|(place, _)| !is_gone(*place)).collect();
            prop_assert_eq!(left, expected);
        }

        /// Goal: no bytes make a frame that was not packed, and none make it panic. Method: one byte is changed or cut off.
        #[test]
        fn damage_is_refused(entries in entries(), at in any::<prop::sample::Index>(), change in 1..=255_u8) {
            let frame = pack(&entries);
            let at = at.index(frame.bytes.len());
            let mut bytes = frame.bytes.to_vec();
            bytes[at] ^= change;
            prop_assert!(Frame::open(bytes.into()).is_err());
            prop_assert!(Frame::open(frame.bytes[..at].into()).is_err());
        }

        /// Goal: a request names a key by all its bytes, and no repeat is one. Method: fewer or more bytes, and both flags.
        #[test]
        fn a_request_has_the_hash_of_a_key(bytes in prop::collection::vec(any::<u8>(), 0..40), may_repeat in any::<bool>()) {
            let entry = Entry { producer: 1, number: 1, handle: 0, may_repeat, withdraws: true };
            let is_right = bytes.len() == KEY_BYTES && !may_repeat;
            prop_assert_eq!(pack(&[(entry, bytes)]).entries().is_ok(), is_right);
        }

        /// Goal: a frame with a valid checksum and nonsense in it does not panic. Method: random bodies.
        #[test]
        fn nonsense_is_refused(mut body in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Some(first) = body.first_mut() {
                *first = VERSION;
            }
            let sum = checksum(&[], &body);
            body.extend_from_slice(&sum.to_le_bytes());
            if let Ok(frame) = Frame::open(body.into()) {
                let _ = frame.entries();
            }
        }
    }
}
