//! [`MemoryLog`]: an engine for tests (feature `testing`). It runs on the runtime's clock, which may be paused, fails on demand,
//! and forgets what was not synced when it crashes.

mod faults;
mod life;
mod processes;
mod store;

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use futures::future::BoxFuture;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use super::{
    engine::{Engine, Open, Opened},
    error::JoinError,
    log::{
        LogError,
        local::Local,
        turns::{Job, Turns},
    },
};
#[cfg(any(test, fuzzing))]
use crate::durable::log::store::Store;
pub use faults::MemoryFailure;
use life::Life;
use processes::Processes;
use store::Rows;

/// The wall clock of a new log: an arbitrary second of the year 2023, so that tests see the same times in every run.
const START: Duration = Duration::from_secs(1_700_000_000);

/// A log in memory, to test programs that use a durable batcher. Each clone is the same disk.
///
/// What has been committed outlives the batcher: let one leave, or [`crash`](Self::crash), and join again. Run each life in a
/// runtime of its own to be as strict as a crash is; a runtime that is dropped drops its tasks where they wait.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use roundlot::{durable::Durable, testing::{MemoryLog, Recorder}};
///
/// let log = MemoryLog::new();
/// let recorder = Recorder::new();
/// let sink = recorder.clone();
/// let orders = Durable::new("orders", log.clone()).sink(move |_| sink.clone()).join().await?;
/// orders.handle().pause().await?; // stored: a restart stays paused
/// orders.handle().send("buy 5".to_owned()).await?;
/// orders.leave().await?;
///
/// let sink = recorder.clone();
/// let orders = Durable::new("orders", log).sink(move |_| sink.clone()).join().await?;
/// assert_eq!(orders.handle().stats().recovered, 1);
/// orders.handle().resume().await?;
/// orders.handle().flush().await?;
/// assert_eq!(recorder.ops(), ["buy 5"]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct MemoryLog {
    disk: Arc<Mutex<Disk>>,
    /// Held for the time of a transaction, of whatever process.
    turn: Arc<tokio::sync::Mutex<()>>,
    crashes: watch::Sender<u64>,
    /// The process that this one is of.
    process: u64,
    next_process: Arc<AtomicU64>,
}

struct Disk {
    synced: Rows,
    processes: Processes,
    sync_time: Duration,
    /// Transactions begun so far.
    begun: u64,
    committed: u64,
    failures: VecDeque<(u64, MemoryFailure)>,
    /// Reads that are still to fail.
    failing_reads: usize,
    /// The wall clock when this life began, and the runtime's clock then.
    wall: Duration,
    opened_at: Option<Instant>,
}

impl Default for MemoryLog {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryLog {
    /// An empty log, which syncs in no time.
    pub fn new() -> Self {
        let disk = Disk {
            synced: Rows::default(),
            processes: Processes::default(),
            sync_time: Duration::ZERO,
            begun: 0,
            committed: 0,
            failures: VecDeque::new(),
            failing_reads: 0,
            wall: START,
            opened_at: None,
        };
        Self {
            disk: Arc::new(Mutex::new(disk)),
            turn: Arc::default(),
            crashes: watch::Sender::new(0),
            process: 0,
            next_process: Arc::new(AtomicU64::new(1)),
        }
    }

    /// The same log as another process sees it, which can join it, too. A crash of one is none of the other.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use roundlot::{durable::Durable, testing::{MemoryLog, Recorder}};
    ///
    /// let log = MemoryLog::new();
    /// let recorder = Recorder::new();
    /// let join = |log: MemoryLog| {
    ///     let sink = recorder.clone();
    ///     Durable::new("orders", log).sink(move |_| sink.clone()).join()
    /// };
    /// let leader = join(log.clone()).await?;
    /// let follower = join(log.another_process()).await?;
    /// follower.handle().submit("buy 5".to_owned()).await?.await?; // the other process has sent it
    /// log.crash();
    /// follower.handle().submit("buy 7".to_owned()).await?.await?;
    /// assert_eq!(recorder.ops(), ["buy 5", "buy 7"]);
    /// # drop(leader);
    /// # Ok(())
    /// # }
    /// ```
    pub fn another_process(&self) -> Self {
        Self { process: self.next_process.fetch_add(1, Ordering::Relaxed), ..self.clone() }
    }

    /// Lets each sync take this long.
    pub fn sync_time(self, sync_time: Duration) -> Self {
        self.disk().sync_time = sync_time;
        self
    }

    /// Limits the bytes of ops that wait in the log.
    pub fn capacity(self, bytes: usize) -> Self {
        self.disk().synced.capacity = Some(bytes);
        self
    }

    /// Transactions begun so far.
    pub fn transactions(&self) -> u64 {
        self.disk().begun
    }

    /// The rows of transactional sinks, as they are committed.
    pub fn rows(&self) -> BTreeMap<String, String> {
        self.disk().synced.of_sinks.clone()
    }

    /// Sets the wall clock of this log, which goes on from there.
    pub fn set_wall(&self, wall: SystemTime) {
        let mut disk = self.disk();
        disk.wall = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        if disk.opened_at.is_some() {
            disk.opened_at = Some(Instant::now());
        }
    }

    /// The wall clock of this log. It begins in 2023, and goes by the runtime's clock while a batcher has joined.
    pub fn now(&self) -> SystemTime {
        self.wall()
    }

    /// Changes the rows of a log that no batcher has joined.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn change<V>(&self, change: impl FnOnce(&mut dyn Store) -> V) -> V {
        change(&mut self.disk().synced)
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wall(&self) -> SystemTime {
        let disk = self.disk();
        let since = disk.opened_at.map_or(Duration::ZERO, |at| at.elapsed());
        SystemTime::UNIX_EPOCH + disk.wall + since
    }

    /// Runs transactions until the log is closed or crashes.
    async fn write(self, life: u64, mut jobs: mpsc::UnboundedReceiver<Box<dyn Job>>) {
        while let Some(first) = jobs.recv().await {
            let mut batch = vec![first];
            while let Ok(job) = jobs.try_recv() {
                batch.push(job);
            }
            if self.turn(life, batch).await.is_none() {
                return;
            }
        }
    }

    /// Runs one transaction. `None` if this life is over.
    async fn turn(&self, life: u64, mut batch: Vec<Box<dyn Job>>) -> Option<()> {
        self.while_stopped().await;
        let _turn = self.turn.lock().await;
        if batch.iter().all(|job| job.only_reads()) {
            return self.read(life, batch).await;
        }
        let (mut rows, sync_time, mut failure) = self.disk().begin(self.process, life)?;
        let mut result = if failure == Some(MemoryFailure::Refused) {
            Err(LogError::Failed("a failure for a test".to_owned()))
        } else {
            batch.iter_mut().try_for_each(|job| job.run(&mut rows))
        };
        if sync_time.is_zero() {
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(sync_time).await;
        }
        self.while_stopped().await;
        if failure == Some(MemoryFailure::CrashBefore) {
            self.crash();
        }
        {
            let mut disk = self.disk();
            if disk.processes.life(self.process) != life {
                return None;
            }
            if failure.is_none() && disk.processes.is_isolated(self.process) {
                failure = Some(MemoryFailure::UnknownStored);
            }
            if result.is_ok() && failure != Some(MemoryFailure::UnknownLost) {
                let touched = std::mem::take(&mut rows.touched);
                disk.synced = rows;
                disk.committed += 1;
                disk.processes.tell(Some(self.process), &touched);
            }
        }
        match failure {
            Some(MemoryFailure::CrashAfter) => {
                self.crash();
                return None;
            }
            Some(MemoryFailure::UnknownStored | MemoryFailure::UnknownLost) => {
                result = Err(LogError::Unknown("a failure for a test".to_owned()));
            }
            _ => {}
        }
        batch.into_iter().for_each(|job| job.end(result.clone()));
        Some(())
    }
}

impl MemoryLog {
    /// Runs jobs that change nothing: they take no time to sync, and do not count.
    async fn read(&self, life: u64, mut batch: Vec<Box<dyn Job>>) -> Option<()> {
        let (mut rows, fails) = {
            let mut disk = self.disk();
            if disk.processes.life(self.process) != life {
                return None;
            }
            let fails = disk.failing_reads > 0;
            disk.failing_reads = disk.failing_reads.saturating_sub(1);
            (disk.synced.clone(), fails || disk.processes.is_isolated(self.process))
        };
        let result = match fails {
            true => Err(LogError::Failed("a failure for a test".to_owned())),
            false => batch.iter_mut().try_for_each(|job| job.run(&mut rows)),
        };
        tokio::task::yield_now().await;
        batch.into_iter().for_each(|job| job.end(result.clone()));
        Some(())
    }
}

impl Disk {
    fn begin(&mut self, process: u64, life: u64) -> Option<(Rows, Duration, Option<MemoryFailure>)> {
        if self.processes.life(process) != life {
            return None;
        }
        if self.processes.is_isolated(process) {
            return Some((self.synced.clone(), Duration::ZERO, Some(MemoryFailure::Refused)));
        }
        let number = self.begun;
        self.begun += 1;
        let at = self.failures.iter().position(|(at, _)| *at == number);
        let failure = at.and_then(|at| self.failures.remove(at)).map(|(_, failure)| failure);
        Some((self.synced.clone(), self.sync_time, failure))
    }

    fn crash(&mut self, process: u64) {
        self.processes.end(process);
        self.failures.clear();
        if self.processes.is_empty()
            && let Some(opened_at) = self.opened_at.take()
        {
            self.wall += opened_at.elapsed();
        }
    }
}

impl Open for MemoryLog {
    fn open(self, name: String, shards: u16) -> BoxFuture<'static, Result<Opened, JoinError>> {
        Box::pin(async move {
            let (life, turns) = {
                let mut disk = self.disk();
                if disk.processes.has_joined(self.process) {
                    return Err(JoinError::InUse("another batcher has joined it".to_owned()));
                }
                let (push, jobs) = mpsc::unbounded_channel();
                let turns = Turns::new(Arc::default(), move |job| push.send(job).is_ok());
                disk.processes.open(self.process, turns.clone());
                disk.opened_at.get_or_insert_with(Instant::now);
                let life = disk.processes.life(self.process);
                tokio::spawn(self.clone().write(life, jobs));
                (life, turns)
            };
            let engine = Arc::new(Life { log: self.clone(), life });
            match Local::join(engine, turns, &name, shards).await {
                Ok(log) => Ok(Opened::new(Arc::new(log))),
                Err(error) => {
                    self.disk().crash(self.process);
                    Err(error.into())
                }
            }
        })
    }
}

impl Engine for MemoryLog {}

impl fmt::Debug for MemoryLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryLog").field("transactions", &self.transactions()).finish_non_exhaustive()
    }
}
