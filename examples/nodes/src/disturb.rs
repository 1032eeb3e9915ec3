//! Faults, as [`Show`] brings them about.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{
    Failure,
    board::Board,
    fault::Fault,
    show::Show,
    word::{LEAVE, STOP_IN_TRANSACTION},
};

/// How long a stopped node stands still.
const STANDSTILL: Duration = Duration::from_secs(1);

/// How long a node may take to begin a transaction, in which it stops.
const PATIENCE: Duration = Duration::from_secs(10);

/// The pause between two looks whether a node is stopped.
const LOOK: Duration = Duration::from_millis(20);

/// The time after which all rows that were written before a node stopped have been read.
const READ: Duration = Duration::from_millis(300);

/// How long a node that joins or leaves lives, at most: as long as either takes.
const MOMENT: u64 = 80;

/// The pause between two restarts of a rolling one.
const BETWEEN: Duration = Duration::from_millis(300);

impl Show {
    /// Does something to the leader of a shard: a different shard and kind each time.
    pub(crate) fn disturb(&mut self, number: u64, board: &mut Board) -> Result<(), Failure> {
        let kinds = Fault::ALL.into_iter().filter(|fault| !(fault.needs_fence() && self.has_venue()));
        let kinds: Vec<Fault> = kinds.collect();
        let fault = kinds[(number % kinds.len() as u64) as usize];
        let shards = self.seen.leaders.len() as u64;
        let Some((_, leader)) = self.seen.leaders.iter().nth((number * 5 % shards.max(1)) as usize) else {
            return Err("no node has begun to lead".into());
        };
        let slot = leader.slot;
        let led = self.led_by(slot);
        *self.seen.faults.entry(fault).or_default() += 1;
        let text = format!("{fault} node {slot} (process {}), which leads shards {led:?}", self.fleet.pid(slot));
        board.tell(&self.seen, &text);
        self.seen.last_fault = Some(text);
        match fault {
            Fault::Kill => self.kill(&[slot], fault),
            Fault::KillTwo => self.kill(&[slot, (slot + 1) % self.seen.loads.len()], fault),
            Fault::Leave => self.restart(slot, fault),
            Fault::RollingRestart => {
                for slot in 0..self.seen.loads.len() {
                    self.restart(slot, fault)?;
                    self.follow_for(BETWEEN, board)?;
                }
                Ok(())
            }
            Fault::Stop | Fault::StopAndKill => {
                self.fleet.stop(slot)?;
                self.follow_for(STANDSTILL, board)?;
                self.wake_or_kill(slot, fault)
            }
            Fault::StopInTransaction | Fault::KillInTransaction => {
                self.fleet.tell(slot, STOP_IN_TRANSACTION)?;
                self.stand_still(slot, board)?;
                self.wake_or_kill(slot, fault)
            }
            Fault::KillInJoin => {
                self.kill(&[slot], fault)?;
                thread::sleep(Duration::from_millis(number * 7 % MOMENT));
                self.kill(&[slot], fault)
            }
            Fault::KillInLeave => {
                self.fleet.tell(slot, LEAVE)?;
                thread::sleep(Duration::from_millis(number * 7 % MOMENT));
                self.fleet.replace_killed(&[slot])
            }
            Fault::RemoveLocks => self.fleet.remove_locks(),
        }
    }

    fn led_by(&self, slot: usize) -> Vec<u16> {
        self.seen.leaders.iter().filter(|(_, leader)| leader.slot == slot).map(|(shard, _)| *shard).collect()
    }

    fn kill(&mut self, slots: &[usize], fault: Fault) -> Result<(), Failure> {
        slots.iter().for_each(|slot| self.lose_leader(&self.led_by(*slot), fault));
        self.fleet.replace_killed(slots)
    }

    fn restart(&mut self, slot: usize, fault: Fault) -> Result<(), Failure> {
        self.lose_leader(&self.led_by(slot), fault);
        self.fleet.replace_left(slot)
    }

    fn wake_or_kill(&mut self, slot: usize, fault: Fault) -> Result<(), Failure> {
        match fault {
            Fault::StopAndKill | Fault::KillInTransaction => self.kill(&[slot], fault),
            _ => self.fleet.go_on(slot),
        }
    }

    /// Waits until a node has stopped in its transaction. From then on no row may arrive.
    fn stand_still(&mut self, slot: usize, board: &mut Board) -> Result<(), Failure> {
        let deadline = Instant::now() + PATIENCE;
        while !self.fleet.is_stopped(slot) {
            if Instant::now() > deadline {
                return Err(format!("node {slot} has not begun a transaction").into());
            }
            self.follow_for(LOOK, board)?;
        }
        self.follow_for(READ, board)?;
        let before = self.seen.journal.last_arrival();
        self.follow_for(STANDSTILL, board)?;
        if self.seen.journal.last_arrival() > before {
            return Err(format!("rows were written although node {slot} is stopped in its transaction").into());
        }
        Ok(())
    }
}
