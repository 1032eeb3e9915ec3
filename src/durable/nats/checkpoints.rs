//! [`Checkpoints`]: from where on the stream of a shard must be read, in the ledger. A checkpoint is the [`State`] behind a message all
//! of whose predecessors are settled, or kept beside it: the next position is in `roundlot_tails`, the last frames of processes are
//! in `roundlot_producers`, and frames of which something is kept are in `roundlot_frames`, like those of a log in the database.
//!
//! Any process may store one, since all come to the same. One that is older than what is stored changes nothing.

use std::{collections::BTreeMap, sync::Arc};

use tokio_postgres::{Client, Row};

use super::fold::State;
use crate::{
    durable::{
        error::JoinError,
        ledger::{
            rows::{Statement, byteas, int4s, int8, int8s, run_all, sums},
            schema::Found,
            session::{answer, committed},
        },
        log::{
            LogError, StoredFrame,
            store::{Paired, ProducerRow, Stored},
            sums::{check, signed, sum, unsigned},
        },
        postgres::{
            frames::ROW_BYTES,
            schema::{TableSet, enter_with_positions},
            tables::{SharedSession, Tables},
        },
    },
    sink::postgres::Session,
};

/// The table, and the only format of it and of the messages in streams that is read.
const CHECKPOINTS: TableSet = TableSet { name: "checkpoints", key: "streams_format", format: 1, tables: TABLES };

const TABLES: &str = "
CREATE TABLE {s}.roundlot_checkpoints (
    log integer NOT NULL, shard integer NOT NULL, sequence bigint NOT NULL, message bigint NOT NULL, sum bigint NOT NULL,
    PRIMARY KEY (log, shard)
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
INSERT INTO {s}.roundlot_meta VALUES ('streams_format', 1);
";

pub(super) struct Checkpoints {
    tables: Arc<Tables>,
    session: SharedSession,
}

/// Joins the ledger of a log in one transaction, and makes it if there is none.
pub(super) async fn join(session: &mut Session, name: &str, shards: u16, paired: Paired) -> Result<Found, JoinError> {
    session.begin();
    let transaction = answer(session.client_mut().transaction()).await?;
    let (found, tables) = enter_with_positions(&transaction, name, shards, paired).await?;
    CHECKPOINTS.make(&transaction, &found.schema).await?;
    let rows = "INSERT INTO {s}.roundlot_checkpoints SELECT $1, r.shard, 0, 0, r.sum \
        FROM unnest($2::integer[], $3::bigint[]) AS r(shard, sum) ON CONFLICT DO NOTHING";
    let of_shards = sums((0..shards).map(|shard| checkpoint_sum(&tables, shard, 0, 0)));
    run_all(transaction.client(), &[tables.of_log(rows, [int4s(0..shards), of_shards])]).await?;
    committed(transaction.commit()).await?;
    session.rest();
    Ok(found)
}

fn checkpoint_sum(tables: &Tables, shard: u16, sequence: u64, message: u64) -> i64 {
    sum(&[unsigned(tables.tail_sum(shard, sequence)), message])
}

impl Checkpoints {
    pub(super) fn new(tables: Arc<Tables>, session: SharedSession) -> Self {
        Self { tables, session }
    }

    pub(super) async fn end(&self) {
        self.session.end().await;
    }

    /// The checkpoint of a shard.
    pub(super) async fn load(&self, shard: u16) -> Stored<State> {
        // In one statement, so that all is of one moment.
        let sql = "SELECT t.next, t.sum, c.sequence, c.message, c.sum, p.producer, p.frame, p.first, p.floor, p.claimed, p.sum \
            FROM {s}.roundlot_tails t JOIN {s}.roundlot_checkpoints c USING (log, shard) \
            LEFT JOIN {s}.roundlot_producers p USING (log, shard) WHERE t.log = $1 AND t.shard = $2";
        let rows = self.session.query(&self.tables.of_shard(shard, sql, [])).await?;
        let row = rows.first().ok_or_else(|| LogError::Damaged("a shard has no checkpoint".to_owned()))?;
        let next = self.tables.tail_of(shard, row, 0)?;
        let (sequence, message) = (unsigned(row.get(2)), unsigned(row.get(3)));
        check(row.get::<_, i64>(4) == checkpoint_sum(&self.tables, shard, sequence, message), "checkpoints")?;
        let producers = rows.iter().filter_map(|row| Some((unsigned(row.get::<_, Option<i64>>(5)?), row)));
        let known = |(producer, row): (u64, &Row)| {
            let row = self.tables.producer_of(shard, producer, row, 6)?;
            Ok((producer, ProducerRow { floor: 0, ..row }))
        };
        let producers =
            producers.map(known).filter(|row| !matches!(row, Ok((_, row)) if *row == ProducerRow::default()));
        Ok(State { sequence, sum: message, next, producers: producers.collect::<Stored<BTreeMap<_, _>>>()? })
    }

    /// How far a shard has come: the cursor, whether it is paused, and the message of the checkpoint.
    pub(super) async fn reach(&self, shard: u16) -> Stored<(u64, bool, u64)> {
        let sql = "SELECT s.cursor, s.paused, c.sequence FROM {s}.roundlot_shards s JOIN {s}.roundlot_checkpoints c \
            USING (log, shard) WHERE log = $1 AND shard = $2";
        let rows = self.session.query(&self.tables.of_shard(shard, sql, [])).await?;
        let row = rows.first().ok_or_else(|| LogError::Damaged("a shard has no checkpoint".to_owned()))?;
        Ok((unsigned(row.get(0)), row.get(1), unsigned(row.get(2))))
    }

    /// Stores a checkpoint that follows another one, with the frames that are kept because of it. Once this has returned, no earlier
    /// message is needed. The first of them may have been stored by another process.
    pub(super) async fn store(&self, shard: u16, state: &State, before: &State, kept: &[StoredFrame]) -> Stored<()> {
        let is_new = |(producer, row): &(&u64, &ProducerRow)| before.producers.get(producer) != Some(row);
        let changed: BTreeMap<u64, ProducerRow> =
            state.producers.iter().filter(is_new).map(|(producer, row)| (*producer, *row)).collect();
        self.session.work(async |client: &mut Client| self.store_in(client, shard, state, changed, kept).await).await
    }

    async fn store_in(
        &self,
        client: &Client,
        shard: u16,
        state: &State,
        changed: BTreeMap<u64, ProducerRow>,
        kept: &[StoredFrame],
    ) -> Stored<()> {
        answer(client.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED")).await?;
        // A purge of ids has locked the tail as well.
        let lock = "SELECT next, sum FROM {s}.roundlot_tails WHERE log = $1 AND shard = $2 FOR NO KEY UPDATE";
        answer(self.tables.of_shard(shard, lock, []).query(client)).await?;
        let sequence = "SELECT sequence FROM {s}.roundlot_checkpoints WHERE log = $1 AND shard = $2 AND sequence < $3";
        let older = answer(self.tables.of_shard(shard, sequence, [int8(state.sequence)]).query(client)).await?;
        if older.is_empty() {
            return answer(client.batch_execute("ROLLBACK")).await;
        }
        let newer = |row: ProducerRow, new: ProducerRow| ProducerRow { floor: row.floor, ..new };
        self.tables.change_producers(client, shard, &changed, newer).await?;
        run_all(client, &self.statements(shard, state, kept)).await?;
        committed(client.batch_execute("COMMIT")).await
    }

    fn statements<'a>(&self, shard: u16, state: &State, kept: &'a [StoredFrame]) -> [Statement<'a>; 3] {
        let checkpoint = "UPDATE {s}.roundlot_checkpoints SET sequence = $3, message = $4, sum = $5 \
            WHERE log = $1 AND shard = $2";
        let tail =
            "UPDATE {s}.roundlot_tails SET next = $3, sum = $4, bytes = bytes + $5 WHERE log = $1 AND shard = $2";
        let frames = "INSERT INTO {s}.roundlot_frames SELECT $1, $2, r.* \
            FROM unnest($3::bigint[], $4::bigint[], $5::bytea[], $6::bigint[]) AS r ON CONFLICT DO NOTHING";
        let int8_of = |number: i64| (Box::new(number) as Box<_>, tokio_postgres::types::Type::INT8);
        let bytes = kept.iter().map(|frame| frame.bytes.len() as u64 + ROW_BYTES).sum();
        let sum_of = |frame: &StoredFrame| self.tables.frame_sum(shard, (frame.first, frame.count), &frame.bytes);
        [
            self.tables.of_shard(
                shard,
                checkpoint,
                [
                    int8(state.sequence),
                    int8_of(signed(state.sum)),
                    int8_of(checkpoint_sum(&self.tables, shard, state.sequence, state.sum)),
                ],
            ),
            self.tables.of_shard(
                shard,
                tail,
                [int8(state.next), int8_of(self.tables.tail_sum(shard, state.next)), int8(bytes)],
            ),
            self.tables.of_shard(
                shard,
                frames,
                [
                    int8s(kept.iter().map(|frame| frame.first)),
                    int8s(kept.iter().map(|frame| frame.count)),
                    byteas(kept.iter().map(|frame| &*frame.bytes)),
                    sums(kept.iter().map(sum_of)),
                ],
            ),
        ]
    }
}
