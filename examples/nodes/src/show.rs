//! [`Show`]: runs the nodes, disturbs them, and follows what they and the destination say.

use std::{
    collections::BTreeMap,
    sync::{
        atomic::{AtomicBool, Ordering::SeqCst},
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use crate::{
    Failure,
    board::Board,
    fault::Fault,
    fleet::{Fleet, News, Plan},
    journal::{Broken, Journal},
    times::Times,
    word::{FINISH, Word},
};

/// How often the files of the locks are removed in a show without them.
const REMOVE_EVERY: Duration = Duration::from_millis(100);

/// How long nodes may take to end what is in the log when the show is over. A log that goes on has some thousand ops.
const PATIENCE: Duration = Duration::from_secs(60);

/// Lost ops that are named, at most.
const MAX_NAMED: usize = 20;

/// How long the first leader may take: streams that three servers hold are made in some seconds on a busy machine.
const BEGINS_WITHIN: Duration = Duration::from_secs(60);

/// The board is drawn so often.
const FRAME: Duration = Duration::from_millis(200);

/// Set by SIGINT and SIGTERM. The show then ends with an error, so that servers and nodes are stopped.
pub(crate) static IS_INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// How long the show goes on.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Length {
    Time(Duration),
    Faults(u64),
    /// Until a promise is broken, or so many faults have broken none.
    UntilBroken(u64),
}

/// The leader of a shard.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Leader {
    pub(crate) slot: usize,
    pub(crate) epoch: u64,
    pub(crate) since: Instant,
    /// How long the shard had no leader before this one, after a fault.
    pub(crate) taken_over_in: Option<Duration>,
}

/// All that has been seen, for the board and the end.
pub(crate) struct Seen {
    pub(crate) began: Instant,
    pub(crate) leaders: BTreeMap<u16, Leader>,
    /// Waiting ops and those in doubt, by node.
    pub(crate) loads: Vec<(u64, u64)>,
    pub(crate) journal: Journal,
    pub(crate) faults: BTreeMap<Fault, u64>,
    /// After a leader was killed.
    pub(crate) takeovers: Times,
    /// After a leader was asked to leave, with the end of its writes.
    pub(crate) handovers: Times,
    pub(crate) last_fault: Option<String>,
    /// Terms that have begun.
    pub(crate) terms: u64,
}

pub(crate) struct Show {
    pub(crate) fleet: Fleet,
    news: Receiver<News>,
    pub(crate) seen: Seen,
    /// When locks are removed again, in a show without them.
    remove_at: Option<Instant>,
    /// Shards whose leader was killed or asked to leave, and when.
    leaderless: BTreeMap<u16, (Fault, Instant)>,
    finished: Vec<bool>,
}

impl Show {
    pub(crate) fn begin(plan: Plan, has_locks: bool) -> Result<Self, Failure> {
        let (tell, news) = mpsc::channel();
        // The table of the rows in a file of the log is made by the nodes.
        if plan.venue.is_some() || !plan.log.is_file() {
            plan.destination().prepare()?;
        }
        plan.destination().follow(tell.clone());
        if plan.faults().is_empty() {
            return Err("the only kind of faults does not happen to such a log".into());
        }
        let nodes = plan.nodes;
        let seen = Seen {
            began: Instant::now(),
            leaders: BTreeMap::new(),
            loads: vec![(0, 0); nodes],
            journal: Journal::default(),
            faults: BTreeMap::new(),
            takeovers: Times::default(),
            handovers: Times::default(),
            last_fault: None,
            terms: 0,
        };
        let fleet = Fleet::start(plan, tell)?;
        let remove_at = (!has_locks).then(Instant::now);
        Ok(Self { fleet, news, seen, remove_at, leaderless: BTreeMap::new(), finished: vec![false; nodes] })
    }

    /// Disturbs the nodes one after another.
    pub(crate) fn run(&mut self, length: Length, every: Duration, board: &mut Board) -> Result<(), Failure> {
        let mut faults = 0;
        let begins_by = Instant::now() + BEGINS_WITHIN;
        while self.seen.leaders.is_empty() && Instant::now() < begins_by {
            self.follow_for(FRAME, board)?;
        }
        loop {
            match length {
                Length::Time(time) if self.seen.began.elapsed() + every > time => {
                    return self.follow_for(time.saturating_sub(self.seen.began.elapsed()), board);
                }
                Length::Faults(all) | Length::UntilBroken(all) if faults == all => return Ok(()),
                Length::UntilBroken(_) if self.seen.journal.broken() != Broken::default() => return Ok(()),
                _ => {}
            }
            self.follow_for(every, board)?;
            self.disturb(faults, board)?;
            faults += 1;
        }
    }

    /// Notes that shards have no leader from now on.
    pub(crate) fn lose_leader(&mut self, shards: &[u16], fault: Fault) {
        let now = Instant::now();
        self.leaderless.extend(shards.iter().map(|shard| (*shard, (fault, now))));
    }

    /// Notes that shards whose leader was to be replaced have kept it.
    pub(crate) fn keep_leader(&mut self, shards: &[u16]) {
        self.leaderless.retain(|shard, _| !shards.contains(shard));
    }

    /// Follows what is said for some time.
    pub(crate) fn follow_for(&mut self, time: Duration, board: &mut Board) -> Result<(), Failure> {
        let end = Instant::now() + time;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.follow(left.min(FRAME))?;
            board.draw(&self.seen, &self.fleet);
        }
    }

    /// Takes all news that there is, or waits for one.
    fn follow(&mut self, patience: Duration) -> Result<(), Failure> {
        if IS_INTERRUPTED.load(SeqCst) {
            return Err("interrupted".into());
        }
        self.fleet.check()?;
        if self.remove_at.is_some_and(|at| at <= Instant::now()) {
            self.fleet.remove_locks()?;
            self.remove_at = Some(Instant::now() + REMOVE_EVERY);
        }
        match self.news.recv_timeout(patience) {
            Ok(news) => self.take(news),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err("nothing is heard any more".into()),
        }
        // Not more than one channel full, so that the board is drawn.
        for _ in 0..10_000 {
            let Ok(news) = self.news.try_recv() else { break };
            self.take(news);
        }
        Ok(())
    }

    fn take(&mut self, news: News) {
        match news {
            News::Arrived(rows) => rows.into_iter().for_each(|row| self.seen.journal.note(row)),
            News::Said { slot, word, at } => {
                self.seen.journal.hear(word);
                match word {
                    Word::Leads { shard, epoch } => self.note_leader(slot, (shard, epoch), at),
                    Word::Leading { waiting, in_doubt } => self.seen.loads[slot] = (waiting, in_doubt),
                    Word::Finished => self.finished[slot] = true,
                    Word::Accepted { .. } | Word::Ended { .. } | Word::Priced { .. } => {}
                }
            }
        }
    }

    fn note_leader(&mut self, slot: usize, (shard, epoch): (u16, u64), at: Instant) {
        self.seen.terms += 1;
        // Words of different nodes overtake each other.
        if self.seen.leaders.get(&shard).is_some_and(|leader| leader.epoch >= epoch) {
            return;
        }
        let taken_over_in = self.leaderless.remove(&shard).map(|(fault, since)| {
            let time = at.saturating_duration_since(since);
            let times = if fault.is_orderly() { &mut self.seen.handovers } else { &mut self.seen.takeovers };
            times.add(time);
            time
        });
        self.seen.leaders.insert(shard, Leader { slot, epoch, since: at, taken_over_in });
    }

    /// Lets the nodes end all that is in the log. They go on without anything to do.
    pub(crate) fn finish(&mut self, board: &mut Board) -> Result<(), Failure> {
        self.remove_at = None;
        self.fleet.tell_all(FINISH)?;
        let deadline = Instant::now() + PATIENCE;
        while !self.finished.iter().all(|finished| *finished) {
            if Instant::now() > deadline {
                return Err("the nodes did not end what is in the log".into());
            }
            self.follow(FRAME)?;
            board.draw(&self.seen, &self.fleet);
        }
        board.draw(&self.seen, &self.fleet);
        Ok(())
    }

    pub(crate) fn pids(&self) -> Vec<u32> {
        (0..self.finished.len()).map(|slot| self.fleet.pid(slot)).collect()
    }

    /// Lets the nodes leave.
    pub(crate) fn leave(self) -> Result<(), Failure> {
        self.fleet.leave()
    }

    /// Lets the nodes leave, and compares the journals.
    pub(crate) fn end(self) -> Result<(Broken, Seen), Failure> {
        let lives: Vec<u64> = (0..self.finished.len()).map(|slot| self.fleet.life(slot)).collect();
        let (log, rows) = (self.fleet.plan().log.clone(), self.fleet.plan().destination());
        self.fleet.leave()?;
        // The thread that follows the rows is behind: those that it has not told yet are read here.
        let mut seen = self.seen;
        drop(self.news);
        rows.rows()?.read()?.into_iter().for_each(|row| seen.journal.note_once(row));
        seen.journal.give_up(log.dead_letters()?);
        let living = |source| lives.contains(&crate::node::life_of(source));
        let broken = seen.journal.judge(living);
        seen.journal.lost(living).iter().take(MAX_NAMED).for_each(|lost| eprintln!("{lost}"));
        Ok((broken, seen))
    }
}
