//! [`Notice`]: a message from one process to all that have joined a log. All that it says can be read elsewhere as well: one that is
//! lost costs a quarter of a lease, and a second at most.

use std::fmt::Write;

/// Shards in one message: PostgreSQL takes 8,000 bytes.
const SHARDS: usize = 1000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Notice {
    /// The log may hold something new in the shard.
    Changed,
    /// All that waits in it is to be due.
    Pressed,
    /// A process that should lead it wants to.
    Wanted,
    /// Its lease is free.
    Freed,
    /// Processes have come or gone; of no shard.
    Hello,
}

impl Notice {
    const ALL: [(Self, char); 5] =
        [(Self::Changed, 'c'), (Self::Pressed, 'p'), (Self::Wanted, 'w'), (Self::Freed, 'f'), (Self::Hello, 'h')];

    /// The messages that tell of shards.
    pub(super) fn messages(self, me: u64, shards: impl IntoIterator<Item = u16>) -> Vec<String> {
        let letter = Self::ALL.iter().find(|(notice, _)| *notice == self).map_or('h', |(_, letter)| *letter);
        let shards: Vec<u16> = shards.into_iter().collect();
        let parts: Vec<&[u16]> = if self == Self::Hello { vec![&[]] } else { shards.chunks(SHARDS).collect() };
        let message = |part: &[u16]| {
            part.iter().fold(format!("{me} {letter}"), |mut text, shard| {
                let _ = write!(text, " {shard}");
                text
            })
        };
        parts.into_iter().map(message).collect()
    }

    /// The number of the process that has sent a message, and what it says. `None` if a newer version sent it.
    pub(super) fn read(message: &str) -> Option<(u64, Self, Vec<u16>)> {
        let mut words = message.split(' ');
        let (from, letter) = (words.next()?.parse().ok()?, words.next()?);
        let notice = Self::ALL.iter().find(|(_, known)| letter.chars().eq([*known]))?.0;
        let shards = words.map(|word| word.parse().ok()).collect::<Option<Vec<u16>>>()?;
        Some((from, notice, shards))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: messages come back, also those of many shards, and nonsense is passed over. Method: each notice, and words by hand.
    #[test]
    fn messages_come_back() {
        for (notice, _) in Notice::ALL {
            let shards: Vec<u16> = if notice == Notice::Hello { Vec::new() } else { (0..2500).collect() };
            let messages = notice.messages(7, shards.clone());
            assert!(messages.iter().all(|message| message.len() < 8000));
            let read: Vec<_> = messages.iter().map(|message| Notice::read(message).unwrap()).collect();
            assert!(read.iter().all(|(from, of, _)| (*from, *of) == (7, notice)));
            assert_eq!(read.into_iter().flat_map(|(.., shards)| shards).collect::<Vec<_>>(), shards);
        }
        for nonsense in ["", "7", "c 7", "7 c x", "7 cc 1", "7 z", "7 c 70000"] {
            assert_eq!(Notice::read(nonsense), None, "{nonsense}");
        }
        assert!(Notice::Changed.messages(7, []).is_empty());
    }
}
