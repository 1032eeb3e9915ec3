//! [`Op`]: an order or a price, and the sink that writes both as rows.

use roundlot::{
    Batch, Settled, Sink, SinkError, Stages,
    durable::{Term, Transaction},
    sink::Guarantee,
    stage,
};
use serde::{Deserialize, Serialize};

/// Symbols that are traded.
pub(crate) const SYMBOLS: u32 = 24;

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Op {
    pub(crate) kind: Kind,
    pub(crate) symbol: u32,
    /// The task that sends it, if it is an order; the node whose feed it is of, if it is a price.
    pub(crate) source: u64,
    /// Rises with each op of a source.
    pub(crate) number: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    /// Is written once, in order with the others of its symbol.
    Order,
    /// Replaces an older price of the same feed and symbol that still waits.
    Price,
}

/// The key under which a price replaces another one. An order has none.
fn price_key(op: &Op) -> Option<(u64, u32)> {
    (op.kind == Kind::Price).then_some((op.source, op.symbol))
}

pub(crate) fn stages() -> Stages<Op> {
    Stages::new().partition_by(|op: &Op| op.symbol).conflate_by(price_key, stage::latest)
}

/// The table that the sink writes. The rows are the destination's journal.
pub(crate) const TABLE: &str = "CREATE TABLE IF NOT EXISTS arrivals \
    (arrival INTEGER PRIMARY KEY, kind TEXT, symbol INTEGER, source INTEGER, number INTEGER, shard INTEGER, epoch INTEGER)";

const INSERT: &str =
    "INSERT INTO arrivals (kind, symbol, source, number, shard, epoch) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";

/// Writes rows in the transaction that settles their ops, so that each arrives once.
pub(crate) struct Rows(pub(crate) Term);

impl Sink<Op> for Rows {
    async fn write(&self, batch: &mut Batch<Op>) -> Result<Settled, SinkError> {
        let (shard, epoch) = (self.0.shard(), self.0.epoch());
        let insert = move |transaction: &mut Transaction<'_>, batch: &mut Batch<Op>| {
            let database = transaction.sqlite()?;
            database.execute(TABLE, [])?;
            let mut insert = database.prepare_cached(INSERT)?;
            for op in batch.pending() {
                let kind = if op.kind == Kind::Order { "order" } else { "price" };
                insert.execute((kind, op.symbol, op.source as i64, op.number as i64, shard, epoch as i64))?;
            }
            Ok(batch.accept_all())
        };
        self.0.transaction(batch, insert).await
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::Transactional
    }
}
