//! [`Map`], a sink behind a translation. Ops of type `U` are translated for a sink for `T`, and verdicts move back to
//! the ops they belong to. [`Sink::map`] makes it.

use std::{fmt, marker::PhantomData, mem};

use super::{Guarantee, Sink, SinkError};
use crate::rules::{
    batch::{Batch, Settled, verdicts::Verdict},
    panics,
};

/// A sink for `U` made of a sink for `T`, by [`Sink::map`].
///
/// The ops without a verdict are translated, in order, into an inner batch. The inner sink's verdicts are moved back to
/// the ops they belong to. The ops stay where they are, so a retry translates anew. Receipts pass through unchanged.
///
/// # Cancel safety
///
/// A dropped write keeps the verdicts that the inner sink has given by then; all others are missing, as without the
/// translation.
///
/// # Errors
///
/// As those of the inner sink.
///
/// # Panics
///
/// A panic of the translation refuses that op alone; the rest is written.
///
/// # Examples
///
/// ```
/// use roundlot::{Batch, Sink, sink_fn};
///
/// struct Trade { symbol: &'static str, price: u32 }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let lines = sink_fn(|batch: &mut Batch<String>| {
///     Box::pin(async move {
///         println!("{}", batch.ops().join("\n"));
///         Ok(batch.accept_all())
///     })
/// });
/// let trades = lines.map(|trade: &Trade| format!("{} {}", trade.symbol, trade.price));
/// # let mut batch = Batch::<Trade>::for_test(vec![Trade { symbol: "BTC", price: 7 }]);
/// # assert!(trades.write(&mut batch).await.is_ok());
/// # }
/// ```
#[derive(Clone)]
pub struct Map<S, T, F> {
    inner: S,
    translate: F,
    /// `T` is made by `F` and taken by `S`, and kept by neither, so it asks nothing of `Send` and `Sync`.
    translated: PhantomData<fn() -> T>,
}

impl<S, T, F> Map<S, T, F> {
    pub(crate) fn new(inner: S, translate: F) -> Self {
        Self { inner, translate, translated: PhantomData }
    }
}

impl<U, T, R, S, F> Sink<U, R> for Map<S, T, F>
where
    S: Sink<T, R>,
    F: Fn(&U) -> T + Send + Sync + 'static,
    U: Send,
    T: Send + 'static,
    R: Send,
{
    async fn write(&self, batch: &mut Batch<U, R>) -> Result<Settled, SinkError> {
        let (indexes, ops) = translated(batch, "the translation of an op", &self.translate);
        let inner = Batch::new(ops, batch.cut_by(), batch.attempt());
        let mut loan = Loan { outer: batch, inner, indexes };
        if loan.indexes.is_empty() {
            return loan.outer.settled();
        }
        self.inner.write(&mut loan.inner).await
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

    async fn reconcile(&self, batch: &mut Batch<U, R>) -> Result<(), SinkError> {
        let (indexes, ops) = translated(batch, "the translation of an op", &self.translate);
        let inner = Batch::new(ops, batch.cut_by(), batch.attempt());
        let mut loan = Loan { outer: batch, inner, indexes };
        self.inner.reconcile(&mut loan.inner).await
    }

    async fn gone(&self) -> SinkError {
        self.inner.gone().await
    }
}

/// Translates each op without a verdict; returns results with their indexes. Refuses an op at which the function
/// panics.
pub(super) fn translated<U, T, R>(
    batch: &mut Batch<U, R>,
    what: &str,
    translate: impl Fn(&U) -> T,
) -> (Vec<usize>, Vec<T>) {
    let count = batch.pending().len();
    let (mut indexes, mut made, mut failed) = (Vec::with_capacity(count), Vec::with_capacity(count), Vec::new());
    for (i, op) in batch.pending().indexed() {
        match panics::catch(|| translate(op)) {
            Ok(op) => {
                indexes.push(i);
                made.push(op);
            }
            Err(panic) => failed.push((i, SinkError::panicked(what, &*panic))),
        }
    }
    for (i, error) in failed {
        batch.refuse(i, error);
    }
    (indexes, made)
}

/// Moves the verdicts back on drop, because a write ends in four ways: done, failed, canceled, panicked.
struct Loan<'a, U, T, R> {
    outer: &'a mut Batch<U, R>,
    inner: Batch<T, R>,
    /// Index in `outer` of op `i` of `inner`.
    indexes: Vec<usize>,
}

impl<U, T, R> Drop for Loan<'_, U, T, R> {
    fn drop(&mut self) {
        self.outer.reports().take(self.inner.reports());
        let outer = self.outer.verdicts_mut();
        for (&i, verdict) in self.indexes.iter().zip(self.inner.verdicts_mut()) {
            outer[i] = mem::replace(verdict, Verdict::Pending);
        }
    }
}

impl<S: fmt::Debug, T, F> fmt::Debug for Map<S, T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Map").field("inner", &self.inner).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{rules::batch::CutBy, sink::sink_fn};

    struct Number(u32);

    /// The receipt is the op as the inner sink saw it; what stays without a verdict is `fate`'s.
    fn echo(fate: Result<(), SinkError>) -> impl Sink<String, String> {
        sink_fn(move |batch: &mut Batch<String, String>| {
            let fate = fate.clone();
            Box::pin(async move {
                for i in 0..batch.len() {
                    match &*batch[i].clone() {
                        "bad" => batch.refuse(i, SinkError::refused("bad")),
                        "silent" => {}
                        op => batch.accept(i, op.to_owned()),
                    }
                }
                fate.and_then(|()| batch.settled())
            })
        })
    }

    fn name(number: &Number) -> String {
        match number.0 {
            0 => "bad".to_owned(),
            1 => "silent".to_owned(),
            n => n.to_string(),
        }
    }

    /// Op 0 has a verdict before the write: it must not be translated, and all other ops keep their places.
    #[tokio::test]
    async fn verdicts_come_back_to_the_ops_they_belong_to() {
        let sink = echo(Ok(())).map(name);
        let mut batch = Batch::new(vec![Number(9), Number(0), Number(5)], CutBy::Full, 3);
        batch.accept(0, "before".to_owned());
        assert!(sink.write(&mut batch).await.is_ok());
        assert_eq!(batch.verdict(0).unwrap().unwrap(), "before");
        assert_eq!(batch.verdict(1).unwrap().unwrap_err().chain(), "refused: bad");
        assert_eq!(batch.verdict(2).unwrap().unwrap(), "5");
        assert!(sink.write(&mut batch).await.is_ok(), "nothing is pending, so nothing is asked of the inner sink");
    }

    #[tokio::test]
    async fn verdicts_come_back_with_an_error_too() {
        let sink = echo(Err(SinkError::transient("lost the line"))).map(name);
        let mut batch = Batch::for_test(vec![Number(1), Number(5)]);
        assert_eq!(sink.write(&mut batch).await.unwrap_err().chain(), "not written for now: lost the line");
        assert!(batch.verdict(0).is_none());
        assert_eq!(batch.verdict(1).unwrap().unwrap(), "5");
    }

    #[tokio::test(start_paused = true)]
    async fn verdicts_come_back_from_a_write_that_is_dropped() {
        let hangs = sink_fn(|batch: &mut Batch<String>| {
            Box::pin(async move {
                batch.accept(1, ());
                std::future::pending().await
            })
        });
        let sink = hangs.map(name).timeout(Duration::from_secs(1));
        let mut batch = Batch::for_test(vec![Number(2), Number(3)]);
        assert!(sink.write(&mut batch).await.is_err());
        assert!(batch.verdict(0).is_none());
        assert!(batch.verdict(1).unwrap().is_ok());
    }

    /// One op at which the translation panics costs no other op anything.
    #[tokio::test]
    async fn an_op_that_cannot_be_translated_is_refused_alone() {
        let sink = echo(Ok(())).map(|number: &Number| {
            assert_ne!(number.0, 13, "unlucky");
            number.0.to_string()
        });
        let mut batch = Batch::for_test(vec![Number(4), Number(13), Number(5)]);
        assert!(sink.write(&mut batch).await.is_ok());
        let chain = batch.verdict(1).unwrap().unwrap_err().chain();
        assert!(
            chain.starts_with("refused: the translation of an op panicked: ") && chain.contains("unlucky"),
            "{chain}"
        );
        assert_eq!(
            (batch.verdict(0).unwrap().unwrap(), batch.verdict(2).unwrap().unwrap()),
            (&"4".into(), &"5".into())
        );
    }

    #[tokio::test]
    async fn the_inner_batch_says_why_it_was_cut() {
        let sink = sink_fn(|batch: &mut Batch<u32, (CutBy, u32)>| {
            let seen = (batch.cut_by(), batch.attempt());
            Box::pin(async move { Ok(batch.accept_all_with(|_, _| seen)) })
        })
        .map(|number: &Number| number.0);
        let mut batch = Batch::new(vec![Number(1)], CutBy::Urgent, 4);
        assert!(sink.write(&mut batch).await.is_ok());
        assert_eq!(batch.verdict(0).unwrap().unwrap(), &(CutBy::Urgent, 4));
    }
}
