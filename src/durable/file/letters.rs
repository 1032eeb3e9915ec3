//! Dead letters as rows; and [`LetterBytes`]: how many bytes they take in a file, and how many they may. The writer owns it.

use std::cell::Cell;

use rusqlite::Row;

use crate::durable::{
    log::{
        store::{LetterRow, Stored},
        sums::unsigned,
    },
    outcomes::end_of,
};

pub(super) const LETTER: &str =
    "SELECT producer, number, op, schema, ended, attempts, error, at, sum FROM roundlot_letters";

pub(super) fn letter_row(row: &Row<'_>) -> rusqlite::Result<(LetterRow, i64)> {
    let end: String = row.get(4)?;
    let letter = LetterRow {
        producer: unsigned(row.get(0)?),
        number: unsigned(row.get(1)?),
        position: None,
        op: row.get(2)?,
        schema: row.get(3)?,
        end: end_of(&end).name(),
        attempts: row.get(5)?,
        error: row.get(6)?,
        at: unsigned(row.get(7)?),
    };
    Ok((letter, row.get(8)?))
}

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
