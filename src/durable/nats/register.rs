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
use tracing::{error, info, warn};

use super::{
    ANSWER,
    farewell::Farewell,
    frames::Frames,
    streams::{Subject, Unset, away, no_answer},
};
use crate::durable::{
    log::{LogError, local::nanos, store::Stored},
    members::{Exchange, Members, Read, Wanted},
    postgres::schema::process_name,
};

/// How long the departure of a process may take. Its leases then end like those of one that has died.
const LEAVE: Duration = Duration::from_secs(5);

/// The pause before the register is watched again.
const PAUSE: Duration = Duration::from_millis(100);

/// The silence after which a process that is dead is removed, as the servers' clocks show it.
const REMOVE_AFTER: Duration = Duration::from_secs(3600);

/// The last word of a process that has left, or was removed.
const GONE: &str = "gone";

pub(super) struct Register {
    frames: Arc<Frames>,
    members: Arc<Members>,
    /// The last word of each process.
    words: BTreeMap<u64, Word>,
    leases: BTreeMap<u16, HeldLease>,
    /// The word of this process that has not come back.
    renewal: Option<Renewal>,
    /// `None` while the stream can't be reached.
    watch: Option<Watch>,
}

struct Word {
    revision: u64,
    /// When it was stored, in nanoseconds since 1970.
    at: u64,
    /// `None` if the process is gone.
    lease: Option<Duration>,
}

#[derive(Clone, Copy)]
struct HeldLease {
    revision: u64,
    holder: u64,
}

struct Renewal {
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
        let mut register =
            Self { frames, members, words: BTreeMap::new(), leases: BTreeMap::new(), renewal: None, watch: None };
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
        let words = consumer.messages().await.map_err(away)?;
        self.watch = Some(Watch { words, news });
        Ok(())
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
            warn!(%error, "a process can't renew its leases");
            tokio::select! {
                biased;
                () = closed.cancelled() => break,
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
        if let Err(error) = timeout(LEAVE, self.leave()).await.unwrap_or_else(|_| Err(no_answer())) {
            warn!(%error, "a process has left without saying so");
        }
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
                }
                self.renew().await?;
                self.remove_dead().await?;
                self.act(false).await
            }
        }
    }

    /// A word of this process has not come back in time, or can't.
    fn failed(&mut self) {
        self.renewal = None;
        self.members.failed();
    }

    /// Hears one thing. Returns whether this process is to renew its word now.
    async fn next(&mut self) -> Stored<bool> {
        let Some(watch) = &mut self.watch else { return Err(LogError::Closed) };
        tokio::select! {
            biased;
            notice = watch.news.next() => {
                let notice = notice.ok_or_else(no_answer)?;
                Ok(std::str::from_utf8(&notice.payload).is_ok_and(|notice| self.members.heard(notice)))
            }
            word = watch.words.next() => {
                let word = word.ok_or_else(no_answer)?.map_err(away)?;
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
                            self.members.is_held(shard, holder);
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
            error!(producer, "this process was silent for an hour and was removed from the log: join again");
            self.members.removed();
        }
        let Some(Renewal { sent, sent_at }) = self.renewal.take() else { return };
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
        self.renewal = Some(Renewal { sent, sent_at });
        match self.set(self.frames.streams.names.member(me), revision, value).await {
            Ok(_) => Ok(()),
            // An earlier word was stored without an answer, and is about to come back.
            Err(Unset::Outdated) => Ok(()),
            Err(Unset::Log(error)) => Err(error),
        }
    }

    /// Sets a word, and waits for the answer not much longer than a lease allows.
    fn set(
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
    async fn act(&mut self, leaves: bool) -> Stored<()> {
        let free = self.members.to_free(leaves);
        for shard in free {
            if self.leases.get(&shard).is_some_and(|lease| lease.holder == self.members.me) {
                self.set_holder(shard, 0).await?;
            }
            self.members.freed(&[shard]);
        }
        if !leaves {
            for Wanted { shard, .. } in self.members.to_take() {
                let taken = self.set_holder(shard, self.members.me).await?;
                self.members.took(shard, taken);
            }
        }
        for message in self.members.messages() {
            let client = self.frames.streams.context.client();
            client.publish(self.frames.streams.names.news(), message.into()).await.map_err(away)?;
        }
        Ok(())
    }

    /// Sets who has a lease, if it is as it was seen. Returns whether it was.
    async fn set_holder(&mut self, shard: u16, holder: u64) -> Stored<bool> {
        let revision = self.leases.get(&shard).map_or(0, |lease| lease.revision);
        match self.set(self.frames.streams.names.lease(shard), revision, holder.to_string()).await {
            Ok(revision) => {
                self.leases.insert(shard, HeldLease { revision, holder });
                Ok(true)
            }
            Err(Unset::Outdated) => Ok(false),
            Err(Unset::Log(error)) => Err(error),
        }
    }

    /// Removes processes that are dead and have been silent for an hour, by the clocks of the servers.
    async fn remove_dead(&mut self) -> Stored<()> {
        let now = nanos(self.frames.clock.now());
        for (producer, revision) in self.members.dead() {
            let is_old = |word: &&Word| {
                word.revision == revision && now.saturating_sub(word.at) > REMOVE_AFTER.as_nanos() as u64
            };
            if self.words.get(&producer).filter(is_old).is_none() {
                continue;
            }
            // None of its frames counts from here on, even if it wakes now.
            self.say_farewell(producer).await?;
            match self.set(self.frames.streams.names.member(producer), revision, GONE.to_owned()).await {
                Ok(_) => info!(producer, "a process that died was removed from the log"),
                Err(Unset::Outdated) => {}
                Err(Unset::Log(error)) => return Err(error),
            }
        }
        Ok(())
    }

    /// Tells all readers that no frame of a process counts any more.
    fn say_farewell(&self, producer: u64) -> impl Future<Output = Stored<()>> + Send + use<> {
        let frames = Arc::clone(&self.frames);
        async move {
            for (shard, _) in (0..).zip(frames.all()) {
                frames.streams.append(shard, Farewell { producer }.bytes()).await?;
            }
            Ok(())
        }
    }

    /// Forgets the words of processes that have been gone for an hour, which all others have heard.
    async fn forget_gone(&mut self) {
        let now = nanos(self.frames.clock.now());
        let is_old = |word: &Word| word.lease.is_none() && now.saturating_sub(word.at) > REMOVE_AFTER.as_nanos() as u64;
        let old: Vec<u64> = self.words.values().filter(|word| is_old(word)).map(|word| word.revision).collect();
        let streams = &self.frames.streams;
        let Ok(stream) = streams.context.get_stream_no_info(streams.names.members()).await else { return };
        for revision in old {
            // The next process that joins tries again.
            let _ = timeout(ANSWER, stream.delete_message(revision)).await;
        }
    }

    /// Gives all leases up, and leaves the log.
    async fn leave(&mut self) -> Stored<()> {
        self.members.leaves();
        self.act(true).await?;
        if self.members.is_removed() {
            return Ok(());
        }
        // Frames that are still under way count for nothing if they come later.
        self.say_farewell(self.members.me).await?;
        let me = self.members.me;
        loop {
            let revision = self.words.get(&me).map_or(0, |word| word.revision);
            match self.set(self.frames.streams.names.member(me), revision, GONE.to_owned()).await {
                Ok(_) => break,
                // The last renewal has not come back yet.
                Err(Unset::Outdated) => drop(self.next().await?),
                Err(Unset::Log(error)) => return Err(error),
            }
        }
        let client = self.frames.streams.context.client();
        timeout(ANSWER, client.flush()).await.map_err(|_| no_answer())?.map_err(away)
    }
}
