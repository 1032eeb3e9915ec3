//! [`Rows`]: the rows of a log in SQLite, within the writer's transaction. Each row has a checksum over its key and content, since
//! SQLite has none.

use std::{
    cell::{Cell, RefCell},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OptionalExtension, Params, Row, params};

use super::{
    guard::{Guard, SAVEPOINT},
    letters::{LETTER, LetterBytes, letter_row},
};
use crate::durable::{
    bytes::checksum,
    log::{
        LogError,
        store::{ChargeRow, FrameRow, LetterRow, LogRow, OutcomeRow, ProducerRow, ShardRow, Store, Stored},
        sums::{check, letter_sum, log_sum, outcome_sum, producer_sum, shard_sum, signed, sum, unsigned},
    },
    outcomes::row_end,
    transaction::Transaction,
};

pub(super) struct Rows<'c> {
    connection: &'c Connection,
    guard: &'c Guard,
    wal: PathBuf,
    /// Bytes of database and its log above which no op is accepted.
    room: u64,
    /// Bytes after the last commit, and those of the frames since.
    used: u64,
    letters: &'c LetterBytes,
    /// Whether a row has been changed.
    pub(super) changed: Cell<bool>,
    /// Shards whose own rows were.
    pub(super) touched: RefCell<Vec<u32>>,
}

/// Classifies an error of SQLite in a transaction that has not been committed.
pub(super) fn failed(error: &rusqlite::Error) -> LogError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => LogError::Damaged(error.to_string()),
        // Only the rows of sinks have constraints that are checked at the end.
        Some(ErrorCode::ConstraintViolation) => LogError::Uncommittable(error.to_string()),
        None if matches!(
            error,
            rusqlite::Error::InvalidColumnType(..) | rusqlite::Error::IntegralValueOutOfRange(..)
        ) =>
        {
            LogError::Damaged(error.to_string())
        }
        _ => LogError::Failed(error.to_string()),
    }
}

impl<'c> Rows<'c> {
    /// `used` is what [`bytes`](Self::bytes) was after the last commit.
    pub(super) fn new(
        connection: &'c Connection,
        guard: &'c Guard,
        letters: &'c LetterBytes,
        wal: PathBuf,
        room: u64,
        used: u64,
    ) -> Self {
        Self { connection, guard, letters, wal, room, used, changed: Cell::new(false), touched: RefCell::default() }
    }

    pub(super) fn change(&self, sql: &str, params: impl Params) -> Stored<()> {
        self.changed.set(true);
        let mut statement = self.connection.prepare_cached(sql).map_err(|error| failed(&error))?;
        statement.execute(params).map(drop).map_err(|error| failed(&error))
    }

    pub(super) fn one<V>(
        &self,
        sql: &str,
        params: impl Params,
        row: impl FnOnce(&Row<'_>) -> rusqlite::Result<V>,
    ) -> Stored<Option<V>> {
        let mut statement = self.connection.prepare_cached(sql).map_err(|error| failed(&error))?;
        statement.query_row(params, row).optional().map_err(|error| failed(&error))
    }

    pub(super) fn all<V>(
        &self,
        sql: &str,
        params: impl Params,
        row: impl FnMut(&Row<'_>) -> rusqlite::Result<V>,
    ) -> Stored<Vec<V>> {
        let mut statement = self.connection.prepare_cached(sql).map_err(|error| failed(&error))?;
        let rows = statement.query_map(params, row).map_err(|error| failed(&error))?;
        rows.collect::<rusqlite::Result<_>>().map_err(|error| failed(&error))
    }

    fn number(&self, sql: &str) -> Stored<u64> {
        Ok(self.one(sql, [], |row| row.get(0))?.map_or(0, unsigned))
    }

    /// Bytes of the database that hold something, and of its log.
    pub(super) fn bytes(&self) -> Stored<u64> {
        // Plain pragmas: as tables they are prepared anew each time.
        let pages = self.number("PRAGMA page_count")? - self.number("PRAGMA freelist_count")?;
        let size = self.number("PRAGMA page_size")?;
        Ok(pages * size + std::fs::metadata(&self.wal).map_or(0, |wal| wal.len()))
    }
}

pub(super) fn outcome_row(row: &Row<'_>) -> rusqlite::Result<(OutcomeRow, i64)> {
    let end: String = row.get(3)?;
    let outcome = OutcomeRow {
        producer: unsigned(row.get(0)?),
        first: unsigned(row.get(1)?),
        count: unsigned(row.get(2)?),
        end: row_end(&end),
        attempts: row.get(4)?,
        at: unsigned(row.get(5)?),
        schema: row.get(6)?,
        result: row.get(7)?,
        lengths: row.get(8)?,
    };
    Ok((outcome, row.get(9)?))
}

fn pair(row: &Row<'_>) -> rusqlite::Result<(u64, u64, i64)> {
    Ok((unsigned(row.get(0)?), unsigned(row.get(1)?), row.get(2)?))
}

pub(super) const OUTCOME: &str = "producer, first, count, ended, attempts, at, schema, result, lengths, sum";

impl Store for Rows<'_> {
    fn nested(&mut self, timeout: Duration, work: &mut dyn FnMut(&mut Transaction<'_>) -> bool) -> Stored<bool> {
        self.change(&format!("SAVEPOINT {SAVEPOINT}"), [])?;
        self.guard.enter(timeout);
        let stays = work(&mut Transaction::sqlite_of(self.connection));
        let stays = !self.guard.leave() && stays;
        if self.connection.is_autocommit() {
            // A statement of the sink, or one of its triggers, has rolled everything back, other requests included.
            return Err(LogError::Uncommittable("a statement ended the transaction".to_owned()));
        }
        if !stays {
            self.change(&format!("ROLLBACK TO {SAVEPOINT}"), [])?;
        }
        self.change(&format!("RELEASE {SAVEPOINT}"), []).map(|()| stays)
    }

    fn has_room(&mut self, bytes: usize) -> Stored<bool> {
        if self.used + bytes as u64 > self.room {
            // Pages may have been freed since.
            self.used = self.bytes()?;
        }
        self.used += bytes as u64;
        Ok(self.used <= self.room)
    }

    fn has_letter_room(&mut self) -> Stored<bool> {
        let sql = "SELECT coalesce(sum(length(op) + length(error)), 0) FROM roundlot_letters";
        self.letters.have_room(|| self.number(sql))
    }

    fn log(&mut self, name: &str) -> Stored<Option<LogRow>> {
        let sql = "SELECT log, shards, next_producer, sum FROM roundlot_logs WHERE name = ?1";
        let found = self.one(sql, [name], |row| {
            let row_of = LogRow { log: row.get(0)?, shards: row.get(1)?, next_producer: unsigned(row.get(2)?) };
            Ok((row_of, row.get::<_, i64>(3)?))
        })?;
        found.map_or(Ok(None), |(row, sum)| check(sum == log_sum(name, &row), "logs").map(|()| Some(row)))
    }

    fn logs(&mut self) -> Stored<u16> {
        Ok(self.number("SELECT coalesce(max(log) + 1, 0) FROM roundlot_logs")? as u16)
    }

    fn put_log(&mut self, name: &str, row: &LogRow) -> Stored<()> {
        let sql = "INSERT OR REPLACE INTO roundlot_logs VALUES (?1, ?2, ?3, ?4, ?5)";
        self.change(sql, params![name, row.log, row.shards, signed(row.next_producer), log_sum(name, row)])
    }

    fn pairing(&mut self, log: u16) -> Stored<Option<u64>> {
        let sql = "SELECT pairing, sum FROM roundlot_pairings WHERE log = ?1";
        let found = self.one(sql, [log], |row| Ok((unsigned(row.get(0)?), row.get::<_, i64>(1)?)))?;
        let sum_of = |pairing| sum(&[u64::from(log), pairing]);
        found.map_or(Ok(None), |(pairing, sum)| check(sum == sum_of(pairing), "pairings").map(|()| Some(pairing)))
    }

    #[cfg(feature = "postgres")]
    fn put_pairing(&mut self, log: u16, pairing: u64) -> Stored<()> {
        let sum = sum(&[u64::from(log), pairing]);
        self.change("INSERT INTO roundlot_pairings VALUES (?1, ?2, ?3)", params![log, signed(pairing), sum])
    }

    fn shard(&mut self, shard: u32) -> Stored<ShardRow> {
        let sql = "SELECT epoch, next, cursor, paused, idle_terms, sum FROM roundlot_shards WHERE shard = ?1";
        let found = self.one(sql, [shard], |row| {
            let numbers = (unsigned(row.get(0)?), unsigned(row.get(1)?), unsigned(row.get(2)?));
            let (epoch, next, cursor) = numbers;
            let row_of = ShardRow { epoch, next, cursor, paused: row.get(3)?, idle_terms: row.get(4)? };
            Ok((row_of, row.get::<_, i64>(5)?))
        })?;
        let Some((row, sum)) = found else { return Ok(ShardRow::default()) };
        check(sum == shard_sum(shard, &row), "shards").map(|()| row)
    }

    fn put_shard(&mut self, shard: u32, row: &ShardRow) -> Stored<()> {
        let sql = "INSERT OR REPLACE INTO roundlot_shards VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        let ShardRow { epoch, next, cursor, paused, idle_terms } = *row;
        let sum = shard_sum(shard, row);
        if !self.touched.borrow().contains(&shard) {
            self.touched.borrow_mut().push(shard);
        }
        self.change(sql, params![shard, signed(epoch), signed(next), signed(cursor), paused, idle_terms, sum])
    }

    fn producer(&mut self, shard: u32, producer: u64) -> Stored<Option<ProducerRow>> {
        let sql = "SELECT frame, first, floor, claimed, sum FROM roundlot_producers WHERE shard = ?1 AND producer = ?2";
        let found = self.one(sql, params![shard, signed(producer)], |row| {
            let (frame, first) = (unsigned(row.get(0)?), unsigned(row.get(1)?));
            let (floor, claimed) = (unsigned(row.get(2)?), unsigned(row.get(3)?));
            Ok((ProducerRow { frame, first, floor, claimed }, row.get::<_, i64>(4)?))
        })?;
        let is_right = |row: &ProducerRow, sum| sum == producer_sum(shard, producer, row);
        found.map_or(Ok(None), |(row, sum)| check(is_right(&row, sum), "producers").map(|()| Some(row)))
    }

    fn put_producer(&mut self, shard: u32, producer: u64, row: &ProducerRow) -> Stored<()> {
        let sql = "INSERT OR REPLACE INTO roundlot_producers VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        let ProducerRow { frame, first, floor, claimed } = *row;
        let numbers = (signed(frame), signed(first), signed(floor), signed(claimed));
        let sum = producer_sum(shard, producer, row);
        self.change(sql, params![shard, signed(producer), numbers.0, numbers.1, numbers.2, numbers.3, sum])
    }

    fn frames(&mut self, shard: u32, from: u64, limit: usize) -> Stored<Vec<FrameRow>> {
        let before =
            "SELECT first, last, sum FROM roundlot_frames WHERE shard = ?1 AND first <= ?2 ORDER BY first DESC LIMIT 1";
        let before = self.one(before, params![shard, signed(from)], pair)?;
        let start = before.filter(|(_, last, _)| *last >= from).map_or(from, |(first, ..)| first);
        let sql = "SELECT first, last, bytes, sum FROM roundlot_frames WHERE shard = ?1 AND first >= ?2 ORDER BY first LIMIT ?3";
        let rows = self.all(sql, params![shard, signed(start), limit as i64], |row| {
            let bytes: Vec<u8> = row.get(2)?;
            Ok((unsigned(row.get(0)?), unsigned(row.get(1)?), Arc::<[u8]>::from(bytes), row.get::<_, i64>(3)?))
        })?;
        let checked = rows.into_iter().map(|(first, last, bytes, sum)| {
            let key = [u64::from(shard), first, last];
            check(sum == signed(checksum(&key, &bytes)), "frames").map(|()| (first, bytes))
        });
        checked.collect()
    }

    fn put_frame(&mut self, shard: u32, first: u64, count: u64, bytes: &Arc<[u8]>) -> Stored<()> {
        let last = first + count - 1;
        let sum = signed(checksum(&[u64::from(shard), first, last], bytes));
        let sql = "INSERT OR REPLACE INTO roundlot_frames VALUES (?1, ?2, ?3, ?4, ?5)";
        self.change(sql, params![shard, signed(first), signed(last), &bytes[..], sum])
    }

    fn remove_frames(&mut self, shard: u32, first: u64, last: u64) -> Stored<()> {
        let sql = "DELETE FROM roundlot_frames WHERE shard = ?1 AND first BETWEEN ?2 AND ?3 AND last <= ?3";
        self.change(sql, params![shard, signed(first), signed(last)])
    }

    fn settled(&mut self, shard: u32) -> Stored<Vec<(u64, u64)>> {
        let sql = "SELECT first, last, sum FROM roundlot_settled WHERE shard = ?1 ORDER BY first";
        let rows = self.all(sql, [shard], pair)?;
        rows.into_iter().map(|row| run(shard, row)).collect()
    }

    fn settled_at(&mut self, shard: u32, position: u64) -> Stored<Option<(u64, u64)>> {
        let sql = "SELECT first, last, sum FROM roundlot_settled WHERE shard = ?1 AND first <= ?2 ORDER BY first DESC LIMIT 1";
        self.one(sql, params![shard, signed(position)], pair)?.map(|row| run(shard, row)).transpose()
    }

    fn put_settled(&mut self, shard: u32, first: u64, last: u64) -> Stored<()> {
        let sql = "INSERT OR REPLACE INTO roundlot_settled VALUES (?1, ?2, ?3, ?4)";
        let sum = sum(&[u64::from(shard), first, last]);
        self.change(sql, params![shard, signed(first), signed(last), sum])
    }

    fn remove_settled(&mut self, shard: u32, first: u64) -> Stored<()> {
        self.change("DELETE FROM roundlot_settled WHERE shard = ?1 AND first = ?2", params![shard, signed(first)])
    }

    fn intents(&mut self, shard: u32) -> Stored<Vec<(u64, Vec<u8>)>> {
        let sql = "SELECT number, intent, sum FROM roundlot_intents WHERE shard = ?1 ORDER BY number";
        let rows = self
            .all(sql, [shard], |row| Ok((unsigned(row.get(0)?), row.get::<_, Vec<u8>>(1)?, row.get::<_, i64>(2)?)))?;
        let checked = rows.into_iter().map(|(number, intent, sum)| {
            let right = signed(checksum(&[u64::from(shard), number], &intent));
            check(sum == right, "intents").map(|()| (number, intent))
        });
        checked.collect()
    }

    fn put_intent(&mut self, shard: u32, number: u64, intent: &[u8]) -> Stored<()> {
        let sum = signed(checksum(&[u64::from(shard), number], intent));
        let sql = "INSERT OR REPLACE INTO roundlot_intents VALUES (?1, ?2, ?3, ?4)";
        self.change(sql, params![shard, signed(number), intent, sum])
    }

    fn remove_intent(&mut self, shard: u32, number: u64) -> Stored<()> {
        self.change("DELETE FROM roundlot_intents WHERE shard = ?1 AND number = ?2", params![shard, signed(number)])
    }

    fn charges(&mut self, shard: u32) -> Stored<Vec<ChargeRow>> {
        self.all_charges(shard)
    }

    fn add_charge(&mut self, shard: u32, row: &ChargeRow) -> Stored<()> {
        self.add_to_charge(shard, row)
    }

    fn remove_charges(&mut self, shard: u32, before: u64) -> Stored<()> {
        self.remove_expired_charges(shard, before)
    }

    fn outcome(&mut self, shard: u32, producer: u64, number: u64) -> Stored<Option<OutcomeRow>> {
        let sql = format!(
            "SELECT {OUTCOME} FROM roundlot_outcomes WHERE shard = ?1 AND producer = ?2 AND first <= ?3 ORDER BY first DESC LIMIT 1"
        );
        let found = self.one(&sql, params![shard, signed(producer), signed(number)], outcome_row)?;
        let Some((row, sum)) = found else { return Ok(None) };
        check(sum == outcome_sum(shard, &row), "outcomes")?;
        Ok(Some(row).filter(|row| number < row.first + row.count))
    }

    fn outcomes(&mut self, shard: u32, (producer, first): (u64, u64), limit: usize) -> Stored<Vec<OutcomeRow>> {
        let sql = format!(
            "SELECT {OUTCOME} FROM roundlot_outcomes WHERE shard = ?1 AND (producer, first) > (?2, ?3) ORDER BY producer, first LIMIT ?4"
        );
        let rows = self.all(&sql, params![shard, signed(producer), signed(first), limit as i64], outcome_row)?;
        Ok(rows.into_iter().map(|(row, _)| row).collect())
    }

    fn put_outcome(&mut self, shard: u32, row: &OutcomeRow) -> Stored<()> {
        let sql = "INSERT OR REPLACE INTO roundlot_outcomes VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
        let OutcomeRow { producer, first, count, end, attempts, at, schema, result, lengths } = row;
        let (producer, first, count, at) = (signed(*producer), signed(*first), signed(*count), signed(*at));
        let sum = outcome_sum(shard, row);
        self.change(sql, params![shard, producer, first, count, end, attempts, at, schema, result, lengths, sum])
    }

    fn remove_outcome(&mut self, shard: u32, producer: u64, first: u64) -> Stored<()> {
        let sql = "DELETE FROM roundlot_outcomes WHERE shard = ?1 AND producer = ?2 AND first = ?3";
        self.change(sql, params![shard, signed(producer), signed(first)])
    }

    fn letters(&mut self, shard: u32, after: Option<(u64, u64)>, limit: usize) -> Stored<Vec<LetterRow>> {
        let sql =
            format!("{LETTER} WHERE shard = ?1 AND (producer, number) > (?2, ?3) ORDER BY producer, number LIMIT ?4");
        let (producer, number) = after.map_or((-1, 0), |(producer, number)| (signed(producer), signed(number)));
        let rows = self.all(&sql, params![shard, producer, number, limit as i64], letter_row)?;
        let checked = rows.into_iter().map(|(row, sum)| check(sum == letter_sum(shard, &row), "letters").map(|()| row));
        checked.collect()
    }

    fn letter(&mut self, shard: u32, producer: u64, number: u64) -> Stored<Option<LetterRow>> {
        let sql = format!("{LETTER} WHERE shard = ?1 AND producer = ?2 AND number = ?3");
        let found = self.one(&sql, params![shard, signed(producer), signed(number)], letter_row)?;
        found.map_or(Ok(None), |(row, sum)| check(sum == letter_sum(shard, &row), "letters").map(|()| Some(row)))
    }

    fn put_letter(&mut self, shard: u32, row: &LetterRow) -> Stored<()> {
        let sql = "INSERT OR REPLACE INTO roundlot_letters VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
        let LetterRow { producer, number, op, schema, end, attempts, error, at, .. } = row;
        let (producer, number, at) = (signed(*producer), signed(*number), signed(*at));
        self.letters.add(row);
        self.change(sql, params![shard, producer, number, op, schema, end, attempts, error, at, letter_sum(shard, row)])
    }

    fn remove_letter(&mut self, shard: u32, producer: u64, number: u64) -> Stored<()> {
        if let Some(row) = self.letter(shard, producer, number)? {
            self.letters.remove(&row);
        }
        let sql = "DELETE FROM roundlot_letters WHERE shard = ?1 AND producer = ?2 AND number = ?3";
        self.change(sql, params![shard, signed(producer), signed(number)])
    }
}

fn run(shard: u32, (first, last, found): (u64, u64, i64)) -> Stored<(u64, u64)> {
    check(found == sum(&[u64::from(shard), first, last]), "settled").map(|()| (first, last))
}
