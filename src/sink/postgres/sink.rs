//! [`PostgresSink`]: writes each batch on a connection of its own, in one transaction, and settles its ops. A batch
//! that is dropped midway is in doubt, and its connection is not reused.

use std::fmt;

use super::{
    OpenError, Postgres,
    classify::{is_worth_keeping, settle},
    open,
    pool::Pool,
    watch::goes_otherwise,
    writer,
};
use crate::{
    rules::batch::{Batch, Settled},
    sink::{Sink, SinkError, table::Table},
};

/// A [`Sink`] that writes each batch to a PostgreSQL table, in one transaction.
///
/// * Rows land in the order of the batch; under [`Conflict::Update`](crate::sink::table::Conflict::Update) in that of
///   the key, of which the last one counts. Every value is bound, every name quoted.
/// * A row that breaks a rule of the table is refused alone, with the server's error as the cause; the rest of its
///   batch lands. The row is found by writing ever smaller parts of the batch, still in one transaction.
/// * A small batch goes as one array per column. From [`copy_from`](Postgres::copy_from) rows on it goes by binary
///   `COPY`. Under a conflict rule, from [`stage_from`](Postgres::stage_from) rows on, it goes by `COPY` into a
///   temporary table, and on from there by a statement.
/// * A table with rules (`CREATE RULE`) on INSERT gets one statement per row, since a rule acts once per statement. A
///   rule that counts rows, or checks whether a row exists, then treats each row as if it came alone. A row that a rule
///   or a trigger skips or moves elsewhere counts as accepted.
/// * If COPY would write something else than an INSERT, batches of any size go by INSERT: with policies, foreign
///   tables, or domain columns that the mapping leaves out. The sink checks that when it is opened. After rules and
///   policies that come later, all rows go by INSERT; a column of another type refuses the batch.
/// * A connection is opened when a batch is to be written and none is idle, and is replaced when it broke. Each write
///   uses its own: [`max_in_flight`](crate::Limits::max_in_flight) and [`partition_by`](crate::Stages::partition_by)
///   decide how many there are.
///
/// # What values become
///
/// | column of | in a table that is created | what else it may be, as long as each value fits |
/// |---|---|---|
/// | integers | `bigint` | `integer`, `smallint`, `numeric` |
/// | floats | `double precision`, NaN and infinities included | |
/// | flags | `boolean` | |
/// | text, without NUL characters | `text` | `varchar`, `char`, `citext`, an enum; `uuid` for UUIDs in canonical form |
/// | bytes | `bytea` | `uuid` for 16 bytes |
/// | decimals | `numeric`, with every digit and its zeros | `numeric` with fewer digits |
/// | timestamps | `timestamptz`, rounded down to microseconds | `timestamp`, which is then UTC |
/// | JSON | `jsonb` | `json`, `text`, `varchar` |
///
/// A domain is treated as its base type. A value that does not fit, such as a price with three decimals in a column of
/// two, is refused and never rounded. Only timestamps are rounded, always down, to the microsecond or to what the
/// column keeps. `jsonb` keeps what a document means and not how it is spelled. Text is never cut, not even blanks at
/// its end, though `char` compares texts without them. The canonical form of a UUID is
/// `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`, with digits in either case. A column of any other type, such as `real`,
/// `date` or an array, is an error at the opening, which lists the types it may have.
///
/// # What errors mean
///
/// The [kind](crate::ErrorKind) of the error tells whether it concerns the destination, the batch, a row or another
/// session. After an outage the whole batcher pauses, and no attempt of an op is counted.
///
/// | cause | SQLSTATE | kind | what is in the table, and what follows |
/// |---|---|---|---|
/// | connection refused, reset or closed, no answer, no such host | none, `08` | outage | nothing of the batch |
/// | a pooler without its server, in its own words | `08P01` and the end of the connection | outage | nothing of the batch |
/// | the server starts, stops or has crashed, the session was ended by an administrator or for being idle | `57P01` to `57P03`, `57P05` | outage | nothing of the batch |
/// | too many connections, the database accepts no connections | `53300`, `55000` at the login | outage | nothing of the batch |
/// | the disk is full, other resources are short, the system under the server fails | `53100`, `53000`, `58` | outage | nothing of the batch |
/// | the server only reads, as after a failover; a conflict with recovery | `25006`, `40001` and the end of the connection | outage | nothing of the batch; the connection is replaced |
/// | anything else that ends the connection before the COMMIT | any, with FATAL or PANIC | outage | nothing of the batch |
/// | the connection was lost during the COMMIT | any, with the end of the connection | ambiguous, and an outage for all others | all of the batch or nothing |
/// | the server does not know whether it committed | `40003` | ambiguous | all of the batch or nothing |
/// | no memory, or no room for more locks | `53200` | too large; an outage if it is one row | nothing of the batch; halves are tried |
/// | a limit on temporary files | `53400` | too large | nothing of the batch; halves are tried |
/// | more than 4 GiB in one batch; more than 16 MiB of rows where only a temporary table would do and there is none, for want of the right or behind a pooler | none | too large | nothing of the batch; halves are tried |
/// | a deadlock, a serialization failure, a lock that is held | `40`, `55P03`, `55006` | transient | nothing of the batch |
/// | beyond `statement_timeout` or `transaction_timeout` | `57014`, `25P04` | too large; transient if it is one row | nothing of the batch; halves are tried |
/// | canceled by a user | `57014` | transient | nothing of the batch |
/// | the transaction was ended from outside, the snapshot is too old | `25P02`, `25P03`, `72` | transient | nothing of the batch; the connection is replaced |
/// | prepared statements are gone or belong to another client: the session was reset from outside | `26000`, `34000`, `42P05` | transient | nothing of the batch; the connection is replaced |
/// | a row breaks a constraint, its value does not suit the column, a policy or a trigger objects, or anything unknown | `21`, `22`, `23`, `44`, `54`, `42501` by a policy, others | refused | the other rows; the row is a dead letter |
/// | no permission, no such table or column, no unique constraint, the columns have changed | `42`, `3F`, `0A`, `22P03`, `22P04`, `08P01` in a connection that goes on | refused, "final" | nothing of the batch; all of it are dead letters |
/// | wrong credentials, no such database, it was dropped, an untrusted certificate, no TLS where it was asked for | `28`, `3D`, `57P04`, none | refused, "final" | nothing of the batch; all of it are dead letters |
/// | the database is damaged | `XX001`, `XX002` | refused, "final" | nothing of the batch; all of it are dead letters |
///
/// A batch that is too large is halved by the batcher, down to one row, without counting an attempt of any op. A single
/// row that is out of time may have waited for a lock, so it is retried as [`Retry`](crate::Retry) says. If
/// `lc_messages` is not English, a cancel by a user halves the batch, too.
///
/// With [`Table::once_by`] or [`Conflict::Ignore`](crate::sink::table::Conflict::Ignore) a repeated write is harmless.
/// The batcher can then be [`idempotent`](crate::Batcher::idempotent), and nothing ends in doubt.
///
/// If a network drops everything in silence, a write waits for as long as the system does: set a
/// [`write_timeout`](crate::Limits::write_timeout).
///
/// # Poolers
///
/// A pooler may hand on sessions or transactions. In a session without a server process to itself nothing outlives a
/// transaction. Statements have no names, each batch goes as arrays, and there is neither `COPY` nor a temporary table.
/// The sink detects that at the login.
///
/// * A pooler that hands on single statements is refused by [`open`](Postgres::open).
/// * Many poolers accept no `options`; a `search_path` that is dropped on the way is an error of `open`. Set it for the
///   role: `ALTER ROLE .. SET search_path = ..`.
/// * The names of tables are looked up once, with the search path that the role has, whatever other clients have set.
/// * A write that is given up is not cancelled at the server: the pooler ends its session. What was not committed does
///   not land, but may wait for its lock to the end.
/// * pgbouncer itself waits for a server that is away, for two minutes unless its `query_wait_timeout` is set. A
///   `write_timeout` that is shorter leaves batches in doubt that have not landed.
///
/// # Cancel safety
///
/// Dropping the future of [`write`](Sink::write) leaves the batch in doubt, though it has landed only if its COMMIT was
/// under way. The connection is discarded, and the server is told to cancel its work; then its slot is released. The
/// next write is not affected otherwise. Dropping the future of [`close`](Sink::close) lets the connections close in
/// the background.
///
/// # Dropping it
///
/// Ends the connections without waiting; [`close`](Sink::close) waits.
///
/// # Panics
///
/// A panic in a column's closure refuses the op that it was called with; all other ops of the batch are written.
///
/// # Examples
///
/// ```no_run
/// use roundlot::{Batcher, Limits, Stages};
/// use roundlot::sink::{postgres::PostgresSink, table::Table};
///
/// struct Fill { id: String, account: u32, time_ns: i64 }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let fills = Table::<Fill>::new("fills")
///     .text("id", |fill| &fill.id)
///     .integer("account", |fill| i64::from(fill.account))
///     .timestamp("time", |fill| fill.time_ns)
///     .once_by("id")
///     .create_if_missing();
/// let sink = PostgresSink::open("postgres://bob@db.example/trades?sslmode=verify-full", fills).await?;
/// let (desk, worker) = Batcher::new(sink)
///     .stages(Stages::new().partition_by(|fill: &Fill| fill.account % 4))
///     .limits(Limits::new(1000).max_in_flight(4))
///     .idempotent()
///     .spawn();
/// # drop((desk, worker));
/// # Ok(())
/// # }
/// ```
pub struct PostgresSink<T> {
    table: Table<T>,
    pool: Pool,
}

impl<T> PostgresSink<T> {
    /// Connects to the database of this URL with the default settings of [`Postgres`].
    ///
    /// # Cancel safety
    ///
    /// As [`Postgres::open`].
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub async fn open(url: impl AsRef<str>, table: Table<T>) -> Result<Self, OpenError> {
        Self::open_with(Postgres::url(url), table).await
    }

    pub(super) async fn open_with(settings: Postgres, table: Table<T>) -> Result<Self, OpenError> {
        let pool = open::open(&settings, &table).await?;
        Ok(Self { table, pool })
    }
}

impl<T: Send + 'static> PostgresSink<T> {
    /// Writes the batch. `None`: nothing of it has landed, and all pending ops are to be written again, by INSERT as
    /// all rows of this table from now on.
    async fn write_once(&self, batch: &mut Batch<T>) -> Result<Option<Settled>, SinkError> {
        let mut connection = self.pool.take().await?;
        let plan = &self.pool.plan;
        for (i, error) in connection.rows.fill(&self.table, &plan.fields, batch)? {
            batch.refuse(i, error);
        }
        if connection.rows.len() == 0 {
            return batch.settled().map(Some);
        }
        if connection.is_too_large(plan) {
            let why = match plan.bulk {
                Some(_) => "the values of the batch exceed 16 MiB, and behind a pooler there is no COPY",
                None => "the values of the batch exceed 16 MiB, and there is no COPY without temporary tables",
            };
            return Err(SinkError::too_large(why));
        }
        connection.session.begin();
        let written = writer::write(&mut connection, plan).await;
        match written {
            Ok(failed) => {
                connection.session.rest();
                for (row, error) in failed {
                    batch.refuse(connection.rows.op(row), error);
                }
                Ok(Some(batch.accept_all()))
            }
            Err(classified) => {
                let goes_on = is_worth_keeping(&classified) && connection.rolled_back().await;
                match goes_on {
                    true => connection.session.rest(),
                    false => connection.session.fail(),
                }
                if goes_otherwise(&classified) {
                    return Ok(None);
                }
                Err(settle(classified, connection.rows.len(), goes_on))
            }
        }
    }
}

impl<T: Send + 'static> Sink<T> for PostgresSink<T> {
    async fn write(&self, batch: &mut Batch<T>) -> Result<Settled, SinkError> {
        loop {
            // Twice at most: COPY is not used again.
            if let Some(settled) = self.write_once(batch).await? {
                return Ok(settled);
            }
        }
    }

    async fn close(&self) -> Result<(), SinkError> {
        self.pool.close().await;
        Ok(())
    }
}

impl<T> fmt::Debug for PostgresSink<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresSink").field("table", &self.table).finish_non_exhaustive()
    }
}

impl Postgres {
    /// Connects, creates the table if that was asked for, and checks that it takes what the mapping has.
    ///
    /// Must be called on a Tokio runtime, on which the tasks of the connections run then.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection, and tells the server to stop what it does for it; a table that was
    /// created by then stays.
    ///
    /// # Errors
    ///
    /// See [`OpenError`]. A server that cannot be reached is an error here; once the sink is open, it is an outage.
    pub async fn open<T>(self, table: Table<T>) -> Result<PostgresSink<T>, OpenError> {
        PostgresSink::open_with(self, table).await
    }
}
