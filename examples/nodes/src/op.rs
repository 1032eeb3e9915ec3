//! [`Op`]: an order or a price; and [`NodeSink`], the sink that writes both as rows: in transactions of the log, in a file or in
//! PostgreSQL, or to a venue.

use std::{
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use roundlot::{
    Batch, Settled, Sink, SinkError, Stages,
    durable::{Term, Transaction},
    sink::Guarantee,
    stage,
};
use rusqlite::{Connection, TransactionBehavior};
use rustix::process::{Signal, getpid, kill_process};
use serde::{Deserialize, Serialize};

/// Symbols that are traded.
pub(crate) const SYMBOLS: u32 = 24;

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Op {
    pub(crate) kind: Kind,
    pub(crate) symbol: u32,
    /// The task that sends it, if it is an order; the node whose feed it is of, if it is a price.
    pub(crate) source: u64,
    /// Rises with each op of a source.
    pub(crate) number: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    /// Is written once, in order with the others of its symbol.
    Order,
    /// Replaces an older price of the same feed and symbol that still waits.
    Price,
}

impl Kind {
    /// The name in a row.
    fn name(self) -> &'static str {
        match self {
            Self::Order => "order",
            Self::Price => "price",
        }
    }

    /// The kind of a name in a row.
    pub(crate) fn named(name: &str) -> Self {
        if name == Self::Order.name() { Self::Order } else { Self::Price }
    }
}

/// The key under which a price replaces another one. An order has none.
fn price_key(op: &Op) -> Option<(u64, u32)> {
    (op.kind == Kind::Price).then_some((op.source, op.symbol))
}

pub(crate) fn stages() -> Stages<Op> {
    Stages::new().partition_by(|op: &Op| op.symbol).conflate_by(price_key, stage::latest)
}

/// The table that the sink writes. The rows are the destination's journal.
pub(crate) const TABLE: &str = "CREATE TABLE IF NOT EXISTS arrivals \
    (arrival INTEGER PRIMARY KEY, kind TEXT, symbol INTEGER, source INTEGER, number INTEGER, shard INTEGER, epoch INTEGER)";

const INSERT: &str =
    "INSERT INTO arrivals (kind, symbol, source, number, shard, epoch) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";

/// The table of rows in PostgreSQL.
pub(crate) const POSTGRES_TABLE: &str = "CREATE TABLE arrivals \
    (arrival bigserial, kind text, symbol integer, source bigint, number bigint, shard integer, epoch bigint, \
    PRIMARY KEY (shard, arrival))";

const POSTGRES_INSERT: &str = "INSERT INTO arrivals (kind, symbol, source, number, shard, epoch) \
    SELECT kind, symbol, source, number, $5, $6 \
    FROM unnest($1::text[], $2::integer[], $3::bigint[], $4::bigint[]) WITH ORDINALITY AS r(kind, symbol, source, number, place) \
    ORDER BY place";

/// The sink of a term.
pub(crate) enum NodeSink {
    Rows(Rows),
    PostgresRows(PostgresRows),
    Venue(Venue),
}

impl Sink<Op> for NodeSink {
    async fn write(&self, batch: &mut Batch<Op>) -> Result<Settled, SinkError> {
        match self {
            Self::Rows(rows) => rows.write(batch).await,
            Self::PostgresRows(rows) => rows.write(batch).await,
            Self::Venue(venue) => venue.write(batch).await,
        }
    }

    fn guarantee(&self) -> Guarantee {
        match self {
            Self::Rows(_) | Self::PostgresRows(_) => Guarantee::Transactional,
            Self::Venue(_) => Guarantee::Unknown,
        }
    }
}

/// How long a process may take to stop. Most often it stops at once, and the time is over when it goes on.
const UNTIL_STOPPED: Duration = Duration::from_secs(1);

/// Set when the process is to stop itself in its next transaction.
pub(crate) static STOPS: AtomicBool = AtomicBool::new(false);

/// Writes rows in the transaction that settles their ops, so that each arrives once.
pub(crate) struct Rows(pub(crate) Term);

impl Rows {
    async fn write(&self, batch: &mut Batch<Op>) -> Result<Settled, SinkError> {
        let (shard, epoch) = (self.0.shard(), self.0.epoch());
        let insert = move |transaction: &mut Transaction<'_>, batch: &mut Batch<Op>| {
            let database = transaction.sqlite()?;
            database.execute(TABLE, [])?;
            let mut insert = database.prepare_cached(INSERT)?;
            for op in batch.pending() {
                insert.execute(row(op, shard, epoch))?;
            }
            stop_if_asked()?;
            Ok(batch.accept_all())
        };
        self.0.transaction(batch, insert).await
    }
}

/// Stops the process if it has been asked to do that in a transaction.
fn stop_if_asked() -> Result<(), SinkError> {
    if STOPS.swap(false, SeqCst) {
        kill_process(getpid(), Signal::STOP).map_err(SinkError::transient)?;
        // The signal may meet another thread first, and this one some time later.
        thread::sleep(UNTIL_STOPPED);
    }
    Ok(())
}

/// Writes rows in the transaction of a log in PostgreSQL that settles their ops.
pub(crate) struct PostgresRows(pub(crate) Term);

impl PostgresRows {
    async fn write(&self, batch: &mut Batch<Op>) -> Result<Settled, SinkError> {
        let (shard, epoch) = (i32::from(self.0.shard()), self.0.epoch() as i64);
        let insert = async |transaction: &mut tokio_postgres::Transaction<'_>, batch: &mut Batch<Op>| {
            let kinds: Vec<&str> = batch.pending().map(|op| op.kind.name()).collect();
            let symbols: Vec<i32> = batch.pending().map(|op| op.symbol as i32).collect();
            let (sources, numbers): (Vec<i64>, Vec<i64>) =
                batch.pending().map(|op| (op.source as i64, op.number as i64)).unzip();
            transaction.execute(POSTGRES_INSERT, &[&kinds, &symbols, &sources, &numbers, &shard, &epoch]).await?;
            stop_if_asked()?;
            Ok(batch.accept_all())
        };
        self.0.postgres(batch, insert).await
    }
}

type Values = (&'static str, u32, i64, i64, u16, i64);

fn row(op: &Op, shard: u16, epoch: u64) -> Values {
    (op.kind.name(), op.symbol, op.source as i64, op.number as i64, shard, epoch as i64)
}

/// Sends ops to a venue that knows neither ids nor terms, and can't be asked. It takes what comes, in the order in which it comes.
pub(crate) struct Venue {
    pub(crate) term: Term,
    pub(crate) database: Arc<Mutex<Connection>>,
}

/// How long a call is on its way to a venue: longer than another node needs to take over.
const ON_ITS_WAY: Duration = Duration::from_millis(20);

impl Venue {
    pub(crate) fn open(path: &Path) -> rusqlite::Result<Connection> {
        let database = Connection::open(path)?;
        // Several nodes write, and a killed process loses nothing that the kernel has.
        database.busy_timeout(Duration::from_secs(5))?;
        database.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF")?;
        database.execute(TABLE, [])?;
        Ok(database)
    }

    async fn write(&self, batch: &mut Batch<Op>) -> Result<Settled, SinkError> {
        let (shard, epoch) = (self.term.shard(), self.term.epoch());
        let rows: Vec<Values> = batch.pending().map(|op| row(op, shard, epoch)).collect();
        tokio::time::sleep(ON_ITS_WAY).await;
        let database = Arc::clone(&self.database);
        let insert = move || {
            let mut database = database.lock().unwrap_or_else(PoisonError::into_inner);
            let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for row in rows {
                transaction.prepare_cached(INSERT)?.execute(row)?;
            }
            transaction.commit()
        };
        match tokio::task::spawn_blocking(insert).await {
            Ok(Ok(())) => Ok(batch.accept_all()),
            Ok(Err(error)) => Err(SinkError::ambiguous(error)),
            Err(error) => Err(SinkError::ambiguous(error)),
        }
    }
}
