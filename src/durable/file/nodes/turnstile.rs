//! [`Turnstile`]: whose turn it is to write. SQLite's own lock has no queue: a process that writes without a pause would take it again
//! before one that waits has looked. A process that waits here holds the lock `next` until it has the lock `turn`, so that the one
//! whose turn it was can't come in between.

use std::{
    fs::{self, File},
    io,
    path::Path,
    sync::Arc,
};

use super::{Nodes, owner_only};

pub(in super::super) struct Turnstile {
    next: File,
    turn: File,
    nodes: Arc<Nodes>,
}

/// A turn, until it is dropped.
pub(in super::super) struct Turn<'a>(&'a File);

impl Turnstile {
    pub(super) fn open(folder: &Path, nodes: Arc<Nodes>) -> io::Result<Self> {
        Ok(Self { next: owner_only(&folder.join("next"))?, turn: owner_only(&folder.join("turn"))?, nodes })
    }

    /// Blocks until it is this process's turn. A warning names the process that has it if that takes long.
    pub(in super::super) fn enter(&self) -> io::Result<Turn<'_>> {
        self.nodes.waits(true);
        let entered = self.next.lock().and_then(|()| {
            let turn = self.turn.lock();
            self.next.unlock().and(turn)
        });
        self.nodes.waits(false);
        entered.map(|()| Turn(&self.turn))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // The lock ends with the process in any case.
        let _ = self.0.unlock();
    }
}

/// The processes whose turn it is, as far as the kernel tells.
pub(super) fn holders(folder: &Path) -> Vec<String> {
    let inode = fs::metadata(folder.join("turn")).ok().and_then(|file| inode(&file));
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    inode
        .map(|inode| lock_owners(&locks, inode))
        .unwrap_or_default()
        .into_iter()
        .map(super::super::wal::process)
        .collect()
}

#[cfg(unix)]
fn inode(file: &fs::Metadata) -> Option<u64> {
    Some(std::os::unix::fs::MetadataExt::ino(file))
}

#[cfg(not(unix))]
fn inode(_file: &fs::Metadata) -> Option<u64> {
    None
}

/// The owners of whole-file locks on a file, by the kernel's table. Those that wait are marked with an arrow.
fn lock_owners(locks: &str, inode: u64) -> Vec<u32> {
    let owner = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, "FLOCK", _, _, pid, file, ..] = fields[..] else { return None };
        if file.rsplit(':').next()?.parse() == Ok(inode) { pid.parse().ok() } else { None }
    };
    locks.lines().filter_map(owner).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_of_the_turn_is_found() {
        let locks = "1: FLOCK  ADVISORY  WRITE 4711 08:01:55 0 EOF\n\
                     1: -> FLOCK  ADVISORY  WRITE 4712 08:01:55 0 EOF\n\
                     2: POSIX  ADVISORY  WRITE 4713 08:01:55 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 4714 08:01:56 0 EOF";
        assert_eq!(lock_owners(locks, 55), [4711]);
    }
}
