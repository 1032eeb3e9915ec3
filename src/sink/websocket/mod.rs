//! Batches over a WebSocket (feature `websocket`, or `websocket-tls` for `wss://` too). A batch becomes a few frames,
//! and each of its ops gets a verdict.
//!
//! ```text
//!   write()  Batch -> frames, fed one by one, flushed once      sink, frames, frame_stats
//!      |                  ^ up, down or over; what was confirmed
//!      v                  |
//!   a task for each sink: reads, sends pings, reconnects        connection, reconnect
//!      |                  ^
//!      v                  |
//!   Socket: any futures::Sink and Stream of messages            socket, message, dial, tls
//! ```
//!
//! # Server side
//!
//! For connections that clients open to this server, here with tokio-tungstenite; [`Socket`] shows axum. One
//! [`WebSocket`] is made for all connections of a kind, and sums up what they send.
//!
//! ```
//! use roundlot::{Batcher, sink::websocket::{Frames, WebSocket}};
//! use tokio_tungstenite::{WebSocketStream, tungstenite::protocol::Role};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let page = WebSocket::new(Frames::json());
//!
//! // For each connection. A browser's side stands in for the network here.
//! # use futures::StreamExt;
//! let (here, there) = tokio::io::duplex(4096);
//! # let mut browser = WebSocketStream::from_raw_socket(there, Role::Client, None).await;
//! let upgraded = WebSocketStream::from_raw_socket(here, Role::Server, None).await;
//! let (desk, worker) = Batcher::new(page.server(upgraded)).spawn();
//! desk.send_all([1, 2, 3]).await?;
//! desk.flush().await?;
//!
//! assert_eq!(browser.next().await.unwrap()?.to_text()?, "[1,2,3]");
//! assert_eq!(page.stats().frames_saved(), 2);
//! # tokio::spawn(async move { while let Some(Ok(_)) = browser.next().await {} });
//! # worker.shutdown().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Client side
//!
//! For a connection that this side opens, and opens again when it is lost. While it is down, each write fails at once
//! with an [`Outage`](crate::ErrorKind::Outage). Ops wait in the batcher, where they can still be replaced, and no
//! attempt is counted. [`WebSocketSink`] has a table of outages and final errors.
//!
//! ```no_run
//! use roundlot::{Batcher, Retry, market::TradeOp, sink::websocket::{Frames, WebSocket, dial}};
//! use std::time::Duration;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let venue = WebSocket::new(Frames::json().each()).connect(|| dial("ws://127.0.0.1:9001/orders"));
//! venue.ready().await?; // or not: what is sent before waits
//! let retry = Retry::exponential(Duration::from_millis(50), Duration::from_secs(1));
//! let (desk, worker) = Batcher::<TradeOp, (), _>::new(venue).retry(retry).spawn();
//! # drop((desk, worker));
//! # Ok(())
//! # }
//! ```
//!
//! # What a peer can make this side hold
//!
//! * Unread data: one batch, and some 130 kB in the WebSocket library. The peer is given up after
//!   [`WebSocket::stall_after`].
//! * Its messages: [`WebSocket::incoming`] is a bounded channel, and nothing is read while it is full. The library that
//!   made the connection limits the size of one message. [`dial`](dial()) sets 16 MiB. On a server, set it to what
//!   clients need, for example by axum's `WebSocketUpgrade::max_message_size`. Tungstenite's default is 64 MiB.
//! * Pings: some 1,000 answers; nothing more is read before they are flushed.
//! * An endless handshake: an attempt to [`connect`](WebSocket::connect) is limited by `stall_after`. On a server,
//!   whatever accepts connections has to limit their number and time.
//! * A connection: a peer that is [silent](WebSocket::ping_every) is sent a ping.
//!
//! # What it does not do
//!
//! * Compression: tungstenite 0.30 has no `permessage-deflate`; it offers none, and refuses compressed frames.
//! * An acknowledgment by the peer's program: see [`WebSocket::confirmed`] for what comes nearest.
//! * More than one write at a time: frames leave in order. `max_in_flight` above 1 gains nothing.

mod connection;
mod dial;
mod frame_stats;
mod frames;
mod message;
mod options;
mod reconnect;
mod sink;
mod socket;
#[cfg(feature = "websocket-tls")]
mod tls;

pub use dial::dial;
pub use frame_stats::FrameStats;
pub use frames::Frames;
pub use message::{Close, Message};
pub use options::WebSocket;
pub use sink::WebSocketSink;
pub use socket::Socket;
