//! The tables of ledgers in a database, and how a process joins one.

use std::{sync::Arc, time::Duration};

use tokio::sync::Mutex;
use tokio_postgres::{Client, Error, Transaction, types::Type};

#[cfg(any(test, feature = "durable-file"))]
use super::session::{self, ANSWER, committed};
use super::{
    FrameStore, Lead, Ledger,
    letters::LetterBytes,
    session::{Slot, answer},
};
#[cfg(any(test, feature = "durable-file"))]
use crate::sink::postgres::Postgres;
use crate::{
    durable::{
        error::JoinError,
        log::{
            LogError,
            store::{Paired, ShardRow, shard_key},
            sums::{shard_sum, signed, unsigned},
        },
    },
    sink::{
        postgres::{Server, Session},
        table::sql::quoted,
    },
};

/// The format of the tables, and the only one that is read.
const FORMAT: i64 = 3;

/// The key of the advisory lock under which tables and logs are made: the first bytes of the crate's name.
const LOCK: i64 = 0x726f_756e_646c_6f74;

const TABLES: &str = "
CREATE TABLE {s}.roundlot_meta (key text PRIMARY KEY, value bigint NOT NULL);
CREATE TABLE {s}.roundlot_logs (
    name text PRIMARY KEY, log integer NOT NULL UNIQUE, shards integer NOT NULL, next_producer bigint NOT NULL,
    pairing bigint NOT NULL
);
CREATE TABLE {s}.roundlot_shards (
    log integer NOT NULL, shard integer NOT NULL, epoch bigint NOT NULL, cursor bigint NOT NULL, paused boolean NOT NULL,
    idle_terms bigint NOT NULL, sum bigint NOT NULL, PRIMARY KEY (log, shard)
);
CREATE TABLE {s}.roundlot_settled (
    log integer NOT NULL, shard integer NOT NULL, first bigint NOT NULL, last bigint NOT NULL, sum bigint NOT NULL,
    PRIMARY KEY (log, shard, first)
);
CREATE TABLE {s}.roundlot_intents (
    log integer NOT NULL, shard integer NOT NULL, number bigint NOT NULL, intent bytea NOT NULL, sum bigint NOT NULL,
    PRIMARY KEY (log, shard, number)
);
CREATE TABLE {s}.roundlot_outcomes (
    log integer NOT NULL, shard integer NOT NULL, producer bigint NOT NULL, first bigint NOT NULL, count bigint NOT NULL,
    ended text NOT NULL, attempts bigint NOT NULL, at bigint NOT NULL, schema bigint NOT NULL, result bytea NOT NULL,
    lengths bytea NOT NULL, sum bigint NOT NULL, PRIMARY KEY (log, shard, producer, first)
);
CREATE TABLE {s}.roundlot_charges (
    log integer NOT NULL, shard integer NOT NULL, bucket text NOT NULL, key bigint NOT NULL, grain bigint NOT NULL,
    at bigint NOT NULL, cost bigint NOT NULL, expires bigint NOT NULL, sum bigint NOT NULL,
    PRIMARY KEY (log, shard, bucket, key, grain)
);
CREATE TABLE {s}.roundlot_letters (
    log integer NOT NULL, shard integer NOT NULL, producer bigint NOT NULL, number bigint NOT NULL, op bytea NOT NULL,
    schema bigint NOT NULL, ended text NOT NULL, attempts bigint NOT NULL, error bytea NOT NULL, at bigint NOT NULL,
    sum bigint NOT NULL, to_producer bigint, to_number bigint, PRIMARY KEY (log, shard, producer, number)
);
INSERT INTO {s}.roundlot_meta VALUES ('format', 3);
";

/// The schema that has the tables, or the one in which they would be made.
const SCHEMA: &str =
    "SELECT coalesce((SELECT s.nspname::text FROM pg_class t JOIN pg_namespace s ON s.oid = t.relnamespace
    WHERE t.oid = to_regclass('roundlot_meta')), current_schema()::text), to_regclass('roundlot_meta') IS NOT NULL";

/// The pairing of a log whose frames are in the database, too.
pub(crate) const HERE: u64 = 0;

/// The place of a log in its database.
pub(crate) struct Found {
    /// The schema of the tables, quoted.
    pub(crate) schema: String,
    pub(crate) log: i32,
    /// The number of this process.
    pub(crate) producer: u64,
}

impl Ledger {
    /// Joins the ledger of a log, and makes it if the log is new. Returns it with the number of this process.
    #[cfg(any(test, feature = "durable-file"))]
    pub(super) async fn join(
        settings: &Postgres,
        name: &str,
        shards: u16,
        paired: Paired,
        frames: Arc<dyn FrameStore>,
        letters: LetterBytes,
    ) -> Result<(Self, u64), JoinError> {
        let server = session::server(settings)?;
        let mut session = session::connect(&server).await?;
        session.begin();
        let transaction = answer(session.client_mut().transaction()).await?;
        let found = enter(&transaction, name, shards, paired).await?;
        committed(transaction.commit()).await?;
        session.rest();
        let producer = found.producer;
        Ok((Self::new(Arc::new(server), session, found, shards, frames, (letters, ANSWER)), producer))
    }

    /// A ledger that has been joined by a session.
    pub(crate) fn new(
        server: Arc<Server>,
        session: Session,
        found: Found,
        shards: u16,
        frames: Arc<dyn FrameStore>,
        (letters, patience): (LetterBytes, Duration),
    ) -> Self {
        let mut lookups = Slot::default();
        lookups.put(session);
        let Found { schema, log, .. } = found;
        Self {
            server,
            schema,
            log,
            shards: (0..shards).map(|_| Mutex::new(Lead::default())).collect(),
            lookups: Mutex::new(lookups),
            letters,
            patience,
            frames,
            commits: Default::default(),
        }
    }
}

/// Enters a log into the tables, which are made if they are missing. They are locked until the transaction ends.
pub(crate) async fn enter(
    transaction: &Transaction<'_>,
    name: &str,
    shards: u16,
    paired: Paired,
) -> Result<Found, JoinError> {
    // A process that is stopped here keeps no other one from joining for longer.
    let lock = format!("SET LOCAL idle_in_transaction_session_timeout TO '10s'; SELECT pg_advisory_xact_lock({LOCK})");
    answer(transaction.batch_execute(&lock)).await?;
    let schema = tables(transaction.client()).await?;
    let sql = |text: &str| text.replace("{s}", &schema);
    let format = sql("SELECT value FROM {s}.roundlot_meta WHERE key = 'format'");
    let format = answer(transaction.query_typed(&format, &[])).await?.first().map_or(0, |row| row.get(0));
    if format != FORMAT {
        return Err(JoinError::Unsafe(format!("the ledger has format {format}, and this version reads {FORMAT}")));
    }
    let log = answer(log_of(transaction.client(), &sql, name)).await?;
    let log = match log {
        Some((_, has, _)) if has != i32::from(shards) => {
            return Err(JoinError::Shards { has: u16::try_from(has).unwrap_or(u16::MAX), wanted: shards });
        }
        Some((log, _, pairing)) if pairing == paired.pairing => log,
        Some(_) if paired.pairing == HERE => {
            return Err(LogError::Unpaired(format!("the log {name} of the database has its frames in a file")).into());
        }
        Some((.., HERE)) => {
            return Err(LogError::Unpaired(format!("the log {name} has its frames in the database")).into());
        }
        Some(_) => return Err(LogError::Unpaired(format!("the ledger named {name} is that of another log")).into()),
        None if paired.has_begun => {
            return Err(LogError::Unpaired(format!("the database has no ledger named {name}, and had one")).into());
        }
        None => answer(make(transaction.client(), &sql, name, shards, paired.pairing)).await?,
    };
    // The number of a process is new to both, whichever of them is a backup.
    let update = sql("UPDATE {s}.roundlot_logs SET next_producer = greatest(next_producer, $2) + 1 WHERE name = $1 \
        RETURNING next_producer - 1");
    let next = signed(paired.next_producer);
    let params: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] = [(&name, Type::TEXT), (&next, Type::INT8)];
    let producer = answer(transaction.query_typed(&update, &params)).await?;
    let producer = producer.first().map_or(0, |row| unsigned(row.get(0)));
    Ok(Found { schema, log, producer })
}

/// Makes the tables if there are none. Returns their schema, quoted.
async fn tables(client: &Client) -> Result<String, JoinError> {
    let rows = answer(client.query_typed(SCHEMA, &[])).await?;
    let found = rows.first().map(|row| (row.get::<_, Option<String>>(0), row.get::<_, bool>(1)));
    let Some((Some(schema), is_made)) = found else {
        return Err(JoinError::Open("the ledger: no schema of the search_path exists".to_owned()));
    };
    let schema = quoted(&schema);
    if !is_made {
        answer(client.batch_execute(&TABLES.replace("{s}", &schema))).await?;
    }
    Ok(schema)
}

/// The number, the shards and the pairing of a log.
async fn log_of(client: &Client, sql: &impl Fn(&str) -> String, name: &str) -> Result<Option<(i32, i32, u64)>, Error> {
    let sql = sql("SELECT log, shards, pairing FROM {s}.roundlot_logs WHERE name = $1");
    let rows = client.query_typed(&sql, &[(&name, Type::TEXT)]).await?;
    Ok(rows.first().map(|row| (row.get(0), row.get(1), unsigned(row.get(2)))))
}

/// Makes the rows of a log, and returns its number.
async fn make(
    client: &Client,
    sql: &impl Fn(&str) -> String,
    name: &str,
    shards: u16,
    pairing: u64,
) -> Result<i32, Error> {
    let insert =
        sql("INSERT INTO {s}.roundlot_logs SELECT $1, coalesce(max(log) + 1, 0), $2, 1, $3 FROM {s}.roundlot_logs \
        RETURNING log");
    let (count, pairing) = (i32::from(shards), signed(pairing));
    let rows =
        client.query_typed(&insert, &[(&name, Type::TEXT), (&count, Type::INT4), (&pairing, Type::INT8)]).await?;
    let log: i32 = rows.first().map_or(0, |row| row.get(0));
    for shard in 0..shards {
        let (number, sum) = (i32::from(shard), shard_sum(key(log, shard), &ShardRow::default()));
        let insert = sql("INSERT INTO {s}.roundlot_shards VALUES ($1, $2, 0, 0, false, 0, $3)");
        client.execute_typed(&insert, &[(&log, Type::INT4), (&number, Type::INT4), (&sum, Type::INT8)]).await?;
    }
    Ok(log)
}

/// The key of a shard in checksums.
pub(crate) fn key(log: i32, shard: u16) -> u32 {
    shard_key(log as u16, shard)
}
