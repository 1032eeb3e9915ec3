//! A loop by hand over `recv_many`. The received ops are written as one batch of any size.
//!
//! The loop is `raw` with a write that is awaited and may fail. It has no linger, no verdicts and no retries.

use tokio::sync::mpsc;

use super::{BATCH, SLOTS};
use crate::{
    Error,
    load::{Load, join},
    op::Op,
    target::Target,
};

async fn write(target: &Target, ops: &[Op]) -> Result<(), Error> {
    target.take(ops);
    Ok(())
}

/// Sends ops one by one.
pub async fn send(load: Load) {
    let target = Target::default();
    let (desk, mut inbox) = mpsc::channel(SLOTS);
    let producers = load.start(|share| {
        let desk = desk.clone();
        async move {
            for i in share {
                desk.send(Op::numbered(i)).await.expect("the other end is there");
            }
        }
    });
    drop(desk);
    let counts = target.clone();
    let consumer = tokio::spawn(async move {
        let mut ops = Vec::with_capacity(BATCH);
        while inbox.recv_many(&mut ops, BATCH).await > 0 {
            if let Err(error) = write(&counts, &ops).await {
                eprintln!("lost {} ops: {error}", ops.len());
            }
            ops.clear();
        }
    });
    join(producers).await;
    consumer.await.expect("the consumer does not panic");
    target.check(load.ops);
}
