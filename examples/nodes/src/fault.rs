//! [`Fault`]: what happens to a node that leads, or to several.

use std::{fmt, str::FromStr};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// SIGKILL: its shards are taken over.
    Kill,
    /// A restart: it hands its shards over.
    Leave,
    /// SIGSTOP and SIGCONT: on a file its shards wait, since it is not dead; in a database they are taken over.
    Stop,
    /// SIGKILL while it is stopped.
    StopAndKill,
    /// SIGSTOP in a transaction of its sink, and SIGCONT: on a file no node writes meanwhile; a server ends the transaction.
    StopInTransaction,
    /// SIGKILL while it is stopped in a transaction.
    KillInTransaction,
    /// SIGKILL of it and another node at once.
    KillTwo,
    /// SIGKILL, and again of the node that begins in its place, while that joins.
    KillInJoin,
    /// SIGKILL while it leaves.
    KillInLeave,
    /// A restart of all nodes, one after the other.
    RollingRestart,
    /// The files are removed whose locks say which node leads a shard, so that another one leads it as well.
    RemoveLocks,
    /// Its link to the server is cut for longer than a lease, so that its shards are taken over: what it sends comes late.
    Cut,
    /// The same for the answers of the server alone: what it sends comes at once, and it does not hear of it.
    CutAnswers,
    /// The server is killed, and begins again. Its nodes stay leaders.
    KillServer,
    /// The server is killed, and its standby takes its place.
    FailOver,
    /// A NATS server that leads a stream is killed, and begins again after a lease: another one leads the stream.
    KillNats,
    /// A NATS server that leads a stream hands it over, sends its clients away and ends (lame duck mode), and begins again.
    ShutNatsDown,
    /// All NATS servers are killed, and begin again after a lease.
    KillAllNats,
    /// The links of a node to all NATS servers are cut for longer than a lease. It has its link to the ledger.
    CutNats,
    /// The same for the answers of the NATS servers alone.
    CutNatsAnswers,
    /// SIGKILL, and the node that begins in its place has a clock that is an hour off.
    SetClock,
}

impl Fault {
    pub(crate) const ALL: [Self; 21] = [
        Self::Kill,
        Self::Leave,
        Self::Stop,
        Self::StopAndKill,
        Self::StopInTransaction,
        Self::KillTwo,
        Self::KillInJoin,
        Self::KillInLeave,
        Self::RollingRestart,
        Self::RemoveLocks,
        Self::KillInTransaction,
        Self::Cut,
        Self::CutAnswers,
        Self::KillServer,
        Self::FailOver,
        Self::KillNats,
        Self::ShutNatsDown,
        Self::KillAllNats,
        Self::CutNats,
        Self::CutNatsAnswers,
        Self::SetClock,
    ];

    /// Whether its shards are handed over, and not taken over.
    pub(crate) fn is_orderly(self) -> bool {
        matches!(self, Self::Leave | Self::RollingRestart)
    }

    /// Whether only a sink withstands it that writes in transactions of the log.
    pub(crate) fn needs_fence(self) -> bool {
        matches!(self, Self::StopInTransaction | Self::KillInTransaction | Self::RemoveLocks)
    }

    /// Whether it happens to a log in a file alone.
    pub(crate) fn needs_file(self) -> bool {
        self == Self::RemoveLocks
    }

    /// Whether it happens to nodes alone that need not share a machine, and its clock.
    pub(crate) fn needs_clocks(self) -> bool {
        self == Self::SetClock
    }

    /// Whether it happens to NATS servers of the program's own alone.
    pub(crate) fn needs_nats(self) -> bool {
        matches!(self, Self::KillNats | Self::ShutNatsDown | Self::KillAllNats | Self::CutNats | Self::CutNatsAnswers)
    }

    /// Whether it differs from another kind only if there are several NATS servers.
    pub(crate) fn needs_several(self) -> bool {
        self == Self::KillAllNats
    }

    /// Whether it happens to a PostgreSQL server of the program's own alone.
    pub(crate) fn needs_server(self) -> bool {
        matches!(self, Self::Cut | Self::CutAnswers | Self::KillServer | Self::FailOver)
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|fault| fault.to_string() == name).ok_or_else(|| {
            let names: Vec<String> = Self::ALL.iter().map(Self::to_string).collect();
            format!("the kinds are {}", names.join(", "))
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kill => "kill",
            Self::Leave => "restart",
            Self::Stop => "stop",
            Self::StopAndKill => "stop and kill",
            Self::StopInTransaction => "stop in a transaction",
            Self::KillInTransaction => "kill in a transaction",
            Self::KillTwo => "kill two",
            Self::KillInJoin => "kill in a join",
            Self::KillInLeave => "kill in a leave",
            Self::RollingRestart => "rolling restart",
            Self::RemoveLocks => "remove locks",
            Self::Cut => "cut off",
            Self::CutAnswers => "cut the answers to",
            Self::KillServer => "kill the server of",
            Self::FailOver => "fail over the server of",
            Self::KillNats => "kill a NATS server of",
            Self::ShutNatsDown => "shut down a NATS server of",
            Self::KillAllNats => "kill all NATS servers of",
            Self::CutNats => "cut NATS off from",
            Self::CutNatsAnswers => "cut the answers of NATS to",
            Self::SetClock => "set the clock of",
        })
    }
}
