//! How a process joins a log in NATS: it connects, finds or makes the streams and the ledger, and reads all that the streams hold.

use std::{
    collections::BTreeSet,
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use async_nats::{Client, jetstream::stream::Info};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    appender::Appender,
    checkpoints::{self, Checkpoints},
    frames::{Frames, LedgerFrames},
    heartbeat::Heartbeat,
    log::{NatsLog, come_back},
    outcomes::Outcomes,
    reader::{LOOK_EVERY, LOST_AFTER, Reader},
    settings::Settings,
    streams::{Layout, Names, Streams},
    upkeep::Upkeep,
};
use crate::durable::{
    error::JoinError,
    ledger::{self, Ledger, LetterBytes, session},
    log::{LogError, followers::Followers, lead::Membership, store::Paired},
    members::{Clock, Members},
    postgres::{
        frames::Frames as KeptFrames,
        tables::{SharedSession, Tables},
    },
};

/// Settings of the session that reads and stores checkpoints.
const CHECKPOINTS: &str = "SET statement_timeout TO '20s'; SET idle_in_transaction_session_timeout TO '10s'";

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
        let mut servers = BTreeSet::new();
        for shard in 0..shards {
            servers.extend(servers_of(&client, &streams.open_frames(shard, layout, paired.pairing).await?));
        }
        settings.syncs.check(name, &Vec::from_iter(servers)).await?;
        let tables = Arc::new(Tables { schema: found.schema.clone(), log: found.log });
        let membership = Membership { log: found.log as u16, producer: found.producer };
        let (clock, members) = (Arc::<Clock>::default(), Members::new(membership, settings.lease, shards));
        let kept = KeptFrames::new(Arc::clone(&tables), Arc::clone(&clock), &server);
        let checkpoints = Checkpoints::new(tables, SharedSession::new(Arc::clone(&server), CHECKPOINTS));
        let of_members = (Arc::clone(&members), clock);
        let frames = Arc::new(Frames::new(streams, checkpoints, kept, of_members, shards));
        let letters = (LetterBytes::of_many(settings.letter_room), ledger::patience(settings.lease));
        let (outcomes, relay) = Outcomes::new(&members, &frames.streams);
        let of_ledger = Arc::new(LedgerFrames { frames: Arc::clone(&frames), outcomes });
        let ledger = Arc::new(Ledger::new(server, session, found, shards, of_ledger, letters));
        let (followers, closed) = (Arc::new(Followers::new(shards)), CancellationToken::new());
        let appender = Appender {
            frames: Arc::clone(&frames),
            followers: Arc::clone(&followers),
            me: membership.producer,
            closed: closed.clone(),
        };
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
        log.spawn(relay.run(log.closed.clone()));
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
            self.look_at(shard).await?;
        }
        let register = Heartbeat::begin(Arc::clone(&self.frames)).await?;
        self.spawn(register.run(self.closed.clone()));
        for shard in 0..self.shards {
            for marked in self.ledger.marked(shard).await? {
                come_back(&self.ledger, &self.appender, marked).await?;
            }
        }
        Ok(())
    }

    /// Waits until a shard has been read, and refuses one that does not belong to its ledger.
    async fn look_at(&self, shard: u16) -> Result<(), JoinError> {
        let of_shard = self.frames.shard(shard)?;
        of_shard.placed().await?;
        let (cursor, _) = self.frames.reach(shard).await?;
        let until = Instant::now() + LOST_AFTER;
        loop {
            match self.frames.end_at_least(shard, cursor).await {
                // A server that leads the stream since a moment ago may be behind.
                Err(error) if error.is_passing() && Instant::now() < until => tokio::time::sleep(LOOK_EVERY).await,
                Err(error) => return Err(error.into()),
                Ok(_) => break,
            }
        }
        let has_sent =
            of_shard.ask(|fold| fold.head().producers.get(&self.members.me).is_some_and(|row| row.frame > 0))?;
        if has_sent {
            // Its frames would be taken for repeats. The next process that joins has the next number.
            return Err(LogError::Unpaired("the ledger has given a number twice: it has lost a join".to_owned()).into());
        }
        Ok(())
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).push(tokio::spawn(task));
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
    // Before anything is made.
    settings.syncs.check(name, &[client.server_info().server_name]).await?;
    let pairing = streams.open_members(layout, fresh).await?;
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
