//! [`LogUse`]: what an earlier run had left in the log of orders, what became of it, and what this run leaves. `notes` puts it into
//! words.

use std::fmt;

use roundlot::durable;
use serde::Serialize;

use crate::{
    bot::{recovery::Recovered, settings::OrdersLog},
    demo::{format, progress::Progress},
};

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LogUse {
    pub file: String,
    #[serde(flatten)]
    pub found: Recovered,
    /// Number of the recovered ops that were outdated before this run began to trade.
    pub expired_while_away: u64,
    /// Number of ops whose end nobody knows, as the venue gave no answer that tells.
    pub in_doubt: u64,
    /// Number of ops that wait for the next run.
    pub left: u64,
    /// Number of transactions of this run.
    pub commits: u64,
    pub bytes: u64,
}

impl LogUse {
    /// `None` for a run without a log.
    pub fn new(log: Option<&OrdersLog>, found: Option<Recovered>, end: Option<&durable::Stats>) -> Option<Self> {
        let (log, found, end) = (log?, found.unwrap_or_default(), end?);
        Some(Self {
            file: log.path.display().to_string(),
            found,
            expired_while_away: found.recovered_ends.expired,
            in_doubt: end.outcomes.in_doubt,
            left: end.waiting + end.in_flight,
            commits: end.commits,
            bytes: end.log_bytes,
        })
    }
}

impl fmt::Display for LogUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, found, expired_while_away, in_doubt, left, .. } = self;
        let [recovered, doubtful, expired, in_doubt, left] =
            [found.recovered, found.recovered_in_doubt, *expired_while_away, *in_doubt, *left].map(format::count);
        writeln!(f, "log        {recovered} orders and cancels of earlier runs were recovered from")?;
        writeln!(f, "           {file}: {doubtful} may have been sent before,")?;
        writeln!(f, "           {expired} had expired while the app was away; {in_doubt} ended in doubt,")?;
        writeln!(f, "           {left} wait for the next run")
    }
}

/// Says what was recovered, if anything was.
pub fn say_recovered(found: Option<&Recovered>, progress: &Progress) {
    let Some(found) = found.filter(|found| found.recovered > 0 || found.paused) else { return };
    let [recovered, doubtful] = [found.recovered, found.recovered_in_doubt].map(format::count);
    progress.say(&format!("recovered  {recovered} operations from the log, {doubtful} of them in doubt"));
    if found.paused {
        progress.say("orders were paused, and still are: they wait until they are resumed on the page");
    } else {
        progress.say(&format!("           {}", format::outcomes(&found.recovered_ends)));
    }
}
