//! The row `postgres`: rows into PostgreSQL by the sink, in batches of three sizes, two writes at once.
//!
//! The peers write the same rows into the same table: psql by `\copy`, sqlx by arrays, and sqlx by a statement per row. Nodes write them,
//! too, through a log in the same database.

use std::{path::Path, process::Command, sync::Arc, time::Duration};

use futures::future::try_join_all;
use roundlot::{
    Batcher, Limits, Stages,
    durable::{Durable, Joined, PostgreSql},
    sink::postgres::{LedgerTable, PostgresSink},
};
use rust_decimal::Decimal;
use sqlx_core::{connection::Connection as _, query::query};
use sqlx_postgres::PgConnection;
use tempfile::TempDir;
use time::OffsetDateTime;
use tokio::task::JoinSet;

use super::Row;
use crate::{
    Error,
    bench::Bench,
    clock::{Span, Stopwatch},
    load::join,
    measure::{Variant, measure_each, named},
    report::Report,
    server::{Server, find, said},
    trade::{self, Trade},
};

pub(super) const ROW: Row = Row { name: "postgres", about: "rows into PostgreSQL, in batches of three sizes", run };

/// The number of concurrent writes, for the sink and for sqlx.
const CONNECTIONS: usize = 2;

/// The number of rows of a run by psql: many, since psql's start and login are measured, too.
const COPIED: u64 = 300_000;

/// The name of the file that psql reads.
const TEXT: &str = "trades.txt";

/// The nodes that share a log, in one process, and the shards of it.
const NODES: usize = 3;
const SHARDS: u16 = 6;

/// The number of rows of a run through a log.
const LOGGED: u64 = 100_000;

/// Ops of one call of a node.
const CALL: usize = 1000;

const THROUGH_LOG: &str = "roundlot, three nodes, a log";
const COPY: &str = "psql \\copy";
const ROW_BY_ROW: &str = "sqlx, row by row";
/// The number of rows of a run row by row, which is some hundred times slower than batches.
const SINGLE: u64 = 500;

/// A size of batches, with the names of its variants and its figure.
struct Size {
    /// The number of rows in a batch.
    batch: usize,
    /// The number of rows in a run, which takes 0.1 to 0.5 s.
    rows: u64,
    ours: &'static str,
    sqlx: &'static str,
    figure: &'static str,
}

const SIZES: [Size; 3] = [
    Size {
        batch: 100,
        rows: 40_000,
        ours: "roundlot, batches of 100",
        sqlx: "sqlx UNNEST, batches of 100",
        figure: "postgres_100_vs_copy",
    },
    Size {
        batch: 1000,
        rows: 100_000,
        ours: "roundlot, batches of 1,000",
        sqlx: "sqlx UNNEST, batches of 1,000",
        figure: "postgres_1000_vs_copy",
    },
    Size {
        batch: 10_000,
        rows: 300_000,
        ours: "roundlot, batches of 10,000",
        sqlx: "sqlx UNNEST, batches of 10,000",
        figure: "postgres_10000_vs_copy",
    },
];

const INSERT: &str = "INSERT INTO trades VALUES ($1, $2, $3, $4, $5, $6)";
const UNNEST: &str = "INSERT INTO trades SELECT * FROM \
    UNNEST($1::bigint[], $2::timestamptz[], $3::text[], $4::numeric[], $5::numeric[], $6::boolean[])";

fn run(bench: &Bench) -> Result<Report, Error> {
    let (Some(server), Some(psql)) = (Server::start()?, find("psql")) else {
        return Ok(Report::default().note("Skipped: PostgreSQL is not installed, or psql is not."));
    };
    let folder = TempDir::new_in(&bench.folder)?;
    let place = Place::new(bench, &server, &psql, folder.path())?;
    let mut variants = vec![Variant::timed(COPY, |rows| place.measured(rows, || place.by_psql()))];
    let mut sizes = vec![COPIED];
    for Size { batch, rows, ours, sqlx, .. } in SIZES {
        let place = &place;
        variants
            .push(Variant::timed(ours, move |rows| place.measured(rows, || place.on_runtime(rows, |a| a.ours(batch)))));
        variants
            .push(Variant::timed(sqlx, move |rows| place.measured(rows, || place.on_runtime(rows, |a| a.sqlx(batch)))));
        sizes.extend([rows; 2]);
    }
    variants
        .push(Variant::timed(THROUGH_LOG, |rows| place.measured(rows, || place.on_runtime(rows, Work::through_log))));
    sizes.push(LOGGED);
    variants.push(Variant::timed(ROW_BY_ROW, |rows| place.measured(rows, || place.on_runtime(rows, |a| a.sqlx(1)))));
    sizes.push(SINGLE);
    let sizes: Vec<u64> = sizes.into_iter().map(|rows| bench.sized(rows).max(10)).collect();
    let results = measure_each(bench, variants, &sizes);
    let copy = named(&results, COPY);
    let against = |name: &str| named(&results, name).speed_against(named(&results, ROW_BY_ROW));
    let report = Report::of(&results)
        .note(format!("The server is {}, with its defaults but for autovacuum, which is off.", place.version))
        .note("A table of six typed columns with a primary key, emptied before each run. Each batch is a transaction.")
        .note("Two writes at once, of two partitions; sqlx on two connections as well. \\copy is one transaction.")
        .note("CPU time is that of this process and of psql; the server's is in nobody's.")
        .note(format!(
            "The batches are {} times as fast as row by row.",
            SIZES.map(|size| format!("{:.0}", against(size.ours))).join(", ")
        ));
    let report = SIZES
        .iter()
        .fold(report, |report, size| report.figure(size.figure, named(&results, size.ours).speed_against(copy)));
    Ok(report.figure("nodes_postgres_vs_copy", named(&results, THROUGH_LOG).speed_against(copy)))
}

/// The server and the rows. Each run begins with an empty table.
struct Place<'a> {
    bench: &'a Bench,
    url: String,
    version: String,
    psql: &'a Path,
    folder: &'a Path,
    /// The rows of the largest run; smaller runs use the first of them.
    trades: Vec<Trade>,
}

impl<'a> Place<'a> {
    fn new(bench: &'a Bench, server: &Server, psql: &'a Path, folder: &'a Path) -> Result<Self, Error> {
        let most = SIZES.iter().map(|size| size.rows).max().unwrap_or(COPIED).max(COPIED);
        let trades = (0..bench.sized(most).max(10)).map(Trade::numbered).collect();
        let mut place = Self { bench, url: server.url().into(), version: String::new(), psql, folder, trades };
        place.version = place.say("SHOW server_version")?;
        // The sink creates the table, and the server writes the file for psql.
        place.on_runtime(bench.sized(COPIED).max(10), |work| work.ours(1000))?;
        place.say(&format!("\\copy trades TO '{TEXT}'"))?;
        Ok(place)
    }

    /// Runs a command of SQL or of psql itself, and returns what psql prints.
    fn say(&self, command: &str) -> Result<String, Error> {
        let arguments = ["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", command];
        let output = Command::new(self.psql).arg(&self.url).args(arguments).current_dir(self.folder).output()?;
        Ok(said(output)?.trim().into())
    }

    /// Runs `write` on the empty table and checks that it has all rows afterwards.
    fn measured(&self, rows: u64, write: impl FnOnce() -> Result<Span, Error>) -> (u64, Span) {
        let run = || {
            self.say("TRUNCATE trades")?;
            let span = write()?;
            let sums = "SELECT count(*), sum(id), sum(price), sum(is_buy::int), max(time_ns) > now() FROM trades";
            Ok::<_, Error>((span, self.say(sums)?))
        };
        let (span, found) = run().unwrap_or_else(|error| panic!("the row postgres failed: {error}"));
        let trades = &self.trades[..rows as usize];
        let price: Decimal = trades.iter().map(|trade| trade.price).sum();
        let (ids, buys) =
            (trades.iter().map(|trade| trade.id).sum::<i64>(), trades.iter().filter(|t| t.is_buy).count());
        assert_eq!(found, format!("{rows}|{ids}|{price}|{buys}|f"), "what is in the table");
        (rows, span)
    }

    fn by_psql(&self) -> Result<Span, Error> {
        let watch = Stopwatch::start();
        self.say(&format!("\\copy trades FROM '{TEXT}'"))?;
        Ok(watch.stop())
    }

    /// Runs a way of writing as a task of the bench's runtime.
    fn on_runtime<F>(&self, rows: u64, way: impl FnOnce(Work) -> F) -> Result<Span, Error>
    where
        F: Future<Output = Result<Span, Error>> + Send + 'static,
    {
        let work = Work { url: self.url.clone(), trades: self.trades[..rows as usize].into() };
        self.bench.runtime.block_on(self.bench.runtime.spawn(way(work)))?
    }
}

/// The input of a way of writing: the server and the rows of the run.
struct Work {
    url: String,
    trades: Arc<[Trade]>,
}

impl Work {
    /// Writes through roundlot, measured from the first send to the end of the shutdown.
    ///
    /// The sink opens its second connection on first use, so that is measured, too.
    async fn ours(self, batch: usize) -> Result<Span, Error> {
        let sink = PostgresSink::open(&self.url, trade::mapping()).await?;
        // The linger fills the first batches. All later batches fill while two are written.
        let limits = Limits::new(batch).linger(Duration::from_millis(50)).max_in_flight(CONNECTIONS);
        let stages = Stages::new().partition_by(move |trade: &Trade| trade.id as usize / batch % CONNECTIONS);
        let (desk, worker) = Batcher::new(sink).stages(stages).limits(limits).spawn();
        let watch = Stopwatch::start();
        for trade in &*self.trades {
            desk.send(*trade).await?;
        }
        let summary = worker.shutdown().await?;
        let span = watch.stop();
        summary.close_error.map_or(Ok(span), |error| Err(error.chain().into()))
    }

    /// Writes through a log that three nodes share, which is in the same database: measured from the first op until all are settled.
    async fn through_log(self) -> Result<Span, Error> {
        let table = LedgerTable::new(trade::mapping())?;
        let join = || {
            let table = table.clone();
            Durable::new("trades", PostgreSql::at(&self.url))
                .codec(trade::Bytes)
                .stages(|| Stages::new().partition_by(|trade: &Trade| trade.id as u64 / CALL as u64))
                .shards(SHARDS, |chunk: &u64| chunk.to_le_bytes())
                .limits(Limits::new(CALL).max_pending(100_000))
                .sink(move |term| table.sink(term))
                .join()
        };
        let mut nodes: Vec<Joined<Trade>> = Vec::new();
        for _ in 0..NODES {
            nodes.push(join().await?);
        }
        // A second after the last one has joined, each leads some shards.
        while !nodes.iter().all(|node| node.handle().is_leading()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let watch = Stopwatch::start();
        let sends = nodes.iter().enumerate().map(|(i, node)| {
            let (handle, trades) = (node.handle(), Arc::clone(&self.trades));
            async move {
                for call in trades.chunks(CALL).skip(i).step_by(NODES) {
                    handle.send_all(call.iter().copied()).await?;
                }
                handle.flush().await?;
                Ok::<_, Error>(())
            }
        });
        try_join_all(sends).await?;
        let span = watch.stop();
        for node in nodes {
            node.leave().await?;
        }
        Ok(span)
    }

    /// Writes by sqlx. Each connection writes every other batch, and a batch of one row is written without arrays.
    async fn sqlx(self, batch: usize) -> Result<Span, Error> {
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            connections.push(PgConnection::connect(&self.url).await?);
        }
        let watch = Stopwatch::start();
        let mut tasks = JoinSet::new();
        for (first, mut connection) in connections.into_iter().enumerate() {
            let trades = Arc::clone(&self.trades);
            tasks.spawn(async move {
                for batch in trades.chunks(batch).skip(first).step_by(CONNECTIONS) {
                    let written = match batch {
                        [trade] => one(&mut connection, trade).await,
                        batch => many(&mut connection, batch).await,
                    };
                    written.expect("the server takes the rows");
                }
                connection.close().await.expect("the server says goodbye");
            });
        }
        join(tasks).await;
        Ok(watch.stop())
    }
}

async fn one(connection: &mut PgConnection, trade: &Trade) -> Result<(), sqlx_core::Error> {
    let insert = query(INSERT).bind(trade.id).bind(time(trade)).bind(trade.symbol);
    insert.bind(trade.price).bind(trade.quantity).bind(trade.is_buy).execute(connection).await?;
    Ok(())
}

async fn many(connection: &mut PgConnection, trades: &[Trade]) -> Result<(), sqlx_core::Error> {
    let insert = query(UNNEST)
        .bind(column(trades, |trade| trade.id))
        .bind(column(trades, time))
        .bind(column(trades, |trade| trade.symbol))
        .bind(column(trades, |trade| trade.price))
        .bind(column(trades, |trade| trade.quantity))
        .bind(column(trades, |trade| trade.is_buy));
    insert.execute(connection).await?;
    Ok(())
}

fn column<V>(trades: &[Trade], value: impl Fn(&Trade) -> V) -> Vec<V> {
    trades.iter().map(value).collect()
}

fn time(trade: &Trade) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp_nanos(trade.time_ns.into()).expect("a time of our days")
}
