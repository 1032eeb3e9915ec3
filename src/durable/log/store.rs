//! The rows of a log, and [`Store`]: the trait by which an engine reads and writes them. All calls of one transaction see each
//! other, and take effect together or not at all.

use std::{sync::Arc, time::Duration};

use super::{LogError, Record};
use crate::durable::transaction::Transaction;

/// A log of one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogRow {
    /// The number of the log in its file. A shard's key is made of it.
    pub(crate) log: u16,
    pub(crate) shards: u16,
    /// The number of the next process that joins.
    pub(crate) next_producer: u64,
}

/// One shard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ShardRow {
    pub(crate) epoch: u64,
    /// The position of the next op.
    pub(crate) next: u64,
    /// All positions below are settled.
    pub(crate) cursor: u64,
    pub(crate) paused: bool,
    pub(crate) idle_terms: u32,
}

impl ShardRow {
    /// The row when a term begins and `next` is the position of the next op. A term in which nothing waits is no sign of an op that
    /// kills its process.
    pub(crate) fn in_next_term(self, next: u64) -> Self {
        let idle_terms = if self.cursor < next { self.idle_terms.saturating_add(1) } else { 0 };
        Self { epoch: self.epoch + 1, idle_terms, ..self }
    }

    /// The row with what a record says, which moves the cursor to `cursor`.
    pub(crate) fn with(self, record: &Record, cursor: u64) -> Self {
        let idle_terms = if record.settled.is_empty() { self.idle_terms } else { 0 };
        Self { cursor, idle_terms, paused: record.paused.unwrap_or(self.paused), ..self }
    }

    /// The row when the process of a term that was counted says that it has survived it.
    pub(crate) fn survived(self) -> Self {
        Self { idle_terms: self.idle_terms.saturating_sub(1), ..self }
    }
}

/// One process, as a shard knows it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ProducerRow {
    /// The number of its last frame, and the position of that frame's first op.
    pub(crate) frame: u64,
    pub(crate) first: u64,
    /// Numbers of ops below may be forgotten.
    pub(crate) floor: u64,
    /// Numbers of ops below may have been sent by another process, so that those that this one sends later may repeat them.
    pub(crate) claimed: u64,
}

/// How ops of consecutive numbers ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OutcomeRow {
    pub(crate) producer: u64,
    pub(crate) first: u64,
    pub(crate) count: u64,
    /// The name of the [`End`](crate::End), or `mixed`: then `result` has several rows, as `outcomes` writes them.
    pub(crate) end: &'static str,
    pub(crate) attempts: u32,
    /// When it was recorded, in nanoseconds since 1970. The engine sets it.
    pub(crate) at: u64,
    pub(crate) schema: u32,
    /// The receipt or the error, as `outcomes` writes it.
    pub(crate) result: Vec<u8>,
    /// Where the results differ: the length of each without its first byte, which they share, as numbers of variable length. In
    /// `result` they follow that byte, each with a line feed behind it.
    pub(crate) lengths: Vec<u8>,
}

impl OutcomeRow {
    /// Memory that the row takes.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>() + self.result.len() + self.lengths.len()
    }
}

/// An op that was given up or is in doubt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LetterRow {
    pub(crate) producer: u64,
    pub(crate) number: u64,
    /// The position whose bytes in the log are the op's; the engine copies them into `op`. `None` once that is done.
    pub(crate) position: Option<u64>,
    pub(crate) op: Vec<u8>,
    pub(crate) schema: u32,
    pub(crate) end: &'static str,
    pub(crate) attempts: u32,
    /// The error as JSON.
    pub(crate) error: Vec<u8>,
    /// When it was recorded, in nanoseconds since 1970. The engine sets it.
    pub(crate) at: u64,
}

/// Costs that were drawn from a bucket of a quota.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChargeRow {
    pub(crate) bucket: Arc<str>,
    /// The hash of its key.
    pub(crate) key: u64,
    /// Draws of one grain of time are one row.
    pub(crate) grain: u64,
    /// When the last of them was made, in nanoseconds since 1970.
    pub(crate) at: u64,
    pub(crate) cost: u64,
    /// When it stops counting, in nanoseconds since 1970.
    pub(crate) expires: u64,
}

pub(crate) type Stored<V> = Result<V, LogError>;

/// A frame's position and its bytes.
pub(crate) type FrameRow = (u64, Arc<[u8]>);

/// The rows of all logs of one engine, within a transaction. A shard is named by its key: the log's number and its own.
pub(crate) trait Store {
    /// Runs work of a sink, whose changes stay if it returns true. The engine ends what takes longer than `timeout`, as far as
    /// it can. Returns whether the changes stay.
    fn nested(&mut self, timeout: Duration, work: &mut dyn FnMut(&mut Transaction<'_>) -> bool) -> Stored<bool>;

    /// Whether ops may be accepted, or the rest of the room is kept for settlements.
    fn has_room(&mut self, bytes: usize) -> Stored<bool>;

    /// Whether dead letters may be stored, or their share of the room is full.
    fn has_letter_room(&mut self) -> Stored<bool>;

    fn log(&mut self, name: &str) -> Stored<Option<LogRow>>;
    fn logs(&mut self) -> Stored<u16>;
    fn put_log(&mut self, name: &str, row: &LogRow) -> Stored<()>;

    /// The number that the log shares with the ledger which settles it. `None` if the log settles itself.
    fn pairing(&mut self, log: u16) -> Stored<Option<u64>>;
    #[cfg(all(feature = "durable-file", feature = "postgres"))]
    fn put_pairing(&mut self, log: u16, pairing: u64) -> Stored<()>;

    fn shard(&mut self, shard: u32) -> Stored<ShardRow>;
    fn put_shard(&mut self, shard: u32, row: &ShardRow) -> Stored<()>;

    fn producer(&mut self, shard: u32, producer: u64) -> Stored<Option<ProducerRow>>;
    fn put_producer(&mut self, shard: u32, producer: u64, row: &ProducerRow) -> Stored<()>;

    /// Frames with a position of at least `from`, at most `limit`, in order.
    fn frames(&mut self, shard: u32, from: u64, limit: usize) -> Stored<Vec<FrameRow>>;
    /// Stores a frame, in the place of one with the same first position.
    fn put_frame(&mut self, shard: u32, first: u64, count: u64, bytes: &Arc<[u8]>) -> Stored<()>;
    /// Removes the frames that lie within these positions, all of them settled.
    fn remove_frames(&mut self, shard: u32, first: u64, last: u64) -> Stored<()>;

    /// Runs of settled positions above the cursor.
    fn settled(&mut self, shard: u32) -> Stored<Vec<(u64, u64)>>;
    /// The last run that begins at or before a position.
    fn settled_at(&mut self, shard: u32, position: u64) -> Stored<Option<(u64, u64)>>;
    fn put_settled(&mut self, shard: u32, first: u64, last: u64) -> Stored<()>;
    fn remove_settled(&mut self, shard: u32, first: u64) -> Stored<()>;

    fn intents(&mut self, shard: u32) -> Stored<Vec<(u64, Vec<u8>)>>;
    fn put_intent(&mut self, shard: u32, number: u64, intent: &[u8]) -> Stored<()>;
    fn remove_intent(&mut self, shard: u32, number: u64) -> Stored<()>;

    /// Draws from the buckets of the shard's quota, in any order.
    fn charges(&mut self, shard: u32) -> Stored<Vec<ChargeRow>>;
    /// Adds the cost to a row of the same bucket, key and grain, if there is one.
    fn add_charge(&mut self, shard: u32, row: &ChargeRow) -> Stored<()>;
    /// Removes what expired before a time.
    fn remove_charges(&mut self, shard: u32, before: u64) -> Stored<()>;

    /// The outcome of one op.
    fn outcome(&mut self, shard: u32, producer: u64, number: u64) -> Stored<Option<OutcomeRow>>;
    /// Outcomes behind a producer and number, in order of both. Those of a producer are about the oldest first.
    fn outcomes(&mut self, shard: u32, after: (u64, u64), limit: usize) -> Stored<Vec<OutcomeRow>>;
    fn put_outcome(&mut self, shard: u32, row: &OutcomeRow) -> Stored<()>;
    fn remove_outcome(&mut self, shard: u32, producer: u64, first: u64) -> Stored<()>;

    fn letters(&mut self, shard: u32, after: Option<(u64, u64)>, limit: usize) -> Stored<Vec<LetterRow>>;
    fn letter(&mut self, shard: u32, producer: u64, number: u64) -> Stored<Option<LetterRow>>;
    fn put_letter(&mut self, shard: u32, row: &LetterRow) -> Stored<()>;
    fn remove_letter(&mut self, shard: u32, producer: u64, number: u64) -> Stored<()>;
}

/// A log with a ledger, as its frames are found.
#[cfg(feature = "postgres")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Paired {
    /// The number of the log where its frames are.
    #[cfg(feature = "durable-file")]
    pub(crate) log: u16,
    /// The number that log and ledger share.
    pub(crate) pairing: u64,
    /// The least number that the next process may have.
    pub(crate) next_producer: u64,
    /// Whether a term has begun, so that the ledger must know the log.
    pub(crate) has_begun: bool,
}

/// An outcome that may be forgotten: producer, first number and count.
#[cfg(feature = "postgres")]
pub(crate) type OldOutcome = (u64, u64, u64);

/// The key of a shard of a log.
pub(crate) fn shard_key(log: u16, shard: u16) -> u32 {
    u32::from(log) << 16 | u32::from(shard)
}
