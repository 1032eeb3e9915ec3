//! An outage of the destination is no failure of an op: the batcher freezes with backoff, keeps everything in the buffer
//! and counts no attempt, until a write gets through or `give_up_after` has passed.

use std::future::IntoFuture;

use roundlot::{
    Batcher, DeadLetter, End, ErrorKind, Limits, Retry, Sink, SinkError, Stages,
    testing::{Flaky, Gate, Recorder, advance, until_idle},
};
use tokio::time::Instant;

use crate::{AGES, at_once, conserved, eventually, ms, secs, took};

fn away() -> SinkError {
    SinkError::outage("connection refused")
}

/// Returns a backoff of 100 ms, 200 ms and so on up to 800 ms. The jitter makes each pause half to all of that.
fn retry() -> Retry {
    Retry::exponential(ms(100), ms(800)).max_attempts(2).seed(7)
}

/// Goal: no outage uses up an op's attempts. Method: 50 writes meet it, where two attempts are all that an op has.
#[tokio::test(start_paused = true)]
async fn an_outage_costs_no_attempt_and_loses_nothing() {
    let sink = Recorder::new();
    let flaky = Flaky::new(sink.clone()).fail_times(50, away());
    let (desk, _worker) = Batcher::new(flaky.clone()).limits(Limits::new(4)).retry(retry()).spawn();
    desk.send_all(1..10).await.unwrap();
    let last = desk.submit(10).await.unwrap();
    until_idle().await;
    let stats = desk.stats();
    assert_eq!((stats.waiting, stats.outages, stats.in_outage), (10, 1, true));
    let outcome = eventually(last.outcome()).await;
    assert_eq!((outcome.end, outcome.attempts), (End::Delivered, 1));
    assert_eq!(sink.ops(), (1..=10).collect::<Vec<_>>());
    let stats = desk.stats();
    assert_eq!((stats.outcomes.refused, stats.outages, stats.in_outage, stats.retries), (0, 1, false, 200));
    conserved(&stats);
}

/// Goal: one partition that meets an outage holds up all, and the pauses double up to the cap. Method: ten writes meet it,
/// with ops of three partitions; no write begins between half and all of each pause.
#[tokio::test(start_paused = true)]
async fn an_outage_freezes_all_partitions_with_backoff() {
    let flaky = Flaky::new(Recorder::new()).fail_times(10, away());
    let stages = Stages::new().partition_by(|op: &u32| op % 3);
    let (desk, _worker) = Batcher::new(flaky.clone()).stages(stages).limits(Limits::new(9)).retry(retry()).spawn();
    desk.send_all(0..9).await.unwrap();
    until_idle().await;
    for failed in 1..=10 {
        assert_eq!(flaky.writes(), failed, "one write tries whether it is over");
        let full = ms(100 << (failed - 1).min(3));
        advance(full / 2 - ms(1)).await;
        assert_eq!(flaky.writes(), failed, "too early, after {failed} failures");
        if failed < 10 {
            let start = Instant::now();
            while flaky.writes() == failed {
                advance(ms(1)).await;
            }
            assert!(start.elapsed() <= full / 2 + ms(1), "too late, after {failed} failures");
        }
    }
    let report = eventually(desk.flush()).await.unwrap();
    assert_eq!(report.outcomes.delivered, 9);
}

/// Goal: writes that were in flight together are one failure. Method: four meet the outage at a time; the pause is the
/// first one's.
#[tokio::test(start_paused = true)]
async fn writes_in_flight_together_freeze_once() {
    let flaky = Flaky::new(Recorder::new()).fail_times(4, away());
    let gate = Gate::new(flaky.clone());
    let stages = Stages::new().partition_by(|op: &u32| *op);
    let limits = Limits::new(9).max_in_flight(4);
    let (desk, _worker) = Batcher::new(gate.clone()).stages(stages).limits(limits).retry(retry()).spawn();
    desk.send_all(0..4).await.unwrap();
    gate.reached(4).await;
    gate.open();
    until_idle().await;
    assert_eq!((flaky.writes(), desk.stats().outages), (4, 1));
    advance(ms(100)).await;
    assert_eq!(desk.stats().outcomes.delivered, 4);
}

/// Goal: a connection that is lost in a write puts only the ops of that write in doubt. Method: one write of two ops of
/// six; the other four are delivered after the freeze.
#[tokio::test(start_paused = true)]
async fn a_lost_connection_is_ambiguous_for_its_write_and_an_outage_for_the_rest() {
    let sink = Recorder::new();
    let flaky = Flaky::new(sink.clone()).fail(SinkError::connection_lost("reset")).fail_times(20, away());
    let letters = Recorder::<(u32, bool)>::new();
    let (desk, _worker) = Batcher::new(flaky)
        .limits((2, AGES))
        .retry(retry())
        .dead_letters(letters.clone().map(|letter: &DeadLetter<u32>| (letter.op, letter.is_in_doubt())))
        .spawn();
    desk.send_all(1..=6).await.unwrap();
    until_idle().await;
    assert!(desk.stats().in_outage);
    let report = eventually(desk.flush()).await.unwrap();
    assert_eq!((report.outcomes.in_doubt, report.outcomes.delivered), (2, 4));
    assert_eq!((sink.ops(), letters.ops()), (vec![3, 4, 5, 6], vec![(1, true), (2, true)]));
}

/// Goal: an idempotent batcher tries the ops of a lost connection again, within their attempts. Method: as many losses as
/// an op has attempts less one, and as many.
#[tokio::test(start_paused = true)]
async fn a_lost_connection_counts_as_an_attempt_where_ambiguous_ops_are_retried() {
    for (losses, end) in [(1, End::Delivered), (2, End::InDoubt)] {
        let flaky = Flaky::new(Recorder::new()).fail_times(losses, SinkError::connection_lost("reset"));
        let (desk, _worker) = Batcher::new(flaky).retry(retry()).idempotent().spawn();
        let ack = desk.submit(1).await.unwrap();
        let outcome = eventually(ack.outcome()).await;
        assert_eq!((outcome.end, outcome.attempts), (end, 2));
    }
}

/// Goal: ops that wait for the end of an outage are decided late. Method: during the outage a price is replaced, an
/// order netted, one expires, one is withdrawn, and one comes in. The ops sent are those that are right at its end.
#[tokio::test(start_paused = true)]
async fn ops_that_wait_out_an_outage_are_still_merged_expired_and_withdrawn() {
    let sink = Recorder::new();
    let flaky = Flaky::new(sink.clone()).fail(away());
    let start = Instant::now();
    let net = |waiting: (char, i32), newer: (char, i32)| (newer.1 != 0).then_some((waiting.0, newer.1));
    let stages = Stages::new()
        .conflate_by(|op: &(char, i32)| op.0, net)
        .expire_by(move |op: &(char, i32)| (op.0 == 'x').then_some(start + ms(10)));
    let retry = Retry::exponential(secs(1), secs(1));
    let (desk, _worker) = Batcher::new(flaky).stages(stages).limits((9, AGES)).retry(retry).spawn();
    desk.send_all([('p', 1), ('o', 7), ('x', 1), ('w', 1)]).await.unwrap();
    let mut flush = tokio_test::task::spawn(desk.flush());
    assert!(flush.poll().is_pending());
    until_idle().await;
    assert!(desk.stats().in_outage);
    desk.send_all([('p', 2), ('o', 0), ('n', 1)]).await.unwrap();
    assert_eq!(desk.withdraw(|op| op.0 == 'w').await.unwrap(), [('w', 1)]);
    let report = eventually(flush).await.unwrap();
    assert_eq!(
        (report.outcomes.delivered, report.outcomes.netted, report.outcomes.expired, report.outcomes.withdrawn),
        (1, 1, 1, 1)
    );
    assert_eq!(sink.ops(), [('p', 2), ('n', 1)]);
}

/// Goal: `give_up_after` ends the wait, exactly then, with a last write; afterwards the batcher works. Method: an outage of
/// an hour where 10 s are allowed, with ops in two partitions and one that comes later.
#[tokio::test(start_paused = true)]
async fn an_outage_that_lasts_too_long_is_given_up() {
    let sink = Recorder::new();
    let flaky = Flaky::new(sink.clone()).fail_times(100_000, away());
    let letters = Recorder::<u32>::new();
    let stages = Stages::new().partition_by(|op: &u32| op % 2);
    let (desk, _worker) = Batcher::new(flaky.clone())
        .stages(stages)
        .limits(Limits::new(100).max_in_flight(4))
        .retry(retry().give_up_after(secs(10)))
        .dead_letters(letters.clone().map(|letter: &DeadLetter<u32>| letter.op))
        .spawn();
    let ack = desk.submit(1).await.unwrap();
    desk.send_all(2..=6).await.unwrap();
    let outcome = took(secs(10), ack.outcome()).await;
    assert_eq!((outcome.end, outcome.attempts), (End::Exhausted, 0));
    assert!(outcome.result.unwrap_err().chain().contains("connection refused"));
    until_idle().await;
    letters.wait_for(6).await;
    assert_eq!(desk.stats().waiting, 0);

    // The destination is still away: a late op is given up with the next write that fails.
    let late = desk.submit(7).await.unwrap();
    assert_eq!(eventually(late.outcome()).await.end, End::Exhausted);
    flaky.heal();
    let last = desk.submit(8).await.unwrap();
    assert_eq!(eventually(last.outcome()).await.end, End::Delivered);
    assert_eq!((sink.ops(), desk.stats().in_outage), (vec![8], false));
    conserved(&desk.stats());
}

/// Goal: a shutdown does not wait an outage out longer than it has time; the ops come back, none of them in doubt.
#[tokio::test(start_paused = true)]
async fn a_shutdown_during_an_outage_gives_the_ops_back() {
    let flaky = Flaky::new(Recorder::<u32>::new()).fail_times(100_000, away());
    let (desk, worker) = Batcher::new(flaky).limits((2, AGES)).retry(retry()).spawn();
    desk.send_all(1..=5).await.unwrap();
    until_idle().await;
    let summary = eventually(worker.shutdown().within(secs(3)).into_future()).await.unwrap();
    let returned: Vec<_> = summary.returned.iter().map(|back| (back.op, back.in_flight, back.in_doubt)).collect();
    assert_eq!(returned, (1..=5).map(|op| (op, false, false)).collect::<Vec<_>>());
}

/// Goal: an outage breaks neither a pause nor a flush. Method: pause in an outage, resume later; a flush waits for
/// both.
#[tokio::test(start_paused = true)]
async fn a_pause_holds_through_an_outage() {
    let flaky = Flaky::new(Recorder::new()).fail(away());
    let (desk, _worker) = Batcher::new(flaky.clone()).retry(retry()).spawn();
    desk.send(1).await.unwrap();
    until_idle().await;
    desk.pause().await.unwrap();
    advance(secs(60)).await;
    assert_eq!(flaky.writes(), 1);
    desk.resume().await.unwrap();
    assert_eq!(at_once(desk.flush()).await.unwrap().outcomes.delivered, 1);
}

/// Goal: a verdict on one op may tell of the outage, too. Method: a sink that lands one op and then finds the destination
/// gone.
#[tokio::test(start_paused = true)]
async fn an_outage_may_begin_in_the_middle_of_a_batch() {
    let sink = Recorder::new();
    let flaky = Flaky::new(sink.clone()).fail_ops(|op: &u32| (*op > 1).then(away));
    let (desk, _worker) = Batcher::new(flaky.clone()).limits((3, AGES)).retry(retry()).spawn();
    desk.send_all(1..=3).await.unwrap();
    until_idle().await;
    let stats = desk.stats();
    assert_eq!((stats.outcomes.delivered, stats.waiting, stats.in_outage), (1, 2, true));
    flaky.heal();
    assert_eq!(eventually(desk.flush()).await.unwrap().outcomes.delivered, 3);
    assert_eq!(sink.ops(), [1, 2, 3]);
}

/// Goal: no answer stops a batcher for ever. Method: a pause of all time, with the default cap and with one of a second.
#[tokio::test(start_paused = true)]
async fn a_freeze_is_capped() {
    for (retry, cap) in [(Retry::default(), secs(3 * 24 * 3600)), (Retry::default().max_freeze(secs(1)), secs(1))] {
        let flaky = Flaky::new(Recorder::new()).fail(SinkError::throttled(std::time::Duration::MAX));
        let (desk, _worker) = Batcher::new(flaky).retry(retry).spawn();
        let ack = desk.submit(1).await.unwrap();
        took(cap, ack).await.unwrap();
    }
}

/// Goal: an error that is an outage and of another kind keeps its word to the batcher.
#[test]
fn is_outage_is_true_for_outages_only() {
    assert!(away().is_outage() && away().kind() == ErrorKind::Outage);
    let lost = SinkError::connection_lost("reset");
    assert!(lost.is_outage() && lost.kind() == ErrorKind::Ambiguous);
    assert!(lost.with_kind(ErrorKind::Transient).is_outage());
    assert!(SinkError::transient("busy").with_kind(ErrorKind::Outage).is_outage());
    assert!(!SinkError::ambiguous("no answer").is_outage() && !SinkError::transient("busy").is_outage());
}

/// Goal: no outage makes the batcher spin or flood the destination, whatever the retry. Method: retries without a pause and
/// with tiny ones, and an outage of a minute, in which the writes are counted.
#[tokio::test(start_paused = true)]
async fn an_outage_pauses_even_where_a_retry_does_not() {
    let ns = std::time::Duration::from_nanos;
    for (retry, most) in [
        (Retry::none(), 40),
        (Retry::exponential(ms(0), ms(0)).max_attempts(8), 40),
        (Retry::exponential(ms(0), secs(5)), 40),
        (Retry::exponential(ns(1), secs(1)), 200),
        (Retry::exponential(ns(1), ns(1)), 60_000),
    ] {
        let sink = Recorder::new();
        let flaky = Flaky::new(sink.clone()).fail_ops(|_: &u32| Some(away()));
        let (desk, _worker) = Batcher::new(flaky.clone()).retry(retry.clone()).spawn();
        desk.send_all(1..=3).await.unwrap();
        tokio::time::sleep(secs(60)).await;
        assert!((10..=most).contains(&flaky.writes()), "{} writes, {retry:?}", flaky.writes());
        assert_eq!(desk.stats().waiting, 3);
        flaky.heal();
        assert_eq!(eventually(desk.flush()).await.unwrap().outcomes.delivered, 3);
        assert_eq!(sink.ops(), [1, 2, 3]);
    }
}

/// Goal: a sink that reports the outage for each op, as databases do, has the same effect as one that fails the batch.
/// The pauses double, the outage counts once, and it is given up in time. Method: both ways of reporting, side by side.
#[tokio::test(start_paused = true)]
async fn an_outage_reported_op_by_op_equals_one_of_the_batch() {
    let mut seen = Vec::new();
    for by_op in [false, true] {
        let flaky = Flaky::new(Recorder::new());
        match by_op {
            true => flaky.fail_ops(|_: &u32| Some(away())),
            false => flaky.fail_times(100_000, away()),
        };
        let retry = retry().give_up_after(secs(20));
        let (desk, _worker) = Batcher::new(flaky.clone()).limits((3, AGES)).retry(retry).spawn();
        desk.send_all(1..=3).await.unwrap();
        tokio::time::sleep(secs(10)).await;
        let stats = desk.stats();
        assert_eq!((stats.outages, stats.waiting, stats.in_outage), (1, 3, true), "by op: {by_op}");
        let writes = flaky.writes();
        let report = took(secs(10), desk.flush()).await.unwrap();
        assert_eq!(report.outcomes.exhausted, 3);
        seen.push((writes, flaky.writes()));
    }
    assert_eq!(seen[0], seen[1]);
}
