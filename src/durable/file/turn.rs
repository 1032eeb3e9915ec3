//! A turn of the writer: jobs, their transaction, and what follows its commit. Of several processes one at a time has its turn.

use std::{mem, sync::atomic::Ordering, time::Instant};

use rusqlite::ErrorCode;
use tracing::{error, warn};

use super::{
    nodes::Turn,
    open::{self, BUSY, Connected},
    store::{Rows, failed},
    writer::Writer,
};
use crate::durable::{
    log::{LogError, turns::Job},
    step::Step,
};

/// Statements that stay prepared. The comments keep sinks, which share the cache of statements, from finding them there.
const BEGIN: &str = "BEGIN IMMEDIATE /* roundlot */";
const BEGIN_READ: &str = "BEGIN /* roundlot */";
const COMMIT: &str = "COMMIT /* roundlot */";

/// The part of the cap that is kept for settlements, so that a full log can drain.
const RESERVE: u64 = 8;

/// Nothing has been stored, or it is not known whether it has.
struct Undone {
    error: LogError,
    /// Whether one of the jobs may be to blame.
    by_one: bool,
}

impl Writer {
    /// Runs jobs in one transaction, or each in its own if one of them fails, and answers them.
    pub(super) fn turn(&mut self, mut jobs: Vec<Box<dyn Job>>) {
        let result = self.wait_and_run(&mut jobs);
        if let Err(Undone { error, by_one: true }) = &result
            && jobs.len() > 1
            && matches!(error, LogError::Failed(_) | LogError::Uncommittable(_) | LogError::Damaged(_))
        {
            // One that can't be done must not fail the others.
            return jobs.into_iter().for_each(|job| self.turn(vec![job]));
        }
        let (result, touched) = match result {
            Ok(touched) => (Ok(()), touched),
            Err(Undone { error, .. }) => (Err(error), Vec::new()),
        };
        jobs.into_iter().for_each(|job| job.end(result.clone()));
        self.nodes.changed(&touched);
        self.measure();
    }

    /// Runs jobs in one transaction, when it is this process's turn. Returns the shards that were changed.
    fn wait_and_run(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<Vec<u32>, Undone> {
        let _turn = self.enter().map_err(|error| Undone { error, by_one: false })?;
        self.begin(BEGIN)?;
        let begun = Instant::now();
        let by_one = |error| Undone { error, by_one: true };
        match self.look_at_others().and_then(|()| self.run_all(jobs)) {
            Ok((changed, touched)) => {
                let result = if changed { self.commit() } else { self.roll_back() };
                self.gathering.done(&self.callers, begun.elapsed());
                result.map(|()| touched).map_err(by_one)
            }
            Err(error) => Err(by_one(self.roll_back().err().unwrap_or(error))),
        }
    }

    /// Runs jobs that change nothing, and answers them.
    pub(super) fn read(&mut self, jobs: Vec<Box<dyn Job>>) {
        for mut job in jobs {
            let ran = self.begin(BEGIN_READ).map_err(|Undone { error, .. }| error);
            let ran = ran.and_then(|()| self.run_all(std::slice::from_mut(&mut job)).map(drop));
            let result = self.end_transaction().and(ran);
            job.end(result);
        }
    }

    fn begin(&mut self, sql: &str) -> Result<(), Undone> {
        let Err(error) = self.execute(sql) else { return Ok(()) };
        // Another connection has the lock, for all jobs.
        let error = self.roll_back().err().unwrap_or_else(|| failed(&error));
        Err(Undone { error, by_one: false })
    }

    /// Waits for the turn of this process, if there are others.
    pub(super) fn enter(&mut self) -> Result<Option<Turn>, LogError> {
        if !self.nodes.has_peers() {
            return Ok(None);
        }
        let turnstile = self.turnstile.get_or_insert_with(|| self.nodes.turnstile());
        match turnstile.enter(BUSY) {
            Ok(Some(turn)) => Ok(Some(turn)),
            Ok(None) => Err(LogError::Failed("another process keeps the log from being written".to_owned())),
            Err(error) => {
                // SQLite's own lock decides.
                warn!(path = %self.path.display(), %error, "the processes of a log can't queue");
                Ok(None)
            }
        }
    }

    /// Forgets what is known of the file if another process has written.
    fn look_at_others(&mut self) -> Result<(), LogError> {
        let seen = self.nodes.seen();
        if !self.nodes.has_peers() && seen == self.seen {
            return Ok(());
        }
        self.seen = seen;
        let version = self
            .connection
            .prepare_cached("PRAGMA data_version")
            .and_then(|mut version| version.query_row([], |row| row.get(0)));
        let version: i64 = version.map_err(|error| failed(&error))?;
        if mem::replace(&mut self.version, version) != version {
            self.letters.forget();
        }
        Ok(())
    }

    /// Whether a row has been changed, and the shards that were.
    fn run_all(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<(bool, Vec<u32>), LogError> {
        let room = self.max_bytes - self.max_bytes / RESERVE;
        let used = self.gauges.size().bytes;
        let mut rows = Rows::new(&self.connection, &self.guard, &self.letters, self.wal.path().to_owned(), room, used);
        for job in jobs {
            job.run(&mut rows)?;
        }
        let (changed, touched) = (rows.changed.get(), rows.touched.take());
        if changed {
            // Other processes count on, too.
            let sql = "UPDATE roundlot_meta SET value = max(value, ?1) + 1 WHERE key = 'commits' RETURNING value";
            let mut update = self.connection.prepare_cached(sql).map_err(|error| failed(&error))?;
            let number: i64 =
                update.query_row([self.commits as i64], |row| row.get(0)).map_err(|error| failed(&error))?;
            self.committing = number as u64;
        }
        Ok((changed, touched))
    }

    fn commit(&mut self) -> Result<(), LogError> {
        Step::Commit.before();
        if let Err(error) = self.execute(COMMIT) {
            let is_certain = matches!(
                error.sqlite_error_code(),
                // A constraint that is checked at the end was violated by the rows of a sink.
                Some(
                    ErrorCode::DiskFull
                        | ErrorCode::DatabaseBusy
                        | ErrorCode::DatabaseLocked
                        | ErrorCode::ConstraintViolation
                )
            );
            if is_certain {
                return self.roll_back().and(Err(failed(&error)));
            }
            return Err(self.open_again(&error));
        }
        Step::Commit.after();
        self.commits = self.committing;
        Step::Mark.before();
        let end = self.watch.end(self.wal.path());
        self.write_mark(end);
        Step::Mark.after();
        if let Err(error) = self.watch.checkpoint(&self.connection) {
            warn!(path = %self.path.display(), %error, "the WAL of a log can't be moved into it");
        }
        self.gauges.commits.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Measures the file, after callers were answered.
    fn measure(&self) {
        let bytes = Rows::new(&self.connection, &self.guard, &self.letters, self.wal.path().to_owned(), 0, 0).bytes();
        self.gauges.bytes.store(bytes.unwrap_or_default(), Ordering::Relaxed);
    }

    /// Executes a statement, which stays prepared.
    fn execute(&self, sql: &str) -> rusqlite::Result<()> {
        self.connection.prepare_cached(sql)?.execute([]).map(drop)
    }

    fn roll_back(&mut self) -> Result<(), LogError> {
        self.letters.forget();
        self.end_transaction()
    }

    /// Ends a transaction that has changed nothing, or is to change nothing.
    fn end_transaction(&mut self) -> Result<(), LogError> {
        if self.connection.is_autocommit() {
            return Ok(());
        }
        match self.connection.execute_batch("ROLLBACK") {
            Ok(()) => Ok(()),
            Err(error) => Err(self.open_again(&error)),
        }
    }

    /// Opens the file anew after an error that leaves its state unknown. What the log holds then is moved into the database
    /// and synced, since a sync that has failed may succeed the next time without having written anything.
    fn open_again(&mut self, cause: &rusqlite::Error) -> LogError {
        warn!(path = %self.path.display(), error = %cause, "a commit has no known result: the log is opened again");
        let opened = open::connect(&self.path, self.max_bytes, false).and_then(|connected| {
            let connection = &connected.connection;
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
            let sql = "SELECT value FROM roundlot_meta WHERE key = 'commits'";
            let commits: i64 = connection.query_row(sql, [], |row| row.get(0))?;
            Ok((connected, commits as u64))
        });
        match opened {
            Ok((Connected { connection, guard, watch }, commits)) => {
                (self.connection, self.guard, self.watch, self.commits) = (connection, guard, watch, commits);
            }
            Err(error) => error!(path = %self.path.display(), %error, "the log can't be opened again"),
        }
        LogError::Unknown(cause.to_string())
    }
}
