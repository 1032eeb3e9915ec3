//! A process of a test, on any engine whose ledger is in PostgreSQL: the module above has its `Place` and its `Engine`.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use roundlot::{
    Batch, Limits, Retry, Settled, Sink, SinkError, Stages,
    durable::{Durable, JoinError, Joined, Stats, Term},
    sink::Guarantee,
};
use tokio_postgres::Transaction;

use super::{Engine, Place};

/// Waits until something is true.
pub(super) async fn until(mut is_true: impl FnMut() -> bool) {
    for _ in 0..6000 {
        if is_true() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never true")
}

/// Inserts each op with the term that did so, in a transaction of the log, and runs SQL of the test with the first.
#[derive(Clone)]
pub(super) struct Rows {
    pub(super) term: Term,
    pub(super) sql: Arc<Mutex<Option<String>>>,
}

impl Sink<i64, i64> for Rows {
    async fn write(&self, batch: &mut Batch<i64, i64>) -> Result<Settled, SinkError> {
        let sql = self.sql.lock().unwrap().take();
        let (shard, epoch) = (i32::from(self.term.shard()), self.term.epoch() as i64);
        let work = async |transaction: &mut Transaction<'_>, batch: &mut Batch<i64, i64>| {
            let ops: Vec<i64> = batch.pending().copied().collect();
            let insert = "INSERT INTO landed (op, shard, epoch) SELECT unnest($1::bigint[]), $2, $3";
            transaction.execute(insert, &[&ops, &shard, &epoch]).await?;
            if let Some(sql) = &sql {
                transaction.batch_execute(sql).await.map_err(|error| SinkError::transient(error.to_string()))?;
            }
            Ok(batch.accept_all_with(|_, op| op * 10))
        };
        self.term.postgres(batch, work).await
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::Transactional
    }
}

pub(super) async fn try_join(engine: Engine, shards: u16, sql: Option<&str>) -> Result<Joined<i64, i64>, JoinError> {
    let sql = Arc::new(Mutex::new(sql.map(str::to_owned)));
    Durable::new("orders", engine)
        .stages(|| Stages::new().partition_by(|op: &i64| op % 16))
        .shards(shards, |key: &i64| key.to_le_bytes())
        .limits(Limits::new(100))
        .retry(Retry::exponential(Duration::from_millis(1), Duration::from_millis(2)))
        .transaction_timeout(Duration::from_secs(2))
        .append_timeout(Duration::from_secs(60))
        .sink(move |term| Rows { term, sql: Arc::clone(&sql) })
        .join()
        .await
}

pub(super) async fn join(place: &Place, shards: u16) -> Joined<i64, i64> {
    try_join(place.engine(), shards, None).await.unwrap()
}

pub(super) fn conserved(stats: &Stats) {
    let came = stats.accepted + stats.recovered + stats.received;
    let went = stats.outcomes.total() + stats.repeats + stats.handed_over + stats.waiting + stats.in_flight;
    assert_eq!(came, went, "{stats:?}");
}

/// A process in a runtime of its own, which dies when that is dropped: nothing of it runs on, and its sessions end without a word.
pub(super) struct Node {
    pub(super) runtime: Option<tokio::runtime::Runtime>,
    pub(super) joined: Option<Joined<i64, i64>>,
}

impl Node {
    pub(super) async fn start(place: &Place, shards: u16) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let engine = place.engine();
        let joined = runtime.spawn(async move { try_join(engine, shards, None).await.unwrap() }).await.unwrap();
        Self { runtime: Some(runtime), joined: Some(joined) }
    }

    pub(super) fn joined(&self) -> &Joined<i64, i64> {
        self.joined.as_ref().unwrap()
    }

    pub(super) fn leading(&self) -> u64 {
        self.joined().stats().leading
    }

    pub(super) fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        drop(self.joined.take());
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}
