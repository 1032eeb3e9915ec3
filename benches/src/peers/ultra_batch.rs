//! The peer ultra-batch: an `Executor`, and `BatchExecutor::execute`, which awaits the answer to each op.

use std::convert::Infallible;

use ultra_batch::{BatchExecutor, Executor};

use super::{EAGER_BATCH, EAGER_LINGER};
use crate::{
    load::{Load, join},
    op::Op,
    target::Target,
};

/// The executor: it hands batches to the target.
struct Store(Target);

impl Executor for Store {
    type Value = Op;
    type Result = ();
    type Error = Infallible;

    async fn execute(&self, ops: Vec<Op>) -> Result<Vec<()>, Infallible> {
        self.0.take(&ops);
        Ok(vec![(); ops.len()])
    }
}

/// Submits ops by callers that await the answer to each op before the next.
pub async fn submit(load: Load) {
    let target = Target::default();
    let executor = BatchExecutor::build(Store(target.clone()))
        .eager_batch_size(Some(EAGER_BATCH))
        .delay_duration(EAGER_LINGER)
        .finish();
    let callers = load.start(|share| {
        let executor = executor.clone();
        async move {
            for i in share {
                executor.execute(Op::numbered(i)).await.expect("the executor runs").expect("every op is answered");
            }
        }
    });
    join(callers).await;
    target.check(load.ops);
}
