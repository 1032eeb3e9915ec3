//! roundlot: a durable batcher on a file, with its leader and a sink that accepts all at once.

use std::{sync::Arc, time::Duration};

use roundlot::{
    Batch, Limits, Settled, Sink, SinkError,
    durable::{Durable, File, Handle, Joined, Term},
    sink::Guarantee,
};

use super::{CHUNK, Order, SENDERS, Watch, confirm, file, open, runtime, warm};
use crate::Error;

const FILE: &str = "log.db";

/// The limits of all runs: batches of up to four chunks.
pub(super) fn limits() -> Limits {
    Limits::new(4 * CHUNK as usize)
}

/// Accepts all ops, with a receipt of its own each, and writes nothing: in a transaction of the log, or, as a sink that is neither
/// transactional nor idempotent, by itself.
#[derive(Debug, Clone)]
pub(super) struct Receipts {
    pub(super) term: Term,
    pub(super) guarantee: Guarantee,
}

impl Sink<Order, u64> for Receipts {
    async fn write(&self, batch: &mut Batch<Order, u64>) -> Result<Settled, SinkError> {
        let accept = |batch: &mut Batch<Order, u64>| Ok(batch.accept_all_with(|_, order| order.id));
        match self.guarantee {
            Guarantee::Transactional => self.term.transaction(batch, move |_, batch| accept(batch)).await,
            _ => accept(batch),
        }
    }

    fn guarantee(&self) -> Guarantee {
        self.guarantee
    }
}

pub(super) async fn join(guarantee: Guarantee) -> Result<Joined<Order, u64>, Error> {
    let path = file(FILE)?;
    let sink = move |term| Receipts { term, guarantee };
    let joined = Durable::new("bench", File::at(&path)).limits(limits()).sink(sink).join().await?;
    warm(&path)?;
    Ok(joined)
}

/// Senders with one op outstanding each.
pub(super) fn send(time: Duration) -> Result<Vec<f64>, Error> {
    runtime(2)?.block_on(async {
        let joined = join(Guarantee::Transactional).await?;
        let watch = Arc::new(Watch::start(time));
        let senders = (0..SENDERS).map(|sender| {
            let (desk, watch) = (joined.handle(), Arc::clone(&watch));
            tokio::spawn(async move {
                let mut id = sender << 32;
                while !watch.is_over() {
                    desk.send(Order::numbered(id)).await?;
                    confirm(1);
                    id += 1;
                }
                Ok::<_, Error>(())
            })
        });
        for sender in senders.collect::<Vec<_>>() {
            sender.await??;
        }
        let results = settle(watch, &joined.handle()).await?;
        joined.leave().await?;
        Ok(results)
    })
}

/// One caller: one call for all ops, of which each chunk is confirmed by itself, or a call for each chunk.
pub(super) fn send_all(time: Duration, is_one_call: bool) -> Result<Vec<f64>, Error> {
    runtime(2)?.block_on(async {
        let joined = join(Guarantee::Transactional).await?;
        let watch = Arc::new(Watch::start(time));
        let (desk, running) = (joined.handle(), Arc::clone(&watch));
        let sending = tokio::spawn(async move {
            let mut next = 0;
            if is_one_call {
                desk.send_all(std::iter::from_fn(|| {
                    // A chunk is taken when all before the one before it are in the log.
                    if next % CHUNK == 0 {
                        confirm(if next >= 2 * CHUNK { CHUNK } else { 0 });
                    }
                    let goes_on = next % CHUNK != 0 || next < 3 * CHUNK || !running.is_over();
                    next += u64::from(goes_on);
                    goes_on.then(|| Order::numbered(next - 1))
                }))
                .await?;
                confirm(next.min(CHUNK));
            } else {
                while !running.is_over() {
                    desk.send_all((next..next + CHUNK).map(Order::numbered)).await?;
                    confirm(CHUNK);
                    next += CHUNK;
                }
            }
            Ok::<_, Error>(())
        });
        sending.await??;
        let results = settle(watch, &joined.handle()).await?;
        joined.leave().await?;
        Ok(results)
    })
}

/// Waits until all ops are settled, and checks that all were delivered.
async fn settle(watch: Arc<Watch>, desk: &Handle<Order, u64>) -> Result<Vec<f64>, Error> {
    let mut watch = Arc::into_inner(watch).ok_or("a sender still runs")?;
    watch.accepted();
    desk.flush().await?;
    let results = watch.stop();
    let delivered = desk.stats().outcomes.delivered as f64;
    if results[0] == delivered { Ok(results) } else { Err(format!("{delivered} of {} delivered", results[0]).into()) }
}

/// Counts the ops in the log of a job that was killed: those that wait, and those that have ended.
pub(super) fn find() -> Result<Vec<f64>, Error> {
    let sum = "SELECT coalesce(sum(waiting + ended), 0) FROM roundlot_summary";
    let count: i64 = open(&file(FILE)?)?.query_row(sum, [], |row| row.get(0))?;
    Ok(vec![count as f64])
}
