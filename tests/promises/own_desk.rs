//! Tests of sinks that send to their own batcher: `try_send` alone is safe there, as the docs of `Sink` say.

use std::{
    future::IntoFuture,
    sync::{Arc, OnceLock},
};

use roundlot::{Batch, Batcher, End, Handle, Limits, Settled, Sink, SinkError, testing::until_idle};

use crate::{eventually, secs};

/// A sink that hands the follow-up of each small op to its own batcher.
#[derive(Clone)]
struct Follows {
    desk: Arc<OnceLock<Handle<u32>>>,
    waits: bool,
}

impl Sink<u32> for Follows {
    async fn write(&self, batch: &mut Batch<u32>) -> Result<Settled, SinkError> {
        let desk = self.desk.get().expect("it is set before anything is sent");
        for op in batch.pending().to_vec().into_iter().filter(|op| *op < 100) {
            if self.waits {
                let _ = desk.send(op + 100).await;
            } else {
                let _ = desk.try_send(op + 100);
            }
        }
        Ok(batch.accept_all())
    }
}

fn batcher(waits: bool) -> (Handle<u32>, Arc<OnceLock<Handle<u32>>>, roundlot::Worker<u32>) {
    let sink = Follows { desk: Arc::default(), waits };
    let limits = Limits::new(3).max_pending(3).write_timeout(secs(5));
    let (desk, worker) = Batcher::new(sink.clone()).limits(limits).spawn();
    let _ = sink.desk.set(desk.clone());
    (desk, sink.desk, worker)
}

/// Goal: a write may hand ops to its own batcher by `try_send`. Method: a full buffer, where the follow-up finds no
/// room, and then one with room.
#[tokio::test(start_paused = true)]
async fn a_write_may_try_send_to_its_own_batcher() {
    let (desk, own, worker) = batcher(false);
    desk.send_all([1, 2, 3]).await.unwrap();
    let report = eventually(desk.flush()).await.unwrap();
    assert_eq!(report.total(), 3);
    desk.send(4).await.unwrap();
    until_idle().await;
    assert_eq!(desk.stats().accepted, 5, "104 found room");
    drop((desk, own));
    let _ = eventually(worker.shutdown().within(secs(1)).into_future()).await.unwrap();
}

/// Goal: a write that waits for a permit of its own batcher is given up by `write_timeout`, and a shutdown ends in
/// time. Method: a full buffer, all of it in that write.
#[tokio::test(start_paused = true)]
async fn a_write_that_waits_for_its_own_batcher_ends_in_doubt() {
    let (desk, own, worker) = batcher(true);
    let mut acks = Vec::new();
    for op in 1..=3 {
        acks.push(desk.submit(op).await.unwrap());
    }
    for ack in acks {
        assert_eq!(eventually(ack.outcome()).await.end, End::InDoubt);
    }
    drop((desk, own));
    let _ = eventually(worker.shutdown().within(secs(1)).into_future()).await.unwrap();
}
