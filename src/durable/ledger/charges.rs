//! Rows of what was drawn from the buckets of quotas. They are added up here, and not by the server, so that each has a checksum.
//! Terms and records call these, in a transaction that has locked the shard.

use std::collections::BTreeMap;

use tokio_postgres::{Row, Transaction};

use super::{
    Ledger,
    rows::{Statement, int8s, sums, texts},
    schema::key,
    session::answer,
};
use crate::durable::log::{
    store::{ChargeRow, Stored},
    sums::{charge_sum, check, unsigned},
};

const SELECT: &str = "SELECT c.bucket, c.key, c.grain, c.at, c.cost, c.expires, c.sum FROM {s}.roundlot_charges c";

impl Ledger {
    pub(super) async fn charges(&self, transaction: &Transaction<'_>, shard: u16) -> Stored<Vec<ChargeRow>> {
        let sql = format!("{SELECT} WHERE c.log = $1 AND c.shard = $2");
        let rows = answer(self.statement(shard, &sql, []).query(transaction.client())).await?;
        rows.iter().map(|row| self.charge_of(shard, row)).collect()
    }

    /// Draws, one row for each bucket, key and grain, with what is stored added to them.
    pub(super) async fn add_up(
        &self,
        transaction: &Transaction<'_>,
        shard: u16,
        draws: &[ChargeRow],
    ) -> Stored<Vec<ChargeRow>> {
        if draws.is_empty() {
            return Ok(Vec::new());
        }
        let mut added: BTreeMap<_, ChargeRow> = BTreeMap::new();
        for draw in draws {
            let before = added.get(&key_of(draw)).map_or(0, |row| row.cost);
            added.insert(key_of(draw), ChargeRow { cost: before.saturating_add(draw.cost), ..draw.clone() });
        }
        let sql = format!(
            "{SELECT} JOIN unnest($3::text[], $4::bigint[], $5::bigint[]) AS r(bucket, key, grain) \
             USING (bucket, key, grain) WHERE c.log = $1 AND c.shard = $2"
        );
        let columns = [
            texts(added.values().map(|row| &*row.bucket)),
            int8s(added.values().map(|row| row.key)),
            int8s(added.values().map(|row| row.grain)),
        ];
        let rows = answer(self.statement(shard, &sql, columns).query(transaction.client())).await?;
        for row in &rows {
            let stored = self.charge_of(shard, row)?;
            if let Some(row) = added.get_mut(&key_of(&stored)) {
                row.cost = row.cost.saturating_add(stored.cost);
            }
        }
        Ok(added.into_values().collect())
    }

    pub(super) fn put_charges<'a>(&self, shard: u16, rows: &'a [ChargeRow]) -> Option<Statement<'a>> {
        let key = key(self.log, shard);
        let sql = "INSERT INTO {s}.roundlot_charges SELECT $1, $2, r.* FROM unnest($3::text[], $4::bigint[], \
            $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[]) AS r \
            ON CONFLICT (log, shard, bucket, key, grain) DO UPDATE SET at = excluded.at, cost = excluded.cost, \
            expires = excluded.expires, sum = excluded.sum";
        let columns = [
            texts(rows.iter().map(|row| &*row.bucket)),
            int8s(rows.iter().map(|row| row.key)),
            int8s(rows.iter().map(|row| row.grain)),
            int8s(rows.iter().map(|row| row.at)),
            int8s(rows.iter().map(|row| row.cost)),
            int8s(rows.iter().map(|row| row.expires)),
            sums(rows.iter().map(|row| charge_sum(key, row))),
        ];
        (!rows.is_empty()).then(|| self.statement(shard, sql, columns))
    }

    fn charge_of(&self, shard: u16, row: &Row) -> Stored<ChargeRow> {
        let number = |column: usize| unsigned(row.get(column));
        let (of_key, grain, at, cost, expires) = (number(1), number(2), number(3), number(4), number(5));
        let found = ChargeRow { bucket: row.get::<_, &str>(0).into(), key: of_key, grain, at, cost, expires };
        check(row.get::<_, i64>(6) == charge_sum(key(self.log, shard), &found), "charges").map(|()| found)
    }
}

/// The key of a row within its shard.
fn key_of(row: &ChargeRow) -> (std::sync::Arc<str>, u64, u64) {
    (std::sync::Arc::clone(&row.bucket), row.key, row.grain)
}
