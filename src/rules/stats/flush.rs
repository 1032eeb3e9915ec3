//! [`Flushes`]: which flush waits for which ops. The accumulator tells it of each accepted and ended op; the driver takes the
//! flushes that are done.
//!
//! Flushes cut time into epochs: an op belongs to the epoch in which it was accepted, and a flush is done when its epoch and all
//! before it hold no unsettled op. So an op costs a counter, however many flushes wait (Kafka's producer snapshots its incomplete
//! batches to the same end).

use std::{collections::VecDeque, fmt};

use serde::{Deserialize, Serialize};

use crate::rules::{
    batch::SinkError,
    outcome::{End, Outcomes},
};

/// A report keeps this many errors; the counts tell how many there were.
const MAX_ERRORS: usize = 8;

/// The outcomes of the ops that a flush covered: all that were accepted before it, through whatever handle, and that this
/// handle has not been told of by an earlier flush. A clone of a handle has been told what the original had.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FlushReport {
    /// How many ops ended in each way.
    pub outcomes: Outcomes,
    /// The first errors, at most eight, of ops that were refused, exhausted or in doubt.
    pub errors: Vec<SinkError>,
}

impl FlushReport {
    /// Whether nothing failed: no op was refused, exhausted, is in doubt, was evicted, returned or lost.
    pub fn is_ok(&self) -> bool {
        self.outcomes.failed() == 0
    }

    /// How many ops it covers.
    pub fn total(&self) -> u64 {
        self.outcomes.total()
    }
}

/// How far a handle has been told.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cursor {
    /// All ends in the epochs up to `epoch`.
    ended: Outcomes,
    /// Epochs below this one have been told.
    epoch: u64,
}

impl Cursor {
    /// Flushes of one handle may be done in another order than they were called.
    pub(crate) fn advance(&mut self, other: Self) {
        if other.epoch > self.epoch {
            *self = other;
        }
    }
}

/// The caller of a flush, as far as the rules know it.
pub(crate) trait FlushCaller: fmt::Debug + Send {
    /// Whether the caller has given up, so that the flush need not be kept for it.
    fn is_gone(&self) -> bool;

    /// Tells the caller that the flush is done.
    fn tell(self: Box<Self>, report: FlushReport, cursor: Cursor);
}

/// A flush on its way: who waits for it, and from where on it reports.
#[derive(Debug)]
pub(crate) struct Flush {
    pub(crate) since: Cursor,
    pub(crate) caller: Box<dyn FlushCaller>,
}

/// A flush that is done.
#[derive(Debug)]
pub(crate) struct CompletedFlush {
    caller: Box<dyn FlushCaller>,
    report: FlushReport,
    mark: Cursor,
}

impl CompletedFlush {
    pub(crate) fn tell(self) {
        // A caller who gave up needs no report; the next one of that handle will cover the same.
        self.caller.tell(self.report, self.mark);
    }
}

/// Ops accepted between two flushes, or between more of them once the ones in the middle were given up.
#[derive(Debug, Default)]
struct Epoch {
    /// The number that its last ops carry. Those of its first ones follow the last number of the epoch before.
    number: u32,
    unsettled: u64,
    ended: Outcomes,
    /// The first errors.
    errors: Vec<SinkError>,
    /// Flushes that closed this epoch.
    flushes: Vec<Flush>,
}

/// The epochs that hold unsettled ops, and the one that is open. See the module's text.
#[derive(Debug)]
pub(crate) struct Flushes {
    /// Epochs that a flush has closed and that hold unsettled ops, or wait for one before them that does.
    closed: VecDeque<Epoch>,
    open: Epoch,
    /// The number of the first op of all these.
    first: u32,
    /// Epochs told so far.
    told: u64,
    /// All ends in the epochs before the first.
    ended: Outcomes,
    /// The first errors of the last epochs before those, by the number of epochs told before each.
    errors: VecDeque<(u64, Vec<SinkError>)>,
    /// Closed epochs above which the next flush looks for abandoned ones.
    sweep_above: usize,
}

/// Epochs whose errors are remembered for reports to come.
const REMEMBERED_EPOCHS: usize = 64;

/// Closed epochs that are never worth a sweep.
const MIN_SWEEP: usize = 64;

impl Flushes {
    pub(crate) fn new() -> Self {
        Self {
            closed: VecDeque::new(),
            open: Epoch::default(),
            first: 0,
            told: 0,
            ended: Outcomes::default(),
            errors: VecDeque::new(),
            sweep_above: MIN_SWEEP,
        }
    }

    /// The number that ops carry which are accepted next. Numbers wrap around: no four billion flushes come while an op is
    /// unsettled.
    #[inline]
    pub(crate) fn open_epoch(&self) -> u32 {
        self.open.number
    }

    /// Counts ops in.
    #[inline]
    pub(crate) fn accept(&mut self, count: u64) {
        self.open.unsettled += count;
    }

    /// Counts ops out that carry `number`.
    #[inline]
    pub(crate) fn end(&mut self, number: u32, end: End, error: Option<&SinkError>, count: u64) {
        let epoch = if self.closed.is_empty() { &mut self.open } else { self.epoch_of(number) };
        epoch.unsettled -= count;
        epoch.ended.add(end, count);
        if let Some(error) = error
            && epoch.errors.len() < MAX_ERRORS
        {
            epoch.errors.push(error.clone());
        }
    }

    fn epoch_of(&mut self, number: u32) -> &mut Epoch {
        let age = |number: u32| number.wrapping_sub(self.first);
        let at = self.closed.partition_point(|epoch| age(epoch.number) < age(number));
        self.closed.get_mut(at).unwrap_or(&mut self.open)
    }

    /// Closes the open epoch: `flush` waits for it and for all before it.
    pub(crate) fn flush(&mut self, flush: Flush) {
        self.merge_last();
        if self.closed.len() > self.sweep_above {
            self.sweep();
        }
        self.open.flushes.push(flush);
        let next = Epoch { number: self.open.number.wrapping_add(1), ..Epoch::default() };
        self.closed.push_back(std::mem::replace(&mut self.open, next));
    }

    /// Whether a flush is done that has not been told so.
    pub(crate) fn has_done(&self) -> bool {
        self.closed.front().is_some_and(|epoch| epoch.unsettled == 0)
    }

    /// The flushes that are done by now.
    pub(crate) fn done(&mut self) -> Vec<CompletedFlush> {
        let mut done = Vec::new();
        while self.closed.front().is_some_and(|epoch| epoch.unsettled == 0)
            && let Some(epoch) = self.closed.pop_front()
        {
            self.first = epoch.number.wrapping_add(1);
            self.told += 1;
            self.ended += epoch.ended;
            let mark = Cursor { ended: self.ended, epoch: self.told };
            if !epoch.errors.is_empty() {
                self.errors.truncate(REMEMBERED_EPOCHS - 1);
                self.errors.push_front((mark.epoch - 1, epoch.errors));
            }
            for Flush { since, caller } in epoch.flushes {
                let covered = since.epoch..mark.epoch;
                let errors = self.errors.iter().rev().filter(|(epoch, _)| covered.contains(epoch));
                let errors = errors.flat_map(|(_, errors)| errors).take(MAX_ERRORS).cloned().collect();
                done.push(CompletedFlush {
                    caller,
                    report: FlushReport { outcomes: mark.ended - since.ended, errors },
                    mark,
                });
            }
        }
        done
    }

    /// Reopens the last closed epoch if its flushes were given up and nothing has come since: the usual case of a caller
    /// that flushes with a time limit, again and again.
    fn merge_last(&mut self) {
        if let Some(last) = self.closed.back_mut() {
            last.forget_abandoned();
            if last.flushes.is_empty()
                && let Some(last) = self.closed.pop_back()
            {
                if self.open.is_unused() {
                    // No op carries its number, which serves the next one.
                    self.open.number = last.number;
                }
                self.open.absorb(last);
            }
        }
    }

    /// Merges each epoch whose flushes were given up into the next one. Afterwards there are no more epochs than flushes
    /// that a caller waits for, so that flushes given up behind a stuck sink cost nothing.
    fn sweep(&mut self) {
        let mut kept = VecDeque::new();
        let mut abandoned: Option<Epoch> = None;
        for mut epoch in std::mem::take(&mut self.closed) {
            epoch.forget_abandoned();
            if let Some(before) = abandoned.take() {
                epoch.absorb(before);
            }
            if epoch.flushes.is_empty() {
                abandoned = Some(epoch);
            } else {
                kept.push_back(epoch);
            }
        }
        if let Some(before) = abandoned {
            self.open.absorb(before);
        }
        self.closed = kept;
        // Twice as many as are waited for: so a sweep costs a constant per flush.
        self.sweep_above = (2 * self.closed.len()).max(MIN_SWEEP);
    }
}

impl Epoch {
    /// Drops the flushes whose callers have given up.
    fn forget_abandoned(&mut self) {
        self.flushes.retain(|flush| !flush.caller.is_gone());
    }

    fn is_unused(&self) -> bool {
        self.unsettled == 0 && self.ended == Outcomes::default()
    }

    /// Takes the ops of the epoch before this one in.
    fn absorb(&mut self, before: Self) {
        self.unsettled += before.unsettled;
        self.ended += before.ended;
        let errors = std::mem::replace(&mut self.errors, before.errors);
        let missing = MAX_ERRORS.saturating_sub(self.errors.len());
        self.errors.extend(errors.into_iter().take(missing));
    }
}

#[cfg(test)]
#[path = "flush_tests.rs"]
mod tests;
