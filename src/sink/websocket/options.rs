//! [`WebSocket`]: the settings of WebSocket sinks of one kind, and the sum of what they send. It makes a
//! [`WebSocketSink`] from a connection, or from a function that opens one.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use tokio::sync::mpsc;

use super::{
    Close, FrameStats, Frames, Message, Socket, WebSocketSink,
    connection::{Connection, Policy},
    frame_stats::SharedStats,
    reconnect::Task,
};
use crate::{
    rules::config::{limits::LimitsError, retry::Retry},
    sink::SinkError,
};

/// Default time that a peer may take nothing: longer than a handover between mobile networks. A stuck peer holds one
/// batch in memory meanwhile.
const DEFAULT_STALL: Duration = Duration::from_secs(30);

/// Default time that a peer may be silent until it is asked whether it is there. Proxies and address translators forget
/// connections that are silent for 30 to 350 s.
const DEFAULT_PING_EVERY: Duration = Duration::from_secs(20);

/// Settings of WebSocket sinks of one kind, and the statistics of all sinks made with them.
///
/// A clone shares the statistics.
///
/// # Examples
///
/// ```
/// use roundlot::sink::websocket::{Frames, WebSocket};
/// use std::time::Duration;
///
/// let page = WebSocket::<u32>::new(Frames::json().max_bytes(16 * 1024)).name("page").stall_after(Duration::from_secs(10));
/// assert_eq!(page.stats().frames, 0);
/// ```
#[must_use = "settings do nothing until a connection gets them"]
pub struct WebSocket<T> {
    frames: Frames<T>,
    confirmed: bool,
    stall: Duration,
    ping_every: Duration,
    retry: Retry,
    reconnect_on: Arc<dyn Fn(&Close) -> bool + Send + Sync>,
    farewell: Option<Close>,
    messages: Option<mpsc::Sender<Message>>,
    shared: Arc<SharedStats>,
}

impl<T> WebSocket<T> {
    /// Settings for sinks that send such frames.
    ///
    /// # Panics
    ///
    /// If the settings of the frames contradict each other; see [`try_new`](Self::try_new).
    pub fn new(frames: Frames<T>) -> Self {
        Self::try_new(frames).unwrap_or_else(|error| panic!("invalid frames: {error}"))
    }

    /// Like [`new`](Self::new), for settings that may be wrong.
    ///
    /// # Errors
    ///
    /// If [`Frames::max_bytes`] is less than the text before and after the messages of a frame.
    pub fn try_new(frames: Frames<T>) -> Result<Self, LimitsError> {
        frames.check()?;
        Ok(Self {
            frames,
            confirmed: false,
            stall: DEFAULT_STALL,
            ping_every: DEFAULT_PING_EVERY,
            // No limit: a client that gives up would have to be restarted by hand.
            retry: Retry::exponential(Duration::from_millis(100), Duration::from_secs(30)).max_attempts(u32::MAX),
            reconnect_on: Arc::new(Close::is_passing),
            farewell: None,
            messages: None,
            shared: Arc::new(SharedStats::new("websocket")),
        })
    }

    /// Sets the name in metrics of the sinks made from here; `websocket` by default.
    pub fn name(self, name: &str) -> Self {
        Self { shared: Arc::new(SharedStats::new(name)), ..self }
    }

    /// Accepts a batch only after the peer's library has read it: each batch is followed by a ping, which the peer
    /// answers in order. Costs a round trip for each batch, in which the next one grows.
    ///
    /// The option also keeps the network's buffers empty. Without it, a slow peer has many frames under way that are
    /// stale when read; with it, one batch. Recommended for screens.
    ///
    /// A pong proves that the peer's WebSocket library has read the frames, not that its program has processed them.
    /// Without `confirmed` a batch is accepted once the operating system has taken it; frames under way are then lost
    /// without notice when the connection breaks.
    pub fn confirmed(self) -> Self {
        Self { confirmed: true, ..self }
    }

    /// Sets how long a peer may take no data, or leave a ping unanswered, until the connection is given up: 30 s by
    /// default. Each frame starts the time anew. An attempt to connect has the same limit.
    pub fn stall_after(self, stall: Duration) -> Self {
        Self { stall, ..self }
    }

    /// Sets the silence after which a ping is sent: 20 s by default, never with zero. A peer that gives no sign of life
    /// for [`stall_after`](Self::stall_after) after that is given up. A client then reconnects, even with nothing to
    /// send. A sink of the server side is over, which a [`Fanout`](crate::Fanout) notices at once.
    ///
    /// Without pings, only a write notices that a peer has left without a close, and proxies may cut a silent
    /// connection. Every frame of the peer is a sign of life. The reading task handles the answers, so pings cost the
    /// batcher nothing.
    pub fn ping_every(self, ping_every: Duration) -> Self {
        Self { ping_every, ..self }
    }

    /// Sets the backoff between reconnects of a client. By default it grows from 100 ms to 30 s, and never gives up.
    ///
    /// `max_attempts` counts failed connections in a row. A connection that lived for less than the backoff before it
    /// counts as failed, too. After the last the sink is over.
    pub fn retry(self, retry: Retry) -> Self {
        Self { retry, ..self }
    }

    /// Sets which closes by the peer a client reconnects after. By default those that name a temporary state:
    /// [`Close::is_passing`]. A close without a code is final; a connection that breaks without a close is not.
    pub fn reconnect_on(self, wanted: impl Fn(&Close) -> bool + Send + Sync + 'static) -> Self {
        Self { reconnect_on: Arc::new(wanted), ..self }
    }

    /// Sets the close frame that is sent when the sink is closed. By default 1000 by a client and 1001 by a server. A
    /// peer that was stuck in a write always gets 1013.
    pub fn farewell(self, close: Close) -> Self {
        Self { farewell: Some(close), ..self }
    }

    /// Sets the channel for text and binary messages of the peer; without one they are dropped. The channel closes when
    /// the sink is over.
    ///
    /// The channel's capacity is the limit. While it is full the connection is not read: pings stay unanswered and a
    /// close unnoticed. Read it, or drop the receiver.
    pub fn incoming(self, messages: mpsc::Sender<Message>) -> Self {
        Self { messages: Some(messages), ..self }
    }

    /// Makes a sink for a connection that a client opened to this server. The sink is over when the connection ends.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub fn server(&self, socket: impl Into<Socket>) -> WebSocketSink<T> {
        self.once(socket.into(), false)
    }

    /// Makes a sink for a connection that this side opened. The sink is over when the connection ends.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub fn client(&self, socket: impl Into<Socket>) -> WebSocketSink<T> {
        self.once(socket.into(), true)
    }

    /// Makes a sink that opens a connection with `open`, and again when it is lost: [`dial`](super::dial()) for a URL,
    /// or an own function. That returns a [`Socket`] ready for ops, so after any login.
    ///
    /// An error of `open` is final if it is [`Refused`](crate::ErrorKind::Refused). It is retried if it is
    /// [`Outage`](crate::ErrorKind::Outage), [`Transient`](crate::ErrorKind::Transient) or
    /// [`Throttled`](crate::ErrorKind::Throttled).
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime with time enabled. A panic in `open` ends the sink.
    pub fn connect<F, Fut>(&self, open: F) -> WebSocketSink<T>
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Socket, SinkError>> + Send,
    {
        let connection = Arc::new(Connection::new(None, Arc::clone(&self.shared), self.policy(true)));
        let task = Task::keep(&connection, open, self.retry.clone(), self.messages.clone());
        self.sink(connection, task, true)
    }

    /// Returns what all sinks made from here have sent.
    pub fn stats(&self) -> FrameStats {
        self.shared.stats()
    }

    fn once(&self, socket: Socket, is_client: bool) -> WebSocketSink<T> {
        let Socket { outgoing, incoming } = socket;
        let connection = Arc::new(Connection::new(Some(outgoing), Arc::clone(&self.shared), self.policy(false)));
        let task = Task::serve(&connection, incoming, self.messages.clone());
        self.sink(connection, task, is_client)
    }

    fn policy(&self, reconnects: bool) -> Policy {
        Policy {
            reconnects,
            reconnect_on: Arc::clone(&self.reconnect_on),
            stall: self.stall,
            ping_every: self.ping_every,
        }
    }

    fn sink(&self, connection: Arc<Connection>, task: Task, is_client: bool) -> WebSocketSink<T> {
        let usual = || {
            if is_client { Close::new(Close::NORMAL, "") } else { Close::new(Close::GOING_AWAY, "") }
        };
        let farewell = self.farewell.clone().unwrap_or_else(usual);
        WebSocketSink::new(self.frames.clone(), connection, task, self.confirmed, is_client, farewell)
    }
}

impl<T> Clone for WebSocket<T> {
    fn clone(&self) -> Self {
        Self {
            frames: self.frames.clone(),
            retry: self.retry.clone(),
            reconnect_on: Arc::clone(&self.reconnect_on),
            farewell: self.farewell.clone(),
            messages: self.messages.clone(),
            shared: Arc::clone(&self.shared),
            ..*self
        }
    }
}

impl<T> fmt::Debug for WebSocket<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocket")
            .field("frames", &self.frames)
            .field("confirmed", &self.confirmed)
            .field("stall_after", &self.stall)
            .field("ping_every", &self.ping_every)
            .field("retry", &self.retry)
            .finish_non_exhaustive()
    }
}
