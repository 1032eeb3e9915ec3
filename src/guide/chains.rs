//! Batchers whose sinks send to other batchers: chains, circles, and how they end.
//!
//! A sink may send to another batcher: orders to a venue, and their fills to a database. The batcher whose sink sends is
//! *upstream*, the other one *downstream*. Two rules keep such a *chain* whole:
//!
//! * **Send downstream first, then accept**, with no await between the two: see [a verdict per
//!   order](#a-verdict-per-order).
//! * **End the upstream one first, wait for it, then end the downstream one.** The other way round, the upstream drain meets
//!   a closed batcher.
//!
//! Batchers that feed each other in both directions are a [circle](#circles).
//!
//! # Examples
//!
//! Two batchers under one deadline. This venue executes all orders of a call or none:
//!
//! ```
//! use std::time::Duration;
//! use roundlot::{Batch, Batcher, Handle, Limits, Settled, Sink, SinkError, testing::Recorder};
//! use tokio::time::Instant;
//!
//! /// The venue, which hands each order's fill on to the batcher of the database.
//! struct Venue { fills: Handle<u64> }
//!
//! impl Sink<u64> for Venue {
//!     async fn write(&self, orders: &mut Batch<u64>) -> Result<Settled, SinkError> {
//!         tokio::time::sleep(Duration::from_millis(20)).await; // the call to the venue
//!         // Waits while the downstream buffer is full: that is the backpressure between the two.
//!         match self.fills.send_all(orders.pending().to_vec()).await {
//!             Ok(()) => Ok(orders.accept_all()),
//!             Err(error) => Err(SinkError::ambiguous(error.to_string())), // executed, but the fills are not on their way
//!         }
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let database = Recorder::new();
//! let (fills, fills_worker) = Batcher::new(database.clone()).limits((1000, Duration::from_secs(3600))).spawn();
//! let (orders, orders_worker) = Batcher::new(Venue { fills }).limits(Limits::new(2)).spawn();
//! orders.send_all(1..=10).await?;
//!
//! // Ten seconds for both, of which the first may use eight: what it hands over in the end still has to be written.
//! let deadline = Instant::now() + Duration::from_secs(10);
//! let upstream = orders_worker.shutdown().within(Duration::from_secs(8)).await?;
//! let downstream = fills_worker.shutdown().within(deadline - Instant::now()).await?;
//!
//! assert_eq!(upstream.stats.outcomes.delivered, 10);
//! assert_eq!(downstream.stats.outcomes.delivered, 10);
//! assert_eq!(database.len(), 10);
//! # Ok(())
//! # }
//! ```
//!
//! # A verdict per order
//!
//! A venue with a REST API answers with one result per order. The sink then sends one fill at a time, and the order of two
//! calls decides what a lost write costs. A write can be dropped at each of its awaits: by the
//! [`write_timeout`](crate::Limits::write_timeout), or at the deadline of a shutdown.
//!
//! | order of the calls | dropped while the fill waits for room | what it costs |
//! |---|---|---|
//! | `accept`, then `send` | the order is delivered, its fill is gone | **the fill is lost, and no caller is told** |
//! | `send`, then `accept` | the fill is not sent, the order has no verdict | the order ends in doubt, to be looked into |
//!
//! The verdict is therefore the last step: `accept` says that all of it is done, the hand-over included. Nothing is awaited
//! between a `send` that has returned and its `accept`, so no write can be dropped between them.
//!
//! The orders whose fills were still to be sent are in doubt as well, though the venue's answer was there. To leave no such
//! moment, wait for room **before** the call to the venue, by [`reserve`](crate::Handle::reserve). Then nothing is awaited
//! after the answer, and a full database holds up orders that are not executed yet:
//!
//! ```
//! use std::time::Duration;
//! use roundlot::{AckError, Batch, Batcher, Handle, Limits, Settled, Sink, SinkError, testing::Recorder};
//!
//! /// The venue. The receipt of an order is the venue's id for it, and its fill is written under that id.
//! struct Venue { fills: Handle<u64> }
//!
//! impl Sink<u32, u64> for Venue {
//!     async fn write(&self, orders: &mut Batch<u32, u64>) -> Result<Settled, SinkError> {
//!         let mut room = Vec::new();
//!         for _ in orders.pending() {
//!             // Nothing is executed yet: if the database's batcher is closed, the orders are refused.
//!             room.push(self.fills.reserve().await.map_err(SinkError::refused)?);
//!         }
//!         let (indexes, quantities): (Vec<usize>, Vec<u32>) = orders.pending().indexed().map(|(i, q)| (i, *q)).unzip();
//!         let results = post(&quantities).await?; // the last await
//!         if results.len() != indexes.len() {
//!             return Err(SinkError::ambiguous("not one result per order"));
//!         }
//!         for ((i, result), permit) in indexes.into_iter().zip(results).zip(room) {
//!             match result.map(|id| (id, permit.send(id))) {
//!                 Ok((id, Ok(()))) => orders.accept(i, id), // the fill is on its way: now the order is done
//!                 Ok((_, Err(closed))) => orders.refuse(i, SinkError::ambiguous(closed.to_string())), // executed, no fill
//!                 Err(reason) => orders.refuse(i, SinkError::refused(reason)), // its permit makes room again
//!             }
//!         }
//!         orders.settled()
//!     }
//! }
//!
//! /// One POST for all orders: an id for each that was executed, a reason for each that was not.
//! async fn post(orders: &[u32]) -> Result<Vec<Result<u64, &'static str>>, SinkError> {
//!     tokio::time::sleep(Duration::from_millis(20)).await;
//!     Ok(orders.iter().map(|order| if *order <= 100 { Ok(1000 + u64::from(*order)) } else { Err("too much") }).collect())
//! }
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let database = Recorder::new();
//! let (fills, fills_worker) = Batcher::new(database.clone()).limits(Limits::new(500).max_pending(10_000)).spawn();
//! let (orders, orders_worker) = Batcher::new(Venue { fills }).limits(Limits::new(20)).spawn();
//! let (small, large) = (orders.submit(7).await?, orders.submit(700).await?);
//! assert_eq!(small.await?, 1007);
//! assert!(matches!(large.await, Err(AckError::Refused(_))));
//!
//! orders_worker.shutdown().await?;
//! fills_worker.shutdown().await?;
//! assert_eq!(database.ops(), [1007]); // a fill for each order that was delivered
//! # Ok(())
//! # }
//! ```
//!
//! * The downstream `max_pending` must be at least `max_items * max_in_flight`, summed over all upstream batchers. Otherwise
//!   writes that each hold a part of the room wait for each other.
//! * An executed order without a fill is [`ambiguous`](crate::SinkError::ambiguous), which ends it in doubt: a dead letter,
//!   whose fill is then fetched from the venue. The upstream batcher must not be
//!   [`idempotent`](crate::Batcher::idempotent), or the order is sent again.
//! * A deadline can still pass while the sink waits for room or for the answer. The batcher can't tell the two apart, and
//!   calls the orders in doubt either way.
//!
//! # What each step does
//!
//! [`Worker::shutdown`](crate::Worker::shutdown) closes the intake of its own batcher and drains that one. It knows
//! nothing of batchers up or down the chain:
//!
//! * A downstream batcher that is closed first gives every later op back to the upstream sink, as
//!   [`SendError::Closed`](crate::SendError::Closed) or in [`SendAllError`](crate::SendAllError). The verdict is the sink's, and
//!   there is no good one left.
//! * One [`CancellationToken`](crate::CancellationToken) in the [`stop_on`](crate::Batcher::stop_on) of both has the same
//!   effect: both close at once. Give it to the upstream one alone.
//! * Each [`within`](crate::Shutdown::within) is a time of its own, from the moment its shutdown is awaited. Two of ten seconds
//!   may take twenty. For one deadline, give the second what is left of it, as above.
//! * An upstream write that is given up at its deadline may have sent some of its ops downstream, where they are settled. Ops
//!   that had no verdict by then come back [`in_doubt`](crate::Returned::in_doubt).
//!
//! # Handles that sinks hold
//!
//! A batcher without a shutdown ends when its last [`Handle`](crate::Handle) is dropped, and the sink of another batcher
//! counts as an owner of its handle. That sink is dropped when its own batcher has ended, before the summary is there. So
//! a chain ends by itself, from its head, when the last handle of the head is dropped; each batcher may take its
//! [`shutdown_timeout`](crate::Limits::shutdown_timeout). [`Worker::join`](crate::Worker::join) then waits for each:
//!
//! ```
//! # use roundlot::{Batch, Batcher, Handle, Settled, Sink, SinkError, testing::Recorder};
//! # struct Venue { fills: Handle<u64> }
//! # impl Sink<u64> for Venue {
//! #     async fn write(&self, orders: &mut Batch<u64>) -> Result<Settled, SinkError> {
//! #         self.fills.send_all(orders.pending().to_vec()).await.map_err(|e| SinkError::ambiguous(e.to_string()))?;
//! #         Ok(orders.accept_all())
//! #     }
//! # }
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (fills, fills_worker) = Batcher::new(Recorder::new()).spawn();
//! let (orders, orders_worker) = Batcher::new(Venue { fills }).spawn(); // the sink has the only handle of `fills`
//! orders.send_all(1..=10).await?;
//!
//! drop(orders);
//! let (upstream, downstream) = tokio::try_join!(orders_worker.join(), fills_worker.join())?;
//! assert_eq!(upstream.stats.outcomes.delivered, downstream.stats.outcomes.delivered);
//! # Ok(())
//! # }
//! ```
//!
//! A clone of the downstream handle that is kept elsewhere, such as for statistics, holds that batcher open: `join` then
//! waits for it, and a shutdown does not.
//!
//! # Circles
//!
//! Where a sink sends to its own batcher, or two batchers feed each other, no handle is ever the last one, and two sinks can
//! wait for room in each other's full buffers. Three rules:
//!
//! * **At most one sink of a circle waits.** The other one uses [`try_send`](crate::Handle::try_send), and has an op that found
//!   no room tried again: [`transient`](crate::SinkError::transient). Its attempts end, so the circle can't stop for ever. Two
//!   sinks that wait do so until their [`write_timeout`](crate::Limits::write_timeout), and for ever without one. A sink that
//!   sends to its own batcher never waits.
//! * **End a circle by shutdowns**, the one first through which ops enter from outside.
//! * **The sink that is shut down second meets a closed batcher**, and says what becomes of its ops: refused, or kept elsewhere.
//!
//! Orders whose fills lead to orders, as a hedge does:
//!
//! ```
//! # use roundlot::{Batch, Batcher, Handle, Settled, Sink, SinkError};
//! use std::sync::{Arc, OnceLock};
//!
//! /// The venue, which waits for room among the fills.
//! struct Venue { fills: Handle<u32> }
//!
//! impl Sink<u32> for Venue {
//!     async fn write(&self, orders: &mut Batch<u32>) -> Result<Settled, SinkError> {
//!         self.fills.send_all(orders.pending().to_vec()).await.map_err(|e| SinkError::ambiguous(e.to_string()))?;
//!         Ok(orders.accept_all())
//!     }
//! }
//!
//! /// The hedger, which never waits: half of each fill becomes an order, until nothing is left.
//! #[derive(Default)]
//! struct Hedger { orders: OnceLock<Handle<u32>> }
//!
//! impl Sink<u32> for Hedger {
//!     async fn write(&self, fills: &mut Batch<u32>) -> Result<Settled, SinkError> {
//!         let orders = self.orders.get().ok_or_else(|| SinkError::transient("not connected yet"))?;
//!         Ok(fills.settle_each(|fill| match fill / 2 {
//!             0 => Ok(()),
//!             half => orders.try_send(half).map_err(|error| match error.is_full() {
//!                 true => SinkError::transient(error.to_string()), // again after a backoff
//!                 false => SinkError::refused(error.to_string()),  // the orders are closed: a dead letter
//!             }),
//!         }))
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let hedger = Arc::new(Hedger::default());
//! let (fills, fills_worker) = Batcher::new(Arc::clone(&hedger)).spawn();
//! let (orders, orders_worker) = Batcher::new(Venue { fills }).spawn();
//! hedger.orders.set(orders.clone()).expect("it is set once"); // closes the circle
//!
//! orders.send(100).await?; // and 50, 25, 12, 6, 3, 1
//! # tokio::time::sleep(std::time::Duration::from_secs(1)).await;
//! let orders = orders_worker.shutdown().await?; // ops from outside enter here: first
//! let fills = fills_worker.shutdown().await?;
//! assert_eq!((orders.stats.outcomes.delivered, fills.stats.outcomes.delivered), (7, 7));
//! # Ok(())
//! # }
//! ```
//!
//! # Dead letters
//!
//! The batcher that [`Batcher::dead_letters`](crate::Batcher::dead_letters) makes belongs to its main one, and is drained
//! within the same shutdown. But if its sink sends to a batcher of yours, such as one journal for the letters of all, that
//! journal is downstream of all of them: end it last.
