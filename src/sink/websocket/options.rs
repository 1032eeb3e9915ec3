//! How WebSocket sinks of one kind are made. In come settings and a connection, or the means to open one, out goes a
//! [`WebSocketSink`]. Next room: `sink`.

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

/// How long a peer may take nothing if nobody says otherwise.
const DEFAULT_STALL: Duration = Duration::from_secs(30);

/// Default time that a peer may be silent until it is asked whether it is there. Proxies and address translators forget
/// connections that are silent for 30 to 350 s.
const DEFAULT_PING_EVERY: Duration = Duration::from_secs(20);

/// Settings of WebSocket sinks, and what all that are made with them have sent.
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
    /// Sinks that send such frames.
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
    /// If [`Frames::max_bytes`] is less than what stands before and behind the messages of a frame.
    pub fn try_new(frames: Frames<T>) -> Result<Self, LimitsError> {
        frames.check()?;
        Ok(Self {
            frames,
            confirmed: false,
            stall: DEFAULT_STALL,
            ping_every: DEFAULT_PING_EVERY,
            // For ever: a client that gives up needs somebody who starts it again.
            retry: Retry::exponential(Duration::from_millis(100), Duration::from_secs(30)).max_attempts(u32::MAX),
            reconnect_on: Arc::new(Close::is_passing),
            farewell: None,
            messages: None,
            shared: Arc::new(SharedStats::new("websocket")),
        })
    }

    /// The name under which metrics speak of the sinks that are made from here, together; `websocket` by default.
    pub fn name(self, name: &str) -> Self {
        Self { shared: Arc::new(SharedStats::new(name)), ..self }
    }

    /// Accepts a batch only when the peer has proven that it read it: each is followed by a ping, which a peer answers
    /// after what it was sent before. Costs a round trip for each batch, in which the next one grows.
    ///
    /// It also keeps the buffers of the network empty: without it a slow peer has many frames under way that are stale when
    /// it reads them; with it, one batch. For a screen at its own pace, ask for it.
    ///
    /// It proves that the peer's WebSocket library has read the frames, not that its program has dealt with them. Without
    /// it a batch is accepted when the operating system has taken it, so that what was under way when a connection broke
    /// is lost without notice.
    pub fn confirmed(self) -> Self {
        Self { confirmed: true, ..self }
    }

    /// How long a peer may take nothing of what it is sent, or leave a ping unanswered, until the connection is given up:
    /// 30 s by default. Each frame begins the time anew. An attempt to connect may take as long.
    pub fn stall_after(self, stall: Duration) -> Self {
        Self { stall, ..self }
    }

    /// How long a peer may be silent until it is asked by a ping whether it is there: 20 s by default, never with zero. One
    /// that has given no sign of life [`stall_after`](Self::stall_after) that is given up: a client opens another
    /// connection, before there is anything to send; a sink of the server side is over, which a
    /// [`Fanout`](crate::Fanout) notices at once.
    ///
    /// Without pings a peer that has left without a word is noticed only by a write, and what stands between may cut off a
    /// connection that is silent. Every frame of the peer is a sign of life, and the answer costs the batcher nothing: the
    /// task that reads the connection takes it.
    pub fn ping_every(self, ping_every: Duration) -> Self {
        Self { ping_every, ..self }
    }

    /// When a client opens a lost connection again. By default after 100 ms, later and later up to 30 s, for ever.
    ///
    /// `max_attempts` counts connections in a row that could not be opened, or were lost before they had lived for as
    /// long as was waited for them. After the last the sink is over.
    pub fn retry(self, retry: Retry) -> Self {
        Self { retry, ..self }
    }

    /// After which closes by the peer a client comes back. By default after those that speak of a state that passes:
    /// [`Close::is_passing`]. A close without a code is final, a connection that just breaks is not.
    pub fn reconnect_on(self, wanted: impl Fn(&Close) -> bool + Send + Sync + 'static) -> Self {
        Self { reconnect_on: Arc::new(wanted), ..self }
    }

    /// What a peer is told when the sink is closed. By default 1000 by a client and 1001 by a server; and 1013, whatever
    /// is said here, if it was stuck in a write.
    pub fn farewell(self, close: Close) -> Self {
        Self { farewell: Some(close), ..self }
    }

    /// Where the text and binary messages go that the peer sends; otherwise they are dropped. The receiver ends when the
    /// sink is over.
    ///
    /// The channel is the bound. While it is full the connection is not read from: then pings stay unanswered and a close
    /// unnoticed, so read it, or drop the receiver.
    pub fn incoming(self, messages: mpsc::Sender<Message>) -> Self {
        Self { messages: Some(messages), ..self }
    }

    /// A sink that writes to a connection which somebody opened to us. When it ends the sink is over.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub fn server(&self, socket: impl Into<Socket>) -> WebSocketSink<T> {
        self.once(socket.into(), false)
    }

    /// A sink that writes to a connection which we opened. When it ends the sink is over.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub fn client(&self, socket: impl Into<Socket>) -> WebSocketSink<T> {
        self.once(socket.into(), true)
    }

    /// A sink that opens a connection by `open`, and again when it is lost: [`dial`](super::dial()) for a URL, or a function
    /// of your own that returns a [`Socket`] on which ops can be sent, that is after whatever login the peer wants.
    ///
    /// An error that `open` returns is final if it is [`Refused`](crate::ErrorKind::Refused), and tried again if it is
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

    /// What all sinks that were made from here have sent.
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
