//! [`Appender`]: stores the frames of this process. Each is published, and then awaited where all readers find it: the answer of the
//! server says that it is synced, and the fold whether it counts.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{fold::REMOVED, frames::Frames, shard::Shard};
use crate::durable::{
    frame::Frame,
    log::{
        self, LogError, StoredFrame,
        followers::Followers,
        local::{Asker, nanos},
        rules::GHOST_AFTER,
        store::{ProducerRow, Stored},
    },
};

#[derive(Clone)]
pub(super) struct Appender {
    pub(super) frames: Arc<Frames>,
    pub(super) followers: Arc<Followers>,
    /// This process.
    pub(super) me: u64,
    pub(super) closed: CancellationToken,
}

impl Appender {
    /// Stores the next of these frames in a task of its own, and answers. A shard has one of them on its way at a time.
    pub(super) fn append(&self, shard: u16, frames: Arc<dyn log::Frames>) {
        let (appender, asker) = (self.clone(), Asker::new(Arc::clone(&frames)));
        if self.closed.is_cancelled() {
            return;
        }
        tokio::spawn(async move {
            // Callers that were answered just now send again first.
            tokio::task::yield_now().await;
            let Some(frame) = frames.frame() else { return asker.answer(Ok(())) };
            let stored = tokio::select! {
                biased;
                // Dropped, the asker says that the log is closed.
                () = appender.closed.cancelled() => return,
                stored = appender.store(shard, &frame) => stored,
            };
            if stored.is_ok() {
                appender.frames.members.committed();
            }
            asker.answer(stored);
        });
    }

    async fn store(&self, shard: u16, frame: &Frame) -> Stored<()> {
        let of_shard = self.frames.shard(shard)?;
        // Positions that are settled already would be taken for it.
        of_shard.check_held()?;
        let sequence = self.frames.streams.append(shard, Arc::clone(&frame.bytes)).await?;
        let unknown = |error: LogError| match error {
            LogError::Failed(why) => LogError::Unknown(why),
            error => error,
        };
        of_shard.reached(sequence).await.map_err(unknown)?;
        let row = self.row(of_shard).map_err(unknown)?;
        match row.frame {
            REMOVED => Err(LogError::Closed),
            last if last == frame.number => {
                let next = of_shard.ask(|fold| fold.places(row.first).next()).map_err(unknown)?;
                if next.is_none_or(|place| place.first != row.first) {
                    // The reader has passed it over, if it was settled and removed meanwhile. One that was told of it knows it.
                    let stored = StoredFrame { first: row.first, bytes: Arc::clone(&frame.bytes), count: frame.count };
                    self.followers.tell(shard, &stored);
                }
                Ok(())
            }
            _ if self.is_ghost(frame) => Err(LogError::Ghost),
            _ => Err(LogError::Unknown("the stream has lost what it had confirmed".to_owned())),
        }
    }

    /// Whether a frame may have been stored too late to count.
    fn is_ghost(&self, frame: &Frame) -> bool {
        let age = nanos(self.frames.clock.now()).saturating_sub(frame.made_at);
        age > (GHOST_AFTER - Duration::from_secs(60)).as_nanos() as u64
    }

    /// Stores a frame that was made of a dead letter, however often that takes: its op is known by its id.
    pub(super) async fn store_letter(&self, shard: u16, frame: &Frame) -> Stored<()> {
        let sequence = self.frames.streams.append(shard, Arc::clone(&frame.bytes)).await?;
        let of_shard = self.frames.shard(shard)?;
        of_shard.reached(sequence).await?;
        // Behind a tombstone it counts for nothing, and the letter must stay.
        if self.row(of_shard)?.frame == REMOVED { Err(LogError::Closed) } else { Ok(()) }
    }

    /// This process, as the log knows it.
    fn row(&self, of_shard: &Shard) -> Stored<ProducerRow> {
        of_shard.ask(|fold| fold.head().producers.get(&self.me).copied().unwrap_or_default())
    }
}
