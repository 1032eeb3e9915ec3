//! What an order is for, which decides how soon it has to leave.

use serde::{Deserialize, Serialize};

use super::Priority;

/// What an order is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Purpose {
    /// It opens a position or adds to one.
    Entry,
    /// It closes a position as planned.
    Exit,
    /// It closes a position that went wrong.
    StopLoss,
    /// It reduces what the account can no longer carry.
    Liquidation,
}

impl Purpose {
    /// Stop-losses and liquidations are critical, other orders high.
    pub const fn priority(self) -> Priority {
        match self {
            Self::Entry | Self::Exit => Priority::High,
            Self::StopLoss | Self::Liquidation => Priority::Critical,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_protects_from_a_loss_is_critical() {
        assert_eq!(Purpose::Entry.priority(), Priority::High);
        assert_eq!(Purpose::Exit.priority(), Priority::High);
        assert_eq!(Purpose::StopLoss.priority(), Priority::Critical);
        assert_eq!(Purpose::Liquidation.priority(), Priority::Critical);
    }
}
