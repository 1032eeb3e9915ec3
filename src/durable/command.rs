//! [`Command`]: what handles ask of the leader of a shard. The leader first reads all frames that were stored before.

use std::any::Any;

use tokio::sync::oneshot;

use crate::rules::{config::limits::Limits, outcome::OpId, panics};

/// Tells whether a key, of the type that the stages conflate by, is the wanted one.
pub(crate) type IsKey = Box<dyn FnMut(&dyn Any) -> bool + Send>;

pub(crate) enum Command<T> {
    /// Answered when all that the log holds now is settled, and the record of that has committed.
    Flush(oneshot::Sender<()>),
    /// Answered when the record of it has committed. `None` if another process leads.
    Withdraw {
        wanted: Box<dyn FnMut(&T) -> bool + Send>,
        reply: oneshot::Sender<Option<Vec<T>>>,
    },
    /// The same, for the ops with a conflation key.
    WithdrawKey {
        is_it: IsKey,
        reply: oneshot::Sender<Option<Vec<T>>>,
    },
    /// Answered, with the number of ops under way, when it is stored.
    Pause {
        paused: bool,
        reply: oneshot::Sender<u64>,
    },
    SetLimits(Limits),
    /// Answered with whether the op waits, or is under way.
    IsWaiting {
        id: OpId,
        reply: oneshot::Sender<bool>,
    },
    /// The log may hold the op of a dead letter, under this id, of which the leader was not told.
    Read(OpId),
}

impl<T> Command<T> {
    /// Answers the caller of a withdrawal. One that gave up hears nothing.
    pub(crate) fn answer(self, ops: Option<Vec<T>>) {
        match self {
            Self::Withdraw { wanted, reply } => {
                let _ = reply.send(ops);
                drop(panics::discard(wanted));
            }
            Self::WithdrawKey { is_it, reply } => {
                let _ = reply.send(ops);
                drop(panics::discard(is_it));
            }
            _ => {}
        }
    }

    /// Whether the caller of a withdrawal has given up. It must not be sent ops.
    pub(crate) fn is_abandoned(&self) -> bool {
        matches!(self, Self::Withdraw { reply, .. } | Self::WithdrawKey { reply, .. } if reply.is_closed())
    }
}
