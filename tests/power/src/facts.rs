//! [`Journal`]: the file in which a run tells what it knows for certain; [`Facts`]: what it says up to a cut. The library writes
//! none of it, and the disk never loses it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Arguments,
    fs::{File, OpenOptions},
    io::Write,
    path::Path,
    sync::Arc,
};

use crate::record::JOURNAL;

#[derive(Debug, Clone)]
pub(crate) struct Journal(Arc<File>);

impl Journal {
    pub(crate) fn open(folder: &Path) -> Self {
        let file = OpenOptions::new().create(true).append(true).open(folder.join(JOURNAL));
        Self(Arc::new(file.unwrap_or_else(|error| panic!("no journal: {error}"))))
    }

    /// Tells a fact, in a single write.
    pub(crate) fn tell(&self, fact: Arguments<'_>) {
        let line = format!("{fact}\n");
        (&*self.0).write_all(line.as_bytes()).unwrap_or_else(|error| panic!("no fact: {error}"));
    }
}

/// The log that ops go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum To {
    /// The sink is neither transactional nor idempotent.
    Orders,
    /// The sink is a table in the log's file.
    Rows,
}

impl To {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Orders => "orders",
            Self::Rows => "rows",
        }
    }

    fn of(name: &str) -> Self {
        if name == "rows" { Self::Rows } else { Self::Orders }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Facts {
    /// The ids of ops that `submit` has returned.
    pub(crate) confirmed: BTreeMap<(To, u64), String>,
    /// Outcomes that callers were told.
    pub(crate) ended: BTreeMap<(To, u64), String>,
    /// Ops that arrived at the sink of orders, in order.
    pub(crate) arrived: Vec<u64>,
    /// Whether `pause` has returned and `resume` was not called.
    pub(crate) paused: bool,
    /// Dead letters that a caller has begun to discard or requeue, and those of which that was confirmed.
    pub(crate) touched: BTreeSet<String>,
    pub(crate) discarded: BTreeSet<String>,
    /// Ids under which dead letters were sent again.
    pub(crate) requeued: BTreeSet<String>,
    /// Recoveries that were cut off.
    pub(crate) losses: usize,
    /// Whether the rows of the transactional sink count.
    pub(crate) trusts_rows: bool,
}

impl Default for Facts {
    fn default() -> Self {
        Self {
            confirmed: BTreeMap::new(),
            ended: BTreeMap::new(),
            arrived: Vec::new(),
            paused: false,
            touched: BTreeSet::new(),
            discarded: BTreeSet::new(),
            requeued: BTreeSet::new(),
            losses: 0,
            trusts_rows: true,
        }
    }
}

impl Facts {
    pub(crate) fn learn(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        let op = |number: &str| (To::of(words[1]), number.parse().unwrap_or(u64::MAX));
        match words[..] {
            ["confirmed", _, number, id] => drop(self.confirmed.insert(op(number), id.to_owned())),
            ["ended", _, number, ..] => drop(self.ended.insert(op(number), words[3..].join(" "))),
            ["arrived", ..] => self.arrived.extend(words[1..].iter().filter_map(|number| number.parse::<u64>().ok())),
            ["paused"] => self.paused = true,
            ["resuming"] => self.paused = false,
            ["touching", id] => drop(self.touched.insert(id.to_owned())),
            ["discarded", id] => drop(self.discarded.insert(id.to_owned())),
            ["requeued", id] => drop(self.requeued.insert(id.to_owned())),
            _ => panic!("no fact: {line}"),
        }
    }
}
