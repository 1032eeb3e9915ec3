//! [`SqliteSink`]: copies the values of a batch into blocks for the writer thread, and gives each op the verdict that
//! comes back. No value outlives its write.

use std::{
    fmt,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError, atomic::Ordering, mpsc},
};

use tokio::sync::{mpsc::Permit, oneshot};

use super::{
    OpenError, Sqlite,
    plan::Plan,
    rows::{BLOCK, Block, NoRow, Rows},
    thread::{self, Job, Thread},
};
use crate::{
    rules::batch::{Batch, Settled},
    sink::{
        Sink, SinkError,
        table::{Table, classified::Failed},
    },
};

/// A [`Sink`] that writes each batch to a table of a SQLite file, in one transaction.
///
/// * Rows land in the order of the batch. Every value is bound, every name quoted.
/// * A row that breaks a constraint is refused alone, with SQLite's error as the cause; the rest of its batch lands.
/// * Integers, flags (0 and 1) and timestamps (nanoseconds) are INTEGER, floats REAL, bytes BLOB; text, JSON and
///   decimals are TEXT, decimals exactly as they print. A float that is NaN is refused, for SQLite would store NULL.
/// * The database has a thread of its own, which the runtime never waits for. It lives in real time: under a paused
///   tokio clock, a timeout can pass while the disk is still at work.
///
/// # Tables that are there already
///
/// SQLite converts values to the type of their column. The sink opens only if that changes none, and checks again when
/// the schema changes:
///
/// | values | columns that keep them |
/// |---|---|
/// | integers, flags, timestamps | INTEGER and all names with INT; NUMERIC, DECIMAL, BOOLEAN, DATE and others that SQLite takes for numeric; BLOB or no type. Not REAL, FLOAT and DOUBLE, which keep 53 bits; not TEXT, which compares by characters |
/// | floats | all but TEXT. A whole number may become an integer of the same value, and -0.0 becomes 0.0 |
/// | text, JSON, decimals | TEXT, CHAR, CLOB; BLOB or no type |
/// | bytes | all |
///
/// A STRICT table refuses unsuitable rows one by one. NULL in an `INTEGER PRIMARY KEY` becomes the next number, unless
/// the mapping names that column as its key, which refuses NULL. A virtual table may change values as it likes. The
/// table decides whether two keys are equal: with `COLLATE NOCASE`, `abc` and `ABC` are one key.
///
/// **Triggers** do what they do after plain statements for the same rows: an `OR REPLACE`, `OR IGNORE` or `ON CONFLICT`
/// inside of them holds. Under [`Conflict::Update`](crate::sink::table::Conflict::Update), a row whose key exists sets
/// off the triggers before an insert and those of an update, as SQLite's upsert does. An op whose row a trigger skips
/// by `RAISE(IGNORE)` is accepted, since the table wants it so. A table with such a trigger under `Conflict::Update` is
/// written by upserts; SQLite then runs the triggers of an update as if they said `OR ABORT`. A view can be written if
/// an `INSTEAD OF INSERT` trigger takes its rows. A table with triggers cannot have `ON CONFLICT REPLACE` or `IGNORE`
/// in its own constraints as well: [`OpenError::TwoRules`].
///
/// # What errors mean
///
/// | what happened | SQLite's code | kind | what is in the file |
/// |---|---|---|---|
/// | a row breaks a constraint, is larger than SQLite takes, or its value does not suit the column | `CONSTRAINT`, `TOOBIG`, `MISMATCH` | refused | the other rows |
/// | the table or a column was removed or altered since | `ERROR` | refused, "final" | nothing of the batch |
/// | another connection holds the lock longer than the [`busy_timeout`](Sqlite::busy_timeout), the schema keeps changing | `BUSY`, `LOCKED`, `PROTOCOL`, `SCHEMA` | outage | nothing of the batch |
/// | the disk, or that of temporary files, is full; the page limit is reached | `FULL`, `NOLFS` | outage | nothing of the batch |
/// | the disk failed before the commit, or wrote not all of it | `IOERR` before COMMIT, `IOERR_WRITE` | outage | nothing of the batch |
/// | the file is damaged, no database, read-only, cannot be opened, or not permitted | `CORRUPT`, `NOTADB`, `READONLY`, `CANTOPEN`, `PERM`, `AUTH` | outage | nothing of the batch |
/// | the file or its log was moved, replaced or deleted before the write | none, `READONLY_DBMOVED` | outage | nothing of the batch |
/// | the same during the write | none | ambiguous and an outage | all of the batch, in the file that was moved, or nothing |
/// | the disk failed during the commit otherwise, as when it did not confirm | `IOERR` at COMMIT | ambiguous and an outage | all of the batch or nothing |
/// | the writer thread died | none | ambiguous and an outage; then outage | all of the batch or nothing |
/// | out of memory, which may be for the size of the batch; interrupted | `NOMEM`, `INTERRUPT`, `ABORT` | transient | nothing of the batch |
/// | more than 4 GiB of text and bytes in 128 rows | none | too large | nothing of the batch |
/// | SQLite was used in a wrong way, or has an error that is not known here | `MISUSE`, `RANGE`, `INTERNAL` and others | refused, "final" | nothing of the batch |
///
/// An outage ([`ErrorKind::Outage`](crate::ErrorKind::Outage)) is no failure of an op: the batcher pauses, and
/// everything in the buffer lands once the cause is gone. A commit that failed is rolled back first. If the connection
/// itself may be the cause, it is closed, which moves its log into the file. The next write opens the file that is at
/// the path then. A missing file is not created again: put one there, an empty one if that is meant.
///
/// A deferred foreign key is checked when the transaction ends, where SQLite does not say which row broke it. The
/// batch is then halved until the rows stand alone, and lands in more than one transaction.
///
/// # Cancel safety
///
/// Dropping the future of [`write`](Sink::write) leaves the batch in doubt. A write that has not begun is skipped; one
/// that has begun is finished by the thread. The next write is not affected. Dropping the future of
/// [`close`](Sink::close) lets the file close in the background.
///
/// # Dropping it
///
/// Ends the thread after the current write, without waiting for it; [`close`](Sink::close) waits.
///
/// # Panics
///
/// A panic in a column's closure refuses the op that it was called with; all other ops of the batch are written.
///
/// # Examples
///
/// ```
/// use roundlot::sink::{sqlite::SqliteSink, table::{Conflict, Table}};
///
/// struct Fill { id: String, time_ns: i64 }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("fills.db");
/// let fills = Table::<Fill>::new("fills")
///     .text("id", |fill| &fill.id)
///     .timestamp("time_ns", |fill| fill.time_ns)
///     .key(["id"])
///     .on_conflict(Conflict::Ignore)
///     .create_if_missing();
/// let sink = SqliteSink::open(path, fills).await?; // and then `Batcher::new(sink)`
/// # drop(sink);
/// # Ok(())
/// # }
/// ```
pub struct SqliteSink<T> {
    table: Table<T>,
    thread: Thread,
    /// Blocks that came back, for reuse.
    spare: Mutex<Vec<Block>>,
}

/// Maximum number of retained blocks: enough for a batch of 10,000 rows.
const MAX_RETAINED_BLOCKS: usize = 10_000 / BLOCK;

type Answer = oneshot::Receiver<(Rows, Failed)>;

impl<T> SqliteSink<T> {
    /// Opens the database in this file, created if it is missing, with the default settings of [`Sqlite`].
    ///
    /// # Cancel safety
    ///
    /// As [`Sqlite::open`].
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub async fn open(path: impl AsRef<Path>, table: Table<T>) -> Result<Self, OpenError> {
        Self::open_with(Sqlite::file(path), table).await
    }

    pub(super) async fn open_with(mut options: Sqlite, table: Table<T>) -> Result<Self, OpenError> {
        let plan = Plan::of(&table)?;
        options.settle_path();
        let (thread, is_open) = thread::start(options, plan).map_err(OpenError::Thread)?;
        is_open.await.map_err(|_| OpenError::Gone)??;
        Ok(Self { table, thread, spare: Mutex::default() })
    }

    /// Copies the values of all pending ops into blocks, each of which is sent to the thread when it is full. Refuses
    /// the ops that have no row. Returns the receiver of the answer, unless no row is left.
    ///
    /// An early return, by an error, tells the thread to write nothing of it.
    fn send_blocks(&self, batch: &mut Batch<T>, room: Permit<'_, Job>) -> Result<Option<Answer>, SinkError> {
        let (blocks, arriving) = mpsc::channel();
        let (reply, answer) = oneshot::channel();
        let mut start = Some((room, Job::Write(arriving, reply)));
        let mut send = |block| {
            // If the thread has died, the answer says so.
            let _dead = blocks.send(block);
            if let Some((room, job)) = start.take() {
                room.send(job);
            }
        };
        let mut refused = Vec::new();
        let mut block = self.spare();
        for (i, op) in batch.pending().indexed() {
            match block.push(&self.table, i, op) {
                Ok(()) if block.len() == BLOCK => send(std::mem::replace(&mut block, self.spare())),
                Ok(()) => {}
                Err(NoRow::Refused(error)) => refused.push((i, error)),
                Err(NoRow::Overflow(error)) => return Err(error),
            }
        }
        let has_rows = refused.len() < batch.pending().len();
        if has_rows {
            block.last = true;
            send(block);
        }
        for (i, error) in refused {
            batch.refuse(i, error);
        }
        Ok(has_rows.then_some(answer))
    }

    /// The lock is never held while a closure runs: one that panics takes a block with it and nothing else.
    fn spare(&self) -> Block {
        self.spares().pop().unwrap_or_default()
    }

    fn keep(&self, rows: Rows) {
        let mut blocks = rows.into_blocks();
        blocks.iter_mut().for_each(Block::clear);
        let mut spare = self.spares();
        blocks.truncate(MAX_RETAINED_BLOCKS.saturating_sub(spare.len()));
        spare.append(&mut blocks);
    }

    fn spares(&self) -> MutexGuard<'_, Vec<Block>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// No block was sent, so no row landed.
    fn gone(&self) -> SinkError {
        if self.is_closed() {
            SinkError::refused("the SQLite sink is closed")
        } else {
            SinkError::outage("the SQLite writer thread has died")
        }
    }

    /// A closed thread has left only the jobs behind the close; a thread that died may have died in this one.
    fn unanswered(&self) -> SinkError {
        if self.is_closed() {
            self.gone()
        } else {
            SinkError::connection_lost("the SQLite writer thread died before it answered")
        }
    }

    /// A second close finds the file closed, as it should be.
    fn ended(&self) -> Result<(), SinkError> {
        if self.is_closed() { Ok(()) } else { Err(self.gone()) }
    }

    fn is_closed(&self) -> bool {
        self.thread.closed.load(Ordering::Acquire)
    }
}

impl<T: Send + 'static> Sink<T> for SqliteSink<T> {
    async fn write(&self, batch: &mut Batch<T>) -> Result<Settled, SinkError> {
        let room = self.thread.jobs.reserve().await.map_err(|_| self.gone())?;
        let Some(answer) = self.send_blocks(batch, room)? else { return batch.settled() };
        let (rows, failed) = answer.await.map_err(|_| self.unanswered())?;
        for (row, error) in failed {
            batch.refuse(rows.op(row), error);
        }
        self.keep(rows);
        Ok(batch.accept_all())
    }

    async fn close(&self) -> Result<(), SinkError> {
        let (reply, answer) = oneshot::channel();
        let sent = self.thread.jobs.send(Job::Close(reply)).await;
        match sent {
            Ok(()) => answer.await.unwrap_or_else(|_| self.ended()),
            Err(_) => self.ended(),
        }
    }
}

impl<T> fmt::Debug for SqliteSink<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteSink").field("table", &self.table).finish_non_exhaustive()
    }
}

impl Sqlite {
    /// Opens the file on a thread of its own, and checks that the table has the columns of the mapping. Creates the
    /// table if that was asked for.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the file again; a table that was created by then stays.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub async fn open<T>(self, table: Table<T>) -> Result<SqliteSink<T>, OpenError> {
        SqliteSink::open_with(self, table).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, atomic::AtomicBool};

    use tokio::sync::mpsc::{Receiver, channel};

    use super::*;
    use crate::sink::ErrorKind;

    /// A sink whose thread is played by the test.
    fn sink(closed: bool) -> (SqliteSink<i64>, Receiver<Job>) {
        let (jobs, inbox) = channel(1);
        let thread = Thread { jobs, closed: Arc::new(AtomicBool::new(closed)) };
        let table = Table::new("t").integer("id", |id: &i64| *id);
        (SqliteSink { table, thread, spare: Mutex::default() }, inbox)
    }

    #[tokio::test]
    async fn a_thread_that_has_died_is_an_outage_for_the_next_write() {
        let (sink, inbox) = sink(false);
        drop(inbox);
        let error = sink.write(&mut Batch::for_test(vec![1])).await.expect_err("the thread is gone");
        assert_eq!(error.chain(), "the destination is away: the SQLite writer thread has died");
        assert!(sink.close().await.is_err(), "the file was not closed");
    }

    #[tokio::test]
    async fn a_thread_that_dies_in_a_write_leaves_it_in_doubt() {
        let (sink, mut inbox) = sink(false);
        let mut batch = Batch::for_test(vec![1]);
        let die = async { drop(inbox.recv().await) };
        let (written, ()) = tokio::join!(sink.write(&mut batch), die);
        let error = written.expect_err("no answer");
        assert!(error.kind() == ErrorKind::Ambiguous && error.is_outage());
        assert_eq!(error.chain(), "may or may not have been written: the SQLite writer thread died before it answered");
    }

    #[tokio::test]
    async fn a_write_behind_a_close_was_never_made() {
        let (sink, mut inbox) = sink(true);
        let mut batch = Batch::for_test(vec![1]);
        let close = async { drop(inbox.recv().await) };
        let (written, ()) = tokio::join!(sink.write(&mut batch), close);
        assert_eq!(written.expect_err("no answer").chain(), "refused: the SQLite sink is closed");
    }

    #[tokio::test]
    async fn blocks_are_used_again_up_to_a_limit() {
        let (sink, mut inbox) = sink(false);
        let mut batch = Batch::for_test((0..20_000).collect());
        let answer = async {
            let Some(Job::Write(arriving, reply)) = inbox.recv().await else { panic!("a write") };
            let mut rows = Rows::default();
            assert!(rows.receive_all(&arriving));
            assert_eq!((rows.len(), rows.op(19_999)), (20_000, 19_999));
            reply.send((rows, Failed::new())).expect("the write waits");
        };
        let (written, ()) = tokio::join!(sink.write(&mut batch), answer);
        assert!(written.is_ok());
        assert_eq!(sink.spares().len(), MAX_RETAINED_BLOCKS);
        assert!(sink.spares().iter().all(|block| block.len() == 0));
    }
}
