//! [`LetterBytes`]: how many bytes the dead letters of a log take in its ledger, and how many they may. Records with letters ask
//! before they are stored; a shard whose record finds no room holds until letters are discarded.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio_postgres::{Transaction, types::Type};

use super::{Ledger, session::answer};
use crate::durable::log::{
    store::{LetterRow, Stored},
    sums::unsigned,
};

/// Bytes of the ops and errors of all dead letters of a log. No other process adds any, since this one holds the file.
#[derive(Debug)]
pub(super) struct LetterBytes {
    max: u64,
    /// `u64::MAX` before they are counted. Letters that are discarded, or not stored after all, leave it with the next count. A
    /// count does not see a record that another shard stores meanwhile.
    now: AtomicU64,
}

impl LetterBytes {
    pub(super) fn new(max: u64) -> Self {
        Self { max, now: AtomicU64::new(u64::MAX) }
    }

    /// Letters are about to be stored.
    pub(super) fn add(&self, letters: &[LetterRow]) {
        let bytes: usize = letters.iter().map(|letter| letter.op.len() + letter.error.len()).sum();
        let add = |now: u64| Some(now.saturating_add(bytes as u64));
        let _ = self.now.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }
}

impl Ledger {
    /// Whether dead letters may be stored, or their share of the room is full. The last one may go over it.
    pub(super) async fn has_letter_room(&self, transaction: &Transaction<'_>) -> Stored<bool> {
        if self.letters.now.load(Ordering::Relaxed) < self.letters.max {
            return Ok(true);
        }
        let sql = self.sql(
            "SELECT coalesce(sum(octet_length(op) + octet_length(error)), 0)::bigint \
            FROM {s}.roundlot_letters WHERE log = $1",
        );
        let rows = answer(transaction.client().query_typed(&sql, &[(&self.log, Type::INT4)])).await?;
        let bytes = rows.first().map_or(0, |row| unsigned(row.get(0)));
        self.letters.now.store(bytes, Ordering::Relaxed);
        Ok(bytes < self.letters.max)
    }
}
