//! Whether a session has a server process to itself, or shares one behind a pooler. Checked once per connection, before
//! anything is kept in the session.
//!
//! A server names its process at the login, as the key of cancel requests. A pooler must name one of its own making: it
//! hands sessions on, and the server's key could cancel another client's statement. A session has its process to itself
//! exactly if the process reports the number named at the login. A pooler that keeps sessions together looks like one
//! that does not, which costs some speed and is never wrong.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::{
    Client, Error, SimpleQueryMessage,
    tls::{ChannelBinding, TlsConnect, TlsStream},
};

/// The offset in a cancel request, in bytes, of the process: behind its length and its code.
const PROCESS: usize = 8;

/// Whether no other client uses this server process while the session lasts.
pub(super) async fn is_own(client: &Client) -> Result<bool, Error> {
    let rows = client.simple_query("SELECT pg_backend_pid()").await?;
    let at_work = rows.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0)?.parse::<i32>().ok(),
        _ => None,
    });
    let named = named(client).await;
    Ok(named.is_some() && named == at_work)
}

/// Returns the process named at the login. The client library exposes it only in cancel requests, so one is written
/// into memory.
async fn named(client: &Client) -> Option<i32> {
    let tap = Tap::default();
    client.cancel_token().cancel_query_raw(tap.clone(), Plain).await.ok()?;
    let request = tap.0.lock().unwrap_or_else(PoisonError::into_inner);
    // The bytes before it asked for TLS.
    let request = request.last_chunk::<16>()?;
    request[PROCESS..].first_chunk().map(|process| i32::from_be_bytes(*process))
}

/// A stream to nowhere that keeps what is written, and agrees to whatever it is asked for.
#[derive(Clone, Default)]
struct Tap(Arc<Mutex<Vec<u8>>>);

impl AsyncRead for Tap {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if out.remaining() > 0 {
            out.put_slice(b"S");
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tap {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl TlsStream for Tap {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

/// Leaves the tap as it is where TLS is asked for: nothing leaves the memory.
struct Plain;

impl TlsConnect<Tap> for Plain {
    type Stream = Tap;
    type Error = Infallible;
    type Future = Ready<Result<Tap, Infallible>>;

    fn connect(self, tap: Tap) -> Self::Future {
        ready(Ok(tap))
    }
}
