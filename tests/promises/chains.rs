//! Batchers that feed each other end as `guide::chains` says, whatever the order of their shutdowns.

use std::sync::{Arc, OnceLock};

use roundlot::{Batch, Batcher, Handle, Limits, Settled, Sink, SinkError, Worker, testing::Recorder};

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
