//! Requests to a ledger that need no fence: outcomes by id, old outcomes, and dead letters. They share a session of their own, so
//! that none waits for the work of a sink.

use std::collections::BTreeMap;

use tokio_postgres::{Client, Error, Row};

use super::{
    Ledger,
    rows::{int8, int8s},
    session::{answer, committed},
};
use crate::{
    durable::{
        frame::MAX_NUMBER,
        log::{
            LogError,
            lead::IdRun,
            store::{LetterRow, OldOutcome, OutcomeRow, Stored},
            sums::unsigned,
        },
        outcomes::only,
    },
    rules::outcome::OpId,
};

const OUTCOME: &str = "SELECT producer, first, count, ended, attempts, at, schema, result, lengths, sum \
    FROM {s}.roundlot_outcomes WHERE log = $1 AND shard = $2";

/// Attempts to remove a dead letter whose op is in the log again, and the pause between them.
#[cfg(any(feature = "durable-file", feature = "durable-nats"))]
const DISCARDS: u32 = 10;
#[cfg(any(feature = "durable-file", feature = "durable-nats"))]
const DISCARD_EVERY: std::time::Duration = std::time::Duration::from_secs(1);

/// Outcomes read at a time.
const READ: u64 = 256;

pub(crate) const LETTER: &str = "SELECT producer, number, op, schema, ended, attempts, error, at, sum, to_producer, to_number \
    FROM {s}.roundlot_letters WHERE log = $1 AND shard = $2";

/// A dead letter on its way back into the log.
#[cfg(any(feature = "durable-file", feature = "durable-nats"))]
#[derive(Debug)]
pub(crate) struct Marked {
    pub(crate) from: OpId,
    pub(crate) to: OpId,
    pub(crate) op: Vec<u8>,
    pub(crate) schema: u32,
}

impl Ledger {
    /// Runs a query.
    async fn look<V>(&self, query: impl AsyncFnOnce(&Client) -> Result<V, Error>) -> Stored<V> {
        let mut slot = self.lookups.lock().await;
        let mut in_use = slot.ready(&self.server).await?;
        let answer = answer(query(in_use.client()?)).await;
        match &answer {
            Ok(_) => in_use.done(),
            Err(_) => in_use.undo().await,
        }
        answer
    }

    /// Runs a statement that is a transaction of its own.
    async fn change<V>(&self, statement: impl AsyncFnOnce(&Client) -> Result<V, Error>) -> Stored<V> {
        let mut slot = self.lookups.lock().await;
        let mut in_use = slot.ready(&self.server).await?;
        let answer = committed(statement(in_use.client()?)).await;
        match &answer {
            Ok(_) => in_use.done(),
            Err(LogError::Unknown(_)) => {}
            Err(_) => in_use.undo().await,
        }
        answer
    }

    /// The outcome of one op.
    pub(crate) async fn find(&self, id: OpId) -> Stored<Option<OutcomeRow>> {
        let sql = format!("{OUTCOME} AND producer = $3 AND first <= $4 ORDER BY first DESC LIMIT 1");
        let query = self.statement(id.shard(), &sql, [int8(id.producer()), int8(id.number())]);
        let rows = self.look(async |client| query.query(client).await).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let row = self.outcome_of(id.shard(), row)?;
        if id.number() >= row.first + row.count {
            return Ok(None);
        }
        let damaged = || LogError::Damaged(format!("the outcomes of producer {} from {}", row.producer, row.first));
        only(&row, id.number()).map(Some).ok_or_else(damaged)
    }

    /// Outcomes that were recorded before a time, in order of producer and number, each producer's up to the first that was not.
    pub(crate) async fn outcomes_before(
        &self,
        shard: u16,
        before: u64,
        open: &BTreeMap<u64, u64>,
        limit: usize,
    ) -> Stored<Vec<OldOutcome>> {
        let sql = "SELECT producer, first, count, at FROM {s}.roundlot_outcomes WHERE log = $1 AND shard = $2 \
            AND (producer, first) > ($3, $4) ORDER BY producer, first LIMIT $5";
        let (mut old, mut after) = (Vec::new(), (0, 0));
        while old.len() < limit {
            let query = self.statement(shard, sql, [int8(after.0), int8(after.1), int8((limit - old.len()) as u64)]);
            let rows = self.look(async |client| query.query(client).await).await?;
            let Some(last) = rows.last() else { break };
            let number = |row: &Row, column: usize| unsigned(row.get(column));
            after = (number(last, 0), number(last, 1));
            for row in &rows {
                let (producer, first, count) = (number(row, 0), number(row, 1), number(row, 2));
                if number(row, 3) >= before || open.get(&producer).is_some_and(|number| first + count > *number) {
                    // The rest of this producer is newer, or kept as well.
                    after = (producer, MAX_NUMBER);
                    break;
                }
                old.push((producer, first, count));
            }
        }
        Ok(old)
    }

    /// Removes the first outcomes of processes, below a number each, as far as they were recorded before a time.
    pub(crate) async fn remove_outcomes(&self, shard: u16, floors: &[(u64, u64)], before: u64) -> Stored<()> {
        let sql = "DELETE FROM {s}.roundlot_outcomes o USING unnest($3::bigint[], $4::bigint[]) AS f(producer, floor) \
            WHERE log = $1 AND shard = $2 AND o.producer = f.producer AND o.first < f.floor AND at < $5";
        let columns = [
            int8s(floors.iter().map(|(producer, _)| *producer)),
            int8s(floors.iter().map(|(_, floor)| *floor)),
            int8(before),
        ];
        let statement = self.statement(shard, sql, columns);
        self.change(async |client| statement.execute(client).await).await.map(drop)
    }

    /// Removes draws from the quota that expired before a time.
    pub(crate) async fn remove_charges(&self, shard: u16, before: u64) -> Stored<()> {
        let sql = "DELETE FROM {s}.roundlot_charges WHERE log = $1 AND shard = $2 AND expires < $3";
        let statement = self.statement(shard, sql, [int8(before)]);
        self.change(async |client| statement.execute(client).await).await.map(drop)
    }

    /// Dead letters behind this one, in order of their ids.
    pub(crate) async fn letters(&self, shard: u16, after: Option<(u64, u64)>, limit: usize) -> Stored<Vec<LetterRow>> {
        let sql = format!("{LETTER} AND (producer, number) > ($3, $4) ORDER BY producer, number LIMIT $5");
        // No process has the number 0.
        let (producer, number) = after.unwrap_or_default();
        let query = self.statement(shard, &sql, [int8(producer), int8(number), int8(limit as u64)]);
        let rows = self.look(async |client| query.query(client).await).await?;
        rows.iter().map(|row| self.letter_of(shard, row)).collect()
    }

    /// Removes a dead letter. Returns whether there was one.
    pub(crate) async fn discard(&self, id: OpId) -> Stored<bool> {
        let sql = "DELETE FROM {s}.roundlot_letters WHERE log = $1 AND shard = $2 AND producer = $3 AND number = $4";
        let statement = self.statement(id.shard(), sql, [int8(id.producer()), int8(id.number())]);
        self.change(async |client| statement.execute(client).await).await.map(|count| count > 0)
    }

    /// Removes a dead letter whose op is in the log again. If that fails for long, the next process that joins does it.
    #[cfg(any(feature = "durable-file", feature = "durable-nats"))]
    pub(crate) async fn discard_surely(&self, id: OpId) {
        for _ in 0..DISCARDS {
            match self.discard(id).await {
                Err(error) if error.is_passing() || matches!(error, LogError::Unknown(_)) => {
                    tokio::time::sleep(DISCARD_EVERY).await;
                }
                _ => return,
            }
        }
    }

    /// Outcomes of ops with these ids. Not all of them if there are many, and none only if there are none.
    pub(crate) async fn ended(&self, shard: u16, ids: &[IdRun]) -> Stored<Vec<OutcomeRow>> {
        // Ops that end together share a row, which may begin before a run.
        let sql = "SELECT o.producer, o.first, o.count, o.ended, o.attempts, o.at, o.schema, o.result, o.lengths, o.sum \
            FROM unnest($3::bigint[], $4::bigint[], $5::bigint[]) AS r(producer, first, last), LATERAL ( \
            (SELECT b.* FROM (SELECT * FROM {s}.roundlot_outcomes WHERE log = $1 AND shard = $2 AND producer = r.producer \
                AND first <= r.first ORDER BY first DESC LIMIT 1) b WHERE b.first + b.count > r.first) \
            UNION ALL (SELECT * FROM {s}.roundlot_outcomes WHERE log = $1 AND shard = $2 AND producer = r.producer \
                AND first > r.first AND first <= r.last ORDER BY first LIMIT $6)) o LIMIT $6";
        let columns = [
            int8s(ids.iter().map(|run| run.producer)),
            int8s(ids.iter().map(|run| run.first)),
            int8s(ids.iter().map(|run| run.first + run.count - 1)),
            int8(READ),
        ];
        let query = self.statement(shard, sql, columns);
        let rows = self.look(async |client| query.query(client).await).await?;
        rows.iter().map(|row| self.outcome_of(shard, row)).collect()
    }

    /// Notes the id under which the op of a dead letter comes back, unless the letter has one. `None` if there is no letter.
    #[cfg(any(feature = "durable-file", feature = "durable-nats"))]
    pub(crate) async fn mark(&self, id: OpId, to: (u64, u64)) -> Stored<Option<Marked>> {
        let sql = "UPDATE {s}.roundlot_letters SET to_producer = coalesce(to_producer, $5), \
            to_number = coalesce(to_number, $6) WHERE log = $1 AND shard = $2 AND producer = $3 AND number = $4 \
            RETURNING producer, number, op, schema, ended, attempts, error, at, sum, to_producer, to_number";
        let columns = [int8(id.producer()), int8(id.number()), int8(to.0), int8(to.1)];
        let statement = self.statement(id.shard(), sql, columns);
        let rows = self.change(async |client| statement.query(client).await).await?;
        rows.first().map(|row| self.marked_of(id.shard(), row)).transpose()
    }

    /// Dead letters whose way back into the log was cut short.
    #[cfg(any(feature = "durable-file", feature = "durable-nats"))]
    pub(crate) async fn marked(&self, shard: u16) -> Stored<Vec<Marked>> {
        let query = self.statement(shard, &format!("{LETTER} AND to_number IS NOT NULL"), []);
        let rows = self.look(async |client| query.query(client).await).await?;
        rows.iter().map(|row| self.marked_of(shard, row)).collect()
    }

    #[cfg(any(feature = "durable-file", feature = "durable-nats"))]
    fn marked_of(&self, shard: u16, row: &Row) -> Stored<Marked> {
        let LetterRow { producer, number, op, schema, .. } = self.letter_of(shard, row)?;
        let from = OpId::new(producer, shard, number);
        Ok(Marked { from, to: OpId::new(unsigned(row.get(9)), shard, unsigned(row.get(10))), op, schema })
    }
}
