//! [`Batch`]: what a sink is lent: the ops of one cut, a place for the verdict on each, and why it was cut.

pub(crate) mod error;
mod recorded;
mod status;
#[cfg(feature = "durable")]
mod ticket;
pub(crate) mod verdicts;

use std::{fmt, ops::Index};

use serde::{Deserialize, Serialize};

pub use error::{ErrorKind, SinkError};
#[cfg(feature = "durable")]
use ticket::Ticket;

use crate::rules::{
    batch::verdicts::{Verdict, Verdicts},
    quota::{QuotaReport, Reports},
};

/// A batch of ops on its way to a [`Sink`](crate::Sink), with a verdict for each.
///
/// It is never empty, never mixes two partitions and never exceeds the [`Limits`](crate::Limits). Its ops stand in
/// the order in which they are meant to land. A sink writes what is [`pending`](Self::pending) and answers.
///
/// # Examples
///
/// A sink for an exchange that answers each order by itself:
///
/// ```
/// use roundlot::{Batch, Settled, Sink, SinkError};
///
/// struct Order { quantity: u32 }
/// struct Venue;
///
/// impl Sink<Order, u64> for Venue {
///     async fn write(&self, batch: &mut Batch<Order, u64>) -> Result<Settled, SinkError> {
///         let mut next_id = 1000;
///         Ok(batch.settle_each(|order| match order.quantity {
///             0 => Err(SinkError::refused("quantity is zero")),
///             _ => {
///                 next_id += 1;
///                 Ok(next_id)
///             }
///         }))
///     }
/// }
/// ```
pub struct Batch<T, R = ()> {
    ops: Vec<T>,
    verdicts: Verdicts<R>,
    cut_by: CutBy,
    attempt: u32,
    reports: Reports,
    #[cfg(feature = "durable")]
    ticket: Option<Ticket>,
}

/// Proof that every op of a batch has its verdict. Only the batch makes one: [`Batch::accept_all`],
/// [`Batch::accept_all_with`], [`Batch::settle_each`] and [`Batch::settled`].
#[derive(Debug)]
#[must_use = "return it from `Sink::write`"]
pub struct Settled(());

/// Why a batch was cut when it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CutBy {
    /// The partition reached `max_items` or `max_weight`.
    Full,
    /// Its oldest op had waited for the linger; with a linger of zero, a slot was free.
    Linger,
    /// An op in it must not wait.
    Urgent,
    /// A caller asked for a flush.
    Flush,
    /// The buffer as a whole was full.
    Pressure,
    /// Another partition was due, and they leave together.
    Together,
    /// Its ops have been tried before and their backoff is over, or it is a part of a batch that was split.
    Retry,
    /// The batcher is shutting down, or the stream has ended.
    Close,
}

impl CutBy {
    pub(crate) const ALL: [Self; 8] =
        [Self::Full, Self::Linger, Self::Urgent, Self::Flush, Self::Pressure, Self::Together, Self::Retry, Self::Close];

    /// The name used in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Linger => "linger",
            Self::Urgent => "urgent",
            Self::Flush => "flush",
            Self::Pressure => "pressure",
            Self::Together => "together",
            Self::Retry => "retry",
            Self::Close => "close",
        }
    }
}

impl fmt::Display for CutBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl<T, R> Batch<T, R> {
    pub(crate) fn new(ops: Vec<T>, cut_by: CutBy, attempt: u32) -> Self {
        Self {
            ops,
            verdicts: Verdicts::default(),
            cut_by,
            attempt,
            reports: Reports::default(),
            #[cfg(feature = "durable")]
            ticket: None,
        }
    }

    /// Makes another batch of this one, in the same memory. Its ops are put in and taken out by [`parts`](Self::parts).
    pub(crate) fn renew(&mut self, cut_by: CutBy, attempt: u32) {
        self.verdicts.clear();
        (self.cut_by, self.attempt) = (cut_by, attempt);
        #[cfg(feature = "durable")]
        {
            self.ticket = None;
        }
    }

    pub(crate) fn parts(&mut self) -> (&mut Vec<T>, &mut Verdicts<R>) {
        (&mut self.ops, &mut self.verdicts)
    }

    /// Reports of the sink on the quota.
    pub(crate) fn reports(&mut self) -> &mut Reports {
        &mut self.reports
    }

    /// Room for how many ops it has.
    pub(crate) fn capacity(&self) -> usize {
        self.ops.capacity()
    }

    /// How many ops it holds, with and without a verdict.
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Whether it holds no ops. A batch that a sink is lent always holds some.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// All ops, with and without a verdict. What to write is [`pending`](Self::pending): behind a
    /// [`fan_out`](crate::Sink::fan_out) some have one already.
    pub fn ops(&self) -> &[T] {
        &self.ops
    }

    /// Iterates over all ops, with and without a verdict.
    pub fn iter(&self) -> std::slice::Iter<'_, T> {
        self.ops.iter()
    }

    /// The ops that have no verdict yet: what a sink is to write.
    pub fn pending(&self) -> Pending<'_, T, R> {
        Pending { batch: self, next: 0 }
    }

    /// The indexes of the ops that have no verdict yet, as of now. It borrows nothing, so that verdicts can be given while it
    /// is walked through.
    ///
    /// ```
    /// # use roundlot::{Batch, Settled, SinkError};
    /// fn refuse_odd_ones(batch: &mut Batch<u32>) -> Settled {
    ///     for i in batch.pending_indexes() {
    ///         if batch[i] % 2 == 1 {
    ///             batch.refuse(i, SinkError::refused("odd"));
    ///         }
    ///     }
    ///     batch.accept_all()
    /// }
    /// ```
    pub fn pending_indexes(&self) -> impl ExactSizeIterator<Item = usize> + use<T, R> {
        let open: Vec<usize> = (0..self.len()).filter(|i| self.verdicts.is_pending(*i)).collect();
        open.into_iter()
    }

    /// Why it was cut.
    pub fn cut_by(&self) -> CutBy {
        self.cut_by
    }

    /// Which attempt this is for the op in it that was tried most often; the first is 1.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Reports what the venue said about its limits, for the [`Quota`](crate::Quota) of the batcher. Without one it is ignored.
    pub fn quota(&mut self) -> QuotaReport<'_> {
        QuotaReport::new(&mut self.reports)
    }

    /// Gives op `i` its receipt: it has landed.
    ///
    /// The first verdict on an op stands; a later one changes nothing.
    ///
    /// # Panics
    ///
    /// If there is no op `i`.
    pub fn accept(&mut self, i: usize, receipt: R) {
        self.answer(i, Verdict::Accepted(receipt));
    }

    /// Fails op `i` for good, unless the error's kind says otherwise.
    ///
    /// # Panics
    ///
    /// If there is no op `i`.
    pub fn refuse(&mut self, i: usize, error: impl Into<SinkError>) {
        self.answer(i, Verdict::Failed(error.into()));
    }

    /// Fails op `i` for now: it goes back into the buffer, whatever the error's kind. One that is
    /// [`Ambiguous`](crate::ErrorKind::Ambiguous) still counts as an attempt that may have landed.
    ///
    /// # Panics
    ///
    /// If there is no op `i`.
    pub fn retry(&mut self, i: usize, error: impl Into<SinkError>) {
        self.answer(i, Verdict::Again(error.into()));
    }

    /// Accepts every op that has no verdict yet, with the default receipt.
    pub fn accept_all(&mut self) -> Settled
    where
        R: Default,
    {
        self.accept_all_with(|_, _| R::default())
    }

    /// Accepts every op that has no verdict yet, with the receipt that `receipt` makes from its index and itself.
    pub fn accept_all_with(&mut self, mut receipt: impl FnMut(usize, &T) -> R) -> Settled {
        self.verdicts.accept_all(self.ops.len(), |i| receipt(i, &self.ops[i]));
        Settled(())
    }

    /// Gives every op that has no verdict yet the one that `verdict` returns for it: a receipt, or an error as in
    /// [`refuse`](Self::refuse).
    pub fn settle_each(&mut self, mut verdict: impl FnMut(&T) -> Result<R, SinkError>) -> Settled {
        for i in 0..self.len() {
            if self.verdicts.is_pending(i) {
                let answer = verdict(&self.ops[i]).map_or_else(Verdict::Failed, Verdict::Accepted);
                self.verdicts.give(i, self.ops.len(), answer);
            }
        }
        Settled(())
    }

    /// The proof that each op has its verdict.
    ///
    /// # Errors
    ///
    /// An [`Ambiguous`](crate::ErrorKind::Ambiguous) error if one has none: what became of it is unknown.
    pub fn settled(&self) -> Result<Settled, SinkError> {
        match (0..self.len()).find(|i| self.verdicts.is_pending(*i)) {
            None => Ok(Settled(())),
            Some(i) => Err(SinkError::ambiguous(format!("the sink gave op {i} of {} no verdict", self.len()))),
        }
    }

    fn answer(&mut self, i: usize, answer: Verdict<R>) {
        self.verdicts.give(i, self.ops.len(), answer);
    }

    /// The errors among the verdicts.
    pub(crate) fn errors(&self) -> impl Iterator<Item = &SinkError> {
        self.verdicts.errors()
    }

    /// Verdicts as they stand, for sinks that are made of others.
    pub(crate) fn verdicts_mut(&mut self) -> &mut [Verdict<R>] {
        self.verdicts.list(self.ops.len())
    }
}

#[cfg(any(test, feature = "testing"))]
impl<T, R> Batch<T, R> {
    /// A batch made by hand, to test a sink without a batcher.
    pub fn for_test(ops: Vec<T>) -> Self {
        Self::new(ops, CutBy::Flush, 1)
    }

    /// The verdict on op `i`: the receipt, the error, or `None` if there is none yet.
    ///
    /// # Panics
    ///
    /// If there is no op `i`.
    pub fn verdict(&self, i: usize) -> Option<Result<&R, &SinkError>> {
        assert!(i < self.len(), "there is no op {i}");
        self.verdicts.get(i)
    }
}

impl<T, R> Index<usize> for Batch<T, R> {
    type Output = T;

    fn index(&self, i: usize) -> &T {
        &self.ops[i]
    }
}

impl<'a, T, R> IntoIterator for &'a Batch<T, R> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// The payload is never printed: it may be secret and is often long.
impl<T, R> fmt::Debug for Batch<T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("len", &self.len())
            .field("cut_by", &self.cut_by)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}

/// Iterator over the ops of a [`Batch`] that have no verdict yet; made by [`Batch::pending`].
#[derive(Debug)]
pub struct Pending<'a, T, R = ()> {
    batch: &'a Batch<T, R>,
    next: usize,
}

impl<'a, T, R> Pending<'a, T, R> {
    /// The same ops once more, from where this iterator stands.
    pub fn iter(&self) -> Self {
        self.clone()
    }

    /// Whether every op has its verdict.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies of the ops.
    pub fn to_vec(&self) -> Vec<T>
    where
        T: Clone,
    {
        self.iter().cloned().collect()
    }

    /// The same ops, each with its index in the batch, which is what a verdict is given by.
    pub fn indexed(mut self) -> impl Iterator<Item = (usize, &'a T)> {
        std::iter::from_fn(move || self.advance())
    }

    fn advance(&mut self) -> Option<(usize, &'a T)> {
        let i = (self.next..self.batch.len()).find(|i| self.batch.verdicts.is_pending(*i))?;
        self.next = i + 1;
        Some((i, &self.batch.ops[i]))
    }
}

impl<'a, T, R> Iterator for Pending<'a, T, R> {
    type Item = &'a T;

    fn next(&mut self) -> Option<&'a T> {
        self.advance().map(|(_, op)| op)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let count = (self.next..self.batch.len()).filter(|i| self.batch.verdicts.is_pending(*i)).count();
        (count, Some(count))
    }
}

impl<T, R> ExactSizeIterator for Pending<'_, T, R> {}

impl<T, R> Clone for Pending<'_, T, R> {
    fn clone(&self) -> Self {
        Self { batch: self.batch, next: self.next }
    }
}
