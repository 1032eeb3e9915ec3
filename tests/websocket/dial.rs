//! Tests of errors of `dial`: some are an outage, some a pause, and some are final.

use std::{net::SocketAddr, time::Duration};

use roundlot::{ErrorKind, Sink, SinkError, sink::websocket::dial};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::{numbers, secs};

/// Starts a server that reads a request and gives this answer, to every client.
async fn answering(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                match stream.read_u8().await {
                    Ok(byte) => request.push(byte),
                    Err(_) => break,
                }
            }
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    address
}

async fn error_of(url: impl Into<String>) -> SinkError {
    let dialed = tokio::time::timeout(secs(60), dial(url)).await.expect("it hangs");
    dialed.map(drop).expect_err("there is no WebSocket server")
}

/// Goal: a client comes back after temporary errors, and ends after final ones. Method: a server's handshake answers.
#[tokio::test]
async fn a_handshake_response_is_an_outage_a_pause_or_final() {
    let pause = |seconds| ErrorKind::Throttled { retry_after: Duration::from_secs(seconds) };
    let cases = [
        ("HTTP/1.1 503 Service Unavailable\r\n\r\n", ErrorKind::Outage),
        ("HTTP/1.1 503 Service Unavailable\r\nretry-after: 7\r\n\r\n", pause(7)),
        ("HTTP/1.1 429 Too Many Requests\r\nRetry-After: 60\r\n\r\n", pause(60)),
        ("HTTP/1.1 429 Too Many Requests\r\nRetry-After: Fri, 31 Dec 1999 23:59:59 GMT\r\n\r\n", ErrorKind::Outage),
        ("HTTP/1.1 418 I'm a teapot\r\nRetry-After: 120\r\n\r\n", pause(120)),
        ("HTTP/1.1 408 Request Timeout\r\n\r\n", ErrorKind::Outage),
        ("HTTP/1.1 502 Bad Gateway\r\n\r\n", ErrorKind::Outage),
        ("HTTP/1.1 401 Unauthorized\r\nretry-after: 7\r\n\r\n", ErrorKind::Refused),
        ("HTTP/1.1 403 Forbidden\r\n\r\n", ErrorKind::Refused),
        ("HTTP/1.1 404 Not Found\r\n\r\n", ErrorKind::Refused),
        ("HTTP/1.1 301 Moved Permanently\r\nlocation: /\r\n\r\n", ErrorKind::Refused),
        ("HTTP/1.1 200 OK\r\n\r\n", ErrorKind::Refused),
        ("220 mail.example.com ESMTP\r\n\r\n", ErrorKind::Outage),
        ("", ErrorKind::Outage),
    ];
    for (answer, expected) in cases {
        let error = error_of(format!("ws://user:secret@{}/orders?key=secret", answering(answer).await)).await;
        assert_eq!(error.kind(), expected, "{answer:?}: {}", error.chain());
        assert_eq!(error.is_outage(), expected == ErrorKind::Outage);
        assert!(!error.chain().contains("secret"), "{}", error.chain());
    }
}

/// Goal: a missing server is an outage. Method: a port without a listener, by address and by name.
#[tokio::test]
async fn a_refused_connection_is_an_outage() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    for host in ["127.0.0.1", "localhost", "[::1]"] {
        let error = error_of(format!("ws://{host}:{port}/")).await;
        assert_eq!(error.kind(), ErrorKind::Outage, "{host}: {}", error.chain());
    }
}

#[tokio::test]
async fn an_invalid_url_is_final() {
    for url in
        ["", "nothing", "http://127.0.0.1/secret", "ws:///secret", "ws://a b/secret", "ws://", "127.0.0.1:80/secret"]
    {
        let error = error_of(url).await;
        assert_eq!(error.kind(), ErrorKind::Refused, "{url:?}");
        assert!(!error.chain().contains("secret"), "{}", error.chain());
    }
}

/// Goal: without TLS a client reports the missing feature once, and does not panic. Method: the sink of a `wss://` URL.
#[cfg(not(feature = "websocket-tls"))]
#[tokio::test]
async fn wss_without_tls_says_what_is_missing() {
    let dials = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let count = std::sync::Arc::clone(&dials);
    let sink = numbers().connect(move || {
        count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        dial("wss://127.0.0.1/")
    });
    let expected = "refused: final: cannot connect: refused: wss:// needs the feature `websocket-tls` of roundlot";
    assert_eq!(sink.ready().await.unwrap_err().chain(), expected);
    assert_eq!(sink.gone().await.chain(), expected);
    assert_eq!(dials.load(std::sync::atomic::Ordering::Relaxed), 1);
}

/// Goal: the size of a server's message is bounded. Method: the header of a frame of 16 MiB and one byte more; the
/// client does not wait for the frame itself.
#[tokio::test]
async fn a_message_of_the_server_is_bounded() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = tokio_tungstenite::accept_async(stream).await.unwrap().into_inner();
        stream.write_all(&[0x82, 127]).await.unwrap();
        stream.write_u64((16 << 20) + 1).await.unwrap();
        // The server reads until the client hangs up.
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    let sink = numbers().client(dial(url).await.unwrap());
    let error = tokio::time::timeout(secs(60), sink.gone()).await.expect("it waits for the frame");
    assert!(error.chain().contains("Message too long"), "{}", error.chain());
    drop(sink);
    serving.await.unwrap();
}
