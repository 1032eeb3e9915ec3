//! [`Callers`]: how many calls wait for a log to be synced. Callers that were answered most often come back at once, so that the
//! engine waits for them a moment before it begins a transaction: one sync then serves all of them, and not half. A caller that
//! is alone is never waited for, and never waits.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread::{self, Thread},
    time::{Duration, Instant},
};

/// The longest time that an engine waits for callers to come back: a third of a sync on a fast disk.
const PATIENCE: Duration = Duration::from_micros(50);

/// The limit of the doublings of the number of transactions without a wait, after waits in vain.
const MAX_DOUBLINGS: u32 = 6;

/// Calls that wait for one engine. Ingresses count them, and the engine's thread reads the number.
#[derive(Debug)]
pub(crate) struct Callers {
    waiting: AtomicUsize,
    /// The number at which the engine's thread is woken.
    wanted: AtomicUsize,
    engine: OnceLock<Thread>,
}

impl Default for Callers {
    fn default() -> Self {
        Self { waiting: AtomicUsize::new(0), wanted: AtomicUsize::new(usize::MAX), engine: OnceLock::new() }
    }
}

impl Callers {
    /// A call waits.
    pub(crate) fn enter(&self) {
        let waiting = self.waiting.fetch_add(1, SeqCst) + 1;
        if waiting == self.wanted.load(SeqCst)
            && let Some(engine) = self.engine.get()
        {
            engine.unpark();
        }
    }

    /// Calls were answered.
    pub(crate) fn answered(&self, calls: usize) {
        self.waiting.fetch_sub(calls, SeqCst);
    }
}

/// The engine's part of [`Callers`]: when it waits, and for how many.
#[derive(Debug, Default)]
pub(crate) struct Gathering {
    /// Calls that waited when the last transaction was done, those that it answered among them.
    expected: usize,
    /// Waits in vain, one after the other.
    misses: u32,
    /// Transactions to begin without a wait.
    skip: u32,
}

impl Gathering {
    /// Waits until all expected callers are back, on the engine's thread.
    pub(crate) fn wait(&mut self, callers: &Callers) {
        let before = callers.waiting.load(SeqCst);
        if before >= self.expected {
            return;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return;
        }
        callers.engine.get_or_init(thread::current);
        callers.wanted.store(self.expected, SeqCst);
        let until = Instant::now() + PATIENCE;
        let mut waiting = callers.waiting.load(SeqCst);
        while waiting < self.expected {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            thread::park_timeout(left);
            waiting = callers.waiting.load(SeqCst);
        }
        callers.wanted.store(usize::MAX, SeqCst);
        self.misses = if waiting > before { 0 } else { self.misses + 1 };
        self.skip = if self.misses > 0 { 1 << self.misses.min(MAX_DOUBLINGS) } else { 0 };
    }

    /// A transaction is done, and its callers are about to be answered.
    pub(crate) fn done(&mut self, callers: &Callers) {
        self.expected = callers.waiting.load(SeqCst);
    }
}
