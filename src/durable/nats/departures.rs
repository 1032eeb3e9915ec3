//! Departures: a process that leaves publishes its tombstones, and the others publish those of one that has been dead for an hour.

use std::{sync::Arc, time::Duration};

use futures::future::try_join_all;
use tokio::time::{Instant, timeout};
use tracing::warn;

use super::{
    ANSWER,
    heartbeat::{Heartbeat, MemberRecord},
    streams::{Unset, away, no_answer},
    tombstone::Tombstone,
};
use crate::durable::{
    log::{local::nanos, store::Stored},
    members::events,
};

/// How long the departure of a process may take. Its leases then end like those of one that has died.
const LEAVE: Duration = Duration::from_secs(5);

/// The silence after which a process that is dead is removed, as the servers' clocks show it.
const REMOVE_AFTER: Duration = Duration::from_secs(3600);

/// The pause between two attempts to do so.
const REMOVE_EVERY: Duration = Duration::from_secs(60);

/// The record of a process that has left or was removed.
const GONE: &str = "gone";

impl Heartbeat {
    /// Leaves the log, and says so if that is possible.
    pub(super) async fn end(&mut self) {
        if let Err(error) = timeout(LEAVE, self.leave()).await.unwrap_or_else(|_| Err(no_answer())) {
            events::left_in_silence(&error);
        }
    }

    /// Removes processes that are dead and have been silent for an hour, by the clocks of the servers. If that fails, it is tried later.
    pub(super) async fn remove_dead(&mut self) {
        let now = nanos(self.frames.clock.now());
        let is_old = |(producer, revision): &(u64, u64)| {
            let record = self.records.get(producer).filter(|record| record.revision == *revision);
            record.is_some_and(|record| now.saturating_sub(record.at) > REMOVE_AFTER.as_nanos() as u64)
        };
        let Some((producer, revision)) = self.members.dead().into_iter().find(is_old) else { return };
        if Instant::now() < self.remove_at {
            return;
        }
        self.remove_at = Instant::now() + REMOVE_EVERY;
        let tombstones = self.publish_tombstones(producer);
        let gone = self.set(self.frames.streams.names.member(producer), revision, GONE.to_owned());
        let remove = async {
            // None of its frames counts from here on, even if it wakes now.
            tombstones.await?;
            match gone.await {
                Err(Unset::Log(error)) => Err(error),
                set => Ok(set.is_ok()),
            }
        };
        match timeout(self.members.lease / 4, remove).await.unwrap_or_else(|_| Err(no_answer())) {
            Ok(true) => events::dead_was_removed(producer),
            Ok(false) => {}
            Err(error) => warn!(producer, %error, "a process that died is removed later"),
        }
    }

    /// Publishes a tombstone into each stream: frames of the process that come behind it count for nothing.
    fn publish_tombstones(&self, producer: u64) -> impl Future<Output = Stored<()>> + Send + use<> {
        let frames = Arc::clone(&self.frames);
        async move {
            // All at once, since each waits for a sync.
            let append = |(shard, _)| frames.streams.append(shard, Tombstone { producer }.bytes());
            try_join_all((0..).zip(frames.all()).map(append)).await.map(drop)
        }
    }

    /// Removes the records of processes that have been gone for an hour. All others have read them.
    pub(super) async fn forget_gone(&mut self) {
        let now = nanos(self.frames.clock.now());
        let is_old = |record: &MemberRecord| {
            record.lease.is_none() && now.saturating_sub(record.at) > REMOVE_AFTER.as_nanos() as u64
        };
        let old: Vec<u64> =
            self.records.values().filter(|record| is_old(record)).map(|record| record.revision).collect();
        let streams = &self.frames.streams;
        let Ok(stream) = streams.context.get_stream_no_info(streams.names.members()).await else { return };
        for revision in old {
            // The next process that joins tries again.
            let _ = timeout(ANSWER, stream.delete_message(revision)).await;
        }
    }

    /// Gives all leases up, and leaves the log.
    async fn leave(&mut self) -> Stored<()> {
        self.act(true).await?;
        if self.members.is_removed() {
            return Ok(());
        }
        // Frames that are still under way count for nothing if they come later.
        self.publish_tombstones(self.members.me).await?;
        let me = self.members.me;
        loop {
            let revision = self.records.get(&me).map_or(0, |record| record.revision);
            match self.set(self.frames.streams.names.member(me), revision, GONE.to_owned()).await {
                Ok(_) => break,
                // The last renewal has not come back yet.
                Err(Unset::Outdated) => drop(self.next().await?),
                Err(Unset::Log(error)) => return Err(error),
            }
        }
        // The others take the leases over when they have read that this process is gone.
        self.members.leaves();
        self.publish_notices().await?;
        let client = self.frames.streams.context.client();
        timeout(ANSWER, client.flush()).await.map_err(|_| no_answer())?.map_err(away)
    }
}
