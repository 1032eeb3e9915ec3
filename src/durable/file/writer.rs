//! The thread that writes a file: it takes all jobs that wait, runs them in one transaction, commits, and answers.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use futures::FutureExt;
use rusqlite::{Connection, ErrorCode};
use tracing::{error, warn};

use super::{
    gathering::Gathering,
    guard::Guard,
    letters::LetterBytes,
    mark::Mark,
    open::{self, Connected, OpenedFile},
    store::{Rows, failed},
    vacuum::give_back,
    wal::Wal,
    wal_end::WalWatch,
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
const MIN_BYTES: u64 = 16 << 20;

/// The part of the cap that is kept for settlements, so that a full log can drain.
const RESERVE: u64 = 8;

/// The part of the cap that dead letters may take. Then a shard holds that has another one.
const LETTERS: u64 = 16;

/// The bytes that dead letters may take, here or in a ledger, by the cap of the file.
pub(super) fn max_letter_bytes(max_bytes: u64) -> u64 {
    max_bytes.max(MIN_BYTES) / LETTERS
}

/// Statements that stay prepared. The comments keep sinks, which share the cache of statements, from finding them there.
const BEGIN: &str = "BEGIN IMMEDIATE /* roundlot */";
const COMMIT: &str = "COMMIT /* roundlot */";

pub(super) enum Message {
    Job(Box<dyn Job>),
    /// Answered when file and lock are free.
    Close(Sender<()>),
}

/// Numbers of a file that handles read.
#[derive(Debug, Default)]
pub(super) struct Gauges {
    bytes: AtomicU64,
    commits: AtomicU64,
}

impl Gauges {
    pub(super) fn size(&self) -> Size {
        Size { bytes: self.bytes.load(Ordering::Relaxed), commits: self.commits.load(Ordering::Relaxed) }
    }
}

struct Writer {
    path: PathBuf,
    wal: Wal,
    max_bytes: u64,
    connection: Connection,
    guard: Guard,
    watch: WalWatch,
    /// Which file the path named when it was opened.
    identity: Option<(u64, u64)>,
    mark: Mark,
    commits: u64,
    gauges: Arc<Gauges>,
    letters: LetterBytes,
    callers: Arc<Callers>,
    gathering: Gathering,
    /// Released last.
    _lock: fs::File,
}

/// Opens the file in a thread of its own. Blocks until it is open.
pub(super) fn start(
    path: &Path,
    max_bytes: u64,
    is_restored: bool,
    callers: Arc<Callers>,
) -> Result<(Sender<Message>, Arc<Gauges>), JoinError> {
    let (messages, inbox) = mpsc::channel();
    let (opened, is_open) = mpsc::channel();
    let gauges = Arc::new(Gauges::default());
    let (path, of_writer) = (path.to_owned(), Arc::clone(&gauges));
    let run = move || match Writer::open(path, max_bytes.max(MIN_BYTES), is_restored, of_writer, callers) {
        Err(error) => drop(opened.send(Err(error))),
        Ok(writer) => {
            if opened.send(Ok(())).is_ok() {
                writer.run(&inbox);
            }
        }
    };
    let spawned = thread::Builder::new().name("roundlot-log".to_owned()).spawn(run);
    spawned.map_err(|error| JoinError::Open(error.to_string()))?;
    is_open.recv().unwrap_or_else(|_| Err(JoinError::Open("its thread is gone".to_owned())))?;
    Ok((messages, gauges))
}

impl Writer {
    fn open(
        path: PathBuf,
        max_bytes: u64,
        is_restored: bool,
        gauges: Arc<Gauges>,
        callers: Arc<Callers>,
    ) -> Result<Self, JoinError> {
        let OpenedFile { connected, lock, mark, commits, is_behind } = open::open(&path, max_bytes, is_restored)?;
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
            _lock: lock,
        };
        if is_behind {
            // The numbers of commits go on behind those that were confirmed.
            writer.commits = writer.mark.commits();
            writer.doubt_all()?;
        }
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
            if !jobs.is_empty() {
                self.turn(jobs);
                self.wal.look(&self.connection, true);
                is_idle = false;
            }
            if let Some(done) = closing {
                self.close();
                // The caller may be gone.
                let _ = done.send(());
                return;
            }
        }
    }

    /// Runs jobs in one transaction, or each in its own if one of them fails, and answers them.
    fn turn(&mut self, mut jobs: Vec<Box<dyn Job>>) {
        if let Err(error) = self.execute(BEGIN) {
            // Another connection has the lock, for all of them.
            let result = self.roll_back().and(Err(failed(&error)));
            return jobs.into_iter().for_each(|job| job.end(result.clone()));
        }
        let begun = Instant::now();
        match self.run_all(&mut jobs) {
            Ok(changed) => {
                let result = if changed { self.commit() } else { self.roll_back() };
                self.gathering.done(&self.callers, begun.elapsed());
                self.end(jobs, result);
                self.measure();
            }
            Err(error) => {
                let result = self.roll_back().and(Err(error));
                self.end(jobs, result);
            }
        }
    }

    /// Answers, or runs each job by itself: one that can't be done must not fail the others.
    fn end(&mut self, jobs: Vec<Box<dyn Job>>, result: Result<(), LogError>) {
        if jobs.len() > 1
            && matches!(result, Err(LogError::Failed(_) | LogError::Uncommittable(_) | LogError::Damaged(_)))
        {
            return jobs.into_iter().for_each(|job| self.turn(vec![job]));
        }
        jobs.into_iter().for_each(|job| job.end(result.clone()));
    }

    /// Whether a row has been changed.
    fn run_all(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<bool, LogError> {
        let room = self.max_bytes - self.max_bytes / RESERVE;
        let used = self.gauges.size().bytes;
        let mut rows = Rows::new(&self.connection, &self.guard, &self.letters, self.wal.path().to_owned(), room, used);
        for job in jobs {
            job.run(&mut rows)?;
        }
        let changed = rows.changed.get();
        if changed {
            let sql = "UPDATE roundlot_meta SET value = ?1 WHERE key = 'commits'";
            let mut update = self.connection.prepare_cached(sql).map_err(|error| failed(&error))?;
            update.execute([self.commits as i64 + 1]).map_err(|error| failed(&error))?;
        }
        Ok(changed)
    }

    fn commit(&mut self) -> Result<(), LogError> {
        Step::Commit.before();
        if let Err(error) = self.execute(COMMIT) {
            let is_certain = matches!(
                error.sqlite_error_code(),
                // A constraint that is checked at the end was violated by the rows of a sink.
                Some(
                    ErrorCode::DiskFull
                        | ErrorCode::DatabaseBusy
                        | ErrorCode::DatabaseLocked
                        | ErrorCode::ConstraintViolation
                )
            );
            if is_certain {
                return self.roll_back().and(Err(failed(&error)));
            }
            return Err(self.open_again(&error));
        }
        Step::Commit.after();
        self.commits += 1;
        Step::Mark.before();
        self.write_mark();
        Step::Mark.after();
        if let Err(error) = self.watch.checkpoint(&self.connection) {
            warn!(path = %self.path.display(), %error, "the WAL of a log can't be moved into it");
        }
        self.gauges.commits.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Measures the file, after callers were answered.
    fn measure(&self) {
        let bytes = Rows::new(&self.connection, &self.guard, &self.letters, self.wal.path().to_owned(), 0, 0).bytes();
        self.gauges.bytes.store(bytes.unwrap_or_default(), Ordering::Relaxed);
    }

    /// Executes a statement, which stays prepared.
    fn execute(&self, sql: &str) -> rusqlite::Result<()> {
        self.connection.prepare_cached(sql)?.execute([]).map(drop)
    }

    fn write_mark(&mut self) {
        let marked = self.watch.end(self.wal.path()).and_then(|wal| self.mark.write(self.commits, wal));
        if let Err(error) = marked {
            warn!(path = %self.path.display(), %error, "the mark of a log can't be written");
        }
    }

    fn roll_back(&mut self) -> Result<(), LogError> {
        self.letters.forget();
        if self.connection.is_autocommit() {
            return Ok(());
        }
        match self.connection.execute_batch("ROLLBACK") {
            Ok(()) => Ok(()),
            Err(error) => Err(self.open_again(&error)),
        }
    }

    /// Opens the file anew after an error that leaves its state unknown. What the log holds then is moved into the database
    /// and synced, since a sync that has failed may succeed the next time without having written anything.
    fn open_again(&mut self, cause: &rusqlite::Error) -> LogError {
        warn!(path = %self.path.display(), error = %cause, "a commit has no known result: the log is opened again");
        let opened = open::connect(&self.path, self.max_bytes).and_then(|connected| {
            let connection = &connected.connection;
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
            let sql = "SELECT value FROM roundlot_meta WHERE key = 'commits'";
            let commits: i64 = connection.query_row(sql, [], |row| row.get(0))?;
            Ok((connected, commits as u64))
        });
        match opened {
            Ok((Connected { connection, guard, watch }, commits)) => {
                (self.connection, self.guard, self.watch, self.commits) = (connection, guard, watch, commits);
            }
            Err(error) => error!(path = %self.path.display(), %error, "the log can't be opened again"),
        }
        LogError::Unknown(cause.to_string())
    }

    /// Syncs the mark, and gives pages back that hold nothing.
    fn tidy(&mut self) {
        Step::Vacuum.before();
        if let Err(error) = give_back(&self.connection, VACUUM) {
            warn!(path = %self.path.display(), %error, "the file of a log can't be made smaller");
        }
        // Pages may have moved.
        self.write_mark();
        self.wal.look(&self.connection, false);
        if let Err(error) = self.mark.sync() {
            warn!(path = %self.path.display(), %error, "the mark of a log can't be synced");
        }
        Step::Vacuum.after();
    }

    fn close(self) {
        let Self { path, connection, mark, _lock: lock, .. } = self;
        Step::Close.before();
        let closed = connection.close().map_err(|(_, error)| error.to_string());
        if let Err(error) = closed.and_then(|()| mark.sync().map_err(|error| error.to_string())) {
            warn!(path = %path.display(), error, "the file of a log was not closed properly");
        }
        Step::Close.after();
        drop(lock);
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
