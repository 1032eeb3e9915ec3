//! Batchers that feed each other end as `guide::chains` says, whatever the order of their shutdowns.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use roundlot::{
    Batch, Batcher, Handle, Limits, Settled, Sink, SinkError, Worker,
    testing::{Flaky, Recorder},
};

use crate::{conserved, eventually, ms, secs};

/// A sink that sends each op downstream, one at a time, and takes 10 ms for each.
struct Relay(Handle<u32>);

impl Sink<u32> for Relay {
    async fn write(&self, batch: &mut Batch<u32>) -> Result<Settled, SinkError> {
        for (i, op) in batch.pending().to_vec().into_iter().enumerate() {
            tokio::time::sleep(ms(10)).await;
            match self.0.send(op).await {
                Ok(()) => batch.accept(i, ()),
                Err(error) => batch.refuse(i, SinkError::refused(error.to_string())),
            }
        }
        batch.settled()
    }
}

/// A database behind a batcher behind another one, to which ten ops were sent.
async fn chain() -> (Recorder<u32>, Worker<u32>, Worker<u32>) {
    let database = Recorder::new();
    let (downstream, downstream_worker) = Batcher::new(database.clone()).limits((100, secs(3600))).spawn();
    let (upstream, upstream_worker) = Batcher::new(Relay(downstream)).limits(Limits::new(10)).spawn();
    upstream.send_all(0..10).await.unwrap();
    (database, upstream_worker, downstream_worker)
}

/// Goal: nothing is lost between two batchers, and no order of shutdowns hangs. Method: both orders. Downstream first,
/// each op is told that it met a closed batcher.
#[tokio::test(start_paused = true)]
async fn the_order_of_shutdowns_decides_what_is_written() {
    let (database, upstream, downstream) = chain().await;
    let upstream = upstream.shutdown().await.unwrap().stats;
    let downstream = downstream.shutdown().await.unwrap().stats;
    assert_eq!((upstream.outcomes.delivered, downstream.outcomes.delivered, database.len()), (10, 10, 10));

    let (database, upstream, downstream) = chain().await;
    assert_eq!(downstream.shutdown().await.unwrap().stats.accepted, 0);
    let upstream = upstream.shutdown().await.unwrap().stats;
    assert_eq!((upstream.outcomes.refused, database.len()), (10, 0));
    conserved(&upstream);
}

/// Goal: an upstream write that is given up says so of each op. Method: time for four of ten ops; the write had given its
/// verdict on those, and the rest comes back in doubt.
#[tokio::test(start_paused = true)]
async fn what_an_abandoned_write_had_not_settled_comes_back_in_doubt() {
    let (database, upstream, downstream) = chain().await;
    let upstream = upstream.shutdown().within(ms(45)).await.unwrap();
    let downstream = downstream.shutdown().within(secs(1)).await.unwrap();
    assert_eq!((upstream.stats.outcomes.delivered, upstream.stats.outcomes.returned), (4, 6));
    assert!(upstream.returned.iter().all(|op| op.in_flight && op.in_doubt));
    assert_eq!((downstream.stats.outcomes.delivered, database.ops()), (4, vec![0, 1, 2, 3]));
}

/// Goal: a chain ends by itself from its head. Method: the last handle of the head is dropped.
#[tokio::test(start_paused = true)]
async fn a_chain_ends_with_the_last_handle_of_its_head() {
    let (database, upstream, downstream) = chain().await;
    let (upstream, downstream) = eventually(async { tokio::join!(upstream.join(), downstream.join()) }).await;
    assert_eq!(upstream.unwrap().stats.outcomes.delivered, 10);
    assert_eq!(downstream.unwrap().stats.outcomes.delivered, 10);
    assert!(database.is_closed());
}

/// When a sink that sends a fill for each order accepts the order.
#[derive(Debug, Clone, Copy)]
enum Accepts {
    BeforeTheFill,
    AfterTheFill,
    /// The room for all fills was reserved before the orders were executed.
    AfterTheFillInReservedRoom,
}

/// A venue that executes all orders of a batch in 1 ms, and then sends a fill for each.
struct Venue {
    fills: Handle<u32>,
    accepts: Accepts,
    executed: Arc<AtomicU64>,
}

impl Sink<u32> for Venue {
    async fn write(&self, batch: &mut Batch<u32>) -> Result<Settled, SinkError> {
        let mut room = Vec::new();
        if matches!(self.accepts, Accepts::AfterTheFillInReservedRoom) {
            for _ in batch.pending() {
                room.push(self.fills.reserve().await.map_err(SinkError::refused)?);
            }
        }
        tokio::time::sleep(ms(1)).await;
        self.executed.fetch_add(batch.pending().len() as u64, Relaxed);
        for i in batch.pending_indexes() {
            let order = batch[i];
            if matches!(self.accepts, Accepts::BeforeTheFill) {
                batch.accept(i, ());
            }
            let sent = match room.pop() {
                Some(permit) => permit.send(order),
                None => self.fills.send(order).await,
            };
            match sent {
                Ok(()) => batch.accept(i, ()),
                Err(error) => batch.refuse(i, SinkError::ambiguous(error.to_string())),
            }
        }
        batch.settled()
    }
}

/// Counts of 8 orders: those that the venue executed, those that its batcher delivered, and the fills that were written.
#[derive(Debug, PartialEq)]
struct Orders {
    executed: u64,
    delivered: u64,
    fills: u64,
}

/// Gives the batcher of a venue `time` to end. The database behind it is slow and has room for 2 fills.
async fn abandoned(accepts: Accepts, time: u64) -> Orders {
    let (database, executed) = (Recorder::new(), Arc::new(AtomicU64::new(0)));
    let slow = Flaky::new(database.clone()).slow(ms(10));
    let (fills, fills_worker) = Batcher::new(slow).limits(Limits::new(1).max_pending(2)).spawn();
    let venue = Venue { fills, accepts, executed: Arc::clone(&executed) };
    let (orders, orders_worker) = Batcher::new(venue).limits(Limits::new(2)).spawn();
    orders.send_all(0..8).await.unwrap();
    let stats = orders_worker.shutdown().within(ms(time)).await.unwrap().stats;
    fills_worker.shutdown().await.unwrap();
    conserved(&stats);
    Orders { executed: executed.load(Relaxed), delivered: stats.outcomes.delivered, fills: database.len() as u64 }
}

/// Goal: no order is delivered without its fill, wherever its write is dropped, if it is accepted after the fill was sent.
/// Method: a deadline at each millisecond of the run. Accepted before, an order loses its fill at some of them.
#[tokio::test(start_paused = true)]
async fn an_order_that_is_accepted_last_never_loses_its_fill() {
    let mut lost = 0;
    for time in 0..100 {
        let first = abandoned(Accepts::BeforeTheFill, time).await;
        lost += first.delivered - first.fills;
        for accepts in [Accepts::AfterTheFill, Accepts::AfterTheFillInReservedRoom] {
            let last = abandoned(accepts, time).await;
            assert_eq!(last.delivered, last.fills, "{accepts:?}, {time} ms");
        }
    }
    assert!(lost > 0, "no write was dropped between the verdict and the fill");
    assert_eq!(abandoned(Accepts::AfterTheFill, 99).await, Orders { executed: 8, delivered: 8, fills: 8 });
}

/// Goal: with room that is reserved first, no executed order is in doubt because its fill waits. Method: a deadline while
/// the buffer of the fills is full. Without the reservation a second batch has been executed by then.
#[tokio::test(start_paused = true)]
async fn reserved_room_is_waited_for_before_anything_is_executed() {
    let doubt = abandoned(Accepts::AfterTheFill, 5).await;
    let sound = abandoned(Accepts::AfterTheFillInReservedRoom, 5).await;
    assert_eq!(doubt, Orders { executed: 4, delivered: 2, fills: 2 });
    assert_eq!(sound, Orders { executed: 2, delivered: 2, fills: 2 });
}

/// A sink that passes each op on to another batcher, one less each time, until it is zero.
#[derive(Clone, Default)]
struct Ball(Arc<OnceLock<Handle<u32>>>);

impl Sink<u32> for Ball {
    async fn write(&self, batch: &mut Batch<u32>) -> Result<Settled, SinkError> {
        let other = self.0.get().expect("it is set before anything is sent");
        Ok(batch.settle_each(|op| match op.checked_sub(1).map(|less| other.try_send(less)) {
            None | Some(Ok(())) => Ok(()),
            Some(Err(error)) => Err(SinkError::refused(error.to_string())),
        }))
    }
}

/// Goal: two batchers that feed each other end by their shutdowns. Method: an op that would pass between them a million
/// times.
#[tokio::test(start_paused = true)]
async fn a_circle_ends_by_shutdowns() {
    let (ping, pong) = (Ball::default(), Ball::default());
    let (first, first_worker) = Batcher::new(ping.clone()).limits((2, ms(1))).spawn();
    let (second, second_worker) = Batcher::new(pong.clone()).limits((2, ms(1))).spawn();
    first.send(1_000_000).await.unwrap();
    let (Ok(()), Ok(())) = (ping.0.set(second), pong.0.set(first)) else { panic!("they are set once") };
    tokio::time::sleep(ms(20)).await; // each pass takes a linger

    let first = eventually(async { first_worker.shutdown().await }).await.unwrap().stats;
    let second = eventually(async { second_worker.shutdown().await }).await.unwrap().stats;
    conserved(&first);
    conserved(&second);
    assert_eq!(first.outcomes.refused + second.outcomes.refused, 1, "the op met a closed batcher once");
    assert_eq!(first.outcomes.returned + second.outcomes.returned, 0);
}
