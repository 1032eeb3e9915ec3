//! [`LogTable`]: a table in the file of a durable log. Its sink inserts the rows of a batch in the transaction that settles
//! their ops. The thread of the log runs [`insert`](Inner::insert); a durable batcher makes a sink per term.

use std::{
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use rusqlite::Connection;

use super::{
    classify::{ClassifiedError, classify, verdict},
    plan::{Insert, Mode, Plan},
    rows::{BLOCK, Block, NoRow, Rows},
    shape::Shape,
};
use crate::{
    durable::{Term, Transaction},
    rules::batch::{Batch, Settled},
    sink::{
        Guarantee, Sink, SinkError,
        table::{Table, TableError, classified::Phase, classified::Scope},
    },
};

/// A table in the file of a durable log. Each op becomes a row exactly once, whatever crashes: the row and the record that its op
/// is settled are one transaction.
///
/// A row that breaks a constraint is refused alone, and its op becomes a dead letter. Values, columns, triggers and conflicts are
/// handled as [`SqliteSink`](super::SqliteSink) does. A row that breaks a deferred foreign key, or whose trigger rolls back,
/// is found by halving its batch.
///
/// The rows count against [`File::max_bytes`](crate::durable::File::max_bytes), since they are in the same file.
///
/// # Examples
///
/// ```
/// use roundlot::{durable::{Durable, File}, sink::{sqlite::LogTable, table::Table}};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Fill { id: String, quantity: i64 }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("fills.db");
/// let table = Table::<Fill>::new("fills")
///     .text("id", |fill| &fill.id)
///     .integer("quantity", |fill| fill.quantity)
///     .create_if_missing();
/// let table = LogTable::new(table)?;
/// let fills = Durable::new("fills", File::at(&path)).sink(move |term| table.sink(term)).join().await?;
/// fills.handle().send(Fill { id: "a1".to_owned(), quantity: 5 }).await?;
/// fills.handle().flush().await?; // the row is in the table
/// fills.leave().await?;
/// # let count: i64 = rusqlite::Connection::open(&path)?.query_row("SELECT count(*) FROM fills", [], |row| row.get(0))?;
/// # assert_eq!(count, 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct LogTable<T>(Arc<Inner<T>>);

impl<T> Clone for LogTable<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

#[derive(Debug)]
struct Inner<T> {
    table: Table<T>,
    plan: Plan,
    /// Statements for many rows of a table without triggers, which undo no more than themselves.
    fast: Vec<Insert<String>>,
    /// The version of the schema for which the mode is right.
    known: Mutex<Option<(i64, Mode)>>,
}

/// The sink of a [`LogTable`] in one term.
#[derive(Debug)]
pub struct LogTableSink<T> {
    table: Arc<Inner<T>>,
    term: Term,
}

impl<T> LogTable<T> {
    /// A table in the file of the log.
    ///
    /// # Errors
    ///
    /// If the mapping is wrong by itself. A table in the file that does not suit it is an outage of the sink: the ops wait.
    pub fn new(table: Table<T>) -> Result<Self, TableError> {
        let plan = Plan::of(&table)?;
        let nested = |insert: &Insert<String>| Insert {
            rows: insert.rows,
            statement: insert.statement.replacen("INSERT OR ROLLBACK", "INSERT OR ABORT", 1),
        };
        let fast = plan.inserts(Mode::Bare).fast.iter().map(nested).collect();
        Ok(Self(Arc::new(Inner { table, plan, fast, known: Mutex::new(None) })))
    }

    /// The sink of a term.
    pub fn sink(&self, term: Term) -> LogTableSink<T> {
        LogTableSink { table: Arc::clone(&self.0), term }
    }
}

impl<T: Send + 'static> Sink<T> for LogTableSink<T> {
    async fn write(&self, batch: &mut Batch<T>) -> Result<Settled, SinkError> {
        let (rows, refused) = self.table.rows(batch)?;
        let table = Arc::clone(&self.table);
        let work = move |transaction: &mut Transaction<'_>, batch: &mut Batch<T>| {
            for (i, error) in &refused {
                batch.refuse(*i, error.clone());
            }
            for (row, error) in table.insert(transaction.sqlite()?, &rows)? {
                batch.refuse(rows.op(row), error);
            }
            Ok(batch.accept_all())
        };
        self.term.transaction(batch, work).await
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::Transactional
    }
}

/// Refused rows or ops, by their index.
type Refused = Vec<(usize, SinkError)>;

impl<T> Inner<T> {
    /// The values of all pending ops, and the ops that have no row.
    fn rows(&self, batch: &Batch<T>) -> Result<(Rows, Refused), SinkError> {
        let (mut blocks, mut refused) = (vec![Block::default()], Vec::new());
        for (i, op) in batch.pending().indexed() {
            if blocks.last().is_none_or(|block| block.len() == BLOCK) {
                blocks.push(Block::default());
            }
            match blocks.last_mut().map_or(Ok(()), |block| block.push(&self.table, i, op)) {
                Ok(()) => {}
                Err(NoRow::Refused(error)) => refused.push((i, error)),
                Err(NoRow::Overflow(error)) => return Err(error),
            }
        }
        Ok((Rows::of(blocks), refused))
    }

    /// Inserts rows, and returns those that are refused.
    fn insert(&self, database: &Connection, rows: &Rows) -> Result<Refused, SinkError> {
        let mode = self.mode(database)?;
        run(database, "SAVEPOINT all_rows")?;
        let mut refused = Refused::new();
        match self.insert_fast(database, mode, rows) {
            Ok(()) => {}
            // A trigger may have ended the transaction, which its halves will tell.
            Err(error) if error.scope == Scope::Batch || database.is_autocommit() => return Err(verdict(error)),
            Err(_) => {
                run(database, "ROLLBACK TO all_rows")?;
                for row in 0..rows.len() {
                    run(database, "SAVEPOINT one_row")?;
                    if let Err(error) = self.insert_row(database, mode, rows, row) {
                        if error.scope == Scope::Batch || database.is_autocommit() {
                            return Err(verdict(error));
                        }
                        run(database, "ROLLBACK TO one_row")?;
                        refused.push((row, verdict(error)));
                    }
                    run(database, "RELEASE one_row")?;
                }
            }
        }
        run(database, "RELEASE all_rows")?;
        Ok(refused)
    }

    fn insert_fast(&self, database: &Connection, mode: Mode, rows: &Rows) -> Result<(), ClassifiedError> {
        let inserts = if mode == Mode::Bare { &self.fast } else { &self.plan.inserts(mode).fast };
        let mut next = 0;
        for insert in inserts {
            while rows.len() - next >= insert.rows {
                self.run(database, mode, &insert.statement, rows, next..next + insert.rows)?;
                next += insert.rows;
            }
        }
        Ok(())
    }

    fn insert_row(&self, database: &Connection, mode: Mode, rows: &Rows, row: usize) -> Result<(), ClassifiedError> {
        self.run(database, mode, &self.plan.inserts(mode).careful.statement, rows, row..row + 1)
    }

    /// Runs an insert, and updates the row instead if its key is there and the rule says so.
    fn run(
        &self,
        database: &Connection,
        mode: Mode,
        insert: &str,
        rows: &Rows,
        range: Range<usize>,
    ) -> Result<(), ClassifiedError> {
        let columns = self.plan.columns.len();
        let mut changed = execute(database, insert, rows, range.clone(), columns)?;
        for update in self.plan.updates(mode) {
            if changed == 0 {
                changed = execute(database, update, rows, range.clone(), columns)?;
            }
        }
        Ok(())
    }

    /// How rows are written into the table that the file has now.
    fn mode(&self, database: &Connection) -> Result<Mode, SinkError> {
        let version = || -> rusqlite::Result<i64> {
            database.prepare_cached("PRAGMA schema_version")?.query_row([], |row| row.get(0))
        };
        let before = version()?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, mode)) = known.filter(|(version, _)| *version == before) {
            return Ok(mode);
        }
        if let Some(create) = &self.plan.create {
            database.execute_batch(create)?;
        }
        let shape = Shape::look(database, &self.plan.table)?;
        let path = database.path().unwrap_or_default();
        let mode = shape.mode(&self.plan, path.as_ref()).map_err(SinkError::outage)?;
        // A table that was made just now may be undone again.
        *known = (version()? == before).then_some((before, mode));
        Ok(mode)
    }
}

fn run(database: &Connection, sql: &str) -> Result<(), SinkError> {
    Ok(database.prepare_cached(sql).and_then(|mut statement| statement.raw_execute()).map(drop)?)
}

/// Runs a statement with the values of the rows, and returns how many it changed.
fn execute(
    database: &Connection,
    sql: &str,
    rows: &Rows,
    range: Range<usize>,
    columns: usize,
) -> Result<usize, ClassifiedError> {
    let run = || {
        let mut statement = database.prepare_cached(sql)?;
        let values = range.clone().flat_map(|row| rows.row(row, columns));
        for (parameter, value) in (1..).zip(values) {
            statement.raw_bind_parameter(parameter, value)?;
        }
        statement.raw_execute()
    };
    run().map_err(|error| classify(Phase::Statement, error))
}
