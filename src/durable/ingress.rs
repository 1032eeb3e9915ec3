//! [`Ingress`]: the sink of the batcher through which ops go to the log. It packs what waits into a frame, one at a time, and
//! repeats it unchanged until the log answers.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tracing::warn;

use super::{
    frame::{Entry, MAX_BYTES, MAX_OPS, Packer},
    log::{Log, LogError, local::nanos},
    permits::Held,
    step::Step,
};
use crate::{
    rules::batch::{Batch, Settled, SinkError},
    sink::Sink,
};

/// Ops of one call, encoded in its caller's task.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub(crate) entries: Vec<(Entry, Range<usize>)>,
    pub(crate) bytes: Vec<u8>,
    pub(crate) held: Held,
}

/// The weight of an op without bytes: a frame is full by its number of ops then.
const MIN_WEIGHT: usize = MAX_BYTES / MAX_OPS;

/// The weight of a full frame.
pub(crate) const MAX_WEIGHT: usize = MIN_WEIGHT * MAX_OPS;

/// How much of a frame an op of so many bytes takes.
pub(crate) fn weight(bytes: usize) -> usize {
    bytes.clamp(MIN_WEIGHT, MAX_WEIGHT)
}

impl Encoded {
    pub(crate) fn weight(&self) -> usize {
        self.entries.iter().map(|(_, range)| weight(range.len())).sum::<usize>().min(MAX_WEIGHT)
    }
}

/// Pauses before a frame is tried again, from the first to the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));

pub(crate) struct Ingress {
    name: Arc<str>,
    log: Arc<dyn Log>,
    shard: u16,
    schema: u32,
    /// The number of the last frame.
    frames: AtomicU64,
}

impl Ingress {
    pub(crate) fn new(name: Arc<str>, log: Arc<dyn Log>, shard: u16, schema: u32) -> Self {
        Self { name, log, shard, schema, frames: AtomicU64::new(0) }
    }
}

impl Sink<Encoded> for Ingress {
    async fn write(&self, batch: &mut Batch<Encoded>) -> Result<Settled, SinkError> {
        let mut packer = Packer::new(self.log.producer());
        for encoded in batch.ops() {
            for (entry, range) in &encoded.entries {
                packer.push(*entry, &encoded.bytes[range.clone()]);
            }
        }
        let number = self.frames.fetch_add(1, Ordering::Relaxed) + 1;
        let frame = packer.seal(number, nanos(self.log.now()), self.schema);
        let mut pause = BACKOFF.0;
        Step::Append.before();
        loop {
            match self.log.append(self.shard, frame.clone()).await {
                Ok(_) => break,
                Err(error) if error.is_passing() || matches!(error, LogError::Unknown(_)) => {
                    warn!(batcher = %self.name, %error, "a frame is tried again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(BACKOFF.1);
                }
                Err(error @ LogError::Ghost) => return Err(SinkError::refused(error)),
                // An earlier attempt of unknown result may have stored it.
                Err(error) => return Err(SinkError::ambiguous(error)),
            }
        }
        Step::Append.after();
        for encoded in batch.ops() {
            encoded.held.pass_on();
        }
        Ok(batch.accept_all())
    }
}
