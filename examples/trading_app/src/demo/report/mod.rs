//! The report at the end of a run: a text for people, JSON for programs, and whether the run was a success. `main` fills
//! it in and publishes it. `queueing` says what the ops waited for, `quota` what was used of the venue's limits; `tables` and
//! `notes` write the text.

mod log;
mod notes;
mod queueing;
mod quota;
mod tables;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fs,
    io::{self, ErrorKind, IsTerminal, Write},
    iter::successors,
    path::{Path, PathBuf},
};

use roundlot::{
    Limits, Stats,
    market::{Quantity, Symbol},
};
use roundlot_board::latency::{self, Percentiles};
use rust_decimal::Decimal;
use serde::Serialize;

use crate::{
    bot::{Error, batchers::FinalStats, database::Destination, portfolio::Portfolio},
    demo::{
        database,
        feed::RowLog,
        format,
        meter::{Meter, Meters},
        observer::{Decisions, Verdicts},
        settings::{Named, Settings},
        unbatched::{Cost, Unbatched},
    },
};
pub use log::{LogUse, say_found};
pub use queueing::Queueing;
pub use quota::QuotaUse;

#[derive(Serialize)]
pub struct Report {
    pub feed: String,
    pub strict: bool,
    /// Time until the feed ended, in seconds.
    pub seconds: f64,
    #[serde(flatten)]
    pub end: Drained,
    #[serde(flatten)]
    pub measured: Measured,
    /// Reason for the size of the batches of orders, if there were any.
    pub order_batches: Option<OrderBatches>,
    /// Use of the venue's limits, if it has any.
    pub quota: Option<QuotaUse>,
    /// Use of the log of orders, if there is one.
    pub log: Option<LogUse>,
    /// Cost of a sample of the same operations, one at a time, with sinks of the same kind.
    pub unbatched: Option<Unbatched>,
    #[serde(flatten)]
    pub rows: RowLog,
    pub verdicts: Verdicts,
    /// Failed orders by reason.
    pub rejections: BTreeMap<String, u64>,
    pub portfolio: Valuation,
    pub database: String,
}

/// The end of a run.
#[derive(Serialize)]
pub struct Drained {
    /// Number of ops that were accepted when the feed ended, and not settled.
    pub backlog: u64,
    /// Time from then until they were settled, in seconds.
    pub drain_seconds: f64,
    /// Number of accepted ops of all batchers.
    pub operations: u64,
    /// The full accounting of each batcher.
    pub batchers: FinalStats,
}

/// Measurements of the batchers and their sinks in the run.
#[derive(Serialize)]
pub struct Measured {
    /// Times in the buffers.
    pub latency: Latency,
    /// Load of the slots, and parts of the times.
    pub queueing: Queues,
    /// Cost of the sinks.
    pub batched: Batched,
}

/// Percentiles of the time from `send` to the verdict, of the ops that were sent.
#[derive(Serialize)]
pub struct Latency {
    pub prices: Percentiles,
    pub orders: Percentiles,
    pub trades: Percentiles,
}

#[derive(Serialize)]
pub struct Queues {
    pub prices: Queueing,
    pub orders: Queueing,
    pub trades: Queueing,
}

/// Facts that make the batches of orders large or small.
#[derive(Serialize)]
pub struct OrderBatches {
    /// Number of partitions that had orders. A batch holds ops of one of them.
    pub partitions: usize,
    /// Mean number of ops that a decision had for a partition.
    pub ops_at_once: f64,
    /// Mean time between two decisions for the same partition.
    pub seconds_between: f64,
    /// Maximum time that an op waits for others, as in the settings.
    pub linger: String,
}

/// The portfolio at both ends of the run.
#[derive(Serialize)]
pub struct Valuation {
    /// Cash at the start, when there were no positions.
    pub start: String,
    pub end: String,
    /// Number of symbols with a position at the end.
    pub held: usize,
    /// Number of orders filled.
    pub fills: u64,
    /// Quantity of each position.
    pub positions: BTreeMap<Symbol, Decimal>,
}

#[derive(Serialize)]
pub struct Batched {
    pub prices: Cost,
    pub orders: Cost,
    pub trades: Cost,
}

fn each(stats: &FinalStats) -> [&Stats; 3] {
    [&stats.prices, &stats.orders, &stats.trades]
}

impl Drained {
    pub fn new(backlog: u64, drain_seconds: f64, batchers: FinalStats) -> Self {
        let operations = each(&batchers).iter().map(|stats| stats.accepted).sum();
        Self { backlog, drain_seconds, operations, batchers }
    }

    /// Number of ops that were given back or lost at the end.
    pub fn unsettled(&self) -> u64 {
        each(&self.batchers).iter().map(|stats| stats.outcomes.returned + stats.outcomes.lost).sum()
    }
}

impl Measured {
    /// The measurements of a run whose feed ended after this many seconds.
    pub fn new(
        settings: &Settings,
        end: &Drained,
        meters: &Meters,
        recorder: &latency::Recorder,
        seconds: f64,
    ) -> Self {
        let (latency, batched) = (Latency::new(recorder), Batched::new(end, meters, seconds));
        let queueing = Queues::new(settings, &batched, meters, &end.batchers, &latency);
        Self { latency, queueing, batched }
    }
}

impl Batched {
    /// The cost in a run whose feed ended after this many seconds.
    fn new(end: &Drained, meters: &Meters, seconds: f64) -> Self {
        let (stats, seconds) = (&end.batchers, seconds + end.drain_seconds);
        let cost = |stats: &Stats, meter: &Meter| Cost {
            operations: stats.accepted,
            sent: meter.ops(),
            calls: meter.calls(),
            sink_seconds: meter.time().as_secs_f64(),
            seconds,
        };
        Self {
            prices: cost(&stats.prices, &meters.prices),
            orders: cost(&stats.orders, &meters.orders),
            trades: cost(&stats.trades, &meters.trades),
        }
    }
}

impl Latency {
    fn new(recorder: &latency::Recorder) -> Self {
        let [prices, orders, trades] = ["prices", "orders", "trades"].map(|name| recorder.percentiles(name));
        Self { prices, orders, trades }
    }
}

impl Queues {
    /// The queueing in a run that cost this. Only orders have partitions.
    fn new(settings: &Settings, batched: &Batched, meters: &Meters, stats: &FinalStats, times: &Latency) -> Self {
        let prices = (&settings.prices.limits, &batched.prices, &meters.prices, &stats.prices, &times.prices);
        let orders = (&settings.orders.batcher.limits, &batched.orders, &meters.orders, &stats.orders, &times.orders);
        let trades = (&settings.trades.limits, &batched.trades, &meters.trades, &stats.trades, &times.trades);
        let [prices, orders, trades] = [prices, orders, trades]
            .map(|(limits, ran, meter, stats, times)| Queueing::new(limits, ran, meter, stats, times));
        Self { prices: prices.with_one_slot(), orders, trades: trades.with_one_slot() }
    }
}

impl Valuation {
    pub fn new(cash: Quantity, portfolio: &Portfolio) -> Self {
        Self {
            start: format::money(cash.to_decimal()),
            end: format::money(portfolio.value()),
            held: portfolio.held(),
            fills: portfolio.fills(),
            positions: portfolio.statement().held().map(|(symbol, position)| (symbol, position.quantity)).collect(),
        }
    }
}

impl OrderBatches {
    pub fn new(decisions: &Decisions, seconds: f64, limits: &Limits) -> Option<Self> {
        Some(Self {
            partitions: decisions.partitions(),
            ops_at_once: decisions.ops_at_once()?,
            seconds_between: decisions.seconds_between(seconds)?,
            linger: humantime::format_duration(limits.linger).to_string(),
        })
    }
}

/// Describes an error and its causes in one line.
pub fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// Checks before the run that the report, if one is wanted, can be written, and replaces no file that the run reads or
/// writes, and that log and database are two files.
pub fn check(settings: &Settings) -> Result<(), Error> {
    let database = match settings.database.as_ref().map(Named::destination).transpose()? {
        Some(Destination::Sqlite(path)) => Some(path),
        Some(Destination::Postgres(_)) => None,
        None => Some(Path::new(database::USUAL_FILE)),
    };
    let log = settings.orders.log.as_ref().and_then(|log| log.place.file());
    if let (Some(log), Some(database)) = (log, database)
        && place(log) == place(database)
    {
        return Err(format!("orders.log: it is the database, {}", database.display()).into());
    }
    let Some(path) = settings.report.as_deref() else { return Ok(()) };
    let others = [(settings.replay.file.as_deref(), "file that is replayed"), (database, "database"), (log, "log")];
    for (other, what) in others {
        if other.is_some_and(|other| place(other) == place(path)) {
            return Err(format!("cannot write the report to {}: it is the {what}", path.display()).into());
        }
    }
    // The content of an existing file stays until the report replaces it.
    let opened = fs::OpenOptions::new().create(true).append(true).open(path);
    opened.map(drop).map_err(|error| cannot_write(path, &error))
}

/// Resolves a path, also of a file that does not exist yet.
fn place(path: &Path) -> PathBuf {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let named = || Some(folder.canonicalize().ok()?.join(path.file_name()?));
    path.canonicalize().ok().or_else(named).unwrap_or_else(|| path.to_owned())
}

fn cannot_write(path: &Path, error: &io::Error) -> Error {
    format!("cannot write the report to {}: {error}", path.display()).into()
}

impl Report {
    /// Prints the report, and writes it as JSON if a path is set.
    pub fn publish(&self, path: Option<&Path>) -> Result<(), Error> {
        let printed = self.print();
        if let Some(path) = path {
            let mut json = serde_json::to_string_pretty(self)?;
            json.push('\n');
            fs::write(path, json).map_err(|error| cannot_write(path, &error))?;
        }
        match printed {
            // A closed pipe is no error: the reader has read enough.
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                Err(format!("cannot print the report: {error}").into())
            }
            _ => Ok(()),
        }
    }

    fn print(&self) -> io::Result<()> {
        let mut out = io::stdout();
        // On a terminal, the name of the feed was printed when it began.
        if !(out.is_terminal() && io::stderr().is_terminal()) {
            writeln!(out, "{}", self.feed)?;
        }
        write!(out, "{self}")?;
        out.flush()
    }

    /// Returns the reason for which the run was no success, if any. Orders that the venue rejects are part of trading;
    /// trades missing from the database are not.
    pub fn problem(&self) -> Option<String> {
        if let (true, Some(bad)) = (self.strict, self.rows.bad.first()) {
            return Some(format!("{bad} (--strict)"));
        }
        if let (0, Some(bad)) = (self.rows.rows, self.rows.bad.first()) {
            return Some(format!("no row could be read: {bad}"));
        }
        let lost = self.end.batchers.trades.outcomes.failed();
        if lost > 0 {
            return Some(format!("{} trades are not in the database", format::count(lost)));
        }
        let returned = self.end.unsettled();
        (returned > 0).then(|| format!("{} operations were still to be done at the end", format::count(returned)))
    }
}
