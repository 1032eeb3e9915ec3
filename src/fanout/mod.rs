//! One feed, many subscribers, each at its own pace. Every published update goes to each sink subscribed to its topic;
//! a new subscriber first gets the latest value of each key.
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
//! No new mechanism is needed: the feed is a [`Batcher`](crate::Batcher) whose sink publishes updates. A subscriber is
//! a batcher too, with the user's sink and with stages and limits of its own. A slow subscriber gets conflated
//! updates, a fast one all of them, and the memory of each is bounded. The fanout needs nothing but the core, and
//! serves whatever is a [`Sink`](crate::Sink): WebSockets, channels, gRPC streams.
//!
//! # What is promised
//!
//! * `publish` never waits, whatever subscribers do. When the hub falls behind, updates of one key replace each other
//!   before they are published; updates without a key evict the oldest.
//! * A new subscriber first gets the latest value of each key of its topics, then every update published after these.
//!   There is no gap, and nothing older after something newer.
//! * A subscriber holds at most [`max_pending`](crate::Limits::max_pending) updates, however stuck it is. The oldest
//!   are evicted.
//! * A subscriber whose sink takes nothing for [`stuck_after`](Subscribe::stuck_after), while there is something to
//!   take, is dropped. A WebSocket is then closed with 1013.
//! * A subscriber whose sink reports that its peer [is gone](crate::Sink::gone) ends at once, even if there is nothing
//!   to send. Its coming and going is logged at debug level only; [`FanoutStats`] counts it.
//! * An update at which a function of the user panics (topic, key, `Clone`) is refused alone; all others are published.
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
//! let price = |symbol, price: &str| PriceUpdate::new(symbol, price.parse().unwrap(), 0);
//!
//! let (feed, worker) = Fanout::by(|update: &PriceUpdate| update.symbol).spawn();
//! feed.publish(price(BTC, "64000"))?;
//! feed.publish(price(ETH, "2600"))?;
//! feed.flush().await?; // for this example: the values above are in the snapshot
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
//! If each subscriber must get each update and the feed may wait for the slowest, use `tokio::sync::broadcast` or a
//! channel each. To write one batch to two sinks, use [`Sink::fan_out`](crate::Sink::fan_out).

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
