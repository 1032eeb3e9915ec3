//! Recovers what a cut has left, and judges it by the facts of before.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    path::Path,
    time::Duration,
};

use roundlot::{
    End,
    durable::{Handle, JoinError, OpStatus},
};

use crate::{
    disk::Image,
    facts::{Facts, Journal, To},
    record::{self, Event, Names},
    work::{Logs, OF_KEY, Order, database, folder, is_refused, kind},
};

/// The longest time of a recovery: a thousand times what it takes.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A verb of a handle has failed.
pub(crate) const LEFT: &str = "it has left";

/// A wrong that was found after a cut.
#[derive(Debug)]
pub(crate) enum Wrong {
    /// The log was refused.
    Refused(String),
    /// The log was joined, and never ended its ops.
    Held,
    /// The log said something that is not true.
    Untrue(String),
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(why) => write!(f, "refused: {why}"),
            Self::Held => f.write_str("its ops do not end"),
            Self::Untrue(why) => f.write_str(why),
        }
    }
}

/// The recovered logs.
pub(crate) struct Recovered {
    /// The recovery's own writes.
    pub(crate) events: Vec<Event>,
    /// How each confirmed op has ended.
    pub(crate) kinds: BTreeMap<(To, u64), &'static str>,
}

/// Recovers an image in a folder of its own.
pub(crate) async fn recover(image: &Image, facts: &Facts) -> Result<Recovered, Wrong> {
    let folder = folder();
    let folder = folder.path();
    fill(folder, image);
    let recovered = tokio::time::timeout(TIMEOUT, judge(folder, facts)).await;
    let events = record::read(folder);
    let _ = fs::write(folder.join("control"), "end");
    let kinds = recovered.unwrap_or(Err(Wrong::Held))?;
    Ok(Recovered { events, kinds })
}

/// Puts files into a folder before anything of it is recorded.
fn fill(folder: &Path, image: &Image) {
    let hidden = folder.with_extension("hidden");
    let moved = fs::rename(folder, &hidden).and_then(|()| {
        image.iter().try_for_each(|(name, bytes)| fs::write(hidden.join(name), bytes))?;
        fs::rename(&hidden, folder)
    });
    moved.unwrap_or_else(|error| panic!("no files: {error}"));
}

async fn judge(folder: &Path, facts: &Facts) -> Result<BTreeMap<(To, u64), &'static str>, Wrong> {
    let journal = Journal::open(folder);
    let logs = Logs::join(folder, &journal).await.map_err(|error: JoinError| Wrong::Refused(error.to_string()))?;
    let judged = judge_joined(folder, &logs, facts).await;
    logs.leave().await;
    judged.map_err(Wrong::Untrue)
}

async fn judge_joined(folder: &Path, logs: &Logs, facts: &Facts) -> Result<BTreeMap<(To, u64), &'static str>, String> {
    let (orders, rows) = (logs.orders.handle(), logs.rows.handle());
    let left = |_| LEFT.to_owned();
    if facts.paused && !orders.stats().paused {
        return Err("the pause is forgotten".to_owned());
    }
    Journal::open(folder).tell(format_args!("resuming"));
    orders.resume().await.map_err(left)?;
    orders.flush().await.map_err(left)?;
    rows.flush().await.map_err(left)?;
    let arrived = arrivals(folder, facts)?;
    let found = if facts.trusts_rows { rows_of(folder)? } else { BTreeSet::new() };
    let mut kinds = BTreeMap::new();
    for ((to, number), id) in &facts.confirmed {
        let (times, status) = match to {
            To::Orders => (arrived.contains(number), status(&orders, id).await?),
            To::Rows => (found.contains(number), status(&rows, id).await?),
        };
        let what = format!("op {number} of {} is {status}", to.name());
        match status {
            "delivered" | "refused" if *to == To::Rows && !facts.trusts_rows => {}
            "delivered" if !times => return Err(format!("{what}, and did not arrive")),
            "refused" if times => return Err(format!("{what}, and arrived")),
            "in_doubt" if *to == To::Rows => return Err(what),
            // Terms that end again and again before anything is settled blame the op that they wrote alone.
            "exhausted" if *to == To::Rows && facts.losses > 0 && !times => {}
            "delivered" | "refused" | "in_doubt" => {}
            _ => return Err(what),
        }
        let told = facts.ended.get(&(*to, *number)).filter(|told| *told != "other");
        if told.is_some_and(|told| told != status) {
            return Err(format!("{what}, and was told to be {told:?}"));
        }
        kinds.insert((*to, *number), status);
    }
    judge_letters(logs, facts).await?;
    Ok(kinds)
}

/// The numbers of orders that have arrived before and after the cut, each once and in the order of its key.
fn arrivals(folder: &Path, facts: &Facts) -> Result<BTreeSet<u64>, String> {
    let (mut all, mut names) = (facts.clone(), Names::default());
    for event in record::read(folder) {
        names.learn(&event);
        names.facts(&event).iter().for_each(|fact| all.learn(fact));
    }
    let (mut seen, mut last) = (BTreeSet::new(), BTreeMap::new());
    for number in all.arrived {
        if !seen.insert(number) {
            return Err(format!("order {number} has arrived twice"));
        }
        if is_refused(number) {
            return Err(format!("order {number} was refused, and has arrived"));
        }
        if last.insert(number / OF_KEY, number).is_some_and(|before| before > number) {
            return Err(format!("order {number} has arrived after a newer one"));
        }
    }
    Ok(seen)
}

/// The numbers in the table of the transactional sink, each once.
fn rows_of(folder: &Path) -> Result<BTreeSet<u64>, String> {
    let numbers = || -> rusqlite::Result<Vec<i64>> {
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        let reader = rusqlite::Connection::open_with_flags(database(folder), flags)?;
        reader.prepare("SELECT number FROM rows")?.query_map([], |row| row.get(0))?.collect()
    };
    let numbers = numbers().or_else(|error| match error {
        // The table is made with the first row.
        rusqlite::Error::SqliteFailure(_, Some(why)) if why.contains("no such table") => Ok(Vec::new()),
        error => Err(error.to_string()),
    })?;
    let mut seen = BTreeSet::new();
    match numbers.into_iter().find(|number| !seen.insert(*number as u64)) {
        Some(number) => Err(format!("row {number} is there twice")),
        None => Ok(seen),
    }
}

async fn status(desk: &Handle<Order>, id: &str) -> Result<&'static str, String> {
    let id = id.parse().map_err(|_| format!("{id} is no id"))?;
    Ok(match desk.outcome(id).await.map_err(|_| LEFT.to_owned())? {
        OpStatus::Ended(outcome) => match kind(&outcome.result) {
            "other" => return Err(format!("{id} has ended: {outcome:?}")),
            kind => kind,
        },
        OpStatus::NeverAccepted => "never accepted",
        OpStatus::Forgotten => "forgotten",
        OpStatus::Waiting => "waiting",
        _ => "not yet known",
    })
}

/// Whether refused orders have their letters, unless a caller has dealt with them.
async fn judge_letters(logs: &Logs, facts: &Facts) -> Result<(), String> {
    let found = logs.orders.dead_letters().list(1000).await.map_err(|_| LEFT.to_owned())?;
    let found: BTreeSet<String> = found.iter().map(|(id, _)| id.to_string()).collect();
    if let Some(id) = facts.discarded.iter().find(|id| found.contains(*id)) {
        return Err(format!("the letter {id} was discarded, and is there"));
    }
    let desk = logs.orders.handle();
    for ((to, number), id) in &facts.confirmed {
        if *to != To::Orders || facts.touched.contains(id) || found.contains(id) {
            continue;
        }
        let id = id.parse().map_err(|_| format!("{id} is no id"))?;
        let status = desk.outcome(id).await.map_err(|_| LEFT.to_owned())?;
        if matches!(status, OpStatus::Ended(outcome) if outcome.end == End::Refused || outcome.end == End::InDoubt) {
            return Err(format!("order {number} has no letter"));
        }
    }
    for id in &facts.requeued {
        let status = status(&desk, id).await?;
        if !["delivered", "refused", "in_doubt"].contains(&status) {
            return Err(format!("the requeued order {id} is {status}"));
        }
    }
    Ok(())
}
