//! A loop by hand with `select! { recv, interval }`, as in most programs.
//!
//! A batch is cut when it is full or the interval ticks.

use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

use super::{BATCH, LINGER, SLOTS};
use crate::{
    load::{Load, join},
    op::Op,
    target::Target,
};

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
        let mut batch = Vec::with_capacity(BATCH);
        let mut tick = interval(LINGER);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                op = inbox.recv() => {
                    let Some(op) = op else { break };
                    batch.push(op);
                    if batch.len() == BATCH {
                        counts.take(&batch);
                        batch.clear();
                    }
                }
                _ = tick.tick() => {
                    counts.take(&batch);
                    batch.clear();
                }
            }
        }
        counts.take(&batch);
    });
    join(producers).await;
    consumer.await.expect("the consumer does not panic");
    target.check(load.ops);
}
