//! The row `sqlite`: rows into a SQLite file by the sink, in batches of 1,000.
//!
//! The peers write the same rows into a table of the same schema: the sqlite3 shell by `.import`, and a loop by hand.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use roundlot::{Batcher, Limits, Sink, sink::sqlite::SqliteSink};
use rusqlite::{Connection, params};
use tempfile::TempDir;

use super::Row;
use crate::{
    Error,
    bench::Bench,
    clock::{Span, Stopwatch},
    machine,
    measure::{Variant, measure_fixed, named},
    report::Report,
    trade::{self, Trade},
};

pub(super) const ROW: Row = Row { name: "sqlite", about: "rows into SQLite, in batches of 1,000", run };

/// The number of rows in a run.
const ROWS: u64 = 200_000;

/// The number of rows in a transaction of the sink and of the loop by hand.
const BATCH: usize = 1000;

/// The settings that the sink has by default, for the shell and the loop by hand.
const PRAGMAS: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;";

fn run(bench: &Bench) -> Result<Report, Error> {
    let folder = TempDir::new_in(&bench.folder)?;
    let trades: Vec<Trade> = (0..bench.sized(ROWS)).map(Trade::numbered).collect();
    let place = Place { folder: folder.path().into(), trades, schema: schema(bench, folder.path())? };
    let version = machine::said_by("sqlite3", "--version");
    let has_shell = Command::new("sqlite3").arg("--version").output().is_ok();
    place.write_csv()?;
    let mut variants = vec![
        Variant::timed("roundlot, SQLite sink", |_| place.measured(|| place.through_roundlot(bench))),
        Variant::timed("rusqlite by hand", |_| place.measured(|| place.by_hand())),
    ];
    if has_shell {
        variants.push(Variant::timed("sqlite3 .import", |_| place.measured(|| place.by_shell())));
    }
    let results = measure_fixed(bench, variants, place.trades.len() as u64);
    let report = Report::of(&results)
        .note(
            "Six columns: two integers, a text, two decimals as text, a flag. WAL, synchronous NORMAL, one file each.",
        )
        .note("From the first row until the file is closed. By hand: a prepared INSERT, a commit per 1,000 rows.")
        .note(format!("The shell is {version}; the sink brings {} along.", rusqlite::version()))
        .note("What SQLite itself allocates is counted for nobody. The shell's CPU time is counted in ticks of 10 ms.");
    if !has_shell {
        return Ok(report.note("The figure sqlite_vs_import is missing: there is no sqlite3 on this machine."));
    }
    let ratio = named(&results, "roundlot, SQLite sink").speed_against(named(&results, "sqlite3 .import"));
    Ok(report.figure("sqlite_vs_import", ratio))
}

/// Returns the statement by which the sink creates the table.
fn schema(bench: &Bench, folder: &Path) -> Result<String, Error> {
    let path = folder.join("schema.db");
    let sink = bench.runtime.block_on(SqliteSink::open(&path, trade::mapping()))?;
    bench.runtime.block_on(sink.close())?;
    let table = "SELECT sql FROM sqlite_master WHERE name = 'trades'";
    Ok(Connection::open(path)?.query_row(table, [], |row| row.get(0))?)
}

/// The rows, and the folder in which each run creates a new file.
struct Place {
    folder: PathBuf,
    trades: Vec<Trade>,
    schema: String,
}

impl Place {
    fn database(&self) -> PathBuf {
        self.folder.join("trades.db")
    }

    fn csv(&self) -> PathBuf {
        self.folder.join("trades.csv")
    }

    fn write_csv(&self) -> Result<(), Error> {
        let line = |t: &Trade| {
            format!("{},{},{},{},{},{}\n", t.id, t.time_ns, t.symbol, t.price, t.quantity, u8::from(t.is_buy))
        };
        Ok(fs::write(self.csv(), self.trades.iter().map(line).collect::<String>())?)
    }

    /// Runs `write` on a new file and checks that all rows are in it afterwards.
    fn measured(&self, write: impl FnOnce() -> Result<Span, Error>) -> (u64, Span) {
        let run = || {
            for end in ["", "-wal", "-shm"] {
                remove(&self.folder.join(format!("trades.db{end}")))?;
            }
            let span = write()?;
            let found = Connection::open(self.database())?.query_row(
                "SELECT count(*), sum(id), sum(is_buy), max(price) FROM trades",
                [],
                |row| {
                    Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?, row.get::<_, String>(3)?))
                },
            )?;
            Ok::<_, Error>((span, found))
        };
        let (span, found) = run().unwrap_or_else(|error| panic!("the row sqlite failed: {error}"));
        let rows = self.trades.len() as i64;
        let buys = self.trades.iter().map(|trade| i64::from(trade.is_buy)).sum();
        let dearest = self.trades.iter().map(|trade| trade.price.to_string()).max().unwrap_or_default();
        assert_eq!(found, (rows, self.trades.iter().map(|trade| trade.id).sum(), buys, dearest), "what is in the file");
        (self.trades.len() as u64, span)
    }

    /// Writes through roundlot, measured from the first send to the end of the shutdown.
    fn through_roundlot(&self, bench: &Bench) -> Result<Span, Error> {
        let (path, trades) = (self.database(), self.trades.clone());
        bench.runtime.block_on(async {
            tokio::spawn(async move {
                let sink = SqliteSink::open(path, trade::mapping()).await?;
                // The linger fills the first batches. All later batches fill while one is written.
                let limits = Limits::new(BATCH).linger(Duration::from_millis(10));
                let (desk, worker) = Batcher::new(sink).limits(limits).spawn();
                let watch = Stopwatch::start();
                for trade in trades {
                    desk.send(trade).await?;
                }
                let summary = worker.shutdown().await?;
                let span = watch.stop();
                summary.close_error.map_or(Ok(span), |error| Err(error.chain().into()))
            })
            .await?
        })
    }

    /// Creates an empty table with the sink's settings and schema.
    fn create(&self) -> Result<Connection, Error> {
        let connection = Connection::open(self.database())?;
        connection.execute_batch(PRAGMAS)?;
        connection.execute_batch(&self.schema)?;
        Ok(connection)
    }

    fn by_hand(&self) -> Result<Span, Error> {
        let mut connection = self.create()?;
        let watch = Stopwatch::start();
        for batch in self.trades.chunks(BATCH) {
            let transaction = connection.transaction()?;
            let mut insert = transaction.prepare_cached("INSERT INTO trades VALUES (?, ?, ?, ?, ?, ?)")?;
            for t in batch {
                let (price, quantity) = (t.price.to_string(), t.quantity.to_string());
                insert.execute(params![t.id, t.time_ns, t.symbol, price, quantity, t.is_buy])?;
            }
            drop(insert);
            transaction.commit()?;
        }
        connection.close().map_err(|(_, error)| error)?;
        Ok(watch.stop())
    }

    fn by_shell(&self) -> Result<Span, Error> {
        let connection = self.create()?;
        connection.close().map_err(|(_, error)| error)?;
        let watch = Stopwatch::start();
        let mut shell =
            Command::new("sqlite3").arg(self.database()).stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
        let script = format!(".bail on\n{PRAGMAS}\n.mode csv\n.import \"{}\" trades\n", self.csv().display());
        shell.stdin.take().ok_or("no way in")?.write_all(script.as_bytes())?;
        let status = shell.wait()?;
        let span = watch.stop();
        if status.success() { Ok(span) } else { Err("sqlite3 failed".into()) }
    }
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}
