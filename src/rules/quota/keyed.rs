//! [`Keyed`]: a window for each key of a bucket. A window that would be the same as a new one is forgotten, so that a million
//! keys seen once cost nothing afterwards.

use std::num::NonZeroU64;

use slab::Slab;

use super::{numbers::Numbers, window::Window};
use crate::rules::{
    stage::{BoxIndex, Found},
    time::Timestamp,
};

pub(super) struct Keyed<T> {
    index: BoxIndex<T>,
    windows: Slab<(NonZeroU64, Window)>,
    numbers: Numbers,
    boundary: Timestamp,
    /// Number of windows at which the next sweep looks for idle ones. A sweep sets it to twice of what is left.
    sweep_at: usize,
}

/// Fewest windows for which a sweep is worth its time.
const MIN_SWEEP: usize = 64;

impl<T> Keyed<T> {
    pub(super) fn new(index: BoxIndex<T>, numbers: Numbers, boundary: Timestamp) -> Self {
        Self { index, windows: Slab::new(), numbers, boundary, sweep_at: MIN_SWEEP }
    }

    /// Slot of the window of the op's key, made if the key is new; `None` if the op has no key.
    pub(super) fn slot(&mut self, op: &T, now: Timestamp) -> Option<u32> {
        match self.index.find(0, op) {
            Found::Unkeyed => None,
            Found::At(slot) => Some(slot),
            Found::Fresh => {
                let slot = self.windows.vacant_key() as u32;
                let hash = self.index.bind(slot);
                self.windows.insert((hash, Window::new(&self.numbers, self.boundary, now)));
                Some(slot)
            }
        }
    }

    pub(super) fn window(&mut self, slot: u32) -> &mut Window {
        &mut self.windows[slot as usize].1
    }

    pub(super) fn each(&self) -> impl Iterator<Item = &Window> {
        self.windows.iter().map(|(_, (_, window))| window)
    }

    pub(super) fn each_mut(&mut self) -> impl Iterator<Item = &mut Window> {
        self.windows.iter_mut().map(|(_, (_, window))| window)
    }

    pub(super) fn set_limit(&mut self, limit: u64) {
        self.numbers.limit = limit;
        self.each_mut().for_each(|window| window.set_limit(limit));
    }

    pub(super) fn limit(&self) -> u64 {
        self.numbers.limit
    }

    /// Forgets idle windows, if there are many. Slots stay valid only for batches in flight.
    pub(super) fn sweep(&mut self, now: Timestamp) {
        if self.windows.len() < self.sweep_at {
            return;
        }
        let Self { index, windows, .. } = self;
        windows.retain(|slot, (hash, window)| {
            let is_idle = window.is_idle(now);
            if is_idle {
                index.unbind(*hash, slot as u32);
            }
            !is_idle
        });
        self.sweep_at = MIN_SWEEP.max(self.windows.len() * 2);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.windows.len()
    }
}
