//! Looks for damage in a file before it is used. SQLite has no checksums, and finds a row by its key: a row whose key or page has
//! changed is not there any more, and nothing says so. Rows that every term reads are checked when it reads them.

use rusqlite::Connection;

use super::{
    letters::{LETTER, letter_row},
    store::{OUTCOME, failed, outcome_row},
};
use crate::durable::log::{
    LogError,
    store::{LogRow, ProducerRow, Stored},
    sums::{check, letter_sum, log_sum, outcome_sum, producer_sum, unsigned},
};

/// Bytes of a file of which every page is looked at, a fraction of a second. In a larger one it is the pages of the log's own
/// tables, since rows of sinks may be many times as large.
const WHOLE: i64 = 256 << 20;

/// Findings of SQLite about rows that their owner has put into the file against a constraint of their table.
const OF_OWNER: [&str; 2] = ["CHECK constraint failed in ", "NULL value in "];

/// The log's own tables that have shards.
const OF_SHARDS: [&str; 8] = ["shards", "producers", "frames", "settled", "intents", "outcomes", "charges", "letters"];

/// Finds the damage that reading by keys would not.
pub(super) fn verify(connection: &Connection) -> Stored<()> {
    let error = |error: rusqlite::Error| failed(&error);
    let pages = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()";
    let bytes: i64 = connection.query_row(pages, [], |row| row.get(0)).map_err(error)?;
    if bytes <= WHOLE {
        pages_are_right(connection, "PRAGMA quick_check")?;
    }
    for table in OF_SHARDS.iter().chain(&["meta", "logs"]) {
        // With their indexes, by which rows are found.
        pages_are_right(connection, &format!("PRAGMA integrity_check(roundlot_{table})"))?;
    }
    each(connection, "SELECT name, log, shards, next_producer, sum FROM roundlot_logs", |row| {
        let name: String = row.get(0)?;
        let log = LogRow { log: row.get(1)?, shards: row.get(2)?, next_producer: unsigned(row.get(3)?) };
        Ok(check(row.get::<_, i64>(4)? == log_sum(&name, &log), "logs"))
    })?;
    for table in OF_SHARDS {
        // A frame without its shard would never be read.
        let known =
            if table == "frames" { "AND EXISTS (SELECT 1 FROM roundlot_shards s WHERE s.shard = t.shard)" } else { "" };
        let sql = format!(
            "SELECT count(*) FROM roundlot_{table} t WHERE NOT (EXISTS (SELECT 1 FROM roundlot_logs l \
             WHERE l.log = t.shard >> 16 AND t.shard & 65535 < l.shards) {known})"
        );
        let strange: i64 = connection.query_row(&sql, [], |row| row.get(0)).map_err(error)?;
        check(strange == 0, table)?;
    }
    each(connection, "SELECT frame, first, floor, claimed, producer, shard, sum FROM roundlot_producers", |row| {
        let number = |at| row.get(at).map(unsigned);
        let producer = ProducerRow { frame: number(0)?, first: number(1)?, floor: number(2)?, claimed: number(3)? };
        Ok(check(row.get::<_, i64>(6)? == producer_sum(row.get(5)?, number(4)?, &producer), "producers"))
    })?;
    each(connection, &format!("SELECT {OUTCOME}, shard FROM roundlot_outcomes"), |row| {
        let (outcome, sum) = outcome_row(row)?;
        Ok(check(sum == outcome_sum(row.get(10)?, &outcome), "outcomes"))
    })?;
    each(connection, &LETTER.replacen(" FROM ", ", shard FROM ", 1), |row| {
        let (letter, sum) = letter_row(row)?;
        Ok(check(sum == letter_sum(row.get(9)?, &letter), "letters"))
    })
}

/// Whether a file has all tables of a log as they are made, or none. One whose name has changed would be made anew, and be empty;
/// one whose columns have changed can't be read.
pub(super) fn has_all_or_none(connection: &Connection, tables: &str) -> rusqlite::Result<bool> {
    let (mut has_one, mut has_all) = (false, true);
    for table in tables.split(';').filter_map(|table| table.trim().strip_prefix("CREATE TABLE IF NOT EXISTS ")) {
        let name = table.split(' ').next();
        let sql =
            "SELECT count(*), count(*) FILTER (WHERE sql = 'CREATE TABLE ' || ?2) FROM sqlite_schema WHERE name = ?1";
        let (there, right): (i64, i64) =
            connection.query_row(sql, (name, table), |row| Ok((row.get(0)?, row.get(1)?)))?;
        has_one |= there > 0;
        has_all &= right > 0;
    }
    Ok(has_all || !has_one)
}

fn pages_are_right(connection: &Connection, sql: &str) -> Stored<()> {
    each(connection, sql, |row| {
        let found: String = row.get(0)?;
        let is_right = found == "ok" || OF_OWNER.iter().any(|of_owner| found.starts_with(of_owner));
        Ok(if is_right { Ok(()) } else { Err(LogError::Damaged(found)) })
    })
}

/// Looks at each row of a query.
fn each(
    connection: &Connection,
    sql: &str,
    look: impl Fn(&rusqlite::Row<'_>) -> rusqlite::Result<Stored<()>>,
) -> Stored<()> {
    let mut query = connection.prepare(sql).map_err(|error| failed(&error))?;
    let mut rows = query.query([]).map_err(|error| failed(&error))?;
    while let Some(row) = rows.next().map_err(|error| failed(&error))? {
        // A value of another type than the log writes is damage, too.
        look(row).map_err(|error| LogError::Damaged(error.to_string()))??;
    }
    Ok(())
}
