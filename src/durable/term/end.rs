//! [`TermEnd`]: why a term ends, and how its last writes do.

use std::sync::Arc;

use futures::StreamExt;

use super::{
    PAUSE,
    draft::Effects,
    running::{Committing, Running},
};
use crate::{
    driver::actor::write::close,
    durable::{
        frame::FrameError,
        log::{LogError, Record},
    },
    sink::Sink,
};

/// Why a term ended.
#[derive(Debug)]
pub(super) enum TermEnd {
    /// The process leaves the log.
    Left,
    /// Another process is to lead the shard.
    HandedOver,
    /// Another term may begin.
    Again(String),
    /// A newer term has begun, of another process if it has the lead. Or the log went back, so that the next term knows nothing.
    Fenced(String),
    /// The log is closed.
    Closed,
    /// The log holds what this process can't read.
    Unreadable(String),
}

impl TermEnd {
    /// The name of the reason in metrics.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::HandedOver => "handed_over",
            Self::Again(_) => "failed",
            Self::Fenced(_) => "fenced",
            Self::Closed => "closed",
            Self::Unreadable(_) => "unreadable",
        }
    }
}

impl From<LogError> for TermEnd {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Closed => Self::Closed,
            LogError::Fenced | LogError::WentBack => Self::Fenced(error.to_string()),
            LogError::Damaged(why) => Self::Unreadable(why),
            LogError::Unpaired(_) => Self::Unreadable(error.to_string()),
            error => Self::Again(error.to_string()),
        }
    }
}

impl From<FrameError> for TermEnd {
    fn from(error: FrameError) -> Self {
        Self::Unreadable(error.to_string())
    }
}

impl<T, R, S> Running<'_, T, R, S>
where
    T: Send + 'static,
    R: Clone + Send + 'static,
    S: Sink<T, R>,
{
    /// Waits for the writes that are still under way, and closes the sink. Ops whose write had an intent stay in doubt.
    pub(super) async fn wind_down(&mut self) {
        let abort = self.leader.abort.clone();
        let limit = tokio::time::sleep(PAUSE.1);
        tokio::pin!(limit);
        // No other record tells of the ops that this one withdraws.
        while let Some(committing) = &mut self.committing {
            tokio::select! {
                biased;
                result = &mut committing.answer => drop(self.committed(result)),
                () = abort.cancelled() => break,
                () = &mut limit => break,
            }
        }
        if let Some(Committing { effects, .. }) = self.committing.take() {
            // The next term begins behind it, and learns whether it was stored.
            self.leader.account.unknown.push(effects);
        }
        self.leader.account.commands.extend(self.draft.effects.take_commands());
        // The next term is told that these were not written.
        let (starts, unwritten) =
            (std::mem::take(&mut self.starting), std::mem::take(&mut self.draft.effects.unwritten));
        self.leader.account.unknown.push(Effects { starts, unwritten, ..Effects::new() });
        loop {
            tokio::select! {
                biased;
                written = self.writes.next() => match written {
                    // A transaction may have settled its ops, whatever the term has come to.
                    Some((writing, completed)) if writing.lent.is_some() => drop(self.written(writing, completed)),
                    Some(_) => {}
                    None => break,
                },
                () = abort.cancelled(), if !self.destination.abort.is_cancelled() => self.destination.abort.cancel(),
            }
        }
        if self.idle_terms > 0 {
            self.survive().await;
        }
        let limit = self.limits.shutdown_timeout;
        tokio::select! {
            biased;
            // An error is logged where it happens.
            _ = close(&self.destination.batcher, &self.destination.sink, Some(limit)) => {}
            () = abort.cancelled() => {}
        }
    }

    /// Tells the log that the process has survived the term, though it has settled nothing. If that fails, the term counts.
    async fn survive(&mut self) {
        let (shard, epoch) = (self.leader.shard, self.epoch);
        let record = Record { shard, epoch, survived: true, ..Record::default() };
        tokio::select! {
            biased;
            _ = self.leader.shared.log.record(Arc::new(record)) => {}
            () = self.leader.abort.cancelled() => {}
            () = tokio::time::sleep(PAUSE.1) => {}
        }
    }
}
