//! How ops become frames. In come ops, each is encoded and put into a frame with its neighbors, out go frames that keep
//! to the cap, and refusals of what fits into none. Next room: `sink`, which feeds them.

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

/// How large a frame may be if nobody says otherwise: the most whose length takes two bytes in the header, and less than
/// what every usual peer takes.
const DEFAULT_MAX_BYTES: usize = 65_535;

type Encode<T> = Arc<dyn Fn(&T, &mut Vec<u8>) -> Result<(), BoxError> + Send + Sync>;

/// How ops become messages, and messages frames.
///
/// | | a frame with three ops |
/// |---|---|
/// | [`json`](Self::json) | `[{"a":1},{"a":2},{"a":3}]` |
/// | `json().lines()` | `{"a":1}` and so on, a newline between them |
/// | `json().each()` | three frames, `{"a":1}` and so on, flushed at once |
/// | `json().joined("{\"ops\":[", ",", "]}")` | `{"ops":[{"a":1},{"a":2},{"a":3}]}` |
/// | [`binary`](Self::binary) | what the encoder wrote for each, one after the other |
///
/// A frame never holds more than [`max_bytes`](Self::max_bytes), header not counted: what would not fit begins the next
/// one. An op that fits into no frame is refused by itself, and so is one that the encoder fails at or panics at, text that
/// is not UTF-8, and a message with a newline in it where newlines part the messages. The others of its batch are sent.
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

    /// Text: `encode` appends one op to the buffer, as UTF-8.
    ///
    /// Messages stand one after the other with nothing between them, until a grouping is chosen.
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

    /// Bytes: `encode` appends one op to the buffer, with its length if the peer is to tell where it ends.
    pub fn binary(encode: impl Fn(&T, &mut Vec<u8>) -> Result<(), BoxError> + Send + Sync + 'static) -> Self {
        Self { text: false, ..Self::text(encode) }
    }

    /// A newline between the messages of a frame.
    pub fn lines(self) -> Self {
        self.joined("", "\n", "")
    }

    /// One message for each frame, for protocols that want it so. A batch is still flushed once.
    pub fn each(self) -> Self {
        Self { each: true, ..self.joined("", "", "") }
    }

    /// What stands before, between and behind the messages of a frame.
    pub fn joined(self, open: &'static str, between: &'static str, close: &'static str) -> Self {
        Self { open, between, close, each: false, ..self }
    }

    /// The most bytes that a frame's payload may have; 65,535 by default. Below what stands before and behind the messages
    /// it is an error of [`WebSocket::try_new`](super::WebSocket::try_new).
    pub fn max_bytes(self, max_bytes: usize) -> Self {
        Self { max_bytes, ..self }
    }

    /// Refuses a cap that not even a frame without messages keeps to.
    pub(super) fn check(&self) -> Result<(), LimitsError> {
        if self.room().is_some() {
            return Ok(());
        }
        let (open, close) = (self.open.len(), self.close.len());
        let least = open + close;
        let text = format!("must be at least {least}: bytes before the messages: {open}, behind them: {close}");
        Err(LimitsError::new("max_bytes", text))
    }

    /// Bytes that one message may have, alone in its frame. `None`: not even a frame without messages keeps to the cap.
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
