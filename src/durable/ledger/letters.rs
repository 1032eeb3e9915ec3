//! [`LetterBytes`]: how many bytes the dead letters of a log take in its ledger, and how many they may. Records with letters ask
//! before they are stored; a shard whose record finds no room holds until letters are discarded.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;
use tokio_postgres::{Transaction, types::Type};

use super::{Ledger, session::answer};
use crate::durable::log::{
    store::{LetterRow, Stored},
    sums::unsigned,
};

/// How long a count is good where other processes add letters as well: meanwhile each of them may go over the bound by what it adds.
const COUNT_EVERY: Duration = Duration::from_secs(1);

/// Bytes of the ops and errors of all dead letters of a log.
#[derive(Debug)]
pub(crate) struct LetterBytes {
    max: u64,
    /// Whether other processes add letters. `None` if not; else when they were last counted.
    counted_at: Option<Mutex<Option<Instant>>>,
    /// `u64::MAX` before they are counted. Letters that are discarded, or not stored after all, leave it with the next count. A
    /// count does not see a record that another shard stores meanwhile.
    now: AtomicU64,
}

impl LetterBytes {
    /// Dead letters of a log to which no other process adds any.
    #[cfg(any(test, feature = "durable-file"))]
    pub(super) fn of_one_process(max: u64) -> Self {
        Self { max, counted_at: None, now: AtomicU64::new(u64::MAX) }
    }

    /// Dead letters of a log to which several processes add.
    pub(crate) fn of_many(max: u64) -> Self {
        Self { max, counted_at: Some(Mutex::default()), now: AtomicU64::new(u64::MAX) }
    }

    /// Whether the last count is good. If not, the caller counts.
    fn is_counted(&self) -> bool {
        let Some(counted_at) = &self.counted_at else { return true };
        let mut counted_at = counted_at.lock().unwrap_or_else(PoisonError::into_inner);
        let is_good = counted_at.is_some_and(|at| at.elapsed() < COUNT_EVERY);
        if !is_good {
            *counted_at = Some(Instant::now());
        }
        is_good
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
        if self.letters.is_counted() && self.letters.now.load(Ordering::Relaxed) < self.letters.max {
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
