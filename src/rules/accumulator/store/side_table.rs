//! [`SideTable`]: rarely used state of ops (waiters, retry history, key chain), kept out of `Node` to keep it small. Allocated in
//! pages of 64 slots.

use std::mem;

use super::node::NONE;
use crate::rules::outcome::Waiters;

/// Slots of a page.
const PAGE: usize = 64;

#[derive(Debug)]
pub(super) struct SideTable<A> {
    pages: Vec<Option<Box<[Cold<A>; PAGE]>>>,
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Cold<A> {
    pub(crate) waiters: Waiters<A>,
    /// Only ops that a write has brought back have one.
    pub(crate) history: Option<Box<History>>,
    /// The ops of the same key, next in age, that wait too because they could not be merged.
    pub(crate) older: u32,
    pub(crate) newer_neighbor: u32,
    /// The number of the batch that the next older op of its key left in. The two must not share one: if the older one
    /// alone had to be tried again, it would land after the newer one.
    pub(crate) older_cut: u64,
}

/// The attempts of an op so far, and the time that they took.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    /// How often it was handed to the sink and came back.
    pub(crate) attempts: u32,
    /// An attempt was ambiguous, so that it can no longer be called refused.
    pub(crate) in_doubt: bool,
    /// In nanoseconds, as the time below.
    pub(crate) backing_off: u64,
    pub(crate) quota: u64,
    pub(crate) writing: u64,
}

impl<A> SideTable<A> {
    pub(super) fn new() -> Self {
        Self { pages: Vec::new() }
    }

    #[inline]
    pub(super) fn get(&self, slot: u32) -> Option<&Cold<A>> {
        let page = self.pages.get(slot as usize / PAGE)?.as_ref()?;
        Some(&page[slot as usize % PAGE])
    }

    /// The cold state of a slot, which is [`Cold::EMPTY`] until something is put into it.
    pub(super) fn get_mut(&mut self, slot: u32) -> &mut Cold<A> {
        let (page, at) = (slot as usize / PAGE, slot as usize % PAGE);
        if self.pages.len() <= page {
            self.pages.resize_with(page + 1, || None);
        }
        let page = self.pages[page].get_or_insert_with(|| Box::new([const { Cold::EMPTY }; PAGE]));
        &mut page[at]
    }

    pub(super) fn take(&mut self, slot: u32) -> Cold<A> {
        mem::replace(self.get_mut(slot), Cold::EMPTY)
    }
}

impl<A> Cold<A> {
    pub(crate) const EMPTY: Self =
        Self { waiters: Waiters::None, history: None, older: NONE, newer_neighbor: NONE, older_cut: 0 };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_high_slot_costs_a_page() {
        let mut side_table = SideTable::<()>::new();
        side_table.get_mut(1_000_000).older_cut = 7;
        assert_eq!(side_table.pages.iter().flatten().count(), 1);
        assert!(side_table.get(0).is_none());
        assert_eq!(side_table.get(1_000_000).map(|cold| cold.older_cut), Some(7));
        assert_eq!((side_table.take(1_000_000).older_cut, side_table.take(1_000_000).older_cut), (7, 0));
    }
}
