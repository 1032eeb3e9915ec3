//! Tests of promise 1: each op ends in exactly one way. Its caller, the statistics and the report of a flush agree on
//! the end.

use std::time::Duration;

use roundlot::{
    Ack, AckError, Batcher, End, ErrorKind, Limits, Outcomes, Overflow, Retry, Sink, SinkError, Stages, stage,
    testing::{Flaky, Gate, Recorder, advance, until_idle},
};
use tokio_test::{assert_pending, task};

use crate::{AGES, conserved, down, eventually, ms, refused, secs};

/// Returns the end, its name in the error if there is one, the attempts, and the latency in milliseconds.
async fn told(ack: Ack) -> (End, Option<End>, u32, u128) {
    let outcome = eventually(ack.outcome()).await;
    (outcome.end, outcome.result.err().map(|error| error.end()), outcome.attempts, outcome.latency.as_millis())
}

/// Returns how many ops ended in each way, in the order of the variants of `End`.
fn ends(outcomes: &Outcomes) -> [u64; 12] {
    [
        outcomes.delivered,
        outcomes.refused,
        outcomes.exhausted,
        outcomes.in_doubt,
        outcomes.conflated,
        outcomes.deduplicated,
        outcomes.netted,
        outcomes.expired,
        outcomes.evicted,
        outcomes.withdrawn,
        outcomes.returned,
        outcomes.lost,
    ]
}

fn sink() -> Flaky<Recorder<u32>, u32> {
    Flaky::new(Recorder::new()).slow(ms(5))
}

fn limits() -> Limits {
    Limits::new(10).linger(ms(20))
}

/// Submits one op to a sink. Returns its outcome for the caller, and the statistics.
async fn one(sink: impl Sink<u32>, retry: Retry) -> ((End, Option<End>, u32, u128), [u64; 12]) {
    let (desk, _worker) = Batcher::new(sink).limits(limits()).retry(retry).spawn();
    let told = told(desk.submit(1).await.unwrap()).await;
    let stats = desk.stats();
    conserved(&stats);
    assert_eq!(ends(&desk.flush().await.unwrap().outcomes), ends(&stats.outcomes));
    (told, ends(&stats.outcomes))
}

/// Goal: the caller is told the verdict of the sink. Method: one op each that is delivered, refused, refused at the
/// last attempt, in doubt, lost; a linger of 20 ms and a sink of 5 ms make the latency.
#[tokio::test(start_paused = true)]
async fn the_verdict_of_the_sink_is_the_end() {
    let at_once = Retry::exponential(Duration::ZERO, Duration::ZERO).max_attempts(3);
    let cases = [
        (sink(), End::Delivered, 1, 25),
        (sink().fail(refused()), End::Refused, 1, 25),
        (sink().fail_times(2, down()), End::Delivered, 3, 35),
        (sink().fail_times(3, down()), End::Exhausted, 3, 35),
        (sink().fail(SinkError::ambiguous("no answer")), End::InDoubt, 1, 25),
        (sink().unanswered(), End::InDoubt, 1, 25),
        (sink().panic(1), End::InDoubt, 1, 25),
        (sink().fail(ErrorKind::Lost.into()), End::Lost, 1, 25),
    ];
    for (sink, end, attempts, latency) in cases {
        let (told, ends) = one(sink, at_once.clone()).await;
        let error = (end != End::Delivered).then_some(end);
        assert_eq!(told, (end, error, attempts, latency));
        let mut expected = [0; 12];
        expected[end as usize] = 1;
        assert_eq!(ends, expected);
    }
}

/// Goal: an op that ends without a write reports its end at once, with no attempt. Method: one batcher, and an op each
/// that is netted (two of them), conflated, a repeat, expired, evicted and withdrawn; all sums must agree.
#[tokio::test(start_paused = true)]
async fn each_end_is_reported_to_the_caller_the_statistics_and_the_flush() {
    // Tens name the key of conflation: 1 nets, 2 keeps the latest. Ops from 100 on have none and expire, or not.
    let merge = |waiting: u32, newer: u32| if newer / 10 == 1 { None } else { stage::latest(waiting, newer) };
    let soon = tokio::time::Instant::now() + ms(15);
    let stages = Stages::new()
        .conflate_by(|op: &u32| (*op < 100).then_some(op / 10), merge)
        .dedup_by(|op: &u32| (*op == 300).then_some(()), AGES)
        .expire_by(move |op: &u32| (*op == 200).then_some(soon));
    let gate = Gate::new(Flaky::new(Recorder::new()).fail_ops(|op| (*op == 500).then(refused)));
    let limits = Limits::new(100).linger(ms(20)).max_pending(8).overflow(Overflow::EvictOldest);
    let (desk, _worker) = Batcher::new(gate.clone()).stages(stages).limits(limits).spawn();
    desk.pause().await.unwrap();
    let mut acks = Vec::new();
    for op in [400, 10, 11, 20, 21, 200, 300, 300, 500, 600, 700] {
        acks.push(desk.submit(op).await.unwrap());
    }
    until_idle().await;
    assert_eq!(desk.withdraw(|op| *op == 600).await.unwrap(), [600]);
    // Six of the ops that want room are left, and eight fit in: the third makes the oldest leave.
    for op in [701, 702, 703] {
        acks.push(desk.submit(op).await.unwrap());
    }
    advance(ms(15)).await;
    desk.resume().await.unwrap();
    gate.open();
    let report = eventually(desk.flush()).await.unwrap();
    let mut outcomes = Vec::new();
    for ack in acks {
        let (end, _, attempts, _) = told(ack).await;
        outcomes.push((end, attempts));
    }
    let expected = [
        (End::Evicted, 0),      // 400
        (End::Netted, 0),       // 10
        (End::Netted, 0),       // 11
        (End::Conflated, 1),    // 20, into 21
        (End::Delivered, 1),    // 21
        (End::Expired, 0),      // 200
        (End::Delivered, 1),    // 300
        (End::Deduplicated, 1), // 300 again
        (End::Refused, 1),      // 500
        (End::Withdrawn, 0),    // 600
        (End::Delivered, 1),    // 700
        (End::Delivered, 1),
        (End::Delivered, 1),
        (End::Delivered, 1),
    ];
    assert_eq!(outcomes, expected);
    let stats = desk.stats();
    let mut counted = [0; 12];
    expected.iter().for_each(|(end, _)| counted[*end as usize] += 1);
    assert_eq!((ends(&stats.outcomes), ends(&report.outcomes)), (counted, counted));
    assert_eq!((stats.accepted, report.total(), report.errors.len()), (14, 14, 1));
    conserved(&stats);
}

/// Goal: ops that a shutdown gives back are reported so, in flight or not. Method: one op hangs, one waits behind it,
/// and the shutdown has one second.
#[tokio::test(start_paused = true)]
async fn callers_of_returned_ops_are_answered() {
    let (desk, worker) = Batcher::new(Gate::new(Recorder::new())).limits(1).spawn();
    let acks = [desk.submit(1).await.unwrap(), desk.submit(2).await.unwrap()];
    let mut flush = task::spawn(desk.flush());
    assert_pending!(flush.poll());
    let summary = worker.shutdown().within(secs(1)).await.unwrap();
    for (ack, (attempts, flies)) in acks.into_iter().zip([(1, true), (0, false)]) {
        let outcome = ack.outcome().await;
        assert_eq!((outcome.end, outcome.attempts, outcome.latency), (End::Returned, attempts, secs(1)));
        let Err(AckError::Returned { in_flight, in_doubt }) = outcome.result else { panic!("{:?}", outcome.result) };
        assert_eq!((in_flight, in_doubt), (flies, flies));
    }
    let report = flush.await.unwrap();
    assert_eq!((report.outcomes.returned, report.is_ok()), (2, false));
    assert_eq!(ends(&summary.stats.outcomes), ends(&report.outcomes));
    conserved(&summary.stats);
}

/// Goal: a lost op is reported as lost. Method: the task is dropped with one op in flight, one waiting, and one that it
/// has not seen.
#[tokio::test(start_paused = true)]
async fn callers_of_lost_ops_are_answered() {
    let (desk, worker) = Batcher::new(Gate::new(Recorder::new())).limits(1).split();
    let mut worker = task::spawn(worker);
    let mut acks = vec![desk.submit(1).await.unwrap(), desk.submit(2).await.unwrap()];
    assert_pending!(worker.poll());
    acks.push(desk.submit(3).await.unwrap());
    advance(ms(7)).await;
    drop(worker);
    for ack in acks {
        assert_eq!(told(ack).await, (End::Lost, Some(End::Lost), 0, 7));
    }
    let stats = desk.stats();
    assert_eq!((stats.accepted, stats.outcomes.lost), (3, 3));
    conserved(&stats);
}

/// Goal: conservation holds at each quiet point on the way, not only at the end. Method: a look after each step of a
/// retry: waiting, in flight, backing off, in flight, delivered.
#[tokio::test(start_paused = true)]
async fn waiting_and_in_flight_add_up_on_the_way() {
    let gate = Gate::new(Flaky::new(Recorder::new()).fail(down()));
    let (desk, _worker) = Batcher::new(gate.clone()).limits(limits()).spawn();
    let look = || {
        let stats = desk.stats();
        conserved(&stats);
        (stats.waiting, stats.in_flight, stats.batches_in_flight, stats.outcomes.delivered)
    };
    desk.send_all([1, 2]).await.unwrap();
    assert_eq!(look(), (2, 0, 0, 0), "in the channel");
    until_idle().await;
    assert_eq!(look(), (2, 0, 0, 0));
    advance(ms(20)).await;
    assert_eq!(look(), (0, 2, 1, 0));
    gate.pass(1);
    until_idle().await;
    assert_eq!(look(), (2, 0, 0, 0), "backing off");
    eventually(gate.reached(1)).await;
    assert_eq!(look(), (0, 2, 1, 0));
    gate.pass(1);
    until_idle().await;
    assert_eq!(look(), (0, 0, 0, 2));
}

/// Goal: the times in the statistics add up to the latency that callers are told. Method: linger 20 ms, two writes of 5
/// ms, and a backoff between them.
#[tokio::test(start_paused = true)]
async fn times_are_split_into_waiting_backing_off_and_writing() {
    let (desk, _worker) = Batcher::new(sink().fail(down())).limits(limits()).spawn();
    let outcome = desk.submit(1).await.unwrap().outcome().await;
    let stats = desk.stats();
    assert_eq!(stats.in_buffer.max, outcome.latency);
    assert_eq!(stats.writing_time.max, ms(10));
    let backing_off = stats.backing_off_time.max;
    assert!((ms(25)..=ms(50)).contains(&backing_off), "{backing_off:?}");
    assert_eq!(stats.waiting_time.max + backing_off + ms(10), outcome.latency);
    assert!(stats.waiting_time.max - ms(20) <= ms(1), "a timer may be late by its grain: {stats:?}");
}

/// Goal: room is conserved as ops are: however an op ends, its room is free again. Method: many rounds of each end, of
/// dropped permits, abandoned sends, and changed limits; then exactly `max_pending` ops fit.
#[tokio::test(start_paused = true)]
async fn all_permits_are_available_again_after_every_kind_of_end() {
    for overflow in [Overflow::Wait, Overflow::Reject, Overflow::EvictOldest, Overflow::EvictLowest] {
        let limits = |pending: usize| Limits::new(4).linger(ms(5)).max_pending(pending).overflow(overflow);
        let soon = tokio::time::Instant::now() + ms(200);
        let stages = Stages::new()
            .partition_by(|op: &u32| op % 3)
            .conflate_by(
                |op: &u32| op.is_multiple_of(5).then_some(op % 10),
                |_, newer| (newer % 4 != 0).then_some(newer),
            )
            .dedup_by(|op: &u32| op.is_multiple_of(7).then_some(op % 14), ms(50))
            .priority_by(|op: &u32| assert!(!op.is_multiple_of(31), "no level"))
            .expire_by(move |op: &u32| op.is_multiple_of(6).then_some(soon));
        let flaky = Flaky::new(Recorder::new()).slow(ms(1));
        for _ in 0..20 {
            flaky.pass(3).fail(down()).fail(refused()).panic(1).unanswered().fail(SinkError::too_large("all of it"));
        }
        let retry = Retry::exponential(ms(4), ms(4)).max_attempts(2).seed(9);
        let (desk, _worker) = Batcher::new(flaky).stages(stages).limits(limits(8)).retry(retry).bisect().spawn();
        for round in 0..100u32 {
            for op in 0..6 {
                let _ = desk.try_send(round * 6 + op);
            }
            let _ = tokio::time::timeout(ms(1), desk.send_all([round, round + 1])).await;
            if let Ok(permit) = tokio::time::timeout(ms(1), desk.reserve()).await {
                drop(permit.unwrap());
            }
            advance(ms(3)).await;
            if round % 10 == 0 {
                desk.set_limits(limits(4 + round as usize % 7)).unwrap();
                let _ = eventually(desk.withdraw(|op| op % 8 == 0)).await.unwrap();
            }
        }
        desk.set_limits(limits(9)).unwrap();
        let _ = eventually(desk.flush()).await.unwrap();
        let stats = desk.stats();
        conserved(&stats);
        assert_eq!((stats.waiting, stats.in_flight), (0, 0));
        let sorts = ends(&stats.outcomes).iter().filter(|count| **count > 0).count();
        let evicts = [Overflow::EvictOldest, Overflow::EvictLowest].contains(&overflow);
        assert!(sorts >= 7 && evicts == (stats.outcomes.evicted > 0), "too few ways to end: {stats:?}");
        desk.pause().await.unwrap();
        until_idle().await;
        let mut permits = Vec::new();
        while let Ok(permit) = tokio::time::timeout(Duration::ZERO, desk.reserve()).await {
            permits.push(permit.unwrap());
        }
        assert_eq!(permits.len(), 9, "{overflow:?}");
    }
}
