//! Transactions of a ledger under the fence of a shard: a term begins, a record is stored, the work of a sink shares a transaction
//! with its record. At most one per shard is under way in a process, and the shard's row is locked in all of them.

use std::{sync::atomic::Ordering, time::Duration};

use tokio::time::timeout;
use tokio_postgres::{Client, IsolationLevel, Transaction};

use super::{
    Ledger,
    rows::{Statement, int8, run_all},
    schema::key,
    session::{ANSWER, Slot, answer, committed, failed},
};
use crate::durable::{
    intent::Intent,
    log::{
        LogError, Record, TermState,
        store::{LetterRow, ShardRow, Stored},
        sums::shard_sum,
    },
    settled::Settled,
    step::Step,
};

/// The fence under which a transaction runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fence {
    pub(crate) shard: u16,
    pub(crate) epoch: u64,
    /// How long a statement of a sink may take. `None` for a record alone, which a pause does not stop.
    pub(crate) timeout: Option<Duration>,
}

/// Why a transaction was undone, or has no known result.
#[derive(Debug)]
pub(crate) enum Undone<E> {
    /// By the work in it.
    Work(E),
    Log(LogError),
}

impl<E> From<LogError> for Undone<E> {
    fn from(error: LogError) -> Self {
        Self::Log(error)
    }
}

/// A shard's row, locked until the transaction ends.
struct Locked {
    row: ShardRow,
    /// The number of the transaction, by which the end of it is noticed.
    transaction: i64,
    /// The server's timeline, if it was asked for.
    timeline: Option<String>,
}

/// Positions that a transaction has settled once it has committed.
struct Committed {
    settled: Settled,
    /// The runs that frames may be removed by.
    whole: Vec<(u64, u64)>,
    record: Record,
}

impl Ledger {
    /// Begins a term. `next` is the position of the next op, as far as the log knows before.
    pub(crate) async fn begin(&self, shard: u16, next: u64) -> Stored<TermState> {
        let mut lead = self.shard(shard)?.lock().await;
        let lead = &mut *lead;
        lead.known = None;
        let timeline_of_lead = &mut lead.timeline;
        let begun = self.in_session(&mut lead.slot, async |client| {
            *timeline_of_lead = timeline(client).await?;
            self.begin_in(client, shard, next).await
        });
        let state = begun.await?;
        lead.known = Some((state.epoch, Settled::new(state.cursor, &state.settled)));
        Ok(state)
    }

    /// Runs a transaction in the session of a slot, which is in order afterwards. After an [`Unknown`](LogError::Unknown) result it is given up
    /// with what is under way in it.
    async fn in_session<V>(&self, slot: &mut Slot, work: impl AsyncFnOnce(&mut Client) -> Stored<V>) -> Stored<V> {
        let mut in_use = slot.ready(&self.server).await?;
        match work(in_use.client()?).await {
            Ok(value) => {
                in_use.done();
                self.commits.fetch_add(1, Ordering::Relaxed);
                Ok(value)
            }
            Err(error @ LogError::Unknown(_)) => Err(error),
            Err(error) => {
                in_use.undo().await;
                Err(error)
            }
        }
    }

    async fn begin_in(&self, client: &mut Client, shard: u16, next: u64) -> Stored<TermState> {
        let transaction = begun(client).await?;
        let Locked { row, transaction: number, .. } = self.lock(&transaction, shard, None, false).await?;
        let row = row.in_next_term(next);
        self.update(&transaction, shard, number, &row).await?;
        let settled = self.settled(&transaction, shard).await?;
        let intents = self.intents(&transaction, shard).await?;
        let charges = self.charges(&transaction, shard).await?;
        commit(transaction).await?;
        let ShardRow { epoch, cursor, paused, idle_terms, .. } = row;
        Ok(TermState { epoch, cursor, settled, next, intents, charges, paused, idle_terms })
    }

    /// Stores what a term has to tell.
    pub(crate) async fn record(&self, record: &Record) -> Stored<()> {
        if record.survived {
            let mut lead = self.shard(record.shard)?.lock().await;
            return self.in_session(&mut lead.slot, async |client| self.survive_in(client, record.shard).await).await;
        }
        let fence = Fence { shard: record.shard, epoch: record.epoch, timeout: None };
        let work = async |_: &mut Transaction<'_>| Ok::<_, LogError>(record.clone());
        self.transact(fence, |_| {}, work).await.map_err(|undone| match undone {
            Undone::Work(error) | Undone::Log(error) => error,
        })
    }

    /// Runs work in a transaction, and stores with it the record that the work returns. `committing` is called with the record
    /// when the transaction is about to commit. A future that is dropped before has changed nothing; dropped later, or after an
    /// [`Unknown`](LogError::Unknown) result, it may have committed.
    pub(crate) async fn transact<E, F>(
        &self,
        fence: Fence,
        committing: impl FnOnce(&Record),
        work: F,
    ) -> Result<(), Undone<E>>
    where
        F: AsyncFnOnce(&mut Transaction<'_>) -> Result<Record, E>,
    {
        let mut lead = self.shard(fence.shard)?.lock().await;
        let lead = &mut *lead;
        // Read again by the next transaction, unless this one has a certain end.
        let known = lead.known.take().filter(|(epoch, _)| *epoch == fence.epoch).map(|(_, settled)| settled);
        let mut in_use = lead.slot.ready(&self.server).await?;
        let as_left = (known.as_ref(), lead.timeline.as_deref());
        match self.transact_in(in_use.client()?, fence, as_left, committing, work).await {
            Ok(Committed { settled, whole, record }) => {
                in_use.done();
                self.commits.fetch_add(1, Ordering::Relaxed);
                self.frames.recorded(&record);
                if !whole.is_empty() {
                    self.frames.forget(fence.shard, settled.cursor(), whole);
                }
                lead.known = Some((fence.epoch, settled));
                Ok(())
            }
            Err(error @ Undone::Log(LogError::Unknown(_))) => Err(error),
            Err(error) => {
                in_use.undo().await;
                lead.known = known.map(|settled| (fence.epoch, settled));
                Err(error)
            }
        }
    }

    /// Pauses a shard or ends the pause, whoever leads it. Returns how many ops may be under way: those that intents name.
    pub(crate) async fn set_paused(&self, shard: u16, paused: bool) -> Stored<u64> {
        let mut lead = self.shard(shard)?.lock().await;
        let paused =
            self.in_session(&mut lead.slot, async |client| self.set_paused_in(client, shard, paused).await).await;
        // A process that leads the shard pauses it by a record, and this one needs no session for it.
        lead.slot.end().await;
        paused
    }

    async fn set_paused_in(&self, client: &mut Client, shard: u16, paused: bool) -> Stored<u64> {
        let transaction = begun(client).await?;
        // Behind the lock, no transaction of a sink is under way, and no record with an intent.
        let Locked { row, transaction: number, .. } = self.lock(&transaction, shard, None, false).await?;
        self.update(&transaction, shard, number, &ShardRow { paused, ..row }).await?;
        let intents = self.intents(&transaction, shard).await?;
        commit(transaction).await?;
        let ops = |(number, bytes): &(u64, Vec<u8>)| {
            let intent = Intent::decode(bytes).ok_or_else(|| LogError::Damaged(format!("intent {number}")))?;
            Ok(intent.ops.len() as u64)
        };
        intents.iter().map(ops).sum()
    }

    /// Stores that a process has survived a term, which a newer one may have followed.
    async fn survive_in(&self, client: &mut Client, shard: u16) -> Stored<()> {
        let transaction = begun(client).await?;
        let Locked { row, transaction: number, .. } = self.lock(&transaction, shard, None, false).await?;
        self.update(&transaction, shard, number, &row.survived()).await?;
        commit(transaction).await
    }

    /// Intents without a settlement.
    async fn intents(&self, transaction: &Transaction<'_>, shard: u16) -> Stored<Vec<(u64, Vec<u8>)>> {
        let sql = "SELECT number, intent, sum FROM {s}.roundlot_intents WHERE log = $1 AND shard = $2 ORDER BY number";
        let rows = answer(self.statement(shard, sql, []).query(transaction.client())).await?;
        rows.iter().map(|row| self.intent_of(shard, row)).collect()
    }

    async fn transact_in<E, F>(
        &self,
        client: &mut Client,
        fence: Fence,
        (known, timeline): (Option<&Settled>, Option<&str>),
        committing: impl FnOnce(&Record),
        work: F,
    ) -> Result<Committed, Undone<E>>
    where
        F: AsyncFnOnce(&mut Transaction<'_>) -> Result<Record, E>,
    {
        let mut transaction = begun(client).await?;
        let locked = self.lock(&transaction, fence.shard, fence.timeout, timeline.is_some()).await?;
        let Locked { row, transaction: number, .. } = locked;
        if row.epoch != fence.epoch {
            return Err(LogError::Fenced.into());
        }
        // A standby that was promoted may lack what was confirmed. Then positions are used again, and the term knows other ops by them.
        if locked.timeline.as_deref() != timeline || known.is_some_and(|known| known.cursor() != row.cursor) {
            return Err(LogError::WentBack.into());
        }
        if row.paused && fence.timeout.is_some() {
            return Err(LogError::Paused.into());
        }
        let before = match known {
            Some(settled) => settled.clone(),
            None => Settled::new(row.cursor, &self.settled(&transaction, fence.shard).await?),
        };
        let record = work(&mut transaction).await.map_err(Undone::Work)?;
        if row.paused && record.starts {
            return Err(LogError::Paused.into());
        }
        if !record.letters.is_empty() && !self.has_letter_room(&transaction).await? {
            return Err(LogError::LettersFull.into());
        }
        let mut settled = before.clone();
        let whole = record.settled.iter().map(|(first, last)| settled.insert(*first, *last)).collect();
        self.update(&transaction, fence.shard, number, &row.with(&record, settled.cursor())).await?;
        self.put(&transaction, &record, settled.since(&before)).await?;
        committing(&record);
        commit(transaction).await?;
        Ok(Committed { settled, whole, record })
    }

    /// Locks the row of a shard, and limits the time of the statements that follow, those of a sink if `limit` says how long they may take.
    async fn lock(
        &self,
        transaction: &Transaction<'_>,
        shard: u16,
        limit: Option<Duration>,
        with_timeline: bool,
    ) -> Stored<Locked> {
        let sql = format!(
            "SELECT epoch, cursor, paused, idle_terms, sum, txid_current(), set_config('statement_timeout', '{}', true), \
             set_config('idle_in_transaction_session_timeout', '{}', true), {} \
             FROM {{s}}.roundlot_shards WHERE log = $1 AND shard = $2 FOR NO KEY UPDATE",
            limit.unwrap_or(ANSWER).as_millis().clamp(1, MAX_MILLIS),
            // A transaction whose client is gone without a word, or is stopped, ends by itself.
            (limit.unwrap_or_default() + self.patience).as_millis().clamp(1, MAX_MILLIS),
            if with_timeline { TIMELINE } else { "NULL::text" },
        );
        let rows = answer(self.statement(shard, &sql, []).query(transaction.client())).await?;
        let row = rows.first().ok_or_else(|| LogError::Damaged("a shard has no row in its ledger".to_owned()))?;
        Ok(Locked { row: self.shard_of(shard, row)?, transaction: row.get(5), timeline: row.get(8) })
    }

    /// Changes the row of a shard, in the transaction that has locked it. Whatever a sink has set, the commit is synced and is
    /// not cut short, and a client that is gone or stopped holds the lock no longer than it may.
    async fn update(&self, transaction: &Transaction<'_>, shard: u16, number: i64, row: &ShardRow) -> Stored<()> {
        let sql = "UPDATE {s}.roundlot_shards SET epoch = $3, cursor = $4, paused = $5, idle_terms = $6, sum = $7 \
            WHERE log = $1 AND shard = $2 AND txid_current() = $8 RETURNING set_config('statement_timeout', '0', true), \
            set_config('idle_in_transaction_session_timeout', $9, true), \
            set_config('synchronous_commit', CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' \
            ELSE current_setting('synchronous_commit') END, true)";
        let patience = self.patience.as_millis().clamp(1, MAX_MILLIS).to_string();
        let sum = shard_sum(key(self.log, shard), &ShardRow { next: 0, ..*row });
        let columns = [
            int8(row.epoch),
            int8(row.cursor),
            (Box::new(row.paused), tokio_postgres::types::Type::BOOL),
            int8(u64::from(row.idle_terms)),
            (Box::new(sum), tokio_postgres::types::Type::INT8),
            (Box::new(number), tokio_postgres::types::Type::INT8),
            (Box::new(patience), tokio_postgres::types::Type::TEXT),
        ];
        let changed = answer(self.statement(shard, sql, columns).query(transaction.client())).await?;
        match changed.len() {
            1 => Ok(()),
            _ => Err(LogError::Uncommittable("the sink has ended the transaction of the log".to_owned())),
        }
    }

    /// Stores the rest of a record.
    async fn put(
        &self,
        transaction: &Transaction<'_>,
        record: &Record,
        (gone, new): (Vec<u64>, Vec<(u64, u64)>),
    ) -> Stored<()> {
        let (shard, now) = (record.shard, self.frames.now());
        let positions = record.letters.iter().filter_map(|letter| letter.position).collect::<Vec<_>>();
        let mut ops = match positions.is_empty() {
            true => Vec::new().into_iter(),
            false => self.frames.ops(shard, positions).await?.into_iter(),
        };
        let with_bytes = |letter: &LetterRow| {
            let op = letter.position.and_then(|_| ops.next()).unwrap_or_else(|| letter.op.clone());
            LetterRow { op, position: None, at: now, ..letter.clone() }
        };
        let letters: Vec<LetterRow> = record.letters.iter().map(with_bytes).collect();
        let charges = self.add_up(transaction, shard, &record.charges).await?;
        self.letters.add(&letters);
        let statements: Vec<Statement<'_>> = [
            self.put_letters(shard, &letters),
            self.put_outcomes(shard, &record.outcomes, now),
            self.put_charges(shard, &charges),
            self.put_intents(shard, &record.intents),
            self.remove_intents(shard, &record.resolved),
            self.remove_settled(shard, &gone),
            self.put_settled(shard, &new),
        ]
        .into_iter()
        .flatten()
        .collect();
        run_all(transaction.client(), &statements).await
    }

    /// Runs of settled positions above the cursor.
    async fn settled(&self, transaction: &Transaction<'_>, shard: u16) -> Stored<Vec<(u64, u64)>> {
        let sql = "SELECT first, last, sum FROM {s}.roundlot_settled WHERE log = $1 AND shard = $2 ORDER BY first";
        let rows = answer(self.statement(shard, sql, []).query(transaction.client())).await?;
        rows.iter().map(|row| self.run_of(shard, row)).collect()
    }
}

/// The server's timeline: the first eight digits of the name of its file of the write-ahead log.
const TIMELINE: &str = "substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)";

/// Asks for the timeline. `None` if this server does not know one, or keeps it from this role.
async fn timeline(client: &Client) -> Stored<Option<String>> {
    let sql = format!("SELECT {TIMELINE}");
    match timeout(ANSWER, client.query_typed(&sql, &[])).await {
        Ok(Err(error)) if error.as_db_error().is_none() => Err(failed(error)),
        Ok(rows) => Ok(rows.ok().and_then(|rows| rows.first()?.get(0))),
        Err(_) => Err(LogError::Failed("the server gave no answer".to_owned())),
    }
}

/// The longest time that a setting of the server takes, in milliseconds.
const MAX_MILLIS: u128 = i32::MAX as u128;

async fn begun(client: &mut Client) -> Stored<Transaction<'_>> {
    // Behind the lock of the shard's row, each statement must see what the transaction before has committed.
    answer(client.build_transaction().isolation_level(IsolationLevel::ReadCommitted).start()).await
}

async fn commit(transaction: Transaction<'_>) -> Stored<()> {
    Step::LedgerCommit.before();
    committed(transaction.commit()).await?;
    Step::LedgerCommit.after();
    Ok(())
}
