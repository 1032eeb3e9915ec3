//! The journal of the paper venue: one line of JSON for each change of its orders, written before the change is answered.
//! `ledger` writes it, and reads it at the start.
//!
//! The file survives the end of the program, in whatever way, and not a loss of power: nothing is synced. The file grows for as
//! long as it is used, and may be removed when the venue has ended.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Write},
    path::Path,
};

use roundlot::market::{ClientOrderId, Symbol, TradeOp};
use serde::{Deserialize, Serialize};

use super::book::{Fill, VenueOrderId};
use crate::bot::Error;

/// A change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// An op was executed.
    Accepted {
        op: TradeOp,
        id: VenueOrderId,
    },
    /// An order was refused. Refused cancels and amends change nothing, and have no entry.
    Refused {
        symbol: Symbol,
        order_id: ClientOrderId,
        reason: String,
    },
    Filled(Fill),
    /// A resting order ended because it reduced no further.
    Ended {
        symbol: Symbol,
        order_id: ClientOrderId,
    },
}

#[derive(Debug)]
pub struct Journal {
    file: File,
    /// Lines of the changes that are not written yet.
    lines: Vec<u8>,
}

impl Journal {
    /// Opens the file, or creates it, and returns what is in it. A line without an end was being written when the program died:
    /// its change was never answered, and it is cut off.
    pub fn open(path: &Path) -> Result<(Self, Vec<Entry>), Error> {
        let failed = |error: &dyn std::fmt::Display| Error::from(format!("journal {}: {error}", path.display()));
        let opened = OpenOptions::new().read(true).append(true).create(true).open(path);
        let mut file = opened.map_err(|error| failed(&error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(failed(&"another venue has it")),
            Err(TryLockError::Error(error)) => return Err(failed(&error)),
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|error| failed(&error))?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        file.set_len(whole as u64).map_err(|error| failed(&error))?;
        let lines = bytes[..whole].split_inclusive(|byte| *byte == b'\n');
        let entries = lines.zip(1..).map(|(line, number)| {
            serde_json::from_slice(line).map_err(|error| failed(&format_args!("line {number}: {error}")))
        });
        let entries = entries.collect::<Result<_, _>>()?;
        Ok((Self { file, lines: Vec::new() }, entries))
    }

    /// Adds a change, to be written.
    pub fn add(&mut self, entry: &Entry) -> Result<(), Error> {
        serde_json::to_writer(&mut self.lines, entry)?;
        self.lines.push(b'\n');
        Ok(())
    }

    /// Writes what was added.
    pub fn write(&mut self) -> Result<(), Error> {
        self.file.write_all(&self.lines)?;
        self.lines.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_line_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("it.journal");
        let entry = |id: u64| Entry::Ended { symbol: Symbol::from_static("BTC"), order_id: id.into() };
        let (mut journal, entries) = Journal::open(&path).unwrap();
        assert_eq!(entries, []);
        journal.add(&entry(1)).unwrap();
        journal.write().unwrap();
        assert!(Journal::open(&path).unwrap_err().to_string().ends_with("another venue has it"));
        drop(journal);
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"ended\":{\"sym").unwrap();
        let (mut journal, entries) = Journal::open(&path).unwrap();
        assert_eq!(entries, [entry(1)]);
        journal.add(&entry(2)).unwrap();
        journal.write().unwrap();
        drop(journal);
        assert_eq!(Journal::open(&path).unwrap().1, [entry(1), entry(2)]);
    }
}
