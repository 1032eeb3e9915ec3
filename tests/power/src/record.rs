//! [`Event`]: what the shim has recorded of one folder. The format is told at the top of `shim.c`.

use std::{collections::BTreeMap, fs, path::Path};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    Create {
        inode: u64,
        name: String,
    },
    /// A file that was there is opened.
    Open {
        inode: u64,
        name: String,
    },
    Unlink {
        name: String,
    },
    Write {
        inode: u64,
        at: u64,
        bytes: Vec<u8>,
    },
    Truncate {
        inode: u64,
        size: u64,
    },
    Sync {
        inode: u64,
    },
    FailedSync {
        inode: u64,
    },
    SyncFolder,
}

/// The file of facts, which the disk never loses.
pub(crate) const JOURNAL: &str = "journal";

/// Reads the record of a folder.
pub(crate) fn read(folder: &Path) -> Vec<Event> {
    let bytes = fs::read(folder.join("record")).unwrap_or_default();
    let (mut events, mut rest) = (Vec::new(), &bytes[..]);
    while let Some((event, behind)) = event(rest) {
        events.push(event);
        rest = behind;
    }
    assert!(rest.is_empty(), "a record that ends in an event");
    events
}

fn event(bytes: &[u8]) -> Option<(Event, &[u8])> {
    let (kind, rest) = bytes.split_first()?;
    let (inode, rest) = rest.split_first_chunk::<8>()?;
    let (at, rest) = rest.split_first_chunk::<8>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (data, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    let (inode, at) = (u64::from_le_bytes(*inode), u64::from_le_bytes(*at));
    let name = || String::from_utf8_lossy(data).into_owned();
    let event = match kind {
        b'C' => Event::Create { inode, name: name() },
        b'O' => Event::Open { inode, name: name() },
        b'U' => Event::Unlink { name: name() },
        b'W' => Event::Write { inode, at, bytes: data.to_vec() },
        b'T' => Event::Truncate { inode, size: at },
        b'S' => Event::Sync { inode },
        b'F' => Event::FailedSync { inode },
        b'D' => Event::SyncFolder,
        _ => return None,
    };
    Some((event, rest))
}

/// The names of inodes, as events introduce them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names(BTreeMap<u64, String>);

impl Names {
    pub(crate) fn learn(&mut self, event: &Event) {
        if let Event::Create { inode, name } | Event::Open { inode, name } = event {
            self.0.insert(*inode, name.clone());
        }
    }

    pub(crate) fn of(&self, inode: u64) -> &str {
        self.0.get(&inode).map_or("", String::as_str)
    }

    /// The lines that an event adds to the journal.
    pub(crate) fn facts(&self, event: &Event) -> Vec<String> {
        match event {
            Event::Write { inode, bytes, .. } if self.of(*inode) == JOURNAL => {
                String::from_utf8_lossy(bytes).lines().map(str::to_owned).collect()
            }
            _ => Vec::new(),
        }
    }
}
