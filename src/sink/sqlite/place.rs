//! Where a database was when it was opened. With a log, SQLite does not notice that its file was moved or deleted, and goes
//! on writing to one that is gone when the program ends. The writer asks before and after each transaction.
//!
//! The file is never opened for this: closing it would release the locks that SQLite holds on it.

use std::path::{Path, PathBuf};

#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    /// None for a database in memory, and where files have no identity. There, an open file cannot be moved either.
    identity: Option<Identity>,
}

/// The device and the number of a file on it.
type Identity = (u64, u64);

impl Place {
    pub(super) fn of(path: &Path) -> Self {
        Self { path: path.into(), identity: identity(path) }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether another file, or none, is at the path by now.
    pub(super) fn is_left(&self) -> bool {
        self.identity.is_some() && identity(&self.path) != self.identity
    }
}

#[cfg(unix)]
fn identity(path: &Path) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

#[cfg(not(unix))]
fn identity(_path: &Path) -> Option<Identity> {
    None
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    #[cfg(unix)]
    fn a_file_has_left_when_it_is_moved_or_replaced() {
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
    fn what_is_no_file_never_leaves() {
        assert!(!Place::of(Path::new(":memory:")).is_left());
    }
}
