//! A loop by hand for callers that await answers: a channel of ops, each with a oneshot.

use tokio::sync::{mpsc, oneshot};

use super::{BATCH, SLOTS};
use crate::{
    load::{Load, join},
    op::Op,
    target::Target,
};

/// Submits ops by callers that await the answer to each op before the next.
pub async fn submit(load: Load) {
    let target = Target::default();
    let (desk, mut inbox) = mpsc::channel::<(Op, oneshot::Sender<()>)>(SLOTS);
    let callers = load.start(|share| {
        let desk = desk.clone();
        async move {
            for i in share {
                let (reply, answer) = oneshot::channel();
                desk.send((Op::numbered(i), reply)).await.expect("the other end is there");
                answer.await.expect("every op is answered");
            }
        }
    });
    drop(desk);
    let counts = target.clone();
    let consumer = tokio::spawn(async move {
        let mut asked = Vec::with_capacity(BATCH);
        let (mut ops, mut replies) = (Vec::with_capacity(BATCH), Vec::with_capacity(BATCH));
        while inbox.recv_many(&mut asked, BATCH).await > 0 {
            for (op, reply) in asked.drain(..) {
                ops.push(op);
                replies.push(reply);
            }
            counts.take(&ops);
            ops.clear();
            replies.drain(..).for_each(|reply| reply.send(()).expect("the caller waits"));
        }
    });
    join(callers).await;
    consumer.await.expect("the consumer does not panic");
    target.check(load.ops);
}
