//! From a URL to a connection. In comes a URL, out goes a [`Socket`], or an error that says whether to try again. Next
//! room: `redial`.

use tokio_tungstenite::{connect_async_with_config, tungstenite::Error};

use super::Socket;
use crate::sink::SinkError;

/// Opens a connection to a `ws://` URL, for [`WebSocket::connect`](super::WebSocket::connect).
///
/// For `wss://`, add tokio-tungstenite 0.30 with one of its TLS features to your own dependencies, such as
/// `rustls-tls-native-roots`, and install rustls' crypto provider: features of one version are shared, so this function
/// then speaks TLS too. For headers, a proxy or a login, write a function of your own that returns a [`Socket`], and send
/// in it what the peer wants to hear first.
///
/// # Errors
///
/// * [`Transient`](crate::ErrorKind::Transient): nobody answers, or with a status that may pass: 408, 425, 429, 5xx.
/// * [`Refused`](crate::ErrorKind::Refused): the URL is wrong, TLS is missing, the certificate is, or the server said no.
///
/// The URL is in none of them: it may hold a secret.
///
/// # Cancel safety
///
/// Dropping the future closes what was opened.
pub async fn dial(url: impl Into<String>) -> Result<Socket, SinkError> {
    // A batch is flushed once, so that Nagle's algorithm would only delay it.
    let (stream, _response) = connect_async_with_config(url.into(), None, true).await.map_err(classify)?;
    Ok(Socket::from(stream))
}

fn classify(error: Error) -> SinkError {
    match &error {
        Error::Http(response) => match response.status().as_u16() {
            408 | 425 | 429 | 500.. => SinkError::transient(error),
            _ => SinkError::refused(error),
        },
        Error::Url(_) | Error::HttpFormat(_) | Error::Tls(_) => SinkError::refused(error),
        _ => SinkError::transient(error),
    }
}
