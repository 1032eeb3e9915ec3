//! [`Appending`]: the transaction that puts frames at the end of their shards, all those that wait at once.
//!
//! Invariant: the tail of a shard is locked from before its next position is read until the frames that take it are committed, so that
//! positions become visible in their order. Tails are locked in the order of shards. A transaction of unknown result keeps its locks
//! until its fate is known, so the repeat of a frame finds it or stores it. The row of this process is locked as well: who removes
//! that row waits for frames that are under way, and none comes later.

use std::{collections::BTreeMap, sync::Arc};

use futures::join;
use tokio_postgres::Client;

use super::{
    frames::{ROW_BYTES, SPAN},
    tables::Tables,
};
use crate::{
    durable::{
        frame::{Entry, Frame, MAX_NUMBER, Packer},
        ledger::{
            Ledger,
            lookups::LETTER,
            rows::{byteas, int4s, int8, int8s, run_all, sums},
            session::{answer, committed},
        },
        log::{
            LogError, StoredFrame, rules,
            store::{LetterRow, ProducerRow, Stored},
            sums::unsigned,
        },
    },
    rules::outcome::OpId,
};

/// A frame on its way into a shard.
pub(super) struct AppendRequest {
    pub(super) shard: u16,
    pub(super) frame: Frame,
}

/// A dead letter on its way back into its shard.
pub(super) struct RequeueRequest {
    pub(super) letter: OpId,
    /// The number that its op gets.
    pub(super) number: u64,
}

pub(super) struct Appending {
    pub(super) tables: Arc<Tables>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) producer: u64,
    /// Bytes of frames above which none is stored, over all logs of the schema.
    pub(super) room: u64,
}

/// The rows that a transaction has locked.
struct Locked {
    /// The next position of each shard.
    next: BTreeMap<u16, u64>,
    producers: BTreeMap<u16, ProducerRow>,
    /// Bytes of all frames.
    bytes: u64,
}

/// A frame with its place.
struct Placed {
    shard: u16,
    first: u64,
    /// `None` if a transaction before has stored it.
    new: Option<Frame>,
}

impl Appending {
    /// Stores frames at `now`, in nanoseconds since 1970. Returns where each is. A frame that is refused keeps no other one back.
    pub(super) async fn store(
        &self,
        client: &Client,
        asked: &[AppendRequest],
        now: u64,
    ) -> Stored<Vec<Stored<StoredFrame>>> {
        let mut locked = self.lock(client, asked.iter().map(|asked| asked.shard)).await?;
        let (mut placed, mut answers) = (Vec::new(), Vec::new());
        for AppendRequest { shard, frame } in asked {
            let flagged = locked.producers.get(shard).map_or(Ok(None), |known| rules::flagged(known, frame))?;
            let frame = flagged.unwrap_or_else(|| frame.clone());
            let place = self.place(&mut locked, *shard, &frame, now);
            let Frame { count, bytes, .. } = frame;
            answers.push(
                place.as_ref().map(|place| StoredFrame { first: place.first, bytes, count }).map_err(Clone::clone),
            );
            placed.extend(place.ok().filter(|place| place.new.is_some()));
        }
        for Placed { shard, new, .. } in &placed {
            let claims = new.as_ref().map_or_else(|| Ok(BTreeMap::new()), rules::claims)?;
            if !claims.is_empty() {
                let claim = |row: ProducerRow, below: u64| ProducerRow { claimed: row.claimed.max(below), ..row };
                self.tables.change_producers(client, *shard, &claims, claim).await?;
            }
        }
        self.put(client, &locked, &placed, true).await?;
        Ok(answers)
    }

    /// Moves the op of a dead letter to the end of its shard. Returns the frame, if there was a letter.
    pub(super) async fn requeue(
        &self,
        client: &Client,
        moved: &RequeueRequest,
        now: u64,
    ) -> Stored<Option<StoredFrame>> {
        let shard = moved.letter.shard();
        let mut locked = self.lock(client, [shard]).await?;
        let Some(letter) = self.letter(client, moved.letter).await? else {
            answer(client.batch_execute("ROLLBACK")).await?;
            return Ok(None);
        };
        let mut packer = Packer::new(self.producer);
        let entry =
            Entry { producer: self.producer, number: moved.number, handle: 0, may_repeat: false, withdraws: false };
        packer.push(entry, &letter.op);
        let frame = packer.seal(0, now, letter.schema);
        let first = self.next_place(&mut locked, shard, &frame)?;
        let sql = "DELETE FROM {s}.roundlot_letters WHERE log = $1 AND shard = $2 AND producer = $3 AND number = $4";
        let columns = [int8(letter.producer), int8(letter.number)];
        answer(self.tables.of_shard(shard, sql, columns).execute(client)).await?;
        let stored = StoredFrame { first, bytes: Arc::clone(&frame.bytes), count: frame.count };
        self.put(client, &locked, &[Placed { shard, first, new: Some(frame) }], false).await?;
        Ok(Some(stored))
    }

    async fn letter(&self, client: &Client, id: OpId) -> Stored<Option<LetterRow>> {
        let sql = format!("{LETTER} AND producer = $3 AND number = $4 FOR UPDATE");
        let query = self.tables.of_shard(id.shard(), &sql, [int8(id.producer()), int8(id.number())]);
        let rows = answer(query.query(client)).await?;
        rows.first().map(|row| self.ledger.letter_of(id.shard(), row)).transpose()
    }

    /// Begins a transaction and locks the tails of shards, in one round trip.
    async fn lock(&self, client: &Client, shards: impl IntoIterator<Item = u16>) -> Stored<Locked> {
        let mut shards: Vec<u16> = shards.into_iter().collect();
        shards.sort_unstable();
        shards.dedup();
        let all = || int4s(shards.iter().copied());
        let tails = "SELECT shard, next, sum FROM {s}.roundlot_tails WHERE log = $1 AND shard = ANY ($2) ORDER BY shard \
            FOR NO KEY UPDATE";
        let member = "SELECT FROM {s}.roundlot_members WHERE log = $1 AND producer = $2 FOR KEY SHARE";
        // Each is a statement of its own, so that it sees what was committed before the lock.
        let producers = "SELECT shard, frame, first, floor, claimed, sum FROM {s}.roundlot_producers WHERE log = $1 \
            AND producer = $2 AND shard = ANY ($3)";
        let bytes = "SELECT sum(bytes)::bigint FROM {s}.roundlot_tails WHERE $1::integer IS NOT NULL";
        let tails = self.tables.of_log(tails, [all()]);
        let member = self.tables.of_log(member, [int8(self.producer)]);
        let producers = self.tables.of_log(producers, [int8(self.producer), all()]);
        let bytes = self.tables.of_log(bytes, []);
        // Sent in this order, when each is first polled.
        let answers = async {
            join!(
                answer(client.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED")),
                answer(tails.query(client)),
                answer(member.query(client)),
                answer(producers.query(client)),
                answer(bytes.query(client)),
            )
        };
        let (begun, tails, member, producers, bytes) = answers.await;
        begun?;
        let (tails, member, producers, bytes) = (tails?, member?, producers?, bytes?);
        if member.is_empty() {
            return Err(LogError::Closed);
        }
        let shard_of = |row: &tokio_postgres::Row| row.get::<_, i32>(0) as u16;
        let next = tails.iter().map(|row| Ok((shard_of(row), self.tables.tail_of(shard_of(row), row, 1)?)));
        let known = |row| self.tables.producer_of(shard_of(row), self.producer, row, 1);
        Ok(Locked {
            next: next.collect::<Stored<_>>()?,
            producers: producers.iter().map(|row| Ok((shard_of(row), known(row)?))).collect::<Stored<_>>()?,
            bytes: bytes.first().and_then(|row| row.get::<_, Option<i64>>(0)).map_or(0, unsigned),
        })
    }

    /// The place of a frame, by the same rule as in every engine.
    fn place(&self, locked: &mut Locked, shard: u16, frame: &Frame, now: u64) -> Stored<Placed> {
        let missing = || LogError::Damaged("a process has no row in a shard".to_owned());
        let producer = locked.producers.get(&shard).copied().ok_or_else(missing)?;
        if let Some(first) = rules::stored_at(&producer, frame, now)? {
            return Ok(Placed { shard, first, new: None });
        }
        let first = self.next_place(locked, shard, frame)?;
        locked.producers.insert(shard, ProducerRow { frame: frame.number, first, ..producer });
        Ok(Placed { shard, first, new: Some(frame.clone()) })
    }

    /// Takes the next positions of a shard.
    fn next_place(&self, locked: &mut Locked, shard: u16, frame: &Frame) -> Stored<u64> {
        let missing = || LogError::Damaged("a shard has no tail".to_owned());
        let next = locked.next.get_mut(&shard).ok_or_else(missing)?;
        if frame.count > SPAN || *next > MAX_NUMBER - SPAN {
            return Err(LogError::Ghost);
        }
        let bytes = frame.bytes.len() as u64 + ROW_BYTES;
        if locked.bytes + bytes > self.room {
            return Err(LogError::Full);
        }
        locked.bytes += bytes;
        let first = *next;
        *next += frame.count;
        Ok(first)
    }

    /// Stores what has a place, and commits. `are_numbered` frames are noted as the last ones of this process.
    async fn put(&self, client: &Client, locked: &Locked, placed: &[Placed], are_numbered: bool) -> Stored<()> {
        if placed.is_empty() {
            // A frame that was stored before is confirmed now. The locks are in the WAL, so this waits for standby servers like its commit.
            return committed(client.batch_execute("COMMIT")).await;
        }
        let new = || placed.iter().filter_map(|place| Some((place.shard, place.first, place.new.as_ref()?)));
        let shards = || int4s(new().map(|(shard, ..)| shard));
        let sum_of = |(shard, first, frame): (u16, u64, &Frame)| {
            self.tables.frame_sum(shard, (first, frame.count), &frame.bytes)
        };
        let frames = "INSERT INTO {s}.roundlot_frames SELECT $1, r.* \
            FROM unnest($2::integer[], $3::bigint[], $4::bigint[], $5::bytea[], $6::bigint[]) AS r";
        let frames = self.tables.of_log(
            frames,
            [
                shards(),
                int8s(new().map(|(_, first, _)| first)),
                int8s(new().map(|(.., frame)| frame.count)),
                byteas(new().map(|(.., frame)| &*frame.bytes)),
                sums(new().map(sum_of)),
            ],
        );
        let tails = "UPDATE {s}.roundlot_tails t SET next = r.next, bytes = t.bytes + r.bytes, sum = r.sum \
            FROM unnest($2::integer[], $3::bigint[], $4::bigint[], $5::bigint[]) AS r(shard, next, bytes, sum) \
            WHERE t.log = $1 AND t.shard = r.shard";
        // A shard has at most one frame of a process on its way.
        let next_of = |shard: u16| locked.next.get(&shard).copied().unwrap_or_default();
        let tails = self.tables.of_log(
            tails,
            [
                shards(),
                int8s(new().map(|(shard, ..)| next_of(shard))),
                int8s(new().map(|(.., frame)| frame.bytes.len() as u64 + ROW_BYTES)),
                sums(new().map(|(shard, ..)| self.tables.tail_sum(shard, next_of(shard)))),
            ],
        );
        let known_of = |shard: u16| locked.producers.get(&shard).copied().unwrap_or_default();
        let producers = "UPDATE {s}.roundlot_producers p SET frame = r.frame, first = r.first, sum = r.sum \
            FROM unnest($3::integer[], $4::bigint[], $5::bigint[], $6::bigint[]) AS r(shard, frame, first, sum) \
            WHERE p.log = $1 AND p.producer = $2 AND p.shard = r.shard";
        let sum_of = |shard: u16| self.tables.producer_sum(shard, self.producer, &known_of(shard));
        let producers = self.tables.of_log(
            producers,
            [
                int8(self.producer),
                shards(),
                int8s(new().map(|(shard, ..)| known_of(shard).frame)),
                int8s(new().map(|(shard, ..)| known_of(shard).first)),
                sums(new().map(|(shard, ..)| sum_of(shard))),
            ],
        );
        match are_numbered {
            true => run_all(client, &[frames, tails, producers]).await?,
            false => run_all(client, &[frames, tails]).await?,
        }
        committed(client.batch_execute("COMMIT")).await
    }
}
