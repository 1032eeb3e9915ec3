//! [`Register`]: the task that shows that a process is alive. The stream of the members holds the last word of each process and who has
//! each lease; the register watches it, renews this process's word, and takes and frees leases by compare-and-set.
//!
//! **A process has read the register when its own word comes back to it**: all that the stream had stored before has come by then. So
//! silence of another process is observed between two words of this one, and not while the stream, or the way to it, is out of order.

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

/// The pause before the register is watched again.
const PAUSE: Duration = Duration::from_millis(100);

/// Words in a row that may be lost before the register is watched anew.
const LOST_RENEWALS: u32 = 2;

pub(super) struct Register {
    pub(super) frames: Arc<Frames>,
    pub(super) members: Arc<Members>,
    /// The last word of each process.
    pub(super) words: BTreeMap<u64, Word>,
    leases: BTreeMap<u16, HeldLease>,
    /// The word of this process that has not come back.
    renewal: Option<Renewal>,
    /// Words and leases that have been heard since the register is watched.
    heard: u64,
    /// Words in a row that have not come back in time.
    lost_renewals: u32,
    /// When a dead process may be removed, if there is one.
    pub(super) remove_at: Instant,
    /// `None` while the stream can't be reached.
    watch: Option<Watch>,
}

pub(super) struct Word {
    pub(super) revision: u64,
    /// When it was stored, in nanoseconds since 1970.
    pub(super) at: u64,
    /// `None` if the process is gone.
    pub(super) lease: Option<Duration>,
}

#[derive(Clone, Copy)]
struct HeldLease {
    revision: u64,
    holder: u64,
}

struct Renewal {
    /// The revision of the word before.
    after: u64,
    sent: Instant,
    sent_at: SystemTime,
}

/// Where the register comes from.
struct Watch {
    words: Ordered,
    news: Subscriber,
}

impl Register {
    /// Makes this process known, reads the register, and takes the leases that are free and this process's, so that its first terms
    /// begin at once.
    pub(super) async fn begin(frames: Arc<Frames>) -> Stored<Self> {
        let members = Arc::clone(&frames.members);
        let mut register = Self {
            frames,
            members,
            words: BTreeMap::new(),
            leases: BTreeMap::new(),
            renewal: None,
            heard: 0,
            lost_renewals: 0,
            remove_at: Instant::now(),
            watch: None,
        };
        register.watch().await?;
        register.renew().await?;
        let read = async {
            while register.renewal.is_some() {
                register.next().await?;
            }
            Ok::<_, LogError>(())
        };
        timeout(ANSWER * 2, read).await.map_err(|_| no_answer())??;
        register.forget_gone().await;
        register.members.ask_for_all();
        register.act(false).await?;
        Ok(register)
    }

    /// Watches the register from its beginning.
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
        let words = consumer.messages().await.map_err(away)?;
        // The stream may have been made anew.
        self.words.clear();
        self.leases.clear();
        (self.renewal, self.lost_renewals, self.heard) = (None, 0, 0);
        self.watch = Some(Watch { words, news });
        let read = async {
            while self.heard < before {
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
                    if self.lost_renewals > LOST_RENEWALS {
                        return Err(LogError::Failed("the words of this process do not come back".to_owned()));
                    }
                }
                self.renew().await?;
                self.act(false).await?;
                self.remove_dead().await;
                Ok(())
            }
        }
    }

    /// A word of this process has not come back in time, or can't.
    fn failed(&mut self) {
        self.renewal = None;
        self.members.failed();
    }

    /// Hears one thing. Returns whether this process is to renew its word now.
    pub(super) async fn next(&mut self) -> Stored<bool> {
        let Some(watch) = &mut self.watch else { return Err(LogError::Closed) };
        tokio::select! {
            biased;
            notice = watch.news.next() => {
                let notice = notice.ok_or_else(no_answer)?;
                Ok(std::str::from_utf8(&notice.payload).is_ok_and(|notice| self.members.heard(notice)))
            }
            word = watch.words.next() => {
                let word = word.ok_or_else(no_answer)?.map_err(away)?;
                self.heard += 1;
                let info = word.info().map_err(|error| LogError::Failed(format!("NATS: {error}")))?;
                let (revision, at) = (info.stream_sequence, SystemTime::from(info.published));
                let value = std::str::from_utf8(&word.payload).unwrap_or_default();
                match self.frames.streams.names.of_member(&word.subject) {
                    Some(Subject::Member(producer)) => self.hear(producer, value, revision, at),
                    Some(Subject::Lease(shard)) => {
                        let holder = value.parse().unwrap_or_default();
                        // This process may have set a newer one.
                        if self.leases.get(&shard).is_none_or(|known| known.revision < revision) {
                            self.leases.insert(shard, HeldLease { revision, holder });
                            // More is known of a process that has just joined with the next word of this process.
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

    /// Takes up the word of a process.
    fn hear(&mut self, producer: u64, value: &str, revision: u64, at: SystemTime) {
        let lease = value.split(' ').next().and_then(|millis| millis.parse().ok()).map(Duration::from_millis);
        self.words.insert(producer, Word { revision, at: nanos(at), lease });
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
        let alive = self.words.iter().filter_map(|(producer, word)| Some((*producer, word.revision, word.lease?)));
        // A lease without a record is free.
        let holder = |shard: u16| self.leases.get(&shard).map_or(0, |lease| lease.holder);
        let shards = (0..).zip(self.frames.all()).map(|(shard, _)| (shard, holder(shard), (0, 0, 0, false)));
        let read = Read {
            members: alive.collect(),
            shards: shards.collect(),
            next_producer: self.words.keys().next_back().map_or(0, |last| last + 1),
            bytes: self.frames.bytes(),
        };
        self.members.read(Exchange { sent, answered: Instant::now() }, read);
    }

    /// Shows that this process is alive.
    async fn renew(&mut self) -> Stored<()> {
        if self.members.is_removed() {
            return Ok(());
        }
        let (sent, sent_at, me) = (Instant::now(), SystemTime::now(), self.members.me);
        let value = format!("{} {}", self.members.lease.as_millis(), process_name());
        let revision = self.words.get(&me).map_or(0, |word| word.revision);
        self.renewal = Some(Renewal { after: revision, sent, sent_at });
        match self.set(self.frames.streams.names.member(me), revision, value).await {
            Ok(_) => Ok(()),
            // An earlier word was stored without an answer, and is about to come back.
            Err(Unset::Outdated) => Ok(()),
            Err(Unset::Log(error)) => Err(error),
        }
    }

    /// Sets a word, and waits for the answer not much longer than a lease allows.
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
        let free = self.members.to_free(leaves);
        for shard in free {
            if self.leases.get(&shard).is_some_and(|lease| lease.holder == self.members.me) {
                let set = self.set_lease(shard, 0).await;
                if matches!(set, Err(Unset::Log(_))) {
                    // The lease is freed later.
                    continue;
                }
                self.was_set(shard, 0, set);
            }
            self.members.freed(&[shard]);
        }
        if !leaves {
            let me = self.members.me;
            let wanted: Vec<u16> = self.members.to_take().into_iter().map(|Wanted { shard, .. }| shard).collect();
            // All at once: one by one they would take as long as a lease.
            let taking: Vec<_> = wanted.iter().map(|shard| self.set_lease(*shard, me)).collect();
            for (shard, set) in wanted.into_iter().zip(futures::future::join_all(taking).await) {
                let is_taken = self.was_set(shard, me, set);
                self.members.took(shard, is_taken);
            }
        }
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
            self.leases.insert(shard, HeldLease { revision, holder });
        }
        is_set
    }
}
