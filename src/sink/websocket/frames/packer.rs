//! [`Packer`]: packs the ops of one batch into frames, one frame at a time. Each pending op is packed or refused once,
//! in order. The sink calls it during a write.

use std::{ops::Range, str::Utf8Error};

use super::Frames;
use crate::{
    rules::batch::Batch,
    sink::{
        SinkError,
        websocket::{Message, frame_stats::header_bytes},
    },
};

/// A frame that is ready to be fed.
#[derive(Debug)]
pub(in crate::sink::websocket) struct Frame {
    pub(in crate::sink::websocket) message: Message,
    /// Number of messages in the frame.
    pub(in crate::sink::websocket) messages: u64,
    pub(in crate::sink::websocket) payload: usize,
    /// Bytes on the wire if each message had a frame of its own; for the statistics.
    pub(in crate::sink::websocket) unbatched_bytes: u64,
}

/// A payload under construction. Text is checked once, as it is appended.
enum Payload {
    Text(String),
    Binary(Vec<u8>),
}

impl Payload {
    fn new(text: bool) -> Self {
        if text { Self::Text(String::new()) } else { Self::Binary(Vec::new()) }
    }

    fn reserve(&mut self, size: usize) {
        match self {
            Self::Text(text) => text.reserve(size),
            Self::Binary(bytes) => bytes.reserve(size),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }

    /// Appends `lead` and a message; nothing if the message is not UTF-8 in a text frame.
    fn push(&mut self, lead: &str, message: &[u8]) -> Result<(), Utf8Error> {
        match self {
            Self::Text(text) => {
                let message = std::str::from_utf8(message)?;
                text.push_str(lead);
                text.push_str(message);
            }
            Self::Binary(bytes) => {
                bytes.extend_from_slice(lead.as_bytes());
                bytes.extend_from_slice(message);
            }
        }
        Ok(())
    }

    fn close(self, close: &str) -> Message {
        match self {
            Self::Text(text) => Message::Text(text + close),
            Self::Binary(mut bytes) => {
                bytes.extend_from_slice(close.as_bytes());
                Message::Binary(bytes)
            }
        }
    }
}

/// Packs the ops of one batch into frames; only one frame is in memory at a time.
pub(in crate::sink::websocket) struct Packer<'a, T> {
    frames: &'a Frames<T>,
    masked: bool,
    /// Indexes in the batch of the ops without a verdict; the first `next` of them are packed or refused.
    open: Vec<usize>,
    next: usize,
    /// The message of `open[next]`, if it was encoded already because it did not fit into the frame before.
    encoded: Vec<u8>,
    is_encoded: bool,
}

impl<'a, T> Packer<'a, T> {
    pub(in crate::sink::websocket) fn new<R>(frames: &'a Frames<T>, masked: bool, batch: &Batch<T, R>) -> Self {
        let open = batch.pending_indexes().collect();
        Self { frames, masked, open, next: 0, encoded: Vec::new(), is_encoded: false }
    }

    /// Returns the next frame, or `None` when all ops are packed. Refuses ops that fit into no frame.
    pub(in crate::sink::websocket) fn next<R>(&mut self, batch: &mut Batch<T, R>) -> Option<Frame> {
        let frames = self.frames;
        let mut payload = Payload::new(frames.text);
        let (mut messages, mut unbatched_bytes) = (0, 0);
        while let Some(&i) = self.open.get(self.next) {
            if !self.is_encoded
                && let Err(error) = frames.encode(&batch[i], &mut self.encoded)
            {
                batch.refuse(i, error);
                self.next += 1;
                continue;
            }
            self.is_encoded = true;
            let lead = if messages == 0 { frames.open } else { frames.between };
            let size = payload.len() + lead.len() + self.encoded.len() + frames.close.len();
            if messages > 0 && (frames.each || size > frames.max_bytes) {
                break;
            }
            if messages == 0 {
                payload.reserve(self.likely_size());
            }
            self.is_encoded = false;
            self.next += 1;
            if payload.push(lead, &self.encoded).is_err() {
                batch.refuse(i, SinkError::refused("a text message that is not UTF-8"));
                continue;
            }
            unbatched_bytes += (self.encoded.len() + header_bytes(self.encoded.len(), self.masked)) as u64;
            messages += 1;
        }
        if messages == 0 {
            return None;
        }
        let size = payload.len() + frames.close.len();
        Some(Frame { message: payload.close(frames.close), messages, payload: size, unbatched_bytes })
    }

    /// Estimated size of a frame, as if all remaining messages were as long as the next: it saves copies on growth.
    fn likely_size(&self) -> usize {
        let left = if self.frames.each { 1 } else { self.open.len() - self.next };
        let one = self.encoded.len() + self.frames.between.len();
        self.frames.max_bytes.min(self.frames.open.len() + one.saturating_mul(left) + self.frames.close.len())
    }

    /// Current position, as a mark for [`ops`](Self::ops).
    pub(in crate::sink::websocket) fn position(&self) -> usize {
        self.next
    }

    /// Indexes in the batch of the ops packed or refused between two marks.
    pub(in crate::sink::websocket) fn ops(&self, marks: Range<usize>) -> &[usize] {
        &self.open[marks]
    }
}
