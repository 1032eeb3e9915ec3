//! [`Shard`]: how far this process has read the stream of a shard. The reader feeds it; all others ask it, and wait for it.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::timeout,
};

use super::{
    ANSWER,
    fold::{Fold, Message, State},
};
use crate::durable::log::{LogError, StoredFrame, store::Stored};

/// How long it may take to find out where to read: streams that were made just now, or whose servers have just begun, take some seconds.
const PLACED_WITHIN: Duration = Duration::from_secs(20);

/// How far a stream has been read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// The number of the last message.
    pub(super) sequence: u64,
    /// How often messages were lost that had been read.
    pub(super) losses: u64,
    /// Whether it is known where to read, or that it can't be read.
    is_placed: bool,
}

pub(super) struct Shard {
    reading: Mutex<Reading>,
    progress: watch::Sender<Progress>,
    /// Whether a term of this process runs, which takes the frames of all processes.
    leads: AtomicBool,
    /// Notified when the term has settled something.
    pub(super) settled: Notify,
}

#[derive(Default)]
struct Reading {
    /// `None` until a checkpoint has been read.
    fold: Option<Fold>,
    /// Why the stream can't be read, if that will not pass by itself.
    fault: Option<LogError>,
    /// The losses when the last term began.
    term_losses: u64,
    /// Why no term can begin, whatever is read from here on.
    held: Option<LogError>,
}

impl Default for Shard {
    fn default() -> Self {
        let progress = watch::Sender::new(Progress::default());
        Self { reading: Mutex::default(), progress, leads: AtomicBool::new(false), settled: Notify::new() }
    }
}

impl Shard {
    /// Asks the fold.
    pub(super) fn ask<V>(&self, ask: impl FnOnce(&mut Fold) -> V) -> Stored<V> {
        let mut reading = self.reading();
        if let Some(fault) = &reading.fault {
            return Err(fault.clone());
        }
        let unread = || LogError::Failed("the stream has not been read yet".to_owned());
        reading.fold.as_mut().map(ask).ok_or_else(unread)
    }

    /// The number and the checksum of the last message that was read.
    pub(super) fn last(&self) -> Option<(u64, u64)> {
        self.reading().fold.as_ref().map(|fold| (fold.head().sequence, fold.head().sum))
    }

    /// Begins to read at a checkpoint.
    pub(super) fn begin_at(&self, state: State) {
        let sequence = state.sequence;
        self.reading().fold = Some(Fold::new(state));
        self.progress.send_modify(|progress| (progress.sequence, progress.is_placed) = (sequence, true));
    }

    /// Reads the next message. A frame in it that counts is delivered before anybody hears that it was read.
    pub(super) fn push(&self, message: &Message, deliver: impl FnOnce(&StoredFrame)) -> Stored<()> {
        let mut reading = self.reading();
        let fold = reading.fold.as_mut().ok_or(LogError::Closed)?;
        if let Some(frame) = fold.push(message)? {
            deliver(&frame);
        }
        reading.fault = None;
        drop(reading);
        self.progress.send_modify(|progress| progress.sequence = message.sequence);
        Ok(())
    }

    /// Messages that had been read are lost, and others may stand in their place.
    pub(super) fn lost(&self) {
        self.reading().fold = None;
        self.progress.send_modify(|progress| progress.losses += 1);
    }

    /// The stream can't be read, or can be read again.
    pub(super) fn set_fault(&self, fault: Option<LogError>) {
        let is_faulty = fault.is_some();
        self.reading().fault = fault;
        self.progress.send_modify(|progress| progress.is_placed |= is_faulty);
    }

    /// Waits until it is known where to read, or why it can't be read.
    pub(super) async fn placed(&self) -> Stored<()> {
        let mut progress = self.progress.subscribe();
        // The sender is this shard's own. Without a place by then, the next request says so.
        let _ = timeout(PLACED_WITHIN, progress.wait_for(|progress| progress.is_placed)).await;
        self.ask(|_| ())
    }

    /// Waits until a message has been read, as long as others arrive.
    pub(super) async fn reached(&self, sequence: u64) -> Stored<()> {
        let mut progress = self.progress.subscribe();
        while progress.borrow_and_update().sequence < sequence {
            match timeout(ANSWER, progress.changed()).await {
                // The reader may have found out why the rest can't be read.
                Ok(Ok(())) => self.ask(|_| ())?,
                Ok(Err(_)) => return Err(LogError::Closed),
                Err(_) => {
                    self.ask(|_| ())?;
                    return Err(LogError::Failed(format!("message {sequence} of the stream has not arrived")));
                }
            }
        }
        Ok(())
    }

    /// The stream and its ledger do not belong together, as far as it is known until now.
    pub(super) fn hold(&self, why: LogError) {
        self.reading().held = Some(why);
    }

    /// Refuses to accept anything in a shard that can't be led.
    pub(super) fn check_held(&self) -> Stored<()> {
        self.reading().held.clone().map_or(Ok(()), Err)
    }

    pub(super) fn losses(&self) -> u64 {
        self.progress.borrow().losses
    }

    /// A term of this process begins.
    pub(super) fn term_begins(&self, losses: u64) {
        self.reading().term_losses = losses;
        self.leads.store(true, SeqCst);
    }

    /// The term has ended.
    pub(super) fn term_ended(&self) {
        self.leads.store(false, SeqCst);
    }

    pub(super) fn leads(&self) -> bool {
        self.leads.load(SeqCst)
    }

    /// Refuses a term that knows messages which are lost.
    pub(super) fn check_term(&self) -> Stored<()> {
        let has_lost = self.leads() && self.reading().term_losses != self.losses();
        if has_lost { Err(LogError::WentBack) } else { Ok(()) }
    }

    fn reading(&self) -> MutexGuard<'_, Reading> {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
