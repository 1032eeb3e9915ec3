//! [`Mark`]: a small file beside the database with the number of the last commit, and how far the WAL reached then. It is written
//! after each commit and synced when the writer is idle. A database with fewer commits than its mark is a backup, or has lost
//! some: SQLite itself ends a damaged WAL where it is damaged, and says nothing.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
};

use super::{
    open::owner_only,
    wal_end::{HEADER, WalEnd},
};
use crate::durable::bytes::checksum;

/// The first bytes of a mark.
const MAGIC: [u8; 8] = *b"RLMARK\0\x02";

/// Bytes of a mark: magic, commits, the WAL's header and frames, and a checksum. No more than a disk writes at once.
pub(super) const BYTES: usize = 32 + HEADER;

#[derive(Debug)]
pub(super) struct Mark {
    file: File,
    commits: u64,
    wal: WalEnd,
}

impl Mark {
    /// Opens a mark, or makes one of no commits. A mark that is damaged is one, too: only it knows what it said.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let mut file = owner_only(path)?;
        let mut bytes = Vec::new();
        // A file that is longer is no mark, however long it is.
        (&mut file).take(BYTES as u64 + 1).read_to_end(&mut bytes)?;
        let read = decode(&bytes);
        if read.is_none() && !bytes.is_empty() {
            tracing::warn!(path = %path.display(), "the mark of a log is damaged, and begins anew");
            // The rest of a longer file would make the next mark a damaged one, too.
            file.set_len(0)?;
        }
        let (commits, wal) = read.unwrap_or((0, WalEnd::NONE));
        Ok(Self { file, commits, wal })
    }

    pub(super) fn commits(&self) -> u64 {
        self.commits
    }

    pub(super) fn wal(&self) -> &WalEnd {
        &self.wal
    }

    /// Notes the number of a commit.
    pub(super) fn write(&mut self, commits: u64, wal: WalEnd) -> io::Result<()> {
        (self.commits, self.wal) = (commits, wal);
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&encode(commits, &wal))
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

pub(super) fn encode(commits: u64, wal: &WalEnd) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    let frames = u64::from(wal.frames);
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..16].copy_from_slice(&commits.to_le_bytes());
    bytes[16..24].copy_from_slice(&frames.to_le_bytes());
    bytes[24..24 + HEADER].copy_from_slice(&wal.header);
    let sum = checksum(&[], &bytes[..BYTES - 8]);
    bytes[BYTES - 8..].copy_from_slice(&sum.to_le_bytes());
    bytes
}

pub(super) fn decode(bytes: &[u8]) -> Option<(u64, WalEnd)> {
    let number = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let header = bytes.get(24..24 + HEADER)?.try_into().ok()?;
    let (commits, wal) = (number(8)?, WalEnd { header, frames: u32::try_from(number(16)?).ok()? });
    (bytes == encode(commits, &wal)).then_some((commits, wal))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_comes_back_and_damage_is_noticed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("mark");
        let wal = WalEnd { header: [3; HEADER], frames: 9 };
        Mark::open(&path).unwrap().write(1000, wal).unwrap();
        let mut mark = Mark::open(&path).unwrap();
        assert_eq!((mark.commits(), mark.wal()), (1000, &wal));
        mark.write(7, WalEnd::NONE).unwrap();
        mark.sync().unwrap();
        assert_eq!(Mark::open(&path).unwrap().commits(), 7);
        std::fs::write(&path, [7; 4 * BYTES]).unwrap();
        let mut mark = Mark::open(&path).unwrap();
        assert_eq!(mark.commits(), 0);
        mark.write(8, wal).unwrap();
        assert_eq!(Mark::open(&path).unwrap().commits(), 8, "nothing of the damaged one is left");
        let bytes = encode(7, &wal);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&flipped), None);
        }
    }
}
