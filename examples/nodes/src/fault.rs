//! [`Fault`]: what happens to a node that leads.

use std::fmt;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// SIGKILL: its shards are taken over.
    Kill,
    /// SIGSTOP and SIGCONT: its shards wait, since it is not dead.
    Stop,
    /// A restart: it hands its shards over.
    Leave,
    /// SIGKILL while it is stopped.
    StopAndKill,
}

impl Fault {
    pub(crate) const ALL: [Self; 4] = [Self::Kill, Self::Leave, Self::Stop, Self::StopAndKill];
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kill => "kill",
            Self::Stop => "stop",
            Self::Leave => "restart",
            Self::StopAndKill => "stop and kill",
        })
    }
}
