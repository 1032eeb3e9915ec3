//! The peer tokio-stream: `ReceiverStream` and `chunks_timeout`, used as its documentation says.

use futures::Stream;
use tokio::{pin, sync::mpsc};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};

use super::{BATCH, LINGER, SLOTS};
use crate::{
    load::{Load, join},
    op::Op,
    target::Target,
};

/// Sends ops one by one.
pub async fn send(load: Load) {
    send_in_chunks(load, |ops| ops.chunks_timeout(BATCH, LINGER)).await;
}

/// Sends ops one by one, through a channel and a stream adaptor that collects them into `Vec`s.
pub(super) async fn send_in_chunks<C>(load: Load, adapt: impl FnOnce(ReceiverStream<Op>) -> C)
where
    C: Stream<Item = Vec<Op>> + Send + 'static,
{
    let target = Target::default();
    let (desk, inbox) = mpsc::channel(SLOTS);
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
    let chunks = adapt(ReceiverStream::new(inbox));
    let consumer = tokio::spawn(async move {
        pin!(chunks);
        while let Some(chunk) = chunks.next().await {
            counts.take(&chunk);
        }
    });
    join(producers).await;
    consumer.await.expect("the consumer does not panic");
    target.check(load.ops);
}
