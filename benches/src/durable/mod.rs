//! Jobs of the row `durable`, each of which runs in a child process under `sync_shim.c`.
//!
//! A job confirms ops for a time, and counts them in `CONFIRMED`. `rows::durable` starts the jobs by [`shim`], makes ratios
//! of their rates, and kills some of them by [`check`] to see whether what they confirmed is in their files.

mod by_hand;
pub mod check;
mod latency;
mod ours;
mod queue;
mod recovery;
pub mod shim;

use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use tokio::runtime::{Builder, Runtime};

use crate::{Error, clock::process_cpu};

/// The environment variable with the folder of a job's files.
pub const FOLDER: &str = "ROUNDLOT_BENCH_FOLDER";

/// The environment variable that makes a job print `CONFIRMED` again and again, until it is killed.
const TELL: &str = "ROUNDLOT_BENCH_TELL";

/// The number of ops in a chunk of `send_all`, and in a large transaction of the peers.
const CHUNK: u64 = 1000;

/// The number of senders with one op outstanding each.
pub const SENDERS: u64 = 64;

/// The names of the jobs that confirm ops for a time.
pub mod jobs {
    pub const ROWS_64: &str = "durable rows 64";
    pub const ROWS_1000: &str = "durable rows 1000";
    pub const ROWS_DELETED: &str = "durable rows 1000, deleted";
    pub const GROUP_COMMIT: &str = "durable group commit 64";
    pub const QUEUE: &str = "durable persistent-queue 64";
    pub const SEND: &str = "durable send 64";
    pub const SEND_ALL: &str = "durable send_all";
    pub const SEND_ALL_CALLS: &str = "durable send_all of 1000";
}

/// An op of 64 bytes, some 80 as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Order {
    id: u64,
    #[serde(with = "text")]
    body: [u8; 56],
}

const _: () = assert!(size_of::<Order>() == 64, "the figures are for ops of 64 bytes");

mod text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _, ser::Error as _};

    pub(super) fn serialize<S: Serializer>(body: &[u8; 56], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(std::str::from_utf8(body).map_err(S::Error::custom)?)
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<[u8; 56], D::Error> {
        <&str>::deserialize(from)?.as_bytes().try_into().map_err(D::Error::custom)
    }
}

impl Order {
    fn numbered(id: u64) -> Self {
        let mut body = *b"B BTCUSDT limit 64000.50 x 0.2500 gtc acct 7 tag .......";
        for (i, byte) in body[49..].iter_mut().enumerate() {
            *byte = b'a' + ((id >> (3 * i)) % 26) as u8;
        }
        Self { id, body }
    }

    fn bytes(&self) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes[..8].copy_from_slice(&self.id.to_le_bytes());
        bytes[8..].copy_from_slice(&self.body);
        bytes
    }
}

/// Ops that the job of this process has confirmed to its callers.
static CONFIRMED: AtomicU64 = AtomicU64::new(0);

fn confirm(ops: u64) {
    CONFIRMED.fetch_add(ops, Ordering::Release);
}

/// The results of a job that confirms ops for a time.
#[derive(Debug, Clone, Copy)]
pub struct Confirmed {
    pub ops: f64,
    /// Seconds until the last op was confirmed, and until all were settled.
    pub accepted: f64,
    pub settled: f64,
    /// Syncs until then.
    pub syncs_accepted: f64,
    pub syncs_settled: f64,
    pub cpu_ns_per_op: f64,
}

impl Confirmed {
    /// Reads the numbers that [`in_child`] returned.
    pub fn read(numbers: &[f64]) -> Option<Self> {
        let &[ops, accepted, settled, syncs_accepted, syncs_settled, cpu_ns_per_op] = numbers else { return None };
        Some(Self { ops, accepted, settled, syncs_accepted, syncs_settled, cpu_ns_per_op })
    }
}

/// The clock of a job.
struct Watch {
    at: Instant,
    cpu: u64,
    syncs: u64,
    time: Duration,
    accepted: Option<(f64, f64)>,
}

impl Watch {
    /// Starts the clock of a job that confirms ops for `time`.
    fn start(time: Duration) -> Self {
        if env::var_os(TELL).is_some() {
            std::thread::spawn(check::tell);
        }
        CONFIRMED.store(0, Ordering::Release);
        Self { cpu: process_cpu(), syncs: shim::syncs(), at: Instant::now(), time, accepted: None }
    }

    /// Whether the time is over, and the job has confirmed an op.
    fn is_over(&self) -> bool {
        self.at.elapsed() >= self.time && CONFIRMED.load(Ordering::Acquire) > 0
    }

    fn so_far(&self) -> (f64, f64) {
        (self.at.elapsed().as_secs_f64(), (shim::syncs() - self.syncs) as f64)
    }

    /// All ops are confirmed, and not yet settled.
    fn accepted(&mut self) {
        self.accepted = Some(self.so_far());
    }

    fn stop(self) -> Vec<f64> {
        let (settled, syncs_settled) = self.so_far();
        let (accepted, syncs_accepted) = self.accepted.unwrap_or((settled, syncs_settled));
        let ops = CONFIRMED.load(Ordering::Acquire) as f64;
        let cpu = (process_cpu() - self.cpu) as f64 / ops;
        vec![ops, accepted, settled, syncs_accepted, syncs_settled, cpu]
    }
}

/// The file of this name in the folder of the job.
fn file(name: &str) -> Result<PathBuf, Error> {
    let folder = env::var_os(FOLDER).ok_or("no folder for the job")?;
    Ok(Path::new(&folder).join(name))
}

/// Opens a database with the settings of the log in a file.
fn open(path: &Path) -> Result<Connection, Error> {
    let connection = Connection::open(path)?;
    connection.execute_batch(
        "PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 5000;",
    )?;
    Ok(connection)
}

/// Makes a WAL as large as it is in steady flow, so that syncs do not pay for its growth.
fn warm(path: &Path) -> Result<(), Error> {
    let connection = open(path)?;
    connection.execute_batch(
        "CREATE TABLE warm (bytes BLOB); INSERT INTO warm VALUES (zeroblob(12000000)); DROP TABLE warm;
         PRAGMA wal_checkpoint(RESTART);",
    )?;
    Ok(())
}

fn runtime(workers: usize) -> Result<Runtime, Error> {
    let mut builder = if workers == 0 { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    if workers > 0 {
        builder.worker_threads(workers);
    }
    Ok(builder.enable_all().build()?)
}

/// Runs a job in this process. `size` is a time in milliseconds, or a number of ops.
pub fn in_child(job: &str, size: u64) -> Result<Vec<f64>, Error> {
    let time = Duration::from_millis(size);
    match job {
        jobs::ROWS_64 => by_hand::rows(time, SENDERS, false),
        jobs::ROWS_1000 => by_hand::rows(time, CHUNK, false),
        jobs::ROWS_DELETED => by_hand::rows(time, CHUNK, true),
        jobs::GROUP_COMMIT => by_hand::group_commit(time),
        jobs::QUEUE => queue::run(time),
        jobs::SEND => ours::send(time),
        jobs::SEND_ALL => ours::send_all(time, true),
        jobs::SEND_ALL_CALLS => ours::send_all(time, false),
        check::FIND_ROWS => by_hand::find(false),
        check::FIND_LAST_ROW => by_hand::find(true),
        check::FIND_QUEUE => queue::find(),
        check::FIND_OURS => ours::find(),
        latency::COMMIT => latency::commit(size),
        latency::SEND => latency::send(size, 2),
        latency::SEND_LOCAL => latency::send(size, 0),
        latency::INTENT => latency::intent(size),
        recovery::FILL => recovery::fill(size),
        recovery::READ => recovery::read(size),
        recovery::RECOVER => recovery::recover(size),
        _ => Err(format!("there is no job {job}").into()),
    }
}

/// The names of the other jobs.
pub use latency::{COMMIT, INTENT, SEND as SEND_LATENCY, SEND_LOCAL};
pub use recovery::{FILL, READ, RECOVER};

/// Removes all files of a folder.
pub fn empty(folder: &Path) -> Result<(), Error> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        // The folder of the processes that share a log.
        if path.is_dir() { fs::remove_dir_all(path)? } else { fs::remove_file(path)? }
    }
    Ok(())
}
