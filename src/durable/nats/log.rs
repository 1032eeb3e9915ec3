//! [`NatsLog`]: a log whose frames are in streams of JetStream and whose ledger is in PostgreSQL. `Nats` opens one.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use async_nats::{Client, jetstream::stream::Info};
use futures::future::BoxFuture;
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{
    appender::Appender,
    checkpoints::{self, Checkpoints},
    frames::{Frames, LedgerFrames},
    reader::Reader,
    register::Register,
    settings::Settings,
    streams::{Layout, Names, Streams},
    upkeep::Upkeep,
};
use crate::{
    durable::{
        error::JoinError,
        frame::{Entry, Frame, Packer},
        ledger::{Ledger, LetterBytes, lookups::Marked, session},
        log::{
            self, Answer, Found, Lease, Log, LogError, Purge, Record, Size, StoredFrame, TermState, Work,
            callers::Callers,
            followers::Followers,
            lead::{IdRun, Lead, Membership, News, Reach},
            local::nanos,
            search,
            store::{LetterRow, OutcomeRow, Paired, Stored},
        },
        members::{Clock, Members},
        postgres::{
            frames::Frames as KeptFrames,
            ids,
            tables::{SharedSession, Tables},
        },
    },
    rules::outcome::OpId,
};

/// Settings of the ledger's sessions that read, and of the one that makes checkpoints.
const READS: &str = "SET statement_timeout TO '20s'; SET idle_in_transaction_session_timeout TO '10s'";

/// Settings of the session that removes what was kept. Its commits are not waited for: frames of settled ops that come back with a
/// server that has crashed are removed again.
const CHANGES: &str =
    "SET statement_timeout TO '20s'; SET idle_in_transaction_session_timeout TO '2s'; SET synchronous_commit TO off";

/// How long the ledger's server keeps a transaction open whose client says nothing, at least.
const MIN_PATIENCE: Duration = Duration::from_secs(1);

/// Attempts to remove a dead letter whose op is in the log again, a second apart. The next process goes on.
const DISCARDS: u32 = 10;

/// The pause between them.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) struct NatsLog {
    shards: u16,
    ledger: Arc<Ledger>,
    frames: Arc<Frames>,
    members: Arc<Members>,
    followers: Arc<Followers>,
    appender: Appender,
    callers: Arc<Callers>,
    /// Canceled when the log is left.
    closed: CancellationToken,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl NatsLog {
    /// Joins the log of this name, and makes it if there is none.
    pub(super) async fn join(settings: &Settings, name: &str, shards: u16) -> Result<Self, JoinError> {
        let names = Names::new(name)?;
        let client = settings.access.connect(name).await?;
        let streams = Streams::new(client.clone(), names);
        let (paired, layout) = pair(settings, &streams, &client, name, shards).await?;
        let server = Arc::new(session::server(&settings.ledger)?);
        let mut session = session::connect(&server).await?;
        let found = checkpoints::join(&mut session, name, shards, paired).await?;
        for shard in 0..shards {
            streams.open_frames(shard, layout, paired.pairing).await?;
        }
        let tables = Arc::new(Tables { schema: found.schema.clone(), log: found.log });
        let membership = Membership { log: found.log as u16, producer: found.producer };
        let (clock, members) = (Arc::<Clock>::default(), Members::new(membership, settings.lease, shards));
        let [reads, changes, of_checkpoints] =
            [READS, CHANGES, READS].map(|settings| SharedSession::new(Arc::clone(&server), settings));
        let kept = KeptFrames::new(Arc::clone(&tables), Arc::clone(&clock), [reads, changes]);
        let checkpoints = Checkpoints::new(tables, of_checkpoints);
        let of_members = (Arc::clone(&members), clock);
        let frames = Arc::new(Frames::new(streams, checkpoints, kept, of_members, shards));
        let letters = (LetterBytes::of_many(settings.letter_room), settings.lease.max(MIN_PATIENCE));
        let of_ledger = Arc::new(LedgerFrames(Arc::clone(&frames)));
        let ledger = Arc::new(Ledger::new(server, session, found, shards, of_ledger, letters));
        let (followers, closed) = (Arc::new(Followers::new(shards)), CancellationToken::new());
        let appender = Appender { frames: Arc::clone(&frames), me: membership.producer, closed: closed.clone() };
        let log = Self {
            shards,
            ledger,
            frames,
            members,
            followers,
            appender,
            callers: Arc::default(),
            closed,
            tasks: Mutex::default(),
        };
        log.start().await?;
        Ok(log)
    }

    /// Starts the tasks, and waits until all that the streams hold has been read.
    async fn start(&self) -> Result<(), JoinError> {
        for shard in 0..self.shards {
            let (frames, followers) = (Arc::clone(&self.frames), Arc::clone(&self.followers));
            let reader = Reader { frames: Arc::clone(&frames), followers, shard, me: self.members.me };
            self.spawn(reader.run(self.closed.clone()));
            let upkeep = Upkeep { frames, ledger: Arc::clone(&self.ledger), shard };
            self.spawn(upkeep.run(self.closed.clone()));
        }
        for shard in 0..self.shards {
            self.frames.shard(shard)?.placed().await?;
            self.frames.sync(shard).await?;
        }
        let register = Register::begin(Arc::clone(&self.frames)).await?;
        self.spawn(register.run(self.closed.clone()));
        for shard in 0..self.shards {
            for marked in self.ledger.marked(shard).await? {
                come_back(&self.ledger, &self.appender, marked).await?;
            }
        }
        Ok(())
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).push(tokio::spawn(task));
    }

    /// Begins a term, if this process has the lease. An error behind the commit says that the epoch may have gone up.
    async fn begin_term(&self, shard: u16) -> Stored<TermState> {
        if self.members.is_removed() {
            return Err(LogError::Closed);
        }
        let of_shard = self.frames.shard(shard)?;
        // From here on the reader delivers the frames of all processes.
        of_shard.term_begins(of_shard.losses());
        let began = self.begin_reading(shard).await;
        if began.is_err() {
            of_shard.term_ended();
        }
        began
    }

    async fn begin_reading(&self, shard: u16) -> Stored<TermState> {
        let next = self.frames.end(shard).await?;
        let state = self.ledger.begin(shard, next).await?;
        let unknown = |error: LogError| match error {
            LogError::Failed(why) => LogError::Unknown(why),
            error => error,
        };
        let last = state.settled.last().map_or(0, |(_, last)| last + 1);
        // An earlier leader may have read what was stored since.
        let next = self.frames.end(shard).await.map_err(unknown)?;
        if state.cursor.max(last) > next {
            let why = "the streams are older than the ledger: they are a backup, or have lost what was confirmed";
            return Err(LogError::Unpaired(why.to_owned()));
        }
        self.frames.reach(shard).await.map_err(unknown)?;
        if !self.frames.kept.read(shard, 0, 1).await.map_err(unknown)?.is_empty() {
            self.frames.has_kept(shard);
            self.frames.kept.remove_settled(shard, state.cursor, &state.settled);
        }
        self.frames.shard(shard)?.settled.notify_one();
        Ok(TermState { next, ..state })
    }

    /// Frames from a position on, as many as are read at a time, and whether these are all.
    async fn read_rest(&self, shard: u16, from: u64) -> Stored<(Vec<StoredFrame>, bool)> {
        let frames = self.frames.read(shard, from, search::READ).await?;
        let is_all = (frames.len() as u64) < search::READ;
        Ok((frames, is_all))
    }
}

/// Finds the log's streams, or makes them. Returns what they share with the ledger.
async fn pair(
    settings: &Settings,
    streams: &Streams,
    client: &Client,
    name: &str,
    shards: u16,
) -> Result<(Paired, Layout), JoinError> {
    let is_cluster = client.server_info().cluster.is_some();
    let replicas = settings.replicas.unwrap_or(if is_cluster { 3 } else { 1 });
    let layout = Layout { replicas, shard_bytes: settings.room / u64::from(shards.max(1)) };
    let fresh = RandomState::new().hash_one(SystemTime::now()) | 1;
    let (info, pairing) = streams.open_members(layout, fresh).await?;
    settings.syncs.check(name, &servers_of(client, &info)).await?;
    let mut has_begun = false;
    for shard in 0..shards {
        // A stream that is missing is made when the ledger knows the log.
        has_begun |= streams.info(shard).await.is_ok_and(|info| info.state.last_sequence > 0);
    }
    let paired = Paired {
        #[cfg(feature = "durable-file")]
        log: 0,
        pairing,
        next_producer: 1,
        has_begun,
    };
    Ok((paired, layout))
}

/// The servers that hold a stream, by their names.
fn servers_of(client: &Client, info: &Info) -> Vec<String> {
    let mut servers: Vec<String> = match &info.cluster {
        Some(cluster) => {
            cluster.leader.iter().cloned().chain(cluster.replicas.iter().map(|peer| peer.name.clone())).collect()
        }
        None => Vec::new(),
    };
    if servers.is_empty() {
        servers.push(client.server_info().server_name);
    }
    servers
}

/// Puts the op of a dead letter at the end of the log, and then removes the letter. The op has the id that the letter names, and
/// its leader is told that the id may repeat: so it takes effect once, however often this is done.
async fn come_back(ledger: &Ledger, appender: &Appender, marked: Marked) -> Result<OpId, LogError> {
    let Marked { from, to, op, schema } = marked;
    let entry = Entry { producer: to.producer(), number: to.number(), handle: 0, may_repeat: true, withdraws: false };
    let mut packer = Packer::new(appender.me);
    packer.push(entry, &op);
    let frame: Frame = packer.seal(0, nanos(appender.frames.clock.now()), schema);
    appender.store_letter(from.shard(), &frame).await?;
    for _ in 0..DISCARDS {
        match ledger.discard(from).await {
            Err(error) if error.is_passing() || matches!(error, LogError::Unknown(_)) => {
                tokio::time::sleep(PAUSE).await
            }
            // The op is in the log, whatever becomes of the letter. The next process removes it.
            _ => break,
        }
    }
    Ok(to)
}

/// The lead of a shard in this process. With it end the ledger's session of the shard, since the server has only so many for all
/// processes, and the delivery of all frames.
struct Leading {
    frames: Arc<Frames>,
    ledger: Arc<Ledger>,
    shard: u16,
}

impl Drop for Leading {
    fn drop(&mut self) {
        if let Ok(of_shard) = self.frames.shard(self.shard) {
            of_shard.term_ended();
        }
        let (ledger, shard) = (Arc::clone(&self.ledger), self.shard);
        // Without a runtime, the session has ended with its connection.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { ledger.end_session(shard).await });
        }
    }
}

impl Drop for NatsLog {
    /// A log that is dropped without a word is left all the same.
    fn drop(&mut self) {
        self.closed.cancel();
    }
}

impl Log for NatsLog {
    fn now(&self) -> SystemTime {
        self.frames.clock.now()
    }

    fn producer(&self) -> u64 {
        self.members.me
    }

    fn follow(&self, shard: u16) -> mpsc::UnboundedReceiver<StoredFrame> {
        self.followers.follow(shard)
    }

    fn append(&self, shard: u16, frames: Arc<dyn log::Frames>) {
        self.appender.append(shard, frames);
    }

    fn callers(&self) -> Arc<Callers> {
        Arc::clone(&self.callers)
    }

    fn try_lead(&self, shard: u16) -> Option<Lead> {
        let lead = self.members.try_lead(shard)?;
        Some(lead.with(Leading { frames: Arc::clone(&self.frames), ledger: Arc::clone(&self.ledger), shard }))
    }

    fn news(&self, shard: u16) -> Arc<News> {
        self.members.news(shard)
    }

    fn press(&self, shard: u16) {
        self.members.press(shard);
    }

    fn has_company(&self) -> bool {
        self.members.has_company()
    }

    fn is_member(&self, producer: u64) -> bool {
        self.members.is_member(producer)
    }

    fn ended(&self, shard: u16, ids: Vec<IdRun>) -> Answer<'_, Vec<OutcomeRow>> {
        Box::pin(async move { self.ledger.ended(shard, &ids).await })
    }

    fn reach(&self, shard: u16) -> Answer<'_, Reach> {
        Box::pin(async move {
            if self.members.is_removed() {
                return Err(LogError::Closed);
            }
            self.frames.shard(shard)?.check_term()?;
            // The position first: what is settled later has been read before.
            let next = self.frames.next(shard)?;
            let (cursor, paused) = self.frames.reach(shard).await?;
            Ok(Reach { next, cursor, paused })
        })
    }

    fn end(&self, shard: u16) -> Answer<'_, u64> {
        Box::pin(self.frames.end(shard))
    }

    fn set_paused(&self, shard: u16, paused: bool) -> Answer<'_, u64> {
        Box::pin(async move {
            let under_way = self.ledger.set_paused(shard, paused).await;
            // A process that leads the shard pauses it by a record.
            self.ledger.end_session(shard).await;
            let under_way = under_way?;
            self.members.recorded(shard);
            Ok(under_way)
        })
    }

    /// An op that is found waits if it is not settled afterwards: what is settled stays so.
    fn holds(&self, id: OpId) -> Answer<'_, bool> {
        Box::pin(async move {
            let (shard, key) = (id.shard(), (id.producer(), id.number()));
            self.frames.sync(shard).await?;
            let (mut from, _) = self.frames.kept.cursor(shard, 0).await?;
            // An op that was sent again has several positions.
            let read = |at, limit| self.frames.reading(shard, at, limit);
            while let Some(position) = search::position(read, from, key).await? {
                if !self.frames.kept.cursor(shard, position).await?.1 {
                    return Ok(true);
                }
                from = position + 1;
            }
            Ok(false)
        })
    }

    fn begin(&self, shard: u16) -> Answer<'_, TermState> {
        Box::pin(self.begin_term(shard))
    }

    fn read(&self, shard: u16, from: u64) -> Answer<'_, Vec<StoredFrame>> {
        Box::pin(self.frames.read(shard, from, search::READ))
    }

    fn record(&self, record: Arc<Record>) -> Answer<'_, ()> {
        Box::pin(async move { self.ledger.record(&record).await })
    }

    /// The work has no connection to write by.
    fn transact(&self, _lease: Lease, work: Box<dyn Work>) {
        work.end(Err(LogError::Failed("the log's ledger is in PostgreSQL: use Term::postgres".to_owned())));
    }

    fn find(&self, id: OpId) -> Answer<'_, Found> {
        Box::pin(async move {
            if id.shard() >= self.shards {
                return Ok(Found::Forgotten);
            }
            match self.ledger.find(id).await? {
                Some(row) => Ok(Found::Ended(row)),
                None => self.frames.kept.find(id.shard(), id.producer(), id.number()).await,
            }
        })
    }

    /// Messages of a stream can't be made smaller: `upkeep` keeps what is left of old ones.
    fn compact(&self, _shard: u16, _sparse: Vec<u64>) -> Answer<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    fn purge(&self, shard: u16, purge: Purge) -> Answer<'_, bool> {
        Box::pin(async move {
            let unread = Box::pin(self.read_rest(shard, purge.unread));
            ids::purge(&self.frames.kept, &self.ledger, shard, &purge, unread).await
        })
    }

    fn letters(&self, shard: u16, after: Option<(u64, u64)>, limit: usize) -> Answer<'_, Vec<LetterRow>> {
        Box::pin(self.ledger.letters(shard, after, limit))
    }

    fn discard(&self, id: OpId) -> Answer<'_, bool> {
        Box::pin(self.ledger.discard(id))
    }

    fn requeue(&self, id: OpId, number: u64) -> Answer<'_, Option<OpId>> {
        let (ledger, appender) = (Arc::clone(&self.ledger), self.appender.clone());
        // In a task of its own, so that a caller that gives up leaves nothing half done.
        let requeue = tokio::spawn(async move {
            match ledger.mark(id, (appender.me, number)).await? {
                Some(marked) => come_back(&ledger, &appender, marked).await.map(Some),
                None => Ok(None),
            }
        });
        Box::pin(async move { requeue.await.unwrap_or(Err(LogError::Closed)) })
    }

    fn ledger(&self) -> Option<&Ledger> {
        Some(&self.ledger)
    }

    fn size(&self) -> Size {
        let Size { bytes, commits } = self.members.size();
        Size { bytes, commits: commits + self.ledger.commits() }
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.closed.cancel();
            let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
            // A task that has panicked is gone as well.
            futures::future::join_all(tasks).await;
            self.ledger.close().await;
            self.frames.kept.end().await;
            self.frames.checkpoints.end().await;
        })
    }
}
