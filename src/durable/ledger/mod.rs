//! [`Ledger`]: settles a log in PostgreSQL. Frames stay in the engine that accepts them, which may be the same database; the fence of each shard, settled
//! positions, intents, outcomes, dead letters and the pause are tables in a database. So a sink that writes into the same database
//! has its rows and the record of what they settle in one transaction.
//!
//! Invariant: whatever changes the rows of a shard is a transaction that has locked its row in `roundlot_shards` and compared the
//! epoch. A transaction without a known result keeps that lock until it has ended, so that the next term waits for its fate.
//!
//! | file | holds |
//! |---|---|
//! | `schema` | the tables, and what must be true of a database before it is used |
//! | `session` | sessions with the server, and the meaning of its errors |
//! | `settle` | transactions under the fence: terms, records, the work of sinks |
//! | `lookups` | requests without a fence: outcomes and dead letters |
//! | `rows` | rows as the statements take and return them |
//! | `charges` | rows of quotas |
//! | `letters` | how many bytes dead letters take, and may |
//! | `log` | the log of a file that has a ledger |

mod charges;
mod letters;
#[cfg(feature = "durable-file")]
mod log;
pub(crate) mod lookups;
pub(crate) mod rows;
pub(crate) mod schema;
pub(crate) mod session;
mod settle;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::Mutex;

use super::{
    log::{Answer, LogError, Record},
    settled::Settled,
};
use crate::sink::postgres::Server;
pub(crate) use letters::LetterBytes;
#[cfg(feature = "durable-file")]
pub(super) use log::open;
use session::Slot;
pub(super) use settle::{Fence, Undone};

/// The engine that has the frames of a log. A ledger tells it what is settled.
pub(crate) trait FrameStore: Send + Sync + 'static {
    /// Nanoseconds since 1970.
    fn now(&self) -> u64;

    /// The bytes of ops that are not settled, by their positions.
    fn ops(&self, shard: u16, positions: Vec<u64>) -> Answer<'_, Vec<Vec<u8>>>;

    /// All positions below the cursor and all in these runs are settled, for good. Frames that hold no others may go; a crash
    /// before that loses nothing.
    fn forget(&self, shard: u16, cursor: u64, runs: Vec<(u64, u64)>);

    /// A record was committed.
    fn recorded(&self, _record: &Record) {}
}

/// The settlements of one log in a database. Each shard has a session of its own, and all lookups share one.
pub(crate) struct Ledger {
    server: Arc<Server>,
    /// The schema of the tables, quoted.
    schema: String,
    /// The number of the log in its database.
    log: i32,
    shards: Vec<Mutex<Lead>>,
    lookups: Mutex<Slot>,
    letters: LetterBytes,
    /// How long the server keeps a transaction open whose client says nothing, besides the time that a sink has.
    patience: Duration,
    frames: Arc<dyn FrameStore>,
    commits: AtomicU64,
}

/// A shard as this process leads it. Locked for the time of a request.
#[derive(Default)]
struct Lead {
    slot: Slot,
    /// Settled positions as of this epoch's last commit. `None` where they must be read again.
    known: Option<(u64, Settled)>,
    /// The server's timeline when the term began, which each promotion of a standby changes. `None` if the server does not say.
    timeline: Option<String>,
}

/// How long the ledger's server keeps a transaction open whose client says nothing, at least. With a longer lease it is as long as that.
const MIN_PATIENCE: Duration = Duration::from_secs(1);

/// How long it does so with a lease.
pub(crate) fn patience(lease: Duration) -> Duration {
    lease.max(MIN_PATIENCE)
}

/// The session of a shard that this process leads. It ends with the lead, since the server has only so many for all processes.
pub(crate) struct ShardSession {
    ledger: Arc<Ledger>,
    shard: u16,
}

impl ShardSession {
    pub(crate) fn new(ledger: &Arc<Ledger>, shard: u16) -> Self {
        Self { ledger: Arc::clone(ledger), shard }
    }
}

impl Drop for ShardSession {
    fn drop(&mut self) {
        let (ledger, shard) = (Arc::clone(&self.ledger), self.shard);
        // Without a runtime, the session has ended with its connection.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { ledger.end_session(shard).await });
        }
    }
}

impl Ledger {
    /// Transactions that this process has committed.
    pub(crate) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    /// Ends all sessions.
    pub(crate) async fn close(&self) {
        for shard in &self.shards {
            shard.lock().await.slot.end().await;
        }
        self.lookups.lock().await.end().await;
    }

    /// Ends the session of a shard that this process does not lead any more.
    async fn end_session(&self, shard: u16) {
        if let Ok(lead) = self.shard(shard) {
            lead.lock().await.slot.end().await;
        }
    }

    /// The cursor and the settled runs above, as of the last commit of the term. `None` if they have to be read again.
    pub(crate) async fn known(&self, shard: u16) -> Result<Option<(u64, Vec<(u64, u64)>)>, LogError> {
        let lead = self.shard(shard)?.lock().await;
        Ok(lead.known.as_ref().map(|(_, settled)| (settled.cursor(), settled.above())))
    }

    fn shard(&self, shard: u16) -> Result<&Mutex<Lead>, LogError> {
        self.shards.get(usize::from(shard)).ok_or(LogError::Closed)
    }

    /// A statement, with the schema of the tables filled in.
    fn sql(&self, text: &str) -> String {
        text.replace("{s}", &self.schema)
    }
}

#[cfg(test)]
mod tests;
