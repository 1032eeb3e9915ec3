//! [`Turnstile`]: whose turn it is to write. SQLite's own lock has no queue: a process that writes without a pause would take it again
//! before one that waits has looked. A process that waits here holds the lock `next` until it has the lock `turn`, so that the one
//! whose turn it was can't come in between.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use super::{Nodes, owner_only};

/// The turns of one process.
pub(in super::super) struct Turnstile {
    folder: PathBuf,
    nodes: Arc<Nodes>,
    /// Waits in the queue if another process has the turn: the kernel's locks have no time-out.
    usher: Option<Arc<Usher>>,
}

/// A turn, until it is dropped. The lock ends with the process in any case.
#[derive(Debug)]
pub(in super::super) struct Turn {
    _lock: File,
}

impl Turnstile {
    pub(super) fn new(folder: &Path, nodes: Arc<Nodes>) -> Self {
        Self { folder: folder.to_owned(), nodes, usher: None }
    }

    /// Blocks until it is this process's turn, or the time is over. A warning names the process that has it if that takes long.
    pub(in super::super) fn enter(&mut self, patience: Duration) -> io::Result<Option<Turn>> {
        if let Some(usher) = &self.usher
            && usher.state().is_done
        {
            self.usher = None;
        }
        // An earlier wait was in vain.
        if self.usher.is_some()
            && let Some(turn) = Locks::open(&self.folder)?.try_turn()?
        {
            return Ok(Some(turn));
        }
        let usher = match &self.usher {
            Some(usher) => Arc::clone(usher),
            None => {
                let locks = Locks::open(&self.folder)?;
                match locks.try_enter()? {
                    Ok(turn) => return Ok(Some(turn)),
                    Err(locks) => Arc::clone(self.usher.insert(Usher::start(locks)?)),
                }
            }
        };
        self.nodes.waits(true);
        let turn = usher.wait(patience);
        self.nodes.waits(false);
        match turn {
            Some(turn) => Ok(Some(turn)),
            None => Locks::open(&self.folder)?.try_turn(),
        }
    }
}

/// The two locks, not held, or `next` alone.
struct Locks {
    next: File,
    turn: File,
}

impl Locks {
    fn open(folder: &Path) -> io::Result<Self> {
        Ok(Self { next: owner_only(&folder.join("next"))?, turn: owner_only(&folder.join("turn"))? })
    }

    /// Enters without waiting. Otherwise the locks come back, at the place in the queue that they have.
    fn try_enter(self) -> io::Result<Result<Turn, Self>> {
        match self.next.try_lock().and_then(|()| self.turn.try_lock()) {
            Ok(()) => Ok(Ok(self.into_turn()?)),
            Err(TryLockError::WouldBlock) => Ok(Err(self)),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Enters without a place in the queue. A process that is stopped while it queues has the lock `next`, though the turn may be free.
    fn try_turn(self) -> io::Result<Option<Turn>> {
        match self.turn.try_lock() {
            Ok(()) => Ok(Some(Turn { _lock: self.turn })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn enter(self) -> io::Result<Turn> {
        self.next.lock()?;
        self.turn.lock()?;
        self.into_turn()
    }

    /// The next process may queue.
    fn into_turn(self) -> io::Result<Turn> {
        self.next.unlock()?;
        Ok(Turn { _lock: self.turn })
    }
}

/// A thread that waits for one turn.
struct Usher {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Whether the writer waits. A turn that comes otherwise is given up, and the writer queues anew.
    is_awaited: bool,
    turn: Option<Turn>,
    is_done: bool,
}

impl Usher {
    fn start(locks: Locks) -> io::Result<Arc<Self>> {
        let usher = Arc::new(Self { state: Mutex::default(), changed: Condvar::new() });
        let of_thread = Arc::clone(&usher);
        let wait = move || {
            // An error lets the writer queue anew.
            let turn = locks.enter().ok();
            let mut state = of_thread.state();
            state.turn = turn.filter(|_| state.is_awaited);
            state.is_done = true;
            of_thread.changed.notify_one();
        };
        // The first wait begins before the thread can end.
        usher.state().is_awaited = true;
        thread::Builder::new().name("roundlot-turn".to_owned()).spawn(wait)?;
        Ok(usher)
    }

    fn wait(&self, patience: Duration) -> Option<Turn> {
        let mut state = self.state();
        state.is_awaited = true;
        let waited = self.changed.wait_timeout_while(state, patience, |state| !state.is_done);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.is_awaited = false;
        state.turn.take()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The processes whose turn it is, or that come next, as far as the kernel tells.
pub(super) fn holders(folder: &Path) -> Vec<String> {
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    let inodes = ["turn", "next"].into_iter().filter_map(|name| inode(&fs::metadata(folder.join(name)).ok()?));
    let owners = inodes.flat_map(|inode| lock_owners(&locks, inode)).filter(|pid| *pid != std::process::id());
    owners.map(super::super::wal::process).collect()
}

#[cfg(unix)]
fn inode(file: &fs::Metadata) -> Option<u64> {
    Some(std::os::unix::fs::MetadataExt::ino(file))
}

#[cfg(not(unix))]
fn inode(_file: &fs::Metadata) -> Option<u64> {
    None
}

/// The owners of whole-file locks on a file, by the kernel's table. Those that wait are marked with an arrow.
fn lock_owners(locks: &str, inode: u64) -> Vec<u32> {
    let owner = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, "FLOCK", _, _, pid, file, ..] = fields[..] else { return None };
        if file.rsplit(':').next()?.parse() == Ok(inode) { pid.parse().ok() } else { None }
    };
    locks.lines().filter_map(owner).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn turnstile(folder: &Path) -> Turnstile {
        Turnstile::new(folder, Nodes::enter(&folder.join("orders.db"), false).unwrap())
    }

    /// Goal: a process that writes without a pause has no second turn while another one is in the queue. Method: one that ends each
    /// turn when it sees that the other one waits, and enters again at once.
    #[test]
    fn a_turn_comes_next() {
        const TURNS: u64 = 200;
        let folder = tempfile::tempdir().unwrap();
        let (mut busy, mut other) = (turnstile(folder.path()), turnstile(folder.path()));
        let granted = Arc::new(AtomicU64::new(0));
        let of_other = Arc::clone(&granted);
        let probe = owner_only(&folder.path().join("next")).unwrap();
        let mut turn = busy.enter(LONG).unwrap().expect("it is alone");
        let waiting = thread::spawn(move || {
            for _ in 0..TURNS {
                let turn = other.enter(LONG).unwrap().expect("its turn comes");
                of_other.fetch_add(1, SeqCst);
                drop(turn);
            }
        });
        while granted.load(SeqCst) < TURNS {
            // The other one queues sooner or later, since it is not through and only we have the turn.
            while probe.try_lock().is_ok() {
                probe.unlock().unwrap();
                thread::yield_now();
            }
            let before = granted.load(SeqCst);
            drop(turn);
            turn = busy.enter(LONG).unwrap().expect("its turn comes");
            assert!(granted.load(SeqCst) > before, "it was in the queue, and had to wait for a second turn");
        }
        drop(turn);
        waiting.join().unwrap();
    }

    /// Goal: a process that is stopped in its turn lets no other one wait for ever, and a turn that comes too late is given up. Method:
    /// a turn that lasts longer than the patience of the next process.
    #[test]
    fn patience_ends() {
        let folder = tempfile::tempdir().unwrap();
        let (mut stopped, mut other) = (turnstile(folder.path()), turnstile(folder.path()));
        let turn = stopped.enter(LONG).unwrap().unwrap();
        assert!(other.enter(Duration::from_millis(1)).unwrap().is_none());
        assert!(other.enter(Duration::from_millis(1)).unwrap().is_none());
        drop(turn);
        drop(stopped.enter(LONG).unwrap().expect("no process keeps it"));
        drop(other.enter(LONG).unwrap());
        drop(other.enter(LONG).unwrap().expect("it queues anew if its turn came when it did not wait"));
    }

    /// Goal: a process that is stopped while it queues keeps no other one from writing, and no two have a turn at once. Method: the lock
    /// of the queue is held, and the turn by nobody, or by a third process.
    #[test]
    fn a_stopped_queue_is_passed() {
        let folder = tempfile::tempdir().unwrap();
        let stopped = owner_only(&folder.path().join("next")).unwrap();
        stopped.lock().unwrap();
        let (mut one, mut other) = (turnstile(folder.path()), turnstile(folder.path()));
        for _ in 0..3 {
            let turn = one.enter(Duration::from_millis(1)).unwrap().expect("the turn is free");
            assert!(other.enter(Duration::from_millis(1)).unwrap().is_none());
            drop(turn);
            drop(other.enter(Duration::from_millis(1)).unwrap().expect("the turn is free"));
        }
    }

    #[test]
    fn the_owner_of_the_turn_is_found() {
        let locks = "1: FLOCK  ADVISORY  WRITE 4711 08:01:55 0 EOF\n\
                     1: -> FLOCK  ADVISORY  WRITE 4712 08:01:55 0 EOF\n\
                     2: POSIX  ADVISORY  WRITE 4713 08:01:55 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 4714 08:01:56 0 EOF";
        assert_eq!(lock_owners(locks, 55), [4711]);
    }
}
