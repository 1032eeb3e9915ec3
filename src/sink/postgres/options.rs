//! [`Postgres`]: the settings of a PostgreSQL sink, each with a default. [`Postgres::open`] checks the table.

use std::fmt;

use super::{
    address::{self, Address},
    pool::Server,
    tls,
};

/// The settings of a [`PostgresSink`](super::PostgresSink), each with a default that suits most programs.
///
/// # Examples
///
/// ```no_run
/// use roundlot::sink::{postgres::Postgres, table::Table};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let ticks = Table::<i64>::new("ticks").integer("price", |price| *price).create_if_missing();
/// let sink = Postgres::url("postgres://bob@db.example/trades?sslmode=verify-full&options=-cstatement_timeout%3D5s")
///     .max_connections(4)
///     .open(ticks)
///     .await?;
/// # drop(sink);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "settings do nothing until `open`"]
pub struct Postgres {
    pub(super) address: Result<Address, String>,
    pub(super) max_connections: usize,
    pub(super) copy_from: usize,
    pub(super) stage_from: usize,
}

/// Default number of connections. More writes at once are rare, and servers often allow 100 connections in all.
const MAX_CONNECTIONS: usize = 16;

/// Default number of rows from which COPY is used. For rows of six columns, arrays cost 0.9 of COPY's CPU time (both
/// sides) in batches of 100 to 2,000 rows. They cost 1.2 of it from 3,000 on and 1.4 from 10,000 on, and save a round
/// trip.
const COPY_FROM: usize = 2500;

/// Default number of rows from which a batch under a rule is kept out of the server's memory. COPY and a second
/// statement save no time. They took 1.0-1.5 times as long as arrays up to 1,000 rows, and 1.0-1.1 times from 5,000 to
/// 50,000.
const STAGE_FROM: usize = 10_000;

impl Postgres {
    /// Settings for the server and database of this URL: `postgres://user:password@host:port/database?options`.
    ///
    /// The URL is read as libpq reads it, or refused. An option that is not honoured is an error, above all one that
    /// asks for more security than there is.
    ///
    /// * Missing parts come from the variables that every PostgreSQL client reads: `PGHOST`, `PGHOSTADDR`, `PGPORT`,
    ///   `PGDATABASE`, `PGUSER`, `PGPASSWORD`, `PGSSLMODE`, `PGSSLROOTCERT`, `PGAPPNAME`, `PGOPTIONS`,
    ///   `PGCONNECT_TIMEOUT`, `PGTARGETSESSIONATTRS`, `PGCHANNELBINDING`, `PGLOADBALANCEHOSTS`. No file is read: there
    ///   is no `.pgpass`, no service file and no client certificate.
    /// * In user names, passwords and database names, characters other than letters and digits must be percent-encoded,
    ///   such as `%40` for `@`, `%2F` for `/` and `%3F` for `?`.
    /// * `sslmode` is `disable`, `allow` or `prefer` (the default: encrypted if the server can), `require` (encrypted),
    ///   `verify-ca` or `verify-full`. With an `sslrootcert`, `require` verifies like `verify-ca`. `sslrootcert` is a
    ///   PEM file of trusted certificates; without it, the system's are trusted. With `sslrootcert=system` the mode is
    ///   `verify-full`.
    /// * Further options: `host`, `hostaddr`, `port`, `user`, `password`, `dbname`, `application_name`,
    ///   `fallback_application_name`, `target_session_attrs` (`any`, `read-write`, `read-only`), `channel_binding`,
    ///   `load_balance_hosts`, `keepalives` with its `_idle`, `_interval` and `_count`, `tcp_user_timeout`.
    /// * `options=-csearch_path%3Dtrading` sets where a table without a [`schema`](crate::sink::table::Table::schema)
    ///   is looked for. `options=-cstatement_timeout%3D5s` sets how long a statement may take. `connect_timeout` is in
    ///   seconds, 10 by default, and 0 is no limit.
    ///
    /// A URL that cannot be read is an error of [`open`](Self::open). No error and no log contains user, password or
    /// database.
    pub fn url(url: impl AsRef<str>) -> Self {
        Self::of(address::read(url.as_ref(), |name| std::env::var(name).ok()))
    }

    pub(super) fn of(address: Result<Address, String>) -> Self {
        Self { address, max_connections: MAX_CONNECTIONS, copy_from: COPY_FROM, stage_from: STAGE_FROM }
    }

    /// Settings for the server and database that the `PG*` variables name, as [`url`](Self::url) lists them.
    pub fn env() -> Self {
        Self::url("postgres://")
    }

    /// Sets the maximum number of connections; 16 by default. One is opened when a batch is to be written and none is
    /// idle, so their number grows up to the batcher's [`max_in_flight`](crate::Limits::max_in_flight). A write beyond
    /// this number waits.
    ///
    /// # Panics
    ///
    /// If the number is zero.
    pub fn max_connections(mut self, connections: usize) -> Self {
        assert!(connections > 0, "a sink without connections would write nothing");
        self.max_connections = connections;
        self
    }

    /// Sets the number of rows from which a batch without a conflict rule goes by `COPY`; 2,500 by default. Smaller
    /// ones go as one array per column, which is faster up to there and saves a round trip. The size never decides
    /// where rows land: a table that COPY would write differently from an INSERT gets no COPY (see
    /// [`PostgresSink`](super::PostgresSink)).
    pub fn copy_from(mut self, rows: usize) -> Self {
        self.copy_from = rows;
        self
    }

    /// Sets the number of rows from which a batch goes by `COPY` into a temporary table and on from there; 10,000 by
    /// default. This is for tables with a conflict rule, or that take no COPY. It is no faster than arrays, but the
    /// server need not hold the batch in memory.
    pub fn stage_from(mut self, rows: usize) -> Self {
        self.stage_from = rows;
        self
    }
}

impl Postgres {
    /// The server, or why the address can't be used.
    pub(crate) fn server(&self) -> Result<Server, String> {
        let address = self.address.clone()?;
        let tls = tls::connector(address.proof, &address.roots)?;
        Ok(Server { config: address.config, tls })
    }
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres")
            .field("max_connections", &self.max_connections)
            .field("copy_from", &self.copy_from)
            .field("stage_from", &self.stage_from)
            .finish_non_exhaustive()
    }
}
