//! [`Writer`]: writes one batch in one transaction. Only rows among the failed have not landed. The thread calls it,
//! one batch at a time.
//!
//! ```text
//! write --> fast:    BEGIN, many rows a statement as they arrive, COMMIT
//!             | a row fails
//!             v
//!           careful: BEGIN, row by row, refused rows stay out, COMMIT
//!             | a row fails, and SQLite does not say which
//!             v
//!           both halves, each as a transaction of its own
//! ```

use std::{ops::Range, sync::mpsc::Receiver};

use rusqlite::{Connection, Error, Statement};

use super::{
    OpenError, Sqlite,
    classify::{ClassifiedError, classify, moved, verdict, wants_new_connection},
    open::database,
    place::Place,
    plan::{Insert, Inserts, Mode, Plan},
    rows::{Block, Rows},
    shape::Shape,
};
use crate::sink::{
    ErrorKind, SinkError,
    table::classified::{Context, Failed, Phase, Scope},
};

/// The statements of one table on one connection, prepared once for each shape of the table.
pub(super) struct Writer<'c> {
    connection: &'c Connection,
    plan: &'c Plan,
    place: Place,
    begin: Statement<'c>,
    commit: Statement<'c>,
    rollback: Statement<'c>,
    savepoint: Statement<'c>,
    release: Statement<'c>,
    undo: Statement<'c>,
    schema_version: Statement<'c>,
    /// The version of the schema for which the statements below are right.
    version: i64,
    mode: Mode,
    inserts: Inserts<Statement<'c>>,
    /// Empty except in [`Mode::InsertThenUpdate`].
    updates: Updates<'c>,
    /// Set when an error has made the connection doubtful; the thread opens another before the next write.
    doubtful: bool,
}

impl<'c> Writer<'c> {
    pub(super) fn prepare(connection: &'c Connection, options: &Sqlite, plan: &'c Plan) -> Result<Self, OpenError> {
        let said = |error| database(options, error);
        let place = Place::of(&options.path);
        let prepare = |sql: &str| connection.prepare(sql).map_err(said);
        let mut schema_version = prepare("PRAGMA schema_version")?;
        // Read first: a change that comes in between is seen by the first write.
        let version = version(&mut schema_version).map_err(said)?;
        let mode = Shape::look(connection, &plan.table).map_err(said)?.mode(plan, &options.path)?;
        let (inserts, updates) = statements(connection, plan, mode).map_err(said)?;
        Ok(Self {
            connection,
            plan,
            place,
            // The write lock is taken at once: taken later, it could be refused when rows are already in.
            begin: prepare("BEGIN IMMEDIATE")?,
            commit: prepare("COMMIT")?,
            rollback: prepare("ROLLBACK")?,
            savepoint: prepare("SAVEPOINT roundlot")?,
            release: prepare("RELEASE roundlot")?,
            undo: prepare("ROLLBACK TO roundlot")?,
            schema_version,
            version,
            mode,
            inserts,
            updates,
            doubtful: false,
        })
    }

    /// Whether another connection is to be opened before the next write.
    pub(super) fn is_doubtful(&self) -> bool {
        self.doubtful
    }

    /// Ends the writer, and returns where its files were.
    pub(super) fn into_place(self) -> Place {
        self.place
    }

    /// Writes rows as they arrive; all rows not among the failed have landed. If the last ones do not arrive, the write
    /// was given up and nothing has landed.
    pub(super) fn write(&mut self, arriving: &Receiver<Block>) -> Option<(Rows, Failed)> {
        let mut rows = Rows::default();
        let mut failed = Failed::new();
        let inserted = self.begin().and_then(|()| self.insert_arriving(&mut rows, arriving));
        if !rows.receive_all(arriving) {
            let _tried_again = self.end_transaction();
            return None;
        }
        if let Err(classified) = self.finish(inserted) {
            let _settled = self.isolate(classified, &rows, 0..rows.len(), &mut failed);
        }
        Some((rows, failed))
    }

    fn write_range(&mut self, rows: &Rows, range: Range<usize>, failed: &mut Failed) -> Result<(), SinkError> {
        let inserted = self.begin().and_then(|()| self.insert_fast(rows, range.clone()));
        match self.finish(inserted) {
            Ok(()) => Ok(()),
            Err(classified) => self.isolate(classified, rows, range, failed),
        }
    }

    /// Isolates the failing rows after a failed transaction, and lands all other rows.
    ///
    /// # Errors
    ///
    /// Returns an error that concerns no single row: all rows of the range have failed by it, and so would those after
    /// them.
    fn isolate(
        &mut self,
        mut classified: ClassifiedError,
        rows: &Rows,
        range: Range<usize>,
        failed: &mut Failed,
    ) -> Result<(), SinkError> {
        if classified.scope == Scope::Row {
            let mut refused = Failed::new();
            let inserted = self.begin().and_then(|()| self.insert_carefully(rows, range.clone(), &mut refused));
            match self.finish(inserted) {
                Ok(()) => {
                    failed.append(&mut refused);
                    return Ok(());
                }
                // Errors of single rows held only within the transaction, which is gone.
                Err(other) => classified = other,
            }
        }
        let by_row = classified.scope == Scope::Row;
        if by_row && range.len() > 1 {
            // A deferred foreign key that fails at COMMIT, or a trigger that rolls back: neither tells the row.
            let middle = range.start + range.len() / 2;
            let first = self.write_range(rows, range.start..middle, failed);
            return match first {
                Ok(()) => self.write_range(rows, middle..range.end, failed),
                Err(error) => {
                    failed.extend((middle..range.end).map(|row| (row, not_tried(&error))));
                    Err(error)
                }
            };
        }
        let error = verdict(classified);
        failed.extend(range.map(|row| (row, error.clone())));
        if by_row { Ok(()) } else { Err(error) }
    }

    fn begin(&mut self) -> Result<(), ClassifiedError> {
        if self.place.is_left() {
            return Err(classify(Phase::Statement, moved()));
        }
        // Only open here if the last rollback failed.
        self.end_transaction()?;
        control(&mut self.begin)?;
        self.suit_schema()
    }

    /// Reads the table again if the schema was changed; inside a transaction, so no other connection can change it now.
    fn suit_schema(&mut self) -> Result<(), ClassifiedError> {
        let version = version(&mut self.schema_version).map_err(in_control)?;
        if version == self.version {
            return Ok(());
        }
        let shape = Shape::look(self.connection, &self.plan.table).map_err(in_control)?;
        match shape.mode(self.plan, self.place.path()) {
            Ok(mode) if mode == self.mode => {}
            Ok(mode) => {
                (self.inserts, self.updates) = statements(self.connection, self.plan, mode).map_err(in_control)?;
                self.mode = mode;
            }
            // SQLite says it of each row.
            Err(OpenError::NoTable { .. } | OpenError::NoColumn { .. }) => {}
            Err(error) => {
                let context = Context {
                    meaning: "final: the table was altered, nothing was written",
                    source: Error::ToSqlConversionFailure(Box::new(error)),
                };
                return Err(ClassifiedError { scope: Scope::Batch, kind: ErrorKind::Refused, context });
            }
        }
        self.version = version;
        Ok(())
    }

    /// Ends the transaction: all of it lands, or nothing.
    fn finish(&mut self, inserted: Result<(), ClassifiedError>) -> Result<(), ClassifiedError> {
        let done = inserted.and_then(|()| match self.commit.raw_execute() {
            // Rows in a file that is no longer there have not landed.
            Ok(_) if self.place.is_left() => Err(classify(Phase::Commit, moved())),
            Ok(_) => Ok(()),
            Err(error) => Err(classify(Phase::Commit, error)),
        });
        if let Err(classified) = &done {
            self.doubtful |= wants_new_connection(classified);
            // If it fails too, nothing of it is committed either, and the next transaction tries it again.
            let _tried_again = self.end_transaction();
        }
        done
    }

    fn end_transaction(&mut self) -> Result<(), ClassifiedError> {
        if self.connection.is_autocommit() { Ok(()) } else { control(&mut self.rollback) }
    }

    fn insert_arriving(&mut self, rows: &mut Rows, arriving: &Receiver<Block>) -> Result<(), ClassifiedError> {
        let mut next = 0;
        while rows.receive(arriving) {
            next = self.inserts.fast[0].run_through(rows, next..rows.len(), &mut self.updates)?;
        }
        self.insert_fast(rows, next..rows.len())
    }

    fn insert_fast(&mut self, rows: &Rows, mut range: Range<usize>) -> Result<(), ClassifiedError> {
        for insert in &mut self.inserts.fast {
            range.start = insert.run_through(rows, range.clone(), &mut self.updates)?;
        }
        Ok(())
    }

    fn insert_carefully(
        &mut self,
        rows: &Rows,
        range: Range<usize>,
        refused: &mut Failed,
    ) -> Result<(), ClassifiedError> {
        for row in range {
            // SQLite undoes a failed insert itself, unless a trigger of the table says `RAISE(FAIL)`.
            control(&mut self.savepoint)?;
            if let Err(classified) = self.inserts.careful.run(rows, row, &mut self.updates) {
                // A trigger may have rolled the transaction back, and the rows before went with it.
                if classified.scope == Scope::Batch || self.connection.is_autocommit() {
                    return Err(classified);
                }
                control(&mut self.undo)?;
                refused.push((row, verdict(classified)));
            }
            control(&mut self.release)?;
        }
        Ok(())
    }
}

/// Statements after an insert of one row, until one has changed a row: the update by the key, then an upsert. Only an
/// upsert finds a key whose unique index compares differently from the column.
type Updates<'c> = Vec<Statement<'c>>;

impl Insert<Statement<'_>> {
    /// Inserts rows while there are enough of them, and returns the first that is left.
    fn run_through(
        &mut self,
        rows: &Rows,
        mut range: Range<usize>,
        updates: &mut Updates<'_>,
    ) -> Result<usize, ClassifiedError> {
        while range.len() >= self.rows {
            self.run(rows, range.start, updates)?;
            range.start += self.rows;
        }
        Ok(range.start)
    }

    /// Inserts the rows from `first` on; the one that was not, because its key is there, is updated.
    fn run(&mut self, rows: &Rows, first: usize, updates: &mut Updates<'_>) -> Result<(), ClassifiedError> {
        let mut changed = execute(&mut self.statement, rows, first..first + self.rows)?;
        for update in updates {
            if changed == 0 {
                changed = execute(update, rows, first..first + 1)?;
            }
        }
        Ok(())
    }
}

/// Runs a statement with the values of the rows, and returns how many it changed.
fn execute(statement: &mut Statement<'_>, rows: &Rows, range: Range<usize>) -> Result<usize, ClassifiedError> {
    let columns = statement.parameter_count() / range.len();
    let mut parameter = 0;
    for row in range {
        for value in rows.row(row, columns) {
            parameter += 1;
            statement.raw_bind_parameter(parameter, value).map_err(in_statement)?;
        }
    }
    statement.raw_execute().map_err(in_statement)
}

fn statements<'c>(
    connection: &'c Connection,
    plan: &Plan,
    mode: Mode,
) -> rusqlite::Result<(Inserts<Statement<'c>>, Updates<'c>)> {
    let prepare =
        |insert: &Insert<String>| Ok(Insert { rows: insert.rows, statement: connection.prepare(&insert.statement)? });
    let inserts = plan.inserts(mode);
    // First, for what is wrong with the table shows best in the shortest statement.
    let careful = prepare(&inserts.careful)?;
    let fast = inserts.fast.iter().map(prepare).collect::<rusqlite::Result<_>>()?;
    let updates = plan.updates(mode).map(|update| connection.prepare(update)).collect::<rusqlite::Result<_>>()?;
    Ok((Inserts { fast, careful }, updates))
}

fn version(schema_version: &mut Statement<'_>) -> rusqlite::Result<i64> {
    schema_version.query_row([], |row| row.get(0))
}

/// Returns the error of rows that were not tried, because rows before them met `error`.
fn not_tried(error: &SinkError) -> SinkError {
    if error.kind() == ErrorKind::Ambiguous { error.clone().with_kind(ErrorKind::Outage) } else { error.clone() }
}

/// Runs a statement without any row, so its error concerns the whole batch.
fn control(statement: &mut Statement<'_>) -> Result<(), ClassifiedError> {
    statement.raw_execute().map(drop).map_err(in_control)
}

fn in_control(error: Error) -> ClassifiedError {
    ClassifiedError { scope: Scope::Batch, ..in_statement(error) }
}

fn in_statement(error: Error) -> ClassifiedError {
    classify(Phase::Statement, error)
}
