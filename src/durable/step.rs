//! [`Step`]: the points at which a process may die, as trace events of the target `roundlot::durable::step`. Ingress, leaders and
//! the writer of a file emit one before and one after each step. A test that ends its process at one of them knows what the log
//! holds; a trace of them tells why a log is slow.

use tracing::trace;

/// A step of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// A frame goes to the log, and its callers wait.
    Append,
    /// The writer of a file commits a transaction.
    #[cfg(feature = "durable-file")]
    Commit,
    /// The writer of a file notes the number of a commit beside it.
    #[cfg(feature = "durable-file")]
    Mark,
    /// A term gets its epoch.
    Term,
    /// A term reads what the log holds.
    Recovery,
    /// A sink is asked about ops in doubt.
    Reconcile,
    /// A record with an intent goes to the log.
    Intent,
    /// A sink writes a batch.
    Write,
    /// The work of a transactional sink runs, in the transaction that settles its ops.
    Transaction,
    /// A transaction of a ledger commits.
    #[cfg(feature = "postgres")]
    LedgerCommit,
    /// A record with settled positions goes to the log.
    Settlement,
    /// Callers are told the outcomes of a record.
    Outcome,
    /// A record that stores a pause or its end goes to the log.
    Pause,
    /// A record of withdrawn ops goes to the log.
    Withdrawal,
    /// The op of a dead letter moves to the end of the log.
    Requeue,
    /// A dead letter is removed.
    Discard,
    /// Settled ops are left out of frames that hold few others.
    Compaction,
    /// Old outcomes are forgotten.
    Purge,
    /// The writer of a file gives pages back to the file system.
    #[cfg(feature = "durable-file")]
    Vacuum,
    /// The writer closes the file, which moves its WAL into the database.
    #[cfg(feature = "durable-file")]
    Close,
}

impl Step {
    fn name(self) -> &'static str {
        match self {
            Self::Append => "append",
            #[cfg(feature = "durable-file")]
            Self::Commit => "commit",
            #[cfg(feature = "durable-file")]
            Self::Mark => "mark",
            Self::Term => "term",
            Self::Recovery => "recovery",
            Self::Reconcile => "reconcile",
            Self::Intent => "intent",
            Self::Write => "write",
            Self::Transaction => "transaction",
            #[cfg(feature = "postgres")]
            Self::LedgerCommit => "ledger_commit",
            Self::Settlement => "settlement",
            Self::Outcome => "outcome",
            Self::Pause => "pause",
            Self::Withdrawal => "withdrawal",
            Self::Requeue => "requeue",
            Self::Discard => "discard",
            Self::Compaction => "compaction",
            Self::Purge => "purge",
            #[cfg(feature = "durable-file")]
            Self::Vacuum => "vacuum",
            #[cfg(feature = "durable-file")]
            Self::Close => "close",
        }
    }

    /// Tells that the step begins.
    pub(crate) fn before(self) {
        self.emit("before");
    }

    /// Tells that the step is done. One that fails is not.
    pub(crate) fn after(self) {
        self.emit("after");
    }

    fn emit(self, at: &'static str) {
        trace!(target: "roundlot::durable::step", step = self.name(), at, "a step of a durable batcher");
    }
}
