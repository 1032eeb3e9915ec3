//! [`Gathering`]: how long the writer of a file waits before it begins a transaction. Callers that were just answered most often
//! come back at once. Without a wait, one half of them would wait while the other half is synced, and each sync would serve a
//! half. A caller that is alone never waits for another one.

use std::time::Duration;

use crate::durable::log::callers::Callers;

/// The wait for the next caller when some have come back, and the shortest limit of a wait: they need some 20 us.
const GAP: Duration = Duration::from_micros(50);

/// The longest wait for callers.
const MAX_PATIENCE: Duration = Duration::from_millis(1);

/// The part of a transaction's time that the wait for callers may take, who would wait for the whole of one otherwise.
const SHARE: u32 = 2;

/// The limit of the doublings of [`Gathering::skip`]: after many waits in vain, one in 64 transactions waits.
const MAX_DOUBLINGS: u32 = 6;

#[derive(Debug, Default)]
pub(super) struct Gathering {
    /// Calls that waited when the last transaction was done, those that it answered among them.
    expected: usize,
    /// The time of the last transaction.
    took: Duration,
    /// Waits in vain, one after the other.
    misses: u32,
    /// Transactions that begin without a wait, since waits were in vain.
    skip: u32,
}

impl Gathering {
    /// Waits until as many calls wait as when the last transaction was done, unless a frame is full.
    pub(super) fn wait(&mut self, callers: &Callers) {
        let before = callers.waiting();
        if before >= self.expected || callers.have_full() {
            return;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return;
        }
        let limit = (self.took / SHARE).clamp(GAP, MAX_PATIENCE);
        let now = callers.wait_for(self.expected, limit, GAP);
        self.waited(now > before);
    }

    fn waited(&mut self, was_of_use: bool) {
        self.misses = if was_of_use { 0 } else { self.misses + 1 };
        self.skip = if was_of_use { 0 } else { 1 << self.misses.min(MAX_DOUBLINGS) };
    }

    /// A transaction is done, and its callers are about to be answered.
    pub(super) fn done(&mut self, callers: &Callers, took: Duration) {
        self.expected = callers.waiting();
        self.took = took;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// Goal: a transaction waits for all callers of the last one, and for no more. Method: three callers are answered; the last of
    /// them comes back in a thread of its own.
    #[test]
    fn callers_are_waited_for() {
        let (callers, mut gathering) = (Arc::new(Callers::default()), Gathering::default());
        (0..3).for_each(|_| callers.enter());
        gathering.wait(&callers);
        gathering.done(&callers, Duration::ZERO);
        callers.answered(3);
        let back = std::thread::spawn({
            let callers = Arc::clone(&callers);
            move || (0..3).for_each(|_| callers.enter())
        });
        assert_eq!(callers.wait_for(3, Duration::from_secs(60), Duration::from_secs(60)), 3);
        back.join().unwrap();
        gathering.wait(&callers);
        assert_eq!((gathering.expected, gathering.misses), (3, 0));
    }

    /// Goal: a caller that is alone is not kept waiting, and waits in vain become rare. Method: one caller, and one that is
    /// answered and stays away; waits are counted.
    #[test]
    fn waits_in_vain_become_rare() {
        let (callers, mut gathering) = (Callers::default(), Gathering::default());
        for _ in 0..100 {
            callers.enter();
            gathering.wait(&callers);
            gathering.done(&callers, Duration::ZERO);
            callers.answered(1);
        }
        assert_eq!(gathering.misses, 0, "no wait");
        let mut waits = 0;
        for _ in 0..1000 {
            gathering.expected = 1;
            let misses = gathering.misses;
            gathering.wait(&callers);
            waits += usize::from(gathering.misses > misses);
        }
        assert!((10..30).contains(&waits), "{waits} waits");
    }
}
