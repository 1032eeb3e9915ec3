//! [`Life`]: one life of a process that has joined a log in memory, from its first request to its end or crash.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures::future::BoxFuture;

use super::{Disk, MemoryLog};
use crate::durable::log::{
    Size,
    lead::{Lead, Membership, News},
    local,
};

/// How long a process must have been there before shards move to it.
const SETTLED_AFTER: Duration = Duration::from_secs(1);

/// One life of a process that has joined a log.
pub(super) struct Life {
    pub(super) log: MemoryLog,
    pub(super) life: u64,
}

impl Life {
    /// The processes, unless this life is over.
    fn with<V>(&self, then: impl FnOnce(&mut Disk, u64) -> V) -> Option<V> {
        let mut disk = self.log.disk();
        let process = self.log.process;
        (disk.processes.life(process) == self.life).then(|| then(&mut disk, process))
    }
}

impl local::Engine for Life {
    fn now(&self) -> SystemTime {
        self.log.wall()
    }

    fn size(&self) -> Size {
        let disk = self.log.disk();
        Size { bytes: disk.synced.bytes() as u64, commits: disk.committed }
    }

    fn joined(&self, member: Membership) {
        self.with(|disk, process| disk.processes.join(process, member));
        let log = self.log.clone();
        tokio::spawn(async move {
            tokio::time::sleep(SETTLED_AFTER).await;
            log.disk().processes.spread();
        });
    }

    fn members(&self, log: u16) -> Vec<Membership> {
        self.log.disk().processes.members(log)
    }

    fn is_alive(&self, member: Membership) -> bool {
        self.members(member.log).contains(&member)
    }

    fn try_lead(&self, shard: u32, member: Membership) -> Option<Lead> {
        let asked_back = self.with(|disk, process| disk.processes.try_lead(process, shard, member))??;
        Some(Lead::new(asked_back, Held { log: self.log.clone(), life: self.life, shard }))
    }

    fn news(&self, shard: u32) -> Arc<News> {
        self.with(|disk, process| disk.processes.news(process, shard)).unwrap_or_default()
    }

    fn press(&self, shard: u32) {
        self.with(|disk, _| disk.processes.press(shard));
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.with(|disk, process| disk.crash(process));
        Box::pin(async {})
    }
}

/// The lead of a shard.
struct Held {
    log: MemoryLog,
    life: u64,
    shard: u32,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut disk = self.log.disk();
        if disk.processes.life(self.log.process) == self.life {
            disk.processes.give_back(self.log.process, self.shard);
        }
    }
}
