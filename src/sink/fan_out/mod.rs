//! [`FanOut`], two sinks written one after the other. An op is accepted only if both accepted it. [`Sink::fan_out`]
//! makes it.

#[cfg(test)]
mod tests;

use std::mem;

use super::{ErrorKind, Sink, SinkError};
use crate::rules::batch::{Batch, Settled, verdicts::Verdict};

/// Writes to one sink, and what it accepted to a second; made by [`Sink::fan_out`].
///
/// * The first sink borrows the batch as it is. Ops that it fails keep that verdict, and the second never sees them.
/// * The second sink borrows the same batch with the accepted ops pending again. Without any it is not called.
/// * An op that both accepted has the receipt of the first; that of the second is dropped.
/// * An op that the first accepted and the second did not is [`Ambiguous`](ErrorKind::Ambiguous), whatever error the
///   second gave, because part of it has landed. A retry is safe only where writing twice is.
///
/// The sinks are written one after the other, since the second must not take what the first refuses. Put first the one
/// whose answer counts. For a copy whose fate does not matter, write a sink that ignores its errors.
///
/// # Cancel safety
///
/// A write that is dropped, or panics, during the first sink's write leaves what that had accepted ambiguous, since the
/// second was never asked. During the second's write: what it had accepted by then is accepted, the rest in doubt.
///
/// # Errors
///
/// Returns the first sink's error if it fails as a whole and accepts nothing, and the second's error if that fails as a
/// whole. An error about the destination is returned even if a sink gave it for one op, since the batcher must learn of
/// it. These are a newer leader, a peer that has left, an outage, a pause. No op takes its verdict from such an error.
/// If there are several, the first in this list counts, and a longer pause before a shorter one.
///
/// An op that the first accepted remains [`Ambiguous`](ErrorKind::Ambiguous) when the second is away; the error is then
/// also an [outage](SinkError::is_outage).
///
/// # Examples
///
/// ```
/// use roundlot::{Batch, Sink, SinkError, sink_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let venue = sink_fn(|batch: &mut Batch<&str, u64>| {
///     Box::pin(async move { Ok(batch.accept_all_with(|i, _| 100 + i as u64)) })
/// });
/// let journal = sink_fn(|_| Box::pin(async move { Err(SinkError::transient("disk is full")) }));
/// let sink = venue.fan_out(journal);
///
/// // The caller of an order hears "may or may not have been written: the first sink took it, the second did not: ..".
/// # let mut batch = Batch::for_test(vec!["buy"]);
/// # assert!(sink.write(&mut batch).await.is_err());
/// # assert_eq!(
/// #     batch.verdict(0).unwrap().unwrap_err().chain(),
/// #     "may or may not have been written: the first sink took it, the second did not: not written for now: disk is full",
/// # );
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct FanOut<A, B> {
    first: A,
    second: B,
}

impl<A, B> FanOut<A, B> {
    pub(crate) fn new(first: A, second: B) -> Self {
        Self { first, second }
    }
}

impl<T, R, A, B> Sink<T, R> for FanOut<A, B>
where
    A: Sink<T, R>,
    B: Sink<T, R>,
    T: Send,
    R: Send,
{
    async fn write(&self, batch: &mut Batch<T, R>) -> Result<Settled, SinkError> {
        let open = batch.pending_indexes().collect();
        let mut both = Both { batch, open, taken: None };
        let answer = self.first.write(both.batch).await;
        if !both.put_receipts_aside(&answer) {
            return answer;
        }
        let first = answer.err().filter(|error| weight(error) > 0);
        let answer = self.second.write(both.batch).await.err();
        let signal = both.combine(answer.as_ref());
        match [answer, signal, first].into_iter().fold(None, stronger) {
            Some(error) => Err(error),
            None => both.batch.settled(),
        }
    }

    async fn close(&self) -> Result<(), SinkError> {
        // Closes both, also after an error of the first: an open connection is worse than a lost second error.
        let first = self.first.close().await;
        let second = self.second.close().await;
        first.and(second)
    }

    /// The page of the first sink, or of the second if only that has one.
    fn page(&self) -> Option<usize> {
        self.first.page().or_else(|| self.second.page())
    }

    /// Both must accept an op, so one that is gone is enough.
    async fn gone(&self) -> SinkError {
        tokio::select! {
            error = self.first.gone() => error,
            error = self.second.gone() => error,
        }
    }
}

/// The batch while two sinks write it. A write may be dropped or panic at any await, and must not leave "accepted" when
/// only the first sink has accepted; `Drop` corrects that.
struct Both<'a, T, R> {
    batch: &'a mut Batch<T, R>,
    /// Indexes of the ops without a verdict before the first write; no other op is touched.
    open: Vec<usize>,
    /// Indexes of the ops that the first sink accepted, with its receipts; `None` while it writes.
    taken: Option<Vec<(usize, R)>>,
}

impl<T, R> Both<'_, T, R> {
    /// Makes the ops accepted by the first sink pending for the second. Returns false if there are none.
    fn put_receipts_aside(&mut self, answer: &Result<Settled, SinkError>) -> bool {
        let verdicts = self.batch.verdicts_mut();
        let accepted = |&i: &usize| matches!(verdicts[i], Verdict::Accepted(_));
        if !self.open.iter().any(accepted) {
            self.taken = Some(Vec::new());
            return false;
        }
        let mut taken = Vec::with_capacity(self.open.len());
        for &i in &self.open {
            match mem::replace(&mut verdicts[i], Verdict::Pending) {
                Verdict::Accepted(receipt) => taken.push((i, receipt)),
                failed @ (Verdict::Failed(_) | Verdict::Again(_)) => verdicts[i] = failed,
                // An op that the first sink left open must not go to the second, even if the first returned `Ok`.
                Verdict::Pending => verdicts[i] = Verdict::Failed(unanswered(answer)),
            }
        }
        self.taken = Some(taken);
        true
    }

    /// Gives the ops accepted by both their receipts, and makes those accepted by the first alone ambiguous. `rest` is
    /// the second sink's error for ops without a verdict. Returns an error that concerns more than its op.
    fn combine(&mut self, rest: Option<&SinkError>) -> Option<SinkError> {
        let verdicts = self.batch.verdicts_mut();
        let mut signal = None;
        for (i, receipt) in self.taken.iter_mut().flat_map(|taken| taken.drain(..)) {
            let verdict = &mut verdicts[i];
            match mem::replace(verdict, Verdict::Pending) {
                Verdict::Accepted(_) => *verdict = Verdict::Accepted(receipt),
                Verdict::Failed(error) | Verdict::Again(error) => {
                    if weight(&error) > 0 {
                        signal = stronger(signal, Some(error.clone()));
                    }
                    *verdict = Verdict::Failed(half_written(error));
                }
                Verdict::Pending => {
                    if let Some(error) = rest {
                        *verdict = Verdict::Failed(half_written(error.clone()));
                    }
                }
            }
        }
        signal
    }
}

impl<T, R> Drop for Both<'_, T, R> {
    fn drop(&mut self) {
        if self.taken.is_some() {
            // Does something only if the second write was cut off.
            self.combine(None);
            return;
        }
        let verdicts = self.batch.verdicts_mut();
        for &i in &self.open {
            if matches!(verdicts[i], Verdict::Accepted(_)) {
                verdicts[i] = Verdict::Failed(SinkError::ambiguous("the first sink took it, the second was not asked"));
            }
        }
    }
}

fn unanswered(answer: &Result<Settled, SinkError>) -> SinkError {
    match answer {
        Err(error) => error.clone(),
        Ok(_) => SinkError::ambiguous("the first sink gave it no verdict"),
    }
}

fn half_written(source: SinkError) -> SinkError {
    if source.is_outage() {
        SinkError::connection_lost(HalfWritten { source })
    } else {
        SinkError::ambiguous(HalfWritten { source })
    }
}

/// Rank of an error about the destination as a whole. Zero: it concerns its op only.
fn weight(error: &SinkError) -> u8 {
    match error.kind() {
        ErrorKind::Fenced => 4,
        ErrorKind::Closed => 3,
        _ if error.is_outage() => 2,
        ErrorKind::Throttled { .. } => 1,
        _ => 0,
    }
}

/// Returns the error with the higher rank; the present one on a tie.
fn stronger(one: Option<SinkError>, other: Option<SinkError>) -> Option<SinkError> {
    let (Some(a), Some(b)) = (&one, &other) else { return one.or(other) };
    let is_longer = match (a.kind(), b.kind()) {
        (ErrorKind::Throttled { retry_after: a }, ErrorKind::Throttled { retry_after: b }) => b > a,
        _ => weight(b) > weight(a),
    };
    if is_longer { other } else { one }
}

#[derive(Debug, thiserror::Error)]
#[error("the first sink took it, the second did not")]
struct HalfWritten {
    source: SinkError,
}
