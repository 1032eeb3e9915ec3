//! The report at the end of a run: a table for people, JSON for programs, and whether the run was a success. `main`
//! fills it in and publishes it.

use std::{
    collections::BTreeMap,
    fmt, fs,
    io::{self, ErrorKind, IsTerminal, Write},
    iter::successors,
    path::{Path, PathBuf},
};

use roundlot::Stats;
use serde::Serialize;

use crate::{
    bot::{Error, batchers::FinalStats, database::Destination},
    demo::{
        database,
        feed::RowLog,
        format,
        meter::{Meter, Meters},
        observer::Verdicts,
        settings::{Named, Settings},
        unbatched::{Cost, Unbatched},
    },
};

#[derive(Serialize)]
pub struct Report {
    pub feed: String,
    pub strict: bool,
    /// Time until the feed ended, in seconds.
    pub seconds: f64,
    /// Time from then until the waiting ops were written, in seconds.
    pub drain_seconds: f64,
    pub operations: u64,
    /// The full accounting of each batcher.
    pub batchers: FinalStats,
    /// Cost of the sinks in the run.
    pub batched: Batched,
    /// Cost of a sample of the same operations, one at a time, with sinks of the same kind.
    pub unbatched: Option<Unbatched>,
    #[serde(flatten)]
    pub rows: RowLog,
    pub verdicts: Verdicts,
    /// Failed orders by reason.
    pub rejections: BTreeMap<String, u64>,
    pub portfolio_value: String,
    pub fills: u64,
    pub database: String,
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

/// Number of accepted ops of all batchers.
pub fn operations(stats: &FinalStats) -> u64 {
    each(stats).iter().map(|stats| stats.accepted).sum()
}

impl Batched {
    pub fn new(stats: &FinalStats, meters: &Meters, seconds: f64) -> Self {
        let cost = |stats: &Stats, meter: &Meter| Cost {
            operations: stats.accepted,
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

/// Describes an error and its causes in one line.
pub fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// Checks before the run that the report, if one is wanted, can be written, and replaces no file that the run reads or
/// writes.
pub fn check(settings: &Settings) -> Result<(), Error> {
    let Some(path) = settings.report.as_deref() else { return Ok(()) };
    let database = match settings.database.as_ref().map(Named::destination).transpose()? {
        Some(Destination::Sqlite(path)) => Some(path),
        Some(Destination::Postgres(_)) => None,
        None => Some(Path::new(database::USUAL_FILE)),
    };
    for (other, what) in [(settings.replay.file.as_deref(), "file that is replayed"), (database, "database")] {
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

/// Returns the number of ops that were handed in, and did not end as intended.
fn failures(stats: &Stats) -> u64 {
    stats.outcomes.failed()
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
        let lost = failures(&self.batchers.trades);
        if lost > 0 {
            return Some(format!("{} trades are not in the database", format::count(lost)));
        }
        let returned: u64 =
            each(&self.batchers).iter().map(|stats| stats.outcomes.returned + stats.outcomes.lost).sum();
        (returned > 0).then(|| format!("{} operations were still to be done at the end", format::count(returned)))
    }

    fn accounts(&self) -> Vec<(&'static str, [String; 3])> {
        let row = |name, cell: fn(&Stats) -> String| (name, each(&self.batchers).map(cell));
        let mut rows = vec![
            row("operations", |stats| format::count(stats.accepted)),
            row("batches", |stats| format::count(stats.batches)),
            row("mean size", |stats| format!("{:.1}", stats.mean_batch())),
            row("conflated", |stats| format::percent(stats.outcomes.conflated, stats.accepted)),
            row("netted", |stats| format::percent(stats.outcomes.netted, stats.accepted)),
            row("forced flushes", |stats| format::count(stats.forced_flushes)),
            row("send to verdict", |stats| format::time(stats.in_buffer.mean)),
            row("  waiting", |stats| format::time(stats.waiting_time.mean)),
            row("  backing off", |stats| format::time(stats.backing_off_time.mean)),
            row("  being written", |stats| format::time(stats.writing_time.mean)),
            row("longest to verdict", |stats| format::time(stats.in_buffer.max)),
            row("retries", |stats| format::count(stats.retries)),
            row("failures", |stats| format::count(failures(stats))),
            row("delivered", |stats| format::count(stats.outcomes.delivered)),
        ];
        if each(&self.batchers).iter().all(|stats| stats.backing_off_time.max.is_zero()) {
            rows.retain(|(name, _)| *name != "  backing off");
        }
        rows
    }

    /// The two columns of costs side by side, per batcher.
    fn costs(&self, unbatched: &Unbatched) -> Vec<(&'static str, [String; 3])> {
        let Batched { prices, orders, trades } = &self.batched;
        let pairs =
            [(prices, Some(&unbatched.prices)), (orders, Some(&unbatched.orders)), (trades, unbatched.trades.as_ref())];
        let row = |name, cell: fn(&Cost, Option<&Cost>) -> Option<String>| {
            (name, pairs.map(|(ran, one)| cell(ran, one).unwrap_or_else(|| "-".to_owned())))
        };
        vec![
            row("calls", |ran, _| Some(format::count(ran.calls))),
            row("calls, unbatched", |ran, one| Some(format::count(one?.calls_for(ran.operations)))),
            row("time in sink per op", |ran, _| Some(format::seconds(ran.per_operation()))),
            row("the same, unbatched", |_, one| Some(format::seconds(one?.per_operation()))),
            row("unbatched costs", |ran, one| {
                let one = one.filter(|one| ran.calls.min(one.calls) >= MIN_CALLS)?;
                Some(times(ran.per_operation(), one.per_operation()))
            }),
        ]
    }
}

/// Minimum number of calls for a ratio. With fewer, times are chance.
const MIN_CALLS: u64 = 10;

/// Minimum duration of a run, in seconds, for a rate. A faster run says nothing about it.
const SHORTEST_RUN: f64 = 0.001;

/// The ratio of two costs, as "12 x".
fn times(this: f64, that: f64) -> String {
    match that / this {
        ratio if !ratio.is_finite() => "-".to_owned(),
        ratio @ 9.95.. => format!("{ratio:.0} x"),
        ratio => format!("{ratio:.1} x"),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [ran, drained] = [self.seconds, self.drain_seconds].map(format::seconds);
        write!(f, "{} operations in {ran}", format::count(self.operations))?;
        if self.seconds >= SHORTEST_RUN {
            write!(f, ": {} per second", format::count((self.operations as f64 / self.seconds) as u64))?;
        }
        writeln!(f, "; what waited then took {drained}\n")?;
        table(f, &self.accounts())?;
        writeln!(f, "  (Times are means but for the longest; forced flushes count the shutdown.)")?;
        if let Some(unbatched) = &self.unbatched {
            let [prices, orders] = [&unbatched.prices, &unbatched.orders].map(|cost| format::count(cost.operations));
            let trades = unbatched.trades.as_ref().map_or("no".to_owned(), |cost| format::count(cost.operations));
            writeln!(f, "\nWhat the same work costs unbatched. Measured after the run on its first {prices}")?;
            writeln!(f, "prices, {orders} orders and {trades} trades, each alone in a call to a sink of its kind;")?;
            writeln!(f, "the number of calls, with retries, is scaled up to all of them.")?;
            if unbatched.trades.is_none() {
                writeln!(f, "(The app makes no scratch table on a PostgreSQL server, which trades would need.)")?;
            }
            table(f, &self.costs(unbatched))?;
        }
        writeln!(f)?;
        self.closing_lines(f)
    }
}

impl Report {
    fn closing_lines(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdicts = &self.verdicts;
        let [landed, netted, failed] = [verdicts.landed, verdicts.netted, verdicts.failed].map(format::count);
        let [mean, max] = [verdicts.mean_seconds, verdicts.max_seconds].map(format::seconds);
        writeln!(f, "venue      {landed} delivered or conflated, {netted} netted out, {failed} failed")?;
        writeln!(f, "           verdict in {mean} on average (netted ones included), {max} at most")?;
        for (reason, count) in &self.rejections {
            writeln!(f, "           {:>6} {reason}", format::count(*count))?;
        }
        writeln!(f, "portfolio  {}, {} orders filled", self.portfolio_value, format::count(self.fills))?;
        let (delivered, database) = (format::count(self.batchers.trades.outcomes.delivered), &self.database);
        writeln!(f, "database   {delivered} rows written to {database}")?;
        match self.rows.bad_rows {
            0 => Ok(()),
            1 => writeln!(f, "file       1 bad row was left out"),
            more => writeln!(f, "file       {} bad rows were left out", format::count(more)),
        }
    }
}

fn table(f: &mut fmt::Formatter<'_>, rows: &[(&str, [String; 3])]) -> fmt::Result {
    writeln!(f, "  {:<22}{:>14}{:>14}{:>14}", "", "prices", "orders", "trades")?;
    for (name, [prices, orders, trades]) in rows {
        writeln!(f, "  {name:<22}{prices:>14}{orders:>14}{trades:>14}")?;
    }
    Ok(())
}
