//! [`Heartbeat`]: the task that shows that a process is alive. The stream of the members holds a record of each process and of each
//! lease. The task watches the stream, renews this process's record, and takes and frees leases by compare-and-set.
//!
//! **A process has read the stream when its own renewal is delivered to it**: all that was stored before has been delivered by then.
//! Silence of another process is observed between two renewals of this one, and not while the stream or the connection is out of order.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_nats::{
    Subscriber,
    jetstream::consumer::{
        DeliverPolicy,
        push::{Ordered, OrderedConfig},
    },
};
use futures::StreamExt;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    ANSWER,
    frames::Frames,
    streams::{Subject, Unset, away, no_answer},
};
use crate::durable::{
    log::{LogError, local::nanos, store::Stored},
    members::{Exchange, Members, Read, Wanted, events},
    postgres::schema::process_name,
};

/// The pause before the stream is watched again.
const PAUSE: Duration = Duration::from_millis(100);

/// Renewals in a row that may be lost before the stream is watched anew.
const LOST_RENEWALS: u32 = 2;

pub(super) struct Heartbeat {
    pub(super) frames: Arc<Frames>,
    pub(super) members: Arc<Members>,
    /// The last record of each process.
    pub(super) records: BTreeMap<u64, MemberRecord>,
    leases: BTreeMap<u16, LeaseRecord>,
    /// The renewal of this process that has not been delivered.
    renewal: Option<Renewal>,
    /// Records that have been delivered since the stream is watched.
    delivered: u64,
    /// Renewals in a row that were not delivered in time.
    lost_renewals: u32,
    /// When a dead process may be removed, if there is one.
    pub(super) remove_at: Instant,
    /// `None` while the stream can't be reached.
    watch: Option<Watch>,
}

pub(super) struct MemberRecord {
    pub(super) revision: u64,
    /// When it was stored, in nanoseconds since 1970.
    pub(super) at: u64,
    /// `None` if the process is gone.
    pub(super) lease: Option<Duration>,
}

#[derive(Clone, Copy)]
struct LeaseRecord {
    revision: u64,
    holder: u64,
}

struct Renewal {
    /// The revision of the record before.
    after: u64,
    sent: Instant,
    sent_at: SystemTime,
}

/// Subscriptions of the task.
struct Watch {
    records: Ordered,
    news: Subscriber,
}

impl Heartbeat {
    /// Makes this process known, reads all records, and takes the leases that are free and this process's, so that its first terms
    /// begin at once.
    pub(super) async fn begin(frames: Arc<Frames>) -> Stored<Self> {
        let members = Arc::clone(&frames.members);
        let mut heartbeat = Self {
            frames,
            members,
            records: BTreeMap::new(),
            leases: BTreeMap::new(),
            renewal: None,
            delivered: 0,
            lost_renewals: 0,
            remove_at: Instant::now(),
            watch: None,
        };
        heartbeat.watch().await?;
        heartbeat.renew().await?;
        if heartbeat.renewal.is_none() {
            let why = "another process has the number that the ledger gave to this one: it has lost a join";
            return Err(LogError::Unpaired(why.to_owned()));
        }
        let read = async {
            while heartbeat.renewal.is_some() {
                heartbeat.next().await?;
            }
            Ok::<_, LogError>(())
        };
        timeout(ANSWER * 2, read).await.map_err(|_| no_answer())??;
        heartbeat.forget_gone().await;
        heartbeat.members.ask_for_all();
        heartbeat.act(false).await?;
        Ok(heartbeat)
    }

    /// Watches the stream from its beginning.
    async fn watch(&mut self) -> Stored<()> {
        self.watch = None;
        let streams = &self.frames.streams;
        let client = streams.context.client();
        let news = client.subscribe(streams.names.news()).await.map_err(away)?;
        let config = OrderedConfig {
            deliver_subject: client.new_inbox(),
            // The stream has one message per subject.
            deliver_policy: DeliverPolicy::All,
            ..OrderedConfig::default()
        };
        let making = streams.context.create_consumer_on_stream(config, streams.names.members());
        let consumer = timeout(ANSWER, making).await.map_err(|_| no_answer())?.map_err(away)?;
        let before = consumer.cached_info().num_pending;
        let records = consumer.messages().await.map_err(away)?;
        // The stream may have been made anew.
        self.records.clear();
        self.leases.clear();
        (self.renewal, self.lost_renewals, self.delivered) = (None, 0, 0);
        self.watch = Some(Watch { records, news });
        let read = async {
            while self.delivered < before {
                self.next().await?;
            }
            Ok(())
        };
        timeout(ANSWER * 2, read).await.map_err(|_| no_answer())?
    }

    /// Beats until the log is left.
    pub(super) async fn run(mut self, closed: CancellationToken) {
        let mut due = Instant::now() + self.members.renew_every();
        while !closed.is_cancelled() {
            let went = tokio::select! {
                biased;
                () = closed.cancelled() => break,
                went = self.beat(&mut due) => went,
            };
            let Err(error) = went else { continue };
            self.watch = None;
            self.failed();
            events::can_not_renew(&error);
            tokio::select! {
                biased;
                () = closed.cancelled() => break,
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
        self.end().await;
    }

    /// Waits for something to do, and does it.
    async fn beat(&mut self, due: &mut Instant) -> Stored<()> {
        if self.watch.is_none() {
            self.watch().await?;
            *due = Instant::now();
        }
        let members = Arc::clone(&self.members);
        tokio::select! {
            heard = self.next() => {
                if heard? {
                    *due = Instant::now();
                }
                Ok(())
            }
            () = members.wake.notified() => self.act(false).await,
            () = sleep_until(*due) => {
                // At a fixed rate, however long the answer takes.
                *due = Instant::now() + self.members.renew_every();
                if self.renewal.is_some() {
                    self.failed();
                    self.lost_renewals += 1;
                }
                if self.lost_renewals > LOST_RENEWALS {
                    return Err(LogError::Failed("renewals of this process are not delivered".to_owned()));
                }
                self.renew().await?;
                self.act(false).await?;
                self.remove_dead().await;
                Ok(())
            }
        }
    }

    /// A renewal of this process was not delivered in time, or can't be.
    fn failed(&mut self) {
        self.renewal = None;
        self.members.failed();
    }

    /// Handles one delivery. Returns whether this process is to renew its record now.
    pub(super) async fn next(&mut self) -> Stored<bool> {
        let Some(watch) = &mut self.watch else { return Err(LogError::Closed) };
        tokio::select! {
            biased;
            notice = watch.news.next() => {
                let notice = notice.ok_or_else(no_answer)?;
                Ok(std::str::from_utf8(&notice.payload).is_ok_and(|notice| self.members.heard(notice)))
            }
            record = watch.records.next() => {
                let record = record.ok_or_else(no_answer)?.map_err(away)?;
                self.delivered += 1;
                let info = record.info().map_err(|error| LogError::Failed(format!("NATS: {error}")))?;
                let (revision, at) = (info.stream_sequence, SystemTime::from(info.published));
                let value = std::str::from_utf8(&record.payload).unwrap_or_default();
                match self.frames.streams.names.of_member(&record.subject) {
                    Some(Subject::Member(producer)) => self.handle_member(producer, value, revision, at),
                    Some(Subject::Lease(shard)) => {
                        let holder = value.parse().unwrap_or_default();
                        // This process may have set a newer one.
                        if self.leases.get(&shard).is_none_or(|known| known.revision < revision) {
                            self.leases.insert(shard, LeaseRecord { revision, holder });
                            // A process that has just joined becomes a member with the next renewal of this one.
                            if holder == 0 || holder == self.members.me || self.members.has(holder) {
                                self.members.is_held(shard, holder);
                            }
                        }
                    }
                    None => {}
                }
                Ok(false)
            }
        }
    }

    /// Handles the record of a process.
    fn handle_member(&mut self, producer: u64, value: &str, revision: u64, at: SystemTime) {
        let lease = value.split(' ').next().and_then(|millis| millis.parse().ok()).map(Duration::from_millis);
        self.records.insert(producer, MemberRecord { revision, at: nanos(at), lease });
        if producer != self.members.me {
            return;
        }
        if lease.is_none() && !self.members.is_removed() {
            self.members.removed();
        }
        let Some(renewal) = self.renewal.take_if(|renewal| renewal.after < revision) else { return };
        let Renewal { sent, sent_at, .. } = renewal;
        self.lost_renewals = 0;
        let stored = i64::try_from(nanos(at) / 1000).unwrap_or(i64::MAX);
        self.frames.clock.measured(sent_at, SystemTime::now(), stored);
        let alive =
            self.records.iter().filter_map(|(producer, record)| Some((*producer, record.revision, record.lease?)));
        // A lease without a record is free.
        let holder = |shard: u16| self.leases.get(&shard).map_or(0, |lease| lease.holder);
        let shards = (0..).zip(self.frames.all()).map(|(shard, _)| (shard, holder(shard), (0, 0, 0, false)));
        let read = Read {
            members: alive.collect(),
            shards: shards.collect(),
            next_producer: self.records.keys().next_back().map_or(0, |last| last + 1),
            bytes: self.frames.bytes(),
        };
        self.members.read(Exchange { sent, answered: Instant::now() }, read);
    }

    /// Renews the record of this process.
    async fn renew(&mut self) -> Stored<()> {
        if self.members.is_removed() {
            return Ok(());
        }
        let (sent, sent_at, me) = (Instant::now(), SystemTime::now(), self.members.me);
        let value = format!("{} {}", self.members.lease.as_millis(), process_name());
        let revision = self.records.get(&me).map_or(0, |record| record.revision);
        self.renewal = Some(Renewal { after: revision, sent, sent_at });
        match self.set(self.frames.streams.names.member(me), revision, value).await {
            Ok(_) => Ok(()),
            // An earlier renewal was stored without an answer. Its delivery shows nothing of now, so the next one counts.
            Err(Unset::Outdated) => {
                self.renewal = None;
                self.lost_renewals += 1;
                Ok(())
            }
            Err(Unset::Log(error)) => Err(error),
        }
    }

    /// Sets a record, and waits for the answer for half a lease, but for 250 ms at least.
    pub(super) fn set(
        &self,
        subject: String,
        revision: u64,
        value: String,
    ) -> impl Future<Output = Result<u64, Unset>> + Send + use<> {
        let within = (self.members.lease / 2).clamp(Duration::from_millis(250), ANSWER);
        let frames = Arc::clone(&self.frames);
        async move {
            let set = frames.streams.set(subject, revision, value);
            timeout(within, set).await.unwrap_or_else(|_| Err(Unset::Log(no_answer())))
        }
    }

    /// Takes and frees leases, and tells the other processes what there is to tell.
    pub(super) async fn act(&mut self, leaves: bool) -> Stored<()> {
        let is_own = |shard: &u16| self.leases.get(shard).is_some_and(|lease| lease.holder == self.members.me);
        let (own, others): (Vec<u16>, Vec<u16>) = self.members.to_free(leaves).into_iter().partition(is_own);
        self.members.freed(&others);
        // All at once: one by one they would take as long as a lease.
        let freeing: Vec<_> = own.iter().map(|shard| self.set_lease(*shard, 0)).collect();
        for (shard, set) in own.into_iter().zip(futures::future::join_all(freeing).await) {
            if matches!(set, Err(Unset::Log(_))) {
                // The lease is freed later.
                continue;
            }
            self.was_set(shard, 0, set);
            self.members.freed(&[shard]);
        }
        if !leaves {
            let me = self.members.me;
            let wanted: Vec<u16> = self.members.to_take().into_iter().map(|Wanted { shard, .. }| shard).collect();
            let taking: Vec<_> = wanted.iter().map(|shard| self.set_lease(*shard, me)).collect();
            for (shard, set) in wanted.into_iter().zip(futures::future::join_all(taking).await) {
                let is_taken = self.was_set(shard, me, set);
                self.members.took(shard, is_taken);
            }
        }
        self.publish_notices().await
    }

    /// Tells the other processes what there is to tell.
    pub(super) async fn publish_notices(&mut self) -> Stored<()> {
        for message in self.members.messages() {
            let client = self.frames.streams.context.client();
            client.publish(self.frames.streams.names.news(), message.into()).await.map_err(away)?;
        }
        Ok(())
    }

    /// Sets who has a lease, if it is as it was seen.
    fn set_lease(&self, shard: u16, holder: u64) -> impl Future<Output = Result<u64, Unset>> + Send + use<> {
        let revision = self.leases.get(&shard).map_or(0, |lease| lease.revision);
        self.set(self.frames.streams.names.lease(shard), revision, holder.to_string())
    }

    /// Notes that a lease was set. Returns whether it was, as far as that is known: the stream tells of it in any case.
    fn was_set(&mut self, shard: u16, holder: u64, set: Result<u64, Unset>) -> bool {
        let is_set = set.is_ok();
        if let Ok(revision) = set {
            self.leases.insert(shard, LeaseRecord { revision, holder });
        }
        is_set
    }
}
