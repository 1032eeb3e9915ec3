//! [`Nodes`]: the processes that have a file open. Each has a file of its own in the folder `<file>-nodes`, which the kernel's lock
//! says is alive, and a socket beside it. A shard has a lock there, too: the process that holds it leads the shard.
//!
//! | file | holds |
//! |---|---|
//! | `peers` | the files of processes |
//! | `sockets` | notices from one process to the others |
//! | `turnstile` | whose turn it is to write |
//!
//! A lock ends with its process, however that ends, so no clock is involved. What a notice says can be learned by looking at the
//! file as well: one that is lost costs a second.

mod peers;
mod sockets;
mod turnstile;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::open::{beside, owner_only};
use crate::durable::log::lead::{Lead, Membership, News, preferred};
use peers::{Me, Peer};
use sockets::{Heard, Notice, Sockets};
pub(super) use turnstile::{Turn, Turnstile};

/// The pause between two looks at the folder, if there are other processes: also what a lost notice costs.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long a process must have been the one to lead a shard before it wants it from the one that does, so that processes that come and
/// go move nothing. It says so again after as long.
const WANTED_AFTER: Duration = Duration::from_secs(1);

/// How long a shard may be free before a process leads it that is not the one to do so: that one may leave, be stopped, or can't.
/// It tries four times as often.
const SPARE_AFTER: Duration = Duration::from_millis(200);

/// How long a turn of another process may take before a warning names it.
const SLOW_TURN: Duration = Duration::from_secs(2);

/// The pause between two of these warnings.
const WARN_EVERY: Duration = Duration::from_secs(60);

pub(super) struct Nodes {
    folder: PathBuf,
    me: Me,
    sockets: Sockets,
    has_peers: AtomicBool,
    /// How often there were others.
    seen: AtomicU64,
    is_closed: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Logs that this process has joined.
    own: BTreeSet<Membership>,
    peers: Vec<Peer>,
    news: HashMap<u32, Arc<News>>,
    /// Shards that this process leads.
    leads: BTreeMap<u32, Leading>,
    /// Shards that were found free, and are another process's to lead.
    free_since: HashMap<u32, Instant>,
    /// Shards that another process leads, and are this one's: since when, or when it last said so.
    wanted_since: HashMap<u32, Instant>,
    /// Since when this process waits for its turn to write.
    waits_since: Option<Instant>,
    warned_at: Option<Instant>,
    lead_warned_at: Option<Instant>,
}

struct Leading {
    member: Membership,
    asked_back: CancellationToken,
}

impl Nodes {
    /// Adds this process to those that have a file open, and starts the thread that hears the others. The caller holds the gate, so
    /// that no other process comes or goes meanwhile.
    pub(super) fn enter(database: &Path, is_exclusive: bool) -> io::Result<Arc<Self>> {
        let folder = beside(database, "-nodes");
        peers::make(&folder)?;
        let me = Me::enter(&folder, is_exclusive)?;
        let sockets = Sockets::bind(&folder, me.name());
        let nodes = Arc::new(Self {
            folder,
            me,
            sockets,
            has_peers: AtomicBool::new(false),
            seen: AtomicU64::new(0),
            is_closed: AtomicBool::new(false),
            state: Mutex::default(),
        });
        nodes.look()?;
        nodes.tell(&Notice::Hello);
        let of_thread = Arc::clone(&nodes);
        thread::Builder::new().name("roundlot-nodes".to_owned()).spawn(move || of_thread.listen())?;
        Ok(nodes)
    }

    /// Whether other processes have the file open.
    pub(super) fn has_peers(&self) -> bool {
        self.has_peers.load(Ordering::Relaxed)
    }

    /// Changes when there have been others.
    pub(super) fn seen(&self) -> u64 {
        self.seen.load(Ordering::Relaxed)
    }

    /// A process that can't have the file open together with this one: one of the two wants it for itself.
    pub(super) fn stranger(&self) -> Option<u32> {
        let state = self.state();
        state.peers.iter().find(|peer| peer.is_exclusive || self.me.is_exclusive()).map(|peer| peer.pid)
    }

    /// This process has joined a log, or has left it.
    pub(super) fn joined(&self, member: Membership) {
        self.state().own.insert(member);
        self.publish();
    }

    pub(super) fn left(&self, member: Membership) {
        self.state().own.remove(&member);
        self.publish();
    }

    /// Tells the others which logs this process has joined.
    fn publish(&self) {
        // Under the lock, so that a newer set is not followed by an older one.
        let published = {
            let state = self.state();
            self.me.publish(&state.own)
        };
        if let Err(error) = published {
            warn!(folder = %self.folder.display(), %error, "the logs of this process can't be noted for the others");
        }
        self.tell(&Notice::Hello);
    }

    /// The processes that have joined a log, in order.
    pub(super) fn members(&self, log: u16) -> Vec<Membership> {
        let state = self.state();
        let all = state.own.iter().chain(state.peers.iter().flat_map(|peer| &peer.members));
        let mut members: Vec<_> = all.filter(|member| member.log == log).copied().collect();
        members.sort_unstable();
        members
    }

    /// Takes the lead of a shard, by its key, if it is free and this process is the one to have it.
    pub(super) fn try_lead(self: &Arc<Self>, key: u32, member: Membership) -> Option<Lead> {
        let path = self.folder.join(format!("lead-{key}"));
        let lock = owner_only(&path).and_then(|lock| lock.try_lock().map(|()| lock).map_err(io::Error::from));
        let lock = match lock {
            Ok(lock) => lock,
            Err(error) => {
                if error.kind() != io::ErrorKind::WouldBlock {
                    self.warn_of_lead(&path, &error);
                }
                self.state().free_since.remove(&key);
                self.want(key, member);
                return None;
            }
        };
        self.state().wanted_since.remove(&key);
        // The process that had it may be gone.
        if self.has_peers() {
            self.look_around();
        }
        let better = self.better_leader(key, member);
        let asked_back = CancellationToken::new();
        {
            let mut state = self.state();
            let since = *state.free_since.entry(key).or_insert_with(Instant::now);
            if better && since.elapsed() < SPARE_AFTER {
                return None;
            }
            state.free_since.remove(&key);
            let leading = Leading { member, asked_back: asked_back.clone() };
            state.leads.insert(key, leading);
        }
        Some(Lead::new(asked_back, Held { nodes: Arc::clone(self), key, lock: Some(lock) }))
    }

    /// Warns that a shard may stay without a leader.
    fn warn_of_lead(&self, path: &Path, error: &io::Error) {
        let mut state = self.state();
        if state.lead_warned_at.is_none_or(|at| at.elapsed() >= WARN_EVERY) {
            state.lead_warned_at = Some(Instant::now());
            warn!(path = %path.display(), %error, "this process can't lead a shard");
        }
    }

    /// Whether another process should lead a shard.
    fn better_leader(&self, key: u32, member: Membership) -> bool {
        let shard = (key & 0xffff) as u16;
        preferred(&self.members(member.log), shard).is_some_and(|preferred| preferred != member)
    }

    /// Notices about a shard.
    pub(super) fn news(&self, key: u32) -> Arc<News> {
        Arc::clone(self.state().news.entry(key).or_default())
    }

    /// Tells the other processes that shards have changed.
    pub(super) fn changed(&self, keys: &[u32]) {
        if self.has_peers() && !keys.is_empty() {
            self.tell(&Notice::Changed(keys.to_vec()));
        }
    }

    /// Asks the process that leads a shard to make due all that waits.
    pub(super) fn press(&self, key: u32) {
        self.tell(&Notice::Pressed(key));
    }

    fn tell(&self, notice: &Notice) {
        let names: Vec<String> = self.state().peers.iter().map(|peer| peer.name.clone()).collect();
        for name in names {
            // A peer that is gone or does not listen looks by itself.
            let _ = self.sockets.send(&self.folder, &name, notice);
        }
    }

    /// The turns of all processes to write.
    pub(super) fn turnstile(self: &Arc<Self>) -> Turnstile {
        Turnstile::new(&self.folder, Arc::clone(self))
    }

    fn waits(&self, waits: bool) {
        self.state().waits_since = waits.then(Instant::now);
    }

    /// Hears the others until this process leaves.
    fn listen(&self) {
        let mut looked_at = Instant::now();
        loop {
            // Alone, it sleeps until another one says hello.
            let patience = (self.has_peers() || !self.sockets.can_hear()).then_some(LOOK_EVERY);
            let heard = self.sockets.hear(patience);
            if self.is_closed.load(Ordering::Relaxed) {
                return;
            }
            match heard {
                Heard::Notice(Notice::Changed(keys)) => self.notify(&keys),
                Heard::Notice(Notice::Pressed(key)) => {
                    if let Some(news) = self.state().news.get(&key) {
                        news.pressed.notify_one();
                    }
                }
                Heard::Notice(Notice::Wanted(key)) => self.give(key),
                Heard::Notice(Notice::Hello) | Heard::Nothing => looked_at = Instant::now() - LOOK_EVERY,
            }
            if looked_at.elapsed() >= LOOK_EVERY {
                looked_at = Instant::now();
                self.look_around();
                self.look_at_turn();
                let all: Vec<u32> = self.state().news.keys().copied().collect();
                self.notify(&all);
            }
        }
    }

    fn notify(&self, keys: &[u32]) {
        let state = self.state();
        keys.iter().filter_map(|key| state.news.get(key)).for_each(|news| news.changed.notify_one());
    }

    /// Looks which other processes are alive. What was seen last counts if that fails.
    pub(super) fn look_around(&self) {
        if let Err(error) = self.look() {
            warn!(folder = %self.folder.display(), %error, "the other processes of a log can't be seen");
        }
    }

    fn look(&self) -> io::Result<()> {
        let peers = peers::look(&self.folder, self.me.name())?;
        self.has_peers.store(!peers.is_empty(), Ordering::Relaxed);
        self.seen.fetch_add(u64::from(!peers.is_empty()), Ordering::Relaxed);
        self.state().peers = peers;
        Ok(())
    }

    /// Says that a shard is this process's to lead. A process that is stopped, or leaves, says nothing, and moves no shard.
    fn want(&self, key: u32, member: Membership) {
        let is_other = self.better_leader(key, member);
        {
            let mut state = self.state();
            if is_other {
                state.wanted_since.remove(&key);
                return;
            }
            let since = state.wanted_since.entry(key).or_insert_with(Instant::now);
            if since.elapsed() < WANTED_AFTER {
                return;
            }
            *since = Instant::now();
        }
        self.tell(&Notice::Wanted(key));
    }

    /// Another process wants a shard.
    fn give(&self, key: u32) {
        // The process that wants it may have come just now.
        self.look_around();
        let member = self.state().leads.get(&key).map(|leading| leading.member);
        if member.is_some_and(|member| self.better_leader(key, member))
            && let Some(leading) = self.state().leads.get(&key)
        {
            leading.asked_back.cancel();
        }
    }

    /// Warns if another process keeps this one from writing.
    fn look_at_turn(&self) {
        let mut state = self.state();
        let waits = state.waits_since.is_some_and(|since| since.elapsed() >= SLOW_TURN);
        if waits && state.warned_at.is_none_or(|at| at.elapsed() >= WARN_EVERY) {
            state.warned_at = Some(Instant::now());
            drop(state);
            let processes = turnstile::holders(&self.folder).join(", ");
            warn!(folder = %self.folder.display(), processes, "another process keeps a log from being written");
        }
    }

    /// Leaves the file. The caller holds the gate.
    pub(super) fn leave(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
        self.me.leave(&self.folder);
        self.sockets.leave(&self.folder, self.me.name());
        self.tell(&Notice::Hello);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The lock of a shard that this process leads.
struct Held {
    nodes: Arc<Nodes>,
    key: u32,
    lock: Option<fs::File>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.nodes.state().leads.remove(&self.key);
        // Free before the others hear of it.
        drop(self.lock.take());
        self.nodes.changed(&[self.key]);
    }
}
