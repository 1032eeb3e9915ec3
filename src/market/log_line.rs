//! A line of the app's own log, the least urgent of all ops.

use serde::{Deserialize, Serialize};

/// A line of the app's own log or audit trail. Each one is kept: lines are never conflated.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogLine {
    /// When it was written, in nanoseconds since the Unix epoch by the app's clock.
    pub time_ns: i64,
    /// What it says.
    pub text: String,
}
