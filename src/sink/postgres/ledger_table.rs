//! [`LedgerTable`]: a table in the database of a log's ledger. Its sink inserts the rows of a batch in the transaction that settles
//! their ops. A durable batcher makes a sink per term, and [`Term::postgres`] runs [`insert`].

use std::{
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use tokio_postgres::{Transaction, types::ToSql};

use super::{
    classify::{ClassifiedError, classify, settle},
    open::planned_in,
    plan::Plan,
    rows::Rows,
    writer::halves,
};
use crate::{
    durable::Term,
    rules::batch::{Batch, Settled},
    sink::{
        ErrorKind, Guarantee, Sink, SinkError,
        table::{
            Table, TableError,
            classified::{Failed, Phase, Scope},
        },
    },
};

/// A table in the database that settles a durable log: a [`PostgreSql`](crate::durable::PostgreSql), or the ledger of a `File`. Each op becomes a row exactly
/// once, whatever crashes: the row and the record that its op is settled are one transaction.
///
/// A row that breaks a constraint is refused alone, and its op becomes a dead letter. Values, columns, triggers, rules and conflicts
/// are handled as [`PostgresSink`](super::PostgresSink) does, without `COPY`: a batch goes as one array per column. A row that breaks
/// a deferred constraint is found by halving its batch.
///
/// A table without a [`schema`](Table::schema) is looked for by the `search_path` of the ledger's URL. One that is missing or does
/// not suit the mapping is an outage of the sink: the ops wait.
///
/// # Examples
///
/// ```no_run
/// use roundlot::{durable::{Durable, PostgreSql}, sink::{postgres::LedgerTable, table::Table}};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Fill { id: String, quantity: i64 }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let table = Table::<Fill>::new("fills")
///     .text("id", |fill| &fill.id)
///     .integer("quantity", |fill| fill.quantity)
///     .create_if_missing();
/// let table = LedgerTable::new(table)?;
/// let log = PostgreSql::at("postgres://bob@db.example/trades?sslmode=verify-full");
/// let fills = Durable::new("fills", log).sink(move |term| table.sink(term)).join().await?;
/// fills.handle().send(Fill { id: "a1".to_owned(), quantity: 5 }).await?;
/// fills.handle().flush().await?; // the row is in the table
/// fills.leave().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct LedgerTable<T>(Arc<Inner<T>>);

impl<T> Clone for LedgerTable<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

#[derive(Debug)]
struct Inner<T> {
    table: Table<T>,
    /// The plan for the table as the last transaction that committed has seen it.
    known: Mutex<Option<Arc<Plan>>>,
}

/// The sink of a [`LedgerTable`] in one term.
#[derive(Debug)]
pub struct LedgerTableSink<T> {
    table: Arc<Inner<T>>,
    term: Term,
}

impl<T> LedgerTable<T> {
    /// A table in the database of the ledger.
    ///
    /// # Errors
    ///
    /// If the mapping is wrong by itself.
    pub fn new(table: Table<T>) -> Result<Self, TableError> {
        table.check()?;
        Ok(Self(Arc::new(Inner { table, known: Mutex::new(None) })))
    }

    /// The sink of a term.
    pub fn sink(&self, term: Term) -> LedgerTableSink<T> {
        LedgerTableSink { table: Arc::clone(&self.0), term }
    }
}

impl<T: Send + 'static> Sink<T> for LedgerTableSink<T> {
    async fn write(&self, batch: &mut Batch<T>) -> Result<Settled, SinkError> {
        let mut seen = None;
        let work = async |transaction: &mut Transaction<'_>, batch: &mut Batch<T>| {
            let plan = self.table.plan(transaction).await?;
            let mut rows = Rows::default();
            for (i, error) in rows.fill(&self.table.table, &plan.fields, batch)? {
                batch.refuse(i, error);
            }
            if plan.is_too_large(rows.len(), rows.size(), false) {
                return Err(SinkError::too_large("the values of the batch exceed 16 MiB, and a ledger has no COPY"));
            }
            for (row, error) in insert(transaction, &plan, &rows).await? {
                batch.refuse(rows.op(row), error);
            }
            seen = Some(plan);
            Ok(batch.accept_all())
        };
        let written = self.term.postgres(batch, work).await;
        // After an error the table is looked at again: it may not be there any more, or be another one.
        *self.table.known() = seen.filter(|_| written.is_ok());
        written
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::Transactional
    }
}

impl<T> Inner<T> {
    fn known(&self) -> std::sync::MutexGuard<'_, Option<Arc<Plan>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How rows are written into the table that the database has now.
    async fn plan(&self, transaction: &Transaction<'_>) -> Result<Arc<Plan>, SinkError> {
        if let Some(plan) = self.known().clone() {
            return Ok(plan);
        }
        transaction.batch_execute("SAVEPOINT roundlot").await?;
        let planned = planned_in(transaction.client(), &self.table).await;
        let plan = planned.map_err(SinkError::outage)?;
        transaction.batch_execute("RELEASE SAVEPOINT roundlot").await?;
        Ok(Arc::new(plan))
    }
}

/// Inserts rows, and returns those that are refused.
async fn insert(transaction: &mut Transaction<'_>, plan: &Plan, rows: &Rows) -> Result<Failed, SinkError> {
    let (mut failed, mut parts) = (Failed::new(), Vec::new());
    parts.push(0..rows.len());
    while let Some(part) = parts.pop() {
        if part.is_empty() {
            continue;
        }
        let saved = transaction.savepoint("roundlot_rows").await?;
        match insert_part(&saved, plan, rows, part.clone()).await {
            Ok(()) => saved.commit().await?,
            // A table that is gone or has changed, or no right to write to it. Its ops wait.
            Err(error) if error.scope == Scope::Batch && error.kind == ErrorKind::Refused => {
                return Err(SinkError::outage(error.context));
            }
            Err(error) if error.scope == Scope::Batch => return Err(settle(error, rows.len(), true)),
            Err(error) => {
                saved.rollback().await?;
                if part.len() == 1 {
                    failed.push((part.start, error.into()));
                } else {
                    // Constraints that wait for the commit would not tell which row they are about.
                    transaction.batch_execute("SET CONSTRAINTS ALL IMMEDIATE").await?;
                    parts.extend(halves(part));
                }
            }
        }
    }
    Ok(failed)
}

async fn insert_part(
    transaction: &Transaction<'_>,
    plan: &Plan,
    rows: &Rows,
    part: Range<usize>,
) -> Result<(), ClassifiedError> {
    let at_once = if plan.one_by_one { 1 } else { part.len() };
    for start in part.clone().step_by(at_once) {
        let columns = plan.fields.iter().enumerate();
        let arrays: Vec<_> =
            columns.map(|(i, field)| rows.array(field, i, start..(start + at_once).min(part.end))).collect();
        let arrays = arrays.iter().map(|array| array as &(dyn ToSql + Sync));
        let typed: Vec<_> = arrays.zip(plan.arrays.iter().cloned()).collect();
        let inserted = transaction.execute_typed(&plan.unnest, &typed).await;
        inserted.map_err(|error| classify(Phase::Statement, error))?;
    }
    Ok(())
}
