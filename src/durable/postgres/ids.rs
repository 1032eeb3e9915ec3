//! Ids that a log forgets: the floors of processes. A term purges, and no other request raises them.

use std::collections::BTreeMap;

use super::frames::Frames;
use crate::durable::{
    ledger::{
        Ledger,
        session::{answer, committed},
    },
    log::{
        Answer, Purge, StoredFrame,
        rules::{self, PURGE},
        store::{ProducerRow, Stored},
    },
};

/// The floor of each process.
type Floors = BTreeMap<u64, u64>;

/// Forgets some outcomes recorded before a time, and charges that have expired. Returns whether there may be more. The ids are
/// forgotten first: an id whose outcome is gone is never new.
///
/// `unread` are the frames that the term has not read, and whether these are all: if it is far behind, its next purge will not be.
pub(crate) async fn purge(
    frames: &Frames,
    ledger: &Ledger,
    shard: u16,
    purge: &Purge,
    unread: Answer<'_, (Vec<StoredFrame>, bool)>,
) -> Stored<bool> {
    ledger.remove_charges(shard, purge.now).await?;
    let (unread, is_all) = unread.await?;
    if !is_all {
        return Ok(false);
    }
    // The lowest number, by producer, of ops that may repeat an id and are not settled.
    let mut open = purge.open.clone();
    unread.into_iter().try_for_each(|stored| rules::add_open_ids(&mut open, stored))?;
    let old = ledger.outcomes_before(shard, purge.before, &open, PURGE).await?;
    // In order of producer and number, so that the last of each producer counts.
    let floors: Floors = old.iter().map(|(producer, first, count)| (*producer, first + count)).collect();
    if floors.is_empty() {
        return Ok(false);
    }
    raise(frames, shard, &floors).await?;
    let below: Vec<(u64, u64)> = floors.into_iter().collect();
    ledger.remove_outcomes(shard, &below, purge.before).await?;
    Ok(old.len() == PURGE)
}

/// Raises floors, in a transaction that has locked the tail of the shard, as what appends has.
async fn raise(frames: &Frames, shard: u16, floors: &Floors) -> Stored<()> {
    let tables = frames.tables();
    let tail =
        tables.of_shard(shard, "SELECT FROM {s}.roundlot_tails WHERE log = $1 AND shard = $2 FOR NO KEY UPDATE", []);
    let work = async |client: &mut tokio_postgres::Client| {
        answer(client.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED")).await?;
        answer(tail.query(client)).await?;
        let raise = |row: ProducerRow, floor: u64| ProducerRow { floor: row.floor.max(floor), ..row };
        tables.change_producers(client, shard, floors, raise).await?;
        committed(client.batch_execute("COMMIT")).await
    };
    frames.changes().work(work).await
}
