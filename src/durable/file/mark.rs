//! [`Mark`]: a small file beside the database with the number of the last commit. It is written after each commit and synced when
//! the writer is idle. A database with fewer commits than its mark is a backup, or has lost some: SQLite itself ends a damaged
//! WAL where it is damaged, and says nothing.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
};

use super::open::owner_only;
use crate::durable::bytes::checksum;

/// The first bytes of a mark.
const MAGIC: [u8; 8] = *b"RLMARK\0\x01";

#[derive(Debug)]
pub(super) struct Mark {
    file: File,
    commits: u64,
}

impl Mark {
    /// Opens a mark, or makes one of no commits. A mark that is damaged is one, too: only it knows what it said.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let mut file = owner_only(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let commits = decode(&bytes).unwrap_or_else(|| {
            if !bytes.is_empty() {
                tracing::warn!(path = %path.display(), "the mark of a log is damaged, and begins anew");
            }
            0
        });
        Ok(Self { file, commits })
    }

    pub(super) fn commits(&self) -> u64 {
        self.commits
    }

    /// Notes the number of a commit.
    pub(super) fn write(&mut self, commits: u64) -> io::Result<()> {
        self.commits = commits;
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&encode(commits))
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

fn encode(commits: u64) -> [u8; 24] {
    let mut bytes = [0; 24];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..16].copy_from_slice(&commits.to_le_bytes());
    bytes[16..].copy_from_slice(&checksum(&[commits], &MAGIC).to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<u64> {
    let commits = u64::from_le_bytes(bytes.get(8..16)?.try_into().ok()?);
    (bytes == encode(commits)).then_some(commits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_comes_back_and_damage_is_noticed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("mark");
        Mark::open(&path).unwrap().write(1000).unwrap();
        let mut mark = Mark::open(&path).unwrap();
        assert_eq!(mark.commits(), 1000);
        mark.write(7).unwrap();
        mark.sync().unwrap();
        assert_eq!(Mark::open(&path).unwrap().commits(), 7);
        let bytes = encode(7);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&flipped), None);
        }
    }
}
