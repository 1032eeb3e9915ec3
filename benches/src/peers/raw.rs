//! The baseline: a bare bounded tokio channel, received by `recv_many` into a `Vec` that is reused.

use tokio::sync::mpsc;

use super::{BATCH, SLOTS};
use crate::{
    load::{Load, join},
    op::Op,
    target::Target,
};

/// Sends ops one by one through [`SLOTS`] slots.
pub async fn send(load: Load, op: impl Fn(u64) -> Op + Copy + Send + 'static) {
    send_through(load, SLOTS, op).await;
}

/// Sends ops one by one through a channel of `slots` slots.
pub async fn send_through(load: Load, slots: usize, op: impl Fn(u64) -> Op + Copy + Send + 'static) {
    let (desk, inbox) = mpsc::channel(slots);
    let producers = load.start(|share| {
        let desk = desk.clone();
        async move {
            for i in share {
                desk.send(op(i)).await.expect("the other end is there");
            }
        }
    });
    drop(desk);
    receive(load, inbox, producers).await;
}

/// Sends ops by `reserve_many`, `chunk` ops at a time.
pub async fn send_chunks(load: Load, chunk: usize) {
    let (desk, inbox) = mpsc::channel(SLOTS);
    let producers = load.start(|mut share| {
        let desk = desk.clone();
        async move {
            while !share.is_empty() {
                let size = chunk.min((share.end - share.start) as usize);
                let room = desk.reserve_many(size).await.expect("the other end is there");
                room.zip(&mut share).for_each(|(room, i)| room.send(Op::numbered(i)));
            }
        }
    });
    drop(desk);
    receive(load, inbox, producers).await;
}

async fn receive(load: Load, mut inbox: mpsc::Receiver<Op>, producers: tokio::task::JoinSet<()>) {
    let target = Target::default();
    let counts = target.clone();
    let consumer = tokio::spawn(async move {
        let mut ops = Vec::with_capacity(BATCH);
        while inbox.recv_many(&mut ops, BATCH).await > 0 {
            counts.take(&ops);
            ops.clear();
        }
    });
    join(producers).await;
    consumer.await.expect("the consumer does not panic");
    target.check(load.ops);
}
