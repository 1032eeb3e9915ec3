//! The two tables of the report: what became of the ops, and what they cost. `notes` writes the text around them.

use std::fmt;

use roundlot::{End, Stats};

use super::{Batched, Report, each};
use crate::demo::{
    format,
    latency::Percentiles,
    unbatched::{Cost, Unbatched},
};

/// The name of a row, and its cells for prices, orders and trades.
pub type Row = (String, [String; 3]);

/// Ends that have a row also if no op ended so.
const USUAL: [End; 4] = [End::Delivered, End::Conflated, End::Netted, End::Refused];

/// Minimum number of calls for a ratio. With fewer, times are chance.
const MIN_CALLS: u64 = 10;

impl Report {
    /// Returns the rows of the ops: their ends add up to the accepted ones, and the parts of the mean time to the whole.
    pub(super) fn accounts(&self) -> Vec<Row> {
        let row = |name: &str, cell: fn(&Stats) -> String| (name.to_owned(), each(&self.end.batchers).map(cell));
        let mut rows = vec![row("accepted", |stats| format::count(stats.accepted))];
        for end in format::ENDS {
            let counts = each(&self.end.batchers).map(|stats| stats.outcomes[end]);
            if USUAL.contains(&end) || counts.iter().any(|count| *count > 0) {
                rows.push((format!("  {}", format::end(end)), counts.map(format::count)));
            }
        }
        rows.extend([
            row("never had to be sent", |stats| format::percent(unsent(stats), stats.accepted)),
            row("sent, with retries", |stats| format::count(stats.written)),
            row("  retries", |stats| format::count(stats.retries)),
            row("batches", |stats| format::count(stats.batches)),
            row("  mean size", |stats| format!("{:.1}", stats.mean_batch())),
            row("  forced flushes", |stats| format::count(stats.forced_flushes)),
            row("send to verdict, mean", |stats| format::time(stats.in_buffer.mean)),
            row("  waiting", |stats| format::time(stats.waiting_time.mean)),
        ]);
        if each(&self.end.batchers).iter().any(|stats| !stats.backing_off_time.max.is_zero()) {
            rows.push(row("  backing off", |stats| format::time(stats.backing_off_time.mean)));
        }
        rows.push(row("  being written", |stats| format::time(stats.writing_time.mean)));
        let times = [&self.latency.prices, &self.latency.orders, &self.latency.trades];
        let row = |name: &str, time: fn(&Percentiles) -> f64| {
            (name.to_owned(), times.map(|times| format::seconds(time(times))))
        };
        rows.extend([
            row("send to verdict, p50", |times| times.p50),
            row("                 p90", |times| times.p90),
            row("                 p99", |times| times.p99),
            row("                 p99.9", |times| times.p99_9),
            row("                 max", |times| times.max),
        ]);
        rows
    }

    /// Returns the rows of the costs, those of the run and the unbatched ones.
    pub(super) fn costs(&self, unbatched: &Unbatched) -> Vec<Row> {
        let Batched { prices, orders, trades } = &self.batched;
        let pairs =
            [(prices, Some(&unbatched.prices)), (orders, Some(&unbatched.orders)), (trades, unbatched.trades.as_ref())];
        let row = |name: &str, cell: fn(&Cost, Option<&Cost>) -> Option<String>| {
            (name.to_owned(), pairs.map(|(ran, one)| cell(ran, one).unwrap_or_else(|| "-".to_owned())))
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

/// Number of ops that another op made superfluous before they were sent.
fn unsent(stats: &Stats) -> u64 {
    stats.outcomes.conflated + stats.outcomes.netted + stats.outcomes.deduplicated
}

/// The ratio of two costs, as "12 x".
fn times(this: f64, that: f64) -> String {
    match that / this {
        ratio if !ratio.is_finite() => "-".to_owned(),
        ratio @ 9.95.. => format!("{ratio:.0} x"),
        ratio => format!("{ratio:.1} x"),
    }
}

pub fn write(f: &mut fmt::Formatter<'_>, rows: &[Row]) -> fmt::Result {
    writeln!(f, "  {:<24}{:>13}{:>14}{:>14}", "", "prices", "orders", "trades")?;
    for (name, [prices, orders, trades]) in rows {
        writeln!(f, "  {name:<24}{prices:>13}{orders:>14}{trades:>14}")?;
    }
    Ok(())
}
