//! Ending batchers that feed each other.
//!
//! A sink may send to another batcher: orders to a venue, and their fills to a database. The batcher whose sink sends is
//! *upstream*, the other one *downstream*. The rule is short: **end the upstream one first, wait for it, then end the
//! downstream one.** The other way round, the upstream drain meets a closed batcher.
//!
//! # Examples
//!
//! Two batchers under one deadline:
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
//! Where a sink sends to its own batcher, or two batchers feed each other, no handle is ever the last one. End them by a
//! shutdown, the one first through which ops enter from outside. Within a circle use [`try_send`](crate::Handle::try_send):
//! two sinks that wait for room in each other's full buffers wait until their
//! [`write_timeout`](crate::Limits::write_timeout), and for ever without one. The sink that is shut down second gets its ops back as closed, and
//! says what becomes of them: refused, or kept elsewhere.
//!
//! # Dead letters
//!
//! The batcher that [`Batcher::dead_letters`](crate::Batcher::dead_letters) makes belongs to its main one, and is drained
//! within the same shutdown. But if its sink sends to a batcher of yours, such as one journal for the letters of all, that
//! journal is downstream of all of them: end it last.
