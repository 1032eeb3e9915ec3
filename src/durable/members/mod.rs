//! [`Members`]: the processes that have joined a log, and which of them has the lease of each shard, as this process knows it. Leaders
//! ask here without waiting; the heartbeat of an engine, a task, reads and changes what the engine keeps of them.
//!
//! A lease is a right to try: the epoch in the ledger is what keeps two leaders apart.
//!
//! | file | holds |
//! |---|---|
//! | `leases` | which process has the lease of a shard |
//! | `liveness` | which processes are dead |
//! | `notices` | messages between processes |
//! | `clock` | the clock of the engine's server |
//! | `events` | what all this is logged as |

mod clock;
pub(crate) mod events;
mod leases;
mod liveness;
mod notices;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::Notify;
use tracing::error;

#[cfg(feature = "durable-nats")]
use super::log::store::OutcomeRow;
use super::log::{
    Size,
    lead::{Membership, News},
};
pub(crate) use clock::Clock;
pub(crate) use leases::{DEFAULT_LEASE, Wanted, check_lease};
use leases::{Own, Shard};
pub(crate) use liveness::Exchange;
use liveness::Liveness;
use notices::Notice;

pub(crate) struct Members {
    /// This process.
    pub(crate) me: u64,
    pub(crate) log: u16,
    pub(crate) lease: Duration,
    news: Vec<Arc<News>>,
    state: Mutex<State>,
    /// Notified when the heartbeat has something to do.
    pub(crate) wake: Notify,
    commits: AtomicU64,
}

struct State {
    liveness: Liveness,
    /// The least number that no process had at the last read.
    next_producer: u64,
    /// Bytes of frames at the last read.
    bytes: u64,
    /// Whether this process was removed: its silence was too long, and no frame of it is stored any more.
    is_removed: bool,
    shards: Vec<Shard>,
    /// Notices that are still to be sent.
    notices: BTreeSet<(Notice, u16)>,
}

impl State {
    /// Whether this process leads a shard.
    fn leads(&self, shard: u16) -> bool {
        matches!(self.shards.get(usize::from(shard)), Some(Shard { own: Own::Lent(_), .. }))
    }
}

/// How far a shard has come: position of the next op, cursor, epoch, pause.
pub(crate) type Mark = (i64, i64, i64, bool);

/// The answer to a read of the tables.
pub(crate) struct Read {
    /// Processes with their revisions and leases.
    pub(crate) members: Vec<(u64, u64, Duration)>,
    /// Shards, by their number: who has the lease, and how far they have come.
    pub(crate) shards: Vec<(u16, u64, Mark)>,
    pub(crate) next_producer: u64,
    pub(crate) bytes: u64,
}

impl Members {
    pub(crate) fn new(membership: Membership, lease: Duration, shards: u16) -> Arc<Self> {
        let state = State {
            liveness: Liveness::new(lease),
            next_producer: membership.producer + 1,
            bytes: 0,
            is_removed: false,
            shards: (0..shards).map(|_| Shard::default()).collect(),
            notices: BTreeSet::from([(Notice::Hello, 0)]),
        };
        let news = (0..shards).map(|_| Arc::default()).collect();
        let Membership { log, producer } = membership;
        let (state, commits) = (Mutex::new(state), AtomicU64::new(0));
        Arc::new(Self { me: producer, log, lease, news, state, wake: Notify::new(), commits })
    }

    /// The pause between two renewals. A read costs nothing besides, and is what a lost notice waits for.
    pub(crate) fn renew_every(&self) -> Duration {
        (self.lease / 4).min(Duration::from_secs(1))
    }

    pub(crate) fn news(&self, shard: u16) -> Arc<News> {
        self.news.get(usize::from(shard)).cloned().unwrap_or_default()
    }

    pub(crate) fn changed(&self, shard: u16) {
        if let Some(news) = self.news.get(usize::from(shard)) {
            news.changed.notify_one();
        }
    }

    pub(crate) fn has_company(&self) -> bool {
        let state = self.state();
        state.liveness.is_observing() && state.liveness.alive().count() > 1
    }

    /// Whether frames of a process may still come. One that has joined since the last read is not known yet.
    pub(crate) fn is_member(&self, producer: u64) -> bool {
        let state = self.state();
        producer == self.me || producer >= state.next_producer || state.liveness.has(producer)
    }

    pub(crate) fn is_removed(&self) -> bool {
        self.state().is_removed
    }

    /// A transaction of frames was committed.
    pub(crate) fn committed(&self) {
        self.commits.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn size(&self) -> Size {
        Size { bytes: self.state().bytes, commits: self.commits.load(Ordering::Relaxed) }
    }

    /// Frames were stored in shards. The processes that lead them are told, if this one does not.
    pub(crate) fn stored(&self, shards: impl IntoIterator<Item = u16>) {
        self.tell(Notice::Changed, shards, false);
    }

    /// A record of a leader of this process was committed, which is news to others.
    pub(crate) fn recorded(&self, shard: u16) {
        self.tell(Notice::Changed, [shard], true);
    }

    /// All that waits in a shard is to be due.
    pub(crate) fn press(&self, shard: u16) {
        self.tell(Notice::Pressed, [shard], true);
    }

    /// Tells the others of shards, or of those that this process does not lead.
    fn tell(&self, notice: Notice, shards: impl IntoIterator<Item = u16>, also_own: bool) {
        let mut state = self.state();
        if state.liveness.alive().nth(1).is_none() {
            return;
        }
        let before = state.notices.len();
        for shard in shards {
            if also_own || !state.leads(shard) {
                state.notices.insert((notice, shard));
            }
        }
        if state.notices.len() > before {
            self.wake.notify_one();
        }
    }

    /// The messages that are to be sent, once.
    pub(crate) fn messages(&self) -> Vec<String> {
        let mut by_notice: BTreeMap<Notice, Vec<u16>> = BTreeMap::new();
        for (notice, shard) in std::mem::take(&mut self.state().notices) {
            by_notice.entry(notice).or_default().push(shard);
        }
        by_notice.into_iter().flat_map(|(notice, shards)| notice.messages(self.me, shards)).collect()
    }

    /// Another process has said something. Returns whether the tables are to be read now.
    pub(crate) fn heard(&self, message: &str) -> bool {
        let Some((from, notice, shards)) = Notice::read(message).filter(|(from, ..)| *from != self.me) else {
            return false;
        };
        for shard in shards {
            match notice {
                Notice::Changed => self.changed(shard),
                Notice::Pressed => self.news(shard).pressed.notify_one(),
                Notice::Wanted => self.give(shard),
                Notice::Freed => {
                    if let Some(of_shard) = self.state().shards.get_mut(usize::from(shard))
                        && of_shard.holder == Some(from)
                    {
                        of_shard.holder = Some(0);
                    }
                    self.changed(shard);
                }
                Notice::Hello => {}
            }
        }
        notice == Notice::Hello
    }

    /// The tables were read, by a request that was sent and answered at these times.
    pub(crate) fn read(&self, exchange: Exchange, read: Read) {
        let mut changed = Vec::new();
        {
            let mut state = self.state();
            state.liveness.read(exchange, read.members);
            (state.next_producer, state.bytes) = (read.next_producer, read.bytes);
            for (shard, holder, mark) in read.shards {
                let Some(of_shard) = state.shards.get_mut(usize::from(shard)) else { continue };
                if of_shard.holder != Some(holder) || std::mem::replace(&mut of_shard.mark, mark) != mark {
                    changed.push(shard);
                }
                of_shard.set_holder(holder, self.me);
            }
        }
        changed.into_iter().for_each(|shard| self.changed(shard));
    }

    /// Whether a process was there when the members were last read.
    #[cfg(feature = "durable-nats")]
    pub(crate) fn has(&self, producer: u64) -> bool {
        self.state().liveness.has(producer)
    }

    /// The leader of a shard has told how ops of this process ended.
    #[cfg(feature = "durable-nats")]
    pub(crate) fn told(&self, shard: u16, outcomes: Vec<OutcomeRow>) {
        if !self.state().leads(shard)
            && let Some(news) = self.news.get(usize::from(shard))
        {
            news.tell(outcomes);
        }
    }

    /// The lease of a shard has gone over, or was freed.
    #[cfg(feature = "durable-nats")]
    pub(crate) fn is_held(&self, shard: u16, holder: u64) {
        if let Some(of_shard) = self.state().shards.get_mut(usize::from(shard)) {
            of_shard.set_holder(holder, self.me);
        }
        self.changed(shard);
    }

    /// The tables could not be read.
    pub(crate) fn failed(&self) {
        self.state().liveness.failed();
    }

    /// This process was removed from the log.
    pub(crate) fn removed(&self) {
        error!(producer = self.me, "this process was silent for an hour and was removed from the log: join again");
        let mut state = self.state();
        state.is_removed = true;
        for of_shard in &state.shards {
            if let Own::Lent(asked_back) = &of_shard.own {
                asked_back.cancel();
            }
        }
        drop(state);
        (0..).zip(&self.news).for_each(|(shard, _)| self.changed(shard));
    }

    /// This process leaves the log, of which the others are told.
    pub(crate) fn leaves(&self) {
        self.state().notices.insert((Notice::Hello, 0));
    }

    /// Dead members, with their revisions.
    pub(crate) fn dead(&self) -> Vec<(u64, u64)> {
        let state = self.state();
        state.liveness.all().filter_map(|producer| Some((producer, state.liveness.dead(producer)?))).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
