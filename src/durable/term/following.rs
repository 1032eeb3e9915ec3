//! [`Leader::follow`]: a shard that another process leads. What this process sends goes into the log, and what becomes of it is read
//! there, until the lead is free.

use std::{sync::Arc, time::Duration};

use tokio::{sync::mpsc, time::Instant};
use tracing::{info, warn};

use super::{Leader, TermEnd, draft::dead_error, intake::accepted_at, intake::forgotten};
use crate::{
    driver::clock,
    durable::{
        command::Command,
        frame::{Entry, Frame},
        log::{Found, LogError, StoredFrame, lead::Lead, store::OutcomeRow},
        meter::LogMeter,
        outcomes,
    },
    rules::outcome::{OpId, Outcome},
};

/// The pause between two attempts to lead: the lock of a process that dies is free at once.
const LEAD_EVERY: Duration = Duration::from_millis(50);

/// Runs of ids that one request to the log asks for.
const RUNS: usize = 256;

/// Ops that are looked up one by one at a time.
const FORGOTTEN: usize = 64;

/// The pause between two looks at the log. Between them the leader tells of what it records.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl<T, R> Leader<T, R>
where
    T: Send + 'static,
    R: Clone + Send + 'static,
{
    /// Follows the shard until this process leads it. As long as it is unable to and others have joined, it leaves that to them. `began`
    /// is called when it is clear that another one leads. Returns `None` if the process leaves.
    pub(super) async fn follow(
        &mut self,
        frames: &mut mpsc::UnboundedReceiver<StoredFrame>,
        unable_until: Option<Instant>,
        mut began: impl FnMut() + Send,
    ) -> Result<Option<Lead>, TermEnd> {
        let (log, meter) = (Arc::clone(&self.shared.log), LogMeter::new(&self.shared.name_of(self.shard)));
        let news = log.news(self.shard);
        let (mut look_at, mut show_at, mut is_told) = (Instant::now(), Instant::now(), false);
        for frame in std::mem::take(&mut self.account.early) {
            self.note(&frame)?;
        }
        let shared = Arc::clone(&self.shared);
        loop {
            if self.stop.is_cancelled() {
                return Ok(None);
            }
            let is_unable = log.has_company() && unable_until.is_some_and(|until| Instant::now() < until);
            if !is_unable && let Some(lead) = log.try_lead(self.shard) {
                return Ok(Some(lead));
            }
            if Instant::now() >= look_at {
                look_at = Instant::now() + LOOK_EVERY;
                self.look_for_forgotten().await?;
                self.look(frames).await?;
                if !self.account.flushes.is_empty() {
                    log.press(self.shard);
                }
            }
            if !std::mem::replace(&mut is_told, true) {
                info!(batcher = %self.shared.name, shard = self.shard, "another process leads the shard");
                began();
            }
            // To find the oldest op takes longer than to take up what has woken this task.
            if Instant::now() >= show_at || self.account.sent.len() == 0 {
                show_at = Instant::now() + LEAD_EVERY;
                self.show(&meter);
            }
            for _ in 0..self.account.commands.len() {
                if let Some(command) = self.account.commands.pop_front() {
                    self.obey(command, frames).await?;
                }
            }
            tokio::select! {
                biased;
                () = self.stop.cancelled() => {}
                Some(frame) = frames.recv() => self.note(&frame)?,
                command = self.commands.recv() => match command {
                    Some(command) => self.obey(command, frames).await?,
                    None => return Ok(None),
                },
                () = news.changed.notified() => self.look(frames).await?,
                () = news.told.notified() => self.hear(&news.hear(), frames, &mut look_at).await?,
                // Callers of this process wait for permits, which ops of the leader may hold.
                () = shared.shard(self.shard).pressed.notified() => log.press(self.shard),
                () = tokio::time::sleep(LEAD_EVERY) => {}
            }
        }
    }

    /// Notes the ops of a frame that this process has stored. A log may tell of frames of other processes to a term that has ended since.
    pub(super) fn note(&mut self, stored: &StoredFrame) -> Result<(), TermEnd> {
        let frame = Frame::open(Arc::clone(&stored.bytes))?;
        if frame.producer != self.shared.log.producer() {
            return Ok(());
        }
        // The log tells again of a frame whose first commit had no known result. One that was made of a dead letter has no number.
        if frame.number > 0 && frame.number <= self.account.last_frame {
            return Ok(());
        }
        let mut entries = frame.entries()?;
        let is_sent = |entry: &Entry| self.account.sent.has(OpId::new(entry.producer, self.shard, entry.number));
        let is_read = stored.first < self.account.read_until;
        if frame.number == 0 && (is_read || entries.iter().all(|(_, entry, _)| is_sent(entry))) {
            return Ok(());
        }
        self.account.saw(frame.number);
        let at = accepted_at(&*self.shared.log, &frame);
        // The log tells what becomes of requests.
        entries.retain(|(_, entry, _)| !entry.withdraws);
        entries.iter().for_each(|(_, entry, _)| self.account.sent.push(entry, at));
        self.account.sent(entries.len());
        self.shared.shard(self.shard).stats().accepted += entries.len() as u64;
        Ok(())
    }

    /// Tells callers of outcomes as the leader has told of them. What is not in them is looked for.
    async fn hear(
        &mut self,
        rows: &[OutcomeRow],
        frames: &mut mpsc::UnboundedReceiver<StoredFrame>,
        look_at: &mut Instant,
    ) -> Result<(), TermEnd> {
        while let Ok(frame) = frames.try_recv() {
            self.note(&frame)?;
        }
        if !rows.iter().all(|row| self.account.sent.has(OpId::new(row.producer, self.shard, row.first))) {
            // The frame is still on its way, or the op was told of before.
            *look_at = (*look_at).min(Instant::now() + LEAD_EVERY);
        }
        rows.iter().for_each(|row| self.tell(row));
        let shared = &self.shared;
        let is_all = self.account.flushes.is_empty()
            && shared.shard(self.shard).requests.is_empty()
            && shared.waiters.of_others(self.shard).is_empty();
        if is_all { Ok(()) } else { self.look(frames).await }
    }

    /// Reads what has become of the ops of this process, and how far the shard has come.
    async fn look(&mut self, frames: &mut mpsc::UnboundedReceiver<StoredFrame>) -> Result<(), TermEnd> {
        // Positions that are settled by now are told of below.
        let Some(reach) = passing(self.shared.log.reach(self.shard).await)? else { return Ok(()) };
        while let Ok(frame) = frames.try_recv() {
            self.note(&frame)?;
        }
        if !self.tell_ended().await? || !self.tell_requests().await? {
            return Ok(());
        }
        self.shared.shard(self.shard).stats().paused = reach.paused;
        for (_, reply) in self.account.flushes.extract_if(.., |(until, _)| *until <= reach.cursor) {
            // A caller that gave up hears nothing.
            let _ = reply.send(());
        }
        Ok(())
    }

    /// Tells the callers of this process what the log says of their ops. Returns false if it can't be read now.
    pub(super) async fn tell_ended(&mut self) -> Result<bool, TermEnd> {
        let log = Arc::clone(&self.shared.log);
        loop {
            let others = self.shared.waiters.of_others(self.shard);
            let open = self.account.sent.len() + others.len();
            let ids = [self.account.sent.ids(), others].concat();
            for ids in ids.chunks(RUNS) {
                let Some(rows) = passing(log.ended(self.shard, ids.to_vec()).await)? else { return Ok(false) };
                rows.iter().for_each(|row| self.tell(row));
            }
            if self.account.sent.len() + self.shared.waiters.of_others(self.shard).len() == open {
                return Ok(true);
            }
        }
    }

    /// Tells the callers of ops how these have ended.
    fn tell(&mut self, row: &OutcomeRow) {
        let shared = Arc::clone(&self.shared);
        outcomes::each(&*shared.codec, row, |number, outcome| {
            self.end(OpId::new(row.producer, self.shard, number), outcome);
        });
    }

    /// An op has ended.
    pub(super) fn end(&mut self, id: OpId, outcome: Outcome<R>) {
        let shared = &self.shared;
        if let Some(taken) = self.account.sent.take(id.producer(), id.number()) {
            shared.tallies.count(std::iter::once((taken.handle, outcome.end, dead_error(&outcome))));
            let mut stats = shared.shard(self.shard).stats();
            stats.outcomes.add(outcome.end, 1);
            stats.repeats += taken.times as u64 - 1;
            stats.retold += 1;
            drop(stats);
            self.account.told(&shared.permits, taken.times);
        }
        shared.waiters.tell(id, outcome);
    }

    /// Ends ops that the log no longer knows: they were sent again under an id that was forgotten meanwhile, or ended longer ago than
    /// outcomes are kept.
    async fn look_for_forgotten(&mut self) -> Result<(), TermEnd> {
        let is_old = |at| clock::now().since(at) > self.shared.horizon;
        let ids = match self.account.sent.oldest().is_some_and(is_old) {
            true => self.account.sent.all(self.shard, FORGOTTEN),
            false => self.account.sent.sent_again(self.shard, FORGOTTEN),
        };
        for id in ids {
            let found = passing(self.shared.log.find(id).await)?;
            if found == Some(Found::Forgotten) && passing(self.shared.log.holds(id).await)? == Some(false) {
                self.end(id, forgotten());
            }
        }
        Ok(())
    }

    /// Does what a handle asks for, as far as a process can that does not lead.
    async fn obey(
        &mut self,
        command: Command<T>,
        frames: &mut mpsc::UnboundedReceiver<StoredFrame>,
    ) -> Result<(), TermEnd> {
        let log = Arc::clone(&self.shared.log);
        match command {
            Command::Flush(reply) => match super::ask(&self.abort, || log.end(self.shard)).await {
                Ok(end) => {
                    self.account.flushes.push((end, reply));
                    log.press(self.shard);
                    self.look(frames).await?;
                }
                Err(end) => return self.obey_later(Command::Flush(reply), end),
            },
            Command::Pause { paused, reply } => {
                match super::ask(&self.abort, || log.set_paused(self.shard, paused)).await {
                    Ok(under_way) => {
                        self.shared.shard(self.shard).stats().paused = paused;
                        // Paused is paused, even if the caller gave up.
                        let _ = reply.send(under_way);
                    }
                    Err(end) => return self.obey_later(Command::Pause { paused, reply }, end),
                }
            }
            Command::IsWaiting { id, reply } if self.account.sent.has(id) => drop(reply.send(true)),
            Command::IsWaiting { id, reply } => match super::ask(&self.abort, || log.holds(id)).await {
                Ok(holds) => drop(reply.send(holds)),
                Err(end) => return self.obey_later(Command::IsWaiting { id, reply }, end),
            },
            // The process that led has just gone.
            command @ Command::Withdraw { .. } if !log.has_company() => self.account.commands.push_back(command),
            // Only the leader has the ops.
            command @ (Command::Withdraw { .. } | Command::WithdrawKey { .. }) => command.answer(None),
            Command::Read(id) if self.account.sent.has(id) => {}
            Command::Read(id) => {
                let (producer, number) = (id.producer(), id.number());
                let entry = Entry { producer, number, handle: 0, may_repeat: false, withdraws: false };
                self.account.sent.push(&entry, clock::now());
                self.account.sent(1);
                self.shared.shard(self.shard).stats().accepted += 1;
            }
            Command::SetLimits(_) => {}
        }
        Ok(())
    }

    /// Keeps a command for when the log can be asked again.
    fn obey_later(&mut self, command: Command<T>, end: TermEnd) -> Result<(), TermEnd> {
        self.account.commands.push_front(command);
        Err(end)
    }

    /// Shows how things stand.
    fn show(&self, meter: &LogMeter) {
        let mut stats = self.shared.shard(self.shard).stats();
        (stats.leads, stats.in_flight, stats.in_doubt) = (false, 0, 0);
        stats.oldest = self.account.sent.oldest();
        let stats = *stats;
        meter.publish(self.shared.log.size(), &stats, clock::now());
    }
}

/// Leaves an error for later that may pass.
pub(super) fn passing<V>(result: Result<V, LogError>) -> Result<Option<V>, TermEnd> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_passing() || matches!(error, LogError::Unknown(_)) => {
            warn!(%error, "what became of ops can't be read now");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}
