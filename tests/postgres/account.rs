//! The account of each op of a load: the outcome for its caller, the dead letters, and the rows in the table.

use std::collections::{BTreeMap, BTreeSet};

use roundlot::{AckError, Batch, Batcher, DeadLetter, Limits, Retry, Sink, Stages, Worker, sink_fn};
use tokio::task::JoinSet;

use crate::{Db, Trade, trade};

/// The outcomes that the callers were told, by id.
#[derive(Debug, Default)]
pub(crate) struct Account {
    pub(crate) delivered: BTreeSet<i64>,
    pub(crate) refused: BTreeMap<i64, String>,
    pub(crate) in_doubt: BTreeMap<i64, String>,
}

/// A batcher on the sink, with two partitions, two writes at once, and retries that outlast a restart of the server.
pub(crate) fn batcher(sink: impl Sink<Trade>) -> Batcher<Trade, (), impl Sink<Trade>> {
    let ms = std::time::Duration::from_millis;
    Batcher::new(sink)
        .stages(Stages::new().partition_by(|trade: &Trade| trade.id.unwrap_or_default() % 2))
        .limits(Limits::new(100).linger(ms(2)).max_in_flight(2).max_pending(2000))
        .retry(Retry::exponential(ms(20), ms(200)).max_attempts(1000))
}

/// Submits the trades of these ids, and calls `midway` when half of them are handed in. Returns the outcomes.
pub(crate) async fn run<S: Sink<Trade>>(
    batcher: Batcher<Trade, (), S>,
    ids: std::ops::Range<i64>,
    midway: impl AsyncFnOnce(),
) -> Account {
    let letters = sink_fn(|batch: &mut Batch<DeadLetter<Trade>>| Box::pin(async move { Ok(batch.accept_all()) }));
    let (desk, worker): (_, Worker<Trade>) = batcher.dead_letters(letters).spawn();
    let mut answers = JoinSet::new();
    let half = ids.start + (ids.end - ids.start) / 2;
    let mut midway = Some(midway);
    for id in ids {
        let ack = desk.submit(trade(id)).await.unwrap();
        answers.spawn(async move { (id, ack.await) });
        if id == half {
            midway.take().unwrap()().await;
        }
    }
    let mut account = Account::default();
    while let Some(answer) = answers.join_next().await {
        match answer.unwrap() {
            (id, Ok(())) => drop(account.delivered.insert(id)),
            (id, Err(AckError::Refused(error) | AckError::Exhausted(error))) => {
                drop(account.refused.insert(id, error.chain()));
            }
            (id, Err(AckError::InDoubt(error))) => drop(account.in_doubt.insert(id, error.chain())),
            (id, Err(other)) => panic!("{id} ended otherwise: {other}"),
        }
    }
    drop(desk);
    let stats = worker.shutdown().await.unwrap().stats;
    assert_eq!(stats.outcomes.delivered as usize, account.delivered.len());
    assert_eq!(stats.outcomes.in_doubt as usize, account.in_doubt.len());
    account
}

impl Account {
    /// Asserts that every delivered row exists exactly once, every row in doubt at most once, and no other row.
    pub(crate) async fn agrees_with(&self, db: &Db) {
        let mut rows: BTreeMap<i64, usize> = BTreeMap::new();
        for id in db.ids().await {
            *rows.entry(id).or_default() += 1;
        }
        for id in &self.delivered {
            assert_eq!(rows.remove(id), Some(1), "{id} was delivered");
        }
        for (id, why) in &self.in_doubt {
            assert!(rows.remove(id).is_none_or(|times| times == 1), "{id} is in doubt: {why}");
        }
        assert!(rows.is_empty(), "no caller was told of {rows:?}, refused were {:?}", self.refused);
    }
}
