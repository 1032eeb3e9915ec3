//! The tables of frames, processes and leases, and how a process joins a log. They are beside those of the ledger, in one schema.

use std::time::Duration;

use tokio_postgres::Transaction;

use super::tables::Tables;
use crate::{
    durable::{
        error::JoinError,
        ledger::{
            rows::{Statement, int4s, int8, run_all, sums, text},
            schema::{Found, HERE, enter},
            session::{answer, committed},
        },
        log::{
            LogError,
            store::{Paired, ProducerRow},
        },
    },
    sink::postgres::Session,
};

/// The tables, and the only format that is read.
const FRAMES: TableSet = TableSet { name: "frames", key: "frames_format", format: 2, tables: TABLES };

/// Rows that change all the time have room in their pages for the next version of each. Bytes of frames are not compressed, since most
/// of what is in them is read once, soon.
const TABLES: &str = "
CREATE TABLE {s}.roundlot_tails (
    log integer NOT NULL, shard integer NOT NULL, next bigint NOT NULL, bytes bigint NOT NULL, sum bigint NOT NULL,
    PRIMARY KEY (log, shard)
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
CREATE TABLE {s}.roundlot_frames (
    log integer NOT NULL, shard integer NOT NULL, first bigint NOT NULL, count bigint NOT NULL, bytes bytea NOT NULL,
    sum bigint NOT NULL, PRIMARY KEY (log, shard, first)
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000);
ALTER TABLE {s}.roundlot_frames ALTER COLUMN bytes SET STORAGE EXTERNAL;
CREATE TABLE {s}.roundlot_producers (
    log integer NOT NULL, shard integer NOT NULL, producer bigint NOT NULL, frame bigint NOT NULL, first bigint NOT NULL,
    floor bigint NOT NULL, claimed bigint NOT NULL, sum bigint NOT NULL, PRIMARY KEY (log, shard, producer)
) WITH (fillfactor = 50);
CREATE TABLE {s}.roundlot_members (
    log integer NOT NULL, producer bigint NOT NULL, revision bigint NOT NULL, name text NOT NULL,
    renewed_at timestamptz NOT NULL, lease bigint NOT NULL, PRIMARY KEY (log, producer)
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
CREATE TABLE {s}.roundlot_leases (
    log integer NOT NULL, shard integer NOT NULL, holder bigint NOT NULL, PRIMARY KEY (log, shard)
) WITH (fillfactor = 50);
INSERT INTO {s}.roundlot_meta VALUES ('frames_format', 2);
";

/// Joins a log in one transaction, and makes it if there is none.
pub(crate) async fn join(session: &mut Session, name: &str, shards: u16, lease: Duration) -> Result<Found, JoinError> {
    let paired = Paired {
        #[cfg(feature = "durable-file")]
        log: 0,
        pairing: HERE,
        next_producer: 1,
        has_begun: false,
    };
    session.begin();
    let transaction = answer(session.client_mut().transaction()).await?;
    let (found, tables) = enter_with_positions(&transaction, name, shards, paired).await?;
    add_member(&transaction, &tables, (found.producer, lease), shards).await?;
    committed(transaction.commit()).await?;
    session.rest();
    Ok(found)
}

/// Enters a process into a log, with the tables of positions, which are made if they are missing.
pub(crate) async fn enter_with_positions(
    transaction: &Transaction<'_>,
    name: &str,
    shards: u16,
    paired: Paired,
) -> Result<(Found, Tables), JoinError> {
    let found = enter(transaction, name, shards, paired).await?;
    FRAMES.make(transaction, &found.schema).await?;
    let tables = Tables { schema: found.schema.clone(), log: found.log };
    add_positions(transaction, &tables, found.producer, shards).await?;
    Ok((found, tables))
}

/// Tables that are made together, and the row of `roundlot_meta` that has their format.
pub(crate) struct TableSet {
    pub(crate) name: &'static str,
    pub(crate) key: &'static str,
    pub(crate) format: i64,
    pub(crate) tables: &'static str,
}

impl TableSet {
    /// Makes the tables if there are none, and refuses those of another format.
    pub(crate) async fn make(&self, transaction: &Transaction<'_>, schema: &str) -> Result<(), JoinError> {
        let Self { name, key, format, tables } = self;
        let sql = format!("SELECT value FROM {schema}.roundlot_meta WHERE key = '{key}'");
        match answer(transaction.query_typed(&sql, &[])).await?.first().map(|row| row.get::<_, i64>(0)) {
            None => Ok(answer(transaction.batch_execute(&tables.replace("{s}", schema))).await?),
            Some(has) if has == *format => Ok(()),
            Some(other) => {
                Err(JoinError::Unsafe(format!("the {name} have format {other}, and this version reads {format}")))
            }
        }
    }
}

/// Adds the tails of a log that is new, and the rows of a process.
async fn add_positions(
    transaction: &Transaction<'_>,
    tables: &Tables,
    producer: u64,
    shards: u16,
) -> Result<(), LogError> {
    let new = ProducerRow::default();
    let all = || int4s(0..shards);
    let tails = "INSERT INTO {s}.roundlot_tails SELECT $1, r.shard, 0, 0, r.sum \
        FROM unnest($2::integer[], $3::bigint[]) AS r(shard, sum) ON CONFLICT DO NOTHING";
    let producers = "INSERT INTO {s}.roundlot_producers SELECT $1, r.shard, $2, 0, 0, 0, 0, r.sum \
        FROM unnest($3::integer[], $4::bigint[]) AS r(shard, sum)";
    let statements: [Statement<'_>; 2] = [
        tables.of_log(tails, [all(), sums((0..shards).map(|shard| tables.tail_sum(shard, 0)))]),
        tables.of_log(
            producers,
            [int8(producer), all(), sums((0..shards).map(|shard| tables.producer_sum(shard, producer, &new)))],
        ),
    ];
    run_all(transaction.client(), &statements).await
}

/// Adds the leases of a log that is new, and the row by which a process shows that it is alive.
async fn add_member(
    transaction: &Transaction<'_>,
    tables: &Tables,
    (producer, lease): (u64, Duration),
    shards: u16,
) -> Result<(), LogError> {
    let leases = "INSERT INTO {s}.roundlot_leases SELECT $1, shard, 0 FROM unnest($2::integer[]) AS r(shard) \
        ON CONFLICT DO NOTHING";
    let member = "INSERT INTO {s}.roundlot_members VALUES ($1, $2, 0, $3, clock_timestamp(), $4)";
    let name = process_name();
    let statements: [Statement<'_>; 2] = [
        tables.of_log(leases, [int4s(0..shards)]),
        // In milliseconds. The others judge this process by its lease, if that is longer than theirs.
        tables.of_log(member, [int8(producer), text(&name), int8(lease.as_millis() as u64)]),
    ];
    run_all(transaction.client(), &statements).await
}

/// The name of this process, for people.
pub(crate) fn process_name() -> String {
    format!("process {} of {}", std::process::id(), host())
}

/// The name of this machine, for people.
fn host() -> String {
    let named = std::fs::read_to_string("/proc/sys/kernel/hostname").ok().or_else(|| std::env::var("HOSTNAME").ok());
    named.map_or_else(|| "a machine without a name".to_owned(), |name| name.trim().to_owned())
}
