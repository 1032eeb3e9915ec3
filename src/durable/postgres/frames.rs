//! [`Frames`]: the frames of a log in its database, as leaders read them and as the ledger sees them. What appends them is in `append`, and
//! what removes them in `removal`.

use std::sync::Arc;

use tokio_postgres::Row;

use super::{
    removal::Removal,
    tables::{SharedSession, Tables},
};
use crate::{
    durable::{
        frame::{Frame, FrameError, MAX_NUMBER, MAX_OPS},
        ledger::{
            FrameStore,
            rows::{byteas, int8, int8s, sums},
        },
        log::{
            Answer, Found, LogError, Record, StoredFrame,
            local::nanos,
            search,
            store::Stored,
            sums::{check, unsigned},
        },
        members::{Clock, Members},
        settled::Settled,
    },
    rules::outcome::OpId,
    sink::postgres::Server,
};

/// Positions that a frame takes, at most: twice the ops that are packed into one, for requests that no other call shares. A search for
/// the frame that holds a position goes no farther back.
pub(crate) const SPAN: u64 = 2 * MAX_OPS as u64;

/// Bytes that a frame takes in its tables besides its own, about.
pub(crate) const ROW_BYTES: u64 = 100;

/// Seconds after which a statement whose client has not finished to send it is given up, as long as a statement of a log may take.
const STUCK_AFTER: u64 = 20;

/// Settings of sessions that read.
const READS: &str = "SET statement_timeout TO '20s'";

/// Settings of the session that removes and compacts frames. Its commits are not waited for: a frame of settled ops that comes back
/// with a server that has crashed is removed again.
const CHANGES: &str =
    "SET statement_timeout TO '20s'; SET idle_in_transaction_session_timeout TO '2s'; SET synchronous_commit TO off";

pub(crate) struct Frames {
    tables: Arc<Tables>,
    clock: Arc<Clock>,
    /// For reads, which wait for no lock.
    reads: SharedSession,
    /// For changes, which wait for the lock of a tail.
    changes: SharedSession,
    removal: Removal,
}

impl Frames {
    pub(crate) fn new(tables: Arc<Tables>, clock: Arc<Clock>, server: &Arc<Server>) -> Arc<Self> {
        let [reads, changes] = [READS, CHANGES].map(|settings| SharedSession::new(Arc::clone(server), settings));
        Arc::new(Self { tables, clock, reads, changes, removal: Removal::default() })
    }

    pub(crate) async fn end(&self) {
        self.removal.end().await;
        self.reads.end().await;
        self.changes.end().await;
    }

    /// The position of the next op, and the process that has the lease.
    pub(crate) async fn tail(&self, shard: u16) -> Stored<(u64, u64)> {
        let sql = "SELECT t.next, t.sum, l.holder FROM {s}.roundlot_tails t JOIN {s}.roundlot_leases l USING (log, shard) \
            WHERE log = $1 AND shard = $2";
        let rows = self.reads.query(&self.tables.of_shard(shard, sql, [])).await?;
        let row = rows.first().ok_or_else(|| LogError::Damaged("a shard has no tail".to_owned()))?;
        Ok((self.tables.tail_of(shard, row, 0)?, unsigned(row.get(2))))
    }

    /// Some frames that hold the position or later ones, in order.
    pub(crate) async fn read(&self, shard: u16, from: u64, limit: u64) -> Stored<Vec<StoredFrame>> {
        // The last frame that begins at or before the position may hold it, too.
        let sql = "SELECT first, count, bytes, sum FROM {s}.roundlot_frames WHERE log = $1 AND shard = $2 AND first >= \
            coalesce((SELECT CASE WHEN b.first + b.count > $3 THEN b.first END FROM (SELECT first, count \
                FROM {s}.roundlot_frames WHERE log = $1 AND shard = $2 AND first <= $3 AND first > $3 - $4::bigint \
                ORDER BY first DESC LIMIT 1) b), $3) ORDER BY first LIMIT $5";
        let query = self.tables.of_shard(shard, sql, [int8(from.min(MAX_NUMBER)), int8(SPAN), int8(limit)]);
        self.reads.query(&query).await?.iter().map(|row| self.frame_of(shard, row)).collect()
    }

    /// The same as a future of a type that has a name.
    pub(crate) fn reading(&self, shard: u16, from: u64, limit: u64) -> Answer<'_, Vec<StoredFrame>> {
        Box::pin(self.read(shard, from, limit))
    }

    /// The next frames, as many as are read at a time.
    pub(crate) async fn read_some(&self, shard: u16, from: u64) -> Stored<Vec<StoredFrame>> {
        self.read(shard, from, search::READ).await
    }

    /// All frames from a position on, and whether these are all: as many as are read at a time, at most.
    pub(crate) async fn read_rest(&self, shard: u16, from: u64) -> Stored<(Vec<StoredFrame>, bool)> {
        let frames = self.read_some(shard, from).await?;
        let is_all = (frames.len() as u64) < search::READ;
        Ok((frames, is_all))
    }

    fn frame_of(&self, shard: u16, row: &Row) -> Stored<StoredFrame> {
        let (first, count, bytes) = (unsigned(row.get(0)), unsigned(row.get(1)), row.get::<_, &[u8]>(2));
        check(row.get::<_, i64>(3) == self.tables.frame_sum(shard, (first, count), bytes), "frames")?;
        match Frame::count_of(bytes) {
            Some(has) if has == count && count <= SPAN && first < MAX_NUMBER => {
                Ok(StoredFrame { first, count, bytes: bytes.into() })
            }
            _ => Err(LogError::Damaged(format!("the frame at position {first}"))),
        }
    }

    /// Ends sessions that have locked a tail or a fence, and whose client has stopped in the middle of a message. The server waits for the
    /// rest without limit, since its timers run between messages and in statements only. Called after a wait that has failed.
    pub(crate) async fn end_stuck(&self) {
        let sql = "SELECT a.pid, pg_terminate_backend(a.pid) FROM pg_stat_activity a WHERE a.datname = current_database() \
            AND a.state = 'active' AND a.wait_event = 'ClientRead' AND a.state_change < clock_timestamp() - $2::bigint * interval '1 s' \
            AND $1::integer IS NOT NULL AND EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND l.granted \
            AND l.relation IN ('{s}.roundlot_tails'::regclass, '{s}.roundlot_shards'::regclass))";
        // If that fails, the next wait ends here, too.
        for row in self.reads.query(&self.tables.of_log(sql, [int8(STUCK_AFTER)])).await.unwrap_or_default() {
            tracing::warn!(
                pid = row.get::<_, i32>(0),
                "a session held a lock while its client said nothing, and was ended"
            );
        }
    }

    /// The cursor of a shard, and whether a position is settled.
    async fn cursor(&self, shard: u16, position: u64) -> Stored<(u64, bool)> {
        let sql = "SELECT cursor, cursor > $3 OR EXISTS (SELECT FROM (SELECT last FROM {s}.roundlot_settled \
            WHERE log = $1 AND shard = $2 AND first <= $3 ORDER BY first DESC LIMIT 1) r WHERE r.last >= $3) \
            FROM {s}.roundlot_shards WHERE log = $1 AND shard = $2";
        let rows = self.reads.query(&self.tables.of_shard(shard, sql, [int8(position)])).await?;
        let row = rows.first().ok_or_else(|| LogError::Damaged("a shard has no row in its ledger".to_owned()))?;
        Ok((unsigned(row.get(0)), row.get(1)))
    }

    /// Whether a frame holds an op that is not settled. `read` returns frames that hold a position or later ones, up to a number. An op that
    /// is found waits if it is not settled afterwards: what is settled stays so.
    pub(crate) async fn holds<'a>(
        &self,
        id: OpId,
        read: impl Fn(u64, u64) -> Answer<'a, Vec<StoredFrame>>,
    ) -> Stored<bool> {
        let (shard, key) = (id.shard(), (id.producer(), id.number()));
        let (mut from, _) = self.cursor(shard, 0).await?;
        // An op that was sent again has several positions.
        while let Some(position) = search::position(&read, from, key).await? {
            if !self.cursor(shard, position).await?.1 {
                return Ok(true);
            }
            from = position + 1;
        }
        Ok(false)
    }

    /// How far a shard has come: its next position, the cursor, and whether it is paused.
    pub(crate) async fn reach(&self, shard: u16) -> Stored<(u64, u64, bool)> {
        let sql = "SELECT t.next, t.sum, s.cursor, s.paused FROM {s}.roundlot_tails t JOIN {s}.roundlot_shards s \
            USING (log, shard) WHERE log = $1 AND shard = $2";
        let rows = self.reads.query(&self.tables.of_shard(shard, sql, [])).await?;
        let row = rows.first().ok_or_else(|| LogError::Damaged("a shard has no tail".to_owned()))?;
        Ok((self.tables.tail_of(shard, row, 0)?, unsigned(row.get(2)), row.get(3)))
    }

    /// Says what is known of an id that has no outcome.
    pub(crate) async fn find(&self, shard: u16, producer: u64, number: u64) -> Stored<Found> {
        let sql = "SELECT frame, first, floor, claimed, sum FROM {s}.roundlot_producers WHERE log = $1 AND shard = $2 AND producer = $3";
        let rows = self.reads.query(&self.tables.of_shard(shard, sql, [int8(producer)])).await?;
        let row = rows.first().map(|row| self.tables.producer_of(shard, producer, row, 0)).transpose()?;
        Ok(if row.is_some_and(|row| number >= row.floor) { Found::Unknown } else { Found::Forgotten })
    }

    /// Leaves settled ops out of the frames with these first positions. A frame that has changed meanwhile stays as it is.
    pub(crate) async fn compact(&self, shard: u16, firsts: &[u64], settled: &Settled) -> Stored<()> {
        let (mut rows, mut spared) = (Vec::new(), Vec::new());
        for wanted in firsts {
            // A frame that is wholly settled meanwhile is gone.
            let read = self.read(shard, *wanted, 1).await?.into_iter().find(|frame| frame.first == *wanted);
            let Some(StoredFrame { first, count, bytes }) = read else { continue };
            let frame = Frame::open(Arc::clone(&bytes)).map_err(damaged)?;
            let compacted = frame.without(&mut |place| settled.contains(first + place)).map_err(damaged)?;
            spared.push(bytes.len().saturating_sub(compacted.bytes.len()) as u64);
            rows.push((first, self.tables.frame_sum(shard, (first, count), &bytes), compacted));
        }
        if rows.is_empty() {
            return Ok(());
        }
        let sql = "WITH u AS (UPDATE {s}.roundlot_frames f SET bytes = r.bytes, sum = r.sum FROM unnest($3::bigint[], \
            $4::bigint[], $5::bytea[], $6::bigint[], $7::bigint[]) AS r(first, old, bytes, sum, spared) \
            WHERE f.log = $1 AND f.shard = $2 AND f.first = r.first AND f.sum = r.old RETURNING r.spared) \
            UPDATE {s}.roundlot_tails SET bytes = bytes - (SELECT coalesce(sum(spared), 0) FROM u) WHERE log = $1 AND shard = $2";
        let new_sum =
            |(first, _, frame): &(u64, i64, Frame)| self.tables.frame_sum(shard, (*first, frame.count), &frame.bytes);
        let columns = [
            int8s(rows.iter().map(|(first, ..)| *first)),
            sums(rows.iter().map(|(_, old, _)| *old)),
            byteas(rows.iter().map(|(.., frame)| &*frame.bytes)),
            sums(rows.iter().map(new_sum)),
            int8s(spared),
        ];
        self.changes.change(&self.tables.of_shard(shard, sql, columns)).await.map(drop)
    }

    pub(crate) fn reads(&self) -> &SharedSession {
        &self.reads
    }

    pub(crate) fn changes(&self) -> &SharedSession {
        &self.changes
    }

    pub(crate) fn tables(&self) -> &Tables {
        &self.tables
    }

    pub(crate) fn removal(&self) -> &Removal {
        &self.removal
    }
}

fn damaged(error: FrameError) -> LogError {
    LogError::Damaged(error.to_string())
}

/// The frames of a log, as its ledger sees them.
pub(crate) struct LedgerFrames {
    pub(crate) frames: Arc<Frames>,
    pub(crate) members: Arc<Members>,
}

impl FrameStore for LedgerFrames {
    fn now(&self) -> u64 {
        nanos(self.frames.clock.now())
    }

    fn ops(&self, shard: u16, positions: Vec<u64>) -> Answer<'_, Vec<Vec<u8>>> {
        Box::pin(async move { search::ops(|from, limit| self.frames.reading(shard, from, limit), &positions).await })
    }

    fn forget(&self, shard: u16, _cursor: u64, runs: Vec<(u64, u64)>) {
        self.frames.remove(shard, runs);
    }

    fn recorded(&self, record: &Record) {
        self.members.recorded(record.shard);
    }
}
