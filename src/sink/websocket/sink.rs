//! [`WebSocketSink`]: packs a batch into frames, feeds them one by one, and flushes once. Every op that was fed before
//! an error is in doubt; the rest has not landed.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{
    Close, FrameStats, Frames,
    connection::{Connection, NotFed, too_slow},
    frame_stats::header_bytes,
    frames::{Frame, Packer},
    reconnect::Task,
};
use crate::{
    rules::batch::{Batch, Settled},
    sink::{ErrorKind, Sink, SinkError},
};

/// A [`Sink`] that sends each batch over one WebSocket connection, in few frames; made by a
/// [`WebSocket`](super::WebSocket).
///
/// * Frames leave in the order of the batch, and batches in the order of the writes.
/// * An op that fits into no frame is refused by itself, see [`Frames`].
/// * A task reads the connection whether or not anything is written: pings are answered and a close is noticed. It also
///   [pings](super::WebSocket::ping_every) a silent peer. The task ends with the sink.
///
/// # What errors mean
///
/// | what happened | ops that were fed | all other ops |
/// |---|---|---|
/// | the connection broke, and it is opened again | ambiguous, an outage | outage |
/// | the peer closed it with a code worth a reconnect (1001, 1011 to 1014), and it is opened again | ambiguous, an outage | outage |
/// | the peer took nothing for [`stall_after`](super::WebSocket::stall_after), or left a ping unanswered for that time, and it is opened again | ambiguous, an outage | outage |
/// | the connection is down for now: not opened yet, refused, no such host, TLS or the server not ready; see [`dial`](super::dial()) | - | outage |
/// | one of these, and it is not opened again; or the peer closed it with any other code, or without one | ambiguous | refused, "final" |
/// | the connection is over: the error says why, with code and reason if the peer gave them | - | refused, "final" |
/// | an op fits into no frame, is no text, or its encoder fails or panics | refused | - |
///
/// After an [outage](SinkError::is_outage) the batcher keeps everything in its buffer and counts no attempt of any op.
///
/// A batch is accepted when the operating system has taken all of it, or with
/// [`confirmed`](super::WebSocket::confirmed) when the peer has read it.
///
/// # Cancel safety
///
/// Dropping the future of [`write`](Sink::write) leaves a connection on which each frame is whole. A frame is fed in
/// one step or not at all, and is flushed with the next write. The batch is in doubt. Dropping the future of
/// [`close`](Sink::close) lets the task finish the close handshake, until the sink is dropped.
///
/// # Dropping it
///
/// Closes the connection without a close frame; [`close`](Sink::close) does the handshake, for at most 10 s.
///
/// # The end of it
///
/// [`gone`](Sink::gone) returns when the connection is over, even if nothing is written.
pub struct WebSocketSink<T> {
    frames: Frames<T>,
    connection: Arc<Connection>,
    confirmed: bool,
    is_client: bool,
    farewell: Close,
    /// Set while a write runs. Still set at the close, it means that a write was dropped: the peer was stuck.
    is_writing: AtomicBool,
    _task: Task,
}

impl<T> WebSocketSink<T> {
    pub(super) fn new(
        frames: Frames<T>,
        connection: Arc<Connection>,
        task: Task,
        confirmed: bool,
        is_client: bool,
        farewell: Close,
    ) -> Self {
        let is_writing = AtomicBool::new(false);
        Self { frames, connection, confirmed, is_client, farewell, is_writing, _task: task }
    }

    /// Returns what this sink has sent.
    pub fn stats(&self) -> FrameStats {
        self.connection.stats()
    }

    /// Waits until there is a connection.
    ///
    /// # Errors
    ///
    /// If there never will be a connection.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the future only observes.
    pub async fn ready(&self) -> Result<(), SinkError> {
        self.connection.ready().await
    }

    /// Feeds and flushes the whole batch. The error is that of the ops not fed; those that were fed are in doubt.
    async fn send(&self, batch: &mut Batch<T>) -> Result<FrameStats, SinkError>
    where
        T: Send,
    {
        let mut writer = self.connection.write_guard().await?;
        let mut packer = Packer::new(&self.frames, self.is_client, batch);
        let mut sent = FrameStats::default();
        let mut before = packer.position();
        while let Some(Frame { message, messages, payload, unbatched_bytes }) = packer.next(batch) {
            if let Err(NotFed { error, is_begun }) = writer.feed(message).await {
                let fed = if is_begun { packer.position() } else { before };
                return Err(in_doubt(batch, packer.ops(0..fed), error));
            }
            before = packer.position();
            sent.add_frame(messages, (payload + header_bytes(payload, self.is_client)) as u64, unbatched_bytes);
        }
        if sent.frames == 0 {
            return Ok(sent);
        }
        let seen_off = async {
            if !self.confirmed {
                return writer.flush().await;
            }
            let number = writer.ping().await?;
            writer.confirmed(number).await
        };
        match seen_off.await {
            Ok(()) => Ok(sent),
            Err(error) => Err(in_doubt(batch, packer.ops(0..before), error)),
        }
    }
}

fn in_doubt<T>(batch: &mut Batch<T>, ops: &[usize], error: SinkError) -> SinkError {
    // Ops refused before stay refused.
    for &i in ops {
        batch.refuse(i, error.clone().with_kind(ErrorKind::Ambiguous));
    }
    error
}

impl<T: Send + 'static> Sink<T> for WebSocketSink<T> {
    async fn write(&self, batch: &mut Batch<T>) -> Result<Settled, SinkError> {
        self.is_writing.store(true, Ordering::Relaxed);
        let sent = self.send(batch).await;
        self.is_writing.store(false, Ordering::Relaxed);
        self.connection.count(&sent?);
        Ok(batch.accept_all())
    }

    async fn close(&self) -> Result<(), SinkError> {
        let is_stuck = self.is_writing.load(Ordering::Relaxed);
        self.connection.close(if is_stuck { too_slow() } else { self.farewell.clone() }).await;
        Ok(())
    }

    async fn gone(&self) -> SinkError {
        self.connection.gone().await
    }
}

impl<T> fmt::Debug for WebSocketSink<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocketSink")
            .field("frames", &self.frames)
            .field("confirmed", &self.confirmed)
            .finish_non_exhaustive()
    }
}
