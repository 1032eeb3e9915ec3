//! From following to leading and back: which ops of this process are where, and what is counted.

use std::{collections::VecDeque, sync::Arc};

use tokio::sync::mpsc;

use super::{
    Leader, PAUSE, TermEnd, intake::forgotten, positions::Token, recover::Waiting, running::Running, sent::Sent,
};
use crate::{
    driver::clock,
    durable::{frame::Entry, log::StoredFrame},
    sink::Sink,
};

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
    /// Learns what became of the ops of this process while another one led: its fence is gone, so that nothing more does. Frames from
    /// `next` on are returned.
    pub(super) async fn take_over(
        &mut self,
        frames: &mut mpsc::UnboundedReceiver<StoredFrame>,
        next: u64,
    ) -> Result<VecDeque<StoredFrame>, TermEnd> {
        let mut early = VecDeque::new();
        while let Ok(frame) = frames.try_recv() {
            if frame.first >= next {
                early.push_back(frame);
            } else if self.account.counted_to.is_none() {
                self.note(&frame)?;
            }
        }
        let has_sent = self.account.counted_to.is_none() && self.account.sent.len() > 0;
        while (has_sent && !self.tell_ended().await?) || !self.tell_requests().await? {
            tokio::select! {
                biased;
                () = tokio::time::sleep(PAUSE.1) => {}
                () = self.abort.cancelled() => return Err(TermEnd::Left),
            }
        }
        Ok(early)
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

    /// Tells the callers of this process what the log says of their ops, as soon as it can be read.
    async fn hear_all(&mut self) -> Result<(), TermEnd> {
        while !self.tell_ended().await? {
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
        let mut sent = std::mem::take(&mut account.sent);
        match account.counted_to.replace(next) {
            None => {
                let own = waiting.iter().filter(|op| op.token.is_own);
                // Frames of which this process was not told, since an earlier attempt to lead has failed.
                let new = own.clone().filter(|op| !sent.has(op.token.id(shard))).count();
                let known = own.count() - new;
                // Ops that were sent again under an id that is forgotten have no end of their own.
                stats.repeats += (sent.len() - known) as u64;
                stats.accepted += new as u64;
                stats.recovered += (waiting.len() - known - new) as u64;
                stats.recovered_in_doubt += in_doubt as u64;
                account.found(permits, waiting.len(), new, requests);
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
        // The log knows no outcome of the others, and they do not wait.
        for op in waiting {
            sent.take(op.token.producer, op.token.number);
        }
        for id in sent.all(shard, usize::MAX) {
            leader.shared.waiters.tell(id, forgotten());
        }
    }

    /// Another process leads from now on. Returns nothing to it: the log has all.
    pub(super) fn hand_over(&mut self) -> Result<(), TermEnd> {
        let shared = Arc::clone(&self.leader.shared);
        let at = self.kept.oldest().unwrap_or_else(clock::now);
        let mut sent = Sent::default();
        let repeats = self.repeats.values().flatten().filter(|token| token.is_own).copied();
        for Token { producer, number, handle, .. } in self.ids.open_own(&self.settled).chain(repeats) {
            let may_repeat = self.flagged.contains((producer, number));
            sent.push(&Entry { producer, number, handle, may_repeat, withdraws: false }, at);
        }
        let mut stats = shared.shard(self.leader.shard).stats();
        stats.handed_over += stats.pending().saturating_sub(sent.len() as u64);
        drop(stats);
        for mut effects in std::mem::take(&mut self.leader.account.unknown) {
            self.leader.account.commands.extend(effects.take_commands());
        }
        self.leader.account.hand_over(&shared.permits, sent, self.next);
        self.frames.early.iter().try_for_each(|frame| self.leader.note(frame))
    }
}
