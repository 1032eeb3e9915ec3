//! [`Show`]: runs the nodes, disturbs them, and follows what they and the destination say.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    time::{Duration, Instant},
};

use crate::{
    Failure,
    board::Board,
    fault::Fault,
    fleet::{Fleet, News, Plan},
    journal::{Broken, Destination, Journal},
    times::Times,
    word::{FINISH, Word},
};

/// How long a stopped node stands still.
const STANDSTILL: Duration = Duration::from_secs(1);

/// How long nodes may take to end what is in the log when the show is over. A log that goes on has some thousand ops.
const PATIENCE: Duration = Duration::from_secs(60);

/// Lost ops that are named, at most.
const MAX_NAMED: usize = 20;

/// The board is drawn so often.
const FRAME: Duration = Duration::from_millis(200);

/// How long the show goes on.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Length {
    Time(Duration),
    Faults(u64),
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
}

pub(crate) struct Show {
    fleet: Fleet,
    news: Receiver<News>,
    seen: Seen,
    /// Shards whose leader was killed or asked to leave, and when.
    leaderless: BTreeMap<u16, (Fault, Instant)>,
    finished: Vec<bool>,
}

impl Show {
    pub(crate) fn begin(plan: Plan) -> Result<Self, Failure> {
        let (tell, news) = mpsc::channel();
        Destination::follow(&plan.log, tell.clone());
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
        };
        let fleet = Fleet::start(plan, tell)?;
        Ok(Self { fleet, news, seen, leaderless: BTreeMap::new(), finished: vec![false; nodes] })
    }

    /// Disturbs the nodes one after another.
    pub(crate) fn run(&mut self, length: Length, every: Duration, board: &mut Board) -> Result<(), Failure> {
        let mut faults = 0;
        loop {
            match length {
                Length::Time(time) if self.seen.began.elapsed() + every > time => {
                    return self.follow_for(time.saturating_sub(self.seen.began.elapsed()), board);
                }
                Length::Faults(all) if faults == all => return Ok(()),
                _ => {}
            }
            self.follow_for(every, board)?;
            self.disturb(faults, board)?;
            faults += 1;
        }
    }

    /// Does something to the leader of a shard: a different shard and kind each time.
    fn disturb(&mut self, number: u64, board: &mut Board) -> Result<(), Failure> {
        let fault = Fault::ALL[(number % Fault::ALL.len() as u64) as usize];
        let shards = self.seen.leaders.len() as u64;
        let Some((_, leader)) = self.seen.leaders.iter().nth((number * 5 % shards.max(1)) as usize) else {
            return Err("no node has begun to lead".into());
        };
        let slot = leader.slot;
        let led: Vec<u16> =
            self.seen.leaders.iter().filter(|(_, leader)| leader.slot == slot).map(|(shard, _)| *shard).collect();
        *self.seen.faults.entry(fault).or_default() += 1;
        let text = format!("{fault} node {slot} (process {}), which leads shards {led:?}", self.fleet.pid(slot));
        board.tell(&self.seen, &text);
        self.seen.last_fault = Some(text);
        match fault {
            Fault::Kill => {
                self.lose_leader(&led, fault);
                self.fleet.replace_killed(slot)
            }
            Fault::Leave => {
                self.lose_leader(&led, fault);
                self.fleet.replace_left(slot)
            }
            Fault::Stop => {
                self.fleet.stop(slot)?;
                self.follow_for(STANDSTILL, board)?;
                self.fleet.go_on(slot)
            }
            Fault::StopAndKill => {
                self.fleet.stop(slot)?;
                self.follow_for(STANDSTILL, board)?;
                self.lose_leader(&led, fault);
                self.fleet.replace_killed(slot)
            }
        }
    }

    /// Notes that shards have no leader from now on.
    fn lose_leader(&mut self, shards: &[u16], fault: Fault) {
        let now = Instant::now();
        self.leaderless.extend(shards.iter().map(|shard| (*shard, (fault, now))));
    }

    /// Follows what is said for some time.
    fn follow_for(&mut self, time: Duration, board: &mut Board) -> Result<(), Failure> {
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
        self.fleet.check()?;
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
            News::Said { slot, word } => {
                self.seen.journal.hear(word);
                match word {
                    Word::Leads { shard, epoch } => self.note_leader(slot, shard, epoch),
                    Word::Leading { waiting, in_doubt } => self.seen.loads[slot] = (waiting, in_doubt),
                    Word::Finished => self.finished[slot] = true,
                    Word::Accepted { .. } | Word::Ended { .. } | Word::Priced { .. } => {}
                }
            }
        }
    }

    fn note_leader(&mut self, slot: usize, shard: u16, epoch: u64) {
        // Words of different nodes overtake each other.
        if self.seen.leaders.get(&shard).is_some_and(|leader| leader.epoch >= epoch) {
            return;
        }
        let now = Instant::now();
        let taken_over_in = self.leaderless.remove(&shard).map(|(fault, since)| {
            let time = now - since;
            let times = if fault == Fault::Leave { &mut self.seen.handovers } else { &mut self.seen.takeovers };
            times.add(time);
            time
        });
        self.seen.leaders.insert(shard, Leader { slot, epoch, since: now, taken_over_in });
    }

    /// Lets the nodes end all that is in the log, and compares the journals.
    pub(crate) fn end(mut self, path: &Path, board: &mut Board) -> Result<(Broken, Seen), Failure> {
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
        let lives: Vec<u64> = (0..self.finished.len()).map(|slot| self.fleet.life(slot)).collect();
        self.fleet.leave()?;
        // The thread that follows the rows is behind.
        let mut seen = self.seen;
        let mut destination = Destination::open(path, seen.journal.last_arrival())?;
        destination.read()?.into_iter().for_each(|row| seen.journal.note(row));
        seen.journal.give_up(destination.dead_letters()?);
        let living = |source| lives.contains(&crate::node::life_of(source));
        let broken = seen.journal.judge(living);
        seen.journal.lost(living).iter().take(MAX_NAMED).for_each(|lost| eprintln!("{lost}"));
        Ok((broken, seen))
    }
}
