//! Verdicts and errors of two sinks, put together.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use super::*;

/// Script of a sink for one op; the sink answers op `i` by script `i`.
#[derive(Clone, Copy)]
enum Say {
    Accept(u32),
    Fail(ErrorKind),
    Nothing,
    Hang,
}
use Say::{Accept, Fail, Hang, Nothing};

/// Answers each op it finds pending as scripted, and errs at the end if told so.
#[derive(Default)]
struct Scripted {
    says: Vec<Say>,
    error: Option<ErrorKind>,
    offered: AtomicU32,
    closed: AtomicU32,
}

fn says(says: &[Say]) -> Arc<Scripted> {
    Arc::new(Scripted { says: says.to_vec(), ..Scripted::default() })
}

fn errs(says: &[Say], error: ErrorKind) -> Arc<Scripted> {
    Arc::new(Scripted { says: says.to_vec(), error: Some(error), ..Scripted::default() })
}

impl Sink<u8, u32> for Scripted {
    async fn write(&self, batch: &mut Batch<u8, u32>) -> Result<Settled, SinkError> {
        let open: Vec<usize> = batch.pending_indexes().collect();
        for i in open {
            self.offered.fetch_add(1, Ordering::Relaxed);
            match self.says[i] {
                Accept(receipt) => batch.accept(i, receipt),
                Fail(kind) => batch.refuse(i, SinkError::from(kind)),
                Nothing => {}
                Hang => std::future::pending().await,
            }
        }
        self.error.map_or_else(|| batch.settled(), |kind| Err(kind.into()))
    }

    async fn close(&self) -> Result<(), SinkError> {
        self.closed.fetch_add(1, Ordering::Relaxed);
        self.error.map_or(Ok(()), |kind| Err(kind.into()))
    }
}

impl Scripted {
    fn offered(&self) -> u32 {
        self.offered.load(Ordering::Relaxed)
    }
}

type Outcome = (Vec<Option<Result<u32, ErrorKind>>>, Option<ErrorKind>);

/// Writes one op per script of the first sink, for at most a second; gives each verdict and the error.
async fn outcome(first: &Arc<Scripted>, second: &Arc<Scripted>) -> Outcome {
    let mut batch = Batch::for_test((0..first.says.len() as u8).collect());
    let sink = first.clone().fan_out(second.clone()).timeout(Duration::from_secs(1));
    let error = sink.write(&mut batch).await.err().map(|error| error.kind());
    let verdicts = (0..batch.len()).map(|i| batch.verdict(i).map(|v| v.copied().map_err(SinkError::kind)));
    (verdicts.collect(), error)
}

use ErrorKind::{Ambiguous, Fenced, Refused, Transient};

/// Accepted by both, refused by the first, refused by the second: each in its way, with the first's receipts.
#[tokio::test]
async fn the_second_sees_what_the_first_took() {
    let first = says(&[Accept(10), Fail(Refused), Accept(12)]);
    let second = says(&[Accept(20), Accept(21), Fail(Transient)]);
    let verdicts = vec![Some(Ok(10)), Some(Err(Refused)), Some(Err(Ambiguous))];
    assert_eq!(outcome(&first, &second).await, (verdicts, None));
    assert_eq!(second.offered(), 2);
}

#[tokio::test]
async fn the_second_is_not_called_without_accepted_ops() {
    let second = says(&[]);
    let first = errs(&[Nothing, Fail(Refused)], ErrorKind::TooLarge);
    assert_eq!(outcome(&first, &second).await, (vec![None, Some(Err(Refused))], Some(ErrorKind::TooLarge)));
    assert_eq!(second.offered(), 0);
}

/// The first fails midway: what it took goes on to the second, what it left open does not.
#[tokio::test]
async fn ops_taken_by_a_failing_first_sink_go_to_the_second() {
    let (first, second) = (errs(&[Accept(10), Nothing], Transient), says(&[Accept(20), Accept(21)]));
    assert_eq!(outcome(&first, &second).await, (vec![Some(Ok(10)), Some(Err(Transient))], None));
    assert_eq!(second.offered(), 1);
}

/// Even a transient error of the second is ambiguous for the op; the batcher hears of it as it was.
#[tokio::test]
async fn the_second_fails_after_it_took_some() {
    let (first, second) = (says(&[Accept(10), Accept(11)]), errs(&[Accept(20), Nothing], Transient));
    assert_eq!(outcome(&first, &second).await, (vec![Some(Ok(10)), Some(Err(Ambiguous))], Some(Transient)));
}

#[tokio::test]
async fn a_fence_is_not_lost_in_an_ambiguous_op() {
    let (first, second) = (says(&[Accept(10), Accept(11)]), says(&[Fail(Fenced), Accept(21)]));
    assert_eq!(outcome(&first, &second).await, (vec![Some(Err(Ambiguous)), Some(Ok(11))], Some(Fenced)));
}

/// A regression to guard against: the first had said "accepted", and the second was never asked.
#[tokio::test(start_paused = true)]
async fn a_write_dropped_in_the_first_accepts_nothing() {
    let (first, second) = (says(&[Accept(10), Fail(Refused), Hang]), says(&[]));
    let verdicts = vec![Some(Err(Ambiguous)), Some(Err(Refused)), None];
    assert_eq!(outcome(&first, &second).await, (verdicts, Some(Ambiguous)));
}

#[tokio::test(start_paused = true)]
async fn a_write_dropped_in_the_second_accepts_what_both_took() {
    let (first, second) = (says(&[Accept(10), Accept(11)]), says(&[Accept(20), Hang]));
    assert_eq!(outcome(&first, &second).await, (vec![Some(Ok(10)), None], Some(Ambiguous)));
}

/// A verdict from before, in a sink made of several, is not taken for the first sink's.
#[tokio::test]
async fn earlier_verdicts_are_left_alone() {
    let (first, second) = (says(&[Nothing, Accept(11)]), says(&[Nothing, Accept(21)]));
    let mut batch = Batch::for_test(vec![1, 2]);
    batch.accept(0, 99);
    assert!(first.fan_out(second.clone()).write(&mut batch).await.is_ok());
    assert_eq!(batch.verdict(0).unwrap().unwrap(), &99);
    assert_eq!(second.offered(), 1);
}

/// An outage, a pause and an end are told to the batcher whichever sink says so, and whether of one op or of all.
#[tokio::test]
async fn an_error_about_the_destination_is_returned() {
    use ErrorKind::{Closed, Outage};
    let pause = |seconds| ErrorKind::Throttled { retry_after: Duration::from_secs(seconds) };
    let cases = [
        (says(&[Accept(1), Accept(2)]), says(&[Fail(Outage), Accept(2)]), Some(Outage)),
        (says(&[Accept(1), Accept(2)]), errs(&[Accept(1), Nothing], Outage), Some(Outage)),
        (errs(&[Accept(1), Nothing], Outage), says(&[Accept(1), Accept(2)]), Some(Outage)),
        (errs(&[Accept(1), Nothing], pause(9)), says(&[Accept(1), Accept(2)]), Some(pause(9))),
        (errs(&[Accept(1), Nothing], pause(1)), says(&[Fail(pause(3)), Nothing]), Some(pause(3))),
        (says(&[Accept(1), Accept(2)]), errs(&[Fail(pause(5)), Nothing], Fenced), Some(Fenced)),
        (says(&[Accept(1), Accept(2)]), errs(&[Fail(Closed), Nothing], pause(5)), Some(Closed)),
        (says(&[Accept(1), Accept(2)]), says(&[Fail(pause(5)), Fail(pause(2))]), Some(pause(5))),
        (errs(&[Accept(1), Nothing], Transient), says(&[Accept(1), Accept(2)]), None),
    ];
    for (n, (first, second, error)) in cases.into_iter().enumerate() {
        assert_eq!(outcome(&first, &second).await.1, error, "case {n}");
    }
}

/// The op has landed in part, so that it is in doubt; that the second is away is not lost in that.
#[tokio::test]
async fn a_half_written_op_remembers_an_outage() {
    for (kind, is_outage) in [(ErrorKind::Outage, true), (Transient, false)] {
        let (first, second) = (says(&[Accept(10), Accept(11)]), errs(&[Fail(kind), Nothing], kind));
        let mut batch = Batch::for_test(vec![0, 1]);
        assert!(first.fan_out(second).write(&mut batch).await.is_err());
        for i in 0..2 {
            let error = batch.verdict(i).unwrap().unwrap_err();
            assert_eq!((error.kind(), error.is_outage()), (Ambiguous, is_outage));
        }
    }
}

/// One of the two is enough: an op has to be taken by both.
#[tokio::test]
async fn a_fan_out_is_gone_if_either_sink_is() {
    struct Gone;
    impl Sink<u8, u32> for Gone {
        async fn write(&self, batch: &mut Batch<u8, u32>) -> Result<Settled, SinkError> {
            batch.settled()
        }
        async fn gone(&self) -> SinkError {
            SinkError::closed("left")
        }
    }
    let there = || says(&[]);
    assert_eq!(Gone.fan_out(there()).gone().await.kind(), ErrorKind::Closed);
    let layers = Arc::new(there().fan_out(Gone).timeout(Duration::from_secs(1)).map(|n: &u8| *n)).boxed();
    assert_eq!(Sink::<u8, u32>::gone(&layers).await.kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn both_are_closed_and_the_first_error_is_told() {
    let (first, second) = (errs(&[], Refused), errs(&[], Transient));
    let error = first.fan_out(second.clone()).close().await.unwrap_err();
    assert_eq!((error.kind(), second.closed.load(Ordering::Relaxed)), (Refused, 1));
}
