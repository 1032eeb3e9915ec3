//! [`DeadLetters`]: ops that were given up or are in doubt. They were recorded with their outcomes, and stay in the log until
//! they are requeued or discarded.

use std::{fmt, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{
    command::Command,
    error::Left,
    log::{LogError, store::LetterRow},
    outcomes,
    shared::Shared,
    step::Step,
};
use crate::{
    rules::{
        batch::{Batch, CutBy, verdicts::Verdict},
        outcome::{DeadLetter, OpId},
    },
    sink::{BoxSink, Sink},
};

/// The dead letters of a log, from [`Joined::dead_letters`](super::Joined::dead_letters).
pub struct DeadLetters<T, R = ()> {
    shared: Arc<Shared<T, R>>,
}

/// Letters read at a time.
const READ: usize = 256;

impl<T, R> DeadLetters<T, R>
where
    T: Send + 'static,
    R: Clone + Send + 'static,
{
    pub(crate) fn new(shared: Arc<Shared<T, R>>) -> Self {
        Self { shared }
    }

    /// The first `limit` dead letters by shard and id. One whose op the codec can't decode is left out.
    ///
    /// # Errors
    ///
    /// If the batcher has left the log.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it changes nothing.
    pub async fn list(&self, limit: usize) -> Result<Vec<(OpId, DeadLetter<T>)>, Left> {
        let mut found = Vec::new();
        for shard in 0..self.shared.shards.len() as u16 {
            let mut after = None;
            while found.len() < limit {
                let rows = self.shared.log.letters(shard, after, READ).await.map_err(|_| Left)?;
                let Some(last) = rows.last() else { break };
                after = Some((last.producer, last.number));
                for row in &rows {
                    let letter = outcomes::letter(&*self.shared.codec, row);
                    found.extend(letter.map(|letter| (OpId::new(row.producer, shard, row.number), letter)));
                }
            }
        }
        found.truncate(limit);
        Ok(found)
    }

    /// Sends the op of a dead letter again: it is the last in the log afterwards, under a new id, and no dead letter any more.
    /// Returns the id, or `None` if there is no such letter. Look up an op in doubt at the destination first.
    ///
    /// # Errors
    ///
    /// If the batcher has left the log, or the log is full.
    ///
    /// # Cancel safety
    ///
    /// A dropped future may have sent the op, and then there is no such letter any more.
    pub async fn requeue(&self, id: OpId) -> Result<Option<OpId>, Left> {
        let Some(shard) = self.shared.shards.get(usize::from(id.shard())) else {
            return Ok(None);
        };
        let new = self.shared.next_id(id.shard());
        // The permit of the op, which its leader releases.
        let held = self.shared.permits.acquire(1).await.ok_or(Left)?;
        let mut may_be_stored = false;
        Step::Requeue.before();
        loop {
            match self.shared.log.requeue(id, new.number()).await {
                Ok(Some(new)) => {
                    Step::Requeue.after();
                    held.pass_on();
                    return Ok(Some(new));
                }
                Ok(None) if may_be_stored => {
                    // The first request stored it, and its leader was not told.
                    let _ = shard.commands.send(Command::Read(new));
                    Step::Requeue.after();
                    held.pass_on();
                    return Ok(Some(new));
                }
                Ok(None) => return Ok(None),
                Err(LogError::Unknown(_)) => {
                    may_be_stored = true;
                    tokio::time::sleep(PAUSE.0).await;
                }
                Err(_) => return Err(Left),
            }
        }
    }

    /// Removes a dead letter. Returns whether there was one.
    ///
    /// # Errors
    ///
    /// If the batcher has left the log.
    ///
    /// # Cancel safety
    ///
    /// A dropped future may have removed it.
    pub async fn discard(&self, id: OpId) -> Result<bool, Left> {
        if usize::from(id.shard()) >= self.shared.shards.len() {
            return Ok(false);
        }
        Step::Discard.before();
        let removed = self.shared.log.discard(id).await.map_err(|_| Left)?;
        Step::Discard.after();
        Ok(removed)
    }
}

/// Pauses before a sink that has failed gets letters again, from the first to the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(60));

/// Writes dead letters to their sink, those first that were in the log before, until the batcher leaves.
pub(super) async fn post<T, R>(shared: Arc<Shared<T, R>>, sink: BoxSink<DeadLetter<T>>, stop: CancellationToken)
where
    T: Send + 'static,
    R: Clone + Send + 'static,
{
    let posting = async {
        let mut pause = PAUSE.0;
        loop {
            match post_all(&shared, &sink).await {
                Ok(true) => {
                    pause = PAUSE.0;
                    shared.letters.notified().await;
                }
                Ok(false) => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE.1);
                }
                Err(LogError::Closed) => return,
                Err(error) => {
                    warn!(batcher = %shared.name, %error, "dead letters can't be read");
                    tokio::time::sleep(PAUSE.1).await;
                }
            }
        }
    };
    tokio::select! {
        () = posting => {}
        () = stop.cancelled() => {}
    }
    if let Err(error) = Sink::close(&sink).await {
        warn!(batcher = %shared.name, error = error.chain(), "the sink of dead letters was not closed properly");
    }
}

/// Writes all dead letters once, and removes those that were accepted. Returns whether all were.
async fn post_all<T, R>(shared: &Shared<T, R>, sink: &BoxSink<DeadLetter<T>>) -> Result<bool, LogError>
where
    T: Send + 'static,
    R: Clone + Send + 'static,
{
    let mut all = true;
    // Letters of other shards are for the processes that lead them.
    let led: Vec<u16> = (0..).zip(&shared.shards).filter(|(_, of)| of.stats().leads).map(|(shard, _)| shard).collect();
    for shard in led {
        let mut after = None;
        loop {
            let rows = shared.log.letters(shard, after, READ).await?;
            let Some(last) = rows.last() else { break };
            after = Some((last.producer, last.number));
            let read = |row: &LetterRow| {
                let letter = outcomes::letter(&*shared.codec, row)?;
                Some((OpId::new(row.producer, shard, row.number), letter))
            };
            // One that can't be decoded stays where it is.
            let (ids, letters): (Vec<_>, Vec<_>) = rows.iter().filter_map(read).unzip();
            if ids.is_empty() {
                continue;
            }
            let mut batch = Batch::new(letters, CutBy::Flush, 1);
            let written = AssertUnwindSafe(Sink::write(sink, &mut batch)).catch_unwind().await;
            if let Ok(Err(error)) = &written {
                warn!(batcher = %shared.name, error = error.chain(), "dead letters were not taken");
            }
            for (id, verdict) in ids.into_iter().zip(batch.verdicts_mut()) {
                match verdict {
                    Verdict::Accepted(()) => drop(shared.log.discard(id).await?),
                    _ => all = false,
                }
            }
        }
    }
    Ok(all)
}

impl<T, R> fmt::Debug for DeadLetters<T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetters").field("name", &self.shared.name).finish_non_exhaustive()
    }
}
