//! The thread that writes a file: it takes all jobs that wait, runs them in one transaction, commits, and answers.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread,
    time::Duration,
};

use futures::FutureExt;
use rusqlite::Connection;
use tracing::{error, warn};

use super::{
    File,
    gathering::Gathering,
    guard::Guard,
    letters::LetterBytes,
    mark::Mark,
    nodes::{Nodes, Turnstile},
    open::{self, Connected, OpenedFile},
    store::failed,
    vacuum::give_back,
    wal::Wal,
    wal_end::{WalEnd, WalWatch},
};
use crate::durable::{
    error::JoinError,
    log::{
        LogError, Size,
        callers::Callers,
        rules,
        turns::{Job, Turns},
    },
    step::Step,
};

/// The pause after the last job, after which the writer syncs the mark and gives pages back.
const IDLE: Duration = Duration::from_millis(200);

/// Pages given back to the file system per idle time.
const VACUUM: u32 = 256;

/// The least cap of a file.
pub(super) const MIN_BYTES: u64 = 16 << 20;

/// The part of the cap that dead letters may take. Then a shard holds that has another one.
const LETTERS: u64 = 16;

/// The bytes that dead letters may take, here or in a ledger, by the cap of the file.
pub(super) fn max_letter_bytes(max_bytes: u64) -> u64 {
    max_bytes.max(MIN_BYTES) / LETTERS
}

pub(super) enum Message {
    Job(Box<dyn Job>),
    /// Answered when file and lock are free.
    Close(Sender<()>),
}

/// Numbers of a file that handles read.
#[derive(Debug, Default)]
pub(super) struct Gauges {
    pub(super) bytes: AtomicU64,
    pub(super) commits: AtomicU64,
}

impl Gauges {
    pub(super) fn size(&self) -> Size {
        Size { bytes: self.bytes.load(Ordering::Relaxed), commits: self.commits.load(Ordering::Relaxed) }
    }
}

pub(super) struct Writer {
    pub(super) path: PathBuf,
    pub(super) wal: Wal,
    pub(super) max_bytes: u64,
    pub(super) connection: Connection,
    pub(super) guard: Guard,
    pub(super) watch: WalWatch,
    /// Which file the path named when it was opened.
    identity: Option<(u64, u64)>,
    pub(super) mark: Mark,
    pub(super) commits: u64,
    pub(super) gauges: Arc<Gauges>,
    pub(super) letters: LetterBytes,
    pub(super) callers: Arc<Callers>,
    pub(super) gathering: Gathering,
    pub(super) nodes: Arc<Nodes>,
    /// Made when there is another process.
    pub(super) turnstile: Option<Turnstile>,
    /// How often other processes were seen, when they were last looked at.
    pub(super) seen: u64,
    /// SQLite's number for the state of the file, which changes when another process has written.
    pub(super) version: i64,
    /// The number of the commit that is under way.
    pub(super) committing: u64,
    /// Dropped last.
    presence: Presence,
}

/// Keeps this process among those that have the file open.
struct Presence(Arc<Nodes>);

impl Drop for Presence {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// A writer that runs.
pub(super) struct Started {
    pub(super) messages: Sender<Message>,
    pub(super) gauges: Arc<Gauges>,
    pub(super) nodes: Arc<Nodes>,
}

/// Opens the file in a thread of its own. Blocks until it is open.
pub(super) fn start(path: &Path, file: &File, callers: Arc<Callers>) -> Result<Started, JoinError> {
    let (messages, inbox) = mpsc::channel();
    let (opened, is_open) = mpsc::channel();
    let gauges = Arc::new(Gauges::default());
    let (path, file, of_writer) = (path.to_owned(), file.clone(), Arc::clone(&gauges));
    let run = move || match Writer::open(path, &file, of_writer, callers) {
        Err(error) => drop(opened.send(Err(error))),
        Ok(writer) => {
            if opened.send(Ok(Arc::clone(&writer.nodes))).is_ok() {
                writer.run(&inbox);
            }
        }
    };
    let spawned = thread::Builder::new().name("roundlot-log".to_owned()).spawn(run);
    spawned.map_err(|error| JoinError::Open(error.to_string()))?;
    let nodes = is_open.recv().unwrap_or_else(|_| Err(JoinError::Open("its thread is gone".to_owned())))?;
    Ok(Started { messages, gauges, nodes })
}

impl Writer {
    fn open(path: PathBuf, file: &File, gauges: Arc<Gauges>, callers: Arc<Callers>) -> Result<Self, JoinError> {
        let OpenedFile { connected, nodes, gate, mark, commits, is_behind } = open::open(&path, file)?;
        let max_bytes = file.max_bytes.max(MIN_BYTES);
        let Connected { connection, guard, watch } = connected;
        let (wal, identity) = (Wal::new(&path, max_bytes), identity(&path));
        let letters = LetterBytes::new(max_letter_bytes(max_bytes));
        let gathering = Gathering::default();
        let mut writer = Self {
            letters,
            path,
            wal,
            max_bytes,
            connection,
            guard,
            watch,
            identity,
            mark,
            commits,
            gauges,
            callers,
            gathering,
            presence: Presence(Arc::clone(&nodes)),
            nodes,
            turnstile: None,
            seen: 0,
            version: 0,
            committing: commits,
        };
        if is_behind {
            // The numbers of commits go on behind those that were confirmed.
            writer.commits = writer.mark.commits();
            writer.doubt_all()?;
        }
        // Only now may another process rely on what this one has done.
        drop(gate);
        Ok(writer)
    }

    /// Puts all that waits in the file in doubt.
    fn doubt_all(&mut self) -> Result<(), LogError> {
        warn!(path = %self.path.display(), "the file of a log was restored: all that waits in it is in doubt");
        let shards: Vec<u32> = {
            let mut query =
                self.connection.prepare("SELECT shard FROM roundlot_shards").map_err(|error| failed(&error))?;
            let shards = query.query_map([], |row| row.get(0)).map_err(|error| failed(&error))?;
            shards.collect::<rusqlite::Result<_>>().map_err(|error| failed(&error))?
        };
        let (turns, jobs) = mpsc::channel();
        let queue = Turns::new(Arc::default(), move |job| turns.send(job).is_ok());
        let doubting =
            queue.run(move |store| shards.iter().try_for_each(|shard| rules::doubt_all(store, *shard)), |()| {});
        self.turn(jobs.try_iter().collect());
        // The job has been answered by now.
        doubting.now_or_never().unwrap_or(Err(LogError::Closed))
    }

    fn run(mut self, inbox: &Receiver<Message>) {
        let mut is_idle = true;
        loop {
            let patience = if is_idle { self.wal.look_again() } else { Some(IDLE) };
            let first = match patience {
                Some(patience) => inbox.recv_timeout(patience),
                None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            let first = match first {
                Ok(first) => first,
                Err(RecvTimeoutError::Timeout) => {
                    self.tidy();
                    is_idle = true;
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return self.close(),
            };
            self.gathering.wait(&self.callers);
            let (mut jobs, mut closing) = (Vec::new(), None);
            for message in std::iter::once(first).chain(std::iter::from_fn(|| inbox.try_recv().ok())) {
                match message {
                    Message::Job(job) => jobs.push(job),
                    Message::Close(done) => closing = Some(done),
                }
            }
            if self.is_moved() {
                error!(path = %self.path.display(), "the file of a log was moved or removed: the log is closed");
                jobs.into_iter().for_each(|job| job.end(Err(LogError::Closed)));
                drop(closing);
                return;
            }
            // Reads keep no other process waiting, and see what the other jobs have stored.
            let (reads, writes): (Vec<_>, Vec<_>) = jobs.into_iter().partition(|job| job.only_reads());
            if !writes.is_empty() {
                self.turn(writes);
                self.wal.look(&self.connection, true);
                is_idle = false;
            }
            if !reads.is_empty() {
                self.read(reads);
            }
            if let Some(done) = closing {
                self.close();
                // The caller may be gone.
                let _ = done.send(());
                return;
            }
        }
    }

    pub(super) fn write_mark(&mut self, end: io::Result<WalEnd>) {
        let marked = end.and_then(|wal| self.mark.write(self.commits, wal));
        if let Err(error) = marked {
            warn!(path = %self.path.display(), %error, "the mark of a log can't be written");
        }
    }

    /// Syncs the mark, and gives pages back that hold nothing.
    fn tidy(&mut self) {
        // While another process keeps the file, there is nothing to tidy up.
        if let Ok(_turn) = self.enter() {
            self.tidy_in_turn();
        }
    }

    fn tidy_in_turn(&mut self) {
        Step::Vacuum.before();
        if let Err(error) = give_back(&self.connection, VACUUM) {
            warn!(path = %self.path.display(), %error, "the file of a log can't be made smaller");
        }
        // Pages may have moved. Of several processes, the one that has written last knows how far the WAL reaches.
        if self.is_last_to_write() {
            let end = self.watch.end_since(self.wal.path());
            self.write_mark(end);
        }
        self.wal.look(&self.connection, false);
        if let Err(error) = self.mark.sync() {
            warn!(path = %self.path.display(), %error, "the mark of a log can't be synced");
        }
        Step::Vacuum.after();
    }

    /// Whether no other process has written since this one did.
    fn is_last_to_write(&self) -> bool {
        let sql = "SELECT value FROM roundlot_meta WHERE key = 'commits'";
        let commits: rusqlite::Result<i64> = self.connection.query_row(sql, [], |row| row.get(0));
        commits.is_ok_and(|commits| commits as u64 == self.commits)
    }

    fn close(self) {
        let Self { path, connection, mark, presence, .. } = self;
        Step::Close.before();
        // No other process opens the file meanwhile. One that is stuck there keeps nothing up but this.
        let gate = open::gate(&path);
        let closed = connection.close().map_err(|(_, error)| error.to_string());
        if let Err(error) = closed.and_then(|()| mark.sync().map_err(|error| error.to_string())) {
            warn!(path = %path.display(), error, "the file of a log was not closed properly");
        }
        Step::Close.after();
        drop(presence);
        drop(gate);
    }

    /// Whether the path names another file than the one that is open: what is written then is found by no one.
    fn is_moved(&self) -> bool {
        self.identity.is_some() && identity(&self.path) != self.identity
    }
}

#[cfg(unix)]
fn identity(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

#[cfg(not(unix))]
fn identity(_path: &Path) -> Option<(u64, u64)> {
    None
}
