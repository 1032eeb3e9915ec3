//! [`Message`] and [`Close`]: what crosses a WebSocket, free of the types of any WebSocket library.

use std::fmt;

use tokio_tungstenite::tungstenite::{Message as Wire, protocol::CloseFrame};

/// A message of a WebSocket.
///
/// Converts from and to the messages of tokio-tungstenite 0.30. For another library or version, such as axum's, see
/// [`Socket::mapped`](super::Socket::mapped).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Text.
    Text(String),
    /// Bytes.
    Binary(Vec<u8>),
    /// A ping. WebSocket libraries answer by themselves, as long as they are read from.
    Ping(Vec<u8>),
    /// The answer to a ping, with its payload.
    Pong(Vec<u8>),
    /// The last message, with a reason unless the peer gave none.
    Close(Option<Close>),
}

/// Why a connection is closed: a code of RFC 6455, section 7.4, and a text for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Close {
    /// The code.
    pub code: u16,
    /// The text, of at most 123 bytes.
    pub reason: String,
}

/// Maximum length of a reason in bytes: a control frame carries 125, of which the code takes 2.
const MAX_REASON_BYTES: usize = 123;

impl Close {
    /// Normal closure: the purpose of the connection is fulfilled.
    pub const NORMAL: u16 = 1000;
    /// The server goes down, or the browser leaves the page.
    pub const GOING_AWAY: u16 = 1001;
    /// Policy violation.
    pub const POLICY: u16 = 1008;
    /// Internal error of the server.
    pub const INTERNAL: u16 = 1011;
    /// The server restarts.
    pub const RESTART: u16 = 1012;
    /// Try again later.
    pub const TRY_AGAIN: u16 = 1013;
    /// Bad gateway: a proxy got no valid answer from its upstream.
    pub const BAD_GATEWAY: u16 = 1014;

    /// A code and a reason, which is cut to 123 bytes.
    pub fn new(code: u16, reason: impl Into<String>) -> Self {
        let mut reason = reason.into();
        while reason.len() > MAX_REASON_BYTES {
            reason.pop();
        }
        Self { code, reason }
    }

    /// Whether the code names a temporary state, so that a reconnect makes sense: 1001, 1011, 1012, 1013 and 1014.
    ///
    /// All other codes are final: the purpose is fulfilled (1000), or what was sent broke a rule and would again. The
    /// peer's documentation defines codes from 3000 on; see
    /// [`WebSocket::reconnect_on`](super::WebSocket::reconnect_on).
    pub fn is_passing(&self) -> bool {
        matches!(self.code, Self::GOING_AWAY | Self::INTERNAL | Self::RESTART | Self::TRY_AGAIN | Self::BAD_GATEWAY)
    }

    fn meaning(&self) -> &'static str {
        match self.code {
            Self::NORMAL => "normal",
            Self::GOING_AWAY => "going away",
            1002 => "protocol error",
            1003 => "unsupported data",
            1007 => "invalid data",
            Self::POLICY => "policy violation",
            1009 => "message too big",
            1010 => "extension missing",
            Self::INTERNAL => "internal error",
            Self::RESTART => "service restart",
            Self::TRY_AGAIN => "try again later",
            Self::BAD_GATEWAY => "bad gateway",
            3000..=3999 => "registered code",
            4000..=4999 => "private code",
            _ => "unknown code",
        }
    }
}

impl fmt::Display for Close {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.meaning())?;
        // The peer wrote it: quoted, so that it can't forge a line of a log.
        if self.reason.is_empty() { Ok(()) } else { write!(f, ", {:?}", self.reason) }
    }
}

impl From<Message> for Wire {
    fn from(message: Message) -> Self {
        match message {
            Message::Text(text) => Self::Text(text.into()),
            Message::Binary(bytes) => Self::Binary(bytes.into()),
            Message::Ping(bytes) => Self::Ping(bytes.into()),
            Message::Pong(bytes) => Self::Pong(bytes.into()),
            Message::Close(close) => {
                Self::Close(close.map(|Close { code, reason }| CloseFrame { code: code.into(), reason: reason.into() }))
            }
        }
    }
}

impl From<Wire> for Message {
    fn from(message: Wire) -> Self {
        match message {
            Wire::Text(text) => Self::Text(text.as_str().to_owned()),
            Wire::Binary(bytes) => Self::Binary(bytes.into()),
            Wire::Ping(bytes) => Self::Ping(bytes.into()),
            Wire::Pong(bytes) => Self::Pong(bytes.into()),
            Wire::Close(close) => Self::Close(close.map(|close| Close::new(close.code.into(), close.reason.as_str()))),
            // A raw frame is never read, only written.
            Wire::Frame(frame) => Self::Binary(frame.into_payload().into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_cut_at_a_character() {
        let close = Close::new(Close::POLICY, "é".repeat(100));
        assert_eq!(close.reason.len(), 122);
    }

    #[test]
    fn a_close_reads_well_and_forges_nothing() {
        assert_eq!(Close::new(1012, "").to_string(), "1012 service restart");
        assert_eq!(Close::new(4001, "a\nb").to_string(), "4001 private code, \"a\\nb\"");
    }

    #[test]
    fn exactly_the_temporary_codes_are_passing() {
        let passing: Vec<u16> = (1000..5000).filter(|code| Close::new(*code, "").is_passing()).collect();
        assert_eq!(passing, [1001, 1011, 1012, 1013, 1014]);
    }

    #[test]
    fn messages_convert_both_ways_unchanged() {
        let messages = [
            Message::Text("é".into()),
            Message::Binary(vec![0, 255]),
            Message::Ping(vec![1]),
            Message::Pong(vec![2]),
            Message::Close(None),
            Message::Close(Some(Close::new(1013, "later"))),
        ];
        for message in messages {
            assert_eq!(Message::from(Wire::from(message.clone())), message);
        }
    }
}
