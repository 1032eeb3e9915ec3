//! [`Packer`]: packs entries into a frame. The ingress packs those of each call, and then joins the calls.

use super::{Entry, FOREIGN, Frame, GONE, JUMPS, MAX_BYTES, MAX_OPS, MAY_REPEAT, OTHER_HANDLE, VERSION, WITHDRAWS};
use crate::durable::bytes::{checksum, put_bytes, put_varint};

/// The weight of an op without bytes: a frame is full by its number of ops then.
const MIN_WEIGHT: usize = MAX_BYTES / MAX_OPS;

/// The weight of a full frame. An op with more bytes has a frame to itself.
const MAX_WEIGHT: usize = MIN_WEIGHT * MAX_OPS;

/// Packs entries: those of one call, and then those of all calls of a frame.
#[derive(Debug)]
pub(crate) struct Packer {
    entries: Vec<u8>,
    count: usize,
    weight: usize,
    producer: u64,
    has_foreign: bool,
    /// `None` before the first entry, which says all, so that it can follow any other.
    last: Option<Entry>,
}

impl Packer {
    pub(crate) fn new(producer: u64) -> Self {
        Self { entries: Vec::new(), count: 0, weight: 0, producer, has_foreign: false, last: None }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.count >= MAX_OPS || self.weight >= MAX_WEIGHT
    }

    /// Whether a frame has room for the entries of both.
    pub(crate) fn has_room_for(&self, other: &Self) -> bool {
        self.count + other.count <= MAX_OPS && self.weight + other.weight <= MAX_WEIGHT
    }

    pub(crate) fn push(&mut self, entry: Entry, bytes: &[u8]) {
        let jumps = self.last.is_none_or(|last| last.number.checked_add(1) != Some(entry.number));
        let other_handle = self.last.is_none_or(|last| entry.handle != last.handle);
        let foreign = entry.producer != self.producer;
        self.has_foreign |= foreign;
        let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
        self.entries.push(
            flag(jumps, JUMPS)
                | flag(foreign, FOREIGN)
                | flag(entry.may_repeat, MAY_REPEAT)
                | flag(other_handle, OTHER_HANDLE)
                | flag(entry.withdraws, WITHDRAWS),
        );
        if jumps {
            put_varint(&mut self.entries, entry.number);
        }
        if foreign {
            put_varint(&mut self.entries, entry.producer);
        }
        if other_handle {
            put_varint(&mut self.entries, u64::from(entry.handle));
        }
        put_bytes(&mut self.entries, bytes);
        self.last = Some(entry);
        self.count += 1;
        self.weight += bytes.len().clamp(MIN_WEIGHT, MAX_WEIGHT);
    }

    /// Adds the entries of a call behind the others.
    pub(crate) fn append(&mut self, other: Self) {
        if self.entries.is_empty() {
            self.entries = other.entries;
        } else {
            self.entries.extend_from_slice(&other.entries);
        }
        self.count += other.count;
        self.weight += other.weight;
        self.has_foreign |= other.has_foreign;
        self.last = other.last;
    }

    /// Leaves out so many entries, which keep their positions.
    pub(crate) fn skip(&mut self, count: u64) {
        if count > 0 {
            self.entries.push(GONE);
            put_varint(&mut self.entries, count);
            self.count += count as usize;
        }
    }

    /// The finished frame. `made_at` is in nanoseconds since 1970.
    pub(crate) fn seal(self, number: u64, made_at: u64, schema: u32) -> Frame {
        let mut bytes = Vec::with_capacity(self.entries.len() + 48);
        bytes.push(VERSION);
        put_varint(&mut bytes, self.producer);
        put_varint(&mut bytes, number);
        bytes.extend_from_slice(&made_at.to_le_bytes());
        put_varint(&mut bytes, u64::from(schema));
        put_varint(&mut bytes, self.count as u64);
        bytes.extend_from_slice(&self.entries);
        let sum = checksum(&[], &bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        let (producer, count) = (self.producer, self.count as u64);
        Frame { producer, number, made_at, schema, count, may_be_foreign: self.has_foreign, bytes: bytes.into() }
    }
}
