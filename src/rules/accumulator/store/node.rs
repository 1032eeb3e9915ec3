//! [`Node`]: an op in the buffer, with what each op has. What few ops have is in the side table.

use std::num::NonZeroU64;

use crate::rules::time::Timestamp;

/// Marks the end of a list, and a slot that is none.
pub(crate) const NONE: u32 = u32::MAX;

/// The facts about an accepted op that has no node yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NodeMeta {
    pub(crate) seq: u64,
    pub(crate) at: Timestamp,
    pub(crate) partition: u32,
    pub(crate) level: u32,
    pub(crate) weight: usize,
    pub(crate) urgent: bool,
    pub(crate) epoch: u32,
}

/// An op that is accepted and not yet settled.
///
/// What a merge looks at comes first, then what a cut looks at: where many ops wait, most of the time goes into fetching
/// the lines that they are on. Beside the op and its tag it takes 56 bytes.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Node<T> {
    pub(crate) level: u32,
    /// Whether it may have a [`Cold`](super::side_table::Cold).
    pub(crate) has_cold: bool,
    /// Whether an op lives here: the slot may be free.
    pub(crate) is_occupied: bool,
    pub(crate) urgent: bool,
    /// `None` while a batch has it.
    pub(crate) op: Option<T>,
    pub(crate) partition: u32,
    /// Neighbors in the list of its level.
    pub(crate) prev: u32,
    pub(crate) next: u32,
    /// Which flush covers it.
    pub(crate) epoch: u32,
    /// The hash under which it can be merged with: only the newest op of its key that waits has one.
    pub(crate) conflate: Option<NonZeroU64>,
    pub(crate) weight: usize,
    pub(crate) at: Timestamp,
    /// Order of arrival.
    pub(crate) seq: u64,
}

impl<T> Node<T> {
    /// As a slot is before an op comes into it.
    pub(crate) fn blank() -> Self {
        Self {
            op: None,
            level: 0,
            partition: 0,
            prev: NONE,
            next: NONE,
            has_cold: false,
            is_occupied: false,
            urgent: false,
            conflate: None,
            weight: 0,
            at: Timestamp::END,
            seq: 0,
            epoch: 0,
        }
    }

    pub(crate) fn waiting_op(&self) -> &T {
        self.op.as_ref().expect("an op that waits is in its node")
    }
}
