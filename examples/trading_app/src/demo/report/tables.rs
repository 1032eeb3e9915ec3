//! The two tables of the report: what became of the ops, and how many calls they took. `notes` writes the text around them.

use std::fmt;

use roundlot::{End, Stats};
use roundlot_board::latency::Percentiles;

use super::{Batched, Queueing, Report, each};
use crate::demo::{
    format,
    unbatched::{Cost, Unbatched},
};

/// The name of a row, and its cells for prices, orders and trades.
pub type Row = (String, [String; 3]);

/// Ends that have a row also if no op ended so.
const USUAL: [End; 4] = [End::Delivered, End::Conflated, End::Netted, End::Refused];

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
        let queues = [&self.measured.queueing.prices, &self.measured.queueing.orders, &self.measured.queueing.trades];
        let queued = |name: &str, cell: fn(&Queueing) -> String| (name.to_owned(), queues.map(cell));
        rows.extend([
            queued("    lingering, at most", |queue| format::seconds(queue.max_lingering_seconds)),
            queued("    for a slot, at least", |queue| format::seconds(queue.min_due_seconds)),
        ]);
        if each(&self.end.batchers).iter().any(|stats| !stats.quota.is_empty()) {
            rows.push(row("  for the quota", |stats| format::time(stats.quota.time().mean)));
        }
        if each(&self.end.batchers).iter().any(|stats| !stats.backing_off_time.max.is_zero()) {
            rows.push(row("  backing off", |stats| format::time(stats.backing_off_time.mean)));
        }
        rows.push(row("  being written", |stats| format::time(stats.writing_time.mean)));
        rows.push(queued("    in the sink", |queue| format::seconds(queue.in_sink_seconds)));
        let times = [&self.measured.latency.prices, &self.measured.latency.orders, &self.measured.latency.trades];
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
        rows.push(queued("slots busy, mean", |queue| format!("{:.1} of {}", queue.busy_slots, queue.slots)));
        rows
    }

    /// Returns the rows of the calls: by number, as counted in the run, and by time.
    pub(super) fn calls(&self) -> Vec<Row> {
        let Batched { prices, orders, trades } = &self.measured.batched;
        let [unsent_prices, unsent_orders, unsent_trades] = each(&self.end.batchers).map(unsent);
        let runs = [(prices, unsent_prices), (orders, unsent_orders), (trades, unsent_trades)];
        let row =
            |name: &str, cell: fn(&Cost, u64) -> String| (name.to_owned(), runs.map(|(ran, unsent)| cell(ran, unsent)));
        let mut rows = vec![
            row("calls, one for each op", |ran, unsent| format::count(ran.sent + unsent)),
            row("  for each op sent", |ran, _| format::count(ran.sent)),
            row("  in batches, as they were", |ran, _| format::count(ran.calls)),
            row("fewer by not sending", |ran, unsent| ratio(ran.sent + unsent, ran.sent)),
            row("fewer by batching", |ran, _| ratio(ran.sent, ran.calls)),
            row("time of a call", |ran, _| format::seconds(ran.per_call())),
            row("  per op in it", |ran, _| format::seconds(ran.per_sent())),
        ];
        if let Some(Unbatched { prices, orders, trades }) = &self.unbatched {
            let alone = [Some(prices), Some(orders), trades.as_ref()];
            let cell = |cost: Option<&Cost>| format::seconds(cost.map_or(0.0, Cost::per_call));
            rows.push(("a call for an op alone".to_owned(), alone.map(cell)));
        }
        rows
    }
}

/// Number of ops that another op made superfluous before they were sent.
fn unsent(stats: &Stats) -> u64 {
    stats.outcomes.conflated + stats.outcomes.netted + stats.outcomes.deduplicated
}

/// The ratio of two numbers of calls, as "12 x".
fn ratio(more: u64, fewer: u64) -> String {
    match more as f64 / fewer as f64 {
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
