//! Tests of promise 6: which ops are tried again, when, how often, and what other rules do to them meanwhile.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use roundlot::{
    Batch, Batcher, CutBy, DeadLetter, End, ErrorKind, Limits, Retry, Sink, SinkError, Stages, sink_fn, stage,
    testing::{Flaky, Gate, Recorder, advance, until_idle},
};
use tokio::time::Instant;

use crate::{AGES, at_once, down, eventually, ms, refused, secs, took};

/// Returns a retry that backs off between 50 and 100 ms after each failure.
fn steady() -> Retry {
    Retry::exponential(ms(100), ms(100)).max_attempts(10).seed(5)
}

/// Goal: only ops without a verdict, or marked `retry`, are tried again. Method: the first write accepts one op,
/// refuses one, marks one and is silent about one before it fails.
#[tokio::test(start_paused = true)]
async fn only_ops_without_a_verdict_or_marked_retry_are_tried_again() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = sink_fn({
        let seen = seen.clone();
        move |batch: &mut Batch<u32>| {
            seen.lock().unwrap().push((batch.attempt(), batch.cut_by(), batch.ops().to_vec()));
            Box::pin(async move {
                if batch.attempt() > 1 {
                    return Ok(batch.accept_all());
                }
                batch.accept(0, ());
                batch.refuse(1, refused());
                batch.retry(2, refused());
                Err(down())
            })
        }
    });
    let (desk, _worker) = Batcher::new(sink).limits((4, AGES)).retry(steady()).spawn();
    let mut acks = Vec::new();
    for op in 0..4 {
        acks.push(desk.submit(op).await.unwrap());
    }
    let mut outcomes = Vec::new();
    for ack in acks {
        let outcome = eventually(ack.outcome()).await;
        outcomes.push((outcome.end, outcome.attempts));
    }
    assert_eq!(outcomes, [(End::Delivered, 1), (End::Refused, 1), (End::Delivered, 2), (End::Delivered, 2)]);
    let (first, second) = ((1, CutBy::Full, vec![0, 1, 2, 3]), (2, CutBy::Retry, vec![2, 3]));
    assert_eq!(*seen.lock().unwrap(), [first, second]);
    assert_eq!(desk.stats().retries, 2);
}

/// Goal: backoffs are exponential and jittered. Method: for several seeds, the gaps between six attempts lie between
/// half and all of a pause that doubles up to the cap, and differ from seed to seed.
#[tokio::test(start_paused = true)]
async fn backoffs_double_up_to_the_cap_and_spread() {
    let mut firsts = Vec::new();
    for seed in 0..5 {
        let attempts = Arc::new(Mutex::new(Vec::new()));
        let sink = sink_fn({
            let attempts = attempts.clone();
            move |_: &mut Batch<u32>| {
                attempts.lock().unwrap().push(Instant::now());
                Box::pin(async { Err(down()) })
            }
        });
        let retry = Retry::exponential(ms(100), ms(500)).max_attempts(6).seed(seed);
        let (desk, _worker) = Batcher::new(sink).limits(1).retry(retry).spawn();
        let outcome = eventually(desk.submit(1).await.unwrap().outcome()).await;
        assert_eq!((outcome.end, outcome.attempts), (End::Exhausted, 6));
        let gaps: Vec<Duration> = attempts.lock().unwrap().windows(2).map(|pair| pair[1] - pair[0]).collect();
        // A timer may be late by its grain of a millisecond.
        for (gap, full) in gaps.iter().zip([100, 200, 400, 500, 500]) {
            assert!((ms(full / 2)..=ms(full + 1)).contains(gap), "{gaps:?}");
        }
        firsts.push(gaps[0]);
    }
    firsts.dedup();
    assert!(firsts.len() > 1, "no jitter: {firsts:?}");
}

/// Goal: a backoff blocks its own partition alone, for new ops too. Method: one partition fails; an op of another one
/// is delivered meanwhile, and a new op of the first waits behind.
#[tokio::test(start_paused = true)]
async fn a_backoff_blocks_its_own_partition_alone() {
    let sink = Recorder::new();
    let flaky = Flaky::new(sink.clone()).fail(down());
    let stages = Stages::new().partition_by(|op: &u32| op / 10);
    let (desk, _worker) = Batcher::new(flaky).stages(stages).limits(2).retry(steady()).spawn();
    let start = Instant::now();
    desk.send(10).await.unwrap();
    until_idle().await;
    desk.send(11).await.unwrap();
    for op in [20, 21] {
        let ack = desk.submit(op).await.unwrap();
        assert_eq!(at_once(ack.outcome()).await.end, End::Delivered);
    }
    sink.wait_for(4).await;
    assert!(start.elapsed() >= ms(50));
    assert_eq!(sink.batches(), [vec![20], vec![21], vec![10, 11]]);
}

/// Goal: while ops back off they can be conflated, expire and be withdrawn, and none of that is an attempt. Method:
/// three keys fail together; then one gets a newer value, one is withdrawn, and one expires.
#[tokio::test(start_paused = true)]
async fn ops_that_back_off_can_be_conflated_withdrawn_and_expire() {
    let sink = Recorder::new();
    let over = Instant::now() + ms(40);
    let stages = Stages::new()
        .conflate_by(|op: &(char, u32)| op.0, stage::latest)
        .expire_by(move |op: &(char, u32)| (op.0 == 'c').then_some(over));
    let (desk, _worker) =
        Batcher::new(Flaky::new(sink.clone()).fail(down())).stages(stages).limits((3, AGES)).retry(steady()).spawn();
    let mut acks = Vec::new();
    for op in [('a', 1), ('b', 1), ('c', 1)] {
        acks.push(desk.submit(op).await.unwrap());
    }
    advance(ms(10)).await;
    acks.push(desk.submit(('a', 2)).await.unwrap());
    assert_eq!(at_once(desk.withdraw(|op| op.0 == 'b')).await.unwrap(), [('b', 1)]);
    let mut outcomes = Vec::new();
    for ack in acks {
        let outcome = eventually(ack.outcome()).await;
        outcomes.push((outcome.end, outcome.attempts));
    }
    assert_eq!(outcomes, [(End::Conflated, 2), (End::Withdrawn, 1), (End::Expired, 1), (End::Delivered, 2)]);
    assert_eq!(sink.batches(), [[('a', 2)]]);
}

/// Goal: a backoff ends when all ops that backed off are gone. Method: the only op is withdrawn; the next one of its
/// partition is written at once.
#[tokio::test(start_paused = true)]
async fn a_backoff_ends_with_the_last_op_that_waits_for_it() {
    let flaky = Flaky::new(Recorder::new()).fail(down());
    let (desk, _worker) = Batcher::new(flaky).limits(1).retry(steady()).spawn();
    desk.send(1).await.unwrap();
    until_idle().await;
    assert_eq!(at_once(desk.withdraw(|_| true)).await.unwrap(), [1]);
    let ack = desk.submit(2).await.unwrap();
    assert_eq!(at_once(ack.outcome()).await.attempts, 1);
}

/// Goal: after the last attempt the op is a dead letter and its caller is told, with the last error. Method: three
/// attempts, each with an error of its own.
#[tokio::test(start_paused = true)]
async fn the_last_failed_attempt_ends_in_a_dead_letter_and_an_answer() {
    let letters = Recorder::<(u32, u32, String, bool)>::new();
    let describe = |letter: &DeadLetter<u32>| (letter.op, letter.attempts, letter.error.chain(), letter.is_in_doubt());
    let flaky = Flaky::new(Recorder::new());
    for attempt in 1..=3 {
        flaky.fail(SinkError::transient(format!("failure {attempt}")));
    }
    let (desk, _worker) = Batcher::new(flaky)
        .limits(1)
        .retry(steady().max_attempts(3))
        .dead_letters(letters.clone().map(describe))
        .spawn();
    let outcome = eventually(desk.submit(7).await.unwrap().outcome()).await;
    assert_eq!((outcome.end, outcome.attempts), (End::Exhausted, 3));
    let error = "not written for now: failure 3";
    assert_eq!(outcome.result.unwrap_err().chain(), format!("retries used up: {error}"));
    until_idle().await;
    assert_eq!(letters.ops(), [(7, 3, error.to_owned(), false)]);
}

/// Goal: `Throttled` pauses everything for its time, though the backoff is shorter; and a longer backoff is still
/// waited for. Method: one partition is throttled for a second; others come at once, and after it.
#[tokio::test(start_paused = true)]
async fn throttling_pauses_the_whole_batcher() {
    for (backoff, again_after) in [(ms(10), secs(1)..ms(1001)), (secs(8), secs(4)..ms(8001))] {
        let sink = Recorder::new();
        let flaky = Flaky::new(sink.clone()).fail(SinkError::throttled(secs(1)));
        let stages = Stages::new().partition_by(|op: &u32| *op);
        let limits = Limits::new(1).max_in_flight(4);
        let retry = Retry::exponential(backoff, backoff);
        let (desk, _worker) = Batcher::new(flaky).stages(stages).limits(limits).retry(retry).spawn();
        let start = Instant::now();
        desk.send(1).await.unwrap();
        until_idle().await;
        let other = desk.submit(2).await.unwrap();
        assert_eq!(took(secs(1), other.outcome()).await.end, End::Delivered);
        sink.wait_for(2).await;
        assert!(again_after.contains(&start.elapsed()), "{:?}", start.elapsed());
    }
}

/// Goal: one throttled op of a batch pauses the batcher as well, and a longer pause is not cut short by a shorter one.
/// Method: two ops are throttled, for 5 s and for 1 s.
#[tokio::test(start_paused = true)]
async fn the_longest_requested_pause_counts() {
    let sink = Recorder::new();
    let flaky = Flaky::new(sink.clone()).fail_ops(|op: &u64| (*op != 0).then(|| SinkError::throttled(secs(*op))));
    let (desk, _worker) = Batcher::new(flaky.clone()).limits(3).retry(Retry::default()).spawn();
    desk.send_all([5, 1, 0]).await.unwrap();
    until_idle().await;
    flaky.heal();
    took(secs(5), sink.wait_for(3)).await;
    assert_eq!(sink.ops(), [0, 5, 1]);
}

/// Goal: each kind of error has its consequence. Method: one failed write of each kind, with and without `idempotent`;
/// how the op ends and how many writes there were.
#[tokio::test(start_paused = true)]
async fn each_error_kind_has_its_documented_consequence() {
    let throttled = ErrorKind::Throttled { retry_after: ms(1) };
    let cases = [
        (ErrorKind::Transient, false, End::Delivered, 2),
        (throttled, false, End::Delivered, 2),
        (ErrorKind::Ambiguous, false, End::InDoubt, 1),
        (ErrorKind::Ambiguous, true, End::Delivered, 2),
        (ErrorKind::Refused, true, End::Refused, 1),
        (ErrorKind::TooLarge, true, End::Refused, 1),
        (ErrorKind::Fenced, true, End::Returned, 1),
        (ErrorKind::Closed, true, End::Returned, 1),
        (ErrorKind::Lost, true, End::Lost, 1),
    ];
    for (kind, idempotent, end, writes) in cases {
        let flaky = Flaky::new(Recorder::new()).fail(kind.into());
        let mut batcher = Batcher::new(flaky.clone()).limits(1).retry(steady());
        if idempotent {
            batcher = batcher.idempotent();
        }
        let (desk, _worker) = batcher.spawn();
        let outcome = eventually(desk.submit(1).await.unwrap().outcome()).await;
        advance(secs(10)).await;
        assert_eq!((outcome.end, flaky.writes()), (end, writes), "{kind:?}, idempotent: {idempotent}");
    }
}

/// Goal: a newer leader stops the batcher, which returns its ops and sends no more. Method: one op of three is fenced
/// while others wait.
#[tokio::test(start_paused = true)]
async fn a_fenced_batcher_stops_and_returns_its_ops() {
    let sink = Recorder::new();
    let gate = Gate::new(Flaky::new(sink.clone()).fail(SinkError::fenced("epoch 8")));
    let (desk, worker) = Batcher::new(gate.clone()).limits(1).spawn();
    desk.send_all([1, 2, 3]).await.unwrap();
    gate.open();
    let summary = at_once(worker.join()).await.unwrap();
    assert_eq!(
        summary.returned.iter().map(|returned| (returned.op, returned.in_flight)).collect::<Vec<_>>(),
        [(1, false), (2, false), (3, false)]
    );
    assert!(sink.is_empty() && desk.is_closed() && sink.is_closed());
}

/// Adds a step to the script of a sink.
type Trouble = fn(&Flaky<Recorder<u32>, u32>) -> Flaky<Recorder<u32>, u32>;

/// Goal: timeouts and panics are ambiguous: never tried again unless writing twice does no harm. Method: a hung write
/// under a write timeout, a panic, and a reply without verdicts.
#[tokio::test(start_paused = true)]
async fn timeouts_and_panics_are_not_tried_again_unless_idempotent() {
    for idempotent in [false, true] {
        let troubles: [Trouble; 3] = [|f| f.hang(1), |f| f.panic(1), Flaky::unanswered];
        for trouble in troubles {
            let flaky = Flaky::new(Recorder::new());
            trouble(&flaky);
            let mut batcher = Batcher::new(flaky.clone()).limits(Limits::new(1).write_timeout(ms(10))).retry(steady());
            if idempotent {
                batcher = batcher.idempotent();
            }
            let (desk, _worker) = batcher.spawn();
            let end = eventually(desk.submit(1).await.unwrap().outcome()).await.end;
            advance(secs(10)).await;
            let expected = if idempotent { (End::Delivered, 2) } else { (End::InDoubt, 1) };
            assert_eq!((end, flaky.writes()), expected);
        }
    }
}

/// Goal: a backoff longer than the clock can tell lasts for ever, as a linger does; it is no hot loop, and stops
/// no task. Method: a transient failure and a policy of `Duration::MAX`; a year later nothing may have been tried
/// again.
#[tokio::test(start_paused = true)]
async fn a_backoff_beyond_the_clock_is_waited_for() {
    let flaky = Flaky::new(Recorder::new()).fail(down());
    let (desk, worker) = Batcher::new(flaky.clone())
        .limits(Limits::new(1))
        .retry(Retry::exponential(Duration::MAX, Duration::MAX).max_attempts(10))
        .spawn();
    let ack = desk.submit(1).await.unwrap();
    advance(secs(365 * 24 * 3600)).await;
    assert_eq!((flaky.writes(), desk.stats().waiting, desk.stats().outcomes.lost), (1, 1, 0));
    let summary = at_once(worker.shutdown().into_future()).await.expect("the task is alive");
    assert_eq!(summary.returned.len(), 1);
    assert_eq!(ack.outcome().await.end, End::Returned);
}

/// Goal: an op marked `retry` goes back into the buffer, whatever the kind of the error. Method: the first write marks
/// the one op of its batch with `TooLarge`, the second takes it.
#[tokio::test(start_paused = true)]
async fn an_op_marked_retry_is_tried_again_even_if_the_error_says_too_large() {
    let sink = sink_fn(|batch: &mut Batch<u32>| {
        Box::pin(async move {
            if batch.attempt() == 1 {
                batch.retry(0, SinkError::too_large("not in this frame"));
            }
            Ok(batch.accept_all())
        })
    });
    let (desk, _worker) = Batcher::new(sink).limits(Limits::new(10)).retry(steady()).spawn();
    let outcome = desk.submit(1).await.unwrap().outcome().await;
    assert_eq!((outcome.end, outcome.attempts), (End::Delivered, 2));
}
