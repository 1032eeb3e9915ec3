//! [`Word`]: what a node tells the demonstration, a line each, and what it is told.

use std::{fmt, io::Write};

/// A line on the standard output of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    /// A term of the node begins.
    Leads { shard: u16, epoch: u64 },
    /// An order is in the log.
    Accepted { source: u64, symbol: u32, number: u64 },
    /// An order has ended, and whether it was delivered.
    Ended { source: u64, number: u64, delivered: bool },
    /// A price of each symbol, with this number, is in the log.
    Priced { feed: u64, number: u64 },
    /// Ops that the node leads: those that wait, and those that may have landed.
    Leading { waiting: u64, in_doubt: u64 },
    /// All that the node has sent has ended.
    Finished,
}

/// Lines on the standard input of a node. It leaves when that ends, too.
pub(crate) const FINISH: &str = "finish";
pub(crate) const LEAVE: &str = "leave";
/// The node stops itself in its next transaction.
pub(crate) const STOP_IN_TRANSACTION: &str = "stop in transaction";

impl Word {
    /// Writes the line at once, so that a kill leaves no half of it.
    pub(crate) fn say(self) {
        let mut out = std::io::stdout().lock();
        // If nobody listens any more, the end of the input ends the node as well.
        let _ = out.write_all(format!("{self}\n").as_bytes()).and_then(|()| out.flush());
    }

    pub(crate) fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let name = words.next()?;
        let numbers: Vec<u64> = words.map(str::parse).collect::<Result<_, _>>().ok()?;
        Some(match (name, &numbers[..]) {
            ("leads", &[shard, epoch]) => Self::Leads { shard: shard.try_into().ok()?, epoch },
            ("accepted", &[source, symbol, number]) => {
                Self::Accepted { source, symbol: symbol.try_into().ok()?, number }
            }
            ("ended", &[source, number, delivered]) => Self::Ended { source, number, delivered: delivered == 1 },
            ("priced", &[feed, number]) => Self::Priced { feed, number },
            ("leading", &[waiting, in_doubt]) => Self::Leading { waiting, in_doubt },
            ("finished", []) => Self::Finished,
            _ => return None,
        })
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Leads { shard, epoch } => write!(f, "leads {shard} {epoch}"),
            Self::Accepted { source, symbol, number } => write!(f, "accepted {source} {symbol} {number}"),
            Self::Ended { source, number, delivered } => write!(f, "ended {source} {number} {}", u64::from(delivered)),
            Self::Priced { feed, number } => write!(f, "priced {feed} {number}"),
            Self::Leading { waiting, in_doubt } => write!(f, "leading {waiting} {in_doubt}"),
            Self::Finished => f.write_str("finished"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_back() {
        let words = [
            Word::Leads { shard: 3, epoch: 17 },
            Word::Accepted { source: 401, symbol: 5, number: 9 },
            Word::Ended { source: 401, number: 9, delivered: true },
            Word::Ended { source: 401, number: 10, delivered: false },
            Word::Priced { feed: 2, number: 8_000_000_001 },
            Word::Leading { waiting: 12, in_doubt: 0 },
            Word::Finished,
        ];
        for word in words {
            assert_eq!(Word::parse(&word.to_string()), Some(word));
        }
        assert_eq!(Word::parse("accepted 1 2"), None);
        assert_eq!(Word::parse("leads x 2"), None);
    }
}
