//! [`Reader`]: the task that reads the stream of a shard, in each process. The leader of the shard gets all frames, and a follower those
//! of its own process. It begins at the checkpoint, and goes on there when it has lost its place.

use std::{convert::Infallible, sync::Arc, time::Duration};

use async_nats::jetstream::consumer::{DeliverPolicy, push::OrderedConfig};
use futures::StreamExt;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::{
    ANSWER,
    fold::{Message, State, sum_of},
    frames::Frames,
    streams::{away, no_answer},
};
use crate::durable::{
    frame::Frame,
    log::{LogError, StoredFrame, followers::Followers, local::nanos, store::Stored},
};

/// The pauses before the stream is read again, from the first to the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// How long a stream may lack what was read until that counts as lost: a server that has become its leader may be behind so long.
pub(super) const LOST_AFTER: Duration = Duration::from_secs(10);

/// How long a stream is silent until it is looked at whether it still has what was read.
const SILENCE: Duration = Duration::from_secs(5);

/// How often a stream is looked at that seems to lack something.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(250);

pub(super) struct Reader {
    pub(super) frames: Arc<Frames>,
    pub(super) followers: Arc<Followers>,
    pub(super) shard: u16,
    /// This process.
    pub(super) me: u64,
}

impl Reader {
    /// Reads until the log is left.
    pub(super) async fn run(self, closed: CancellationToken) {
        let mut pause = PAUSE.0;
        loop {
            let began = Instant::now();
            let read = tokio::select! {
                biased;
                () = closed.cancelled() => return,
                read = self.read() => read,
            };
            let Err(error) = read;
            if began.elapsed() > PAUSE.1 {
                pause = PAUSE.0;
            }
            if error.is_passing() {
                warn!(shard = self.shard, %error, "the stream of a shard is read again");
            } else {
                error!(shard = self.shard, %error, "the stream of a shard can't be read");
                if let Ok(of_shard) = self.frames.shard(self.shard) {
                    of_shard.set_fault(Some(error));
                }
            }
            tokio::select! {
                biased;
                () = closed.cancelled() => return,
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(PAUSE.1),
            }
        }
    }

    /// Reads until something goes wrong.
    async fn read(&self) -> Result<Infallible, LogError> {
        let (frames, shard) = (&self.frames, self.shard);
        let of_shard = frames.shard(shard)?;
        let last = self.place().await?;
        of_shard.set_fault(None);
        let context = &frames.streams.context;
        let config = OrderedConfig {
            deliver_subject: context.client().new_inbox(),
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: last + 1 },
            ..OrderedConfig::default()
        };
        let making = context.create_consumer_on_stream(config, frames.streams.names.frames(shard).0);
        let consumer = timeout(ANSWER, making).await.map_err(|_| no_answer())?.map_err(away)?;
        let mut source = consumer.cached_info().name.clone();
        let mut silent_at = None;
        let mut messages = consumer.messages().await.map_err(away)?;
        loop {
            let message = tokio::select! {
                biased;
                () = frames.recheck(shard) => return Err(LogError::Failed("the last message is checked".to_owned())),
                message = messages.next() => message,
                () = tokio::time::sleep(SILENCE) => {
                    let (read, last) = (of_shard.last(), frames.streams.info(shard).await?.state.last_sequence);
                    let is_behind = read.is_some_and(|(sequence, _)| last != sequence);
                    // A message may have been stored in this moment. With another look it has arrived, or never will.
                    if is_behind && silent_at.replace(read) == Some(read) {
                        return Err(LogError::Failed("messages do not arrive".to_owned()));
                    }
                    continue;
                }
            };
            let message = message.ok_or_else(no_answer)?.map_err(away)?;
            let info = message.info().map_err(|error| LogError::Failed(format!("NATS: {error}")))?;
            if source != info.consumer {
                // The client has begun anew, after an outage perhaps, and the stream may not have what was read.
                info.consumer.clone_into(&mut source);
                self.place().await?;
            }
            let (sequence, at) = (info.stream_sequence, nanos(info.published.into()));
            if of_shard.last().is_some_and(|(last, _)| sequence <= last) {
                // A client that has begun anew without a message begins at the first.
                continue;
            }
            let message = Message { sequence, at, bytes: Arc::from(&message.payload[..]) };
            if let Err(error) = of_shard.push(&message, |frame| self.deliver(frame)) {
                let before = of_shard.last();
                self.place().await?;
                // Messages that are missing were removed behind a later checkpoint, or it is damage.
                let went_on = of_shard.last() != before;
                return Err(if went_on { LogError::Failed("the reader was far behind".to_owned()) } else { error });
            }
        }
    }

    fn deliver(&self, frame: &StoredFrame) {
        let is_own = Frame::producer_of(&frame.bytes) == Some(self.me);
        if is_own || self.frames.shard(self.shard).is_ok_and(|shard| shard.leads()) {
            self.followers.tell(self.shard, frame);
        }
    }

    /// Finds the message behind which to read: the last one that was read, if the stream still has it, or that of the checkpoint.
    async fn place(&self) -> Stored<u64> {
        let of_shard = self.frames.shard(self.shard)?;
        if let Some(last) = of_shard.last() {
            match self.look_for(last).await? {
                Found::There => return Ok(last.0),
                // All that was not read is settled or kept.
                Found::Removed => {}
                Found::Lost => {
                    error!(shard = self.shard, sequence = last.0, "the stream has lost what was read from it");
                    of_shard.lost();
                    // A term that knows what is lost ends.
                    self.frames.members.changed(self.shard);
                }
            }
        }
        let state: State = self.frames.checkpoints.load(self.shard).await?;
        let last = (state.sequence, state.sum);
        match self.look_for(last).await? {
            Found::There => {}
            // Another process has stored a later checkpoint meanwhile.
            Found::Removed if self.frames.checkpoints.load(self.shard).await?.sequence > last.0 => {
                return Err(LogError::Failed("the checkpoint has moved".to_owned()));
            }
            Found::Removed => {
                let why = format!("the stream lacks message {}, from which on it is to be read", last.0);
                return Err(LogError::Unpaired(why));
            }
            Found::Lost => {
                let why = format!(
                    "the stream has another message {} than its ledger: it was made anew, or has lost what was confirmed",
                    last.0
                );
                return Err(LogError::Unpaired(why));
            }
        }
        of_shard.begin_at(state);
        Ok(last.0)
    }

    async fn look_for(&self, (sequence, sum): (u64, u64)) -> Stored<Found> {
        let until = Instant::now() + LOST_AFTER;
        loop {
            let state = self.frames.streams.info(self.shard).await?.state;
            if sequence == 0 {
                let is_whole = state.first_sequence <= 1;
                return Ok(if is_whole { Found::There } else { Found::Removed });
            }
            if state.first_sequence > sequence && state.last_sequence >= sequence {
                return Ok(Found::Removed);
            }
            match self.frames.streams.message(self.shard, sequence).await? {
                Some(message) if sum_of(sequence, &message.bytes) == sum => return Ok(Found::There),
                Some(_) => return Ok(Found::Lost),
                None if Instant::now() >= until => return Ok(Found::Lost),
                None => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    }
}

/// The whereabouts of a message that was read.
enum Found {
    There,
    Removed,
    Lost,
}
