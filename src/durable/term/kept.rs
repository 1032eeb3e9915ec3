//! [`Kept`]: the frames that hold ops which are not settled, so that a leader knows how old the oldest one is, and which frames
//! take much room for few ops: these are compacted.

use std::collections::BTreeMap;

use crate::rules::time::Timestamp;

/// Bytes of settled ops in a frame from which on compacting it is worth a write.
const WORTH: usize = 16 << 10;

/// A frame is compacted when at most this part of its ops is left, so that each byte is written again once at most on average.
const LEFT: usize = 4;

#[derive(Debug)]
struct KeptFrame {
    count: u64,
    at: Timestamp,
    bytes: usize,
    /// Ops whose bytes are in the frame.
    kept: usize,
    /// Ops that are not settled.
    open: usize,
}

/// Frames by their first position.
#[derive(Debug, Default)]
pub(super) struct Kept {
    frames: BTreeMap<u64, KeptFrame>,
    sparse: Vec<u64>,
}

impl Kept {
    /// A frame was read, with `kept` ops in it of which `open` are not settled.
    pub(super) fn push(&mut self, first: u64, count: u64, bytes: usize, (kept, open): (usize, usize), at: Timestamp) {
        if open > 0 {
            self.frames.insert(first, KeptFrame { count, at, bytes, kept, open });
            self.look(first);
        }
    }

    /// A run of positions has been settled.
    pub(super) fn settle(&mut self, first: u64, last: u64) {
        let start = self.frames.range(..=first).next_back().map_or(first, |(first, _)| *first);
        let overlapping: Vec<u64> = self.frames.range(start..=last).map(|(first, _)| *first).collect();
        for key in overlapping {
            let Some(frame) = self.frames.get_mut(&key) else { continue };
            let (from, until) = (first.max(key), last.min(key + frame.count - 1));
            frame.open = frame.open.saturating_sub((until + 1).saturating_sub(from) as usize);
            if frame.open == 0 {
                self.frames.remove(&key);
            } else {
                self.look(key);
            }
        }
    }

    fn look(&mut self, first: u64) {
        if let Some(frame) = self.frames.get_mut(&first) {
            let settled = frame.bytes / frame.kept.max(1) * (frame.kept - frame.open);
            if frame.open * LEFT <= frame.kept && settled >= WORTH {
                frame.bytes -= settled;
                frame.kept = frame.open;
                self.sparse.push(first);
            }
        }
    }

    /// When the oldest op was accepted that is not settled.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        self.frames.first_key_value().map(|(_, frame)| frame.at)
    }

    /// First positions of frames to compact, once.
    pub(super) fn take_sparse(&mut self) -> Vec<u64> {
        let mut sparse = std::mem::take(&mut self.sparse);
        sparse.retain(|first| self.frames.contains_key(first));
        sparse
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Goal: a frame is compacted when few of its ops are left, once, and not if it is small. Method: runs of all kinds.
    #[test]
    fn frames_with_few_ops_left_are_compacted() {
        let mut kept = Kept::default();
        let at = |seconds| Timestamp::some().checked_add(Duration::from_secs(seconds)).expect("in range");
        kept.push(0, 1000, 100_000, (1000, 1000), at(0));
        kept.push(1000, 1000, 100_000, (1000, 1000), at(1));
        kept.push(2000, 10, 1000, (10, 10), at(2));
        kept.settle(500, 1700);
        assert_eq!((kept.take_sparse(), kept.oldest()), (vec![], Some(at(0))));
        kept.settle(1710, 2008);
        assert_eq!(kept.take_sparse(), [1000]);
        kept.settle(0, 499);
        assert_eq!((kept.take_sparse(), kept.oldest()), (vec![], Some(at(1))));
        kept.settle(1701, 1704);
        kept.settle(1705, 1709);
        assert_eq!((kept.take_sparse(), kept.oldest()), (vec![], Some(at(2))));
        kept.settle(2009, 2009);
        assert_eq!(kept.oldest(), None);
    }
}
