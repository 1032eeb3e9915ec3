//! [`Extras`]: rarely used state of ops (waiters, retry history, key chain), kept out of `Node` to keep it small. Allocated in
//! pages of 64 slots.

use std::mem;

use super::node::NONE;
use crate::rules::outcome::Waiters;

/// Slots of a page.
const PAGE: usize = 64;

#[derive(Debug)]
pub(super) struct Extras<R> {
    pages: Vec<Option<Box<[Extra<R>; PAGE]>>>,
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Extra<R> {
    pub(crate) waiters: Waiters<R>,
    /// Only ops that a write has brought back have one.
    pub(crate) history: Option<Box<History>>,
    /// The ops of the same key, next in age, that wait too because they could not be merged.
    pub(crate) older: u32,
    pub(crate) younger: u32,
    /// The number of the batch that the next older op of its key left in. The two must not share one: if the older one
    /// alone had to be tried again, it would land after the newer one.
    pub(crate) behind: u64,
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

impl<R> Extras<R> {
    pub(super) fn new() -> Self {
        Self { pages: Vec::new() }
    }

    #[inline]
    pub(super) fn get(&self, slot: u32) -> Option<&Extra<R>> {
        let page = self.pages.get(slot as usize / PAGE)?.as_ref()?;
        Some(&page[slot as usize % PAGE])
    }

    /// The extra of a slot, which is [`Extra::NOTHING`] until something is put into it.
    pub(super) fn get_mut(&mut self, slot: u32) -> &mut Extra<R> {
        let (page, at) = (slot as usize / PAGE, slot as usize % PAGE);
        if self.pages.len() <= page {
            self.pages.resize_with(page + 1, || None);
        }
        let page = self.pages[page].get_or_insert_with(|| Box::new([const { Extra::NOTHING }; PAGE]));
        &mut page[at]
    }

    pub(super) fn take(&mut self, slot: u32) -> Extra<R> {
        mem::replace(self.get_mut(slot), Extra::NOTHING)
    }
}

impl<R> Extra<R> {
    pub(crate) const NOTHING: Self =
        Self { waiters: Waiters::None, history: None, older: NONE, younger: NONE, behind: 0 };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_high_slot_costs_a_page() {
        let mut extras = Extras::<()>::new();
        extras.get_mut(1_000_000).behind = 7;
        assert_eq!(extras.pages.iter().flatten().count(), 1);
        assert!(extras.get(0).is_none());
        assert_eq!(extras.get(1_000_000).map(|extra| extra.behind), Some(7));
        assert_eq!((extras.take(1_000_000).behind, extras.take(1_000_000).behind), (7, 0));
    }
}
