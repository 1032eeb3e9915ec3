//! [`File`]: the engine that keeps logs in a SQLite file (feature `durable-file`). One thread per file and process writes, and
//! commits once per turn for all logs in it.
//!
//! | file | holds |
//! |---|---|
//! | `member` | one log of a file |
//! | `open` | what must be true of a file before it is used: lock, file system, format, mark |
//! | `verify` | looks for damage in a file |
//! | `vacuum` | pages that hold nothing |
//! | `writer` | the thread |
//! | `turn` | its transactions |
//! | `gathering` | how long it waits for callers before it begins one |
//! | `store` | rows |
//! | `charges` | rows of quotas |
//! | `schema` | tables |
//! | `views` | views for people |
//! | `nodes` | the processes that have a file open, and which of them leads a shard |
//! | `guard` | what the closure of a transactional sink may do |
//! | `letters` | dead letters, and their share of the room |
//! | `wal` | how large it is, and who keeps it |
//! | `wal_end` | how far it reached, which the mark keeps |
//! | `mark` | the second file, which tells a file that is older than it should be |

mod charges;
#[cfg(all(any(test, fuzzing), feature = "testing"))]
pub(super) mod fuzzing;
mod gathering;
mod guard;
mod letters;
mod mark;
mod member;
mod nodes;
mod open;
mod schema;
mod store;
mod turn;
mod vacuum;
mod verify;
mod views;
mod wal;
mod wal_end;
mod writer;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, mpsc},
};

use futures::future::BoxFuture;

use super::{
    engine::{Engine, Open, Opened},
    error::JoinError,
    log::{
        callers::Callers,
        local::{self, Local},
        turns::Turns,
    },
};
#[cfg(feature = "postgres")]
use crate::sink::postgres::Postgres;
use member::Member;
use nodes::Nodes;
use writer::{Gauges, Message, Started};

/// Bytes of a file at which no more ops are accepted, by default: 4 GiB.
const MAX_BYTES: u64 = 4 << 30;

/// A log in a SQLite file, on a disk of this machine: crash-safe with nothing to install.
///
/// What is confirmed has been synced (WAL, `synchronous=FULL`). The file holds the logs of many names. Several processes of
/// this machine may join each of them: see [the guide](crate::guide::durable#several-processes). A second file, the mark, tells when the
/// file is older than what was confirmed: a backup, or a loss.
///
/// Open it with `sqlite3` at any time. Five views are for people, and [the guide](crate::guide::durable#looking-into-the-file) shows
/// each of them:
///
/// | view | has |
/// |---|---|
/// | `roundlot_summary` | a row per shard: whether it is paused, and how many ops wait, have ended or are dead |
/// | `roundlot_waiting` | each op that has not ended: id, position, time of acceptance, whether it is in doubt, op |
/// | `roundlot_in_doubt` | each op that may have been sent and has not ended, as it is sent, with the ids that it stands for |
/// | `roundlot_ended` | each op that has ended, until its outcome is forgotten: id, end, attempts, time, receipt or error |
/// | `roundlot_dead_letters` | each dead letter: id, end, attempts, time, op, error |
///
/// Times are UTC. Ops and receipts are shown as the text that the codec has made. Columns of a view may change with the version, and
/// the views are made anew by the first process that opens the file; the log itself reads none.
/// A reader that stays open keeps the WAL from being reset, which then counts against the cap.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use roundlot::{Batch, durable::{Durable, File}, sink_fn};
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("orders.db");
/// let print = |_| {
///     sink_fn(|batch: &mut Batch<String>| {
///         Box::pin(async move {
///             batch.pending().for_each(|op| println!("{op}"));
///             Ok(batch.accept_all())
///         })
///     })
/// };
/// let orders = Durable::new("orders", File::at(&path)).sink(print).join().await?;
/// orders.handle().send("buy 5".to_owned()).await?; // survives the process from here on
/// orders.leave().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "a file does nothing until a durable batcher joins it"]
pub struct File {
    path: PathBuf,
    max_bytes: u64,
    is_restored: bool,
    is_exclusive: bool,
    /// The database that settles the logs.
    #[cfg(feature = "postgres")]
    ledger: Option<Postgres>,
}

impl File {
    /// The file at this path, which is made if it is missing, readable by its owner alone. Its folder must be there.
    pub fn at(path: impl AsRef<Path>) -> Self {
        Self {
            path: path.as_ref().to_owned(),
            max_bytes: MAX_BYTES,
            is_restored: false,
            is_exclusive: false,
            #[cfg(feature = "postgres")]
            ledger: None,
        }
    }

    /// The cap of the file and its WAL, 4 GiB by default and 16 MiB at least. The last eighth is kept for settlements, so that
    /// a full log can always drain. Dead letters take a sixteenth at most, here or in a ledger: then a shard holds that has
    /// another one, until some are discarded.
    pub fn max_bytes(self, max_bytes: u64) -> Self {
        Self { max_bytes, ..self }
    }

    /// Allows a file that is older than its mark: a backup in the place of the file. Its waiting ops may have been sent since
    /// it was made, so all of them are in doubt: an idempotent sink gets them again, any other one is asked about them by
    /// [`reconcile`](crate::Sink::reconcile), and those that it does not know end in doubt. A file that is as new as its mark is
    /// opened as ever.
    pub fn restored(self) -> Self {
        Self { is_restored: true, ..self }
    }

    /// Keeps the file for this process. [`join`](super::Durable::join) refuses a file that another process has open, and as long as
    /// this one has it open, theirs refuses it. The error names the process. A file with a ledger is of one process in any case.
    pub fn exclusive(self) -> Self {
        Self { is_exclusive: true, ..self }
    }
}

#[cfg(feature = "postgres")]
#[cfg_attr(docsrs, doc(cfg(feature = "postgres")))]
impl File {
    /// Settles the log in the PostgreSQL database of this URL, so that a sink can write there exactly once: by
    /// [`Term::postgres`](super::Term::postgres), or as a [`LedgerTable`](crate::sink::postgres::LedgerTable).
    ///
    /// The file keeps the ops that wait; a send needs nothing but the file. Fence, settlements, intents, outcomes, dead letters and
    /// the pause are in tables `roundlot_..` of the database, in the schema that the URL's `search_path` names first. They are made
    /// if they are missing. While the server is away, ops are accepted up to
    /// [`max_pending`](crate::Limits::max_pending), and nothing is sent.
    ///
    /// File and database belong together from the first [`join`](super::Durable::join) on. It refuses a file without its ledger, a
    /// ledger without its file, one that is older than the other, and a server that does not sync what it commits
    /// (`fsync = off`). The URL is read as [`Postgres::url`] does.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use roundlot::{durable::{Durable, File}, sink::{postgres::LedgerTable, table::Table}};
    ///
    /// let table = Table::<i64>::new("amounts").integer("amount", |amount| *amount).create_if_missing();
    /// let table = LedgerTable::new(table)?;
    /// let file = File::at("amounts.db").ledger("postgres://bob@db.example/books?sslmode=verify-full");
    /// let amounts = Durable::new("amounts", file).sink(move |term| table.sink(term)).join().await?;
    /// amounts.handle().submit(7).await?.await?; // the row is in the table, once
    /// # Ok(())
    /// # }
    /// ```
    pub fn ledger(self, url: impl AsRef<str>) -> Self {
        self.ledger_with(Postgres::url(url))
    }

    /// The same with the server of these settings. Only the address counts: each shard has one connection, and all lookups share
    /// one.
    pub fn ledger_with(self, settings: Postgres) -> Self {
        Self { ledger: Some(settings), is_exclusive: true, ..self }
    }
}

/// The files that this process has open, by path; `None` while one is opened or closed, which may take long and keeps no other file
/// waiting.
static OPEN: Mutex<BTreeMap<PathBuf, Option<OpenFile>>> = Mutex::new(BTreeMap::new());

/// Notified when a file has been opened or closed.
static CHANGED: Condvar = Condvar::new();

fn open_files() -> MutexGuard<'static, BTreeMap<PathBuf, Option<OpenFile>>> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A file with a writer.
struct OpenFile {
    messages: mpsc::Sender<Message>,
    gauges: Arc<Gauges>,
    callers: Arc<Callers>,
    nodes: Arc<Nodes>,
    /// Logs that batchers of this process have joined.
    names: BTreeSet<String>,
}

/// Joins a log of a file: opens the file, unless this process has it open. Blocks.
fn enter(file: &File, name: &str) -> Result<(Member, Turns), JoinError> {
    let path = open::absolute(&file.path)?;
    let mut files = open_files();
    while matches!(files.get(&path), Some(None)) {
        files = CHANGED.wait(files).unwrap_or_else(PoisonError::into_inner);
    }
    if !files.contains_key(&path) {
        files.insert(path.clone(), None);
        drop(files);
        let callers = Arc::default();
        let started = writer::start(&path, file, Arc::clone(&callers));
        files = open_files();
        CHANGED.notify_all();
        let Started { messages, gauges, nodes } = started.inspect_err(|_| drop(files.remove(&path)))?;
        files.insert(path.clone(), Some(OpenFile { messages, gauges, callers, nodes, names: BTreeSet::new() }));
    }
    let open = files.get_mut(&path).and_then(Option::as_mut);
    let open = open.ok_or_else(|| JoinError::Open("it has just been closed".to_owned()))?;
    if !open.names.insert(name.to_owned()) {
        return Err(JoinError::InUse(format!("this process has joined {name} already")));
    }
    let messages = open.messages.clone();
    let turns = Turns::new(Arc::clone(&open.callers), move |job| messages.send(Message::Job(job)).is_ok());
    let (gauges, nodes) = (Arc::clone(&open.gauges), Arc::clone(&open.nodes));
    Ok((
        Member { path, name: name.to_owned(), gauges, nodes, number: OnceLock::new(), has_left: Arc::default() },
        turns,
    ))
}

/// Leaves a log, and closes the file with the last one. Blocks.
fn exit(path: &Path, name: &str) {
    let mut files = open_files();
    let Some(Some(open)) = files.get_mut(path) else {
        return;
    };
    open.names.remove(name);
    if !open.names.is_empty() {
        return;
    }
    let closing = files.insert(path.to_owned(), None).flatten();
    drop(files);
    if let Some(open) = closing {
        let (done, closed) = mpsc::channel();
        if open.messages.send(Message::Close(done)).is_ok() {
            // An error means that the writer is gone, and with it the lock.
            let _ = closed.recv();
        }
    }
    open_files().remove(path);
    CHANGED.notify_all();
}

impl Open for File {
    fn open(self, name: String, shards: u16) -> BoxFuture<'static, Result<Opened, JoinError>> {
        Box::pin(async move {
            #[cfg(feature = "postgres")]
            let ledger = self.ledger.clone();
            #[cfg(feature = "postgres")]
            let max_letter_bytes = writer::max_letter_bytes(self.max_bytes);
            let of = name.clone();
            let entering = tokio::task::spawn_blocking(move || enter(&self, &of)).await;
            let (member, turns) = entering.map_err(|error| JoinError::Open(error.to_string()))??;
            let engine = Arc::new(member);
            #[cfg(feature = "postgres")]
            if let Some(settings) = ledger {
                let engine_of_log = Arc::clone(&engine);
                let opened =
                    super::ledger::open(engine_of_log, turns, &settings, &name, shards, max_letter_bytes).await;
                if opened.is_err() {
                    local::Engine::close(&*engine).await;
                }
                return opened.map(Opened::new);
            }
            match Local::join(Arc::clone(&engine), turns, &name, shards).await {
                Ok(log) => Ok(Opened::new(Arc::new(log))),
                Err(error) => {
                    local::Engine::close(&*engine).await;
                    Err(error.into())
                }
            }
        })
    }
}

impl Engine for File {}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Goal: logs of a file that leave at once do not wait for each other. Method: the writer's thread drops the last use of a
    /// log while another thread leaves, which holds the list of open files.
    #[test]
    fn the_writer_does_not_wait_for_logs_that_leave() {
        let folder = tempfile::tempdir().unwrap();
        let file = File::at(folder.path().join("orders.db"));
        let (member, turns) = enter(&file, "orders").unwrap();
        let (dropped, is_dropped) = mpsc::channel();
        let leaving = open_files();
        let mut member = Some(member);
        let work = move |_: &mut dyn super::super::log::store::Store| {
            drop(member.take());
            dropped.send(()).unwrap();
            Ok(())
        };
        drop(turns.run(work, |()| {}));
        is_dropped.recv_timeout(Duration::from_secs(60)).expect("the writer waits for the list");
        drop(leaving);
        let path = open::absolute(&file.path).unwrap();
        let until = std::time::Instant::now() + Duration::from_secs(60);
        while open_files().contains_key(&path) && std::time::Instant::now() < until {
            std::thread::yield_now();
        }
        enter(&file, "orders").unwrap().0.leaving()();
    }
}
