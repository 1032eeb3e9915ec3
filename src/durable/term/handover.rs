//! From following to leading and back: which ops of this process are where, and what is counted.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::sync::mpsc;
use tracing::error;

use super::{
    Leader, PAUSE, TermEnd, account::LastTerm, intake::forgotten, recover::Waiting, running::Running, sent::Sent,
};
use crate::{
    driver::clock,
    durable::log::{LogError, StoredFrame, local::nanos},
    sink::Sink,
};

/// How long a process leaves a shard that it can't read to others: a process of another version that can may be among them.
const UNABLE: Duration = Duration::from_secs(60);

/// Terms in a row that could not begin, after which a process leaves the shard to others: some seconds, within which it notices that
/// a server is away for all of them.
const FAILED_BEGINS: u32 = 10;

/// How long a process does so. Longer than a quarter of the longest lease, after which any other one takes a lease that is free.
const UNABLE_TO_BEGIN: Duration = Duration::from_secs(20);

/// The frames of this process, from when it followed the shard on.
pub(super) struct Arrivals<'a> {
    pub(super) frames: &'a mut mpsc::UnboundedReceiver<StoredFrame>,
    /// Frames that came before the term had begun, and belong to it.
    pub(super) early: VecDeque<StoredFrame>,
}

impl Arrivals<'_> {
    pub(super) async fn next(&mut self) -> Option<StoredFrame> {
        match self.early.pop_front() {
            Some(frame) => Some(frame),
            None => self.frames.recv().await,
        }
    }

    pub(super) fn try_next(&mut self) -> Option<StoredFrame> {
        self.early.pop_front().or_else(|| self.frames.try_recv().ok())
    }
}

impl<T, R> Leader<T, R>
where
    T: Send + 'static,
    R: Clone + Send + 'static,
{
    /// Notes the frames of this process that were stored while another one led. Those from `next` on belong to the term, and are
    /// returned.
    pub(super) fn take_over(
        &mut self,
        frames: &mut mpsc::UnboundedReceiver<StoredFrame>,
        next: u64,
    ) -> Result<VecDeque<StoredFrame>, TermEnd> {
        let mut early = VecDeque::new();
        let kept = std::mem::take(&mut self.account.early);
        for frame in kept.into_iter().chain(std::iter::from_fn(|| frames.try_recv().ok())) {
            if frame.first >= next || self.account.counted_to.is_some() {
                early.push_back(frame);
            } else {
                self.note(&frame)?;
            }
        }
        Ok(early)
    }

    /// A term begins, whose log reaches up to `next`. If another process has led since the last one, or the log went back, the ops of
    /// that one are like those of a follower.
    pub(super) fn look_back(&mut self, epoch: u64, next: u64) -> Result<(), TermEnd> {
        let is_lost = |frame: &StoredFrame| frame.first + frame.count > next;
        let read_until = self.account.last_term.as_ref().map_or(self.account.read_until, |last| last.next);
        let went_back = read_until > next || self.account.early.iter().any(is_lost);
        match self.account.last_term.take() {
            Some(last) if epoch <= last.epoch + 1 + last.unknown_begins && !went_back => {
                self.account.last_term = Some(LastTerm { epoch, unknown_begins: 0, ..last });
            }
            Some(last) => self.hand_over(last),
            None => {}
        }
        if went_back {
            error!(batcher = %self.shared.name_of(self.shard), next, read_until, "the log went back: accepted ops are lost");
            self.account.read_until = self.account.read_until.min(next);
            self.account.flushes.iter_mut().for_each(|(until, _)| *until = next.min(*until));
            let early = std::mem::take(&mut self.account.early);
            let (lost, early) = early.into_iter().partition(is_lost);
            self.account.early = early;
            // Their callers are told, since the log does not know them.
            lost.iter().try_for_each(|frame| self.note(frame))?;
        }
        Ok(())
    }

    /// A term did not begin, or an attempt of unknown result may have raised the epoch.
    pub(super) fn could_not_begin(&mut self, error: LogError) -> TermEnd {
        if matches!(error, LogError::Unknown(_))
            && let Some(last) = &mut self.account.last_term
        {
            last.unknown_begins += 1;
        }
        let end = TermEnd::from(error);
        // While the log is away for all processes, none has company.
        let counts = matches!(end, TermEnd::Again(_)) && self.shared.log.has_company();
        self.account.failed_begins = if counts { self.account.failed_begins + 1 } else { 0 };
        end
    }

    /// Whether this process gives the lead up when a term has ended so, and for how long it leaves the shard to others.
    pub(super) fn gives_up(&mut self, end: &TermEnd) -> Option<Duration> {
        match end {
            TermEnd::HandedOver | TermEnd::Fenced(_) => Some(Duration::ZERO),
            TermEnd::Unreadable(_) => self.shared.log.has_company().then_some(UNABLE),
            TermEnd::Again(_) if self.account.failed_begins >= FAILED_BEGINS => {
                self.account.failed_begins = 0;
                Some(UNABLE_TO_BEGIN)
            }
            TermEnd::Again(_) | TermEnd::Left | TermEnd::Closed => None,
        }
    }

    /// Another process leads from here on, or has led since. The log tells what becomes of the ops.
    pub(super) fn hand_over(&mut self, LastTerm { open, next, .. }: LastTerm) {
        for mut effects in std::mem::take(&mut self.account.unknown) {
            self.account.commands.extend(effects.take_pauses());
        }
        let shared = Arc::clone(&self.shared);
        let mut stats = shared.shard(self.shard).stats();
        stats.handed_over += stats.pending().saturating_sub(open.len() as u64);
        drop(stats);
        self.account.hand_over(&shared.permits, open, next);
    }

    /// Takes up a frame of this process that was stored and settled before this term began, and of which it is told only now.
    pub(super) async fn note_late(&mut self, frame: &StoredFrame) -> Result<(), TermEnd> {
        self.note(frame)?;
        if self.account.sent.len() == 0 {
            // The frame was told of before.
            return Ok(());
        }
        self.hear_all().await?;
        for id in self.account.sent.all(self.shard, usize::MAX) {
            self.end(id, forgotten());
        }
        Ok(())
    }

    /// Tells the callers of this process what the log says of their ops and requests, as soon as it can be read. An older leader adds
    /// nothing, since it is fenced.
    pub(super) async fn hear_all(&mut self) -> Result<(), TermEnd> {
        while (self.account.sent.len() > 0 && !self.tell_ended().await?) || !self.tell_requests().await? {
            tokio::select! {
                biased;
                () = tokio::time::sleep(PAUSE.1) => {}
                () = self.abort.cancelled() => return Err(TermEnd::Left),
            }
        }
        Ok(())
    }
}

impl<T, R, S> Running<'_, T, R, S>
where
    T: Send + 'static,
    R: Clone + Send + 'static,
    S: Sink<T, R>,
{
    /// Counts what was found, and takes the permits that its ops hold.
    pub(super) fn balance(&mut self, waiting: &[Waiting], requests: usize, in_doubt: usize) {
        let (shard, next) = (self.leader.shard, self.next);
        let leader = &mut *self.leader;
        let (account, permits) = (&mut leader.account, &leader.shared.permits);
        let mut stats = leader.shared.shard(shard).stats();
        stats.terms += 1;
        stats.term_began_at = nanos(leader.shared.log.now());
        let mut sent = std::mem::take(&mut account.sent);
        match account.counted_to.replace(next) {
            None => {
                let own = waiting.iter().filter(|op| op.token.is_own).count();
                let known = own.min(sent.len());
                // Ops that were sent again under an id that is forgotten have no end of their own.
                stats.repeats += (sent.len() - known) as u64;
                stats.recovered += (waiting.len() - known) as u64;
                stats.recovered_in_doubt += in_doubt as u64;
                account.found(permits, waiting.len(), 0, requests);
            }
            Some(until) => {
                let new = || waiting.iter().filter(|op| op.token.position >= until);
                let own = new().filter(|op| op.token.is_own).count();
                stats.accepted += own as u64;
                stats.received += (new().count() - own) as u64;
                account.found(permits, waiting.len(), own, requests);
            }
        }
        drop(stats);
        let mut open = Sent::default();
        for Waiting { token, at, may_repeat, .. } in waiting.iter().filter(|op| op.token.is_own) {
            open.push(&token.entry(*may_repeat), *at);
        }
        account.last_term = Some(LastTerm { epoch: self.epoch, open, next, unknown_begins: 0 });
        // The log knows no outcome of the others, and they do not wait.
        for op in waiting {
            sent.take(op.token.producer, op.token.number);
        }
        for id in sent.all(shard, usize::MAX) {
            leader.shared.waiters.tell(id, forgotten());
        }
    }

    /// The end of this term.
    pub(super) fn last_term(&self) -> LastTerm {
        let at = self.kept.oldest().unwrap_or_else(clock::now);
        let mut open = Sent::default();
        let repeats = self.repeats.values().flatten().filter(|token| token.is_own).copied();
        for token in self.ids.open_own(&self.settled).chain(repeats) {
            open.push(&token.entry(self.flagged.contains((token.producer, token.number))), at);
        }
        LastTerm { epoch: self.epoch, open, next: self.next, unknown_begins: 0 }
    }
}
