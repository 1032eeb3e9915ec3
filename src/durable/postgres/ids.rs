//! Ids that a log forgets: the floors of processes. A term purges, and no other request raises them.

use std::collections::BTreeMap;

use super::frames::Frames;
use crate::durable::{
    frame::Frame,
    ledger::{
        Ledger,
        rows::{int8s, run_all, sums},
        session::{answer, committed},
    },
    log::{
        LogError, Purge, StoredFrame,
        rules::PURGE,
        store::{OldOutcome, ProducerRow, Stored},
        sums::unsigned,
    },
};

/// The floor of each process.
type Floors = BTreeMap<u64, u64>;

/// Forgets some outcomes recorded before a time, and charges that have expired. Returns whether there may be more. The ids are
/// forgotten first: an id whose outcome is gone is never new.
pub(super) async fn purge(frames: &Frames, ledger: &Ledger, shard: u16, purge: &Purge) -> Stored<bool> {
    ledger.remove_charges(shard, purge.now).await?;
    let Some(open) = open_ids(frames, shard, purge).await? else {
        return Ok(false);
    };
    let old = ledger.outcomes_before(shard, purge.before, &open, PURGE).await?;
    let floors = floors(&old, &open);
    if floors.is_empty() {
        return Ok(false);
    }
    raise(frames, shard, &floors).await?;
    let below: Vec<(u64, u64)> = floors.into_iter().collect();
    ledger.remove_outcomes(shard, &below, purge.before).await?;
    Ok(old.len() == PURGE)
}

/// The lowest number, by producer, of ops that may repeat an id and are not settled, those included that the term has not read.
/// `None` if the term is far behind, as its next purge will not be.
async fn open_ids(frames: &Frames, shard: u16, purge: &Purge) -> Stored<Option<Floors>> {
    let mut open = purge.open.clone();
    let (unread, is_all) = frames.read_rest(shard, purge.unread).await?;
    if !is_all {
        return Ok(None);
    }
    let damaged = |error: crate::durable::frame::FrameError| LogError::Damaged(error.to_string());
    for StoredFrame { bytes, .. } in unread {
        let entries = Frame::open(bytes).and_then(|frame| frame.entries()).map_err(damaged)?;
        for (_, entry, _) in entries.iter().filter(|(_, entry, _)| entry.may_repeat) {
            open.entry(entry.producer).and_modify(|least| *least = entry.number.min(*least)).or_insert(entry.number);
        }
    }
    Ok(Some(open))
}

/// The floors that old outcomes, in order of producer and number, allow: all but those of ids that an op may still repeat.
fn floors(old: &[OldOutcome], open: &Floors) -> Floors {
    let mut floors = Floors::new();
    for (producer, first, count) in old {
        if open.get(producer).is_none_or(|number| first + count <= *number) {
            floors.insert(*producer, first + count);
        }
    }
    floors
}

/// Raises floors, in a transaction that has locked the tail of the shard, as what appends has.
async fn raise(frames: &Frames, shard: u16, floors: &Floors) -> Stored<()> {
    let tables = frames.tables();
    let producers = || int8s(floors.keys().copied());
    let tail =
        tables.of_shard(shard, "SELECT FROM {s}.roundlot_tails WHERE log = $1 AND shard = $2 FOR NO KEY UPDATE", []);
    let known = "SELECT producer, frame, first, floor, claimed, sum FROM {s}.roundlot_producers WHERE log = $1 AND shard = $2 \
        AND producer = ANY ($3)";
    let known = tables.of_shard(shard, known, [producers()]);
    let work = async |client: &mut tokio_postgres::Client| {
        answer(client.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED")).await?;
        answer(tail.query(client)).await?;
        let mut rows = Vec::new();
        for row in answer(known.query(client)).await? {
            let producer = unsigned(row.get(0));
            let before = tables.producer_of(shard, producer, &row, 1)?;
            let floor = floors.get(&producer).map_or(before.floor, |floor| before.floor.max(*floor));
            rows.push((producer, ProducerRow { floor, ..before }));
        }
        let sql = "UPDATE {s}.roundlot_producers p SET floor = r.floor, sum = r.sum \
            FROM unnest($3::bigint[], $4::bigint[], $5::bigint[]) AS r(producer, floor, sum) \
            WHERE p.log = $1 AND p.shard = $2 AND p.producer = r.producer";
        let columns = [
            int8s(rows.iter().map(|(producer, _)| *producer)),
            int8s(rows.iter().map(|(_, row)| row.floor)),
            sums(rows.iter().map(|(producer, row)| tables.producer_sum(shard, *producer, row))),
        ];
        run_all(client, &[tables.of_shard(shard, sql, columns)]).await?;
        committed(client.batch_execute("COMMIT")).await
    };
    frames.changes().work(work).await
}
