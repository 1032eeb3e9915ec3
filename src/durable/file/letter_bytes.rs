//! [`LetterBytes`]: how many bytes the dead letters in a file take, and how many they may. The writer owns it; rows count.

use std::cell::Cell;

use crate::durable::log::store::{LetterRow, Stored};

#[derive(Debug)]
pub(super) struct LetterBytes {
    max: u64,
    /// `None` if they have to be counted.
    now: Cell<Option<u64>>,
}

impl LetterBytes {
    pub(super) fn new(max: u64) -> Self {
        Self { max, now: Cell::new(None) }
    }

    /// Whether there may be more. `count` counts them in the file.
    pub(super) fn have_room(&self, count: impl FnOnce() -> Stored<u64>) -> Stored<bool> {
        let now = self.now.get().map_or_else(count, Ok)?;
        self.now.set(Some(now));
        Ok(now < self.max)
    }

    pub(super) fn add(&self, row: &LetterRow) {
        self.now.set(self.now.get().map(|now| now.saturating_add(bytes(row))));
    }

    pub(super) fn remove(&self, row: &LetterRow) {
        self.now.set(self.now.get().map(|now| now.saturating_sub(bytes(row))));
    }

    /// A transaction was undone.
    pub(super) fn forget(&self) {
        self.now.set(None);
    }
}

fn bytes(row: &LetterRow) -> u64 {
    (row.op.len() + row.error.len()) as u64
}
