//! Batches over a WebSocket (feature `websocket`, or `websocket-tls` for `wss://` too): in comes a batch, out go a few frames and a verdict for each op. Next
//! room: the peer.
//!
//! ```text
//!   write()  Batch -> frames, fed one by one, flushed once      sink, frames, tally
//!      |                  ^ up, down or over; what was confirmed
//!      v                  |
//!   a task for each sink: reads and asks the peer, dials again  line, redial
//!      |                  ^
//!      v                  |
//!   Socket: any futures::Sink and Stream of messages            socket, message, dial, tls
//! ```
//!
//! # Server side
//!
//! A connection that somebody opened to us, here by the means of tokio-tungstenite; [`Socket`] shows one of axum. One
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
//! A connection of ours, which is opened again when it is lost. While it is down each write says so at once, as an
//! [`Outage`](crate::ErrorKind::Outage): ops wait in the batcher, where they can still be replaced, and lose no attempt.
//! [`WebSocketSink`] has a table of what is an outage and what is final.
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
//! * What it does not read: one batch, and some 130 kB that the WebSocket library holds. It is given up after
//!   [`WebSocket::stall_after`].
//! * What it says: [`WebSocket::incoming`] is a bounded channel, and nothing is read while it is full. How long one message
//!   may be is a setting of the library that made the connection. [`dial`](dial()) sets 16 MiB; where clients connect to
//!   you, set it to what they have to say, such as axum's `WebSocketUpgrade::max_message_size`: tungstenite's default is
//!   64 MiB.
//! * Pings: some 1,000 answers; nothing more is read before those have left.
//! * A handshake that never ends: an attempt to [`connect`](WebSocket::connect) has the time of `stall_after`. Where
//!   clients connect to you, the server in front has to limit how many do and how long they take.
//! * A place: a peer that is [silent](WebSocket::ping_every) is asked whether it is there.
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
