//! [`Upkeep`]: the task that makes checkpoints of the shards which this process leads, and removes the messages before them.
//!
//! A stream can be cut at its beginning alone. An op that waits for long would keep all messages behind it, so what is not settled of
//! such a message is kept in the ledger.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{fold::Place, frames::Frames};
use crate::durable::{
    frame::{Frame, FrameError},
    ledger::Ledger,
    log::{LogError, StoredFrame, store::Stored},
    settled::Settled,
};

/// The pause between two checkpoints of a shard.
const EVERY: Duration = Duration::from_millis(500);

/// Frames that may stand behind one that is not settled. With more of them it is kept in the ledger.
const HELD: usize = 512;

/// Frames that are kept at a time.
const AT_ONCE: usize = 64;

pub(super) struct Upkeep {
    pub(super) frames: Arc<Frames>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) shard: u16,
}

impl Upkeep {
    /// Runs until the log is left.
    pub(super) async fn run(self, closed: CancellationToken) {
        let mut purged = 0;
        loop {
            tokio::select! {
                biased;
                () = closed.cancelled() => return,
                () = self.turn(&mut purged) => {}
            }
        }
    }

    async fn turn(&self, purged: &mut u64) {
        let Ok(of_shard) = self.frames.shard(self.shard) else { return std::future::pending().await };
        of_shard.settled.notified().await;
        tokio::time::sleep(EVERY).await;
        while of_shard.leads() {
            match self.checkpoint(purged).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    // A failure costs room, and nothing else.
                    warn!(shard = self.shard, %error, "a checkpoint is made later");
                    return of_shard.settled.notify_one();
                }
            }
        }
    }

    /// Makes a checkpoint if there is something behind the last one, and removes the messages before it. `purged` is the checkpoint up to
    /// which that was done last. Returns whether there is more to do at once.
    async fn checkpoint(&self, purged: &mut u64) -> Stored<bool> {
        let (frames, shard) = (&self.frames, self.shard);
        // The base is what the ledger has, so that no change is left out.
        frames.reach(shard).await?;
        let Some(settled) = self.settled().await? else { return Ok(false) };
        let (state, base, held) = frames.shard(shard)?.ask(|fold| {
            let state = fold.until(|place| is_settled(&settled, place));
            let behind: Vec<Place> = fold.places(state.next).collect();
            let count = behind.len().saturating_sub(HELD).min(AT_ONCE);
            (state, fold.base().clone(), behind[..count].to_vec())
        })?;
        let held: Vec<Place> = held.into_iter().filter(|place| !is_settled(&settled, *place)).collect();
        let kept = self.rests(&settled, &held).await?;
        let passed: BTreeSet<u64> = held.iter().map(|place| place.first).collect();
        let state = match held.is_empty() {
            true => state,
            false => frames
                .shard(shard)?
                .ask(|fold| fold.until(|place| passed.contains(&place.first) || is_settled(&settled, place)))?,
        };
        if state.sequence > base.sequence {
            frames.checkpoints.store(shard, &state, &base, &kept).await?;
            self.remove_settled(&held).await?;
        }
        // A purge that failed is repeated, also when nothing is settled meanwhile: a full stream waits for it.
        if state.sequence > *purged {
            frames.streams.purge(shard, state.sequence).await?;
            *purged = state.sequence;
        }
        Ok(!held.is_empty())
    }

    /// Positions that a term of this process has settled, as of its last commit. `None` if they must be read again.
    async fn settled(&self) -> Stored<Option<Settled>> {
        let known = self.ledger.known(self.shard).await?;
        Ok(known.map(|(cursor, runs)| Settled::new(cursor, &runs)))
    }

    /// Frames without what is settled of them.
    async fn rests(&self, settled: &Settled, held: &[Place]) -> Stored<Vec<StoredFrame>> {
        let mut kept = Vec::new();
        if !held.is_empty() {
            self.frames.has_kept(self.shard);
        }
        for place in held {
            let gone = || LogError::Failed(format!("message {} of the stream is gone", place.sequence));
            let read = self.frames.frame(self.shard, *place).await?;
            let StoredFrame { first, count, bytes } = read.ok_or_else(gone)?;
            let damaged = |error: FrameError| LogError::Damaged(error.to_string());
            let frame = Frame::open(bytes).map_err(damaged)?;
            let rest = frame.without(&mut |at| settled.contains(first + at)).map_err(damaged)?;
            kept.push(StoredFrame { first, count, bytes: rest.bytes });
        }
        Ok(kept)
    }

    /// Removes what was settled while it was kept.
    async fn remove_settled(&self, held: &[Place]) -> Stored<()> {
        if held.is_empty() {
            return Ok(());
        }
        let Some(settled) = self.settled().await? else { return Ok(()) };
        let gone = held.iter().filter(|place| is_settled(&settled, **place));
        let runs: Vec<(u64, u64)> = gone.map(|place| (place.first, place.first + place.count - 1)).collect();
        if !runs.is_empty() {
            self.frames.kept.remove(self.shard, runs);
        }
        Ok(())
    }
}

fn is_settled(settled: &Settled, place: Place) -> bool {
    settled.next_open(place.first) >= place.first + place.count
}
