//! Tests of permessage-deflate: tungstenite has none, so it is never offered and never taken.

use roundlot::sink::websocket::dial;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_tungstenite::tungstenite::protocol::Role;

use super::{numbers, pipe, write_error};

/// Goal: a client does not offer compression. Method: read the raw handshake.
#[tokio::test]
async fn a_client_offers_no_extension() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let dialing = tokio::spawn(async move { dial(url).await.map(drop) });
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(stream.read_u8().await.unwrap());
    }
    let request = String::from_utf8(request).unwrap().to_lowercase();
    assert!(request.contains("upgrade: websocket") && !request.contains("sec-websocket-extensions"), "{request}");
    stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    let error = dialing.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), roundlot::ErrorKind::Refused, "the server said no: {}", error.chain());
}

/// Goal: a peer that compresses all the same is refused, and not misread. Method: a frame with the bit for it.
#[tokio::test(start_paused = true)]
async fn a_compressed_frame_ends_the_connection() {
    let (socket, mut there) = pipe(4096, Role::Server).await;
    let sink = numbers().server(socket);
    there.write_all(&[0xc1, 0x81, 0, 0, 0, 0, b'a']).await.unwrap();
    roundlot::testing::until_idle().await;
    let chain = write_error(&sink).await.chain();
    assert!(chain.contains("eserved bits"), "{chain}");
}
