//! [`Heartbeat`]: the task that shows that a process is alive. It renews the process's revision and reads all members and leases in one
//! statement, takes and frees leases, and sends and hears notices. It has a session of its own, whose commits are not waited for: what
//! a server that crashes forgets of them, it can do without.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};
use tokio_postgres::{Row, types::Type};
use tokio_util::sync::CancellationToken;

use super::tables::Tables;
use crate::{
    durable::{
        error::JoinError,
        ledger::{
            rows::{int4s, int8},
            session::{connect_with, failed},
        },
        log::{LogError, store::Stored, sums::unsigned},
        members::{Clock, Exchange, Members, Read, Wanted, events},
    },
    rules::stable_hash::fnv1a,
    sink::postgres::{Server, Session},
};

/// Notices that wait to be heard, at most. More are lost, as any of them may be.
const HEARD: usize = 1024;

/// The first pause between attempts to connect. The longest is that between two renewals: a process must not look dead to another one
/// that has found the server earlier.
const BACKOFF: Duration = Duration::from_millis(50);

/// How long the departure of a process may take. Its leases then end like those of one that has died.
const LEAVE: Duration = Duration::from_secs(5);

/// How long an answer may take: half a lease, so that a connection that is lost is noticed in time to renew by another one. With very
/// short leases it is the least that a busy machine needs, and with long ones no more than a server needs that is not lost.
const ANSWER: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(4));

const RENEW: &str = "WITH renewed AS (UPDATE {s}.roundlot_members SET revision = revision + 1, renewed_at = clock_timestamp() \
    WHERE log = $1 AND producer = $2 RETURNING revision)
    SELECT EXISTS (SELECT FROM renewed), (extract(epoch FROM clock_timestamp()) * 1000000)::bigint,
        (SELECT next_producer FROM {s}.roundlot_logs WHERE log = $1), m.*, s.*
    FROM (SELECT array_agg(producer), array_agg(revision), coalesce(bool_or(renewed_at < clock_timestamp() - interval '1 hour'), \
            false), array_agg(lease) FROM {s}.roundlot_members WHERE log = $1) m,
        (SELECT coalesce(sum(t.bytes), 0)::bigint, array_agg(l.shard), array_agg(l.holder), array_agg(t.next), \
            array_agg(s.cursor), array_agg(s.epoch), array_agg(s.paused)
        FROM {s}.roundlot_leases l JOIN {s}.roundlot_tails t USING (log, shard) JOIN {s}.roundlot_shards s USING (log, shard)
        WHERE log = $1) s";

/// Compares and sets: the lease is as it was seen, a holder that was dead has shown no life since, and this process has not been removed.
const TAKE: &str = "UPDATE {s}.roundlot_leases SET holder = $3 WHERE log = $1 AND shard = $2 AND holder = $4 \
    AND NOT EXISTS (SELECT FROM {s}.roundlot_members m WHERE m.log = $1 AND m.producer = $4 AND $4 <> $3 \
        AND m.revision IS DISTINCT FROM $5) \
    AND EXISTS (SELECT FROM {s}.roundlot_members m WHERE m.log = $1 AND m.producer = $3)";

const FREE: &str = "UPDATE {s}.roundlot_leases SET holder = 0 WHERE log = $1 AND shard = ANY ($2) AND holder = $3";

/// The row of a process that is dead and has been silent for an hour. Frames that are under way are stored before it goes, and none later.
const REMOVE: &str = "DELETE FROM {s}.roundlot_members WHERE log = $1 AND producer = $2 AND revision = $3 \
    AND renewed_at < clock_timestamp() - interval '1 hour'";

const LEAVE_LOG: &str = "DELETE FROM {s}.roundlot_members WHERE log = $1 AND producer = $2";

const NOTIFY: &str = "SELECT pg_notify($1, message) FROM unnest($2::text[]) AS r(message)";

pub(super) struct Heartbeat {
    members: Arc<Members>,
    tables: Arc<Tables>,
    server: Arc<Server>,
    clock: Arc<Clock>,
    /// `None` while the server can't be reached.
    listener: Option<Listener>,
}

/// A session that listens.
struct Listener {
    session: Session,
    notifications: mpsc::Receiver<String>,
}

impl Heartbeat {
    /// Connects, reads the tables once, and takes the leases that are free and this process's, so that its first terms begin at once.
    pub(super) async fn begin(
        members: Arc<Members>,
        tables: Arc<Tables>,
        server: Arc<Server>,
        clock: Arc<Clock>,
    ) -> Result<Self, JoinError> {
        let mut heartbeat = Self { members, tables, server, clock, listener: None };
        heartbeat.connect().await?;
        heartbeat.renew().await?;
        heartbeat.members.ask_for_all();
        heartbeat.act(false).await?;
        Ok(heartbeat)
    }

    async fn connect(&mut self) -> Result<(), JoinError> {
        let (sender, notifications) = mpsc::channel(HEARD);
        let session = connect_with(&self.server, move |notification| {
            // One that finds no room is lost, and what it says is read a little later.
            let _ = sender.try_send(notification.payload().to_owned());
        });
        let session = session.await?;
        if !session.is_own() {
            return Err(JoinError::Unsafe("a pooler in between shares sessions, and leases need their own".to_owned()));
        }
        let settings = format!(
            "SET synchronous_commit TO off; SET statement_timeout TO '{}ms'; LISTEN {}",
            self.answer_within().as_millis(),
            channel(&self.tables.schema, self.tables.log)
        );
        self.listener = Some(Listener { session, notifications });
        self.on_time(async |session| session.client().batch_execute(&settings).await).await?;
        Ok(())
    }

    fn answer_within(&self) -> Duration {
        (self.members.lease / 2).clamp(ANSWER.0, ANSWER.1)
    }

    /// Runs a request. The session is given up if it fails.
    async fn on_time<V>(
        &mut self,
        request: impl AsyncFnOnce(&Session) -> Result<V, tokio_postgres::Error>,
    ) -> Stored<V> {
        let within = self.answer_within();
        let Some(listener) = &mut self.listener else { return Err(LogError::Closed) };
        listener.session.begin();
        let result = match timeout(within, request(&listener.session)).await {
            Ok(answer) => answer.map_err(failed),
            Err(_) => Err(LogError::Failed("the server gave no answer".to_owned())),
        };
        match &result {
            Ok(_) => listener.session.rest(),
            Err(_) => {
                self.listener = None;
                self.members.failed();
            }
        }
        result
    }

    /// Beats until the log is left.
    pub(super) async fn run(mut self, closed: CancellationToken) {
        let (mut due, mut pause) = (Instant::now() + self.members.renew_every(), BACKOFF);
        while !closed.is_cancelled() {
            let beat = async {
                if self.listener.is_none() {
                    self.connect().await?;
                    due = Instant::now();
                }
                self.beat(&mut due).await
            };
            let went: Result<(), JoinError> = tokio::select! {
                biased;
                () = closed.cancelled() => break,
                went = beat => went,
            };
            let Err(error) = went else {
                pause = BACKOFF;
                continue;
            };
            self.listener = None;
            self.members.failed();
            events::can_not_renew(&error);
            tokio::select! {
                biased;
                () = closed.cancelled() => break,
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(self.members.renew_every()),
            }
        }
        let no_answer = || Err(JoinError::Open("the server gave no answer".to_owned()));
        if let Err(error) = timeout(LEAVE, self.leave()).await.unwrap_or_else(|_| no_answer()) {
            events::left_in_silence(&error);
        }
    }

    /// Waits for something to do, and does it.
    async fn beat(&mut self, due: &mut Instant) -> Result<(), JoinError> {
        let Some(listener) = &mut self.listener else { return Ok(()) };
        tokio::select! {
            message = listener.notifications.recv() => match message {
                None => Err(JoinError::Open("the session was closed".to_owned())),
                Some(message) => {
                    if self.members.heard(&message) {
                        *due = Instant::now();
                    }
                    Ok(())
                }
            },
            () = self.members.wake.notified() => Ok(self.act(false).await?),
            () = sleep_until(*due) => {
                // At a fixed rate, however long the answer takes.
                *due = Instant::now() + self.members.renew_every();
                self.renew().await?;
                Ok(self.act(false).await?)
            }
        }
    }

    /// Shows that this process is alive, and reads who else is.
    async fn renew(&mut self) -> Stored<()> {
        let statement = self.tables.of_log(RENEW, [int8(self.members.me)]);
        let (sent, sent_at) = (SystemTime::now(), Instant::now());
        let rows = self.on_time(async |session| statement.query(session.client()).await).await?;
        let received = SystemTime::now();
        let row = rows.first().ok_or_else(|| LogError::Damaged("the log is gone".to_owned()))?;
        self.clock.measured(sent, received, row.get(1));
        if !row.get::<_, bool>(0) && !self.members.is_removed() {
            self.members.removed();
        }
        let has_old = row.get::<_, Option<bool>>(5).unwrap_or_default();
        self.members.read(Exchange { sent: sent_at, answered: Instant::now() }, read_of(row));
        if has_old {
            self.remove_dead().await?;
        }
        Ok(())
    }

    async fn remove_dead(&mut self) -> Stored<()> {
        for (producer, revision) in self.members.dead() {
            let remove = self.tables.of_log(REMOVE, [int8(producer), int8(revision)]);
            if self.on_time(async |session| remove.execute(session.client()).await).await? > 0 {
                events::dead_was_removed(producer);
            }
        }
        Ok(())
    }

    /// Takes and frees leases, and tells the other processes what there is to tell.
    async fn act(&mut self, leaves: bool) -> Stored<()> {
        let free = self.members.to_free(leaves);
        if !free.is_empty() {
            let statement = self.tables.of_log(FREE, [int4s(free.iter().copied()), int8(self.members.me)]);
            self.on_time(async |session| statement.execute(session.client()).await).await?;
            self.members.freed(&free);
        }
        if !leaves {
            for wanted in self.members.to_take() {
                self.take(wanted).await?;
            }
        }
        let messages = self.members.messages();
        if !messages.is_empty() {
            let channel = channel(&self.tables.schema, self.tables.log);
            let notify = async |session: &Session| {
                let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] =
                    [(&channel, Type::TEXT), (&messages, Type::TEXT_ARRAY)];
                session.client().execute_typed(NOTIFY, &parameters).await
            };
            self.on_time(notify).await?;
        }
        Ok(())
    }

    pub(super) async fn take(&mut self, Wanted { shard, holder, revision }: Wanted) -> Stored<()> {
        let revision = (Box::new(revision.map(crate::durable::log::sums::signed)) as Box<_>, Type::INT8);
        let take = self.tables.of_shard(shard, TAKE, [int8(self.members.me), int8(holder), revision]);
        let taken = self.on_time(async |session| take.execute(session.client()).await).await?;
        self.members.took(shard, taken > 0);
        Ok(())
    }

    /// Gives all leases up, and leaves the log.
    async fn leave(&mut self) -> Result<(), JoinError> {
        if self.listener.is_none() {
            self.connect().await?;
        }
        // Under way until the process left: it is done before what follows, or not at all.
        self.members.leaves();
        let leave = self.tables.of_log(LEAVE_LOG, [int8(self.members.me)]);
        self.on_time(async |session| leave.execute(session.client()).await).await?;
        self.act(true).await?;
        if let Some(Listener { session, .. }) = self.listener.take() {
            session.end().await;
        }
        Ok(())
    }
}

/// The channel of a log, as an identifier of SQL that needs no quotes.
fn channel(schema: &str, log: i32) -> String {
    format!("roundlot_{:016x}_{log}", fnv1a(schema.as_bytes()))
}

fn read_of(row: &Row) -> Read {
    let numbers = |column: usize| row.get::<_, Option<Vec<i64>>>(column).unwrap_or_default();
    let members = numbers(3).into_iter().zip(numbers(4)).zip(numbers(6));
    let lease = |millis: i64| Duration::from_millis(unsigned(millis));
    let shards = row.get::<_, Option<Vec<i32>>>(8).unwrap_or_default();
    let pauses = row.get::<_, Option<Vec<bool>>>(13).unwrap_or_default();
    let (nexts, cursors, epochs) = (numbers(10), numbers(11), numbers(12));
    let marks = nexts.into_iter().zip(cursors).zip(epochs).zip(pauses);
    let marks = marks.map(|(((next, cursor), epoch), paused)| (next, cursor, epoch, paused));
    let shards = shards.into_iter().zip(numbers(9)).zip(marks);
    Read {
        members: members.map(|((member, revision), of)| (unsigned(member), unsigned(revision), lease(of))).collect(),
        shards: shards.map(|((shard, holder), mark)| (shard as u16, unsigned(holder), mark)).collect(),
        next_producer: row.get::<_, Option<i64>>(2).map_or(0, unsigned),
        bytes: unsigned(row.get(7)),
    }
}
