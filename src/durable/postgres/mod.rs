//! [`PostgreSql`]: the engine that keeps logs in a PostgreSQL database (feature `durable-postgres`). A ledger settles a log, as it does
//! for a file; the frames are in tables beside it.
//!
//! | file | holds |
//! |---|---|
//! | `log` | a log, as ingress and leaders see it |
//! | `schema` | the tables of frames, processes and leases, and how a process joins |
//! | `tables` | statements and checksums; sessions for single statements |
//! | `append` | the transaction that puts frames at the end of shards |
//! | `appender` | the task that runs it |
//! | `frames` | what reads and compacts frames |
//! | `removal` | the task that removes frames |
//! | `ids` | ids that are forgotten |
//! | `heartbeat` | the task that renews and reads all that |
//!
//! A process has five sessions besides one per shard that it leads. Three kinds of locks keep processes apart, and no transaction that
//! holds a tail waits for a fence:
//!
//! * **The tail of a shard** (`roundlot_tails`): its next position. Appends hold it for one commit, so that positions become visible
//!   in order. It is not the fence: a sink whose transaction takes long keeps no op from being accepted.
//! * **The fence of a shard** (`roundlot_shards`): its epoch and pause. Terms, records and the transactions of sinks hold it.
//! * **The row of a process** (`roundlot_members`): appends hold it, so that one that is removed stores nothing any more.

mod append;
mod appender;
pub(super) mod frames;
mod heartbeat;
pub(super) mod ids;
mod log;
mod removal;
pub(super) mod schema;
pub(super) mod tables;

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;

use super::{
    engine::{Engine, Open, Opened},
    error::JoinError,
    members::{DEFAULT_LEASE, check_lease},
};
use crate::sink::postgres::Postgres;
use log::{PostgresLog, Settings};

/// Bytes of a log at which no more ops are accepted, by default: 4 GiB.
const MAX_BYTES: u64 = 4 << 30;

/// The least cap, in bytes: some frames of the largest size for each of a few processes.
const MIN_BYTES: u64 = 16 << 20;

/// The part of the cap that dead letters may take: one of so many.
const LETTERS: u64 = 16;

/// The part of the cap that is kept free of ops: one of so many.
const RESERVE: u64 = 8;

/// A log in a PostgreSQL database, for one process or for several on several machines.
///
/// One database holds everything: the ops that wait, which process leads a shard, the fence that keeps older leaders out, settlements,
/// outcomes and dead letters. A sink that writes into the same database is exactly-once, by [`Term::postgres`](super::Term::postgres)
/// or as a [`LedgerTable`](crate::sink::postgres::LedgerTable). An op is accepted when the server has synced it. While the server is
/// away nothing is accepted or sent, and leaders stay leaders.
///
/// The tables `roundlot_..` are made in the schema that the URL's `search_path` names first; logs of several names share them.
/// [`join`](super::Durable::join) refuses a server with `fsync = off`, a pooler that shares sessions, tables of another format, and
/// another number of shards. It sets `synchronous_commit` to `on` in its sessions if it is off. Whether a server that takes over for
/// a failed one has all that was confirmed is up to its replication, which must be synchronous for that.
///
/// # Leases
///
/// Each shard is led by one process, which has its *lease*. Each process shows four times per lease that it is alive. The lease of one
/// that has shown nothing for as long as it lasts, as far as another process has been able to observe, goes to that. A process that was
/// only stopped finds its records refused when it wakes: the fence decides, and not the lease. Through a sink without a transaction it
/// finishes at most the one call per shard that it was in. One that is stopped inside a transaction keeps its shard until the server ends
/// that: after a lease, and at least a second, to which [`transaction_timeout`](super::Durable::transaction_timeout) is added if it is a
/// sink's.
///
/// A process that is stopped for an hour while another one runs is removed, and has to join again: from then on it is certain which of
/// its ops were accepted.
///
/// # Examples
///
/// ```no_run
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use roundlot::{durable::{Durable, PostgreSql}, sink::{postgres::LedgerTable, table::Table}};
///
/// let table = Table::<i64>::new("amounts").integer("amount", |amount| *amount).create_if_missing();
/// let table = LedgerTable::new(table)?;
/// let log = PostgreSql::at("postgres://bob@db.example/books?sslmode=verify-full");
/// // The same on each node.
/// let amounts = Durable::new("amounts", log).sink(move |term| table.sink(term)).join().await?;
/// amounts.handle().submit(7).await?.await?; // the row is in the table, once, whichever node leads
/// amounts.leave().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "a database does nothing until a durable batcher joins it"]
pub struct PostgreSql {
    server: Postgres,
    lease: Duration,
    max_bytes: u64,
}

impl PostgreSql {
    /// The database of this URL, which is read as [`Postgres::url`] does.
    pub fn at(url: impl AsRef<str>) -> Self {
        Self::with(Postgres::url(url))
    }

    /// The same with the server of these settings. Only the address counts.
    pub fn with(server: Postgres) -> Self {
        Self { server, lease: DEFAULT_LEASE, max_bytes: MAX_BYTES }
    }

    /// How long the silence of a process must have been observed before others lead its shards: 3 s by default, from 200 ms to one
    /// minute. A process with a longer lease than the one that observes it is judged by its own. A takeover takes at most one and a half
    /// times as long if the server answers at once.
    pub fn lease(self, lease: Duration) -> Self {
        Self { lease, ..self }
    }

    /// The cap of the ops that wait, in bytes over all logs of the schema: 4 GiB by default and 16 MiB at least. The last eighth is
    /// kept free. Dead letters take a sixteenth at most besides: then a shard holds that has another one, until some are discarded.
    pub fn max_bytes(self, max_bytes: u64) -> Self {
        Self { max_bytes, ..self }
    }
}

impl Open for PostgreSql {
    fn open(self, name: String, shards: u16) -> BoxFuture<'static, Result<Opened, JoinError>> {
        Box::pin(async move {
            let Self { server, lease, max_bytes } = self;
            check_lease(lease)?;
            let max_bytes = max_bytes.max(MIN_BYTES);
            let room = max_bytes - max_bytes / RESERVE;
            let settings = Settings { server, lease, room, letter_room: max_bytes / LETTERS };
            let log = PostgresLog::join(&settings, &name, shards).await?;
            Ok(Opened::new(Arc::new(log)))
        })
    }
}

impl Engine for PostgreSql {}
