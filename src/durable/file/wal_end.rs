//! [`WalEnd`]: how far SQLite's WAL reached when a commit was confirmed. The mark keeps it. SQLite ends a WAL where a checksum is
//! wrong, and says nothing; if a part of it had been moved into the database, the two do not fit together any more.
//!
//! The format is that of <https://www.sqlite.org/fileformat2.html#the_write_ahead_log>.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use rusqlite::{Connection, hooks::Wal};

/// Bytes of the header of a WAL.
pub(super) const HEADER: usize = 32;

/// Bytes of the header of each frame, which a page follows.
pub(super) const FRAME_HEADER: usize = 24;

/// The first number of a WAL, without the bit that tells the order of bytes in checksums.
pub(super) const MAGIC: u32 = 0x377f_0682;

/// Bytes of the largest page that SQLite has.
const MAX_PAGE: usize = 65_536;

/// Frames after which the WAL is moved into the database, as SQLite does by default.
const CHECKPOINT: u32 = 1000;

/// The byte of the header that alone changes first when a WAL begins anew: the lowest of the count of its beginnings.
pub(super) const BEGINNINGS: usize = 15;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WalEnd {
    /// The header, which names this beginning of the WAL.
    pub(super) header: [u8; HEADER],
    pub(super) frames: u32,
}

impl WalEnd {
    /// No WAL.
    pub(super) const NONE: Self = Self { header: [0; HEADER], frames: 0 };

    /// Returns why the WAL at this path is not the one that reached so far, nor one that began later.
    pub(super) fn damage(&self, path: &Path) -> io::Result<Option<&'static str>> {
        match File::open(path) {
            Ok(file) => self.damage_in(&mut io::BufReader::new(file)),
            // The WAL was moved into the database as a whole.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The same for the bytes of a WAL.
    pub(super) fn damage_in(&self, file: &mut impl Read) -> io::Result<Option<&'static str>> {
        let mut header = [0; HEADER];
        if self.frames == 0 || !fill(file, &mut header)? {
            return Ok(None);
        }
        if header == self.header {
            return Ok((!self.is_reached(file)?).then_some("it ends before what was confirmed"));
        }
        let flipped: u32 = header.iter().zip(self.header).map(|(now, then)| (now ^ then).count_ones()).sum();
        // A new beginning that power loss has cut short may differ in one bit, too.
        let may_be_new = header[BEGINNINGS] != self.header[BEGINNINGS];
        Ok((flipped == 1 && !may_be_new).then_some("its first bytes are damaged"))
    }

    /// Whether the WAL behind the header holds all frames.
    fn is_reached(&self, file: &mut impl Read) -> io::Result<bool> {
        let (magic, page) = (word(&self.header, true), word(&self.header[8..], true) as usize);
        if magic & !1 != MAGIC || page > MAX_PAGE {
            return Ok(false);
        }
        let is_big = magic & 1 == 1;
        let mut sum = checksum((0, 0), &self.header[..24], is_big);
        let mut frame = vec![0; FRAME_HEADER + page];
        for _ in 0..self.frames {
            if !fill(file, &mut frame)? || frame[8..16] != self.header[16..24] {
                return Ok(false);
            }
            sum = checksum(checksum(sum, &frame[..8], is_big), &frame[FRAME_HEADER..], is_big);
            if sum != (word(&frame[16..], true), word(&frame[20..], true)) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Fills a buffer. Returns whether there was enough.
fn fill(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match file.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn word(bytes: &[u8], is_big: bool) -> u32 {
    let bytes = bytes.first_chunk::<4>().copied().unwrap_or_default();
    if is_big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
}

/// SQLite's checksum of a WAL, which goes on from frame to frame.
pub(super) fn checksum(sum: (u32, u32), bytes: &[u8], is_big: bool) -> (u32, u32) {
    bytes.chunks_exact(8).fold(sum, |(first, second), pair| {
        let first = first.wrapping_add(word(pair, is_big)).wrapping_add(second);
        (first, second.wrapping_add(word(&pair[4..], is_big)).wrapping_add(first))
    })
}

/// Watches the WAL of a connection.
#[derive(Debug)]
pub(super) struct WalWatch {
    frames: Arc<AtomicU32>,
    file: Option<File>,
    /// The end after the last commit of this connection.
    last: WalEnd,
}

impl WalWatch {
    /// Counts frames from now on. SQLite no longer moves them into the database by itself: see [`checkpoint`](Self::checkpoint).
    pub(super) fn install(connection: &mut Connection) -> rusqlite::Result<Self> {
        let frames = Arc::new(AtomicU32::new(0));
        let of_hook = Arc::clone(&frames);
        connection.wal_hook(Some(move |_: &mut Wal, count| {
            of_hook.store(u32::try_from(count).unwrap_or_default(), Ordering::Relaxed);
            Ok(())
        }))?;
        Ok(Self { frames, file: None, last: WalEnd::NONE })
    }

    /// Moves the WAL into the database if it is long, as SQLite would in the middle of a commit. The caller has marked the end
    /// of the WAL before, so that a part of it that has been moved is known.
    pub(super) fn checkpoint(&self, connection: &Connection) -> rusqlite::Result<()> {
        if self.frames.load(Ordering::Relaxed) < CHECKPOINT {
            return Ok(());
        }
        connection.query_row("PRAGMA wal_checkpoint", [], |_| Ok(()))
    }

    /// How far the WAL reaches after a commit: nowhere if it has been moved into the database and cut down. SQLite removes a WAL
    /// only with its last connection.
    pub(super) fn end(&mut self, path: &Path) -> io::Result<WalEnd> {
        let mut header = [0; HEADER];
        if self.file.is_none() {
            self.file = Some(File::open(path)?);
        }
        if let Some(file) = &mut self.file {
            file.seek(SeekFrom::Start(0))?;
            if !fill(file, &mut header)? {
                self.last = WalEnd::NONE;
                return Ok(self.last);
            }
        }
        self.last = WalEnd { header, frames: self.frames.load(Ordering::Relaxed) };
        Ok(self.last)
    }

    /// How far the WAL reaches at least when this connection has not committed since the last time: nowhere, as far as is known, if
    /// another process has begun it anew.
    pub(super) fn end_since(&mut self, path: &Path) -> io::Result<WalEnd> {
        let last = self.last;
        let now = self.end(path)?;
        let is_own = now.frames != last.frames || now.header == last.header;
        if !is_own {
            // The count stays that of the commit, so that the next look says the same.
            self.last = last;
            return Ok(WalEnd::NONE);
        }
        Ok(now)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Goal: a bit that is flipped in what was confirmed is noticed, and what a loss of power may leave is not refused. Method:
    /// each byte of a WAL; a longer one, a new beginning, none.
    #[test]
    fn a_flipped_bit_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let (path, wal) = (folder.path().join("a.db"), folder.path().join("a.db-wal"));
        let mut connection = Connection::open(&path).unwrap();
        connection.execute_batch("PRAGMA page_size = 512; PRAGMA journal_mode = WAL").unwrap();
        let mut watch = WalWatch::install(&mut connection).unwrap();
        connection.execute_batch("CREATE TABLE a (b); INSERT INTO a VALUES (1)").unwrap();
        let end = watch.end(&wal).unwrap();
        assert!(end.frames >= 3);
        let bytes = fs::read(&wal).unwrap();
        assert_eq!(bytes.len(), HEADER + end.frames as usize * (FRAME_HEADER + 512));
        let copy = folder.path().join("copy");
        let damage = |bytes: &[u8]| {
            fs::write(&copy, bytes).unwrap();
            end.damage(&copy).unwrap()
        };
        assert_eq!(damage(&bytes), None);
        for at in (0..bytes.len()).filter(|at| *at != BEGINNINGS) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            assert!(damage(&flipped).is_some(), "byte {at}");
        }
        assert!(damage(&bytes[..bytes.len() - 1]).is_some());
        assert_eq!(damage(&bytes[..HEADER - 1]), None);
        assert_eq!(damage(&[&bytes[..], &[7; 600]].concat()), None);
        connection.execute_batch("PRAGMA wal_checkpoint; INSERT INTO a VALUES (2)").unwrap();
        assert_eq!(damage(&fs::read(&wal).unwrap()), None, "it began anew");
        assert_ne!(watch.end(&wal).unwrap().header, end.header);
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        assert_eq!(watch.end(&wal).unwrap(), WalEnd::NONE);
        drop(connection);
        assert_eq!(end.damage(&wal).unwrap(), None);
    }

    /// Goal: the end of a WAL that another process has begun anew is not taken for the end after a commit of this one. Method: two
    /// connections, of which the other one begins it anew.
    #[test]
    fn a_new_beginning_by_another_process_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let (path, wal) = (folder.path().join("a.db"), folder.path().join("a.db-wal"));
        let mut own = Connection::open(&path).unwrap();
        own.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE a (b)").unwrap();
        let mut watch = WalWatch::install(&mut own).unwrap();
        own.execute_batch("BEGIN; INSERT INTO a VALUES (randomblob(40000)); COMMIT").unwrap();
        let end = watch.end(&wal).unwrap();
        assert!(end.frames > 5);
        assert_eq!(watch.end_since(&wal).unwrap(), end);
        let other = Connection::open(&path).unwrap();
        other.execute_batch("INSERT INTO a VALUES (1)").unwrap();
        assert_eq!(watch.end_since(&wal).unwrap(), end, "it is longer, and begins the same");
        other.execute_batch("PRAGMA wal_checkpoint; INSERT INTO a VALUES (2)").unwrap();
        assert_eq!(watch.end_since(&wal).unwrap(), WalEnd::NONE);
        assert_eq!(watch.end_since(&wal).unwrap().damage(&wal).unwrap(), None);
        own.execute_batch("INSERT INTO a VALUES (3)").unwrap();
        assert_eq!(watch.end(&wal).unwrap().damage(&wal).unwrap(), None);
    }

    /// Goal: the WAL does not grow without end. Method: many commits.
    #[test]
    fn the_wal_is_moved_into_the_database() {
        let folder = tempfile::tempdir().unwrap();
        let mut connection = Connection::open(folder.path().join("a.db")).unwrap();
        connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; CREATE TABLE a (b)").unwrap();
        let watch = WalWatch::install(&mut connection).unwrap();
        for _ in 0..2 * CHECKPOINT {
            connection.execute("INSERT INTO a VALUES (1)", []).unwrap();
            watch.checkpoint(&connection).unwrap();
        }
        assert!(watch.frames.load(Ordering::Relaxed) <= CHECKPOINT);
    }
}
