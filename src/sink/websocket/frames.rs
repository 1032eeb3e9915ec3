//! How ops become frames. In come ops, each is encoded and put into a frame with its neighbors, out go frames that keep
//! to the cap, and refusals of what fits into none. Next room: `sink`, which feeds them.

use std::{fmt, ops::Range, str::Utf8Error, sync::Arc};

use serde::Serialize;

use super::{Message, socket::BoxError, tally::header_bytes};
use crate::{batch::Batch, sink::SinkError};

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
/// one. An op that fits into no frame is refused by itself, and so is one that the encoder fails at, text that is not
/// UTF-8, and a message with a newline in it where newlines part the messages.
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

    /// The most bytes that a frame's payload may have; 65,535 by default.
    pub fn max_bytes(self, max_bytes: usize) -> Self {
        Self { max_bytes, ..self }
    }

    /// What one message may have at most, alone in its frame.
    fn room(&self) -> usize {
        self.max_bytes.saturating_sub(self.open.len() + self.close.len())
    }

    fn encode(&self, op: &T, out: &mut Vec<u8>) -> Result<(), SinkError> {
        out.clear();
        (self.encode)(op, out).map_err(SinkError::refused)?;
        if out.len() > self.room() {
            let (bytes, most) = (out.len(), self.room());
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

/// A frame that is ready to be fed.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) message: Message,
    /// How many messages are in it.
    pub(super) messages: u64,
    pub(super) payload: usize,
    /// Bytes on the wire if each message had a frame of its own.
    pub(super) apart: u64,
}

/// A payload that grows. Text is looked at once, as it is added.
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

    /// Adds a message behind `lead`, or nothing if it is not UTF-8 where it must be.
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

/// Packs the ops of one batch into frames, one frame at a time, so that no more than one is in memory.
pub(super) struct Packer<'a, T> {
    frames: &'a Frames<T>,
    masked: bool,
    /// The ops that have no verdict, by their index in the batch, and how many of them are packed or refused.
    open: Vec<usize>,
    next: usize,
    /// The message of `open[next]`, if it is encoded already: it did not fit into the frame before.
    encoded: Vec<u8>,
    is_encoded: bool,
}

impl<'a, T> Packer<'a, T> {
    pub(super) fn new<R>(frames: &'a Frames<T>, masked: bool, batch: &Batch<T, R>) -> Self {
        let open = batch.pending().indexed().map(|(i, _)| i).collect();
        Self { frames, masked, open, next: 0, encoded: Vec::new(), is_encoded: false }
    }

    /// The next frame, or `None` when all ops are packed. Ops that fit into none are refused.
    pub(super) fn next<R>(&mut self, batch: &mut Batch<T, R>) -> Option<Frame> {
        let frames = self.frames;
        let mut payload = Payload::new(frames.text);
        let (mut messages, mut apart) = (0, 0);
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
            apart += (self.encoded.len() + header_bytes(self.encoded.len(), self.masked)) as u64;
            messages += 1;
        }
        if messages == 0 {
            return None;
        }
        let size = payload.len() + frames.close.len();
        Some(Frame { message: payload.close(frames.close), messages, payload: size, apart })
    }

    /// The size of a frame if all that are left are as long as the next: a buffer that need not grow is not copied.
    fn likely_size(&self) -> usize {
        let left = if self.frames.each { 1 } else { self.open.len() - self.next };
        let one = self.encoded.len() + self.frames.between.len();
        self.frames.max_bytes.min(self.frames.open.len() + one.saturating_mul(left) + self.frames.close.len())
    }

    /// How far it has come, as a mark for [`ops`](Self::ops).
    pub(super) fn position(&self) -> usize {
        self.next
    }

    /// Which ops, by their index in the batch, were packed or refused between two marks.
    pub(super) fn ops(&self, marks: Range<usize>) -> &[usize] {
        &self.open[marks]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words() -> Frames<&'static str> {
        Frames::text(|op: &&str, out| {
            out.extend_from_slice(op.as_bytes());
            Ok(())
        })
    }

    /// The payloads, and for each op whether it was refused.
    fn pack<T>(frames: &Frames<T>, ops: Vec<T>) -> (Vec<String>, Vec<bool>) {
        let mut batch: Batch<T> = Batch::for_test(ops);
        let mut packer = Packer::new(frames, false, &batch);
        let mut payloads = Vec::new();
        while let Some(frame) = packer.next(&mut batch) {
            let payload = match frame.message {
                Message::Text(text) => text,
                Message::Binary(bytes) => format!("{bytes:?}"),
                other => panic!("{other:?}"),
            };
            payloads.push(payload);
        }
        let refused = (0..batch.len()).map(|i| batch.verdict(i).is_some()).collect();
        (payloads, refused)
    }

    #[test]
    fn groupings() {
        let ops = || vec!["a", "b", "c"];
        assert_eq!(pack(&Frames::json(), ops()).0, [r#"["a","b","c"]"#]);
        assert_eq!(pack(&Frames::json().lines(), ops()).0, ["\"a\"\n\"b\"\n\"c\""]);
        assert_eq!(pack(&Frames::json().each(), ops()).0, [r#""a""#, r#""b""#, r#""c""#]);
        assert_eq!(pack(&Frames::json().joined("<", "|", ">"), ops()).0, [r#"<"a"|"b"|"c">"#]);
        assert_eq!(pack(&words(), ops()).0, ["abc"]);
        let bytes = Frames::binary(|op: &u8, out| {
            out.extend([1, *op]);
            Ok(())
        });
        assert_eq!(pack(&bytes, vec![7, 8]).0, ["[1, 7, 1, 8]"]);
    }

    #[test]
    fn a_frame_ends_where_the_cap_is() {
        let frames = words().joined("[", ",", "]").max_bytes(7);
        assert_eq!(pack(&frames, vec!["ab", "cd", "ef", "ghijk"]).0, ["[ab,cd]", "[ef]", "[ghijk]"]);
    }

    #[test]
    fn what_fits_into_no_frame_is_refused_alone() {
        let frames = words().joined("[", ",", "]").max_bytes(7);
        let (payloads, refused) = pack(&frames, vec!["a", "abcdef", "b"]);
        assert_eq!((payloads, refused), (vec!["[a,b]".to_owned()], vec![false, true, false]));
        assert_eq!(pack(&words().max_bytes(0), vec!["a"]), (vec![], vec![true]));
    }

    #[test]
    fn what_would_break_the_frame_is_refused_alone() {
        assert_eq!(pack(&words().lines(), vec!["a", "b\nc", "d"]), (vec!["a\nd".into()], vec![false, true, false]));
        let bytes = Frames::text(|op: &Vec<u8>, out| {
            out.extend(op);
            if op.is_empty() { Err("empty".into()) } else { Ok(()) }
        });
        let ops = vec![vec![b'a'], vec![0xff], vec![], vec![b'b']];
        assert_eq!(pack(&bytes, ops), (vec!["ab".into()], vec![false, true, true, false]));
    }

    proptest! {
        /// Goal: whatever the sizes, no frame exceeds the cap, nothing is lost, and order holds. Method: words of digits.
        #[test]
        fn caps_are_hard_and_order_holds(sizes in proptest::collection::vec(1usize..40, 1..60), cap in 3usize..60) {
            let ops: Vec<String> = sizes.iter().enumerate().map(|(i, size)| format!("{i:0size$}")).collect();
            let frames = Frames::text(|op: &String, out| { out.extend(op.as_bytes()); Ok(()) })
                .joined("[", ",", "]").max_bytes(cap);
            let (payloads, refused) = pack(&frames, ops.clone());
            prop_assert!(payloads.iter().all(|payload| payload.len() <= cap));
            let sent: Vec<&str> = payloads.iter().flat_map(|payload| payload[1..payload.len() - 1].split(',')).collect();
            let expected: Vec<&String> = ops.iter().filter(|op| op.len() + 2 <= cap).collect();
            prop_assert_eq!(sent, expected);
            prop_assert_eq!(refused, ops.iter().map(|op| op.len() + 2 > cap).collect::<Vec<_>>());
        }
    }
}
