//! Rows of what was drawn from the buckets of quotas. The rows of the log call these.

use std::sync::Arc;

use rusqlite::{Row, params};

use super::store::Rows;
use crate::durable::log::{
    store::{ChargeRow, Stored},
    sums::{charge_sum, check, signed, unsigned},
};

fn read(row: &Row<'_>) -> rusqlite::Result<(ChargeRow, i64)> {
    let bucket: String = row.get(0)?;
    let (key, grain, at) = (unsigned(row.get(1)?), unsigned(row.get(2)?), unsigned(row.get(3)?));
    let (cost, expires) = (unsigned(row.get(4)?), unsigned(row.get(5)?));
    Ok((ChargeRow { bucket: Arc::from(bucket), key, grain, at, cost, expires }, row.get(6)?))
}

const SELECT: &str = "SELECT bucket, key, grain, at, cost, expires, sum FROM roundlot_charges WHERE shard = ?1";

impl Rows<'_> {
    pub(super) fn all_charges(&self, shard: u32) -> Stored<Vec<ChargeRow>> {
        let rows = self.all(SELECT, [shard], read)?.into_iter();
        rows.map(|(row, found)| check(found == charge_sum(shard, &row), "charges").map(|()| row)).collect()
    }

    pub(super) fn add_to_charge(&self, shard: u32, row: &ChargeRow) -> Stored<()> {
        let find = format!("{SELECT} AND bucket = ?2 AND key = ?3 AND grain = ?4");
        let (key, grain) = (signed(row.key), signed(row.grain));
        let before = self.one(&find, params![shard, &*row.bucket, key, grain], read)?;
        let cost = row.cost + before.map_or(0, |(row, _)| row.cost);
        let row = ChargeRow { cost, ..row.clone() };
        let sql = "INSERT OR REPLACE INTO roundlot_charges VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        let (at, cost, expires) = (signed(row.at), signed(row.cost), signed(row.expires));
        self.change(sql, params![shard, &*row.bucket, key, grain, at, cost, expires, charge_sum(shard, &row)])
    }

    pub(super) fn remove_expired_charges(&self, shard: u32, before: u64) -> Stored<()> {
        let sql = "SELECT 1 FROM roundlot_charges WHERE shard = ?1 AND expires < ?2 LIMIT 1";
        match self.one(sql, params![shard, signed(before)], |_| Ok(()))? {
            Some(()) => {
                let sql = "DELETE FROM roundlot_charges WHERE shard = ?1 AND expires < ?2";
                self.change(sql, params![shard, signed(before)])
            }
            None => Ok(()),
        }
    }
}
