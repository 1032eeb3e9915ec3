//! [`MemoryFailure`], and whatever else may happen to a process on a log in memory: it crashes, is stopped, or is cut off.

use super::MemoryLog;

/// A failure of one transaction of a [`MemoryLog`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryFailure {
    /// Nothing is stored, and the batcher knows.
    Refused,
    /// The transaction is stored, and the batcher is told that its result is unknown.
    UnknownStored,
    /// Nothing is stored, and the batcher is told that the result is unknown.
    UnknownLost,
    /// The process crashes before the transaction is synced.
    CrashBefore,
    /// The process crashes when the transaction is synced and no caller knows.
    CrashAfter,
}

impl MemoryLog {
    /// Lets transaction number `number` fail. Those that may change something count, from 0 over all lives. The end of a life cancels
    /// it.
    pub fn fail_at(&self, number: u64, failure: MemoryFailure) {
        self.disk().failures.push_back((number, failure));
    }

    /// Lets the next transaction fail.
    pub fn fail_next(&self, failure: MemoryFailure) {
        let mut disk = self.disk();
        let next = disk.begun;
        disk.failures.push_back((next, failure));
    }

    /// Lets the next reads fail, which are no transactions. They may succeed when they are tried again.
    pub fn fail_reads(&self, reads: usize) {
        self.disk().failing_reads = reads;
    }

    /// Ends this process, and forgets what it has not synced. What runs on the log finds it closed, and the log can be joined anew.
    pub fn crash(&self) {
        self.disk().crash(self.process);
        self.crashes.send_modify(|crashes| *crashes += 1);
    }

    /// Waits for the next crash.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn crashed(&self) {
        let mut crashes = self.crashes.subscribe();
        // An error means that the log is gone, which this one keeps.
        let _ = crashes.changed().await;
    }

    /// Stops this process, as SIGSTOP does, until it [goes on](Self::go_on) or crashes: what it asks of the log waits. It keeps the
    /// shards that it leads, and in the middle of a transaction it keeps other processes from the log. Its sinks are not stopped.
    pub fn stop(&self) {
        self.disk().processes.set_stopped(self.process, true);
    }

    /// Lets a process that was [stopped](Self::stop) go on.
    pub fn go_on(&self) {
        self.disk().processes.set_stopped(self.process, false);
    }

    /// Cuts this process off from the log until it is [reconnected](Self::reconnect) or crashes: its requests fail, and the commit under
    /// way has an unknown result. Another process may lead its shards, as when a lease has run out, of which it is not told.
    pub fn isolate(&self) {
        self.disk().processes.isolate(self.process);
    }

    /// Lets a process that was [isolated](Self::isolate) reach the log again.
    pub fn reconnect(&self) {
        self.disk().processes.reconnect(self.process);
    }

    /// Waits until the process is not stopped.
    pub(super) async fn while_stopped(&self) {
        let stopped = self.disk().processes.stopped(self.process);
        if let Some(mut stopped) = stopped {
            // An error means that the process has crashed.
            let _ = stopped.wait_for(|stopped| !stopped).await;
        }
    }
}
