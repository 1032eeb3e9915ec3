//! Flushes, op by op: what each waits for, what it reports, and that abandoned ones cost nothing.

use std::sync::{Arc, OnceLock, Weak};

use super::*;

type Told = OnceLock<(FlushReport, Cursor)>;

/// A caller that has given up when its [`Told`] is dropped.
#[derive(Debug)]
struct Caller(Weak<Told>);

impl FlushCaller for Caller {
    fn is_gone(&self) -> bool {
        self.0.strong_count() == 0
    }

    fn tell(self: Box<Self>, report: FlushReport, cursor: Cursor) {
        if let Some(told) = self.0.upgrade() {
            told.set((report, cursor)).expect("a flush is told once");
        }
    }
}

fn flush(flushes: &mut Flushes, since: Cursor) -> Arc<Told> {
    let told = Arc::default();
    flushes.flush(Flush { since, caller: Box::new(Caller(Arc::downgrade(&told))) });
    told
}

/// Accepts ops. Returns the number that they carry.
fn accept(flushes: &mut Flushes, count: u64) -> u32 {
    flushes.accept(count);
    flushes.open_epoch()
}

fn answer(flushes: &mut Flushes) -> usize {
    let done = flushes.done();
    let count = done.len();
    done.into_iter().for_each(CompletedFlush::tell);
    count
}

#[test]
fn a_flush_waits_for_what_came_before_it_and_for_nothing_else() {
    let mut flushes = Flushes::new();
    let early = accept(&mut flushes, 1);
    let first = flush(&mut flushes, Cursor::default());
    let late = accept(&mut flushes, 1);
    assert_eq!(answer(&mut flushes), 0);
    flushes.end(late, End::Netted, None, 1);
    assert_eq!(answer(&mut flushes), 0);
    flushes.end(early, End::Delivered, None, 1);
    assert_eq!(answer(&mut flushes), 1);
    let (report, mark) = first.get().unwrap().clone();
    assert_eq!((report.outcomes.delivered, report.total()), (1, 1));

    let second = flush(&mut flushes, mark);
    assert_eq!(answer(&mut flushes), 1);
    let (report, _) = second.get().unwrap();
    assert_eq!((report.outcomes.netted, report.total()), (1, 1));
}

/// Goal: it does not matter that the numbers of epochs wrap around. Method: ops on both sides of that, and a flush
/// between them.
#[test]
fn the_numbers_of_epochs_wrap_around() {
    let mut flushes = Flushes::new();
    (flushes.first, flushes.open.number) = (u32::MAX, u32::MAX);
    let before = accept(&mut flushes, 1);
    let first = flush(&mut flushes, Cursor::default());
    let after = accept(&mut flushes, 2);
    assert_eq!((before, after), (u32::MAX, 0));
    flushes.end(after, End::Netted, None, 2);
    assert_eq!(answer(&mut flushes), 0);
    flushes.end(before, End::Delivered, None, 1);
    assert_eq!(answer(&mut flushes), 1);
    assert_eq!(first.get().unwrap().0.total(), 1);
}

#[test]
fn flushes_at_the_same_time_report_the_same() {
    let mut flushes = Flushes::new();
    let op = accept(&mut flushes, 1);
    let both = [flush(&mut flushes, Cursor::default()), flush(&mut flushes, Cursor::default())];
    flushes.end(op, End::Refused, Some(&SinkError::refused("no")), 1);
    assert_eq!(answer(&mut flushes), 2);
    for report in &both {
        let (report, _) = report.get().unwrap();
        assert_eq!((report.outcomes.refused, report.errors.len()), (1, 1));
        assert!(!report.is_ok());
    }
}

/// Guards: a flush that was given up once made the next one say that nothing had failed.
#[test]
fn what_an_abandoned_flush_would_have_reported_is_reported_by_the_next() {
    let mut flushes = Flushes::new();
    let op = accept(&mut flushes, 1);
    drop(flush(&mut flushes, Cursor::default()));
    flushes.end(op, End::Refused, Some(&SinkError::refused("no")), 1);
    answer(&mut flushes);
    let next = flush(&mut flushes, Cursor::default());
    answer(&mut flushes);
    let (report, _) = next.get().unwrap();
    assert_eq!((report.outcomes.refused, report.errors.len()), (1, 1));
}

/// Goal: callers that give up cost nothing, whenever they do. Method: many flushes with ops between them wait at a time
/// and are given up later; two that are kept report all that came before them.
#[test]
fn flushes_given_up_late_do_not_pile_up() {
    let mut flushes = Flushes::new();
    let mut kept = Vec::new();
    let mut numbers = Vec::new();
    for round in 0..20 {
        let waiting: Vec<_> = (0..1000)
            .map(|_| {
                numbers.push(accept(&mut flushes, 1));
                flush(&mut flushes, Cursor::default())
            })
            .collect();
        drop(waiting);
        if round % 10 == 5 {
            kept.push(flush(&mut flushes, Cursor::default()));
        }
    }
    numbers.push(accept(&mut flushes, 1));
    kept.push(flush(&mut flushes, Cursor::default()));
    assert!(flushes.closed.len() <= 2100, "{}", flushes.closed.len());
    // Settled from the middle, so that each op has to find its epoch.
    let (early, late) = numbers.split_at(numbers.len() / 2);
    for number in late.iter().chain(early) {
        flushes.end(*number, End::Delivered, None, 1);
    }
    answer(&mut flushes);
    let totals: Vec<u64> = kept.iter().map(|report| report.get().unwrap().0.total()).collect();
    assert_eq!(totals, [6000, 16_000, 20_001]);
}

#[test]
fn flushes_that_nobody_waits_for_do_not_pile_up() {
    let mut flushes = Flushes::new();
    let op = accept(&mut flushes, 1);
    for _ in 0..1000 {
        drop(flush(&mut flushes, Cursor::default()));
    }
    assert!(flushes.closed.len() <= 2, "{}", flushes.closed.len());
    let kept = flush(&mut flushes, Cursor::default());
    flushes.end(op, End::Delivered, None, 1);
    answer(&mut flushes);
    assert_eq!(kept.get().unwrap().0.outcomes.delivered, 1);
}
