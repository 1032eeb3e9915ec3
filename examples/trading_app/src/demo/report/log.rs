//! [`LogUse`]: what an earlier run had left in the log of orders, what became of it, which shards this run has led, and what it leaves.
//! `notes` puts it into words.

use std::fmt;

use roundlot::durable;
use serde::Serialize;

use crate::{
    bot::{assignment::Summary, settings::OrdersLog},
    demo::{format, progress::Progress},
};

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LogUse {
    pub file: String,
    /// Number of ops that waited in the log when this run began to lead their shard.
    pub recovered: u64,
    /// Number of them that may have been sent before.
    pub recovered_in_doubt: u64,
    /// Number of the recovered ops that were outdated before this run began to trade.
    pub expired_while_away: u64,
    /// Number of ops whose end nobody knows, as the venue gave no answer that tells.
    pub in_doubt: u64,
    /// Number of ops that wait for the next run, of the shards that this one led at its end.
    pub left: u64,
    /// Number of transactions of this run.
    pub commits: u64,
    pub bytes: u64,
    pub shards: u16,
    #[serde(flatten)]
    pub taken: Summary,
}

impl LogUse {
    /// `None` for a run without a log.
    pub fn new(log: Option<&OrdersLog>, taken: Summary, end: Option<&durable::Stats>) -> Option<Self> {
        let (log, end) = (log?, end?);
        Some(Self {
            file: log.place.to_string(),
            recovered: end.recovered,
            recovered_in_doubt: end.recovered_in_doubt,
            expired_while_away: taken.recovered_ends.expired,
            in_doubt: end.outcomes.in_doubt,
            left: end.waiting + end.in_flight,
            commits: end.commits,
            bytes: end.log_bytes,
            shards: log.shards,
            taken,
        })
    }
}

impl fmt::Display for LogUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, recovered, recovered_in_doubt, expired_while_away, in_doubt, left, shards, taken, .. } = self;
        let [recovered, doubtful, expired, in_doubt, left] =
            [*recovered, *recovered_in_doubt, *expired_while_away, *in_doubt, *left].map(format::count);
        writeln!(f, "log        {recovered} orders and cancels of earlier runs were recovered from")?;
        writeln!(f, "           {file}: {doubtful} may have been sent before,")?;
        writeln!(f, "           {expired} had expired while the app was away; {in_doubt} ended in doubt,")?;
        writeln!(f, "           {left} wait for the next run")?;
        if *shards == 1 {
            return Ok(());
        }
        let Summary { takeovers, lost, leads, .. } = taken;
        let symbols = leads.iter().map(|lead| lead.symbols.len()).sum::<usize>();
        writeln!(f, "shards     {} of {shards} were led at the end, with {symbols} symbols;", leads.len())?;
        writeln!(f, "           {takeovers} takeovers, {lost} shards given up; shard and term:")?;
        for part in leads.chunks(SHARDS_PER_LINE) {
            let part: Vec<String> = part.iter().map(|lead| format!("{} in {}", lead.shard, lead.term)).collect();
            writeln!(f, "           {}", part.join(", "))?;
        }
        Ok(())
    }
}

/// Shards and their terms on a line of 80 characters.
const SHARDS_PER_LINE: usize = 6;

/// Says what the log had of an earlier run, if anything.
pub fn say_found(found: Option<&durable::Stats>, progress: &Progress) {
    let Some(found) = found.filter(|found| found.recovered > 0 || found.paused) else { return };
    let [recovered, doubtful] = [found.recovered, found.recovered_in_doubt].map(format::count);
    progress.say(&format!("recovered  {recovered} operations from the log, {doubtful} of them in doubt"));
    if found.paused {
        progress.say("orders were paused, and still are: they wait until they are resumed on the page");
    }
}
