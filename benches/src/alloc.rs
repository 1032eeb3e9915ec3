//! An allocator that counts while it is asked to. In come requests for memory, out go the system's answers; the counts
//! are for `measure`. While nobody counts, it costs one load per request, so that timed rounds are not disturbed.
#![allow(unsafe_code, reason = "GlobalAlloc is an unsafe trait; every call is passed on as it came")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed},
};

static COUNTING: AtomicBool = AtomicBool::new(false);
static CALLS: AtomicU64 = AtomicU64::new(0);
static LIVE: AtomicI64 = AtomicI64::new(0);
static PEAK: AtomicI64 = AtomicI64::new(0);

/// The system's allocator, counted. A binary that wants the counts names it as its global allocator.
#[derive(Debug)]
pub struct Counting;

/// What was asked of the allocator.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counted {
    /// Allocations and reallocations.
    pub calls: u64,
    /// The most bytes that were live at once, above what was live at the start.
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

// SAFETY: each call goes to the system's allocator with the arguments it came with, whose contract is the same.
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

/// No allocation is larger than `isize::MAX`; the layout sees to it.
fn signed(size: usize) -> i64 {
    size as i64
}
