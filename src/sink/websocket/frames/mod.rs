//! [`Frames`]: how ops are encoded and grouped into frames. A frame never exceeds the cap, and an op that fits into
//! none is refused alone. The packer reads it, one batch at a time.

mod packer;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc};

use serde::Serialize;

pub(super) use packer::{Frame, Packer};

use super::socket::BoxError;
use crate::{
    rules::{config::limits::LimitsError, panics},
    sink::SinkError,
};

/// Default cap of a frame's payload, in bytes: the most whose length takes two bytes in the header, and less than every
/// usual peer accepts.
const DEFAULT_MAX_BYTES: usize = 65_535;

type Encode<T> = Arc<dyn Fn(&T, &mut Vec<u8>) -> Result<(), BoxError> + Send + Sync>;

/// Encoding of ops as messages, and grouping of messages into frames.
///
/// | | a frame with three ops |
/// |---|---|
/// | [`json`](Self::json) | `[{"a":1},{"a":2},{"a":3}]` |
/// | `json().lines()` | `{"a":1}` and so on, a newline between them |
/// | `json().each()` | three frames, `{"a":1}` and so on, flushed at once |
/// | `json().joined("{\"ops\":[", ",", "]}")` | `{"ops":[{"a":1},{"a":2},{"a":3}]}` |
/// | [`binary`](Self::binary) | what the encoder wrote for each, one after the other |
///
/// A frame never holds more than [`max_bytes`](Self::max_bytes), header not counted: a message that would not fit
/// begins the next frame. An op that fits into no frame is refused alone. So is one whose encoder fails or panics, text
/// that is not UTF-8, and a message with a newline where newlines separate messages. The rest of the batch is sent.
///
/// # Examples
///
/// ```
/// use roundlot::{market::PriceUpdate, sink::websocket::Frames};
///
/// let arrays = Frames::<PriceUpdate>::json().max_bytes(16 * 1024);
/// let own = Frames::text(|update: &PriceUpdate, out| {
///     out.extend_from_slice(format!("{} {}", update.symbol, update.price).as_bytes());
///     Ok(())
/// })
/// .lines();
/// ```
#[must_use = "frames do nothing until a WebSocket gets them"]
pub struct Frames<T> {
    encode: Encode<T>,
    text: bool,
    open: &'static str,
    between: &'static str,
    close: &'static str,
    each: bool,
    max_bytes: usize,
}

impl<T> Frames<T> {
    /// One JSON array for each frame.
    pub fn json() -> Self
    where
        T: Serialize,
    {
        Self::text(|op: &T, out| serde_json::to_writer(out, op).map_err(BoxError::from)).joined("[", ",", "]")
    }

    /// Text frames: `encode` appends one op to the buffer, as UTF-8.
    ///
    /// Messages are concatenated with nothing between them, until a grouping is chosen.
    pub fn text(encode: impl Fn(&T, &mut Vec<u8>) -> Result<(), BoxError> + Send + Sync + 'static) -> Self {
        Self {
            encode: Arc::new(encode),
            text: true,
            open: "",
            between: "",
            close: "",
            each: false,
            max_bytes: DEFAULT_MAX_BYTES,
        }
    }

    /// Binary frames: `encode` appends one op to the buffer, with its length if the peer needs that to separate
    /// messages.
    pub fn binary(encode: impl Fn(&T, &mut Vec<u8>) -> Result<(), BoxError> + Send + Sync + 'static) -> Self {
        Self { text: false, ..Self::text(encode) }
    }

    /// Separates the messages of a frame by a newline.
    pub fn lines(self) -> Self {
        self.joined("", "\n", "")
    }

    /// Puts each message into a frame of its own, for protocols that ask for it. A batch is still flushed once.
    pub fn each(self) -> Self {
        Self { each: true, ..self.joined("", "", "") }
    }

    /// Sets the text before, between and after the messages of a frame.
    pub fn joined(self, open: &'static str, between: &'static str, close: &'static str) -> Self {
        Self { open, between, close, each: false, ..self }
    }

    /// Maximum size of a frame's payload in bytes; 65,535 by default. A value below the text before and after the
    /// messages is an error of [`WebSocket::try_new`](super::WebSocket::try_new).
    pub fn max_bytes(self, max_bytes: usize) -> Self {
        Self { max_bytes, ..self }
    }

    /// Refuses a cap that even a frame without messages exceeds.
    pub(super) fn check(&self) -> Result<(), LimitsError> {
        if self.room().is_some() {
            return Ok(());
        }
        let (open, close) = (self.open.len(), self.close.len());
        let least = open + close;
        let text = format!("must be at least {least}: bytes before the messages: {open}, behind them: {close}");
        Err(LimitsError::new("max_bytes", text))
    }

    /// Maximum size of one message alone in its frame, in bytes. `None` if even a frame without messages exceeds the
    /// cap.
    fn room(&self) -> Option<usize> {
        self.max_bytes.checked_sub(self.open.len())?.checked_sub(self.close.len())
    }

    fn encode(&self, op: &T, out: &mut Vec<u8>) -> Result<(), SinkError> {
        out.clear();
        panics::catch(|| (self.encode)(op, out))
            .map_err(|panic| SinkError::panicked("the encoder of a message", &*panic))?
            .map_err(SinkError::refused)?;
        let (bytes, most) = (out.len(), self.room());
        if most.is_none_or(|most| bytes > most) {
            let most = most.unwrap_or(0);
            return Err(SinkError::refused(format!("a message of {bytes} bytes, where a frame has room for {most}")));
        }
        if self.between == "\n" && out.contains(&b'\n') {
            return Err(SinkError::refused("a newline in a message, where newlines part the messages"));
        }
        Ok(())
    }
}

impl<T> Clone for Frames<T> {
    fn clone(&self) -> Self {
        Self { encode: Arc::clone(&self.encode), ..*self }
    }
}

impl<T> fmt::Debug for Frames<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frames")
            .field("text", &self.text)
            .field("joined", &(self.open, self.between, self.close))
            .field("each", &self.each)
            .field("max_bytes", &self.max_bytes)
            .finish_non_exhaustive()
    }
}
