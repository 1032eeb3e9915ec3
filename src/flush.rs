//! Which flush waits for which ops. In comes each op's acceptance and end, out comes a [`FlushReport`] once everything
//! accepted before a flush is settled. Next room: back to the caller of `Handle::flush`.
//!
//! Flushes cut time into epochs: an op belongs to the epoch in which it was accepted, and a flush is done when its
//! epoch and all before it hold no unsettled op. So an op costs a counter, however many flushes wait (Kafka's
//! producer snapshots its incomplete batches to the same end).

use std::{
    collections::VecDeque,
    ops::{AddAssign, Sub},
};

use tokio::sync::oneshot;

use crate::{ack::End, sink::SinkError};

/// A report keeps this many errors; the counts tell how many there were.
const KEPT_ERRORS: usize = 8;

/// What became of the ops that a flush covered: all that were accepted before it and that no earlier flush, done
/// before this one was called, has reported.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
#[must_use = "a flush that is done may have failed: the report tells"]
pub struct FlushReport {
    /// Ops the sink accepted.
    pub delivered: u64,
    /// Ops given up; each became a dead letter.
    pub refused: u64,
    /// Ops that may or may not have landed.
    pub in_doubt: u64,
    /// Ops merged into another one.
    pub conflated: u64,
    /// Repeats of ops seen before.
    pub deduplicated: u64,
    /// Ops that canceled out with another one.
    pub netted: u64,
    /// Ops whose time was over before they could be sent.
    pub expired: u64,
    /// Ops that made room for others.
    pub evicted: u64,
    /// Ops that a caller took back out.
    pub withdrawn: u64,
    /// Ops given back because the batcher ended.
    pub returned: u64,
    /// The first errors, at most eight, of ops that were refused or are in doubt.
    pub errors: Vec<SinkError>,
}

impl FlushReport {
    /// Whether nothing failed: no op was refused, is in doubt, was evicted or returned.
    pub fn is_ok(&self) -> bool {
        self.refused + self.in_doubt + self.evicted + self.returned == 0
    }

    /// How many ops it covers.
    pub fn total(&self) -> u64 {
        self.delivered
            + self.refused
            + self.in_doubt
            + self.conflated
            + self.deduplicated
            + self.netted
            + self.expired
            + self.evicted
            + self.withdrawn
            + self.returned
    }

    fn new(tally: Tally, errors: Vec<SinkError>) -> Self {
        Self {
            delivered: tally.of(End::Delivered),
            refused: tally.of(End::Refused),
            in_doubt: tally.of(End::InDoubt),
            conflated: tally.of(End::Conflated),
            deduplicated: tally.of(End::Deduplicated),
            netted: tally.of(End::Netted),
            expired: tally.of(End::Expired),
            evicted: tally.of(End::Evicted),
            withdrawn: tally.of(End::Withdrawn),
            returned: tally.of(End::Returned),
            errors,
        }
    }
}

/// How many ops ended in each way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally([u64; End::COUNT]);

impl Tally {
    pub(crate) fn add(&mut self, end: End) {
        self.0[end as usize] += 1;
    }

    pub(crate) fn of(&self, end: End) -> u64 {
        self.0[end as usize]
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, part)| *sum += part);
    }
}

impl Sub for Tally {
    type Output = Self;

    fn sub(mut self, other: Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(sum, part)| *sum -= part);
        self
    }
}

/// A flush on its way: who waits for it, and from where on it reports.
#[derive(Debug)]
pub(crate) struct Flush {
    /// What the last flush that was done before this one was called had reported.
    pub(crate) since: Tally,
    pub(crate) reply: oneshot::Sender<FlushReport>,
}

/// Ops accepted between two flushes.
#[derive(Debug, Default)]
struct Epoch {
    unsettled: u64,
    ended: Tally,
    errors: Vec<SinkError>,
    /// Flushes that closed this epoch, each with the errors of the epochs before that it covers.
    flushes: Vec<(Flush, Vec<SinkError>)>,
}

/// A flush that is done, to be answered once `reported` is known to whoever calls the next one.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) reply: oneshot::Sender<FlushReport>,
    pub(crate) report: FlushReport,
}

/// The epochs that hold unsettled ops, and the one that is open. See the module's text.
#[derive(Debug)]
pub(crate) struct Flushes {
    epochs: VecDeque<Epoch>,
    /// The number of the first of `epochs`.
    first: u64,
    /// All ends in the epochs before the first.
    reported: Tally,
}

impl Flushes {
    pub(crate) fn new() -> Self {
        Self { epochs: VecDeque::from([Epoch::default()]), first: 0, reported: Tally::default() }
    }

    /// Counts an op in; returns the epoch that it belongs to.
    pub(crate) fn accept(&mut self) -> u64 {
        self.open().unsettled += 1;
        self.first + self.epochs.len() as u64 - 1
    }

    /// Counts an op of `epoch` out.
    pub(crate) fn end(&mut self, epoch: u64, end: End, error: Option<&SinkError>) {
        let epoch = &mut self.epochs[(epoch - self.first) as usize];
        epoch.unsettled -= 1;
        epoch.ended.add(end);
        if let Some(error) = error
            && epoch.errors.len() < KEPT_ERRORS
        {
            epoch.errors.push(error.clone());
        }
    }

    /// Closes the open epoch: `flush` waits for it and for all before it.
    pub(crate) fn flush(&mut self, flush: Flush) {
        self.forget_abandoned();
        self.open().flushes.push((flush, Vec::new()));
        self.epochs.push_back(Epoch::default());
    }

    /// The flushes that are done by now.
    pub(crate) fn done(&mut self) -> Vec<Done> {
        let mut done = Vec::new();
        // The last epoch is open: no flush waits for it yet.
        while self.epochs.len() > 1 && self.epochs[0].unsettled == 0 {
            let epoch = self.epochs.pop_front().expect("there is more than one epoch");
            self.first += 1;
            self.reported += epoch.ended;
            let later = self.epochs.iter_mut().flat_map(|epoch| &mut epoch.flushes).map(|(_, errors)| errors);
            later.for_each(|errors| add_errors(errors, &epoch.errors));
            for (flush, mut errors) in epoch.flushes {
                add_errors(&mut errors, &epoch.errors);
                let report = FlushReport::new(self.reported - flush.since, errors);
                done.push(Done { reply: flush.reply, report });
            }
        }
        done
    }

    /// What all flushes up to now have reported; the next one starts from there.
    pub(crate) fn reported(&self) -> Tally {
        self.reported
    }

    fn open(&mut self) -> &mut Epoch {
        self.epochs.back_mut().expect("one epoch is always open")
    }

    /// Callers may drop flushes faster than a stuck sink settles ops: what nobody waits for must not pile up.
    fn forget_abandoned(&mut self) {
        let before_open = self.epochs.len().saturating_sub(2);
        let Some(epoch) = self.epochs.get_mut(before_open) else {
            return;
        };
        epoch.flushes.retain(|(flush, _)| !flush.reply.is_closed());
        // An epoch that no flush closes any more is one with the next, unless ops already carry that one's number.
        if self.epochs.len() > 1
            && self.epochs[before_open].flushes.is_empty()
            && self.epochs[before_open + 1].is_unused()
        {
            self.epochs.pop_back();
        }
    }
}

impl Epoch {
    fn is_unused(&self) -> bool {
        self.unsettled == 0 && self.ended == Tally::default()
    }
}

fn add_errors(errors: &mut Vec<SinkError>, more: &[SinkError]) {
    let room = KEPT_ERRORS - errors.len();
    errors.extend(more.iter().take(room).cloned());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flush(flushes: &mut Flushes) -> oneshot::Receiver<FlushReport> {
        let (reply, answer) = oneshot::channel();
        flushes.flush(Flush { since: flushes.reported(), reply });
        answer
    }

    fn answer(flushes: &mut Flushes) -> usize {
        let done = flushes.done();
        let count = done.len();
        for done in done {
            let _ = done.reply.send(done.report);
        }
        count
    }

    #[test]
    fn a_flush_waits_for_what_came_before_it_and_for_nothing_else() {
        let mut flushes = Flushes::new();
        let early = flushes.accept();
        let mut first = flush(&mut flushes);
        let late = flushes.accept();
        assert_eq!(answer(&mut flushes), 0);
        flushes.end(late, End::Netted, None);
        assert_eq!(answer(&mut flushes), 0);
        flushes.end(early, End::Delivered, None);
        assert_eq!(answer(&mut flushes), 1);
        let report = first.try_recv().unwrap();
        assert_eq!((report.delivered, report.total()), (1, 1));

        let mut second = flush(&mut flushes);
        assert_eq!(answer(&mut flushes), 1);
        let report = second.try_recv().unwrap();
        assert_eq!((report.netted, report.total()), (1, 1));
    }

    #[test]
    fn flushes_at_the_same_time_report_the_same() {
        let mut flushes = Flushes::new();
        let op = flushes.accept();
        let mut both = [flush(&mut flushes), flush(&mut flushes)];
        flushes.end(op, End::Refused, Some(&SinkError::refused("no")));
        assert_eq!(answer(&mut flushes), 2);
        for report in &mut both {
            let report = report.try_recv().unwrap();
            assert_eq!((report.refused, report.errors.len()), (1, 1));
            assert!(!report.is_ok());
        }
    }

    #[test]
    fn flushes_that_nobody_waits_for_do_not_pile_up() {
        let mut flushes = Flushes::new();
        let op = flushes.accept();
        for _ in 0..1000 {
            drop(flush(&mut flushes));
        }
        assert!(flushes.epochs.len() <= 3, "{}", flushes.epochs.len());
        let mut kept = flush(&mut flushes);
        flushes.end(op, End::Delivered, None);
        answer(&mut flushes);
        assert_eq!(kept.try_recv().unwrap().delivered, 1);
    }
}
