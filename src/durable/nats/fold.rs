//! [`Fold`]: the messages of a shard's stream, in their order, as the frames of a log. JetStream stores whatever is published: a frame
//! that was repeated stands in the stream twice, and one whose caller has given up may come hours later. The fold decides which of them
//! count, and gives those their positions.
//!
//! Invariant: the decision depends on the messages alone, so each process that reads them comes to the same. It can begin at a
//! checkpoint in the ledger: the [`State`] behind a message all of whose predecessors are settled, or kept in the ledger.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use super::tombstone::Tombstone;
use crate::durable::{
    bytes::checksum,
    frame::{Frame, FrameError, MAX_COUNT, MAX_NUMBER},
    log::{
        LogError, StoredFrame, rules,
        store::{ProducerRow, Stored},
    },
};

/// The number of the last frame of a process that was removed: none has a higher one, so all of its frames are repeats.
pub(super) const REMOVED: u64 = MAX_NUMBER;

/// Bytes that a message takes in its stream besides its own, about.
const MESSAGE_BYTES: u64 = 100;

/// A message of a stream.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) sequence: u64,
    /// When the stream stored it, in nanoseconds since 1970.
    pub(super) at: u64,
    pub(super) bytes: Arc<[u8]>,
}

/// The log behind a message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct State {
    /// The message's number in the stream; 0 before the first.
    pub(super) sequence: u64,
    /// Its checksum.
    pub(super) sum: u64,
    /// The position of the next op.
    pub(super) next: u64,
    pub(super) producers: BTreeMap<u64, ProducerRow>,
}

/// Changes by a message.
#[derive(Debug, Clone)]
struct Event {
    sequence: u64,
    sum: u64,
    size: u64,
    /// The position behind it.
    next: u64,
    change: Change,
}

#[derive(Debug, Clone)]
enum Change {
    /// The message counts for nothing.
    None,
    Frame(FrameChange),
    /// A process was removed.
    Removed(u64),
}

#[derive(Debug, Clone)]
struct FrameChange {
    first: u64,
    count: u64,
    producer: u64,
    number: u64,
    /// Numbers of the producer's ops below are flagged.
    flagged_below: u64,
    claims: BTreeMap<u64, u64>,
}

/// A frame in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) sequence: u64,
    pub(super) first: u64,
    pub(super) count: u64,
    /// Numbers of the producer's ops below are flagged as possible repeats.
    pub(super) flagged_below: u64,
}

impl State {
    fn take(&mut self, event: &Event) {
        (self.sequence, self.sum, self.next) = (event.sequence, event.sum, event.next);
        match &event.change {
            Change::None => {}
            Change::Removed(producer) => self.producers.entry(*producer).or_default().frame = REMOVED,
            Change::Frame(FrameChange { first, producer, number, claims, .. }) => {
                let row = self.producers.entry(*producer).or_default();
                // A frame that was made of a dead letter has no number.
                if *number > 0 {
                    (row.frame, row.first) = (*number, *first);
                }
                for (producer, below) in claims {
                    let row = self.producers.entry(*producer).or_default();
                    row.claimed = row.claimed.max(*below);
                }
            }
        }
    }
}

/// The checksum of a message.
pub(super) fn sum_of(sequence: u64, bytes: &[u8]) -> u64 {
    checksum(&[sequence], bytes)
}

#[derive(Debug)]
pub(super) struct Fold {
    /// The log behind the last message that was read.
    head: State,
    /// The log before the first of the events.
    base: State,
    events: VecDeque<Event>,
    /// Bytes of their messages.
    bytes: u64,
}

impl Fold {
    /// Begins at a checkpoint.
    pub(super) fn new(base: State) -> Self {
        Self { head: base.clone(), base, events: VecDeque::new(), bytes: 0 }
    }

    pub(super) fn head(&self) -> &State {
        &self.head
    }

    pub(super) fn base(&self) -> &State {
        &self.base
    }

    /// Bytes of the messages that are not settled, about.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Reads the next message. Returns the frame in it, with its position, if it counts.
    pub(super) fn push(&mut self, message: &Message) -> Stored<Option<StoredFrame>> {
        let Message { sequence, at, bytes } = message;
        if *sequence != self.head.sequence + 1 {
            return Err(LogError::Damaged(format!(
                "the stream has message {sequence} behind message {}: others are missing",
                self.head.sequence
            )));
        }
        let damaged = |error: FrameError| {
            LogError::Damaged(format!("message {sequence} of the stream is not roundlot's: {error}"))
        };
        let (change, frame) = match Tombstone::open(bytes) {
            Some(Tombstone { producer }) => (Change::Removed(producer), None),
            None => self.decide(&Frame::open(Arc::clone(bytes)).map_err(damaged)?, *at)?,
        };
        let size = bytes.len() as u64 + MESSAGE_BYTES;
        let next = frame.as_ref().map_or(self.head.next, |frame| frame.first + frame.count);
        let event = Event { sequence: *sequence, sum: sum_of(*sequence, bytes), size, next, change };
        self.head.take(&event);
        self.bytes += size;
        self.events.push_back(event);
        Ok(frame)
    }

    fn decide(&self, frame: &Frame, at: u64) -> Stored<(Change, Option<StoredFrame>)> {
        let row = self.head.producers.get(&frame.producer).copied().unwrap_or_default();
        let counts = match frame.number {
            0 => row.frame != REMOVED && frame.count <= MAX_COUNT,
            _ => matches!(rules::stored_at(&row, frame, at), Ok(None)),
        };
        if !counts {
            return Ok((Change::None, None));
        }
        if self.head.next > MAX_NUMBER - MAX_COUNT {
            return Err(LogError::Damaged("the log has no position left".to_owned()));
        }
        let flagged = rules::flagged(&row, frame)?;
        let first = self.head.next;
        let change = FrameChange {
            first,
            count: frame.count,
            producer: frame.producer,
            number: frame.number,
            flagged_below: if flagged.is_some() { row.claimed } else { 0 },
            claims: rules::claims(frame)?,
        };
        let bytes = flagged.map_or_else(|| Arc::clone(&frame.bytes), |flagged| flagged.bytes);
        Ok((Change::Frame(change), Some(StoredFrame { first, bytes, count: frame.count })))
    }

    /// Frames that hold the position or later ones, in order, as far as they are behind the base.
    pub(super) fn places(&self, from: u64) -> impl Iterator<Item = Place> {
        let start = self.events.partition_point(|event| event.next <= from);
        self.events.range(start..).filter_map(Event::place)
    }

    /// The log behind the last of the first messages that need not be read again: `passes` tells of each frame whether it need not.
    pub(super) fn until(&self, passes: impl Fn(Place) -> bool) -> State {
        let mut state = self.base.clone();
        self.events.iter().take_while(|event| event.place().is_none_or(&passes)).for_each(|event| state.take(event));
        state
    }

    /// Forgets the first messages, up to this one.
    pub(super) fn trim(&mut self, sequence: u64) {
        while self.events.front().is_some_and(|event| event.sequence <= sequence)
            && let Some(event) = self.events.pop_front()
        {
            self.base.take(&event);
            self.bytes -= event.size;
        }
    }
}

impl Event {
    fn place(&self) -> Option<Place> {
        match &self.change {
            Change::Frame(FrameChange { first, count, flagged_below, .. }) => {
                Some(Place { sequence: self.sequence, first: *first, count: *count, flagged_below: *flagged_below })
            }
            Change::None | Change::Removed(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::durable::{
        frame::{Entry, Packer},
        log::rules::GHOST_AFTER,
    };

    const NOW: u64 = 1_700_000_000_000_000_000;

    /// A frame with so many ops, the first of which may have the id of another process.
    fn frame(producer: u64, number: u64, count: u64, foreign: Option<u64>, made_at: u64) -> Arc<[u8]> {
        let mut packer = Packer::new(producer);
        for i in 0..count {
            let of = foreign.filter(|_| i == 0).unwrap_or(producer);
            let entry = Entry { producer: of, number: number * 10 + i, handle: 0, may_repeat: false, withdraws: false };
            packer.push(entry, b"op");
        }
        packer.seal(number, made_at, 0).bytes
    }

    fn messages() -> impl Strategy<Value = Vec<Arc<[u8]>>> {
        let message = (0..12_u8, 1..4_u64, 0..6_u64, 1..4_u64, prop::option::of(1..4_u64), any::<bool>());
        let message = message.prop_map(|(kind, producer, number, count, foreign, old)| match kind {
            0 => Tombstone { producer }.bytes(),
            _ => frame(
                producer,
                number,
                count,
                foreign,
                NOW - if old && kind < 4 { GHOST_AFTER.as_nanos() as u64 + 1 } else { 0 },
            ),
        });
        prop::collection::vec(message, 0..30)
    }

    fn read(fold: &mut Fold, from: u64, messages: &[Arc<[u8]>]) -> Vec<Option<(u64, Vec<u8>)>> {
        let messages = (from + 1..).zip(messages);
        let read = messages.map(|(sequence, bytes)| {
            let message = Message { sequence, at: NOW, bytes: Arc::clone(bytes) };
            fold.push(&message).unwrap().map(|frame| (frame.first, frame.bytes.to_vec()))
        });
        read.collect()
    }

    proptest! {
        /// Goal: it does not matter where the reading begins, and positions have no gap. Method: any messages, read as a whole and from a
        /// checkpoint in their midst on.
        #[test]
        fn all_readers_agree(messages in messages(), at in any::<prop::sample::Index>()) {
            let mut whole = Fold::new(State::default());
            let all = read(&mut whole, 0, &messages);
            let mut next = 0;
            for (first, bytes) in all.iter().flatten() {
                prop_assert_eq!(*first, next);
                next += Frame::count_of(bytes).unwrap();
            }
            prop_assert_eq!(whole.head().next, next);
            let at = at.index(messages.len() + 1);
            let mut half = Fold::new(State::default());
            read(&mut half, 0, &messages[..at]);
            let mut rest = Fold::new(half.head().clone());
            prop_assert_eq!(read(&mut rest, at as u64, &messages[at..]), all[at..].to_vec());
            prop_assert_eq!(rest.head(), whole.head());
            // Messages that were read can be forgotten, and the rest found by position.
            let passed = whole.until(|place| place.first < half.head().next);
            prop_assert!(passed.sequence >= at as u64 && passed.next == half.head().next);
            whole.trim(at as u64);
            prop_assert_eq!(whole.base(), half.head());
            let found: Vec<_> = whole.places(0).map(|place| (place.first, place.sequence)).collect();
            let expected: Vec<_> = all.iter().zip(1..).skip(at).filter_map(|(frame, sequence)| Some((frame.as_ref()?.0, sequence))).collect();
            prop_assert_eq!(found, expected);
            for from in 0..next + 2 {
                let found = whole.places(from).next().map(|place| place.first);
                let held = |(first, bytes): &&(u64, Vec<u8>)| *first >= half.head().next && first + Frame::count_of(bytes).unwrap() > from;
                prop_assert_eq!(found, all.iter().flatten().find(held).map(|(first, _)| *first));
            }
        }
    }

    /// Goal: a frame counts once, and not at all when it comes too late. Method: repeats, an older one, one that lay about for an hour,
    /// and one of a process that was removed.
    #[test]
    fn each_frame_counts_once() {
        let (mut fold, old) = (Fold::new(State::default()), NOW - GHOST_AFTER.as_nanos() as u64 - 1);
        let stream = [
            frame(7, 1, 2, None, NOW),
            frame(7, 1, 2, None, NOW),
            frame(7, 3, 1, None, NOW),
            frame(7, 2, 1, None, NOW),
            frame(7, 4, 1, None, old),
            frame(8, 1, 1, None, NOW),
            Tombstone { producer: 7 }.bytes(),
            frame(7, 5, 1, None, NOW),
            frame(7, 0, 1, None, NOW),
            frame(8, 0, 1, None, NOW),
            frame(8, 0, 1, None, NOW),
        ];
        let firsts: Vec<_> =
            read(&mut fold, 0, &stream).into_iter().map(|frame| frame.map(|(first, _)| first)).collect();
        assert_eq!(firsts, [Some(0), None, Some(2), None, None, Some(3), None, None, None, Some(4), Some(5)]);
    }

    /// Goal: messages that are missing, and messages of strangers, are noticed. Method: a gap, and bytes of no frame.
    #[test]
    fn gaps_and_strangers_are_noticed() {
        let mut fold = Fold::new(State::default());
        let damaged = |result: Stored<_>| matches!(result, Err(LogError::Damaged(_)));
        let message = |sequence, bytes| Message { sequence, at: NOW, bytes };
        assert!(damaged(fold.push(&message(2, frame(7, 1, 1, None, NOW)))));
        assert!(damaged(fold.push(&message(1, Arc::from(&b"hello"[..])))));
        assert!(fold.push(&message(1, frame(7, 1, 1, None, NOW))).unwrap().is_some());
    }

    /// Goal: an op that another process may have sent meanwhile is flagged, for each reader alike. Method: a claim, and then the frame.
    #[test]
    fn claimed_ids_are_flagged() {
        let mut fold = Fold::new(State::default());
        read(&mut fold, 0, &[frame(8, 1, 1, Some(7), NOW), frame(7, 1, 2, None, NOW)]);
        let flagged: Vec<_> = fold.places(0).map(|place| place.flagged_below).collect();
        assert_eq!(flagged, [0, 11]);
    }
}
