//! [`OpId`]: the name of an op in a durable log, known before the op is in it.

use std::{fmt, num::ParseIntError, str::FromStr};

use serde::{Deserialize, Serialize};

/// The name of an op in a durable log: its producer, its shard, and its number there.
///
/// Its text can be kept beside an order, and read again after a crash:
///
/// ```
/// use roundlot::OpId;
///
/// let id: OpId = "7-0-42".parse()?;
/// assert_eq!((id.producer(), id.shard(), id.number()), (7, 0, 42));
/// assert_eq!(id.to_string(), "7-0-42");
/// # Ok::<(), std::num::ParseIntError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OpId {
    producer: u64,
    shard: u16,
    number: u64,
}

impl OpId {
    #[cfg(feature = "durable")]
    pub(crate) fn new(producer: u64, shard: u16, number: u64) -> Self {
        Self { producer, shard, number }
    }

    /// The number that the log gave to the process when it joined.
    pub fn producer(&self) -> u64 {
        self.producer
    }

    /// The shard of the log that the op is in.
    pub fn shard(&self) -> u16 {
        self.shard
    }

    /// The number of the op among those of its producer and shard.
    pub fn number(&self) -> u64 {
        self.number
    }
}

impl fmt::Display for OpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}-{}-{}", self.producer, self.shard, self.number))
    }
}

impl FromStr for OpId {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        let mut parts = text.splitn(3, '-');
        let mut next = || parts.next().unwrap_or_default();
        Ok(Self { producer: next().parse()?, shard: next().parse()?, number: next().parse()? })
    }
}
