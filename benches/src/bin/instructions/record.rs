//! The record of instructions per op: in comes `benches/instructions.toml`, out goes a verdict on a new count.

use std::{collections::BTreeMap, fmt, fs};

use roundlot_bench::{Error, machine};
use serde::{Deserialize, Serialize};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/instructions.toml");

/// What a count may differ by. Seeds of hash tables and addresses make for half a percent.
pub(crate) const MARGIN_PERCENT: f64 = 8.0;

const HEAD: &str = "\
# Instructions per op of the hot paths under callgrind, as recorded by
#     cargo run --release -p roundlot-bench --bin instructions -- --record
# tests/run.sh compares: 8 % more fails, 8 % less asks for a new record.
";

/// What was counted when.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    pub(crate) compiler: String,
    instructions_per_op: BTreeMap<String, f64>,
    /// The counts at commit a1255d6, before the source was put in order: what a later one is held against as well.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    at_a1255d6: BTreeMap<String, f64>,
}

/// How a count compares with the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Same,
    Better,
    Worse,
    New,
}

impl Record {
    /// What is on record; nothing if there is no file.
    pub(crate) fn read() -> Result<Self, Error> {
        match fs::read_to_string(FILE) {
            Ok(text) => Ok(toml::from_str(&text)?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn of_this_compiler() -> Self {
        Self { compiler: machine::said_by("rustc", "--version"), ..Self::default() }
    }

    pub(crate) fn note(&mut self, path: &str, count: f64) {
        self.instructions_per_op.insert(path.into(), (count * 10.0).round() / 10.0);
    }

    pub(crate) fn count(&self, path: &str) -> Option<f64> {
        self.instructions_per_op.get(path).copied()
    }

    /// Keeps what was not counted this time.
    pub(crate) fn keep_from(mut self, old: &Self) -> Self {
        self.at_a1255d6 = old.at_a1255d6.clone();
        for (path, count) in &old.instructions_per_op {
            self.instructions_per_op.entry(path.clone()).or_insert(*count);
        }
        self
    }

    pub(crate) fn write(&self) -> Result<(), Error> {
        Ok(fs::write(FILE, format!("{HEAD}{}", toml::to_string(self)?))?)
    }

    pub(crate) fn judge(&self, path: &str, count: f64) -> Verdict {
        let margin = MARGIN_PERCENT / 100.0;
        match self.count(path) {
            None => Verdict::New,
            Some(recorded) if count > recorded * (1.0 + margin) => Verdict::Worse,
            Some(recorded) if count < recorded * (1.0 - margin) => Verdict::Better,
            Some(_) => Verdict::Same,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Same => "",
            Self::Better => "better: please --record",
            Self::Worse => "worse",
            Self::New => "not on record: please --record",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_margin_holds_both_ways() {
        let mut record = Record::default();
        record.note("send", 100.0);
        let judged = [107.9, 108.1, 92.1, 91.9].map(|count| record.judge("send", count));
        assert_eq!(judged, [Verdict::Same, Verdict::Worse, Verdict::Same, Verdict::Better]);
        assert_eq!(record.judge("cut", 1.0), Verdict::New);
    }

    #[test]
    fn what_was_not_counted_stays_on_record() {
        let (mut old, mut new) = (Record::default(), Record::default());
        old.note("send", 100.0);
        old.note("cut", 50.0);
        new.note("send", 90.0);
        let kept = new.keep_from(&old);
        assert_eq!((kept.count("send"), kept.count("cut")), (Some(90.0), Some(50.0)));
    }
}
