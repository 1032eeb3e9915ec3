//! Checksums of the rows of a log, over key and content, for engines whose database has none of its own. Numbers in a database
//! are signed.

use super::{
    LogError,
    store::{ChargeRow, LetterRow, OutcomeRow, ProducerRow, ShardRow, Stored},
};
use crate::durable::bytes::checksum;
#[cfg(feature = "durable-file")]
use crate::durable::log::store::LogRow;

/// A number as databases have it. Positions and numbers stay below 2^63; checksums may not.
pub(crate) fn signed(number: u64) -> i64 {
    number as i64
}

/// The number again.
pub(crate) fn unsigned(number: i64) -> u64 {
    number as u64
}

/// Refuses a row whose checksum is wrong.
pub(crate) fn check(is_right: bool, table: &str) -> Stored<()> {
    if is_right { Ok(()) } else { Err(LogError::Damaged(format!("the checksum of a row of {table} is wrong"))) }
}

/// The checksum of a row of numbers.
pub(crate) fn sum(numbers: &[u64]) -> i64 {
    signed(checksum(numbers, &[]))
}

pub(crate) fn outcome_sum(shard: u32, row: &OutcomeRow) -> i64 {
    let OutcomeRow { producer, first, count, end, attempts, at, schema, result, lengths } = row;
    let key = [u64::from(shard), *producer, *first, *count, u64::from(*attempts), *at, u64::from(*schema)];
    signed(checksum(&[checksum(&key, end.as_bytes()), checksum(&[], lengths)], result))
}

pub(crate) fn letter_sum(shard: u32, row: &LetterRow) -> i64 {
    let key = [u64::from(shard), row.producer, row.number, u64::from(row.attempts), row.at, u64::from(row.schema)];
    signed(checksum(&[checksum(&key, row.end.as_bytes()), checksum(&[], &row.error)], &row.op))
}

pub(crate) fn charge_sum(shard: u32, row: &ChargeRow) -> i64 {
    let ChargeRow { bucket, key, grain, at, cost, expires } = row;
    signed(checksum(&[u64::from(shard), *key, *grain, *at, *cost, *expires], bucket.as_bytes()))
}

#[cfg(feature = "durable-file")]
pub(crate) fn log_sum(name: &str, row: &LogRow) -> i64 {
    signed(checksum(&[u64::from(row.log), u64::from(row.shards), row.next_producer], name.as_bytes()))
}

pub(crate) fn producer_sum(shard: u32, producer: u64, row: &ProducerRow) -> i64 {
    sum(&[u64::from(shard), producer, row.frame, row.first, row.floor, row.claimed])
}

pub(crate) fn shard_sum(shard: u32, row: &ShardRow) -> i64 {
    let (paused, idle_terms) = (u64::from(row.paused), u64::from(row.idle_terms));
    sum(&[u64::from(shard), row.epoch, row.next, row.cursor, paused, idle_terms])
}
