//! The text of the report: its first line, the words below each table, and what became of orders, portfolio and file.
//! `tables` writes the figures.

use std::fmt;

use super::{OrderBatches, Queueing, Report, tables};
use crate::{
    bot::venue::NO_SUCH_ORDER,
    demo::{format, unbatched::Unbatched},
};

/// Minimum duration of a run, in seconds, for a rate. A faster run says nothing about it.
const SHORTEST_RUN: f64 = 0.001;

/// Words below the first table.
const LEGEND: &str = "
  Accepted is the sum of the rows below it. Conflated: a newer one took its
  place while it waited. Netted: an order and its cancel that met while both
  waited. Refused: the destination answered no. Sent counts each retry again,
  and is batches times mean size. Forced flushes are batches cut by a flush or
  by the end of the run, before they were due. A dash: none, or not measured.

  Times are means and percentiles over the operations that were sent. None
  lingers longer than the limit says; the rest of its waiting is for a free
  slot, or for the batch of its partition that is being written. For the quota
  is the time in which the limits of the venue held it back. Being written
  is from the cut to the verdict; in the sink is the call alone. Slots are
  batches written at once: busy ones on average, of as many as there may be.
";

/// Words below the second table.
const CALLS_LEGEND: &str = "
  Numbers of calls are those of this run, retries included. The first row adds
  a call for each operation that was conflated, netted or a repeat. A call's
  time is the mean over calls, and in the sink, above, over operations: large
  batches count more often there.
";

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.first_line(f)?;
        tables::write(f, &self.accounts())?;
        f.write_str(LEGEND)?;
        writeln!(f, "\nWhat batching saves")?;
        tables::write(f, &self.calls())?;
        f.write_str(CALLS_LEGEND)?;
        if let Some(unbatched) = &self.unbatched {
            alone(f, unbatched)?;
        }
        writeln!(f)?;
        self.orders(f)?;
        self.portfolio(f)?;
        let (delivered, database) = (format::count(self.end.batchers.trades.outcomes.delivered), &self.database);
        writeln!(f, "database   {delivered} rows written to {database}")?;
        match self.rows.bad_rows {
            0 => Ok(()),
            1 => writeln!(f, "file       1 bad row was left out"),
            more => writeln!(f, "file       {} bad rows were left out", format::count(more)),
        }
    }
}

impl Report {
    fn first_line(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [ran, drained] = [self.seconds, self.end.drain_seconds].map(format::seconds);
        write!(f, "{} operations in {ran}", format::count(self.end.operations))?;
        if self.seconds >= SHORTEST_RUN {
            write!(f, ": {} per second", format::count((self.end.operations as f64 / self.seconds) as u64))?;
        }
        writeln!(f)?;
        match self.end.backlog {
            0 => writeln!(f, "at the end none was left to settle\n"),
            left => writeln!(f, "at the end {} were left to settle, which took {drained}\n", format::count(left)),
        }
    }

    fn orders(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(OrderBatches { partitions, ops_at_once, seconds_between, linger }) = &self.order_batches {
            let (size, partitions) = (self.end.batchers.orders.mean_batch(), format::count(*partitions as u64));
            let between = format::seconds(*seconds_between);
            writeln!(f, "orders     {size:.1} per batch: a batch holds one symbol and side. The bot sends")?;
            writeln!(f, "           {ops_at_once:.1} for one of them at a time, and the next ones {between} later on")?;
            writeln!(f, "           average, while a batch lingers {linger}. ({partitions} had orders.)")?;
        }
        let queueing = &self.measured.queueing.orders;
        if queueing.is_short_of_slots() {
            let Queueing { slots, busy_slots, .. } = queueing;
            writeln!(f, "slots      {busy_slots:.1} of {slots} for orders were busy on average: most of the waiting")?;
            writeln!(f, "           is for a slot, and meanwhile orders meet their cancels and net. The")?;
            writeln!(f, "           setting orders.limits.max_in_flight gives more slots.")?;
        }
        if let Some(quota) = &self.quota {
            write!(f, "{quota}")?;
        }
        if let Some(log) = &self.log {
            write!(f, "{log}")?;
        }
        let verdicts = &self.verdicts;
        let [delivered, conflated, netted, failed] =
            [verdicts.delivered, verdicts.conflated, verdicts.netted, verdicts.failed()].map(format::count);
        let [mean, max] = [verdicts.mean_seconds, verdicts.max_seconds].map(format::seconds);
        writeln!(f, "verdicts   {}: {delivered} delivered, {conflated} conflated,", format::count(verdicts.all()))?;
        writeln!(f, "           {netted} netted, {failed} failed;")?;
        writeln!(f, "           after {mean} on average (netted ones included), {max} at most")?;
        if verdicts.failed() > 0 {
            self.failures(f)?;
        }
        Ok(())
    }

    fn failures(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdicts = &self.verdicts;
        let [orders, cancels, amends] =
            [verdicts.failed_orders, verdicts.failed_cancels, verdicts.failed_amends].map(format::count);
        writeln!(f, "failed     {orders} orders, {cancels} cancels, {amends} moved stops:")?;
        for (reason, count) in &self.rejections {
            writeln!(f, "           {:>6} {reason}", format::count(*count))?;
        }
        let others = verdicts.failed().saturating_sub(self.rejections.values().sum());
        if others > 0 {
            writeln!(f, "           {:>6} withdrawn, or not settled at the end", format::count(others))?;
        }
        if self.rejections.contains_key(NO_SUCH_ORDER) {
            writeln!(f, "           (No such order: a cancel or moved stop found its order gone from the")?;
            writeln!(f, "           venue, since it had been filled, refused or canceled meanwhile.)")?;
        }
        if self.rejections.keys().any(|reason| reason != NO_SUCH_ORDER) {
            writeln!(f, "           (Other reasons may be made up: the paper venue rejects some entries")?;
            writeln!(f, "           and exits at random, as venue.reject_percent says.)")?;
        }
        Ok(())
    }

    fn portfolio(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let portfolio = &self.portfolio;
        let [fills, held] = [portfolio.fills, portfolio.held as u64].map(format::count);
        let began = if self.log.is_some() { "the first run began" } else { "it began" };
        writeln!(f, "portfolio  {} at the end; {began} with {} in cash", portfolio.end, portfolio.start)?;
        writeln!(f, "           and no positions; {fills} orders filled, {held} positions are held")
    }
}

/// Writes what the last row of the second table is.
fn alone(f: &mut fmt::Formatter<'_>, unbatched: &Unbatched) -> fmt::Result {
    let [prices, orders] = [&unbatched.prices, &unbatched.orders].map(|cost| format::count(cost.operations));
    let trades = unbatched.trades.as_ref().map_or("no".to_owned(), |cost| format::count(cost.operations));
    writeln!(f, "  An op alone: after the run its first {prices} prices, {orders} orders and {trades}")?;
    writeln!(f, "  trades were sent again, each alone in a call to a sink of its kind. Times of")?;
    writeln!(f, "  prices and trades may differ severalfold from run to run, the numbers of")?;
    writeln!(f, "  calls do not; an order takes as long as the paper venue waits.")?;
    if unbatched.trades.is_none() {
        writeln!(f, "  (The app makes no scratch table on a PostgreSQL server, which trades need.)")?;
    }
    Ok(())
}
