//! An op in the buffer, with all that is known of it. In comes what a handle sent, out goes what a batch carries.

use std::num::NonZeroU64;

use crate::{
    ack::{AckSender, Waiters},
    counters::Spent,
    moment::Moment,
};

/// Marks the end of a list, and a slot that is none.
pub(crate) const NONE: u32 = u32::MAX;

/// An op as it arrives from a handle.
#[derive(Debug)]
pub(crate) struct Arrival<T, R> {
    pub(crate) op: T,
    /// When its caller sent it: age counts from here.
    pub(crate) at: Moment,
    pub(crate) ack: Option<AckSender<R>>,
}

/// What is known of an op that has come in, and has no node yet.
#[derive(Debug)]
pub(crate) struct Newcomer<R> {
    pub(crate) seq: u64,
    pub(crate) at: Moment,
    pub(crate) partition: u32,
    pub(crate) level: u32,
    pub(crate) weight: usize,
    pub(crate) urgent: bool,
    pub(crate) epoch: u64,
    pub(crate) waiters: Waiters<R>,
}

/// An op that is accepted and not yet settled.
///
/// What a merge looks at comes first, then what a cut looks at: where many ops wait, most of the time goes into fetching
/// the lines that they are on.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Node<T, R> {
    /// `None` while a batch has it.
    pub(crate) op: Option<T>,
    /// Only ops that a write has brought back have one.
    pub(crate) history: Option<Box<History>>,
    pub(crate) waiters: Waiters<R>,
    pub(crate) level: u32,
    pub(crate) partition: u32,
    /// Neighbors in the list of its level.
    pub(crate) prev: u32,
    pub(crate) next: u32,
    /// The ops of the same key, next in age, that wait too because they could not be merged.
    pub(crate) older: u32,
    pub(crate) younger: u32,
    /// The hash under which it can be merged with: only the youngest of its key that waits has one.
    pub(crate) conflate: Option<NonZeroU64>,
    /// The number of the batch that the next older op of its key left in. The two must not share one: if the older one
    /// alone had to be tried again, it would land after the newer one.
    pub(crate) behind: u64,
    pub(crate) weight: usize,
    pub(crate) at: Moment,
    /// Order of arrival.
    pub(crate) seq: u64,
    /// Which flush covers it.
    pub(crate) epoch: u64,
    pub(crate) urgent: bool,
    /// Whether an op lives here: the slot may be free.
    pub(crate) is_live: bool,
}

/// What an op has been through.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    /// How often it was handed to the sink and came back.
    pub(crate) attempts: u32,
    /// An attempt was ambiguous, so that it can no longer be called refused.
    pub(crate) in_doubt: bool,
    /// In nanoseconds, as the time below.
    pub(crate) backing_off: u64,
    pub(crate) writing: u64,
}

impl<T, R> Node<T, R> {
    /// As a slot is before an op comes into it, and after it has left.
    pub(crate) fn blank() -> Self {
        Self {
            is_live: false,
            op: None,
            seq: 0,
            at: Moment::END,
            prev: NONE,
            next: NONE,
            partition: 0,
            level: 0,
            weight: 0,
            urgent: false,
            epoch: 0,
            conflate: None,
            waiters: Waiters::None,
            older: NONE,
            younger: NONE,
            behind: 0,
            history: None,
        }
    }

    /// Whether it owns nothing, and no other node refers to it by its key.
    pub(crate) fn is_blank(&self) -> bool {
        let Self { op, conflate, waiters, older, younger, history, .. } = self;
        op.is_none()
            && conflate.is_none()
            && matches!(waiters, Waiters::None)
            && (*older, *younger) == (NONE, NONE)
            && history.is_none()
    }

    #[inline]
    pub(crate) fn attempts(&self) -> u32 {
        self.history.as_ref().map_or(0, |history| history.attempts)
    }

    /// Where its time went, if it was cut at `at` and then written for so long.
    #[inline]
    pub(crate) fn spent(&self, at: Moment, writing: u64, now: Moment) -> Spent {
        match &self.history {
            None => Spent { waiting: at.nanos_since(self.at), backing_off: 0, writing },
            Some(history) => {
                let total = now.nanos_since(self.at);
                let &History { backing_off, writing, .. } = &**history;
                Spent { waiting: total.saturating_sub(backing_off).saturating_sub(writing), backing_off, writing }
            }
        }
    }

    pub(crate) fn in_doubt(&self) -> bool {
        self.history.as_ref().is_some_and(|history| history.in_doubt)
    }

    pub(crate) fn waiting_op(&self) -> &T {
        self.op.as_ref().expect("an op that waits is in its node")
    }
}
