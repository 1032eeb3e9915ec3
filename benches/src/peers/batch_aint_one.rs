//! The peer batch-aint-one: a `Processor`, and `Batcher::add`, which awaits the answer to each op.

use std::{convert::Infallible, time::Duration};

use batch_aint_one::{Batcher, BatchingPolicy, Limits, Processor};

use super::BATCH;
use crate::{
    load::{Load, join},
    op::Op,
    target::Target,
};

/// The processor: it hands batches to the target.
#[derive(Debug, Clone)]
struct Store(Target);

impl Processor for Store {
    type Key = ();
    type Input = Op;
    type Output = ();
    type Error = Infallible;
    type Resources = ();

    async fn acquire_resources(&self, (): ()) -> Result<(), Infallible> {
        Ok(())
    }

    async fn process(&self, (): (), inputs: impl Iterator<Item = Op> + Send, (): ()) -> Result<Vec<()>, Infallible> {
        let ops: Vec<Op> = inputs.collect();
        self.0.take(&ops);
        Ok(vec![(); ops.len()])
    }
}

/// Time after which a run is given up. A run takes a second or two.
const PATIENCE: Duration = Duration::from_secs(30);

/// Submits ops by callers that await the answer to each op. At most `at_once` batches are processed at a time.
///
/// Version 0.16 leaves callers without an answer once in some hundred runs of few ops; such a run is repeated.
pub async fn submit(load: Load, at_once: usize) {
    while tokio::time::timeout(PATIENCE, run(load, at_once)).await.is_err() {
        eprintln!("batch-aint-one left callers without an answer: the run is repeated");
    }
}

async fn run(load: Load, at_once: usize) {
    let target = Target::default();
    let batcher = Batcher::builder()
        .name("bench")
        .processor(Store(target.clone()))
        .limits(Limits::builder().max_batch_size(BATCH).max_key_concurrency(at_once).build())
        .batching_policy(BatchingPolicy::Immediate)
        .build();
    let callers = load.start(|share| {
        let batcher = batcher.clone();
        async move {
            for i in share {
                batcher.add((), Op::numbered(i)).await.expect("every op is answered");
            }
        }
    });
    join(callers).await;
    let worker = batcher.worker_handle();
    worker.shut_down().await;
    worker.wait_for_shutdown().await;
    target.check(load.ops);
}
