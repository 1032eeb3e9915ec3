//! [`Log`]: the engine of a durable batcher, as its ingress and its leaders see it. It is shaped for several processes: frames
//! are numbered by their producer and may come twice, a term has an epoch, and every record of a term is fenced by it.
//!
//! | file | holds |
//! |---|---|
//! | `store` | the rows of a log, and the trait by which an engine reads and writes them in a transaction |
//! | `rules` | each request as a change of rows, the same for every engine on one machine |
//! | `frames` | the same for an engine that keeps frames, and has a ledger to settle them |
//! | `sums` | checksums of rows |
//! | `turns` | the requests that wait for the next transaction |
//! | `callers` | the calls that wait for it |
//! | `local` | a [`Log`] made of the three |
//! | `follow` | the rules of a process that follows a shard which another one leads |
//! | `followers` | the way of new frames to the leaders of this process |
//! | `search` | searches in frames that are read over a network |
//! | `lead` | which process leads a shard, and what others are told |

pub(crate) mod callers;
pub(crate) mod follow;
#[cfg(feature = "postgres")]
pub(crate) mod followers;
#[cfg(all(feature = "durable-file", feature = "postgres"))]
pub(crate) mod frames;
pub(crate) mod lead;
pub(crate) mod local;
pub(crate) mod rules;
#[cfg(feature = "postgres")]
pub(crate) mod search;
pub(crate) mod store;
#[cfg(any(feature = "durable-file", feature = "postgres"))]
pub(crate) mod sums;
pub(crate) mod turns;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures::future::BoxFuture;
use thiserror::Error;
use tokio::sync::mpsc;

#[cfg(feature = "postgres")]
use super::ledger::Ledger;
use super::{frame::Frame, transaction::Transaction};
use crate::rules::outcome::OpId;
use callers::Callers;
use lead::{IdRun, Lead, News, Reach};
use store::{ChargeRow, LetterRow, OutcomeRow};

/// Why the log did not do what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum LogError {
    /// Nothing was stored: there is no room.
    #[error("the log is full")]
    Full,
    /// Nothing was stored: dead letters have taken their share of the room.
    #[error("there are too many dead letters: discard some, or give them a sink")]
    LettersFull,
    /// Nothing was stored: a newer term has begun.
    #[error("a newer term of the shard has begun")]
    Fenced,
    /// Nothing was stored: the shard is paused.
    #[error("the shard is paused")]
    Paused,
    /// Nothing was stored: the frame was made too long ago.
    #[error("the frame was made too long ago to be stored")]
    Ghost,
    /// Nothing was stored, and the same may succeed later.
    #[error("nothing was stored: {0}")]
    Failed(String),
    /// Nothing was stored: the rows of a sink can't be committed.
    #[error("the rows of the sink can't be committed: {0}")]
    #[cfg_attr(
        not(any(feature = "durable-file", feature = "postgres")),
        expect(dead_code, reason = "in memory all rows can be")
    )]
    Uncommittable(String),
    /// The request may or may not have been stored.
    #[error("the commit has no known result: {0}")]
    Unknown(String),
    /// Nothing was stored: the log is not as the term has left it.
    #[error("the log went back: the server has lost what was confirmed")]
    WentBack,
    /// The log is closed, or its process has left it.
    #[error("the log is closed")]
    Closed,
    /// The log has another number of shards.
    #[error("the log has {has} shards, not {wanted}")]
    Shards { has: u16, wanted: u16 },
    /// The log and the ledger that settles it do not belong together.
    #[error("the log and its ledger do not belong together: {0}")]
    Unpaired(String),
    /// A row of the log is damaged.
    #[error("the log is damaged: {0}")]
    Damaged(String),
}

impl LogError {
    /// Whether nothing was stored and the same request may succeed later.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(self, Self::Full | Self::LettersFull | Self::Failed(_))
    }
}

/// Frames on their way into a shard.
pub(crate) trait Frames: Send + Sync + 'static {
    /// The frame that the log has not answered, or the next one. `None` if their process has given them up.
    fn frame(&self) -> Option<Frame>;

    /// The log's answer to the last frame, once for each call of [`Log::append`].
    fn answer(&self, result: Result<(), LogError>);
}

pub(crate) type Answer<'a, V> = BoxFuture<'a, Result<V, LogError>>;

/// A frame in the log. The position of its first op is `first`, and the others follow.
#[derive(Debug, Clone)]
pub(crate) struct StoredFrame {
    pub(crate) first: u64,
    pub(crate) bytes: Arc<[u8]>,
    /// Ops in it, and so positions that it takes.
    pub(crate) count: u64,
}

/// State with which a term begins.
#[derive(Debug, Clone, Default)]
pub(crate) struct TermState {
    /// The fence of all records of the term.
    pub(crate) epoch: u64,
    /// All positions below are settled.
    pub(crate) cursor: u64,
    /// Settled positions above the cursor, as first and last of each run.
    pub(crate) settled: Vec<(u64, u64)>,
    /// The position of the next op.
    pub(crate) next: u64,
    /// Intents without a settlement, by their number.
    pub(crate) intents: Vec<(u64, Vec<u8>)>,
    /// Draws from the buckets of the quota, in any order.
    pub(crate) charges: Vec<ChargeRow>,
    pub(crate) paused: bool,
    /// Terms begun since the shard last settled an op, this one included, but for those that ended in order.
    pub(crate) idle_terms: u32,
}

/// Changes that a term tells the log, all of them or none, under its fence.
#[derive(Debug, Clone, Default)]
pub(crate) struct Record {
    pub(crate) shard: u16,
    pub(crate) epoch: u64,
    /// Batches that are about to be written, or ops that are in doubt, by number.
    pub(crate) intents: Vec<(u64, Vec<u8>)>,
    /// Intents of which all is known.
    pub(crate) resolved: Vec<u64>,
    /// Runs of positions that are settled, as first and last.
    pub(crate) settled: Vec<(u64, u64)>,
    pub(crate) outcomes: Vec<OutcomeRow>,
    pub(crate) letters: Vec<LetterRow>,
    /// Draws of batches from the buckets of the quota.
    pub(crate) charges: Vec<ChargeRow>,
    pub(crate) paused: Option<bool>,
    /// Whether batches are written once it is stored, which a paused shard allows no more.
    pub(crate) starts: bool,
    /// Whether the term has ended and its process lives on, so that the term is no sign of an op that kills its process. It counts after newer
    /// terms have begun, too, and therefore nothing else of such a record is stored.
    pub(crate) survived: bool,
}

/// Writes of a sink that share a transaction with the record of what they settle.
pub(crate) trait Work: Send {
    /// Writes. Returns what the log is to record with it; with `None`, all that was written is undone. May be called again if
    /// the transaction as a whole was undone.
    fn run(&mut self, transaction: &mut Transaction<'_>) -> Option<Record>;

    /// Called once the fate of the transaction is known: whether it has committed with the record. Work that is dropped without
    /// it has changed nothing.
    fn end(self: Box<Self>, result: Result<bool, LogError>);
}

/// Tells under which fence work runs, and how long it may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lease {
    pub(crate) shard: u16,
    pub(crate) epoch: u64,
    pub(crate) timeout: Duration,
}

/// Outcomes that a term wants to be forgotten.
#[derive(Debug, Clone, Default)]
pub(crate) struct Purge {
    /// The time before which they were recorded, in nanoseconds since 1970.
    pub(crate) before: u64,
    /// The time before which charges have expired, in nanoseconds since 1970.
    pub(crate) now: u64,
    /// The lowest number, by producer, of the ops that may repeat an id and are not settled. Outcomes from it on are kept: a later
    /// term asks for the ids of these ops again, and must find what this one has found.
    pub(crate) open: BTreeMap<u64, u64>,
    /// The position from which on the term has not read the log.
    pub(crate) unread: u64,
}

/// The log's answer about an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    Ended(OutcomeRow),
    /// The id has no outcome: it waits, is on its way, or was never accepted.
    Unknown,
    /// The id is older than what the log remembers, or of another log.
    Forgotten,
}

/// How large the log is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) bytes: u64,
    /// Transactions that this process has committed.
    pub(crate) commits: u64,
}

/// An open log. Futures may be dropped: the request is then carried out all the same, or not at all.
pub(crate) trait Log: Send + Sync + 'static {
    /// The time by which frames are stamped and ops expire.
    fn now(&self) -> SystemTime;

    /// The number by which the log knows this process.
    fn producer(&self) -> u64;

    /// All frames that are stored from now on, in order. A frame arrives here before its append is answered.
    fn follow(&self, shard: u16) -> mpsc::UnboundedReceiver<StoredFrame>;

    /// Stores the next frame of these, which is asked for when there is a transaction for it. The same frame again changes
    /// nothing.
    fn append(&self, shard: u16, frames: Arc<dyn Frames>);

    /// The calls that wait for the log to be synced.
    fn callers(&self) -> Arc<Callers>;

    /// Takes the right to lead a shard, if it is free and this process is the one to have it.
    fn try_lead(&self, shard: u16) -> Option<Lead>;

    /// Notices of what other processes do in a shard.
    fn news(&self, shard: u16) -> Arc<News>;

    /// Asks the process that leads a shard to make due all that waits.
    fn press(&self, shard: u16);

    /// Whether other processes have joined the log.
    fn has_company(&self) -> bool;

    /// Whether a process has joined the log, so that frames of it may still come.
    fn is_member(&self, producer: u64) -> bool;

    /// Outcomes of ops with these ids, some of them at least if there are any.
    fn ended(&self, shard: u16, ids: Vec<IdRun>) -> Answer<'_, Vec<OutcomeRow>>;

    /// How far a shard has come.
    fn reach(&self, shard: u16) -> Answer<'_, Reach>;

    /// The position behind all that the log of a shard holds at the call, whoever has stored it.
    fn end(&self, shard: u16) -> Answer<'_, u64> {
        Box::pin(async move { Ok(self.reach(shard).await?.next) })
    }

    /// Pauses a shard that another process leads, or ends the pause. Returns how many ops may be under way.
    fn set_paused(&self, shard: u16, paused: bool) -> Answer<'_, u64>;

    /// Whether a frame holds an op that is not settled.
    fn holds(&self, id: OpId) -> Answer<'_, bool>;

    /// Begins a term: older ones of the shard are fenced off.
    fn begin(&self, shard: u16) -> Answer<'_, TermState>;

    /// Some frames that hold the position or later ones, in order.
    fn read(&self, shard: u16, from: u64) -> Answer<'_, Vec<StoredFrame>>;

    fn record(&self, record: Arc<Record>) -> Answer<'_, ()>;

    /// Runs work in the next transaction.
    fn transact(&self, lease: Lease, work: Box<dyn Work>);

    fn find(&self, id: OpId) -> Answer<'_, Found>;

    /// Leaves settled ops out of the frames with these first positions.
    fn compact(&self, shard: u16, frames: Vec<u64>) -> Answer<'_, ()>;

    /// Forgets some outcomes. Returns whether there may be more.
    fn purge(&self, shard: u16, purge: Purge) -> Answer<'_, bool>;

    /// Dead letters behind this one, in order of their ids.
    fn letters(&self, shard: u16, after: Option<(u64, u64)>, limit: usize) -> Answer<'_, Vec<LetterRow>>;

    /// Removes a dead letter. Returns whether there was one.
    fn discard(&self, id: OpId) -> Answer<'_, bool>;

    /// Moves the op of a dead letter to the end of the log, under another number of this producer. Returns its new id, which
    /// is that of an earlier request if that one was cut short. `None` if there is no such letter.
    fn requeue(&self, id: OpId, number: u64) -> Answer<'_, Option<OpId>>;

    /// The ledger that settles the log, if the log does not do so itself.
    #[cfg(feature = "postgres")]
    fn ledger(&self) -> Option<&Ledger> {
        None
    }

    fn size(&self) -> Size;

    /// Gives the log up to other processes. Requests that come later are refused.
    fn close(&self) -> BoxFuture<'_, ()>;
}
