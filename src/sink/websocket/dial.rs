//! From a URL to a connection, for [`WebSocket::connect`](super::WebSocket::connect). An error says whether to try
//! again, and never holds the URL.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio_tungstenite::{
    client_async_with_config,
    tungstenite::{
        Error,
        client::IntoClientRequest,
        handshake::client::{Request, Response},
        protocol::WebSocketConfig,
    },
};

use super::Socket;
use crate::sink::{ErrorKind, SinkError};

/// Maximum size of one message of the server, in bytes: more than any venue sends at once, and little enough to hold in
/// memory.
const MAX_MESSAGE: usize = 16 << 20;

/// Opens a connection to a `ws://` URL, or with the feature `websocket-tls` to a `wss://` URL, for
/// [`WebSocket::connect`](super::WebSocket::connect).
///
/// TLS is done by rustls with a cryptography provider of its own, so none has to be installed. Certificates are checked
/// against the system's roots, or those in the file named by the environment variable `SSL_CERT_FILE`.
///
/// A message of the server may have 16 MiB. An attempt has no time limit of its own:
/// [`WebSocket::stall_after`](super::WebSocket::stall_after) gives it one. For headers, a proxy, a login or an own
/// certificate, write a function that returns a [`Socket`] and sends the login first.
///
/// # Errors
///
/// | what happened | |
/// |---|---|
/// | connection refused or timed out, no route, no such host (which may be the network's fault) | [`Outage`](ErrorKind::Outage) |
/// | the connection is lost, or the answer makes no sense, during the handshake of TLS or WebSocket | `Outage` |
/// | the server answers 408, 418, 425, 429 or 5xx, and `Retry-After` in seconds | [`Throttled`](ErrorKind::Throttled) |
/// | the same without `Retry-After` | `Outage` |
/// | any other answer, such as 401, 403, 404 or a redirection | [`Refused`](ErrorKind::Refused) |
/// | the certificate is not trusted, is none for this host, or has expired; TLS has no cipher in common | `Refused` |
/// | `wss://` without the feature `websocket-tls`; no certificates to check the server by | `Refused` |
/// | the URL is none, or neither `ws://` nor `wss://` | `Refused` |
///
/// A refusal ends the sink; after all other errors a client tries again. No error contains the URL: it may hold a
/// secret.
///
/// # Cancel safety
///
/// Dropping the future closes what was opened.
pub async fn dial(url: impl Into<String>) -> Result<Socket, SinkError> {
    let request = url.into().into_client_request().map_err(classify)?;
    let uri = request.uri();
    let port = match uri.scheme_str() {
        Some("ws") => 80,
        Some("wss") => 443,
        _ => return Err(SinkError::refused("the URL is neither ws:// nor wss://")),
    };
    let is_secure = port == 443;
    let port = uri.port_u16().unwrap_or(port);
    let host = uri.host().unwrap_or_default();
    // An IPv6 address stands in brackets in a URL, and nowhere else.
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).to_owned();
    if host.is_empty() {
        return Err(SinkError::refused("there is no host in the URL"));
    }
    if is_secure && cfg!(not(feature = "websocket-tls")) {
        return Err(SinkError::refused("wss:// needs the feature `websocket-tls` of roundlot"));
    }
    let stream = TcpStream::connect((host.as_str(), port)).await.map_err(SinkError::outage)?;
    // A batch is flushed once, so that Nagle's algorithm would only delay it.
    stream.set_nodelay(true).map_err(SinkError::outage)?;
    #[cfg(feature = "websocket-tls")]
    if is_secure {
        let stream = super::tls::secure(stream, &host).await?;
        return handshake(request, stream).await;
    }
    handshake(request, stream).await
}

/// Does the opening handshake of WebSocket.
async fn handshake<S>(request: Request, stream: S) -> Result<Socket, SinkError>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let limits = WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
    let (stream, _response) = client_async_with_config(request, stream, Some(limits)).await.map_err(classify)?;
    Ok(Socket::from(stream))
}

fn classify(error: Error) -> SinkError {
    match &error {
        Error::Http(response) => match (response.status().as_u16(), retry_after(response)) {
            (408 | 418 | 425 | 429 | 500.., Some(retry_after)) => {
                SinkError::new(ErrorKind::Throttled { retry_after }, error)
            }
            (408 | 418 | 425 | 429 | 500.., None) => SinkError::outage(error),
            _ => SinkError::refused(error),
        },
        Error::Url(_) | Error::HttpFormat(_) => SinkError::refused(error),
        _ => SinkError::outage(error),
    }
}

/// Parses `Retry-After` in seconds. A date is ignored.
fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get("retry-after")?.to_str().ok()?;
    seconds.trim().parse().ok().map(Duration::from_secs)
}
