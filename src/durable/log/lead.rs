//! [`Lead`]: the right to lead a shard; and [`News`]: what other processes have done in it. An engine hands both out. One process
//! at a time has the lead of a shard, and its terms follow each other; all others that have joined the log follow the shard.

use std::{
    any::Any,
    sync::{Mutex, PoisonError},
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::store::OutcomeRow;

/// Bytes of outcomes that were told and not heard, at most. With more of them the log is looked at.
const MAX_UNHEARD: usize = 4 << 20;

/// The right to lead a shard, until this is dropped.
pub(crate) struct Lead {
    /// Canceled when another process is to lead the shard.
    pub(crate) asked_back: CancellationToken,
    /// The lock, whatever it is.
    _held: Box<dyn Any + Send + Sync>,
}

impl Lead {
    pub(crate) fn new(asked_back: CancellationToken, held: impl Any + Send + Sync) -> Self {
        Self { asked_back, _held: Box::new(held) }
    }

    /// The same, with something that is dropped before the lock is.
    #[cfg(feature = "postgres")]
    pub(crate) fn with(self, first: impl Any + Send + Sync) -> Self {
        Self { _held: Box::new((first, self._held)), ..self }
    }
}

/// A process that has joined a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Membership {
    /// The number of the log in its file.
    pub(crate) log: u16,
    /// The number of the process in the log.
    pub(crate) producer: u64,
}

/// The process, of those that have joined a log, that should lead a shard: each gets every so many-th.
pub(crate) fn preferred(members: &[Membership], shard: u16) -> Option<Membership> {
    let place = usize::from(shard).checked_rem(members.len())?;
    members.get(place).copied()
}

/// Notices of what other processes have done in a shard. Some may be lost, so that the log is looked at now and then as well.
#[derive(Debug, Default)]
pub(crate) struct News {
    /// Notified when the log may hold something new, or the lead may be free.
    pub(crate) changed: Notify,
    /// Notified when another process wants all that waits to be due.
    pub(crate) pressed: Notify,
    /// Notified when the leader has settled something and told of the outcomes.
    pub(crate) told: Notify,
    outcomes: Mutex<Unheard>,
}

impl News {
    /// The leader has settled something, with these outcomes of ops of this process.
    #[cfg_attr(not(feature = "durable-nats"), expect(dead_code, reason = "in other engines a process looks"))]
    pub(crate) fn tell(&self, rows: Vec<OutcomeRow>) {
        let mut outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        outcomes.bytes += rows.iter().map(OutcomeRow::bytes).sum::<usize>();
        if outcomes.bytes > MAX_UNHEARD {
            *outcomes = Unheard::default();
            self.changed.notify_one();
        } else {
            outcomes.rows.extend(rows);
            self.told.notify_one();
        }
    }

    /// The outcomes that were told and not heard.
    pub(crate) fn hear(&self) -> Vec<OutcomeRow> {
        std::mem::take(&mut *self.outcomes.lock().unwrap_or_else(PoisonError::into_inner)).rows
    }
}

/// Outcomes that were told and not heard.
#[derive(Debug, Default)]
struct Unheard {
    rows: Vec<OutcomeRow>,
    bytes: usize,
}

/// Consecutive ids of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IdRun {
    pub(crate) producer: u64,
    pub(crate) first: u64,
    pub(crate) count: u64,
}

/// How far a shard has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Reach {
    /// The position of the next op.
    pub(crate) next: u64,
    /// All positions below are settled.
    pub(crate) cursor: u64,
    pub(crate) paused: bool,
}
