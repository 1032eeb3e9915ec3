//! [`Callers`]: how many calls wait for a log to be synced. An ingress counts each call from when it has put its ops into a frame
//! until it is answered; the thread of an engine reads the number, and sleeps until it is reached.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
#[cfg(feature = "durable-file")]
use std::{
    sync::OnceLock,
    thread::{self, Thread},
    time::{Duration, Instant},
};

/// Calls that wait for one engine, whatever their shard and log.
#[derive(Debug, Default)]
pub(crate) struct Callers {
    waiting: AtomicUsize,
    /// Ingresses with a frame that takes no more ops.
    full: AtomicUsize,
    /// The number at which the engine's thread is woken; 0 if it does not wait.
    #[cfg(feature = "durable-file")]
    wanted: AtomicUsize,
    #[cfg(feature = "durable-file")]
    engine: OnceLock<Thread>,
}

impl Callers {
    /// A call waits.
    pub(crate) fn enter(&self) {
        let _waiting = self.waiting.fetch_add(1, SeqCst) + 1;
        #[cfg(feature = "durable-file")]
        if _waiting == self.wanted.load(SeqCst)
            && let Some(engine) = self.engine.get()
        {
            engine.unpark();
        }
    }

    /// An ingress has a frame that takes no more ops, or has none any more.
    pub(crate) fn set_full(&self, is_full: bool) {
        if is_full {
            self.full.fetch_add(1, SeqCst);
        } else {
            self.full.fetch_sub(1, SeqCst);
        }
    }

    /// Calls are about to be answered.
    pub(crate) fn answered(&self, calls: usize) {
        self.waiting.fetch_sub(calls, SeqCst);
    }
}

#[cfg(feature = "durable-file")]
impl Callers {
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(SeqCst)
    }

    /// Whether a frame waits that takes no more ops.
    pub(crate) fn have_full(&self) -> bool {
        self.full.load(SeqCst) > 0
    }

    /// Blocks the engine's thread, always the same one, until so many calls wait, the time is over, or no more come after the
    /// first for as long as `gap`. Returns how many do.
    pub(crate) fn wait_for(&self, count: usize, limit: Duration, gap: Duration) -> usize {
        self.engine.get_or_init(thread::current);
        self.wanted.store(count, SeqCst);
        let (until, before) = (Instant::now() + limit, self.waiting());
        let waiting = loop {
            let (waiting, now) = (self.waiting(), Instant::now());
            if waiting >= count || now >= until {
                break waiting;
            }
            thread::park_timeout(gap.min(until - now));
            if waiting > before && self.waiting() == waiting && now.elapsed() >= gap {
                break waiting;
            }
        };
        self.wanted.store(0, SeqCst);
        waiting
    }
}
