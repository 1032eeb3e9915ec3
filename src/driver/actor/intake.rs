//! Drains the inbox into the accumulator, in order of sending. The actor calls it at the start of each turn.

use std::vec;

use tracing::debug;

use super::{Actor, budget::WORK_PER_TURN};
use crate::{
    driver::{
        clock,
        inbox::command::{Command, News, Stop},
    },
    rules::{
        accumulator::{Arrivals, Run},
        config::limits::Limits,
        panics,
        time::Moment,
    },
    sink::Sink,
};

impl<T, R, S> Actor<T, R, S>
where
    T: Send + 'static,
    R: Clone + Send + 'static,
    S: Sink<T, R>,
{
    /// Takes in everything that has been sent so far. Returns how much it was, and whether others have run meanwhile.
    pub(super) async fn take_in(&mut self, now: &mut Moment) -> (usize, bool) {
        let Some(news) = self.inbox.take(&mut self.state.taken) else {
            return (0, false);
        };
        let mut taken = std::mem::take(&mut self.state.taken);
        let (count, mut yielded) = (taken.ops.len(), false);
        if count > 0 {
            // Nothing may be younger than now, or it would not be due although nothing lingers.
            *now = clock::now();
        }
        if self.accumulator.is_plain() && taken.has_only_paid_ops() {
            self.accumulator.accept_all(
                &mut taken.ops,
                &mut taken.acks,
                taken.commands.drain(..).filter_map(Command::into_run),
                *now,
            );
        } else {
            let (mut commands, mut arrivals) = taken.drain();
            while self.obey_some(&mut commands, &mut arrivals, *now) {
                self.let_others_run().await;
                (*now, yielded) = (clock::now(), true);
            }
        }
        self.state.taken = taken;
        self.heed(news);
        (count, yielded)
    }

    /// Deals with some of what was sent. Says whether there may be more.
    fn obey_some(
        &mut self,
        commands: &mut vec::Drain<'_, Command<T>>,
        arrivals: &mut Arrivals<'_, T, R>,
        now: Moment,
    ) -> bool {
        let most = arrivals.len().saturating_sub(WORK_PER_TURN);
        for _ in 0..WORK_PER_TURN {
            match commands.next() {
                Some(command) => self.obey(command, arrivals, now),
                None => return false,
            }
            if arrivals.len() < most {
                break;
            }
        }
        true
    }

    fn obey(&mut self, command: Command<T>, arrivals: &mut Arrivals<'_, T, R>, now: Moment) {
        match command {
            Command::Ops(run) if run.paid => self.accumulator.accept(run, arrivals, now),
            Command::Ops(run) => self.accept_unpaid(run, arrivals, now),
            Command::Flush(flush) => self.accumulator.flush(*flush),
            // A caller who has given up must not be sent ops.
            Command::Withdraw { wanted, reply } if reply.is_closed() => drop(panics::discard(wanted)),
            Command::Withdraw { wanted, reply } => {
                let ops = self.accumulator.withdraw(wanted, now);
                debug!(batcher = %self.name, ops = ops.len(), "operations withdrawn");
                self.state.withdrawn.push((reply, ops));
            }
        }
    }

    /// Takes in ops that came without room: for each another one makes some, if none has done so yet.
    fn accept_unpaid(&mut self, run: Run, arrivals: &mut Arrivals<'_, T, R>, now: Moment) {
        for _ in 0..run.count {
            let (debt, line) = self.inbox.charge();
            self.accumulator.accept(Run { count: 1, ..run }, arrivals, now);
            // What is settled already is for those in line, if there are any.
            if line || self.accumulator.settled() < debt {
                self.accumulator.evict(now);
            }
        }
    }

    fn heed(&mut self, news: News) {
        if let Some(paused) = news.paused {
            self.accumulator.set_paused(paused);
            self.state.pausing.extend(news.pausing);
        }
        // Limits count from here on: what came before them came under the old ones.
        if let Some(limits) = news.limits {
            self.set_limits(limits);
        }
        if news.pressed {
            self.accumulator.press();
        }
        if let Some(Stop { within, deserted }) = news.stop {
            self.close(within, deserted);
        }
    }

    fn set_limits(&mut self, limits: Limits) {
        let (old, new) = (self.accumulator.limits().max_pending, limits.max_pending);
        if new < old {
            self.inbox.take_away(old - new);
        } else {
            self.inbox.free(new - old);
        }
        self.accumulator.set_limits(limits, clock::now());
    }
}
