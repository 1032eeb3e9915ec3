//! The sink itself: in comes a batch, whose values go to the writer thread, out go the verdicts that come back. Next
//! room: `thread`.

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
    batch::{Batch, Settled},
    sink::{
        Sink, SinkError,
        table::{Table, fault::Failed},
    },
};

/// A [`Sink`] that writes each batch to a table of a SQLite file, in one transaction.
///
/// * Rows land in the order of the batch. Every value is bound, every name quoted.
/// * A row that breaks a constraint is refused alone, with SQLite's error as the cause; the others of its batch land.
/// * Integers, flags (0 and 1) and timestamps (nanoseconds) are INTEGER, floats REAL, bytes BLOB; text, JSON and
///   decimals are TEXT, decimals exactly as they print. A float that is NaN is refused, for SQLite would store NULL.
/// * The database has a thread of its own, which the runtime never waits for. It lives in real time: under a paused
///   tokio clock, a timeout can pass at once while the disk is still at work.
///
/// # What errors mean
///
/// | what happened | kind | what is in the file |
/// |---|---|---|
/// | another connection holds the lock longer than the [`busy_timeout`](Sqlite::busy_timeout) | transient | nothing of the batch |
/// | out of memory, or the schema keeps changing | transient | nothing of the batch |
/// | a row breaks a constraint, is larger than SQLite takes, or its value does not suit the column | refused | the other rows |
/// | the disk is full, the page limit reached | refused, "final" | nothing of the batch |
/// | the file is damaged, no database, read-only, gone or not permitted | refused, "final" | nothing of the batch |
/// | the table or a column was removed since | refused, "final" | nothing of the batch |
/// | the disk failed before the commit | refused, "final" | nothing of the batch |
/// | the disk failed during the commit, or the writer thread died | ambiguous | all of the batch or nothing |
/// | more than 4 GiB of text and bytes in 128 rows | too large | nothing of the batch |
///
/// A deferred foreign key is checked when the transaction ends, where SQLite does not say which row broke it. The
/// batch is then halved until the rows stand alone, and lands in more than one transaction.
///
/// # Cancel safety
///
/// Dropping the future of [`write`](Sink::write) leaves the batch in doubt: a write that has not begun is not begun,
/// one that has is finished by the thread. The next write is not affected. Dropping the future of
/// [`close`](Sink::close) leaves the file to close in its own time.
///
/// # Dropping it
///
/// Ends the thread once the write in hand is finished, without waiting for it; [`close`](Sink::close) waits.
///
/// # Panics
///
/// A panic in a column's closure leaves `write` before anything was sent to the database.
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
    /// Blocks that came back, to be filled again.
    spare: Mutex<Vec<Block>>,
}

/// Enough for a batch of 10,000 rows; what one that is larger took is given back.
const KEPT_BLOCKS: usize = 10_000 / BLOCK;

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

    pub(super) async fn open_with(options: Sqlite, table: Table<T>) -> Result<Self, OpenError> {
        let plan = Plan::of(&table)?;
        let (thread, is_open) = thread::start(options, plan).map_err(OpenError::Thread)?;
        is_open.await.map_err(|_| OpenError::Gone)??;
        Ok(Self { table, thread, spare: Mutex::default() })
    }

    /// Copies the values of all pending ops into blocks, each of which goes to the thread as soon as it is full, and
    /// refuses the ops that have no row. Returns where the answer will come from, unless no row is left.
    ///
    /// Leaving early, by an error or by a panic in a closure, tells the thread that nothing of it is to be written.
    fn hand_over(&self, batch: &mut Batch<T>, room: Permit<'_, Job>) -> Result<Option<Answer>, SinkError> {
        let (blocks, arriving) = mpsc::channel();
        let (reply, answer) = oneshot::channel();
        let mut start = Some((room, Job::Write(arriving, reply)));
        let mut hand = |block| {
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
                Ok(()) if block.len() == BLOCK => hand(std::mem::replace(&mut block, self.spare())),
                Ok(()) => {}
                Err(NoRow::Refused(error)) => refused.push((i, error)),
                Err(NoRow::Overflow(error)) => return Err(error),
            }
        }
        let has_rows = refused.len() < batch.pending().len();
        if has_rows {
            block.last = true;
            hand(block);
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
        blocks.truncate(KEPT_BLOCKS.saturating_sub(spare.len()));
        spare.append(&mut blocks);
    }

    fn spares(&self) -> MutexGuard<'_, Vec<Block>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing was handed over, so nothing landed, and nothing ever will.
    fn gone(&self) -> SinkError {
        SinkError::refused(if self.is_closed() {
            "the SQLite sink is closed"
        } else {
            "final: the SQLite writer thread has died"
        })
    }

    /// A thread that was closed has left the jobs behind the close alone; one that died may have died in this one.
    fn unanswered(&self) -> SinkError {
        if self.is_closed() {
            self.gone()
        } else {
            SinkError::ambiguous("the SQLite writer thread died before it answered")
        }
    }

    /// A second close finds the file closed, and that is what it asked for.
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
        let Some(answer) = self.hand_over(batch, room)? else { return batch.settled() };
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
    async fn a_thread_that_has_died_is_final_for_the_next_write() {
        let (sink, inbox) = sink(false);
        drop(inbox);
        let error = sink.write(&mut Batch::for_test(vec![1])).await.expect_err("there is nobody");
        assert_eq!(error.chain(), "refused: final: the SQLite writer thread has died");
        assert!(sink.close().await.is_err(), "nobody closed the file");
    }

    #[tokio::test]
    async fn a_thread_that_dies_in_a_write_leaves_it_in_doubt() {
        let (sink, mut inbox) = sink(false);
        let mut batch = Batch::for_test(vec![1]);
        let die = async { drop(inbox.recv().await) };
        let (written, ()) = tokio::join!(sink.write(&mut batch), die);
        let error = written.expect_err("no answer");
        assert_eq!(error.kind(), ErrorKind::Ambiguous);
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
        assert_eq!(sink.spares().len(), KEPT_BLOCKS);
        assert!(sink.spares().iter().all(|block| block.len() == 0));
    }
}
