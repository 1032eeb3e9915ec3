//! The shards of the log that this process leads. [`Shards`] learns of a term by the sink that is made for it, [`OfTerm`]: `batchers`
//! makes the sinks, and `territory` asks before each decision.
//!
//! Invariant: a shard is given up when no decision of this process about its symbols is on its way into the log. The next leader so
//! finds all of them there. The wait for that ends after [`LAST_DECISION`].

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use roundlot::{Batch, Settled, Sink, SinkError, durable::Term, market::TradeOp, sink::Guarantee};
use tokio::time::timeout;

use super::venue::{Venue, VenueOrderId};

/// Maximum time for which a shard is kept until the last decision is in the log: many times what a commit takes. Only a log without
/// room, or a venue that hangs, makes the wait this long.
const LAST_DECISION: Duration = Duration::from_secs(1);

/// The shards that this process leads. A clone is the same.
#[derive(Clone, Default)]
pub struct Shards {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    led: Mutex<BTreeMap<u16, Led>>,
    /// Lock that the trader holds while it decides and hands in, so that the end of a term can wait for it.
    deciding: tokio::sync::Mutex<()>,
}

/// A shard in a term of this process.
#[derive(Clone)]
pub struct Led {
    /// The number of the term, which grows from term to term over all processes.
    pub term: u64,
    /// The venue in the lane of the shard. Its session begins with the term.
    pub venue: Venue,
}

impl Shards {
    /// Returns the one shard of a bot without a log, which it leads as long as it runs.
    pub fn without_log(venue: &Venue) -> Self {
        let shards = Self::default();
        shards.led().insert(0, Led { term: 1, venue: venue.clone() });
        shards
    }

    /// Notes that a term begins, and returns its sink.
    pub fn begin<S>(&self, term: &Term, venue: Venue, sink: S) -> OfTerm<S> {
        let (shard, term) = (term.shard(), term.epoch());
        self.led().insert(shard, Led { term, venue });
        OfTerm { inner: sink, shards: self.clone(), shard, term }
    }

    /// Returns the shards that this process leads now.
    pub fn current(&self) -> BTreeMap<u16, Led> {
        self.led().clone()
    }

    /// Keeps shards from being given up, while the guard lives. What is [`current`](Self::current) may be decided on.
    pub async fn deciding(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.shared.deciding.lock().await
    }

    /// Gives a shard up, and waits for the decision that is on its way.
    async fn end(&self, shard: u16, term: u64) {
        self.remove(shard, term);
        if timeout(LAST_DECISION, self.deciding()).await.is_err() {
            tracing::warn!(shard, "a shard is given up while a decision on it may be on its way into the log");
        }
    }

    fn remove(&self, shard: u16, term: u64) {
        let mut led = self.led();
        if led.get(&shard).is_some_and(|led| led.term == term) {
            led.remove(&shard);
        }
    }

    fn led(&self) -> MutexGuard<'_, BTreeMap<u16, Led>> {
        self.shared.led.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sink of a term. When it is closed, the term has ended.
pub struct OfTerm<S> {
    inner: S,
    shards: Shards,
    shard: u16,
    term: u64,
}

impl<S: Sink<TradeOp, VenueOrderId>> Sink<TradeOp, VenueOrderId> for OfTerm<S> {
    async fn write(&self, batch: &mut Batch<TradeOp, VenueOrderId>) -> Result<Settled, SinkError> {
        self.inner.write(batch).await
    }

    async fn close(&self) -> Result<(), SinkError> {
        self.shards.end(self.shard, self.term).await;
        self.inner.close().await
    }

    fn guarantee(&self) -> Guarantee {
        self.inner.guarantee()
    }

    async fn reconcile(&self, batch: &mut Batch<TradeOp, VenueOrderId>) -> Result<(), SinkError> {
        self.inner.reconcile(batch).await
    }
}

/// A sink that is dropped without a close has ended, too.
impl<S> Drop for OfTerm<S> {
    fn drop(&mut self) {
        self.shards.remove(self.shard, self.term);
    }
}
