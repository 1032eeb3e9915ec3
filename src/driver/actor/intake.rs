//! Drains the inbox into the accumulator, in order of sending. The actor calls it at the start of each turn.

use std::vec;

use tracing::debug;

use super::{Actor, budget::WORK_PER_TURN};
use crate::{
    driver::{
        clock,
        inbox::{
            Drained,
            command::{Command, Control, Stop},
        },
        reply::AckSender,
    },
    rules::{
        accumulator::{Arrivals, Run},
        config::limits::Limits,
        panics,
        time::Timestamp,
    },
    sink::Sink,
};

impl<T, R, S> Actor<T, R, S>
where
    T: Send + 'static,
    R: Clone + Send + 'static,
    S: Sink<T, R>,
{
    /// Drains everything that has been sent so far. Returns the number of ops, and whether other tasks ran meanwhile.
    pub(super) async fn drain_inbox(&mut self, now: &mut Timestamp) -> (usize, bool) {
        let Some(control) = self.inbox.take(&mut self.state.drained) else {
            return (0, false);
        };
        let mut drained = std::mem::take(&mut self.state.drained);
        let (count, mut yielded) = (drained.ops.len(), false);
        if count > 0 {
            // Taken after draining: an op with a later timestamp would not be due even with a linger of zero.
            *now = clock::now();
        }
        if self.accumulator.is_plain() && drained.has_only_permitted_ops() {
            let Drained { ops, acks, commands } = &mut drained;
            self.accumulator.accept_all(ops, acks, commands.iter().filter_map(Command::run), *now);
            commands.clear();
        } else {
            let (mut commands, mut arrivals) = drained.drain();
            while self.handle_commands(&mut commands, &mut arrivals, *now) {
                self.yield_now().await;
                (*now, yielded) = (clock::now(), true);
            }
        }
        self.state.drained = drained;
        self.apply_control(control);
        (count, yielded)
    }

    /// Handles some of the commands. Returns whether there may be more.
    fn handle_commands(
        &mut self,
        commands: &mut vec::Drain<'_, Command<T>>,
        arrivals: &mut Arrivals<'_, T, AckSender<R>>,
        now: Timestamp,
    ) -> bool {
        let most = arrivals.len().saturating_sub(WORK_PER_TURN);
        for _ in 0..WORK_PER_TURN {
            match commands.next() {
                Some(command) => self.handle_command(command, arrivals, now),
                None => return false,
            }
            if arrivals.len() < most {
                break;
            }
        }
        true
    }

    fn handle_command(&mut self, command: Command<T>, arrivals: &mut Arrivals<'_, T, AckSender<R>>, now: Timestamp) {
        match command {
            Command::Ops(run) if run.has_permit => self.accumulator.accept(run, arrivals, now),
            Command::Ops(run) => self.accept_over_capacity(run, arrivals, now),
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

    /// Accepts ops without a permit. Each evicts one op, unless a settled op has already freed a permit.
    fn accept_over_capacity(&mut self, run: Run, arrivals: &mut Arrivals<'_, T, AckSender<R>>, now: Timestamp) {
        for _ in 0..run.count {
            let (deficit, senders_wait) = self.inbox.charge();
            self.accumulator.accept(Run { count: 1, ..run }, arrivals, now);
            // Permits of settled ops go to waiting senders first, if there are any.
            if senders_wait || self.accumulator.settled() < deficit {
                self.accumulator.evict(now);
            }
        }
    }

    fn apply_control(&mut self, control: Control) {
        if let Some(paused) = control.paused {
            self.accumulator.set_paused(paused);
            self.state.pausing.extend(control.pausing);
        }
        // Limits hold from here on: ops that came before them came under the old ones.
        if let Some(limits) = control.limits {
            self.set_limits(limits);
        }
        if control.under_pressure {
            self.accumulator.press();
        }
        if let Some(Stop { within, no_handles_left }) = control.stop {
            self.close(within, no_handles_left);
        }
    }

    fn set_limits(&mut self, limits: Limits) {
        let (old, new) = (self.limits.max_pending, limits.max_pending);
        if new < old {
            self.inbox.forget_permits(old - new);
        } else {
            self.inbox.release(new - old);
        }
        self.accumulator.set_limits(&limits, clock::now());
        self.limits = limits;
    }
}
