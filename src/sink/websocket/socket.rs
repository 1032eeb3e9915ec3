//! [`Socket`]: a connection of any WebSocket library, with its types erased. Both halves carry whole messages; a panic
//! of a conversion is an error of the connection.

use std::{
    error::Error,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use futures::{Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;

use super::Message;
use crate::rules::panics;

pub(super) type BoxError = Box<dyn Error + Send + Sync>;
pub(super) type Outgoing = Pin<Box<dyn futures::Sink<Message, Error = BoxError> + Send>>;
pub(super) type Incoming = Pin<Box<dyn Stream<Item = Result<Message, BoxError>> + Send>>;

/// A WebSocket connection of any library, after its handshake: a [`futures::Sink`] and a [`Stream`] of messages.
///
/// Both halves are needed, because a WebSocket is only alive while it is read: pings are answered and a close is
/// noticed there. The library must answer pings by itself when read, as tungstenite and axum do.
///
/// # Examples
///
/// A stream of tokio-tungstenite converts directly:
///
/// ```
/// use roundlot::sink::websocket::Socket;
/// use tokio_tungstenite::{WebSocketStream, tungstenite::protocol::Role};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let (here, _there) = tokio::io::duplex(1024);
/// let socket = Socket::from(WebSocketStream::from_raw_socket(here, Role::Server, None).await);
/// # drop(socket);
/// # }
/// ```
///
/// A socket of axum takes a function for each direction:
///
/// ```
/// use axum::extract::ws::{self, WebSocket};
/// use futures::StreamExt;
/// use roundlot::sink::websocket::{Close, Message, Socket};
///
/// fn to_axum(message: Message) -> ws::Message {
///     match message {
///         Message::Text(text) => ws::Message::Text(text.into()),
///         Message::Binary(bytes) => ws::Message::Binary(bytes.into()),
///         Message::Ping(bytes) => ws::Message::Ping(bytes.into()),
///         Message::Pong(bytes) => ws::Message::Pong(bytes.into()),
///         Message::Close(close) => ws::Message::Close(
///             close.map(|Close { code, reason }| ws::CloseFrame { code, reason: reason.into() }),
///         ),
///     }
/// }
///
/// fn from_axum(message: ws::Message) -> Message {
///     match message {
///         ws::Message::Text(text) => Message::Text(text.to_string()),
///         ws::Message::Binary(bytes) => Message::Binary(bytes.into()),
///         ws::Message::Ping(bytes) => Message::Ping(bytes.into()),
///         ws::Message::Pong(bytes) => Message::Pong(bytes.into()),
///         ws::Message::Close(close) => {
///             Message::Close(close.map(|close| Close::new(close.code, close.reason.as_str())))
///         }
///     }
/// }
///
/// fn socket(upgraded: WebSocket) -> Socket {
///     let (sink, stream) = upgraded.split();
///     Socket::mapped(sink, stream, to_axum, from_axum)
/// }
/// ```
pub struct Socket {
    pub(super) outgoing: Outgoing,
    pub(super) incoming: Incoming,
}

impl Socket {
    /// A connection whose messages convert by `From` and `Into`.
    pub fn new<M, S, I, E>(sink: S, stream: I) -> Self
    where
        M: From<Message> + Into<Message> + 'static,
        S: futures::Sink<M> + Send + 'static,
        S::Error: Into<BoxError>,
        I: Stream<Item = Result<M, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        Self::mapped(sink, stream, M::from, M::into)
    }

    /// A connection of any messages, with a function for each direction. A panic in a function counts as the loss of
    /// the connection.
    pub fn mapped<M, S, I, E>(
        sink: S,
        stream: I,
        to: impl Fn(Message) -> M + Send + Unpin + 'static,
        from: impl Fn(M) -> Message + Send + 'static,
    ) -> Self
    where
        M: 'static,
        S: futures::Sink<M> + Send + 'static,
        S::Error: Into<BoxError>,
        I: Stream<Item = Result<M, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        Self {
            outgoing: Box::pin(Mapped { sink: Box::pin(sink), to }),
            incoming: Box::pin(stream.map(move |item| match item {
                Ok(message) => contained(|| from(message)),
                Err(error) => Err(error.into()),
            })),
        }
    }
}

impl<S> From<WebSocketStream<S>> for Socket
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    fn from(stream: WebSocketStream<S>) -> Self {
        let (sink, stream) = stream.split();
        Self::new(sink, stream)
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").finish_non_exhaustive()
    }
}

/// Runs a conversion. A panic is an error of the connection, not of the task that reads it.
fn contained<V>(convert: impl FnOnce() -> V) -> Result<V, BoxError> {
    panics::catch(convert)
        .map_err(|panic| format!("the conversion of a message panicked: {}", panics::message(&*panic)).into())
}

/// A sink of another library's messages. Unlike `SinkExt::with` it buffers no message itself: a fed message is in the
/// inner sink, whole.
struct Mapped<S, F> {
    sink: Pin<Box<S>>,
    to: F,
}

impl<M, S, F> futures::Sink<Message> for Mapped<S, F>
where
    S: futures::Sink<M>,
    S::Error: Into<BoxError>,
    F: Fn(Message) -> M + Unpin,
{
    type Error = BoxError;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.sink.as_mut().poll_ready(cx).map_err(S::Error::into)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), BoxError> {
        let message = contained(|| (self.to)(message))?;
        self.sink.as_mut().start_send(message).map_err(S::Error::into)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.sink.as_mut().poll_flush(cx).map_err(S::Error::into)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.sink.as_mut().poll_close(cx).map_err(S::Error::into)
    }
}
