//! [`Term::postgres`]: a batch in a transaction of the ledger. The work runs in the task of the sink, which keeps the batch. The
//! leader is told what the transaction settles before it commits, so that a write that is dropped then leaves no doubt unnoticed.

use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use tokio_postgres::Transaction;

use super::{
    Term,
    lent::{Lent, sink_error},
};
#[cfg(doc)]
use crate::sink::{ErrorKind, Guarantee, Sink};
use crate::{
    durable::{
        ledger::{Fence, Undone},
        log::{LogError, Record},
        step::Step,
    },
    rules::{
        batch::{Batch, Settled, SinkError},
        panics,
    },
};

impl Term {
    /// Writes a batch in a transaction of the database that settles the log, a [`PostgreSql`](crate::durable::PostgreSql) or the ledger of
    /// a `File`, as [`transaction`](Self::transaction) does in
    /// a file: what `work` writes, and the record that the ops it answers are settled, take effect together or not at all.
    ///
    /// `work` is called once, and has [`transaction_timeout`](crate::durable::Durable::transaction_timeout) to answer; it is dropped
    /// and undone after that, and the server ends its statement. An error undoes all that was written and every verdict. Errors of
    /// statements become a [`SinkError`] by `?`. A constraint that a row breaks fails the whole transaction, unless the statement
    /// runs in a savepoint ([`Transaction::savepoint`]).
    ///
    /// The transaction belongs to the log: COMMIT and ROLLBACK are an error afterwards, settings are for it alone (`SET LOCAL`), and
    /// tables whose names begin with `roundlot_` are not to be changed. Transactions of one shard run one after the other.
    ///
    /// # Errors
    ///
    /// The errors of [`transaction`](Self::transaction). A server that is away is an [`Outage`](ErrorKind::Outage), and so is a log
    /// without a ledger.
    ///
    /// # Cancel safety
    ///
    /// Dropped before the commit, nothing has landed. Dropped during the commit, the term ends, and the next one knows.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use roundlot::{Batch, Settled, Sink, SinkError, durable::Term, sink::Guarantee};
    ///
    /// /// Adds amounts to a balance, each exactly once.
    /// struct Balance(Term);
    ///
    /// impl Sink<i64> for Balance {
    ///     async fn write(&self, batch: &mut Batch<i64>) -> Result<Settled, SinkError> {
    ///         let add = async |transaction: &mut tokio_postgres::Transaction<'_>, batch: &mut Batch<i64>| {
    ///             let amount: i64 = batch.pending().sum();
    ///             transaction.execute("UPDATE balance SET amount = amount + $1", &[&amount]).await?;
    ///             Ok(batch.accept_all())
    ///         };
    ///         self.0.postgres(batch, add).await
    ///     }
    ///
    ///     fn guarantee(&self) -> Guarantee {
    ///         Guarantee::Transactional
    ///     }
    /// }
    /// ```
    #[cfg_attr(docsrs, doc(cfg(feature = "postgres")))]
    pub async fn postgres<T, R, F>(&self, batch: &mut Batch<T, R>, work: F) -> Result<Settled, SinkError>
    where
        T: Send + 'static,
        R: Clone + Send + 'static,
        F: AsyncFnOnce(&mut Transaction<'_>, &mut Batch<T, R>) -> Result<Settled, SinkError>,
    {
        let ticket = batch.ticket_mut().clone();
        match ticket.and_then(|ticket| ticket.downcast::<Lent<T, R>>().ok()) {
            Some(lent) => lent.write_in_ledger(batch, work).await,
            None => Err(SinkError::outage("the batch was not lent to a sink that says it is transactional")),
        }
    }
}

/// A batch whose verdicts are taken back, unless they may have landed.
struct Trial<'b, T, R>
where
    T: Send + 'static,
    R: Clone + Send + 'static,
{
    lent: &'b Lent<T, R>,
    batch: &'b mut Batch<T, R>,
    /// Ops that had no verdict before.
    open: Vec<usize>,
}

impl<T, R> Drop for Trial<'_, T, R>
where
    T: Send + 'static,
    R: Clone + Send + 'static,
{
    fn drop(&mut self) {
        if !self.lent.state().landed.is_unknown && !self.open.is_empty() {
            self.batch.reopen(&self.open);
        }
    }
}

impl<T, R> Lent<T, R>
where
    T: Send + 'static,
    R: Clone + Send + 'static,
{
    async fn write_in_ledger<F>(&self, batch: &mut Batch<T, R>, work: F) -> Result<Settled, SinkError>
    where
        F: AsyncFnOnce(&mut Transaction<'_>, &mut Batch<T, R>) -> Result<Settled, SinkError>,
    {
        let Some(ledger) = self.log.ledger() else {
            return Err(SinkError::outage("the log has no ledger in PostgreSQL"));
        };
        let landed_before = self.may_begin(batch)?;
        let fence = Fence { shard: self.lease.shard, epoch: self.lease.epoch, timeout: Some(self.lease.timeout) };
        let mut settled = None;
        let open = batch.pending_indexes().collect();
        let mut trial = Trial { lent: self, batch, open };
        let in_transaction = async |transaction: &mut Transaction<'_>| {
            let (answer, record) = self.run(&mut trial, transaction, work).await?;
            settled = Some(answer);
            Ok::<Record, SinkError>(record)
        };
        let written = ledger.transact(fence, |record| self.committing(record), in_transaction).await;
        let error = match written {
            Ok(()) => {
                trial.open.clear();
                let mut state = self.state();
                state.landed.is_unknown = false;
                state.charges.clear();
                drop(state);
                Step::Transaction.after();
                return settled.ok_or_else(|| SinkError::outage("the log is closed"));
            }
            Err(Undone::Log(error @ LogError::Unknown(_))) => return Err(sink_error(error)),
            Err(Undone::Log(error)) => sink_error(error),
            Err(Undone::Work(error)) => error,
        };
        let mut state = self.state();
        state.landed.positions.truncate(landed_before);
        state.landed.is_unknown = false;
        drop(state);
        Err(error)
    }

    /// Whether the batch is the one that was lent, and nothing of it is in doubt. Returns the number of positions that have landed so far.
    fn may_begin(&self, batch: &Batch<T, R>) -> Result<usize, SinkError> {
        let state = self.state();
        if state.is_out || batch.len() != self.count {
            return Err(SinkError::refused("the batch is not the one that was lent"));
        }
        if state.landed.is_unknown {
            return Err(SinkError::ambiguous("an earlier commit has no known result"));
        }
        Ok(state.landed.positions.len())
    }

    /// Runs the work, and makes the record of what it settles.
    async fn run<F>(
        &self,
        trial: &mut Trial<'_, T, R>,
        transaction: &mut Transaction<'_>,
        work: F,
    ) -> Result<(Settled, Record), SinkError>
    where
        F: AsyncFnOnce(&mut Transaction<'_>, &mut Batch<T, R>) -> Result<Settled, SinkError>,
    {
        Step::Transaction.before();
        let limit = self.lease.timeout;
        let working = AssertUnwindSafe(work(transaction, &mut *trial.batch)).catch_unwind();
        let answer = match tokio::time::timeout(limit, working).await {
            Err(_) => return Err(SinkError::transient(format!("it took longer than {limit:?}"))),
            Ok(Err(panic)) => return Err(panicked(&*panic)),
            Ok(Ok(answer)) => answer?,
        };
        // The receipts are cloned for the record, which may panic, too.
        match panics::catch(|| self.record(trial.batch, &trial.open)) {
            Ok((_, record)) => Ok((answer, record)),
            Err(panic) => Err(panicked(&*panic)),
        }
    }

    /// Notes the positions that the record settles: from here on only the commit knows whether they have landed.
    fn committing(&self, record: &Record) {
        let mut state = self.state();
        state.landed.positions.extend(record.settled.iter().flat_map(|(first, last)| *first..=*last));
        state.landed.is_unknown = true;
    }
}

/// Nothing has landed.
fn panicked(panic: &(dyn std::any::Any + Send)) -> SinkError {
    SinkError::transient(format!("a transaction panicked: {}", panics::message(panic)))
}
