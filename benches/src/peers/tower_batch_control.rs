//! The peer tower-batch-control: a `Service` of `BatchControl` behind a `Batch`.
//!
//! The service is built like the one in the crate's own tests: it collects items, and a flush answers all of them
//! through a watch channel per batch.

use std::{
    mem,
    task::{Context, Poll},
};

use futures::{FutureExt, future::BoxFuture};
use tokio::sync::watch;
use tower::{Service, ServiceExt};
use tower_batch_control::{Batch, BatchControl, RequestWeight};

use super::{EAGER_BATCH, EAGER_LINGER};
use crate::{
    Error,
    load::{Load, join},
    op::Op,
    target::Target,
};

struct Item(Op);

impl RequestWeight for Item {}

/// The service behind the batch.
struct Store {
    target: Target,
    /// Items since the last flush.
    batch: Vec<Op>,
    /// The answer to the items of `batch`; each flush replaces it.
    done: watch::Sender<bool>,
}

impl Service<BatchControl<Item>> for Store {
    type Response = ();
    type Error = Error;
    type Future = BoxFuture<'static, Result<(), Error>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, control: BatchControl<Item>) -> Self::Future {
        match control {
            BatchControl::Item(Item(op)) => {
                self.batch.push(op);
                let mut done = self.done.subscribe();
                async move { Ok(done.changed().await?) }.boxed()
            }
            BatchControl::Flush => {
                let batch = mem::replace(&mut self.batch, Vec::with_capacity(EAGER_BATCH));
                let done = mem::replace(&mut self.done, watch::Sender::new(false));
                let target = self.target.clone();
                async move {
                    target.take(&batch);
                    done.send(true)?;
                    Ok(())
                }
                .boxed()
            }
        }
    }
}

/// Submits ops by callers that await the answer to each op before the next.
pub async fn submit(load: Load) {
    let target = Target::default();
    let store = Store { target: target.clone(), batch: Vec::new(), done: watch::Sender::new(false) };
    let batches = load.producers as usize / EAGER_BATCH;
    let service = Batch::new(store, EAGER_BATCH, batches, EAGER_LINGER);
    let callers = load.start(|share| {
        let mut service = service.clone();
        async move {
            for i in share {
                let ready = service.ready().await.expect("the worker runs");
                ready.call(Item(Op::numbered(i))).await.expect("every op is answered");
            }
        }
    });
    join(callers).await;
    target.check(load.ops);
}
