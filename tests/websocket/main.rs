//! The WebSocket sink and the fanout, against peers of other libraries. fastwebsockets and tokio-tungstenite run over
//! pipes on a paused clock, axum and torn connections on loopback.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod axum_server;
mod cancel;
mod closing;
mod confirmed;
mod contained;
mod deflate;
mod dial;
mod fanout;
mod fanout_model;
mod fanout_sockets;
mod groupings;
mod idle;
mod incoming;
mod quiet;
mod reconnect;
#[cfg(feature = "websocket-tls")]
mod tls;
mod torn;

use std::{future::Future, time::Duration};

use fastwebsockets::{Frame, OpCode, Payload, Role as PeerRole, WebSocket as Peer};
use roundlot::{
    Batch, ErrorKind, Sink,
    sink::websocket::{Frames, Socket, WebSocket, WebSocketSink},
};
use tokio::io::DuplexStream;
use tokio_tungstenite::{WebSocketStream, tungstenite::protocol::Role};

/// A frame that a peer read.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(u16, String),
    /// The stream ended without a close.
    End,
}

fn text(text: &str) -> Seen {
    Seen::Text(text.to_owned())
}

/// Returns the next frame that comes to a peer; a hang is a failure.
async fn read(peer: &mut Peer<DuplexStream>) -> Seen {
    let Ok(frame) = eventually(peer.read_frame()).await else { return Seen::End };
    assert!(frame.fin, "nothing is sent in fragments");
    let payload = frame.payload.to_vec();
    match frame.opcode {
        OpCode::Text => Seen::Text(String::from_utf8(payload).unwrap()),
        OpCode::Binary => Seen::Binary(payload),
        OpCode::Ping => Seen::Ping(payload),
        OpCode::Pong => Seen::Pong(payload),
        OpCode::Close if payload.is_empty() => Seen::Close(1005, String::new()),
        OpCode::Close => {
            let code = u16::from_be_bytes([payload[0], payload[1]]);
            Seen::Close(code, String::from_utf8(payload[2..].to_vec()).unwrap())
        }
        OpCode::Continuation => panic!("nothing is sent in fragments"),
    }
}

async fn say(peer: &mut Peer<DuplexStream>, opcode: OpCode, payload: &[u8]) {
    peer.write_frame(Frame::new(true, opcode, None, Payload::Owned(payload.to_vec()))).await.unwrap();
}

/// Returns our side of a connection, with a pipe of limited capacity in bytes, and the raw other end.
async fn pipe(buffer: usize, role: Role) -> (Socket, DuplexStream) {
    let (here, there) = tokio::io::duplex(buffer);
    (WebSocketStream::from_raw_socket(here, role, None).await.into(), there)
}

/// A peer that answers a close, and leaves pings to the test.
fn peer(stream: DuplexStream, role: PeerRole) -> Peer<DuplexStream> {
    let mut peer = Peer::after_handshake(stream, role);
    peer.set_auto_pong(false);
    peer
}

/// A connection that a client opened to us.
async fn served(buffer: usize) -> (Socket, Peer<DuplexStream>) {
    let (socket, there) = pipe(buffer, Role::Server).await;
    (socket, peer(there, PeerRole::Client))
}

/// A connection that we opened to a server.
async fn connected(buffer: usize) -> (Socket, Peer<DuplexStream>) {
    let (socket, there) = pipe(buffer, Role::Client).await;
    (socket, peer(there, PeerRole::Server))
}

fn numbers() -> WebSocket<u32> {
    WebSocket::new(Frames::json())
}

/// Writes one batch. Returns for each op the kind of its error, or `None` if it was accepted.
async fn write<T: Send + 'static>(sink: &WebSocketSink<T>, ops: Vec<T>) -> Vec<Option<ErrorKind>> {
    let mut batch = Batch::for_test(ops);
    let rest = sink.write(&mut batch).await.err().map(|error| error.kind());
    (0..batch.len()).map(|i| batch.verdict(i).map_or(rest, |verdict| verdict.err().map(|e| e.kind()))).collect()
}

/// The error of a write that must fail.
async fn write_error(sink: &WebSocketSink<u32>) -> roundlot::SinkError {
    sink.write(&mut Batch::for_test(vec![1])).await.expect_err("it must fail")
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Returns the output of `future`, however long it takes on the paused clock; a hang is a failure.
async fn eventually<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(secs(3600), future).await.expect("it hangs")
}

/// Waits until `holds`, for half a minute of real time at most, for the effects of real sockets.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..6000 {
        if holds() {
            return;
        }
        tokio::time::sleep(ms(5)).await;
    }
    panic!("never: {what}");
}
