//! [`Ledger`]: counts ops from accept to end. An accepted op is pending until it has ended, and waits or is in flight
//! meanwhile; each is counted in once and counted out once. The other files of the accumulator tell it of each move.

use crate::rules::{
    batch::SinkError,
    outcome::End,
    stats::{
        Stats, Times,
        counters::Counters,
        flush::{CompletedFlush, Flush, Flushes},
    },
};

pub(super) struct Ledger {
    counters: Counters,
    flushes: Flushes,
    pending: usize,
    waiting: usize,
    batches_in_flight: usize,
    /// Batches begun so far.
    cuts: u64,
    /// Ops that have ended since the driver last asked: so many permits are free again.
    settled: usize,
}

/// The numbers that an op carries from accept to end, by which it is counted out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    /// Order of arrival.
    pub(super) seq: u64,
    /// Which flush covers it.
    pub(super) epoch: u32,
}

impl Ledger {
    pub(super) fn new() -> Self {
        Self {
            counters: Counters::default(),
            flushes: Flushes::new(),
            pending: 0,
            waiting: 0,
            batches_in_flight: 0,
            cuts: 0,
            settled: 0,
        }
    }

    /// The entry of the op that is accepted next.
    #[inline]
    pub(super) fn next(&self) -> Entry {
        Entry { seq: self.next_seq(), epoch: self.flushes.open_epoch() }
    }

    /// Counts ops in that have been accepted and do not wait yet.
    #[inline]
    pub(super) fn accept(&mut self, count: usize) {
        self.pending += count;
        self.counters.accept(count as u64);
        self.flushes.accept(count as u64);
    }

    /// Ops begin to wait.
    #[inline]
    pub(super) fn queued(&mut self, count: usize) {
        self.waiting += count;
    }

    /// Ops wait no more.
    #[inline]
    pub(super) fn dequeued(&mut self, count: usize) {
        self.waiting -= count;
    }

    /// Counts ops out that do not wait: in the statistics, for the flushes that cover them, and for the permits that they
    /// held.
    #[inline]
    pub(super) fn ended(&mut self, epoch: u32, end: End, error: Option<&SinkError>, count: usize) {
        if count == 0 {
            return;
        }
        self.flushes.end(epoch, end, error, count as u64);
        self.counters.end(end, count as u64);
        self.settled += count;
        self.pending -= count;
    }

    /// The number of a batch that is begun.
    pub(super) fn begin_cut(&mut self) -> u64 {
        self.cuts += 1;
        self.cuts
    }

    /// A batch has left.
    pub(super) fn batch_left(&mut self) {
        self.batches_in_flight += 1;
    }

    /// A batch has come back.
    pub(super) fn batch_returned(&mut self) {
        self.batches_in_flight -= 1;
    }

    /// `flush` is done when all that was accepted so far has ended.
    pub(super) fn flush(&mut self, flush: Flush) {
        self.flushes.flush(flush);
    }

    /// Flushes that are done and have not been told so.
    pub(super) fn completed_flushes(&mut self) -> Vec<CompletedFlush> {
        self.flushes.done()
    }

    pub(super) fn has_completed_flushes(&self) -> bool {
        self.flushes.has_done()
    }

    /// Counts events that move no op.
    #[inline]
    pub(super) fn counters(&mut self) -> &mut Counters {
        &mut self.counters
    }

    /// Ops accepted so far, and so the order of arrival of the next one.
    #[inline]
    pub(super) fn next_seq(&self) -> u64 {
        self.counters.accepted()
    }

    #[inline]
    pub(super) fn pending(&self) -> usize {
        self.pending
    }

    #[inline]
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    #[inline]
    pub(super) fn batches_in_flight(&self) -> usize {
        self.batches_in_flight
    }

    pub(super) fn settled(&self) -> usize {
        self.settled
    }

    pub(super) fn take_settled(&mut self) -> usize {
        std::mem::take(&mut self.settled)
    }

    /// How long ops waited for the quota.
    pub(super) fn quota_time(&self) -> Times {
        self.counters.quota_time()
    }

    pub(super) fn stats(&self) -> Stats {
        self.counters.snapshot(self.waiting, self.pending - self.waiting, self.batches_in_flight)
    }
}
