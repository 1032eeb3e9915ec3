//! The global allocator of the bench, which counts allocations and live bytes while [`counted`] runs.
//!
//! `measure` and the row `alloc` read the counts. Outside of `counted` a request costs one more atomic load, so timed
//! rounds are not disturbed.
#![allow(unsafe_code, reason = "GlobalAlloc is an unsafe trait; every call is passed on as it came")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed},
};

/// Whether requests are counted; only [`counted`] sets it.
static COUNTING: AtomicBool = AtomicBool::new(false);
/// Allocations and reallocations since the count began.
static CALLS: AtomicU64 = AtomicU64::new(0);
/// Bytes allocated less bytes freed since the count began; below zero if older memory was freed.
static LIVE: AtomicI64 = AtomicI64::new(0);
/// The greatest value of `LIVE` since the count began, in bytes.
static PEAK: AtomicI64 = AtomicI64::new(0);

/// The system's allocator with counts. A binary that reads the counts names it as its global allocator.
#[derive(Debug)]
pub struct Counting;

/// The requests that all threads made during one call of [`counted`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Counted {
    /// The number of allocations and reallocations.
    pub calls: u64,
    /// The most bytes that were live at once, less the bytes live at the start.
    pub peak_bytes: u64,
}

/// Counts what all threads allocate while `work` runs.
pub fn counted(work: impl FnOnce()) -> Counted {
    [&LIVE, &PEAK].into_iter().for_each(|bytes| bytes.store(0, Relaxed));
    CALLS.store(0, Relaxed);
    COUNTING.store(true, Relaxed);
    work();
    COUNTING.store(false, Relaxed);
    Counted { calls: CALLS.load(Relaxed), peak_bytes: PEAK.load(Relaxed).unsigned_abs() }
}

fn note(calls: u64, bytes: i64) {
    if COUNTING.load(Relaxed) {
        CALLS.fetch_add(calls, Relaxed);
        let live = LIVE.fetch_add(bytes, Relaxed) + bytes;
        PEAK.fetch_max(live, Relaxed);
    }
}

// SAFETY: each method passes its arguments unchanged to the system's allocator, which has the same contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(1, signed(layout.size()));
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(1, signed(layout.size()));
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(1, signed(size) - signed(layout.size()));
        // SAFETY: as above.
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        note(0, -signed(layout.size()));
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

/// Converts a size. The cast is lossless, since a `Layout` is never larger than `isize::MAX` bytes.
fn signed(size: usize) -> i64 {
    size as i64
}
