//! The destination of a transactional sink: rows in the log's own file, each written in the transaction that settles its op. The
//! victim writes them, and the driver reads them when the last life has left the log.

use std::path::Path;

use roundlot::{Batch, Settled, SinkError, durable::Transaction};
use rusqlite::{Connection, OpenFlags, OptionalExtension};

use crate::{
    Failure,
    op::{Op, now},
    wire::{Fate, Line, Mark},
};

const TABLE: &str = "CREATE TABLE IF NOT EXISTS arrivals (
    seq INTEGER PRIMARY KEY, call INTEGER NOT NULL, life INTEGER NOT NULL, begun INTEGER NOT NULL,
    at INTEGER NOT NULL, fate TEXT NOT NULL, op TEXT NOT NULL
)";

/// One write, as the sink hands it to the transaction.
pub(crate) struct Write {
    pub(crate) life: u64,
    pub(crate) begun: u64,
    pub(crate) random: fastrand::Rng,
    pub(crate) is_gentle: bool,
}

impl Write {
    /// Writes the rows of a batch. Some ops are refused or not taken, and some batches fail after their rows were written.
    pub(crate) fn run(
        &mut self,
        transaction: &mut Transaction<'_>,
        batch: &mut Batch<Op, u64>,
    ) -> Result<Settled, SinkError> {
        let database = transaction.sqlite()?;
        let failed = SinkError::transient;
        database.execute(TABLE, []).map_err(failed)?;
        let sql = "SELECT call FROM arrivals ORDER BY seq DESC LIMIT 1";
        let last: Option<i64> = database.query_row(sql, [], |row| row.get(0)).optional().map_err(failed)?;
        let call = last.unwrap_or(0) + 1;
        let sql = "INSERT INTO arrivals (call, life, begun, at, fate, op) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        for i in batch.pending_indexes().collect::<Vec<_>>() {
            let dice = if self.is_gentle { 99 } else { self.random.u32(0..100) };
            let fate = match dice {
                0..2 => Fate::Refused,
                2..4 => Fate::NotTaken,
                _ => Fate::Landed,
            };
            let text = |value: serde_json::Result<String>| value.map_err(SinkError::refused);
            let (fate_text, op) = (text(serde_json::to_string(&fate))?, text(serde_json::to_string(&batch[i]))?);
            let times = (self.life as i64, self.begun as i64, now() as i64);
            database.execute(sql, (call, times.0, times.1, times.2, fate_text, op)).map_err(failed)?;
            match fate {
                Fate::Refused => batch.refuse(i, SinkError::refused("no")),
                Fate::NotTaken => batch.retry(i, SinkError::transient("busy")),
                Fate::Landed | Fate::Repeated => batch.accept(i, call as u64),
            }
        }
        if !self.is_gentle && self.random.u32(0..30) == 0 {
            return Err(SinkError::transient("busy after all"));
        }
        batch.settled()
    }
}

/// The arrivals as lines, with the marks between them by their times.
pub(crate) fn read(path: &Path, marks: &[(u64, u64, Mark)]) -> Result<Vec<Line>, Failure> {
    let database = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let mut query = database.prepare("SELECT call, life, begun, at, fate, op FROM arrivals ORDER BY seq")?;
    let mut rows = query.query([])?;
    let mut timed: Vec<(u64, u8, Line)> = Vec::new();
    let mut last_call = 0;
    while let Some(row) = rows.next()? {
        let call: i64 = row.get(0)?;
        let (life, begun, at): (i64, i64, i64) = (row.get(1)?, row.get(2)?, row.get(3)?);
        let fate = serde_json::from_str(&row.get::<_, String>(4)?)?;
        let op: Op = serde_json::from_str(&row.get::<_, String>(5)?)?;
        match timed.last_mut() {
            Some((_, _, Line::Call { ops, .. })) if call == last_call => ops.push((op, fate)),
            _ => {
                let (seq, life, begun) = (call as u64, life as u64, begun as u64);
                timed.push((at as u64, 1, Line::Call { seq, life, begun, ops: vec![(op, fate)] }));
            }
        }
        last_call = call;
    }
    for (at, life, mark) in marks {
        // Within a millisecond rows come before a pause, and after its end. A life that finds a pause writes nothing before it ends that.
        let place = if matches!(mark, Mark::Resuming | Mark::FoundPaused) { 0 } else { 2 };
        timed.push((*at, place, Line::Mark { seq: 0, life: *life, mark: mark.clone() }));
    }
    timed.sort_by_key(|(at, place, _)| (*at, *place));
    Ok(timed.into_iter().map(|(_, _, line)| line).collect())
}
