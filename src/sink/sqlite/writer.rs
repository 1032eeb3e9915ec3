//! One batch, one transaction: in come rows, out goes which of them did not land and why. Next room: the file.
//!
//! ```text
//! write --> fast:    BEGIN, many rows a statement as they arrive, COMMIT
//!             | a row is at fault
//!             v
//!           careful: BEGIN, row by row, those that SQLite refuses stay out, COMMIT
//!             | a row is at fault, and SQLite does not say which
//!             v
//!           both halves, each as a transaction of its own
//! ```

use std::{ops::Range, sync::mpsc::Receiver};

use rusqlite::{Connection, Statement};

use super::{
    classify::{Fault, classify},
    plan::{Insert, Plan},
    rows::{Block, Rows},
};
use crate::sink::{
    SinkError,
    table::fault::{Blame, Doing, Failed},
};

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
    fast: Vec<Insert<Statement<'c>>>,
    careful: Insert<Statement<'c>>,
    columns: usize,
}

impl<'c> Writer<'c> {
    pub(super) fn prepare(connection: &'c Connection, plan: &Plan) -> rusqlite::Result<Self> {
        let prepare = |insert: &Insert<String>| {
            Ok(Insert { rows: insert.rows, statement: connection.prepare(&insert.statement)? })
        };
        Ok(Self {
            connection,
            // First, for what is wrong with the table shows best in the shortest statement.
            careful: prepare(&plan.careful)?,
            fast: plan.fast.iter().map(prepare).collect::<rusqlite::Result<_>>()?,
            // The write lock is taken at once: taken later, it could be refused when rows are already in.
            begin: connection.prepare("BEGIN IMMEDIATE")?,
            commit: connection.prepare("COMMIT")?,
            rollback: connection.prepare("ROLLBACK")?,
            savepoint: connection.prepare("SAVEPOINT roundlot")?,
            release: connection.prepare("RELEASE roundlot")?,
            undo: connection.prepare("ROLLBACK TO roundlot")?,
            columns: plan.columns.len(),
        })
    }

    /// Writes the rows that arrive; those that are not among the failed have landed. If they do not arrive to the last,
    /// the write was given up, and nothing has landed.
    pub(super) fn write(&mut self, arriving: &Receiver<Block>) -> Option<(Rows, Failed)> {
        let mut rows = Rows::default();
        let mut failed = Failed::new();
        let inserted = self.begin().and_then(|()| self.insert_arriving(&mut rows, arriving));
        if !rows.receive_all(arriving) {
            let _tried_again = self.end_transaction();
            return None;
        }
        if let Err(fault) = self.finish(inserted) {
            self.find_fault(fault, &rows, 0..rows.len(), &mut failed);
        }
        Some((rows, failed))
    }

    fn write_range(&mut self, rows: &Rows, range: Range<usize>, failed: &mut Failed) {
        let inserted = self.begin().and_then(|()| self.insert_fast(rows, range.clone()));
        if let Err(fault) = self.finish(inserted) {
            self.find_fault(fault, rows, range, failed);
        }
    }

    /// After a failed transaction: fails the rows that are at fault, and lands the others.
    fn find_fault(&mut self, mut fault: Fault, rows: &Rows, range: Range<usize>, failed: &mut Failed) {
        if fault.blame == Blame::Row {
            let mut refused = Failed::new();
            let inserted = self.begin().and_then(|()| self.insert_carefully(rows, range.clone(), &mut refused));
            match self.finish(inserted) {
                Ok(()) => return failed.append(&mut refused),
                // What was said of single rows held only within the transaction, which is gone.
                Err(other) => fault = other,
            }
        }
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

    fn begin(&mut self) -> Result<(), Fault> {
        // Only open here if the last rollback failed.
        self.end_transaction()?;
        control(&mut self.begin)
    }

    /// Ends the transaction: all of it lands, or nothing.
    fn finish(&mut self, inserted: Result<(), Fault>) -> Result<(), Fault> {
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

    fn insert_arriving(&mut self, rows: &mut Rows, arriving: &Receiver<Block>) -> Result<(), Fault> {
        let mut next = 0;
        while rows.receive(arriving) {
            next = self.fast[0].run_through(rows, next..rows.len(), self.columns)?;
        }
        self.insert_fast(rows, next..rows.len())
    }

    fn insert_fast(&mut self, rows: &Rows, mut range: Range<usize>) -> Result<(), Fault> {
        for insert in &mut self.fast {
            range.start = insert.run_through(rows, range.clone(), self.columns)?;
        }
        Ok(())
    }

    fn insert_carefully(&mut self, rows: &Rows, range: Range<usize>, refused: &mut Failed) -> Result<(), Fault> {
        for row in range {
            // SQLite undoes a failed insert itself, unless a trigger of the table says `RAISE(FAIL)`.
            control(&mut self.savepoint)?;
            if let Err(fault) = self.careful.run(rows, row, self.columns) {
                // A trigger may have rolled the transaction back, and the rows before went with it.
                if fault.blame == Blame::Batch || self.connection.is_autocommit() {
                    return Err(fault);
                }
                control(&mut self.undo)?;
                refused.push((row, fault.into()));
            }
            control(&mut self.release)?;
        }
        Ok(())
    }
}

impl Insert<Statement<'_>> {
    /// Inserts rows while there are enough of them, and returns the first that is left.
    fn run_through(&mut self, rows: &Rows, mut range: Range<usize>, columns: usize) -> Result<usize, Fault> {
        while range.len() >= self.rows {
            self.run(rows, range.start, columns)?;
            range.start += self.rows;
        }
        Ok(range.start)
    }

    /// Inserts the rows from `first` on.
    fn run(&mut self, rows: &Rows, first: usize, columns: usize) -> Result<(), Fault> {
        let mut parameter = 0;
        for row in first..first + self.rows {
            for value in rows.row(row, columns) {
                parameter += 1;
                self.statement.raw_bind_parameter(parameter, value).map_err(in_statement)?;
            }
        }
        self.statement.raw_execute().map(drop).map_err(in_statement)
    }
}

/// Runs a statement that has no row in it, so that none can be to blame.
fn control(statement: &mut Statement<'_>) -> Result<(), Fault> {
    statement.raw_execute().map(drop).map_err(|error| Fault { blame: Blame::Batch, ..in_statement(error) })
}

fn in_statement(error: rusqlite::Error) -> Fault {
    classify(Doing::Statement, error)
}
