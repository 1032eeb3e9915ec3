//! One feed, many subscribers, each at its own pace. In come updates, out they go to every sink that wants them, the
//! newest of each key first of all. Next room: a batcher for each subscriber, and its sink.
//!
//! ```text
//!  publish()   +---------------+   +--------------+   +---------+   +----------------+
//! ------------>| the feed's    |-->| hub: topics, |-->| batcher |-->| sink of a slow |
//!  never waits | batcher       |   | latest       |   +---------+   | browser        |
//!              +---------------+   | values       |   +---------+   +----------------+
//!                                  |              |-->| batcher |-->| another sink   |
//!                                  +--------------+   +---------+   +----------------+
//! ```
//!
//! There is no new mechanism in it: the feed is a [`Batcher`](crate::Batcher) whose sink hands updates on, and a subscriber
//! is one whose sink the user brings, with stages and limits of its own. So a slow subscriber gets conflated updates, a
//! fast one all of them, what waits is bounded, and all rules hold. It needs nothing but the core, and serves whatever is a
//! [`Sink`](crate::Sink): WebSockets, channels, gRPC streams.
//!
//! # What is promised
//!
//! * `publish` never waits, whatever subscribers do. When the hub falls behind, updates of one key replace each other
//!   before they are handed on; those without a key push out the oldest that wait.
//! * A new subscriber gets the latest value of each key that it wants first, and every update that was published after
//!   these: there is no gap, and nothing older after something newer.
//! * A subscriber holds at most [`max_pending`](crate::Limits::max_pending) updates, however stuck it is. The oldest make
//!   room.
//! * One whose sink takes nothing for [`stuck_after`](Subscribe::stuck_after) while there is something to take is dropped.
//!   A WebSocket is then closed with 1013.
//! * One whose sink says that its peer [is gone](crate::Sink::gone) ends at once, even if there is nothing to send.
//!   Subscribers come and go without a line in the log above debug level: [`FanoutStats`] counts them.
//! * An update at which a function of the user panics (topic, key, `Clone`) is refused by itself; the others are handed on.
//!
//! # Examples
//!
//! ```
//! use roundlot::{Fanout, market::{PriceUpdate, Symbol}, testing::Recorder};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! const BTC: Symbol = Symbol::from_static("BTCUSDT");
//! const ETH: Symbol = Symbol::from_static("ETHUSDT");
//! let price = |symbol, price: &str| PriceUpdate { symbol, price: price.parse().unwrap(), time_ns: 0 };
//!
//! let (feed, worker) = Fanout::by(|update: &PriceUpdate| update.symbol).spawn();
//! feed.publish(price(BTC, "64000"))?;
//! feed.publish(price(ETH, "2600"))?;
//! feed.settled().await?; // for this example: the values above are in the snapshot
//!
//! let screen = Recorder::new(); // or a WebSocket
//! let mut subscription = feed.subscribe(screen.clone()).to([BTC]).start().await?;
//! assert_eq!(screen.wait_for(1).await, [price(BTC, "64000")]); // the snapshot
//!
//! subscription.add([ETH]).await?;
//! feed.publish(price(BTC, "64001"))?;
//! assert_eq!(screen.wait_for(3).await.len(), 3);
//!
//! drop(feed);
//! worker.join().await?; // drains: every subscriber has what it wants, and its sink is closed
//! assert!(screen.is_closed());
//! # Ok(())
//! # }
//! ```
//!
//! # When not to use it
//!
//! Where each subscriber must get each update, and the feed may wait for the slowest: a `tokio::sync::broadcast` or a
//! channel each. To write one batch to two sinks: [`Sink::fan_out`](crate::Sink::fan_out).

mod builder;
mod error;
mod feed;
mod feed_sink;
mod hub;
mod latest;
mod stall_guard;
mod subscribe;
mod subscription;

pub use builder::Fanout;
pub use error::{Ended, SubscribeError};
pub use feed::{FanoutStats, Feed};
pub use subscribe::Subscribe;
pub use subscription::Subscription;
