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
    /// The venue has shown that its windows do not begin where they were thought to.
    is_distrusted: bool,
    /// The window that has used most, as far as is known: statistics are made too often to look at all of them each time.
    busiest: u32,
    /// Draws of earlier processes, by the stable hash of their key, until it comes up.
    #[cfg(feature = "durable")]
    carried: Carried,
    /// The stable hash of each window's key, by its slot.
    #[cfg(feature = "durable")]
    stable: Vec<u64>,
    /// Batches since all windows were looked at for it.
    batches: usize,
}

/// Times and costs, by the stable hash of a key.
#[cfg(feature = "durable")]
type Carried = std::collections::HashMap<u64, Vec<(Timestamp, u64)>>;

/// Fewest windows for which a sweep is worth its time.
const MIN_SWEEP: usize = 64;

impl<T> Keyed<T> {
    pub(super) fn new(index: BoxIndex<T>, numbers: Numbers, boundary: Timestamp) -> Self {
        Self {
            index,
            windows: Slab::new(),
            numbers,
            boundary,
            sweep_at: MIN_SWEEP,
            is_distrusted: false,
            busiest: 0,
            batches: 0,
            #[cfg(feature = "durable")]
            carried: Carried::new(),
            #[cfg(feature = "durable")]
            stable: Vec::new(),
        }
    }

    /// Slot of the window of the op's key, made if the key is new; `None` if the op has no key.
    pub(super) fn slot(&mut self, op: &T, now: Timestamp) -> Option<u32> {
        match self.index.find(0, op) {
            Found::Unkeyed => None,
            Found::At(slot) => Some(slot),
            Found::Fresh => {
                let slot = self.windows.vacant_key() as u32;
                let hash = self.index.bind(slot);
                let mut window = Window::new(&self.numbers, self.boundary, now);
                if self.is_distrusted {
                    window.throttled();
                }
                #[cfg(feature = "durable")]
                self.carry_to(&mut window, slot, op, now);
                self.windows.insert((hash, window));
                Some(slot)
            }
        }
    }

    /// A key comes up of which an earlier process may have drawn.
    #[cfg(feature = "durable")]
    fn carry_to(&mut self, window: &mut Window, slot: u32, op: &T, now: Timestamp) {
        let slot = slot as usize;
        if self.stable.len() <= slot {
            self.stable.resize(slot + 1, 0);
        }
        self.stable[slot] = self.index.stable_hash(op);
        for (at, cost) in self.carried.remove(&self.stable[slot]).into_iter().flatten() {
            window.carry(cost, at);
        }
        window.settled(now);
    }

    /// Takes over a draw of an earlier process.
    #[cfg(feature = "durable")]
    pub(super) fn carry(&mut self, key: u64, at: Timestamp, cost: u64) {
        self.carried.entry(key).or_default().push((at, cost));
    }

    /// A window, and the stable hash of its key.
    #[cfg(feature = "durable")]
    pub(super) fn keyed_window(&self, slot: u32) -> (&Window, u64) {
        (&self.windows[slot as usize].1, self.stable[slot as usize])
    }

    pub(super) fn window(&mut self, slot: u32) -> &mut Window {
        &mut self.windows[slot as usize].1
    }

    /// Notes that a window was drawn from or corrected.
    pub(super) fn changed(&mut self, slot: u32, now: Timestamp) {
        let used = self.window(slot).settled(now);
        if used >= self.most_used(now) {
            self.busiest = slot;
        }
    }

    /// Units used of the key that has used most. After its units have expired, it takes up to as many batches as there are keys
    /// until the next one is found.
    pub(super) fn most_used(&self, now: Timestamp) -> u64 {
        self.windows.get(self.busiest as usize).map_or(0, |(_, window)| window.used(now))
    }

    /// Looks at all windows, once in as many batches as there are windows.
    fn look_for_busiest(&mut self, now: Timestamp) {
        self.batches += 1;
        if self.batches >= self.windows.len() {
            self.batches = 0;
            let used = self.windows.iter_mut().map(|(slot, (_, window))| (window.settled(now), slot as u32));
            self.busiest = used.max().map_or(0, |(_, slot)| slot);
        }
    }

    fn each_mut(&mut self) -> impl Iterator<Item = &mut Window> {
        self.windows.iter_mut().map(|(_, (_, window))| window)
    }

    /// Notes that the venue asked for a pause. It holds for keys that come later as well.
    pub(super) fn throttled(&mut self) {
        self.is_distrusted = true;
        self.each_mut().for_each(Window::throttled);
    }

    pub(super) fn set_limit(&mut self, limit: u64) {
        self.numbers.limit = limit;
        self.each_mut().for_each(|window| window.set_limit(limit));
    }

    pub(super) fn limit(&self) -> u64 {
        self.numbers.limit
    }

    /// Forgets idle windows, if there are many, before a batch. Slots stay valid only for batches in flight.
    pub(super) fn sweep(&mut self, now: Timestamp) {
        self.look_for_busiest(now);
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
