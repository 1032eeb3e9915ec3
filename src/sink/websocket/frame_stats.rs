//! [`FrameStats`]: what was sent, for one connection and for all connections made from one
//! [`WebSocket`](super::WebSocket).

use std::sync::{Mutex, MutexGuard, PoisonError};

use metrics::{Counter, Unit, counter, describe_counter};
use serde::Serialize;

const MESSAGES: &str = "roundlot_websocket_messages_total";
const FRAMES: &str = "roundlot_websocket_frames_total";
const BYTES: &str = "roundlot_websocket_bytes_total";
const CONNECTIONS: &str = "roundlot_websocket_connections_total";

/// Counters of WebSocket sinks. Messages and frames count once flushed, or once confirmed where that was asked for. Ops
/// in doubt and pings are not counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct FrameStats {
    /// Messages, one for each op.
    pub messages: u64,
    /// Frames that held them.
    pub frames: u64,
    /// Bytes of these frames, including headers and a client's mask, excluding TCP and TLS.
    pub bytes: u64,
    /// Bytes if each message had a frame of its own.
    pub bytes_apart: u64,
    /// Connections opened: for a client, one more than it lost.
    pub connections: u64,
    /// Text and binary messages that peers sent.
    pub received: u64,
}

impl FrameStats {
    /// Frames saved, compared with one frame per message.
    pub fn frames_saved(&self) -> u64 {
        self.messages - self.frames
    }

    /// Bytes saved, compared with one frame per message. Negative if the text around the messages is more than the
    /// headers saved.
    pub fn bytes_saved(&self) -> i64 {
        self.bytes_apart as i64 - self.bytes as i64
    }

    pub(super) fn add_frame(&mut self, messages: u64, bytes: u64, unbatched_bytes: u64) {
        self.messages += messages;
        self.frames += 1;
        self.bytes += bytes;
        self.bytes_apart += unbatched_bytes;
    }

    fn add(&mut self, more: &Self) {
        self.messages += more.messages;
        self.frames += more.frames;
        self.bytes += more.bytes;
        self.bytes_apart += more.bytes_apart;
        self.connections += more.connections;
        self.received += more.received;
    }
}

/// Size of a frame's header in bytes, by RFC 6455, section 5.2.
pub(super) fn header_bytes(payload: usize, masked: bool) -> usize {
    let length = match payload {
        0..=125 => 2,
        126..=0xffff => 4,
        _ => 10,
    };
    length + if masked { 4 } else { 0 }
}

/// Sums over all sinks of one kind, also reported to the `metrics` facade. The label `socket` is their common name, so
/// the number of series does not grow with connections.
pub(super) struct SharedStats {
    sum: Mutex<FrameStats>,
    messages: Counter,
    frames: Counter,
    bytes: Counter,
    connections: Counter,
}

impl SharedStats {
    pub(super) fn new(name: &str) -> Self {
        describe_counter!(MESSAGES, Unit::Count, "Messages sent over WebSockets");
        describe_counter!(FRAMES, Unit::Count, "Frames that held them");
        describe_counter!(BYTES, Unit::Bytes, "Bytes of these frames");
        describe_counter!(CONNECTIONS, Unit::Count, "WebSocket connections that came about");
        let socket = || name.to_owned();
        Self {
            sum: Mutex::default(),
            messages: counter!(MESSAGES, "socket" => socket()),
            frames: counter!(FRAMES, "socket" => socket()),
            bytes: counter!(BYTES, "socket" => socket()),
            connections: counter!(CONNECTIONS, "socket" => socket()),
        }
    }

    pub(super) fn add(&self, more: &FrameStats) {
        lock(&self.sum).add(more);
        self.messages.increment(more.messages);
        self.frames.increment(more.frames);
        self.bytes.increment(more.bytes);
        self.connections.increment(more.connections);
    }

    pub(super) fn stats(&self) -> FrameStats {
        *lock(&self.sum)
    }
}

/// The counters of one connection.
#[derive(Default)]
pub(super) struct ConnectionStats(Mutex<FrameStats>);

impl ConnectionStats {
    pub(super) fn add(&self, more: &FrameStats) {
        lock(&self.0).add(more);
    }

    pub(super) fn stats(&self) -> FrameStats {
        *lock(&self.0)
    }
}

/// Nothing that can panic runs under the lock.
fn lock(stats: &Mutex<FrameStats>) -> MutexGuard<'_, FrameStats> {
    stats.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_sizes_follow_the_rfc() {
        let sizes = [(0, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10)];
        for (payload, header) in sizes {
            assert_eq!(header_bytes(payload, false), header);
            assert_eq!(header_bytes(payload, true), header + 4);
        }
    }
}
