//! The report at the end. In comes all that was counted and measured, out goes a table for people, JSON for programs, and
//! the verdict on the run.

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
    Error, database,
    desks::Meters,
    meter::Meter,
    numbers,
    settings::{Destination, Named, Settings},
    trader::Log,
    unbatched::{Cost, Unbatched},
};

#[derive(Serialize)]
pub struct Report {
    pub feed: String,
    pub strict: bool,
    /// Until the feed ended.
    pub seconds: f64,
    /// Until what waited then was written.
    pub drain_seconds: f64,
    pub operations: u64,
    /// The full accounting of each batcher.
    pub batchers: Batchers,
    /// What the sinks were asked for in the run.
    pub batched: Batched,
    /// What a sample of the same operations asked of sinks of the same kind, one at a time.
    pub unbatched: Option<Unbatched>,
    #[serde(flatten)]
    pub log: Log,
    /// Why orders failed, and how often.
    pub rejections: BTreeMap<String, u64>,
    pub portfolio_value: String,
    pub fills: u64,
    pub database: String,
}

#[derive(Serialize)]
pub struct Batchers {
    pub prices: Stats,
    pub orders: Stats,
    pub trades: Stats,
}

#[derive(Serialize)]
pub struct Batched {
    pub prices: Cost,
    pub orders: Cost,
    pub trades: Cost,
}

impl Batchers {
    fn each(&self) -> [&Stats; 3] {
        [&self.prices, &self.orders, &self.trades]
    }

    pub fn operations(&self) -> u64 {
        self.each().iter().map(|stats| stats.accepted).sum()
    }

    pub fn cost(&self, meters: &Meters, seconds: f64) -> Batched {
        let cost = |stats: &Stats, meter: &Meter| Cost {
            operations: stats.accepted,
            calls: meter.calls(),
            sink_seconds: meter.time().as_secs_f64(),
            seconds,
        };
        Batched {
            prices: cost(&self.prices, &meters.prices),
            orders: cost(&self.orders, &meters.orders),
            trades: cost(&self.trades, &meters.trades),
        }
    }
}

/// An error and what it came of, in one line.
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
    // What is in the file stays until there is something better.
    let opened = fs::OpenOptions::new().create(true).append(true).open(path);
    opened.map(drop).map_err(|error| cannot_write(path, &error))
}

/// Where a path leads, whatever it is called: the file need not exist yet.
fn place(path: &Path) -> PathBuf {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let named = || Some(folder.canonicalize().ok()?.join(path.file_name()?));
    path.canonicalize().ok().or_else(named).unwrap_or_else(|| path.to_owned())
}

fn cannot_write(path: &Path, error: &io::Error) -> Error {
    format!("cannot write the report to {}: {error}", path.display()).into()
}

/// Operations that were handed in, and not done as they were meant to be.
fn failures(stats: &Stats) -> u64 {
    stats.outcomes.failed()
}

impl Report {
    /// Prints it, and writes it as JSON if somebody wants that.
    pub fn publish(&self, path: Option<&Path>) -> Result<(), Error> {
        let printed = self.print();
        if let Some(path) = path {
            let mut json = serde_json::to_string_pretty(self)?;
            json.push('\n');
            fs::write(path, json).map_err(|error| cannot_write(path, &error))?;
        }
        match printed {
            // A reader that has gone away has read enough.
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                Err(format!("cannot print the report: {error}").into())
            }
            _ => Ok(()),
        }
    }

    fn print(&self) -> io::Result<()> {
        let mut out = io::stdout();
        // On a terminal the feed was named when it began.
        if !(out.is_terminal() && io::stderr().is_terminal()) {
            writeln!(out, "{}", self.feed)?;
        }
        write!(out, "{self}")?;
        out.flush()
    }

    /// Why the run was no success, if it wasn't. Orders that the venue rejects are a part of trading; trades that are not
    /// in the database are not.
    pub fn problem(&self) -> Option<String> {
        if let (true, Some(bad)) = (self.strict, self.log.bad.first()) {
            return Some(format!("{bad} (--strict)"));
        }
        if let (0, Some(bad)) = (self.log.rows, self.log.bad.first()) {
            return Some(format!("no row could be read: {bad}"));
        }
        let lost = failures(&self.batchers.trades);
        if lost > 0 {
            return Some(format!("{} trades are not in the database", numbers::count(lost)));
        }
        let returned: u64 =
            self.batchers.each().iter().map(|stats| stats.outcomes.returned + stats.outcomes.lost).sum();
        (returned > 0).then(|| format!("{} operations were still to be done at the end", numbers::count(returned)))
    }

    fn rows(&self) -> Vec<(&'static str, [String; 3])> {
        let row = |name, cell: fn(&Stats) -> String| (name, self.batchers.each().map(cell));
        let mut rows = vec![
            row("operations", |stats| numbers::count(stats.accepted)),
            row("batches", |stats| numbers::count(stats.batches)),
            row("mean size", |stats| format!("{:.1}", stats.mean_batch())),
            row("conflated", |stats| numbers::percent(stats.outcomes.conflated, stats.accepted)),
            row("netted", |stats| numbers::percent(stats.outcomes.netted, stats.accepted)),
            row("forced flushes", |stats| numbers::count(stats.forced_flushes)),
            row("send to verdict", |stats| numbers::time(stats.in_buffer.mean)),
            row("  waiting", |stats| numbers::time(stats.waiting_time.mean)),
            row("  backing off", |stats| numbers::time(stats.backing_off_time.mean)),
            row("  being written", |stats| numbers::time(stats.writing_time.mean)),
            row("longest to verdict", |stats| numbers::time(stats.in_buffer.max)),
            row("retries", |stats| numbers::count(stats.retries)),
            row("failures", |stats| numbers::count(failures(stats))),
            row("delivered", |stats| numbers::count(stats.outcomes.delivered)),
        ];
        if self.batchers.each().iter().all(|stats| stats.backing_off_time.max.is_zero()) {
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
            row("calls", |ran, _| Some(numbers::count(ran.calls))),
            row("calls, unbatched", |ran, one| Some(numbers::count(one?.calls_for(ran.operations)))),
            row("time in sink per op", |ran, _| Some(numbers::seconds(ran.per_operation()))),
            row("the same, unbatched", |_, one| Some(numbers::seconds(one?.per_operation()))),
            row("unbatched costs", |ran, one| {
                let one = one.filter(|one| ran.calls.min(one.calls) >= FEWEST_CALLS)?;
                Some(times(ran.per_operation(), one.per_operation()))
            }),
        ]
    }
}

/// With fewer calls than this, times are chance.
const FEWEST_CALLS: u64 = 10;

/// A faster run says nothing about a rate.
const SHORTEST_RUN: f64 = 0.001;

/// How many times as much.
fn times(this: f64, that: f64) -> String {
    match that / this {
        ratio if !ratio.is_finite() => "-".to_owned(),
        ratio @ 9.95.. => format!("{ratio:.0} x"),
        ratio => format!("{ratio:.1} x"),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [ran, drained] = [self.seconds, self.drain_seconds].map(numbers::seconds);
        write!(f, "{} operations in {ran}", numbers::count(self.operations))?;
        if self.seconds >= SHORTEST_RUN {
            write!(f, ": {} per second", numbers::count((self.operations as f64 / self.seconds) as u64))?;
        }
        writeln!(f, "; what waited then took {drained}\n")?;
        table(f, &self.rows())?;
        writeln!(f, "  (Times are means but for the longest; forced flushes count the shutdown.)")?;
        if let Some(unbatched) = &self.unbatched {
            let [prices, orders] = [&unbatched.prices, &unbatched.orders].map(|cost| numbers::count(cost.operations));
            let trades = unbatched.trades.as_ref().map_or("no".to_owned(), |cost| numbers::count(cost.operations));
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
        let verdicts = &self.log.verdicts;
        let [landed, netted, failed] = [verdicts.landed, verdicts.netted, verdicts.failed].map(numbers::count);
        let [mean, max] = [verdicts.mean_seconds, verdicts.max_seconds].map(numbers::seconds);
        writeln!(f, "venue      {landed} delivered or conflated, {netted} netted out, {failed} failed")?;
        writeln!(f, "           verdict in {mean} on average (netted ones included), {max} at most")?;
        for (reason, count) in &self.rejections {
            writeln!(f, "           {:>6} {reason}", numbers::count(*count))?;
        }
        writeln!(f, "portfolio  {}, {} orders filled", self.portfolio_value, numbers::count(self.fills))?;
        let (delivered, database) = (numbers::count(self.batchers.trades.outcomes.delivered), &self.database);
        writeln!(f, "database   {delivered} rows written to {database}")?;
        match self.log.bad_rows {
            0 => Ok(()),
            1 => writeln!(f, "file       1 bad row was left out"),
            more => writeln!(f, "file       {} bad rows were left out", numbers::count(more)),
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
