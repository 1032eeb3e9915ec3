//! [`Place`]: where a database and its log were when it was opened. With a log, SQLite does not notice that they were
//! moved or deleted, and goes on writing to files that vanish when the program ends. The writer checks before and after
//! each transaction.
//!
//! The files are never opened for this: closing one would release the locks that SQLite holds on it.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    /// Identities of the database and of its log, if it has one. Empty in memory, and where files have no identity;
    /// there, an open file cannot be moved either.
    files: Vec<(PathBuf, Identity)>,
}

/// The device and the number of a file on it.
type Identity = (u64, u64);

impl Place {
    /// Finds the database that was opened at `path` and has been read from, which creates its log.
    pub(super) fn of(path: &Path) -> Self {
        // SQLite uses the absolute path without links.
        let files = fs::canonicalize(path).into_iter().flat_map(|database| {
            let mut log = OsString::from(&database);
            log.push("-wal");
            [database, log.into()]
        });
        let files = files.filter_map(|file| identity(&file).map(|identity| (file, identity)));
        Self { path: path.into(), files: files.collect() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether one of the files was replaced or removed.
    pub(super) fn is_left(&self) -> bool {
        self.files.iter().any(|(file, known)| identity(file) != Some(*known))
    }
}

#[cfg(unix)]
fn identity(path: &Path) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

#[cfg(not(unix))]
fn identity(_path: &Path) -> Option<Identity> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(unix)]
    fn a_moved_or_replaced_file_is_noticed() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, other) = (folder.path().join("a"), folder.path().join("b"));
        fs::write(&path, "1").expect("a file");
        let place = Place::of(&path);
        fs::write(&path, "2").expect("the same file");
        assert!(!place.is_left());
        fs::rename(&path, &other).expect("moved");
        assert!(place.is_left());
        fs::write(&path, "3").expect("another file");
        assert!(place.is_left());
        fs::rename(&other, &path).expect("moved back");
        assert!(!place.is_left());
        fs::remove_file(&path).expect("removed");
        assert!(place.is_left());
    }

    #[test]
    #[cfg(unix)]
    fn a_deleted_log_is_noticed() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, log) = (folder.path().join("a"), folder.path().join("a-wal"));
        fs::write(&path, "1").expect("a file");
        fs::write(&log, "2").expect("its log");
        let place = Place::of(&path);
        assert!(!place.is_left());
        fs::remove_file(&log).expect("removed");
        assert!(place.is_left());
        assert!(!Place::of(&path).is_left(), "there is none to leave");
    }

    #[test]
    fn a_database_in_memory_never_moves() {
        assert!(!Place::of(Path::new(":memory:")).is_left());
    }
}
