//! [`Members`]: the processes that have joined a log, and which of them has the lease of each shard, as this process knows it. Leaders
//! ask here without waiting; the pulse, a task, reads and changes the tables.
//!
//! A lease is a right to try: the epoch in the ledger is what keeps two leaders apart.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{notices::Notice, silence::Silence};
use crate::durable::log::{
    Size,
    lead::{Lead, Membership, News, preferred},
};

/// How long a process must have been the one to lead a shard before it wants it from the one that does. It says so again after as long.
const WANTED_AFTER: Duration = Duration::from_secs(1);

/// How long after the last request for it a lease is still taken. Followers ask each 50 ms, and not while they are unable to lead.
const ASKED_FOR: Duration = Duration::from_millis(500);

/// How long a lease that was taken may wait for its leader before it is free again.
const FETCHED_AFTER: Duration = Duration::from_secs(2);

pub(super) struct Members {
    /// This process.
    pub(super) me: u64,
    log: u16,
    lease: Duration,
    news: Vec<Arc<News>>,
    state: Mutex<State>,
    /// Notified when the pulse has something to do.
    pub(super) wake: Notify,
    commits: AtomicU64,
}

struct State {
    silence: Silence,
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

#[derive(Default)]
struct Shard {
    /// The process that has the lease; 0 if it is free, and `None` if that is not known.
    holder: Option<u64>,
    own: Own,
    /// When a leader of this process last asked for the lease.
    asked_at: Option<Instant>,
    /// Since when the lease could be taken, and is another process's to have.
    free_since: Option<Instant>,
    /// Since when another process has it and it is this one's, or when that was last said.
    wanted_since: Option<Instant>,
    /// What the last read has shown of it.
    mark: Mark,
}

/// The lease of a shard in this process.
#[derive(Default)]
enum Own {
    #[default]
    None,
    /// Taken, and not fetched.
    Taken(Instant),
    /// A leader has it.
    Lent(CancellationToken),
    /// A leader has dropped it, and the table does not say so yet.
    Freeing,
}

impl Shard {
    /// Whether a leader of this process wants it.
    fn is_asked_for(&self, now: Instant) -> bool {
        self.asked_at.is_some_and(|at| now.saturating_duration_since(at) < ASKED_FOR)
    }
}

/// How far a shard has come: position of the next op, cursor, epoch, pause.
pub(super) type Mark = (i64, i64, i64, bool);

/// The answer to a read of the tables.
pub(super) struct Read {
    pub(super) members: Vec<(u64, u64)>,
    /// Shards, by their number: who has the lease, and how far they have come.
    pub(super) shards: Vec<(u16, u64, Mark)>,
    pub(super) next_producer: u64,
    pub(super) bytes: u64,
}

/// A lease that may be taken: from whom, and that process's revision if it is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) shard: u16,
    pub(super) holder: u64,
    pub(super) revision: Option<u64>,
}

impl Members {
    pub(super) fn new(membership: Membership, lease: Duration, shards: u16) -> Arc<Self> {
        let state = State {
            silence: Silence::new(lease),
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
    pub(super) fn renew_every(&self) -> Duration {
        (self.lease / 4).min(Duration::from_secs(1))
    }

    /// How long a lease may be free before a process takes it that is not the one to do so.
    fn spare_after(&self) -> Duration {
        self.lease / 4
    }

    pub(super) fn news(&self, shard: u16) -> Arc<News> {
        self.news.get(usize::from(shard)).cloned().unwrap_or_default()
    }

    fn changed(&self, shard: u16) {
        if let Some(news) = self.news.get(usize::from(shard)) {
            news.changed.notify_one();
        }
    }

    pub(super) fn has_company(&self) -> bool {
        self.state().silence.alive().count() > 1
    }

    /// Whether frames of a process may still come. One that has joined since the last read is not known yet.
    pub(super) fn is_member(&self, producer: u64) -> bool {
        let state = self.state();
        producer == self.me || producer >= state.next_producer || state.silence.has(producer)
    }

    pub(super) fn is_removed(&self) -> bool {
        self.state().is_removed
    }

    /// A transaction of frames was committed.
    pub(super) fn committed(&self) {
        self.commits.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn size(&self) -> Size {
        Size { bytes: self.state().bytes, commits: self.commits.load(Ordering::Relaxed) }
    }

    /// Takes the lead of a shard, if this process has its lease. If not, the pulse is asked to take that.
    pub(super) fn try_lead(self: &Arc<Self>, shard: u16) -> Option<Lead> {
        let now = Instant::now();
        let mut state = self.state();
        if state.is_removed {
            return None;
        }
        let of_shard = state.shards.get_mut(usize::from(shard))?;
        match of_shard.own {
            Own::Taken(_) => {
                let asked_back = CancellationToken::new();
                of_shard.own = Own::Lent(asked_back.clone());
                return Some(Lead::new(asked_back, Held { members: Arc::clone(self), shard }));
            }
            Own::Lent(_) | Own::Freeing => return None,
            Own::None => of_shard.asked_at = Some(now),
        }
        let is_others = self.is_others(&state, shard);
        let may_take = self.may_take(&mut state, shard, now).is_some();
        let wants = self.wants(&mut state, shard, is_others, now);
        if may_take || wants {
            self.wake.notify_one();
        }
        None
    }

    /// The lease of a shard, if it can be taken and this process is the one to do so.
    fn may_take(&self, state: &mut State, shard: u16, now: Instant) -> Option<Wanted> {
        let is_others = self.is_others(state, shard);
        let State { silence, shards, .. } = state;
        let of_shard = shards.get_mut(usize::from(shard))?;
        let holder = of_shard.holder?;
        let revision = silence.dead(holder);
        let is_gone = !silence.has(holder) || revision.is_some();
        // This process may have taken it by a request whose answer was lost.
        if holder != self.me && !is_gone {
            of_shard.free_since = None;
            return None;
        }
        let since = *of_shard.free_since.get_or_insert(now);
        let waits = is_others && holder != self.me && now.saturating_duration_since(since) < self.spare_after();
        (!waits).then_some(Wanted { shard, holder, revision })
    }

    /// Whether another process should lead a shard.
    fn is_others(&self, state: &State, shard: u16) -> bool {
        let member = |producer| Membership { log: self.log, producer };
        let alive: Vec<_> = state.silence.alive().map(member).collect();
        preferred(&alive, shard).is_some_and(|preferred| preferred != member(self.me))
    }

    /// Whether a process that is alive has the lease, which is this one's to have, and is to be told now.
    fn wants(&self, state: &mut State, shard: u16, is_others: bool, now: Instant) -> bool {
        let State { silence, shards, notices, .. } = state;
        let Some(of_shard) = shards.get_mut(usize::from(shard)) else { return false };
        let is_held = of_shard.holder.is_some_and(|holder| holder != self.me && silence.has(holder));
        if is_others || !is_held {
            of_shard.wanted_since = None;
            return false;
        }
        let since = of_shard.wanted_since.get_or_insert(now);
        if now.saturating_duration_since(*since) < WANTED_AFTER {
            return false;
        }
        *since = now;
        notices.insert((Notice::Wanted, shard))
    }

    /// The leaders of this process are about to ask for each shard.
    pub(super) fn ask_for_all(&self) {
        let now = Instant::now();
        self.state().shards.iter_mut().for_each(|shard| shard.asked_at = Some(now));
    }

    /// Leases that leaders of this process have asked for and that can be taken.
    pub(super) fn to_take(&self) -> Vec<Wanted> {
        let now = Instant::now();
        let mut state = self.state();
        let is_asked = |shard: &Shard| shard.is_asked_for(now) && matches!(shard.own, Own::None);
        let asked: Vec<u16> = (0..).zip(&state.shards).filter(|(_, shard)| is_asked(shard)).map(|(i, _)| i).collect();
        asked.into_iter().filter_map(|shard| self.may_take(&mut state, shard, now)).collect()
    }

    /// A lease was taken, or another process has changed it meanwhile.
    pub(super) fn took(&self, shard: u16, is_taken: bool) {
        if let Some(of_shard) = self.state().shards.get_mut(usize::from(shard)) {
            of_shard.free_since = None;
            of_shard.holder = is_taken.then_some(self.me);
            if is_taken {
                of_shard.own = Own::Taken(Instant::now());
            }
        }
        self.changed(shard);
    }

    /// Leases that are to be given up.
    pub(super) fn to_free(&self, all: bool) -> Vec<u16> {
        let mut state = self.state();
        let now = Instant::now();
        for of_shard in &mut state.shards {
            let is_left = match of_shard.own {
                Own::Taken(at) => now.saturating_duration_since(at) >= FETCHED_AFTER,
                // Taken by a request whose answer was lost, and wanted no more.
                Own::None => of_shard.holder == Some(self.me) && !of_shard.is_asked_for(now),
                Own::Lent(_) | Own::Freeing => false,
            };
            if is_left || (all && !matches!(of_shard.own, Own::None)) {
                of_shard.own = Own::Freeing;
            }
        }
        let is_freeing = |shard: &Shard| matches!(shard.own, Own::Freeing);
        (0..).zip(&state.shards).filter(|(_, shard)| is_freeing(shard)).map(|(i, _)| i).collect()
    }

    /// Leases were given up.
    pub(super) fn freed(&self, shards: &[u16]) {
        let mut state = self.state();
        for shard in shards {
            if let Some(of_shard) = state.shards.get_mut(usize::from(*shard)) {
                (of_shard.own, of_shard.holder) = (Own::None, Some(0));
                (of_shard.free_since, of_shard.asked_at) = (None, None);
            }
            state.notices.insert((Notice::Freed, *shard));
        }
    }

    /// Frames were stored in shards. The processes that lead them are told, if this one does not.
    pub(super) fn stored(&self, shards: impl IntoIterator<Item = u16>) {
        self.tell(Notice::Changed, shards, false);
    }

    /// What a leader of this process has recorded is news to others.
    pub(super) fn recorded(&self, shard: u16) {
        self.tell(Notice::Changed, [shard], true);
    }

    /// All that waits in a shard is to be due.
    pub(super) fn press(&self, shard: u16) {
        self.tell(Notice::Pressed, [shard], true);
    }

    /// Tells the others of shards, or of those that this process does not lead.
    fn tell(&self, notice: Notice, shards: impl IntoIterator<Item = u16>, also_own: bool) {
        let mut state = self.state();
        if state.silence.alive().nth(1).is_none() {
            return;
        }
        let before = state.notices.len();
        for shard in shards {
            let is_own = matches!(state.shards.get(usize::from(shard)), Some(Shard { own: Own::Lent(_), .. }));
            if also_own || !is_own {
                state.notices.insert((notice, shard));
            }
        }
        if state.notices.len() > before {
            self.wake.notify_one();
        }
    }

    /// The messages that are to be sent, once.
    pub(super) fn messages(&self) -> Vec<String> {
        let mut by_notice: BTreeMap<Notice, Vec<u16>> = BTreeMap::new();
        for (notice, shard) in std::mem::take(&mut self.state().notices) {
            by_notice.entry(notice).or_default().push(shard);
        }
        by_notice.into_iter().flat_map(|(notice, shards)| notice.messages(self.me, shards)).collect()
    }

    /// Another process has said something. Returns whether the tables are to be read now.
    pub(super) fn heard(&self, message: &str) -> bool {
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

    /// Another process wants a shard.
    fn give(&self, shard: u16) {
        let state = self.state();
        if self.is_others(&state, shard)
            && let Some(Shard { own: Own::Lent(asked_back), .. }) = state.shards.get(usize::from(shard))
        {
            asked_back.cancel();
        }
    }

    /// The tables were read.
    pub(super) fn read(&self, now: Instant, read: Read) {
        let mut changed = Vec::new();
        {
            let mut state = self.state();
            state.silence.read(now, read.members);
            (state.next_producer, state.bytes) = (read.next_producer, read.bytes);
            for (shard, holder, mark) in read.shards {
                let Some(of_shard) = state.shards.get_mut(usize::from(shard)) else { continue };
                if of_shard.holder.replace(holder) != Some(holder) || std::mem::replace(&mut of_shard.mark, mark) != mark {
                    changed.push(shard);
                }
                if holder != self.me {
                    match &of_shard.own {
                        // Its term ends by the fence at the next commit, whatever it does.
                        Own::Lent(asked_back) => asked_back.cancel(),
                        Own::Taken(_) => of_shard.own = Own::None,
                        Own::None | Own::Freeing => {}
                    }
                }
            }
        }
        changed.into_iter().for_each(|shard| self.changed(shard));
    }

    /// The tables could not be read.
    pub(super) fn failed(&self) {
        self.state().silence.failed();
    }

    /// This process was removed from the log.
    pub(super) fn removed(&self) {
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
    pub(super) fn leaves(&self) {
        self.state().notices.insert((Notice::Hello, 0));
    }

    /// Dead members, with their revisions.
    pub(super) fn dead(&self) -> Vec<(u64, u64)> {
        let state = self.state();
        state.silence.all().filter_map(|producer| Some((producer, state.silence.dead(producer)?))).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The lease of a shard that this process leads.
struct Held {
    members: Arc<Members>,
    shard: u16,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(of_shard) = self.members.state().shards.get_mut(usize::from(self.shard)) {
            of_shard.own = Own::Freeing;
        }
        self.members.wake.notify_one();
    }
}
