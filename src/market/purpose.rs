//! The purpose of an order, which decides how soon the order has to leave.

use serde::{Deserialize, Serialize};

use super::Priority;

/// The purpose of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Purpose {
    /// Opens a position or adds to one.
    Entry,
    /// Closes a position as planned.
    Exit,
    /// Closes a position that went wrong.
    StopLoss,
    /// Reduces a position that the account can no longer carry.
    Liquidation,
}

impl Purpose {
    /// The priority of such an order: critical for stop-losses and liquidations, high for the others.
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
