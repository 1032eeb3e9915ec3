//! roundlot, by its public API alone.

use roundlot::{Batcher, Handle, Limits, Stages, Worker, stage};

use super::BATCH;
use crate::{
    load::{Load, join},
    op::Op,
    target::Target,
};

/// The `max_pending` of this peer where a row does not set it, in ops: four batches, which fit into a core's caches.
pub const PENDING: usize = 4 * BATCH;

/// The default `max_pending` of roundlot itself, in ops.
pub const DEFAULT_PENDING: usize = 65_536;

/// Spawns a batcher with natural batching, [`PENDING`] ops and one write at a time.
pub fn batcher(target: &Target, stages: Stages<Op>) -> (Handle<Op>, Worker<Op>) {
    batcher_of(PENDING, target, stages)
}

fn batcher_of(pending: usize, target: &Target, stages: Stages<Op>) -> (Handle<Op>, Worker<Op>) {
    let limits = Limits::new(BATCH).max_pending(pending).max_in_flight(1);
    Batcher::new(target.clone()).stages(stages).limits(limits).spawn()
}

/// The three stages of the rows `rules`, `staged` and `alloc`, and of the instruction counts.
pub fn stages() -> Stages<Op> {
    Stages::new()
        .partition_by(|op: &Op| op.symbol)
        .conflate_by(|op: &Op| op.key, stage::latest)
        .priority_by(|op: &Op| op.level)
}

/// Sends ops one by one, with at most [`PENDING`] ops pending.
pub async fn send(load: Load, stages: Stages<Op>, op: impl Fn(u64) -> Op + Copy + Send + 'static) {
    send_within(PENDING, load, stages, op).await;
}

/// Sends ops one by one, with at most `pending` ops pending.
pub async fn send_within(
    pending: usize,
    load: Load,
    stages: Stages<Op>,
    op: impl Fn(u64) -> Op + Copy + Send + 'static,
) {
    let target = Target::default();
    let (desk, worker) = batcher_of(pending, &target, stages);
    let producers = load.start(|share| {
        let desk = desk.clone();
        async move {
            for i in share {
                desk.send(op(i)).await.expect("the batcher runs");
            }
        }
    });
    join(producers).await;
    end(load, &target, worker).await;
}

/// Sends ops by `send_all`, `chunk` ops at a time.
pub async fn send_all(load: Load, chunk: usize) {
    let target = Target::default();
    let (desk, worker) = batcher(&target, Stages::new());
    let producers = load.start(|mut share| {
        let desk = desk.clone();
        async move {
            while !share.is_empty() {
                let ops = share.by_ref().take(chunk).map(Op::numbered);
                desk.send_all(ops).await.expect("the batcher runs");
            }
        }
    });
    join(producers).await;
    end(load, &target, worker).await;
}

/// Submits ops by callers that await the ack of each op before the next.
pub async fn submit(load: Load) {
    let target = Target::default();
    let (desk, worker) = batcher(&target, Stages::new());
    let callers = load.start(|share| {
        let desk = desk.clone();
        async move {
            for i in share {
                let ack = desk.submit(Op::numbered(i)).await.expect("the batcher runs");
                ack.await.expect("every op is accepted");
            }
        }
    });
    join(callers).await;
    end(load, &target, worker).await;
}

/// Shuts the batcher down and checks that every op was delivered or conflated.
async fn end(load: Load, target: &Target, worker: Worker<Op>) {
    let stats = worker.shutdown().await.expect("the batcher ends by itself").stats;
    assert_eq!(stats.outcomes.delivered + stats.outcomes.conflated, load.ops, "ops that have ended well");
    target.check(stats.outcomes.delivered);
}
