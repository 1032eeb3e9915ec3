//! [`Account`]: what a leader keeps from term to term, and while it follows: above all how many permits the ops of a shard hold.
//!
//! An op that this process has sent holds a permit, and so does one that a term has found in the log. An op that another process has
//! sent meanwhile holds one there. Ops that were merged into others hold none while this process leads, so that at most as many are
//! held as ops wait.

use std::collections::VecDeque;

use tokio::sync::oneshot;

use super::{draft::Effects, sent::Sent};
use crate::durable::{command::Command, log::StoredFrame, permits::Permits};

/// How a term ended, in case another process leads before the next one.
pub(super) struct LastTerm {
    /// The epoch that the next term has, but for one, if no other process has led.
    pub(super) epoch: u64,
    /// Ops of this process that had not ended.
    pub(super) open: Sent,
    /// The position up to which the term had read.
    pub(super) next: u64,
    /// Attempts to begin the next term that may or may not have raised the epoch.
    pub(super) unknown_begins: u64,
}

pub(crate) struct Account<T, R> {
    /// The position up to which ops are counted. `None` before the first term, and after another process has led.
    pub(super) counted_to: Option<u64>,
    /// Ops that have not ended in a record, but for those that were merged into others.
    unreleased: usize,
    /// Ops that have not ended in a record and count for the permits of this process, merged ones among them.
    counted: usize,
    /// Permits that are held for them.
    held: usize,
    /// Positions that are read and not settled.
    open: usize,
    /// The end of the last term, until another one begins or all is handed over.
    pub(super) last_term: Option<LastTerm>,
    /// Terms in a row that could not begin, though other processes are there.
    pub(super) failed_begins: u32,
    /// Frames of this process of which the last term was told, and which it did not read.
    pub(super) early: VecDeque<StoredFrame>,
    /// The effects of commits without a known result.
    pub(super) unknown: Vec<Effects<T, R>>,
    /// Ops of this process, while another one leads.
    pub(super) sent: Sent,
    /// The position up to which a term has read what this process has sent.
    pub(super) read_until: u64,
    /// The number of the last frame of this process whose ops are counted.
    pub(super) last_frame: u64,
    /// Flushes, by the position up to which they cover.
    pub(super) flushes: Vec<(u64, oneshot::Sender<()>)>,
    /// Commands that wait for the next term: only a leader has the ops, or an earlier term ended before it had obeyed them.
    pub(super) commands: VecDeque<Command<T>>,
}

impl<T, R> Account<T, R> {
    pub(crate) fn new() -> Self {
        Self {
            counted_to: None,
            unreleased: 0,
            counted: 0,
            held: 0,
            open: 0,
            last_term: None,
            failed_begins: 0,
            early: VecDeque::new(),
            unknown: Vec::new(),
            sent: Sent::default(),
            read_until: 0,
            last_frame: 0,
            flushes: Vec::new(),
            commands: VecDeque::new(),
        }
    }

    /// A term has found `all` ops in the log, `own` of which this process has sent since the last term, so that they hold permits, and
    /// requests, which hold none. Ops that were merged before wait by themselves again, and ops may have ended of which no term knew.
    pub(super) fn found(&mut self, permits: &Permits, all: usize, own: usize, requests: usize) {
        let held = self.held + own;
        if all > held {
            permits.debit(all - held);
        } else {
            permits.release(held - all);
        }
        permits.opened(all + requests, self.open);
        (self.unreleased, self.counted, self.held, self.open) = (all, all, all, all + requests);
    }

    /// A frame was read. One that was made of a dead letter has no number.
    pub(super) fn saw(&mut self, number: u64) {
        self.last_frame = self.last_frame.max(number);
    }

    /// Ops were read that this process has sent, or another one.
    pub(super) fn read(&mut self, permits: &Permits, count: usize, are_own: bool) {
        self.unreleased += count;
        self.open += count;
        permits.opened(count, 0);
        if are_own {
            self.counted += count;
            self.held += count;
        }
    }

    /// Requests were read.
    pub(super) fn read_requests(&mut self, permits: &Permits, count: usize) {
        self.open += count;
        permits.opened(count, 0);
    }

    /// Ops have ended that count for the permits of this process.
    pub(super) fn ended(&mut self, count: usize) {
        self.counted = self.counted.saturating_sub(count);
    }

    /// Ops have ended or were merged into others.
    pub(super) fn release(&mut self, permits: &Permits, count: usize) {
        self.unreleased = self.unreleased.saturating_sub(count);
        let keep = self.counted.min(self.unreleased);
        if self.held > keep {
            permits.release(self.held - keep);
            self.held = keep;
        }
    }

    /// Positions are settled.
    pub(super) fn settled(&mut self, permits: &Permits, count: usize) {
        self.open = self.open.saturating_sub(count);
        permits.opened(0, count);
    }

    /// Another process leads from now on. Each op of this one holds a permit until its outcome is known.
    pub(super) fn hand_over(&mut self, permits: &Permits, sent: Sent, read_until: u64) {
        let own = sent.len();
        if own > self.held {
            permits.debit(own - self.held);
        } else {
            permits.release(self.held - own);
        }
        permits.opened(0, self.open);
        (self.sent, self.read_until, self.last_term) = (sent, read_until, None);
        (self.counted_to, self.unreleased, self.counted, self.held, self.open) = (None, 0, 0, own, 0);
    }

    /// An op was stored while another process leads.
    pub(super) fn sent(&mut self, count: usize) {
        self.held += count;
    }

    /// Ops have ended while another process leads.
    pub(super) fn told(&mut self, permits: &Permits, count: usize) {
        self.held = self.held.saturating_sub(count);
        permits.release(count);
    }
}
