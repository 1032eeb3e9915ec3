//! The order in which ops leave.

use serde::{Deserialize, Serialize};

/// How soon an op has to leave. Greater leaves first, which is what
/// [`priority_by`](crate::Stages::priority_by) asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Priority {
    /// Least urgent: the lines of a log, for example. No [`TradeOp`](super::TradeOp) has it.
    Low,
    /// Market data: the next update makes up for a late one.
    Normal,
    /// Orders, their cancels and amends.
    High,
    /// Orders that protect from a loss: stop-losses and liquidations, and their cancels.
    Critical,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn critical_is_the_greatest() {
        let mut all = [Priority::High, Priority::Low, Priority::Critical, Priority::Normal];
        all.sort_unstable();
        assert_eq!(all, [Priority::Low, Priority::Normal, Priority::High, Priority::Critical]);
    }
}
