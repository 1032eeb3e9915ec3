//! Faults, as [`Show`] brings them about.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{
    Failure,
    board::Board,
    fault::Fault,
    network::Cut,
    node::TRANSACTION_TIMEOUT,
    show::Show,
    word::{LEAVE, STOP_IN_TRANSACTION},
};

/// How long a stopped node stands still.
const STANDSTILL: Duration = Duration::from_secs(1);

/// How long a node may take to begin a transaction, in which it stops. Streams of NATS may be away for some seconds after a fault.
const PATIENCE: Duration = Duration::from_secs(30);

/// Pause between two looks whether a node is stopped.
const POLL_PERIOD: Duration = Duration::from_millis(20);

/// The time after which all rows that were written before a node stopped have been read.
const READ_WITHIN: Duration = Duration::from_millis(300);

/// How long a node that joins or leaves a file lives, at most, in milliseconds: as long as either takes.
const MAX_LIFE: u64 = 80;

/// How long one that joins or leaves a database lives, at most.
const MAX_LIFE_IN_DATABASE: u64 = 400;

/// The pause between two restarts of a rolling one.
const BETWEEN: Duration = Duration::from_millis(300);

impl Show {
    /// Does something to the leader of a shard: a different shard and kind each time.
    pub(crate) fn disturb(&mut self, number: u64, board: &mut Board) -> Result<(), Failure> {
        let kinds = self.fleet.plan().faults();
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
                // In a file its shards wait, since it is not dead.
                if !self.is_in_file() {
                    self.lose_leader(&led, fault);
                }
                self.fleet.stop(slot)?;
                self.follow_for(self.standstill(), board)?;
                self.keep_leader(&led);
                self.wake_or_kill(slot, fault)
            }
            Fault::StopInTransaction | Fault::KillInTransaction => {
                self.fleet.tell(slot, STOP_IN_TRANSACTION)?;
                self.stand_still(slot, board)?;
                self.wake_or_kill(slot, fault)
            }
            Fault::KillInJoin => {
                self.kill(&[slot], fault)?;
                thread::sleep(self.life(number));
                self.kill(&[slot], fault)
            }
            Fault::KillInLeave => {
                self.fleet.tell(slot, LEAVE)?;
                thread::sleep(self.life(number));
                self.fleet.replace_killed(&[slot])
            }
            Fault::SetClock => {
                self.lose_leader(&led, fault);
                let is_fast = (number / kinds.len() as u64).is_multiple_of(2);
                self.fleet.replace_clock(slot, if is_fast { "+1h" } else { "-1h" })
            }
            Fault::RemoveLocks => self.fleet.remove_locks(),
            Fault::Cut | Fault::CutNats => self.cut(slot, fault, Cut::BOTH, board),
            Fault::CutAnswers | Fault::CutNatsAnswers => self.cut(slot, fault, Cut::ANSWERS, board),
            Fault::KillNats => self.kill_nats(number, board),
            Fault::ShutNatsDown => self.shut_nats_down(number, board),
            Fault::KillAllNats => self.kill_all_nats(board),
            Fault::KillServer => self.fleet.plan().server.as_ref().map_or(Ok(()), |server| server.crash()),
            Fault::FailOver => self.fleet.plan().server.as_ref().map_or(Ok(()), |server| server.fail_over()),
        }
    }

    /// How long a node stands still: in a database longer than others need to take its shards over.
    pub(crate) fn standstill(&self) -> Duration {
        if self.is_in_file() { STANDSTILL } else { self.fleet.plan().lease * 5 / 2 }
    }

    fn is_in_file(&self) -> bool {
        self.fleet.plan().log.is_file()
    }

    /// How long a node lives that joins or leaves: another time with each fault.
    fn life(&self, number: u64) -> Duration {
        Duration::from_millis(number * 7 % if self.is_in_file() { MAX_LIFE } else { MAX_LIFE_IN_DATABASE })
    }

    fn cut(&mut self, slot: usize, fault: Fault, cut: Cut, board: &mut Board) -> Result<(), Failure> {
        let led = self.led_by(slot);
        self.lose_leader(&led, fault);
        self.fleet.plan().cut(slot, fault, cut);
        self.follow_for(self.standstill(), board)?;
        self.fleet.plan().cut(slot, fault, Cut::default());
        self.keep_leader(&led);
        Ok(())
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

    /// Waits until a node has stopped in its transaction. From then on no node writes to a file. In a database only the shard waits whose
    /// fence the transaction has; what the node wrote there after its successor would be stale.
    fn stand_still(&mut self, slot: usize, board: &mut Board) -> Result<(), Failure> {
        let deadline = Instant::now() + PATIENCE;
        while !self.fleet.is_stopped(slot) {
            if Instant::now() > deadline {
                return Err(format!("node {slot} has not begun a transaction").into());
            }
            self.follow_for(POLL_PERIOD, board)?;
        }
        if !self.is_in_file() {
            return self.follow_for(self.until_ended(), board);
        }
        self.follow_for(READ_WITHIN, board)?;
        let last = self.seen.journal.last_arrival();
        self.follow_for(STANDSTILL, board)?;
        if self.seen.journal.last_arrival() > last {
            return Err(format!("rows were written although node {slot} is stopped in its transaction").into());
        }
        Ok(())
    }

    /// The time after which a server has ended the transaction of a node that is stopped: that of the sink, and a lease of at least a second.
    fn until_ended(&self) -> Duration {
        let lease = self.fleet.plan().lease;
        TRANSACTION_TIMEOUT + lease.max(Duration::from_secs(1)) + lease / 2
    }
}
