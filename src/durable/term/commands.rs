//! Commands of handles, which a leader obeys. Some of them wait until it has read all that their callers may have seen accepted, by this
//! process or by any. The term goes on meanwhile, however long the log takes to answer.

use std::{future::pending, sync::Arc};

use tokio::task::JoinHandle;

use super::{TermEnd, ask, running::Running, settle::Of};
use crate::{driver::clock, durable::command::Command, sink::Sink};

/// The question how far the log reaches. The commands that wait for the answer are the first ones of the account, which outlives the term.
#[derive(Default)]
pub(super) struct CatchUp {
    /// The answer, if the log was asked. A task of its own awaits it, since the request may hold what another one of the leader waits for.
    end: Option<JoinHandle<Result<u64, TermEnd>>>,
    /// Commands that came before it was asked.
    asked: usize,
}

impl CatchUp {
    /// The position up to which the leader is to read. Dropped, it can be asked for again.
    pub(super) async fn end(&mut self) -> Result<u64, TermEnd> {
        match &mut self.end {
            Some(end) => {
                end.await.unwrap_or_else(|error| Err(TermEnd::Again(format!("the log was not asked: {error}"))))
            }
            None => pending().await,
        }
    }
}

impl Drop for CatchUp {
    fn drop(&mut self) {
        if let Some(end) = &self.end {
            end.abort();
        }
    }
}

impl<T, R, S> Running<'_, T, R, S>
where
    T: Send + 'static,
    R: Clone + Send + 'static,
    S: Sink<T, R>,
{
    /// Does what a handle asks for, after all that the handle has seen accepted. If the term ends before that, the next one does.
    pub(super) async fn handle_command(&mut self, command: Command<T>) -> Result<(), TermEnd> {
        let own = self.leader.shared.log.producer();
        let needs_own_alone = match &command {
            // A log that can't be read now must not delay it.
            Command::SetLimits(_) | Command::Pause { .. } => true,
            Command::IsWaiting { id, .. } => id.producer() == own,
            _ => false,
        };
        if !needs_own_alone {
            self.leader.account.commands.push_back(command);
            self.begin_catch_up();
            return Ok(());
        }
        if let Err(end) = self.drain_all_frames().await {
            self.leader.account.commands.push_front(command);
            return Err(end);
        }
        self.obey(command);
        Ok(())
    }

    /// Asks the log how far it reaches, if commands wait for that. Frames of which this process has not heard yet may be in it.
    fn begin_catch_up(&mut self) {
        if self.catch_up.end.is_some() || self.leader.account.commands.is_empty() {
            return;
        }
        let (log, abort, shard) = (Arc::clone(&self.leader.shared.log), self.leader.abort.clone(), self.leader.shard);
        self.catch_up.asked = self.leader.account.commands.len();
        self.catch_up.end = Some(tokio::spawn(async move { ask(&abort, || log.end(shard)).await }));
    }

    /// The log has said how far it reaches.
    pub(super) async fn catch_up(&mut self, end: Result<u64, TermEnd>) -> Result<(), TermEnd> {
        let end = end?;
        self.drain_all_frames().await?;
        self.read_log(end).await?;
        self.catch_up.end = None;
        for _ in 0..self.catch_up.asked {
            if let Some(command) = self.leader.account.commands.pop_front() {
                self.obey(command);
            }
        }
        self.begin_catch_up();
        Ok(())
    }

    /// Takes in all frames of which the term has been told.
    async fn drain_all_frames(&mut self) -> Result<(), TermEnd> {
        while let Some(frame) = self.try_next_frame() {
            self.read_frame(frame).await?;
        }
        Ok(())
    }

    fn obey(&mut self, command: Command<T>) {
        match command {
            Command::Flush(reply) if self.next <= self.settled.cursor() => drop(reply.send(())),
            Command::Flush(reply) => {
                self.accumulator.press();
                self.leader.account.flushes.push((self.next, reply));
            }
            command if command.is_abandoned() => command.answer(None),
            command @ (Command::Withdraw { .. } | Command::WithdrawKey { .. }) => self.withdraw(command),
            Command::Pause { paused, reply } => {
                self.paused = paused;
                // Until a resume is stored, the log takes no transaction of the sink.
                self.draft.pause = Some(paused);
                self.set_gate();
                self.draft.effects.paused.push((paused, reply));
            }
            Command::SetLimits(limits) => self.set_limits(limits),
            Command::IsWaiting { id, reply } => drop(reply.send(self.ids.position(id, &self.settled).is_some())),
            Command::Read(_) => {}
        }
    }

    fn withdraw(&mut self, mut command: Command<T>) {
        self.collect(Of::Record);
        // Only the keys are asked for, so that other stages than those in use will do.
        let stages = (self.leader.recipe)();
        let is_wanted = |op: &T| match &mut command {
            Command::Withdraw { wanted, .. } => wanted(op),
            Command::WithdrawKey { is_it, .. } => {
                let mut found = false;
                if let Some(conflate) = &stages.conflate {
                    conflate.index.with_key(op, &mut |key| found = is_it(key));
                }
                found
            }
            _ => false,
        };
        let ops = self.accumulator.withdraw(is_wanted, clock::now());
        self.collect(Of::Withdrawal);
        if ops.is_empty() {
            command.answer(Some(ops));
        } else {
            self.draft.effects.withdrawn.push((command, ops));
        }
    }
}
