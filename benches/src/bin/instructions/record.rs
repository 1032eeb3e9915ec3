//! The record of instructions per op, in `benches/instructions.toml`, and the verdict on a new count. `main` calls it.

use std::{collections::BTreeMap, fmt, fs};

use roundlot_bench::{Error, machine};
use serde::{Deserialize, Serialize};

/// The path of the record.
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/instructions.toml");

/// The margin around the record, in percent of the recorded count.
///
/// Seeds of hash tables and addresses alone change a count by half a percent.
pub(crate) const MARGIN_PERCENT: f64 = 8.0;

/// The comment at the head of the file.
const HEAD: &str = "\
# Instructions per op of the hot paths under callgrind, as recorded by
#     cargo run --release -p roundlot-bench --bin instructions -- --record
# tests/run.sh compares: 8 % more fails, 8 % less asks for a new record.
";

/// The counts on record, and the compiler that they belong to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    /// The version line of rustc.
    pub(crate) compiler: String,
    /// Instructions per op by path, rounded to a tenth.
    instructions_per_op: BTreeMap<String, f64>,
    /// The counts at commit a1255d6, before the source was restructured, for comparison by hand. No verdict uses them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    at_a1255d6: BTreeMap<String, f64>,
}

/// The verdict on a count, by comparison with the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Same,
    Better,
    Worse,
    New,
}

impl Record {
    /// Reads the record from its file. The record is empty if there is no file.
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

    /// Adds the old counts of all paths that were not counted this time.
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
    fn uncounted_paths_stay_on_record() {
        let (mut old, mut new) = (Record::default(), Record::default());
        old.note("send", 100.0);
        old.note("cut", 50.0);
        new.note("send", 90.0);
        let kept = new.keep_from(&old);
        assert_eq!((kept.count("send"), kept.count("cut")), (Some(90.0), Some(50.0)));
    }
}
