//! CPU time of threads, of this process and of its children, which other programs on the machine do not distort.
//!
//! `measure` uses [`Stopwatch`]; the rows of one thread use [`thread_cpu`].

use std::{
    fs,
    time::{Duration, Instant},
};

use rustix::{
    param::clock_ticks_per_second,
    time::{ClockId, clock_gettime},
};

/// The CPU time of all threads of this process so far, in nanoseconds.
pub fn process_cpu() -> u64 {
    cpu(ClockId::ProcessCPUTime)
}

/// The CPU time of the calling thread so far, in nanoseconds.
pub fn thread_cpu() -> u64 {
    cpu(ClockId::ThreadCPUTime)
}

/// The CPU time of children that have ended and were waited for, in nanoseconds. The kernel counts it in ticks of
/// 10 ms.
pub fn children_cpu() -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").expect("Linux has /proc");
    // The name of the program is in brackets and may contain spaces, so fields are counted from the last bracket.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    // Per `man proc`, cutime and cstime are the fields 16 and 17. The first field after the bracket is field 3.
    let ticks: u64 = fields.split_whitespace().skip(13).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    ticks * 1_000_000_000 / clock_ticks_per_second()
}

fn cpu(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// The start of a measurement in wall clock and CPU time. CPU time includes this process and its ended children.
#[derive(Debug)]
pub struct Stopwatch {
    at: Instant,
    cpu: u64,
}

impl Stopwatch {
    pub fn start() -> Self {
        Self { cpu: process_cpu() + children_cpu(), at: Instant::now() }
    }

    pub fn stop(self) -> Span {
        let wall = self.at.elapsed();
        Span { wall, cpu: Duration::from_nanos(process_cpu() + children_cpu() - self.cpu) }
    }
}

/// The wall clock and CPU time of one measurement.
#[derive(Debug, Clone, Copy, Default)]
pub struct Span {
    pub wall: Duration,
    pub cpu: Duration,
}
