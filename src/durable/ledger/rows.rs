//! Rows of a ledger as its statements take them, in one array per column, and as its queries return them.

use std::collections::BTreeMap;

use tokio_postgres::{
    Client, Error, Row,
    types::{ToSql, Type},
};

use super::{
    Ledger,
    schema::key,
    session::{ANSWER, failed},
};
use crate::durable::{
    bytes::checksum,
    log::{
        LogError,
        store::{LetterRow, OutcomeRow, ShardRow, Stored},
        sums::{check, letter_sum, outcome_sum, shard_sum, signed, sum, unsigned},
    },
    outcomes::{end_of, row_end},
};

/// A parameter of a statement, with its type.
pub(crate) type Parameter<'a> = (Box<dyn ToSql + Sync + Send + 'a>, Type);

/// A statement about a log, whose number is its first parameter. That of a shard is the second, if it is about one.
pub(crate) struct Statement<'a> {
    sql: String,
    parameters: Vec<Parameter<'a>>,
}

impl Ledger {
    /// A statement, unless it is about no rows.
    pub(super) fn statement<'a>(
        &self,
        shard: u16,
        sql: &str,
        columns: impl IntoIterator<Item = Parameter<'a>>,
    ) -> Statement<'a> {
        Statement::new(&self.schema, (self.log, Some(shard)), sql, columns)
    }
}

pub(crate) fn int4<'a>(number: i32) -> Parameter<'a> {
    (Box::new(number), Type::INT4)
}

pub(crate) fn int8<'a>(number: u64) -> Parameter<'a> {
    (Box::new(signed(number)), Type::INT8)
}

pub(crate) fn int8s<'a>(numbers: impl IntoIterator<Item = u64>) -> Parameter<'a> {
    (Box::new(numbers.into_iter().map(signed).collect::<Vec<i64>>()), Type::INT8_ARRAY)
}

pub(crate) fn sums<'a>(sums: impl IntoIterator<Item = i64>) -> Parameter<'a> {
    (Box::new(sums.into_iter().collect::<Vec<i64>>()), Type::INT8_ARRAY)
}

pub(crate) fn text<'a>(text: &'a str) -> Parameter<'a> {
    (Box::new(text), Type::TEXT)
}

pub(crate) fn texts<'a>(texts: impl IntoIterator<Item = &'a str>) -> Parameter<'a> {
    (Box::new(texts.into_iter().collect::<Vec<&str>>()), Type::TEXT_ARRAY)
}

pub(crate) fn int4s<'a>(numbers: impl IntoIterator<Item = u16>) -> Parameter<'a> {
    (Box::new(numbers.into_iter().map(i32::from).collect::<Vec<i32>>()), Type::INT4_ARRAY)
}

pub(crate) fn byteas<'a>(bytes: impl IntoIterator<Item = &'a [u8]>) -> Parameter<'a> {
    (Box::new(bytes.into_iter().collect::<Vec<&[u8]>>()), Type::BYTEA_ARRAY)
}

impl<'a> Statement<'a> {
    /// A statement about the tables of a schema, which stands for `{s}`.
    pub(crate) fn new(
        schema: &str,
        (log, shard): (i32, Option<u16>),
        sql: &str,
        columns: impl IntoIterator<Item = Parameter<'a>>,
    ) -> Self {
        let of_shard = shard.map(|shard| int4(i32::from(shard)));
        let parameters = std::iter::once(int4(log)).chain(of_shard).chain(columns).collect();
        Statement { sql: sql.replace("{s}", schema), parameters }
    }
}

impl Statement<'_> {
    /// The parameters, as the client library takes them.
    fn typed(&self) -> Vec<(&(dyn ToSql + Sync), Type)> {
        self.parameters.iter().map(|(value, kind)| (&**value as &(dyn ToSql + Sync), kind.clone())).collect()
    }

    pub(crate) async fn execute(&self, client: &Client) -> Result<u64, Error> {
        client.execute_typed(&self.sql, &self.typed()).await
    }

    pub(crate) async fn query(&self, client: &Client) -> Result<Vec<Row>, Error> {
        client.query_typed(&self.sql, &self.typed()).await
    }
}

/// Runs statements in one round trip.
pub(crate) async fn run_all(client: &Client, statements: &[Statement<'_>]) -> Stored<()> {
    // Each is sent when it is first polled.
    let sent = futures::future::join_all(statements.iter().map(|statement| statement.execute(client)));
    let answers = tokio::time::timeout(ANSWER, sent).await;
    let answers = answers.map_err(|_| LogError::Failed("the server gave no answer".to_owned()))?;
    // The first error is the cause of those behind it.
    answers.into_iter().try_for_each(|answer| answer.map(drop).map_err(failed))
}

impl Ledger {
    pub(super) fn put_outcomes<'a>(&self, shard: u16, rows: &'a [OutcomeRow], now: u64) -> Option<Statement<'a>> {
        // The last one counts where an id stands twice, since a statement changes no row twice.
        let rows: BTreeMap<_, _> = rows.iter().map(|row| ((row.producer, row.first), row)).collect();
        let (key, rows) = (key(self.log, shard), || rows.values().copied());
        let stamped = |row: &OutcomeRow| outcome_sum(key, &OutcomeRow { at: now, ..row.clone() });
        let sql = "INSERT INTO {s}.roundlot_outcomes SELECT $1, $2, r.producer, r.first, r.count, r.ended, r.attempts, $3, \
            r.schema, r.result, r.lengths, r.sum FROM unnest($4::bigint[], $5::bigint[], $6::bigint[], $7::text[], \
            $8::bigint[], $9::bigint[], $10::bytea[], $11::bytea[], $12::bigint[]) \
            AS r(producer, first, count, ended, attempts, schema, result, lengths, sum) \
            ON CONFLICT (log, shard, producer, first) DO UPDATE SET count = excluded.count, ended = excluded.ended, \
            attempts = excluded.attempts, at = excluded.at, schema = excluded.schema, result = excluded.result, \
            lengths = excluded.lengths, sum = excluded.sum";
        let columns = [
            int8(now),
            int8s(rows().map(|row| row.producer)),
            int8s(rows().map(|row| row.first)),
            int8s(rows().map(|row| row.count)),
            texts(rows().map(|row| row.end)),
            int8s(rows().map(|row| u64::from(row.attempts))),
            int8s(rows().map(|row| u64::from(row.schema))),
            byteas(rows().map(|row| &*row.result)),
            byteas(rows().map(|row| &*row.lengths)),
            sums(rows().map(stamped)),
        ];
        (rows().next().is_some()).then(|| self.statement(shard, sql, columns))
    }

    /// Letters with their bytes.
    pub(super) fn put_letters<'a>(&self, shard: u16, rows: &'a [LetterRow]) -> Option<Statement<'a>> {
        let rows: BTreeMap<_, _> = rows.iter().map(|row| ((row.producer, row.number), row)).collect();
        let (key, rows) = (key(self.log, shard), || rows.values().copied());
        let sql = "INSERT INTO {s}.roundlot_letters SELECT $1, $2, r.* FROM unnest($3::bigint[], $4::bigint[], \
            $5::bytea[], $6::bigint[], $7::text[], $8::bigint[], $9::bytea[], $10::bigint[], $11::bigint[]) AS r \
            ON CONFLICT (log, shard, producer, number) DO UPDATE SET op = excluded.op, schema = excluded.schema, \
            ended = excluded.ended, attempts = excluded.attempts, error = excluded.error, at = excluded.at, \
            sum = excluded.sum, to_producer = NULL, to_number = NULL";
        let columns = [
            int8s(rows().map(|row| row.producer)),
            int8s(rows().map(|row| row.number)),
            byteas(rows().map(|row| &*row.op)),
            int8s(rows().map(|row| u64::from(row.schema))),
            texts(rows().map(|row| row.end)),
            int8s(rows().map(|row| u64::from(row.attempts))),
            byteas(rows().map(|row| &*row.error)),
            int8s(rows().map(|row| row.at)),
            sums(rows().map(|row| letter_sum(key, row))),
        ];
        (rows().next().is_some()).then(|| self.statement(shard, sql, columns))
    }

    pub(super) fn put_intents<'a>(&self, shard: u16, rows: &'a [(u64, Vec<u8>)]) -> Option<Statement<'a>> {
        let rows: BTreeMap<u64, &[u8]> = rows.iter().map(|(number, intent)| (*number, &**intent)).collect();
        let key = u64::from(key(self.log, shard));
        let sql = "INSERT INTO {s}.roundlot_intents SELECT $1, $2, r.* \
            FROM unnest($3::bigint[], $4::bytea[], $5::bigint[]) AS r \
            ON CONFLICT (log, shard, number) DO UPDATE SET intent = excluded.intent, sum = excluded.sum";
        let sum_of = |(number, intent): (&u64, &&[u8])| signed(checksum(&[key, *number], intent));
        let columns = [int8s(rows.keys().copied()), byteas(rows.values().copied()), sums(rows.iter().map(sum_of))];
        (!rows.is_empty()).then(|| self.statement(shard, sql, columns))
    }

    pub(super) fn remove_intents(&self, shard: u16, numbers: &[u64]) -> Option<Statement<'static>> {
        let sql = "DELETE FROM {s}.roundlot_intents WHERE log = $1 AND shard = $2 AND number = ANY ($3)";
        (!numbers.is_empty()).then(|| self.statement(shard, sql, [int8s(numbers.iter().copied())]))
    }

    pub(super) fn put_settled(&self, shard: u16, runs: &[(u64, u64)]) -> Option<Statement<'static>> {
        let key = u64::from(key(self.log, shard));
        let sql = "INSERT INTO {s}.roundlot_settled SELECT $1, $2, r.* \
            FROM unnest($3::bigint[], $4::bigint[], $5::bigint[]) AS r \
            ON CONFLICT (log, shard, first) DO UPDATE SET last = excluded.last, sum = excluded.sum";
        let columns = [
            int8s(runs.iter().map(|(first, _)| *first)),
            int8s(runs.iter().map(|(_, last)| *last)),
            sums(runs.iter().map(|(first, last)| sum(&[key, *first, *last]))),
        ];
        (!runs.is_empty()).then(|| self.statement(shard, sql, columns))
    }

    pub(super) fn remove_settled(&self, shard: u16, firsts: &[u64]) -> Option<Statement<'static>> {
        let sql = "DELETE FROM {s}.roundlot_settled WHERE log = $1 AND shard = $2 AND first = ANY ($3)";
        (!firsts.is_empty()).then(|| self.statement(shard, sql, [int8s(firsts.iter().copied())]))
    }

    /// A run from its first and last position and its checksum.
    pub(super) fn run_of(&self, shard: u16, row: &Row) -> Stored<(u64, u64)> {
        let (first, last) = (unsigned(row.get(0)), unsigned(row.get(1)));
        let is_right = row.get::<_, i64>(2) == sum(&[u64::from(key(self.log, shard)), first, last]);
        check(is_right, "settled").map(|()| (first, last))
    }

    pub(super) fn intent_of(&self, shard: u16, row: &Row) -> Stored<(u64, Vec<u8>)> {
        let (number, intent): (u64, Vec<u8>) = (unsigned(row.get(0)), row.get(1));
        let right = signed(checksum(&[u64::from(key(self.log, shard)), number], &intent));
        check(row.get::<_, i64>(2) == right, "intents").map(|()| (number, intent))
    }

    /// A shard from epoch, cursor, pause, idle terms and checksum.
    pub(super) fn shard_of(&self, shard: u16, row: &Row) -> Stored<ShardRow> {
        let (epoch, cursor) = (unsigned(row.get(0)), unsigned(row.get(1)));
        let idle_terms = u32::try_from(row.get::<_, i64>(3)).unwrap_or(u32::MAX);
        let found = ShardRow { epoch, next: 0, cursor, paused: row.get(2), idle_terms };
        check(row.get::<_, i64>(4) == shard_sum(key(self.log, shard), &found), "shards").map(|()| found)
    }

    pub(crate) fn outcome_of(&self, shard: u16, row: &Row) -> Stored<OutcomeRow> {
        let outcome = OutcomeRow {
            producer: unsigned(row.get(0)),
            first: unsigned(row.get(1)),
            count: unsigned(row.get(2)),
            end: row_end(row.get(3)),
            attempts: row.get::<_, i64>(4) as u32,
            at: unsigned(row.get(5)),
            schema: row.get::<_, i64>(6) as u32,
            result: row.get(7),
            lengths: row.get(8),
        };
        let is_right = row.get::<_, i64>(9) == outcome_sum(key(self.log, shard), &outcome);
        check(is_right, "outcomes").map(|()| outcome)
    }

    pub(crate) fn letter_of(&self, shard: u16, row: &Row) -> Stored<LetterRow> {
        let letter = LetterRow {
            producer: unsigned(row.get(0)),
            number: unsigned(row.get(1)),
            position: None,
            op: row.get(2),
            schema: row.get::<_, i64>(3) as u32,
            end: end_of(row.get(4)).name(),
            attempts: row.get::<_, i64>(5) as u32,
            error: row.get(6),
            at: unsigned(row.get(7)),
        };
        let is_right = row.get::<_, i64>(8) == letter_sum(key(self.log, shard), &letter);
        check(is_right, "letters").map(|()| letter)
    }
}
