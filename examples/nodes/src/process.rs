//! Numbers of processes that the kernel has, in `/proc`.

use std::{fs, path::Path};

/// Whether a process is stopped by a signal. It is not if the kernel does not tell.
pub(crate) fn is_stopped(pid: u32) -> bool {
    // The name, in parentheses, may hold anything.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('T'))
}

/// The memory of a process and how often it has run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Kilobytes of memory that are not swapped out.
    pub(crate) rss: u64,
    /// How often a thread of it has slept and was woken.
    pub(crate) wakeups: u64,
}

impl Usage {
    pub(crate) fn of(pid: u32) -> std::io::Result<Self> {
        let process = Path::new("/proc").join(pid.to_string());
        let rss = number(&fs::read_to_string(process.join("status"))?, "VmRSS:");
        let mut wakeups = 0;
        for thread in fs::read_dir(process.join("task"))? {
            // A thread may have ended meanwhile.
            let status = fs::read_to_string(thread?.path().join("status")).unwrap_or_default();
            wakeups += number(&status, "voluntary_ctxt_switches:");
        }
        Ok(Self { rss, wakeups })
    }
}

/// The number behind a name in a status of the kernel.
fn number(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_read() {
        let status = "Name:\tnodes\nVmRSS:\t   12345 kB\nvoluntary_ctxt_switches:\t7\nnonvoluntary_ctxt_switches:\t9\n";
        assert_eq!((number(status, "VmRSS:"), number(status, "voluntary_ctxt_switches:")), (12345, 7));
        assert_eq!(number(status, "VmSwap:"), 0);
        assert!(!is_stopped(std::process::id()));
    }
}
