//! [`Frames`]: reads the frames of a log, from its streams and from what the ledger has kept.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use futures::{StreamExt, TryStreamExt, stream};
use tokio::{sync::Notify, time::Instant};

use super::{
    checkpoints::Checkpoints,
    fold::Place,
    outcomes::Outcomes,
    reader::{LOOK_EVERY, LOST_AFTER},
    shard::Shard,
    streams::Streams,
};
use crate::durable::{
    frame::Frame,
    ledger::FrameStore,
    log::{Answer, LogError, Record, StoredFrame, local::nanos, search, store::Stored},
    members::{Clock, Members},
    postgres::frames::Frames as KeptFrames,
};

/// Attempts to read frames that are removed or kept meanwhile.
const READS: usize = 5;

pub(super) struct Frames {
    pub(super) streams: Streams,
    pub(super) checkpoints: Checkpoints,
    /// Frames of which the ledger has what is not settled, so that the stream does not need them.
    pub(super) kept: Arc<KeptFrames>,
    pub(super) members: Arc<Members>,
    pub(super) clock: Arc<Clock>,
    shards: Vec<OfShard>,
}

#[derive(Default)]
struct OfShard {
    shard: Shard,
    /// Whether the ledger may have kept frames.
    has_kept: AtomicBool,
    /// Notified when the reader is to check whether the stream still has the last message that was read.
    recheck: Notify,
}

impl Frames {
    pub(super) fn new(
        streams: Streams,
        checkpoints: Checkpoints,
        kept: Arc<KeptFrames>,
        (members, clock): (Arc<Members>, Arc<Clock>),
        shards: u16,
    ) -> Self {
        let shards = (0..shards).map(|_| OfShard::default()).collect();
        Self { streams, checkpoints, kept, members, clock, shards }
    }

    fn of(&self, shard: u16) -> Stored<&OfShard> {
        self.shards.get(usize::from(shard)).ok_or(LogError::Closed)
    }

    pub(super) fn shard(&self, shard: u16) -> Stored<&Shard> {
        self.of(shard).map(|of_shard| &of_shard.shard)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Shard> {
        self.shards.iter().map(|of_shard| &of_shard.shard)
    }

    /// Frames are kept in the ledger, or may be.
    pub(super) fn has_kept(&self, shard: u16) {
        if let Ok(of_shard) = self.of(shard) {
            of_shard.has_kept.store(true, SeqCst);
        }
    }

    /// Waits until the reader is to check whether the stream still has the last message that was read.
    pub(super) async fn recheck(&self, shard: u16) {
        if let Ok(of_shard) = self.of(shard) {
            of_shard.recheck.notified().await;
        }
    }

    /// Reads all that the stream of a shard holds now.
    pub(super) async fn sync(&self, shard: u16) -> Stored<()> {
        let of_shard = self.of(shard)?;
        let read = of_shard.shard.ask(|fold| fold.head().sequence)?;
        let last = self.streams.info(shard).await?.state.last_sequence;
        if last < read {
            // A server that leads the stream since a moment ago may still be behind.
            of_shard.recheck.notify_one();
            return Err(LogError::Failed("the stream ends before what was read".to_owned()));
        }
        of_shard.shard.reached(last).await
    }

    /// The position of the next op, behind all that the stream holds now.
    pub(super) async fn end(&self, shard: u16) -> Stored<u64> {
        self.sync(shard).await?;
        self.next(shard)
    }

    /// The same, for a ledger in which all positions below this one may be settled. A shard is held whose stream does not reach it.
    pub(super) async fn end_at_least(&self, shard: u16, least: u64) -> Stored<u64> {
        let of_shard = self.shard(shard)?;
        of_shard.check_held()?;
        let until = Instant::now() + LOST_AFTER;
        loop {
            let next = self.end(shard).await?;
            if next >= least {
                return Ok(next);
            }
            if Instant::now() >= until {
                let why = "the streams are older than the ledger: they are a backup, or have lost what was confirmed";
                let held = LogError::Unpaired(why.to_owned());
                of_shard.hold(held.clone());
                return Err(held);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// The position of the next op, as far as the stream has been read.
    pub(super) fn next(&self, shard: u16) -> Stored<u64> {
        self.shard(shard)?.ask(|fold| fold.head().next)
    }

    /// Some frames that hold the position or later ones, in order.
    pub(super) async fn read(&self, shard: u16, from: u64, limit: u64) -> Stored<Vec<StoredFrame>> {
        if from >= self.next(shard)? {
            self.sync(shard).await?;
        }
        let of_shard = self.shard(shard)?;
        let base = || of_shard.ask(|fold| fold.base().next);
        for _ in 0..READS {
            let before = base()?;
            let mut frames = match from < before {
                true => self.kept.read(shard, from, limit).await?,
                false => Vec::new(),
            };
            frames.retain(|frame| frame.first < before);
            let left = (limit as usize).saturating_sub(frames.len());
            let places: Vec<Place> = of_shard.ask(|fold| fold.places(from).take(left).collect())?;
            if base()? != before {
                // Frames were kept meanwhile.
                continue;
            }
            let read = stream::iter(places).map(|place| self.frame(shard, place)).buffered(search::READ as usize);
            match read.try_collect::<Vec<Option<StoredFrame>>>().await?.into_iter().collect::<Option<Vec<_>>>() {
                Some(read) => {
                    frames.extend(read);
                    return Ok(frames);
                }
                // A checkpoint that this process has not heard of has passed it.
                None => drop(self.reach(shard).await?),
            }
        }
        Err(LogError::Failed("messages of the stream are gone".to_owned()))
    }

    /// The same as a future of a type that has a name.
    pub(super) fn reading(&self, shard: u16, from: u64, limit: u64) -> Answer<'_, Vec<StoredFrame>> {
        Box::pin(self.read(shard, from, limit))
    }

    /// A frame of the stream, as the fold has decided on it. `None` if the stream does not have it any more.
    pub(super) async fn frame(&self, shard: u16, place: Place) -> Stored<Option<StoredFrame>> {
        let Place { sequence, first, count, flagged_below } = place;
        let Some(message) = self.streams.message(shard, sequence).await? else { return Ok(None) };
        let damaged = |why: String| LogError::Damaged(format!("message {sequence} of the stream: {why}"));
        let mut frame = Frame::open(message.bytes).map_err(|error| damaged(error.to_string()))?;
        if frame.count != count {
            return Err(damaged("it has other ops than before".to_owned()));
        }
        if flagged_below > 0 {
            let flagged = frame.flagged(flagged_below).map_err(|error| damaged(error.to_string()))?;
            frame = flagged.unwrap_or(frame);
        }
        Ok(Some(StoredFrame { first, count, bytes: frame.bytes }))
    }

    /// How far a shard has come: the cursor, and whether it is paused. Messages that no reader needs any more are forgotten.
    pub(super) async fn reach(&self, shard: u16) -> Stored<(u64, bool)> {
        let (cursor, paused, checkpoint) = self.checkpoints.reach(shard).await?;
        // No farther: the next checkpoint is stored as a change of this one.
        self.shard(shard)?.ask(|fold| fold.trim(checkpoint))?;
        Ok((cursor, paused))
    }

    /// Bytes of the messages that are not settled, about.
    pub(super) fn bytes(&self) -> u64 {
        self.all().filter_map(|shard| shard.ask(|fold| fold.bytes()).ok()).sum()
    }
}

/// The frames of a log, as its ledger sees them.
pub(super) struct LedgerFrames {
    pub(super) frames: Arc<Frames>,
    pub(super) outcomes: Outcomes,
}

impl FrameStore for LedgerFrames {
    fn now(&self) -> u64 {
        nanos(self.frames.clock.now())
    }

    fn ops(&self, shard: u16, positions: Vec<u64>) -> Answer<'_, Vec<Vec<u8>>> {
        Box::pin(async move { search::ops(|from, limit| self.frames.reading(shard, from, limit), &positions).await })
    }

    fn forget(&self, shard: u16, _cursor: u64, runs: Vec<(u64, u64)>) {
        let Ok(of_shard) = self.frames.of(shard) else { return };
        if of_shard.has_kept.load(SeqCst) {
            self.frames.kept.remove(shard, runs);
        }
        of_shard.shard.settled.notify_one();
    }

    fn recorded(&self, record: &Record) {
        self.outcomes.recorded(record);
    }
}
