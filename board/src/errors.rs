//! Errors of destinations, counted by reason. [`Errors::watch`] wraps a sink so that its failed calls are counted; an app may add others,
//! such as the verdicts of a venue that refuses orders one by one. `sampler` reads the table.
//!
//! Invariant: the table has at most `MAX_REASONS` rows and one more for all later reasons of each batcher.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use roundlot::{Batch, ErrorKind, Settled, Sink, SinkError, sink::Guarantee};
use tokio::time::Instant;

use crate::event::ErrorRow;

/// Maximum number of reasons with a row of their own: what fits a page.
const MAX_REASONS: usize = 24;

/// Maximum length of a reason, in characters: two lines of the table.
const MAX_LENGTH: usize = 120;

/// The reason of the row for those that have none of their own.
const OTHER: &str = "other reasons";

/// Errors of destinations by reason, for the table of the board. A clone shares it. At most 24 reasons have a row of their own.
#[derive(Debug, Clone, Default)]
pub struct Errors {
    table: Arc<Mutex<BTreeMap<Reason, Count>>>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Reason {
    batcher: Arc<str>,
    effect: &'static str,
    text: String,
}

#[derive(Debug)]
struct Count {
    /// Number of ops that met the error, each time counted.
    ops: u64,
    last: Instant,
}

/// A sink whose errors are counted, from [`Errors::watch`].
#[derive(Debug)]
pub struct Observed<S> {
    inner: S,
    batcher: Arc<str>,
    errors: Errors,
}

impl Errors {
    /// Wraps the sink of a batcher, so that each error of a whole write is counted for the ops that have no verdict of their own.
    pub fn watch<S>(&self, batcher: impl Into<Arc<str>>, inner: S) -> Observed<S> {
        Observed { inner, batcher: batcher.into(), errors: self.clone() }
    }

    /// The rows of the table, those with the most ops first.
    pub(crate) fn rows(&self) -> Vec<ErrorRow> {
        let table = self.table();
        let mut rows: Vec<ErrorRow> = table
            .iter()
            .map(|(Reason { batcher, effect, text }, Count { ops, last })| ErrorRow {
                batcher: batcher.to_string(),
                effect,
                reason: text.clone(),
                ops: *ops,
                seconds_ago: last.elapsed().as_secs(),
            })
            .collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.ops));
        rows
    }

    /// Counts ops of a batcher that met an error with this effect on them, such as "refused".
    pub fn add(&self, batcher: impl Into<Arc<str>>, effect: &'static str, reason: &dyn std::error::Error, ops: u64) {
        let text = reason.to_string().chars().take(MAX_LENGTH).collect();
        let mut reason = Reason { batcher: batcher.into(), effect, text };
        let mut table = self.table();
        if table.len() >= MAX_REASONS && !table.contains_key(&reason) {
            reason = Reason { effect: "", text: OTHER.to_owned(), ..reason };
        }
        let count = table.entry(reason).or_insert(Count { ops: 0, last: Instant::now() });
        (count.ops, count.last) = (count.ops + ops, Instant::now());
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<Reason, Count>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Names the effect of an error on an op.
fn effect(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Transient => "tried again",
        ErrorKind::Throttled { .. } => "throttled",
        ErrorKind::Outage => "outage",
        ErrorKind::Ambiguous => "may have landed",
        ErrorKind::Refused => "refused",
        ErrorKind::TooLarge => "too large",
        _ => "lost",
    }
}

impl<T, R, S> Sink<T, R> for Observed<S>
where
    T: Send + 'static,
    R: Send + 'static,
    S: Sink<T, R>,
{
    async fn write(&self, batch: &mut Batch<T, R>) -> Result<Settled, SinkError> {
        let written = self.inner.write(batch).await;
        if let Err(error) = &written {
            // The error is the verdict of the ops that have none of their own.
            let ops = batch.pending_indexes().len() as u64;
            let batcher = Arc::clone(&self.batcher);
            self.errors.add(batcher, effect(error.kind()), error.source().unwrap_or(error), ops);
        }
        written
    }

    async fn close(&self) -> Result<(), SinkError> {
        self.inner.close().await
    }

    fn page(&self) -> Option<usize> {
        self.inner.page()
    }

    fn guarantee(&self) -> Guarantee {
        self.inner.guarantee()
    }

    async fn reconcile(&self, batch: &mut Batch<T, R>) -> Result<(), SinkError> {
        self.inner.reconcile(batch).await
    }
}

#[cfg(test)]
mod tests {
    use roundlot::sink_fn;

    use super::*;

    /// Writes a batch of three ops to a sink that refuses the first of them, and then fails as a whole.
    async fn write(errors: &Errors, reason: &'static str) {
        let sink = sink_fn(move |batch: &mut Batch<u8>| {
            Box::pin(async move {
                batch.refuse(0, SinkError::refused("margin"));
                Err(SinkError::transient(reason))
            })
        });
        let sink = errors.watch("orders", sink);
        assert!(sink.write(&mut Batch::for_test(vec![0, 1, 2])).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn each_op_without_a_verdict_counts_under_the_reason_of_the_call() {
        let errors = Errors::default();
        for reason in ["busy", "slow", "busy"] {
            write(&errors, reason).await;
        }
        tokio::time::advance(std::time::Duration::from_secs(7)).await;
        let rows = errors.rows();
        let said: Vec<_> = rows.iter().map(|row| (row.effect, row.reason.as_str(), row.ops, row.seconds_ago)).collect();
        assert_eq!(said, [("tried again", "busy", 4, 7), ("tried again", "slow", 2, 7)]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_table_is_bounded_and_loses_no_count() {
        let errors = Errors::default();
        for i in 0..100 {
            let reason = SinkError::refused(format!("{i}{}", "x".repeat(1000)));
            errors.add("orders", "refused", reason.source().unwrap(), 1);
        }
        let rows = errors.rows();
        assert_eq!(rows.len(), MAX_REASONS + 1);
        assert_eq!((rows[0].reason.as_str(), rows[0].ops), (OTHER, 100 - MAX_REASONS as u64));
        assert_eq!(rows.iter().map(|row| row.ops).sum::<u64>(), 100);
        assert!(rows.iter().all(|row| row.reason.chars().count() <= MAX_LENGTH));
    }
}
