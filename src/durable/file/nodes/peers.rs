//! The files of processes: `<name>.node` is locked as long as its process has the database open, and names it and the logs that it has
//! joined, one per line.

use std::{
    collections::BTreeSet,
    fs::{self, File, TryLockError},
    io::{self, Seek, Write},
    path::{Path, PathBuf},
    time::SystemTime,
};

use crate::durable::{file::open::owner_only, log::lead::Membership};

/// How a process shares the database, by the word in its file.
const EXCLUSIVE: &str = "exclusive";
const SHARED: &str = "shared";

/// The end of the name of a process's file.
const SUFFIX: &str = ".node";

/// Another process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Peer {
    pub(super) name: String,
    pub(super) pid: u32,
    /// Whether it wants the file for itself.
    pub(super) is_exclusive: bool,
    pub(super) members: Vec<Membership>,
}

/// This process.
#[derive(Debug)]
pub(super) struct Me {
    name: String,
    is_exclusive: bool,
    /// Locked until it is dropped, or the process ends.
    file: File,
}

/// Makes the folder, which its owner alone can read.
pub(super) fn make(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

fn path_of(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}{SUFFIX}"))
}

impl Me {
    /// Makes the file of this process. It is locked before it can be seen, since a file without a lock is of a process that is gone.
    pub(super) fn enter(folder: &Path, is_exclusive: bool) -> io::Result<Self> {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let name = format!("{}-{:x}", std::process::id(), since.as_nanos());
        let hidden = folder.join(format!("{name}.new"));
        let file = owner_only(&hidden)?;
        file.lock()?;
        let me = Self { name, is_exclusive, file };
        me.publish(&BTreeSet::new())?;
        fs::rename(&hidden, path_of(folder, &me.name))?;
        Ok(me)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn is_exclusive(&self) -> bool {
        self.is_exclusive
    }

    /// Notes the logs that this process has joined.
    pub(super) fn publish(&self, members: &BTreeSet<Membership>) -> io::Result<()> {
        let lines = members.iter().map(|Membership { log, producer }| format!("{log} {producer}\n"));
        let (pid, share) = (std::process::id(), if self.is_exclusive { EXCLUSIVE } else { SHARED });
        let text = format!("{pid} {share}\n{}", lines.collect::<String>());
        let mut file = &self.file;
        // Blank lines in the place of those that are gone: the others may read at any moment, and must not find the rest of one.
        let blank = usize::try_from(file.metadata()?.len()).unwrap_or(0).saturating_sub(text.len());
        file.seek(io::SeekFrom::Start(0))?;
        file.write_all((text + &"\n".repeat(blank)).as_bytes())
    }

    pub(super) fn leave(&self, folder: &Path) {
        // One that stays is removed by the next process that looks.
        let _ = fs::remove_file(path_of(folder, &self.name));
    }
}

/// The processes that are alive, but for this one. What others have left behind is removed.
pub(super) fn look(folder: &Path, me: &str) -> io::Result<Vec<Peer>> {
    let mut peers = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let file_name = path.file_name().and_then(|name| name.to_str());
        let Some(name) = file_name.and_then(|name| name.strip_suffix(SUFFIX)).filter(|name| *name != me) else {
            continue;
        };
        let file = match File::open(&path) {
            Ok(file) => file,
            // Its process has just left.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        match file.try_lock_shared() {
            Ok(()) => {
                // Another process may have been faster.
                let _ = fs::remove_file(&path);
                let _ = fs::remove_file(super::sockets::path_of(folder, name));
            }
            Err(TryLockError::WouldBlock) => {
                let peer = io::read_to_string(file).ok().and_then(|text| read(name, &text));
                // A process of another version is alive, whatever it says.
                peers.push(peer.unwrap_or_else(|| Peer {
                    name: name.to_owned(),
                    pid: 0,
                    is_exclusive: true,
                    members: Vec::new(),
                }));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    peers.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(peers)
}

/// Reads the file of a process. `None` if it is not as this version writes it.
fn read(name: &str, text: &str) -> Option<Peer> {
    let mut lines = text.lines();
    let (pid, share) = lines.next()?.split_once(' ')?;
    let member = |line: &str| {
        let (log, producer) = line.split_once(' ')?;
        Some(Membership { log: log.parse().ok()?, producer: producer.parse().ok()? })
    };
    let members = lines.filter(|line| !line.is_empty()).map(member).collect::<Option<_>>()?;
    Some(Peer { name: name.to_owned(), pid: pid.parse().ok()?, is_exclusive: share == EXCLUSIVE, members })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: processes that are alive are seen with their logs, and the files of others are removed. Method: one that is locked, and
    /// one that has been dropped.
    #[test]
    fn the_living_are_seen() {
        let folder = tempfile::tempdir().unwrap();
        let (me, other, gone) =
            [false, true, false].map(|is_exclusive| Me::enter(folder.path(), is_exclusive).unwrap()).into();
        let member = Membership { log: 1, producer: 7 };
        other.publish(&BTreeSet::from([member, Membership { log: 0, producer: 123 }])).unwrap();
        other.publish(&BTreeSet::from([member])).unwrap();
        drop(gone);
        let peers = look(folder.path(), me.name()).unwrap();
        let seen: Vec<_> =
            peers.iter().map(|peer| (&*peer.name, peer.pid, peer.is_exclusive, &peer.members[..])).collect();
        assert_eq!(seen, [(other.name(), std::process::id(), true, &[member][..])]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
