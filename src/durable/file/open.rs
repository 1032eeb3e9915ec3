//! Opens a file and checks it: its disk is of this machine, its tables are known, and it is as new as its mark. The writer calls
//! `open` when it starts, and `connect` again when a commit had no known result.

use std::{
    ffi::OsString,
    fs::{self, OpenOptions, TryLockError},
    io::{Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rusqlite::{Connection, OpenFlags, OptionalExtension};

use super::{
    File,
    guard::Guard,
    mark::Mark,
    nodes::Nodes,
    schema::{FORMAT, TABLES},
    verify::{has_all_or_none, verify},
    views::put_views,
    wal::process,
    wal_end::WalWatch,
    writer::MIN_BYTES,
};
use crate::durable::{error::JoinError, log::LogError};

/// How long another connection, such as a person's, may keep the writer from a lock.
pub(super) const BUSY: Duration = Duration::from_secs(5);

/// How long a process waits for another one that opens or closes the file: checks of a large file take some seconds.
const GATE: Duration = Duration::from_secs(30);

/// The pause between two looks at the gate.
const GATE_EVERY: Duration = Duration::from_millis(5);

/// Statements kept prepared: some 40 of the log, and those of sinks.
const STATEMENTS: usize = 128;

/// The WAL is cut down to this many bytes when it is reset.
const WAL_LIMIT: i64 = 64 << 20;

/// File systems of other machines, whose locks and syncs can't be relied on.
const NETWORK: [&str; 12] = [
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "9p",
    "afs",
    "ceph",
    "fuse.sshfs",
    "fuse.glusterfs",
    "lustre",
    "fuse.rclone",
];

/// A connection with its hooks.
pub(super) struct Connected {
    pub(super) connection: Connection,
    pub(super) guard: Guard,
    pub(super) watch: WalWatch,
}

/// A file that is ready to be written.
pub(super) struct OpenedFile {
    pub(super) connected: Connected,
    pub(super) nodes: Arc<Nodes>,
    /// Keeps other processes from opening it until it is dropped.
    pub(super) gate: fs::File,
    pub(super) mark: Mark,
    /// Transactions committed so far, by all processes.
    pub(super) commits: u64,
    /// Whether more commits were confirmed than the file has.
    pub(super) is_behind: bool,
}

/// The path without links, as far as its folder exists.
pub(super) fn absolute(path: &Path) -> Result<PathBuf, JoinError> {
    let error = |why: String| JoinError::Open(format!("{}: {why}", path.display()));
    let name = path.file_name().ok_or_else(|| error("it names no file".to_owned()))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = fs::canonicalize(folder).map_err(|cause| error(cause.to_string()))?;
    // A link to a file is followed, so that two names of one file are one.
    let named = folder.join(name);
    match fs::canonicalize(&named) {
        Ok(path) => Ok(path),
        Err(_) if named.is_symlink() => Err(error("it is a link to a file that is not there".to_owned())),
        Err(_) => Ok(named),
    }
}

/// The path of a file that belongs to the database.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// Waits until no other process opens or closes the file, and keeps others from it until the lock is dropped.
pub(super) fn gate(path: &Path) -> Result<fs::File, JoinError> {
    let failed = |error: &dyn std::fmt::Display| JoinError::Open(format!("{}: lock: {error}", path.display()));
    let lock = owner_only(&beside(path, "-lock")).map_err(|error| failed(&error))?;
    let until = Instant::now() + GATE;
    loop {
        match lock.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if Instant::now() < until => thread::sleep(GATE_EVERY),
            Err(TryLockError::WouldBlock) => {
                let owner = owner(&lock).map_or_else(String::new, |pid| format!(": {}", process(pid)));
                return Err(JoinError::InUse(format!("another process has locked {}{owner}", path.display())));
            }
            Err(TryLockError::Error(error)) => return Err(failed(&error)),
        }
    }
    // For the error of another process. It says less without it.
    let _ = (&lock).write_all(format!("{:>10}\n", std::process::id()).as_bytes());
    Ok(lock)
}

/// Opens a file. The first process that has it open checks it; one that comes later relies on that.
pub(super) fn open(path: &Path, file: &File) -> Result<OpenedFile, JoinError> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok();
    let kind = mounts.and_then(|mounts| file_system(&mounts, path));
    if let Some(kind) = kind.filter(|kind| NETWORK.contains(&&**kind)) {
        return Err(JoinError::Unsafe(format!("{} is on a network file system, {kind}", path.display())));
    }
    let gate = gate(path)?;
    let entered = Nodes::enter(path, file.is_exclusive);
    let nodes = entered.map_err(|error| JoinError::Open(format!("{}: {error}", path.display())))?;
    let opened = match nodes.stranger() {
        Some(pid) => Err(JoinError::InUse(format!("{} is open in {}", path.display(), process(pid)))),
        None => open_as(&nodes, gate, path, file),
    };
    if opened.is_err() {
        nodes.leave();
    }
    opened
}

fn open_as(nodes: &Arc<Nodes>, gate: fs::File, path: &Path, file: &File) -> Result<OpenedFile, JoinError> {
    let failed =
        |what: &str, error: &dyn std::fmt::Display| JoinError::Open(format!("{}: {what}: {error}", path.display()));
    let is_first = !nodes.has_peers();
    drop(owner_only(path).map_err(|error| failed("open", &error))?);
    let mark = Mark::open(&beside(path, "-mark")).map_err(|error| failed("mark", &error))?;
    let wal = beside(path, "-wal");
    // Before SQLite reads it, which ends the WAL where it is damaged.
    let damage = if is_first { mark.wal().damage(&wal).map_err(|error| failed("WAL", &error))? } else { None };
    if let Some(damage) = damage {
        let why = format!("{} is damaged: {damage}. The file needs a backup in its place", wal.display());
        return Err(JoinError::Unsafe(why));
    }
    let Connected { connection, guard, watch } =
        connect(path, file.max_bytes.max(MIN_BYTES), is_first).map_err(|error| failed("SQLite", &error))?;
    let meta = |key: &str| -> rusqlite::Result<Option<i64>> {
        let sql = "SELECT value FROM roundlot_meta WHERE key = ?1";
        connection.query_row(sql, [key], |row| row.get(0)).optional()
    };
    // SQLite itself does not sync the removal of the journal with which it has made the file.
    sync_folder(path).map_err(|error| failed("sync the folder", &error))?;
    let format = meta("format").map_err(|error| failed("SQLite", &error))?;
    if format != Some(FORMAT) {
        let why = format!("{} has format {}, and this version reads {FORMAT}", path.display(), format.unwrap_or(0));
        return Err(JoinError::Unsafe(why));
    }
    if is_first {
        verify(&connection).map_err(|error| match error {
            LogError::Damaged(why) => JoinError::Unsafe(format!("{} is damaged: {why}", path.display())),
            error => failed("SQLite", &error),
        })?;
    }
    let commits = meta("commits").map_err(|error| failed("SQLite", &error))?.unwrap_or(0) as u64;
    let is_behind = is_first && mark.commits() > commits;
    if is_behind && !file.is_restored {
        let why = format!(
            "{} ends at commit {commits}, and commit {} was confirmed: it is a backup, or has lost what was confirmed. \
             Ops that wait in it may have been sent since. File::restored puts them in doubt and goes on",
            path.display(),
            mark.commits(),
        );
        return Err(JoinError::Unsafe(why));
    }
    let connected = Connected { connection, guard, watch };
    Ok(OpenedFile { connected, nodes: Arc::clone(nodes), gate, mark, commits, is_behind })
}

/// Opens the database, with all settings that a connection has. The first process that has it open makes what is missing.
pub(super) fn connect(path: &Path, max_bytes: u64, is_first: bool) -> rusqlite::Result<Connected> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    if is_first {
        // The pragma matters when the file is made, and takes the write lock each time. A process that joins would not queue for that.
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    }
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update_and_check(None, "journal_size_limit", WAL_LIMIT, |row| row.get::<_, i64>(0))?;
    let page: i64 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
    let pages = i64::try_from(max_bytes).unwrap_or(i64::MAX) / page;
    // The most that SQLite itself allows.
    let pages = pages.min(i64::from(u32::MAX) - 1);
    connection.pragma_update_and_check(None, "max_page_count", pages, |row| row.get::<_, i64>(0))?;
    // A sync that failed may have left pages of the WAL in the memory of the kernel alone, where a later sync does not look for
    // them. Moved into the database, they are written again. A reader may keep the writer from it.
    if is_first {
        connection.busy_timeout(Duration::ZERO)?;
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        connection.busy_timeout(BUSY)?;
    }
    let watch = WalWatch::install(&mut connection)?;
    let is_foreign = format(&connection).is_ok_and(|format| format != Some(FORMAT));
    if !is_foreign && !has_all_or_none(&connection, TABLES)? {
        let corrupt = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
        let why = "a table of the log is missing or damaged".to_owned();
        return Err(rusqlite::Error::SqliteFailure(corrupt, Some(why)));
    }
    if is_first {
        connection.execute_batch(&format!("BEGIN IMMEDIATE; {TABLES} COMMIT"))?;
        let sql = "INSERT OR IGNORE INTO roundlot_meta VALUES ('format', ?1), ('commits', 0)";
        connection.execute(sql, [FORMAT])?;
        if !is_foreign {
            put_views(&connection)?;
        }
    }
    let guard = Guard::install(&mut connection)?;
    Ok(Connected { connection, guard, watch })
}

/// The format of the tables. An error if there are none.
fn format(connection: &Connection) -> rusqlite::Result<Option<i64>> {
    let sql = "SELECT value FROM roundlot_meta WHERE key = 'format'";
    connection.query_row(sql, [], |row| row.get(0)).optional()
}

/// The process that has written its number into a lock.
fn owner(lock: &fs::File) -> Option<u32> {
    let mut text = String::new();
    lock.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Opens a file, or makes one that its owner alone can read.
pub(super) fn owner_only(path: &Path) -> std::io::Result<fs::File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Syncs the names of a file and of those beside it.
fn sync_folder(path: &Path) -> std::io::Result<()> {
    #[cfg(unix)]
    if let Some(folder) = path.parent() {
        fs::File::open(folder)?.sync_all()?;
    }
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

/// The kind of the file system that holds a path, by the kernel's table of mounts.
fn file_system(mounts: &str, path: &Path) -> Option<String> {
    let found = mounts.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let at = before.split(' ').nth(4)?.replace("\\040", " ");
        path.starts_with(&at).then(|| (at.len(), after.split(' ').next().unwrap_or_default().to_owned()))
    });
    found.max_by_key(|(length, _)| *length).map(|(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a process joins while others write without a pause. Method: a write that does not end.
    #[test]
    fn a_process_that_joins_does_not_wait_for_a_write() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("orders.db");
        drop(owner_only(&path).unwrap());
        let first = connect(&path, MIN_BYTES, true).unwrap();
        first.connection.execute_batch("BEGIN IMMEDIATE; DELETE FROM roundlot_meta WHERE key = 'nothing'").unwrap();
        let second = connect(&path, MIN_BYTES, false).unwrap();
        assert_eq!(format(&second.connection).unwrap(), Some(FORMAT));
    }

    /// Goal: a table whose columns have changed is not used. Method: a space in the text that makes it becomes part of a name.
    #[test]
    fn a_damaged_table_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("orders.db");
        drop(owner_only(&path).unwrap());
        drop(connect(&path, MIN_BYTES, true).unwrap());
        let flip = "PRAGMA writable_schema = ON; \
            UPDATE sqlite_schema SET sql = replace(sql, 'sum INTEGER', 'sum' || char(160) || 'INTEGER') WHERE name = 'roundlot_frames'";
        Connection::open(&path).unwrap().execute_batch(flip).unwrap();
        let error = connect(&path, MIN_BYTES, true).err().unwrap();
        assert!(error.to_string().contains("a table of the log is missing or damaged"), "{error}");
    }

    #[test]
    fn the_file_system_of_a_path_is_that_of_the_nearest_mount() {
        let mounts = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
                      30 22 0:40 / /srv/share rw,relatime shared:1 - nfs4 host:/share rw\n\
                      31 22 0:41 / /srv/my\\040disk rw - xfs /dev/sdb rw";
        let kind = |path: &str| file_system(mounts, Path::new(path)).unwrap();
        assert_eq!(kind("/home/orders.db"), "ext4");
        assert_eq!(kind("/srv/share/orders.db"), "nfs4");
        assert_eq!(kind("/srv/shared/orders.db"), "ext4");
        assert_eq!(kind("/srv/my disk/orders.db"), "xfs");
    }
}
