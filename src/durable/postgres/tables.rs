//! [`Tables`]: where the rows of a log are, and the checksums of those that are not the ledger's. [`SharedSession`]: a session for requests that
//! need no transaction of several statements.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::Mutex;
use tokio_postgres::{Client, Row};

use crate::{
    durable::{
        bytes::checksum,
        ledger::{
            rows::{Parameter, Statement, int8s, sums},
            schema::key,
            session::{Slot, answer, committed},
        },
        log::{
            LogError,
            store::{ProducerRow, Stored},
            sums::{check, producer_sum, signed, sum, unsigned},
        },
    },
    sink::postgres::Server,
};

/// The tables of a log.
#[derive(Debug, Clone)]
pub(crate) struct Tables {
    /// Their schema, quoted.
    pub(crate) schema: String,
    /// The number of the log in its database.
    pub(crate) log: i32,
}

impl Tables {
    /// A statement about a shard, whose log and number are its first two parameters.
    pub(crate) fn of_shard<'a>(
        &self,
        shard: u16,
        sql: &str,
        columns: impl IntoIterator<Item = Parameter<'a>>,
    ) -> Statement<'a> {
        Statement::new(&self.schema, (self.log, Some(shard)), sql, columns)
    }

    /// A statement about the log, whose number is its first parameter.
    pub(crate) fn of_log<'a>(&self, sql: &str, columns: impl IntoIterator<Item = Parameter<'a>>) -> Statement<'a> {
        Statement::new(&self.schema, (self.log, None), sql, columns)
    }

    /// The key of a shard in checksums.
    fn key(&self, shard: u16) -> u64 {
        u64::from(key(self.log, shard))
    }

    pub(crate) fn tail_sum(&self, shard: u16, next: u64) -> i64 {
        sum(&[self.key(shard), next])
    }

    /// The position of a shard's next op, from that and its checksum.
    pub(crate) fn tail_of(&self, shard: u16, row: &Row, at: usize) -> Stored<u64> {
        let next = unsigned(row.get(at));
        check(row.get::<_, i64>(at + 1) == self.tail_sum(shard, next), "tails").map(|()| next)
    }

    pub(crate) fn producer_sum(&self, shard: u16, producer: u64, row: &ProducerRow) -> i64 {
        producer_sum(key(self.log, shard), producer, row)
    }

    /// A process as a shard knows it, from frame, first, floor, claimed and checksum.
    pub(crate) fn producer_of(&self, shard: u16, producer: u64, row: &Row, at: usize) -> Stored<ProducerRow> {
        let number = |column: usize| unsigned(row.get(at + column));
        let found = ProducerRow { frame: number(0), first: number(1), floor: number(2), claimed: number(3) };
        let is_right = row.get::<_, i64>(at + 4) == self.producer_sum(shard, producer, &found);
        check(is_right, "producers").map(|()| found)
    }

    /// Changes the rows of processes, each by a value, in a transaction that has locked the tail of the shard. A process without a row
    /// has never been here.
    pub(crate) async fn change_producers<V: Copy>(
        &self,
        client: &Client,
        shard: u16,
        by: &BTreeMap<u64, V>,
        change: impl Fn(ProducerRow, V) -> ProducerRow,
    ) -> Stored<()> {
        let known = "SELECT producer, frame, first, floor, claimed, sum FROM {s}.roundlot_producers WHERE log = $1 \
            AND shard = $2 AND producer = ANY ($3)";
        let mut rows = Vec::new();
        for row in answer(self.of_shard(shard, known, [int8s(by.keys().copied())]).query(client)).await? {
            let producer = unsigned(row.get(0));
            let before = self.producer_of(shard, producer, &row, 1)?;
            rows.push((producer, by.get(&producer).map_or(before, |value| change(before, *value))));
        }
        let sql = "UPDATE {s}.roundlot_producers p SET frame = r.frame, first = r.first, floor = r.floor, claimed = r.claimed, \
            sum = r.sum FROM unnest($3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[]) \
            AS r(producer, frame, first, floor, claimed, sum) WHERE p.log = $1 AND p.shard = $2 AND p.producer = r.producer";
        let columns = [
            int8s(rows.iter().map(|(producer, _)| *producer)),
            int8s(rows.iter().map(|(_, row)| row.frame)),
            int8s(rows.iter().map(|(_, row)| row.first)),
            int8s(rows.iter().map(|(_, row)| row.floor)),
            int8s(rows.iter().map(|(_, row)| row.claimed)),
            sums(rows.iter().map(|(producer, row)| self.producer_sum(shard, *producer, row))),
        ];
        answer(self.of_shard(shard, sql, columns).execute(client)).await.map(drop)
    }

    pub(crate) fn frame_sum(&self, shard: u16, (first, count): (u64, u64), bytes: &[u8]) -> i64 {
        signed(checksum(&[self.key(shard), first, count], bytes))
    }
}

/// A session for requests that are a statement each. One at a time has it.
pub(crate) struct SharedSession {
    server: Arc<Server>,
    slot: Mutex<Slot>,
}

impl SharedSession {
    /// A session that is opened anew when it must be; each begins with these settings.
    pub(crate) fn new(server: Arc<Server>, settings: &'static str) -> Self {
        Self { server, slot: Mutex::new(Slot::with(settings)) }
    }

    /// Runs a query that changes nothing.
    pub(crate) async fn query(&self, statement: &Statement<'_>) -> Stored<Vec<Row>> {
        let mut slot = self.slot.lock().await;
        let mut in_use = slot.ready(&self.server).await?;
        let rows = answer(statement.query(in_use.client()?)).await;
        match &rows {
            Ok(_) => in_use.done(),
            Err(_) => in_use.undo().await,
        }
        rows
    }

    /// Runs a statement that is a transaction of its own.
    pub(crate) async fn change(&self, statement: &Statement<'_>) -> Stored<u64> {
        let mut slot = self.slot.lock().await;
        let mut in_use = slot.ready(&self.server).await?;
        let changed = committed(statement.execute(in_use.client()?)).await;
        match &changed {
            Ok(_) => in_use.done(),
            Err(LogError::Unknown(_)) => {}
            Err(_) => in_use.undo().await,
        }
        changed
    }

    /// Runs work that takes several statements. The session is given up if it fails, and what is open in it is undone.
    pub(crate) async fn work<V>(&self, work: impl AsyncFnOnce(&mut tokio_postgres::Client) -> Stored<V>) -> Stored<V> {
        let mut slot = self.slot.lock().await;
        let mut in_use = slot.ready(&self.server).await?;
        let done = work(in_use.client()?).await;
        if done.is_ok() {
            in_use.done();
        }
        done
    }

    pub(crate) async fn end(&self) {
        self.slot.lock().await.end().await;
    }
}
