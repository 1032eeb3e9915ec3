//! One batch, one transaction: in come rows, out goes which of them did not land and why. Next room: the file.
//!
//! ```text
//! write --> fast:    BEGIN, many rows a statement, COMMIT
//!             | a row is at fault
//!             v
//!           careful: BEGIN, the same with a savepoint around each statement, the rows of one that fails again one by
//!             |      one, and those that fail alone stay out, COMMIT
//!             | a row is at fault, and SQLite does not say which
//!             v
//!           both halves, each as a transaction of its own
//! ```

use std::ops::Range;

use rusqlite::{Connection, Statement};

use super::{
    classify::{Blame, Doing, Fault, classify},
    open::Plan,
    rows::Rows,
};
use crate::sink::SinkError;

/// Rows by number, each with why it did not land.
pub(super) type Failed = Vec<(usize, SinkError)>;

/// The statements of one table on one connection, prepared once.
pub(super) struct Writer<'c> {
    connection: &'c Connection,
    begin: Statement<'c>,
    commit: Statement<'c>,
    rollback: Statement<'c>,
    savepoint: Statement<'c>,
    release: Statement<'c>,
    undo: Statement<'c>,
    /// By falling number of rows; the last takes one.
    inserts: Vec<Insert<'c>>,
    columns: usize,
}

/// How a transaction is gone about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// All rows are good, most likely: a savepoint would cost a tenth of the rate.
    Fast,
    /// Some row is not: what it did is undone, and nothing else.
    Careful,
}

struct Insert<'c> {
    rows: usize,
    statement: Statement<'c>,
}

impl<'c> Writer<'c> {
    pub(super) fn prepare(connection: &'c Connection, plan: &Plan) -> rusqlite::Result<Self> {
        // Ones first: what is wrong with the table shows in the shortest statement.
        let mut inserts = Vec::new();
        for (rows, sql) in plan.inserts.iter().rev() {
            inserts.push(Insert { rows: *rows, statement: connection.prepare(sql)? });
        }
        inserts.reverse();
        Ok(Self {
            connection,
            // The write lock is taken at once: taken later, it could be refused when rows are already in.
            begin: connection.prepare("BEGIN IMMEDIATE")?,
            commit: connection.prepare("COMMIT")?,
            rollback: connection.prepare("ROLLBACK")?,
            savepoint: connection.prepare("SAVEPOINT roundlot")?,
            release: connection.prepare("RELEASE roundlot")?,
            undo: connection.prepare("ROLLBACK TO roundlot")?,
            inserts,
            columns: plan.columns.len(),
        })
    }

    /// Writes all rows; those that are not among the failed have landed.
    pub(super) fn write(&mut self, rows: &Rows) -> Failed {
        let mut failed = Failed::new();
        self.write_range(rows, 0..rows.len(), &mut failed);
        failed
    }

    fn write_range(&mut self, rows: &Rows, range: Range<usize>, failed: &mut Failed) {
        let before = failed.len();
        let mut done = self.transaction(Mode::Fast, rows, range.clone(), failed);
        if done.as_ref().is_err_and(|fault| fault.blame == Blame::Row) {
            done = self.transaction(Mode::Careful, rows, range.clone(), failed);
        }
        let Err(fault) = done else { return };
        // What was said of single rows held only within the transaction, which is gone.
        failed.truncate(before);
        if fault.blame == Blame::Row && range.len() > 1 {
            // A deferred foreign key that fails at COMMIT, or a trigger that rolls back: neither tells the row.
            let middle = range.start + range.len() / 2;
            self.write_range(rows, range.start..middle, failed);
            self.write_range(rows, middle..range.end, failed);
        } else {
            let error = SinkError::from(fault);
            failed.extend(range.map(|row| (row, error.clone())));
        }
    }

    fn transaction(&mut self, mode: Mode, rows: &Rows, range: Range<usize>, failed: &mut Failed) -> Result<(), Fault> {
        // Only open here if the last rollback failed.
        self.end_transaction()?;
        control(&mut self.begin)?;
        let inserted = match mode {
            Mode::Fast => self.insert_all(rows, range),
            Mode::Careful => self.insert_good(0, rows, range, failed),
        };
        let done = inserted.and_then(|()| match self.commit.raw_execute() {
            Ok(_) => Ok(()),
            Err(error) => Err(classify(Doing::Commit, error)),
        });
        if done.is_err() {
            // If it fails too, nothing of it is committed either, and the next transaction tries it again.
            let _tried_again = self.end_transaction();
        }
        done
    }

    fn end_transaction(&mut self) -> Result<(), Fault> {
        if self.connection.is_autocommit() { Ok(()) } else { control(&mut self.rollback) }
    }

    fn insert_all(&mut self, rows: &Rows, mut range: Range<usize>) -> Result<(), Fault> {
        for which in 0..self.inserts.len() {
            while range.len() >= self.inserts[which].rows {
                self.insert(which, rows, range.start)?;
                range.start += self.inserts[which].rows;
            }
        }
        Ok(())
    }

    /// Inserts the rows that SQLite takes, with the statements from `first` on, which hold ever fewer rows.
    fn insert_good(
        &mut self,
        first: usize,
        rows: &Rows,
        mut range: Range<usize>,
        failed: &mut Failed,
    ) -> Result<(), Fault> {
        for which in first..self.inserts.len() {
            let size = self.inserts[which].rows;
            while range.len() >= size {
                let some = range.start..range.start + size;
                range.start += size;
                let Err(fault) = self.insert_or_undo(which, rows, some.start) else { continue };
                if self.is_over(&fault) {
                    return Err(fault);
                }
                if size == 1 {
                    failed.push((some.start, fault.into()));
                } else {
                    self.insert_good(which + 1, rows, some, failed)?;
                }
            }
        }
        Ok(())
    }

    /// Inserts all the rows of one statement or none of them. SQLite itself does so, unless a trigger of the table
    /// says `RAISE(FAIL)`, which keeps what the statement did before: hence the savepoint.
    fn insert_or_undo(&mut self, which: usize, rows: &Rows, first: usize) -> Result<(), Fault> {
        control(&mut self.savepoint)?;
        let inserted = self.insert(which, rows, first);
        match &inserted {
            Ok(()) => control(&mut self.release)?,
            Err(fault) if self.is_over(fault) => {}
            Err(_) => {
                control(&mut self.undo)?;
                control(&mut self.release)?;
            }
        }
        inserted
    }

    /// Whether a failed insert ends the transaction: the batch is at fault, or a trigger has rolled it back.
    fn is_over(&self, fault: &Fault) -> bool {
        fault.blame == Blame::Batch || self.connection.is_autocommit()
    }

    /// Runs statement `which` with the rows from `first`.
    fn insert(&mut self, which: usize, rows: &Rows, first: usize) -> Result<(), Fault> {
        let columns = self.columns;
        let Insert { rows: count, statement } = &mut self.inserts[which];
        let mut parameter = 0;
        for row in first..first + *count {
            for column in 0..columns {
                parameter += 1;
                statement.raw_bind_parameter(parameter, rows.bind(row, column, columns)).map_err(in_statement)?;
            }
        }
        statement.raw_execute().map(drop).map_err(in_statement)
    }
}

/// Runs a statement that has no row in it, so that none can be to blame.
fn control(statement: &mut Statement<'_>) -> Result<(), Fault> {
    statement.raw_execute().map(drop).map_err(|error| Fault { blame: Blame::Batch, ..in_statement(error) })
}

fn in_statement(error: rusqlite::Error) -> Fault {
    classify(Doing::Statement, error)
}
