//! [`Wal`]: the write-ahead log of a file. SQLite can't reset it while another connection reads an older state, so that it grows.
//! The writer cuts it down when it may, and names the reader when it may not.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rusqlite::Connection;
use tracing::warn;

use super::open::{BUSY, beside};

/// The WAL is looked at from this size on: some times what SQLite moves into the database by itself.
const LARGE: u64 = 16 << 20;

/// The pause between two looks, which cost a checkpoint.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// The pause between two warnings of a reader that stays.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// Locks of readers in the shared memory of a WAL, by SQLite's format of it: five marks behind three other locks at byte 120.
const READ_LOCKS: std::ops::RangeInclusive<u64> = 123..=127;

pub(super) struct Wal {
    path: PathBuf,
    shared_memory: PathBuf,
    large: u64,
    looked_at: Option<Instant>,
    /// Whether a reader kept it when it was last looked at.
    is_kept: bool,
    warned_at: Option<Instant>,
}

impl Wal {
    pub(super) fn new(database: &Path, max_bytes: u64) -> Self {
        let (path, shared_memory) = (beside(database, "-wal"), beside(database, "-shm"));
        Self { path, shared_memory, large: LARGE.min(max_bytes / 4), looked_at: None, is_kept: false, warned_at: None }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// When to look again, if nothing is written meanwhile.
    pub(super) fn look_again(&self) -> Option<Duration> {
        self.is_kept.then_some(LOOK_EVERY)
    }

    /// Cuts the WAL down if it is large and no reader keeps it. While the writer is busy, it is looked at now and then only.
    pub(super) fn look(&mut self, connection: &Connection, is_busy: bool) {
        let bytes = fs::metadata(&self.path).map_or(0, |wal| wal.len());
        if bytes < self.large {
            self.is_kept = false;
            return;
        }
        if is_busy && self.looked_at.is_some_and(|at| at.elapsed() < LOOK_EVERY) {
            return;
        }
        self.looked_at = Some(Instant::now());
        self.is_kept = truncate(connection).unwrap_or(true);
        if self.is_kept && self.warned_at.is_none_or(|at| at.elapsed() >= WARN_EVERY) {
            self.warned_at = Some(Instant::now());
            let readers = readers(&self.shared_memory).join(", ");
            warn!(path = %self.path.display(), bytes, readers, "a reader keeps the WAL of a log from being reset");
        }
        if !self.is_kept {
            self.warned_at = None;
        }
    }
}

/// Moves the WAL into the database and empties it. Returns whether a reader kept it from that.
fn truncate(connection: &Connection) -> rusqlite::Result<bool> {
    connection.busy_timeout(Duration::ZERO)?;
    let is_busy = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0));
    connection.busy_timeout(BUSY)?;
    is_busy
}

/// The processes that read a WAL, as far as the kernel tells.
fn readers(shared_memory: &Path) -> Vec<String> {
    #[cfg(unix)]
    let inode = {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(shared_memory).map(|file| file.ino()).ok()
    };
    #[cfg(not(unix))]
    let inode = fs::metadata(shared_memory).ok().and(None::<u64>);
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    let pids = inode.map(|inode| lock_owners(&locks, inode)).unwrap_or_default();
    // A reader in this process shares the lock of the writer.
    pids.into_iter().filter(|pid| *pid != std::process::id()).map(process).collect()
}

/// The name of a process, as far as the kernel tells, and its number.
pub(super) fn process(pid: u32) -> String {
    match fs::read_to_string(format!("/proc/{pid}/comm")) {
        Ok(name) => format!("{} ({pid})", name.trim_end()),
        Err(_) => pid.to_string(),
    }
}

/// Owners of locks of readers on a file, by the kernel's table.
fn lock_owners(locks: &str, inode: u64) -> Vec<u32> {
    let owner = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, "POSIX", _, _, pid, file, start, ..] = fields[..] else { return None };
        let is_file = file.rsplit(':').next()?.parse() == Ok(inode);
        let is_reader = READ_LOCKS.contains(&start.parse().ok()?);
        if is_file && is_reader { pid.parse().ok() } else { None }
    };
    let mut owners: Vec<u32> = locks.lines().filter_map(owner).collect();
    owners.sort_unstable();
    owners.dedup();
    owners
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owners_of_read_locks_are_found() {
        let locks = "1: POSIX  ADVISORY  READ  4711 08:01:55 124 124\n\
                     2: POSIX  ADVISORY  READ  4712 08:01:55 128 128\n\
                     3: POSIX  ADVISORY  READ  4711 08:01:55 125 125\n\
                     3: -> POSIX  ADVISORY  WRITE 4715 08:01:55 123 123\n\
                     4: FLOCK  ADVISORY  WRITE 4713 08:01:55 0 EOF\n\
                     5: POSIX  ADVISORY  READ  4714 08:01:56 124 124";
        assert_eq!(lock_owners(locks, 55), [4711]);
        assert_eq!(lock_owners(locks, 7), [] as [u32; 0]);
    }
}
