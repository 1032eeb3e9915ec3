//! The shards of the log that this process leads. [`Shards`] learns of a term by the sink that is made for it, [`TermSink`]: `batchers`
//! makes the sinks, and `assignment` asks before each decision.
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

use super::{
    assignment::Summary,
    venue::{Venue, VenueOrderId},
};

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
    /// Takeovers until the last look of `assignment`.
    taken: Mutex<Summary>,
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
    pub fn begin<S>(&self, term: &Term, venue: Venue, sink: S) -> TermSink<S> {
        self.begin_term(term.shard(), term.epoch(), venue, sink)
    }

    fn begin_term<S>(&self, shard: u16, term: u64, venue: Venue, sink: S) -> TermSink<S> {
        self.led().insert(shard, Led { term, venue });
        TermSink { inner: sink, shards: self.clone(), shard, term }
    }

    /// Returns the shards that this process leads now.
    pub fn current(&self) -> BTreeMap<u16, Led> {
        self.led().clone()
    }

    /// Notes what was taken over of them, for a display.
    pub fn note(&self, taken: Summary) {
        *self.shared.taken.lock().unwrap_or_else(PoisonError::into_inner) = taken;
    }

    /// Returns what was taken over until the last decision.
    pub fn taken(&self) -> Summary {
        self.shared.taken.lock().unwrap_or_else(PoisonError::into_inner).clone()
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
pub struct TermSink<S> {
    inner: S,
    shards: Shards,
    shard: u16,
    term: u64,
}

impl<S: Sink<TradeOp, VenueOrderId>> Sink<TradeOp, VenueOrderId> for TermSink<S> {
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
impl<S> Drop for TermSink<S> {
    fn drop(&mut self) {
        self.shards.remove(self.shard, self.term);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use roundlot::testing::Recorder;

    use super::*;
    use crate::bot::{settings, venue::PaperVenue};

    /// Goal: a shard is kept until the decision that is on its way is in the log, but not for ever. Method: a decision that ends, and one
    /// that does not, on a paused clock.
    #[tokio::test(start_paused = true)]
    async fn a_shard_is_given_up_after_the_last_decision() {
        let shards = Shards::default();
        let venue = Venue::from(PaperVenue::new(settings::Venue::reliable_for_test(), 1));
        let begin =
            |term| shards.begin_term(7, term, venue.clone(), Recorder::with_receipts(|_: &TradeOp| VenueOrderId(1)));
        let first = begin(1);
        let deciding = shards.deciding().await;
        assert_eq!(shards.current()[&7].term, 1);
        let mut closing = Box::pin(first.close());
        assert!(closing.as_mut().now_or_never().is_none());
        assert!(shards.current().is_empty(), "the next decision is not about it");
        drop(deciding);
        assert!(closing.now_or_never().is_some());

        let second = begin(2);
        drop(first);
        assert_eq!(shards.current()[&7].term, 2, "the end of an earlier term changes nothing");
        let _endless = shards.deciding().await;
        second.close().await.unwrap();
        let third = begin(3);
        drop(third);
        assert!(shards.current().is_empty(), "a sink that is dropped has ended, too");
    }
}
