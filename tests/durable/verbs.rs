//! Promises of each verb, on a log that keeps what it confirmed.

use std::time::{Duration, SystemTime};

use roundlot::{
    AckError, DeadLetter, End, Limits, Overflow, Retry, Sink, SinkError, Stages,
    durable::{Durable, Handle, JoinError, Joined, OpStatus, SendError},
    stage,
    testing::{Flaky, Gate, MemoryFailure, MemoryLog, Recorder, advance, until_idle},
};

use crate::venue::Keyed;

type Op = (u32, u32);

/// Joins with a sink that every term gets a clone of.
async fn join<S: Sink<Op> + Clone>(log: &MemoryLog, sink: &S, stages: fn() -> Stages<Op>) -> Joined<Op> {
    let sink = sink.clone();
    Durable::new("orders", log.clone()).stages(stages).sink(move |_| sink.clone()).join().await.unwrap()
}

fn conserved<R: Clone + Send + 'static>(handle: &Handle<Op, R>) {
    let stats = handle.stats();
    let ended = stats.outcomes.total() + stats.repeats;
    assert_eq!(stats.accepted + stats.recovered, ended + stats.waiting + stats.in_flight, "{stats:?}");
}

/// Goal: an op is in the log when `send` returns, and its outcome when the ack resolves. Method: crash after each.
#[tokio::test(start_paused = true)]
async fn what_was_confirmed_survives_a_crash() {
    let (log, recorder) = (MemoryLog::new().sync_time(Duration::from_millis(1)), Recorder::new());
    let gate = Gate::new(recorder.clone());
    gate.shut();
    let orders = join(&log, &Keyed(gate), Stages::new).await;
    let desk = orders.handle();
    desk.send((1, 1)).await.unwrap();
    desk.send_all([(2, 2), (3, 3)]).await.unwrap();
    conserved(&desk);
    log.crash();
    drop((orders, desk));
    until_idle().await;
    assert!(recorder.is_empty());

    let orders = join(&log, &Keyed(recorder.clone()), Stages::new).await;
    let desk = orders.handle();
    assert_eq!(desk.stats().recovered, 3);
    let ack = desk.submit((4, 4)).await.unwrap();
    let id = ack.id();
    ack.await.unwrap();
    conserved(&desk);
    log.crash();
    drop((orders, desk));
    until_idle().await;

    let orders = join(&log, &Keyed(recorder.clone()), Stages::new).await;
    let desk = orders.handle();
    let OpStatus::Ended(outcome) = desk.outcome(id).await.unwrap() else { panic!("it has ended") };
    assert_eq!(outcome.end, End::Delivered);
    assert!(desk.flush().await.unwrap().is_ok());
    conserved(&desk);
    let mut written = recorder.ops();
    written.dedup();
    assert_eq!(written, [(1, 1), (2, 2), (3, 3), (4, 4)]);
}

/// Goal: what `send_all` gives back after a failure, and what the log holds, are all ops, in order. Method: crash at each
/// transaction of a call with chunks enough, before and after the sync; the log is read by the next life.
#[tokio::test(start_paused = true)]
async fn send_all_gives_back_what_is_not_in_the_log() {
    const OPS: u32 = 4500;
    let mut in_the_middle = 0;
    for failure in [MemoryFailure::CrashBefore, MemoryFailure::CrashAfter] {
        for at in 0..8 {
            let (log, recorder) = (MemoryLog::new().sync_time(Duration::from_millis(1)), Recorder::new());
            let gate = Gate::new(recorder.clone());
            gate.shut();
            let orders = join(&log, &Keyed(gate), Stages::new).await;
            let desk = orders.handle();
            desk.pause().await.unwrap();
            log.fail_at(log.transactions() + at, failure);
            let (in_doubt, rest) = match desk.send_all((0..OPS).map(|i| (i, 0))).await {
                Ok(()) => (Vec::new(), Vec::new()),
                Err(error) => {
                    assert!(matches!(error.reason(), SendError::InDoubt { .. } | SendError::Closed(())));
                    error.into_parts()
                }
            };
            log.crash();
            drop((orders, desk));
            until_idle().await;

            let orders = join(&log, &Keyed(recorder.clone()), Stages::new).await;
            let desk = orders.handle();
            let held = desk.stats().recovered as u32;
            desk.resume().await.unwrap();
            desk.flush().await.unwrap();
            let stored: Vec<u32> = recorder.ops().into_iter().map(|(i, _)| i).collect();
            assert_eq!(stored, (0..held).collect::<Vec<_>>(), "no gap, no other order");
            let (doubtful, back) = (in_doubt.len() as u32, rest.len() as u32);
            assert!(in_doubt.iter().map(|(_, (i, _))| *i).eq(OPS - back - doubtful..OPS - back));
            assert!(rest.iter().map(|(i, _)| *i).eq(OPS - back..OPS));
            assert!((OPS - back - doubtful..=OPS - back).contains(&held), "{held} {doubtful} {back}");
            in_the_middle += u32::from(0 < held && held < OPS);
        }
    }
    assert!(in_the_middle > 4, "{in_the_middle} crashes in the middle");
}

/// Goal: an op that may have landed is never sent twice to a sink that is not idempotent. Method: crash while it is written.
#[tokio::test(start_paused = true)]
async fn an_op_in_doubt_is_not_repeated() {
    let (log, recorder) = (MemoryLog::new(), Recorder::new());
    let gate = Gate::new(recorder.clone());
    gate.shut();
    let orders = join(&log, &gate, Stages::new).await;
    let desk = orders.handle();
    let ack = desk.submit((1, 1)).await.unwrap();
    let id = ack.id();
    until_idle().await;
    assert_eq!(gate.waiting(), 1);
    desk.send((2, 2)).await.unwrap();
    log.crash();
    drop((orders, desk));
    assert!(matches!(ack.await, Err(AckError::Detached { id: detached }) if detached == id));

    let orders = join(&log, &recorder, Stages::new).await;
    let desk = orders.handle();
    let report = desk.flush().await.unwrap();
    assert_eq!((report.outcomes.total(), report.others.in_doubt, report.others.delivered), (0, 1, 1));
    assert_eq!(recorder.ops(), [(2, 2)]);
    let letters = orders.dead_letters().list(10).await.unwrap();
    assert!(matches!(&letters[..], [(of, letter)] if *of == id && letter.is_in_doubt() && letter.op == (1, 1)));

    let new = orders.dead_letters().requeue(id).await.unwrap().unwrap();
    assert_ne!(new, id);
    assert_eq!(orders.dead_letters().requeue(id).await.unwrap(), None);
    desk.flush().await.unwrap();
    assert_eq!(recorder.ops(), [(2, 2), (1, 1)]);
    assert!(orders.dead_letters().list(10).await.unwrap().is_empty());
    conserved(&desk);
}

/// Goal: an op that may have landed and waits to be tried again is in doubt after a crash, too: it is not netted with what comes
/// later. Method: its first write lands without an answer, and the process crashes in its backoff.
#[tokio::test(start_paused = true)]
async fn an_op_that_waits_to_be_tried_again_stays_in_doubt() {
    let nets = || Stages::new().conflate_by(|op: &Op| op.0, |_: Op, _: Op| None::<Op>);
    let (log, recorder) = (MemoryLog::new(), Recorder::new());
    let flaky = Keyed(Flaky::new(recorder.clone()).land_and_fail(SinkError::ambiguous("no answer")));
    let hour = Duration::from_secs(3600);
    let durable = Durable::new("orders", log.clone()).stages(nets).retry(Retry::exponential(hour, hour));
    let orders = durable.sink(move |_| flaky.clone()).join().await.unwrap();
    let desk = orders.handle();
    desk.send((1, 1)).await.unwrap();
    until_idle().await;
    assert_eq!(recorder.ops(), [(1, 1)]);
    desk.pause().await.unwrap();
    log.crash();
    drop((orders, desk));
    until_idle().await;

    let orders = join(&log, &Keyed(recorder.clone()), nets).await;
    let desk = orders.handle();
    assert_eq!(desk.stats().recovered_in_doubt, 1);
    desk.send((1, 0)).await.unwrap();
    desk.resume().await.unwrap();
    desk.flush().await.unwrap();
    assert_eq!(recorder.ops(), [(1, 1), (1, 1), (1, 0)]);
    assert_eq!(desk.stats().outcomes.delivered, 2);
    conserved(&desk);
}

/// Goal: an id is accepted once, in one life and over two. Method: the same id again while it waits, after its outcome, and
/// after a restart.
#[tokio::test(start_paused = true)]
async fn an_id_is_accepted_once() {
    let (log, recorder) = (MemoryLog::new(), Recorder::new());
    let orders = join(&log, &recorder, Stages::new).await;
    let desk = orders.handle();
    desk.pause().await.unwrap();
    let id = desk.next_id(&(1, 1));
    assert!(matches!(desk.outcome(id).await.unwrap(), OpStatus::NotYetKnown));
    let acks = [desk.submit_as(id, (1, 1)).await.unwrap(), desk.submit_as(id, (1, 1)).await.unwrap()];
    assert!(matches!(desk.outcome(id).await.unwrap(), OpStatus::Waiting));
    desk.resume().await.unwrap();
    for ack in acks {
        ack.await.unwrap();
    }
    desk.submit_as(id, (1, 1)).await.unwrap().await.unwrap();
    conserved(&desk);
    orders.leave().await.unwrap();

    let orders = join(&log, &recorder, Stages::new).await;
    let desk = orders.handle();
    desk.submit_as(id, (1, 1)).await.unwrap().await.unwrap();
    desk.flush().await.unwrap();
    assert_eq!(recorder.ops(), [(1, 1)]);
    assert_eq!(desk.stats().repeats, 1);
    let unsent = format!("{}-0-{}", id.producer(), id.number() + 7).parse().unwrap();
    assert!(matches!(desk.outcome(unsent).await.unwrap(), OpStatus::NeverAccepted));
    conserved(&desk);
}

/// Goal: an id that the log has forgotten is refused, and never accepted anew. Method: let the horizon pass.
#[tokio::test(start_paused = true)]
async fn a_forgotten_id_is_refused() {
    let (log, recorder) = (MemoryLog::new(), Recorder::new());
    let sink = recorder.clone();
    let durable = Durable::new("orders", log).horizon(Duration::from_secs(60)).sink(move |_| sink.clone());
    let orders = durable.join().await.unwrap();
    let desk = orders.handle();
    let ack = desk.submit((1, 1)).await.unwrap();
    let id = ack.id();
    ack.await.unwrap();
    advance(Duration::from_secs(90)).await;
    desk.submit((2, 2)).await.unwrap().await.unwrap();
    until_idle().await;
    assert!(matches!(desk.outcome(id).await.unwrap(), OpStatus::Forgotten));
    let error = desk.send_as(id, (1, 1)).await.unwrap_err();
    assert!(matches!(error, SendError::Forgotten { op: (1, 1), id: of } if of == id));
    assert_eq!(recorder.ops(), [(1, 1), (2, 2)]);
}

/// Goal: an op that waits is not forgotten though later ones of its process are. Method: it is sent by its id and not taken until
/// the outcome of a later one has been purged and the process has died. Another one is repeated before it ends.
#[tokio::test(start_paused = true)]
async fn an_op_that_waits_is_not_taken_for_a_forgotten_one() {
    let (log, recorder) = (MemoryLog::new(), Recorder::new());
    let stages = || Stages::new().partition_by(|op: &Op| op.0);
    let join = async |sink: &Gate<Recorder<Op>>| {
        let sink = sink.clone();
        let durable = Durable::new("orders", log.clone()).stages(stages).horizon(Duration::from_secs(1));
        durable.limits(Limits::new(10).max_in_flight(1)).sink(move |_| Keyed(sink.clone())).join().await.unwrap()
    };
    let gate = Gate::new(recorder.clone());
    gate.open();
    let orders = join(&gate).await;
    let desk = orders.handle();
    let (first, second) = (desk.next_id(&(1, 1)), desk.next_id(&(2, 2)));
    desk.submit((3, 3)).await.unwrap().await.unwrap();
    gate.shut();
    desk.send((4, 4)).await.unwrap();
    until_idle().await;
    desk.send_as(first, (1, 1)).await.unwrap();
    for _ in 0..3 {
        desk.send_as(second, (2, 2)).await.unwrap();
    }
    advance(Duration::from_secs(60)).await;
    assert!(matches!(desk.outcome(first).await.unwrap(), OpStatus::Waiting));
    until_idle().await;
    log.crash();
    drop((orders, desk));
    until_idle().await;

    let gate = Gate::new(recorder.clone());
    gate.open();
    let orders = join(&gate).await;
    let desk = orders.handle();
    desk.flush().await.unwrap();
    let mut arrived = recorder.ops();
    arrived.sort_unstable();
    assert_eq!(arrived, [(1, 1), (2, 2), (3, 3), (4, 4)]);
    assert!(desk.outcome(first).await.unwrap().is_ended());
    assert_eq!(desk.stats().repeats, 2);
    conserved(&desk);
    // Outcomes are forgotten in their time, since nothing that waits may repeat their ops.
    advance(Duration::from_secs(60)).await;
    desk.submit((5, 5)).await.unwrap().await.unwrap();
    until_idle().await;
    assert!(matches!(desk.outcome(first).await.unwrap(), OpStatus::Forgotten));
    assert!(matches!(desk.outcome(second).await.unwrap(), OpStatus::Forgotten));
}

/// Goal: what was accepted is merged, netted and prioritized, also after a restart. Method: ops wait over one.
#[tokio::test(start_paused = true)]
async fn rules_hold_over_a_restart() {
    fn stages() -> Stages<Op> {
        let merge = |waiting: Op, newer: Op| if newer.1 == 0 { None } else { Some((waiting.0, waiting.1 + newer.1)) };
        Stages::new().conflate_by(|op: &Op| op.0, merge).priority_by(|op| op.0)
    }
    let (log, recorder) = (MemoryLog::new(), Recorder::new());
    let orders = join(&log, &recorder, stages).await;
    let desk = orders.handle();
    desk.pause().await.unwrap();
    desk.send_all([(1, 1), (2, 5), (3, 1)]).await.unwrap();
    orders.leave().await.unwrap();
    assert!(desk.send((1, 1)).await.unwrap_err().is_closed());

    let orders = join(&log, &recorder, stages).await;
    let desk = orders.handle();
    assert!(desk.stats().paused);
    desk.send_all([(1, 10), (2, 0)]).await.unwrap();
    desk.resume().await.unwrap();
    let report = desk.flush().await.unwrap();
    assert_eq!(recorder.ops(), [(3, 1), (1, 11)]);
    let all = desk.stats().outcomes;
    assert_eq!((all.delivered, all.conflated, all.netted), (2, 1, 2));
    assert_eq!((report.outcomes.total(), report.others.total()), (2, 3));
    conserved(&desk);
}

/// Goal: what was withdrawn is gone for good. Method: withdraw, crash at once, join again.
#[tokio::test(start_paused = true)]
async fn withdrawn_ops_do_not_come_back() {
    let (log, recorder) = (MemoryLog::new().sync_time(Duration::from_millis(5)), Recorder::new());
    let orders = join(&log, &recorder, Stages::new).await;
    let desk = orders.handle();
    desk.pause().await.unwrap();
    desk.send_all([(1, 1), (2, 2), (3, 3)]).await.unwrap();
    let ack = desk.submit((4, 4)).await.unwrap();
    assert_eq!(desk.withdraw(|op| op.0 % 2 == 0).await.unwrap(), [(2, 2), (4, 4)]);
    assert!(matches!(ack.await, Err(AckError::Withdrawn)));
    log.crash();
    drop((orders, desk));
    let orders = join(&log, &recorder, Stages::new).await;
    let desk = orders.handle();
    desk.resume().await.unwrap();
    desk.flush().await.unwrap();
    assert_eq!(recorder.ops(), [(1, 1), (3, 3)]);
}

/// Goal: one bound, which ops in the log hold, too. Method: a full buffer, over a restart.
#[tokio::test(start_paused = true)]
async fn ops_in_the_log_hold_permits() {
    let (log, recorder) = (MemoryLog::new(), Recorder::new());
    let limits = Limits::new(10).max_pending(3).overflow(Overflow::Reject);
    let joined = async || {
        let sink = recorder.clone();
        let durable = Durable::new("orders", log.clone()).limits(limits.clone());
        let stages = || Stages::new().conflate_by(|op: &Op| (op.0 > 5).then_some(op.0), stage::latest);
        durable.stages(stages).sink(move |_| sink.clone()).join().await.unwrap()
    };
    let orders = joined().await;
    let desk = orders.handle();
    desk.pause().await.unwrap();
    desk.send_all([(1, 1), (2, 2), (3, 3)]).await.unwrap();
    assert!(matches!(desk.send((4, 4)).await, Err(SendError::Full((4, 4)))));
    orders.leave().await.unwrap();
    let orders = joined().await;
    let desk = orders.handle();
    assert!(matches!(desk.send((4, 4)).await, Err(SendError::Full((4, 4)))));
    assert_eq!(desk.withdraw(|op| op.0 == 1).await.unwrap().len(), 1);
    desk.send((6, 1)).await.unwrap();
    assert!(matches!(desk.send((6, 2)).await, Err(SendError::Full(_))));
    desk.set_limits(limits.clone().max_pending(4)).unwrap();
    for value in 2..20 {
        desk.send((6, value)).await.unwrap(); // merged away, which frees its permit
        until_idle().await;
    }
    desk.resume().await.unwrap();
    desk.flush().await.unwrap();
    assert_eq!(recorder.ops(), [(2, 2), (3, 3), (6, 19)]);
    for _ in 0..4 {
        desk.send((1, 1)).await.unwrap();
    }
    conserved(&desk);
}

/// Goal: a failure of the log that is certain is tried again, and one of unknown result ends the term; either way each op ends
/// once. Method: every transaction in turn fails in every way.
#[tokio::test(start_paused = true)]
async fn failures_of_the_log_lose_nothing() {
    use MemoryFailure::{Refused, UnknownLost, UnknownStored};
    for failure in [Refused, UnknownLost, UnknownStored] {
        for number in 2..30 {
            let (log, recorder) = (MemoryLog::new(), Recorder::new());
            let orders = join(&log, &Keyed(recorder.clone()), Stages::new).await;
            let desk = orders.handle();
            log.fail_at(number, failure);
            let mut acks = Vec::new();
            for op in 0..5 {
                desk.send((op, 0)).await.unwrap();
                acks.push(desk.submit((op, 1)).await.unwrap());
                until_idle().await;
            }
            for ack in acks {
                ack.await.unwrap();
            }
            desk.flush().await.unwrap();
            let mut ops = recorder.ops();
            ops.dedup();
            let expected: Vec<Op> = (0..5).flat_map(|op| [(op, 0), (op, 1)]).collect();
            assert_eq!(ops, expected, "{failure:?} at {number}");
            assert_eq!(desk.stats().outcomes.delivered, 10);
            conserved(&desk);
        }
    }
}

/// Goal: an op that no process has written is not in doubt, whatever the log's failures are. Method: every transaction in turn
/// has no known result, before a sink that is not idempotent.
#[tokio::test(start_paused = true)]
async fn only_what_was_written_is_in_doubt() {
    for failure in [MemoryFailure::UnknownLost, MemoryFailure::UnknownStored] {
        for number in 2..30 {
            let (log, recorder) = (MemoryLog::new(), Recorder::new());
            let orders = join(&log, &recorder, Stages::new).await;
            let desk = orders.handle();
            log.fail_at(number, failure);
            let mut acks = Vec::new();
            for op in 0..8 {
                acks.push((op, desk.submit((op, 0)).await.unwrap()));
            }
            for (op, ack) in acks {
                let (end, times) = (ack.outcome().await.end, recorder.ops().iter().filter(|of| of.0 == op).count());
                let is_right = matches!((end, times), (End::Delivered | End::InDoubt, 1));
                assert!(is_right, "{failure:?} at {number}: op {op} is {end}, and was written {times} times");
            }
            conserved(&desk);
        }
    }
}

/// Goal: refused, exhausted and doubtful ops are in the log with their outcome. Method: one of each.
#[tokio::test(start_paused = true)]
async fn dead_letters_are_kept() {
    let (log, recorder) = (MemoryLog::new(), Recorder::new());
    let flaky = Flaky::new(recorder.clone())
        .fail(SinkError::refused("no such symbol"))
        .fail(SinkError::ambiguous("no answer"))
        .fail_times(2, SinkError::transient("busy"));
    let sink = flaky.clone();
    let retry = Retry::exponential(Duration::from_millis(1), Duration::from_millis(1)).max_attempts(2);
    let orders = Durable::new("orders", log.clone()).retry(retry).sink(move |_| sink.clone()).join().await.unwrap();
    let desk = orders.handle();
    let mut ends = Vec::new();
    for op in 1..=4 {
        ends.push(desk.submit((op, 0)).await.unwrap().outcome().await.end);
    }
    assert_eq!(ends, [End::Refused, End::InDoubt, End::Exhausted, End::Delivered]);
    orders.leave().await.unwrap();

    let orders = join(&log, &recorder, Stages::new).await;
    let letters = orders.dead_letters().list(10).await.unwrap();
    let found: Vec<_> = letters.iter().map(|(_, letter)| (letter.op.0, letter.end(), letter.attempts)).collect();
    assert_eq!(found, [(1, End::Refused, 1), (2, End::InDoubt, 1), (3, End::Exhausted, 2)]);
    assert!(orders.dead_letters().discard(letters[0].0).await.unwrap());
    assert!(!orders.dead_letters().discard(letters[0].0).await.unwrap());
    assert_eq!(orders.dead_letters().list(10).await.unwrap().len(), 2);
}

/// Goal: an op past its time is never sent, by the wall clock. Method: it expires while paused, and another one does not.
#[tokio::test(start_paused = true)]
async fn ops_expire_by_the_time_of_day() {
    let (log, recorder) = (MemoryLog::new(), Recorder::new());
    // The log's clock begins with this second.
    let stages = || {
        Stages::new()
            .expire_at(|op: &Op| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + u64::from(op.1))))
    };
    let sink = recorder.clone();
    let durable = Durable::new("orders", log).stages(stages).sink(move |_| sink.clone());
    let orders = durable.join().await.unwrap();
    let desk = orders.handle();
    desk.pause().await.unwrap();
    let ack = desk.submit((1, 60)).await.unwrap();
    desk.send((2, 600)).await.unwrap();
    advance(Duration::from_secs(61)).await;
    desk.resume().await.unwrap();
    assert!(matches!(ack.await, Err(AckError::Expired)));
    desk.flush().await.unwrap();
    assert_eq!(recorder.ops(), [(2, 600)]);
}

/// Goal: an op past its time is never sent though the clock goes on while that is checked. Method: a time that is long over, and
/// the clock is not paused.
#[tokio::test]
async fn ops_expire_while_the_clock_goes_on() {
    let recorder = Recorder::new();
    let stages = || Stages::new().expire_at(|op: &Op| (op.1 == 1).then_some(SystemTime::UNIX_EPOCH));
    let orders = join(&MemoryLog::new(), &recorder, stages).await;
    let desk = orders.handle();
    assert!(matches!(desk.submit((1, 1)).await.unwrap().await, Err(AckError::Expired)));
    desk.submit((2, 2)).await.unwrap().await.unwrap();
    assert_eq!(recorder.ops(), [(2, 2)]);
}

/// Goal: a batcher that has joined a paused log says so at once. Method: it joins many times, with the leader on another thread.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_is_known_to_be_paused_when_it_is_joined() {
    let log = MemoryLog::new();
    let orders = join(&log, &Recorder::new(), Stages::new).await;
    orders.handle().pause().await.unwrap();
    orders.leave().await.unwrap();
    for _ in 0..200 {
        let orders = join(&log, &Recorder::new(), Stages::new).await;
        assert!(orders.stats().paused && orders.stats().leading == 1, "{:?}", orders.stats());
        orders.leave().await.unwrap();
    }
}

/// Goal: a batcher that leaves waits for what is being written, and a write that takes too long is in doubt. Method: a gate.
#[tokio::test(start_paused = true)]
async fn leaving_waits_for_writes() {
    let (log, recorder) = (MemoryLog::new(), Recorder::new());
    let gate = Gate::new(recorder.clone());
    gate.shut();
    let orders = join(&log, &gate, Stages::new).await;
    let desk = orders.handle();
    let first = desk.submit((1, 1)).await.unwrap();
    until_idle().await;
    let second = desk.submit((2, 2)).await.unwrap();
    let leaving = tokio::spawn(orders.leave().into_future());
    until_idle().await;
    assert!(!leaving.is_finished());
    gate.pass(1);
    leaving.await.unwrap().unwrap();
    first.await.unwrap();
    assert!(matches!(second.await, Err(AckError::Detached { .. })));

    let orders = join(&log, &gate, Stages::new).await;
    until_idle().await;
    assert_eq!(gate.waiting(), 1);
    let stats = orders.leave().within(Duration::from_secs(1)).await.unwrap();
    assert_eq!(stats.outcomes.total(), 0);
    let orders = join(&log, &recorder, Stages::new).await;
    let report = orders.handle().flush().await.unwrap();
    assert_eq!((report.others.in_doubt, recorder.ops()), (1, vec![(1, 1)]));
}

/// Goal: shards are led by themselves, and a key stays in its shard. Method: four shards, ops of ten keys.
#[tokio::test(start_paused = true)]
async fn shards_keep_partitions_whole() {
    let (log, recorder) = (MemoryLog::new(), Recorder::new());
    let join = async |shards: u16| {
        let sink = recorder.clone();
        Durable::new("orders", log.clone())
            .stages(|| Stages::new().partition_by(|op: &Op| op.0))
            .shards(shards, |key: &u32| key.to_le_bytes())
            .sink(move |_| sink.clone())
            .join()
            .await
    };
    let orders = join(4).await.unwrap();
    let desk = orders.handle();
    desk.pause().await.unwrap();
    for round in 0..10 {
        desk.send_all((0..10).map(|key| (key, round))).await.unwrap();
    }
    let ids: Vec<_> = (0..10).map(|key| desk.next_id(&(key, 0)).shard()).collect();
    assert!(ids.iter().any(|shard| *shard != ids[0]));
    assert_eq!(desk.stats().leading, 4);
    orders.leave().await.unwrap();
    assert!(matches!(join(3).await, Err(JoinError::Shards { has: 4, wanted: 3 })));
    let orders = join(4).await.unwrap();
    let desk = orders.handle();
    desk.resume().await.unwrap();
    desk.flush().await.unwrap();
    for key in 0..10 {
        let of_key: Vec<Op> = recorder.ops().into_iter().filter(|op| op.0 == key).collect();
        assert_eq!(of_key, (0..10).map(|round| (key, round)).collect::<Vec<_>>());
    }
    conserved(&desk);
}

/// Goal: settings that can't be had with a log are refused, and say why. Method: each of them.
#[tokio::test(start_paused = true)]
async fn settings_are_refused_at_join() {
    type Set = fn(Durable<Op, MemoryLog>) -> Durable<Op, MemoryLog>;
    let cases: [(&str, Set); 6] = [
        ("overflow", |durable| durable.limits(Limits::new(1).overflow(Overflow::EvictOldest))),
        ("dedup_by", |durable| durable.stages(|| Stages::new().dedup_by(|op: &Op| op.0, Duration::from_secs(1)))),
        ("expire_by", |durable| durable.stages(|| Stages::new().expire_by(|_: &Op| None::<std::time::Instant>))),
        ("append_timeout", |durable| durable.append_timeout(Duration::from_secs(3600))),
        ("max_items", |durable| durable.limits(0)),
        ("shards need a partition_by", |durable| durable.shards(2, |key: &String| key.clone())),
    ];
    for (expected, set) in cases {
        let recorder = Recorder::<Op>::new();
        let joined = set(Durable::new("orders", MemoryLog::new())).sink(move |_| recorder.clone()).join().await;
        let error = joined.unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
    let (log, recorder) = (MemoryLog::new(), Recorder::new());
    let _orders = join(&log, &recorder, Stages::new).await;
    let again = Durable::<Op, _>::new("orders", log.clone()).sink(move |_| recorder.clone()).join().await;
    assert!(matches!(again, Err(JoinError::InUse(_))));
}

/// Goal: a full log takes nothing, and goes on when there is room. Method: a small one behind a gate.
#[tokio::test(start_paused = true)]
async fn a_full_log_can_drain() {
    let (log, recorder) = (MemoryLog::new().capacity(200), Recorder::new());
    let orders = join(&log, &recorder, Stages::new).await;
    let desk = orders.handle();
    desk.pause().await.unwrap();
    let error = loop {
        if let Err(error) = desk.send((7, 7)).await {
            break error;
        }
    };
    assert!(error.is_in_doubt(), "its frame is still being tried");
    desk.resume().await.unwrap();
    advance(Duration::from_secs(2)).await;
    desk.flush().await.unwrap();
    assert_eq!(recorder.len() as u64, desk.stats().accepted);
    desk.send((8, 8)).await.unwrap();
    conserved(&desk);
}

/// Goal: a dead letter stays in the log until its sink has accepted it. Method: the sink fails, in two lives.
#[tokio::test(start_paused = true)]
async fn dead_letters_wait_for_their_sink() {
    let (log, letters) = (MemoryLog::new(), Recorder::new());
    let join = async |letters: Flaky<Recorder<DeadLetter<Op>>, DeadLetter<Op>>| {
        let sink = Flaky::new(Recorder::new()).fail_ops(|op: &Op| (op.0 > 2).then(|| SinkError::refused("too much")));
        let durable = Durable::new("orders", log.clone()).dead_letters(letters).sink(move |_| sink.clone());
        durable.join().await.unwrap()
    };
    let orders = join(Flaky::new(letters.clone()).fail_times(100, SinkError::outage("away"))).await;
    orders.handle().send_all([(1, 1), (3, 3), (5, 5)]).await.unwrap();
    orders.handle().flush().await.unwrap();
    advance(Duration::from_secs(3)).await;
    assert_eq!((letters.len(), orders.dead_letters().list(9).await.unwrap().len()), (0, 2));
    orders.leave().await.unwrap();

    let orders = join(Flaky::new(letters.clone()).fail(SinkError::transient("not yet"))).await;
    advance(Duration::from_secs(3)).await;
    orders.handle().send((7, 7)).await.unwrap();
    orders.handle().flush().await.unwrap();
    until_idle().await;
    let taken: Vec<Op> = letters.ops().into_iter().map(|letter| letter.op).collect();
    assert_eq!(taken, [(3, 3), (5, 5), (7, 7)]);
    assert!(orders.dead_letters().list(9).await.unwrap().is_empty());
    orders.leave().await.unwrap();
}

/// Goal: a dead letter that is sent again is sent once and holds one permit, whatever its commit says. Method: commits of unknown
/// result, stored and lost, with a single permit.
#[tokio::test(start_paused = true)]
async fn a_letter_is_requeued_once_though_the_commit_has_no_known_result() {
    for failure in [MemoryFailure::UnknownStored, MemoryFailure::UnknownLost] {
        let (log, recorder) = (MemoryLog::new(), Recorder::new());
        let flaky = Flaky::new(recorder.clone()).fail(SinkError::refused("no"));
        let orders = Durable::new("orders", log.clone())
            .limits(Limits::new(10).max_pending(1))
            .sink(move |_| flaky.clone())
            .join()
            .await
            .unwrap();
        let desk = orders.handle();
        let ack = desk.submit((1, 1)).await.unwrap();
        let id = ack.id();
        assert!(ack.await.is_err());
        assert!(!desk.flush().await.unwrap().is_ok());
        until_idle().await;
        log.fail_next(failure);
        let new = orders.dead_letters().requeue(id).await.unwrap();
        assert!(new.is_some_and(|new| new != id));
        assert!(desk.flush().await.unwrap().is_ok());
        assert_eq!(recorder.ops(), [(1, 1)]);
        desk.send((2, 2)).await.unwrap();
        assert!(desk.flush().await.unwrap().is_ok());
        assert_eq!(recorder.ops(), [(1, 1), (2, 2)]);
        conserved(&desk);
    }
}

/// Goal: asking about an op does not spin while the log fails. Method: five failures; a loop without pauses takes no time.
#[tokio::test(start_paused = true)]
async fn a_question_pauses_while_the_log_fails() {
    let (log, recorder) = (MemoryLog::new(), Recorder::new());
    let orders = join(&log, &recorder, Stages::new).await;
    let desk = orders.handle();
    let ack = desk.submit((1, 1)).await.unwrap();
    let id = ack.id();
    ack.await.unwrap();
    until_idle().await;
    let start = tokio::time::Instant::now();
    log.fail_reads(5);
    assert!(desk.outcome(id).await.unwrap().is_ended());
    assert!(start.elapsed() >= Duration::from_millis(50), "{:?}", start.elapsed());
}

/// Goal: a key takes its ops out, of all that was accepted, and no others; one of another type is an error. Method: two shards,
/// keys in both, a restart in a pause.
#[tokio::test(start_paused = true)]
async fn ops_are_withdrawn_by_their_key() {
    let (log, recorder) = (MemoryLog::new(), Recorder::new());
    let join = async || {
        let sink = recorder.clone();
        let stages = || {
            Stages::new().partition_by(|op: &Op| op.0 % 7).conflate_by(
                |op: &Op| (op.0 > 0).then_some(op.0),
                |waiting, newer| stage::Merge::Apart { waiting, newer },
            )
        };
        let durable = Durable::new("orders", log.clone()).stages(stages).shards(2, |key: &u32| key.to_le_bytes());
        durable.sink(move |_| sink.clone()).join().await.unwrap()
    };
    let orders = join().await;
    let desk = orders.handle();
    desk.pause().await.unwrap();
    desk.send_all((0..20).map(|op| (op % 5, op))).await.unwrap();
    orders.leave().await.unwrap();
    let orders = join().await;
    let desk = orders.handle();
    assert!(desk.withdraw_key("three").await.is_err());
    assert!(desk.withdraw_key(None::<u32>).await.unwrap().is_empty());
    assert_eq!(desk.withdraw_key(3_u32).await.unwrap(), [(3, 3), (3, 8), (3, 13), (3, 18)]);
    assert!(desk.withdraw_key(3_u32).await.unwrap().is_empty());
    desk.resume().await.unwrap();
    desk.flush().await.unwrap();
    assert_eq!((recorder.len(), recorder.ops().iter().filter(|op| op.0 == 3).count()), (16, 0));
    conserved(&desk);
}

/// Goal: the lag is the age of the oldest op that has not ended, over a restart, too. Method: ops of different ages, of which the
/// younger ends first.
#[tokio::test(start_paused = true)]
async fn the_lag_is_the_age_of_the_oldest_op() {
    let (log, recorder) = (MemoryLog::new(), Recorder::new());
    let orders = join(&log, &recorder, || Stages::new().partition_by(|op: &Op| op.0)).await;
    let desk = orders.handle();
    assert!(desk.is_leading() && desk.lag().is_zero());
    desk.pause().await.unwrap();
    desk.send((1, 1)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    desk.send((2, 2)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(desk.lag().as_secs(), 15);
    assert_eq!(desk.withdraw(|op| op.0 == 2).await.unwrap(), [(2, 2)]);
    desk.send((3, 3)).await.unwrap();
    assert_eq!(desk.lag().as_secs(), 15);
    orders.leave().await.unwrap();
    assert!(!desk.is_leading());

    let orders = join(&log, &recorder, Stages::new).await;
    let desk = orders.handle();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(desk.lag().as_secs(), 20);
    assert_eq!(desk.withdraw(|op| op.0 == 1).await.unwrap(), [(1, 1)]);
    assert_eq!(desk.lag().as_secs(), 5);
    desk.resume().await.unwrap();
    desk.flush().await.unwrap();
    assert!(desk.lag().is_zero());
}

/// Goal: a wall clock that jumps expires nothing before it has been steady for ten seconds, and one behind the log is not believed.
/// Method: a jump that is taken back, one that stays, and a restart with a clock that was set back.
#[tokio::test(start_paused = true)]
async fn a_jump_of_the_wall_clock_holds_what_can_expire() {
    let (log, recorder) = (MemoryLog::new(), Recorder::new());
    let (start, hour) = (log.now(), Duration::from_secs(3600));
    let join = async || {
        let sink = recorder.clone();
        let stages = move || {
            Stages::new().expire_at(move |op: &Op| (op.1 > 0).then(|| start + Duration::from_secs(op.1.into())))
        };
        Durable::new("orders", log.clone()).stages(stages).sink(move |_| sink.clone()).join().await.unwrap()
    };
    let orders = join().await;
    let desk = orders.handle();
    log.set_wall(log.now() + hour);
    desk.send_all([(1, 1800), (2, 0)]).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(recorder.is_empty(), "the clock is in doubt");
    log.set_wall(log.now() - hour);
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert!(recorder.is_empty(), "the clock is in doubt");
    tokio::time::sleep(Duration::from_secs(3590)).await;
    // Frames of the wrong time are in the log, and so it is not believed before that.
    desk.flush().await.unwrap();
    assert_eq!(recorder.ops(), [(2, 0)]);
    assert_eq!(desk.stats().outcomes[End::Expired], 1);

    log.set_wall(log.now() + hour);
    desk.send((3, 2 * 3600)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(11)).await;
    desk.flush().await.unwrap();
    assert_eq!(desk.stats().outcomes[End::Expired], 2, "the new time counts");
    desk.pause().await.unwrap();
    desk.send((4, 0)).await.unwrap();
    orders.leave().await.unwrap();

    log.set_wall(log.now() - Duration::from_secs(60));
    let orders = join().await;
    let desk = orders.handle();
    desk.resume().await.unwrap();
    tokio::time::sleep(Duration::from_secs(50)).await;
    assert_eq!(recorder.len(), 1, "the log was written later than it is now");
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(recorder.ops(), [(2, 0), (4, 0)]);
    conserved(&desk);
}

/// Goal: withdrawn ops are handed back, or an error says that they may be withdrawn; never neither. Method: two commits in a row have an
/// unknown result, each of which is stored or lost, from each transaction of a withdrawal on.
#[tokio::test(start_paused = true)]
async fn withdrawn_ops_are_never_lost_without_a_word() {
    use MemoryFailure::{UnknownLost, UnknownStored};
    for (first, second) in [(UnknownStored, UnknownStored), (UnknownStored, UnknownLost), (UnknownLost, UnknownStored)]
    {
        for at in 0..4 {
            let (log, recorder) = (MemoryLog::new(), Recorder::new());
            let orders = join(&log, &Keyed(recorder.clone()), Stages::new).await;
            let desk = orders.handle();
            desk.pause().await.unwrap();
            desk.send((1, 1)).await.unwrap();
            until_idle().await;
            log.fail_at(log.transactions() + at, first);
            log.fail_at(log.transactions() + at + 1, second);
            let withdrawn = desk.withdraw(|_| true).await;
            desk.resume().await.unwrap();
            desk.flush().await.unwrap();
            let arrived = recorder.ops().len();
            match withdrawn {
                Ok(ops) => assert_eq!(ops.len() + arrived, 1, "{first:?} {second:?} {at}"),
                Err(_) => assert!(arrived <= 1),
            }
            conserved(&desk);
        }
    }
}

/// Goal: the op of a dead letter that was sent again is counted once, whoever is told of it when. Method: a command comes at each time of
/// the commit.
#[tokio::test(start_paused = true)]
async fn a_dead_letter_that_is_sent_again_counts_once() {
    for wait in 0..8 {
        let (log, recorder) = (MemoryLog::new().sync_time(Duration::from_millis(5)), Recorder::new());
        let flaky = Flaky::new(recorder.clone()).fail(SinkError::refused("no"));
        let limits = Limits::new(1).max_pending(1).overflow(Overflow::Reject);
        let durable = Durable::new("orders", log.clone()).limits(limits);
        let orders = durable.sink(move |_| Keyed(flaky.clone())).join().await.unwrap();
        let desk = orders.handle();
        let ack = desk.submit((1, 1)).await.unwrap();
        let id = ack.id();
        ack.await.unwrap_err();
        let pausing = async {
            tokio::time::sleep(Duration::from_millis(wait)).await;
            desk.pause().await.unwrap();
        };
        let letters = orders.dead_letters();
        let (requeued, ()) = tokio::join!(letters.requeue(id), pausing);
        requeued.unwrap().unwrap();
        desk.resume().await.unwrap();
        desk.flush().await.unwrap();
        let stats = desk.stats();
        assert_eq!((stats.outcomes.refused, stats.outcomes.delivered), (1, 1), "{wait}");
        conserved(&desk);
        desk.pause().await.unwrap();
        desk.send((2, 2)).await.unwrap();
        assert!(desk.send((3, 3)).await.is_err(), "one permit, and no more");
        orders.leave().await.unwrap();
    }
}

/// Goal: an op that a fenced sink gave back is neither in doubt nor blamed. Method: a sink that says so several times.
#[tokio::test(start_paused = true)]
async fn a_fenced_sink_puts_nothing_in_doubt() {
    for is_idempotent in [false, true] {
        let (log, recorder) = (MemoryLog::new().sync_time(Duration::from_millis(1)), Recorder::new());
        let flaky = Flaky::new(recorder.clone()).fail_times(8, SinkError::fenced("a newer leader"));
        let ack = if is_idempotent {
            let orders = join(&log, &Keyed(flaky), Stages::new).await;
            let ack = orders.handle().submit((1, 1)).await.unwrap();
            tokio::time::sleep(Duration::from_secs(60)).await;
            orders.leave().await.unwrap();
            ack
        } else {
            let orders = join(&log, &flaky, Stages::new).await;
            let ack = orders.handle().submit((1, 1)).await.unwrap();
            tokio::time::sleep(Duration::from_secs(60)).await;
            orders.leave().await.unwrap();
            ack
        };
        ack.await.expect("it was not written, and then it was");
        assert_eq!(recorder.ops(), [(1, 1)]);
    }
}

/// Goal: a shard with nothing to do does not detach the callers of another one that still writes when the process leaves. Method: two
/// shards, one of which writes while `leave` begins.
#[tokio::test(start_paused = true)]
async fn shards_that_have_left_detach_no_callers_of_others() {
    let (log, recorder) = (MemoryLog::new().sync_time(Duration::from_millis(1)), Recorder::new());
    let gate = Gate::new(Keyed(recorder.clone()));
    gate.shut();
    let sink = gate.clone();
    let orders = Durable::new("orders", log).stages(|| Stages::new().partition_by(|op: &Op| op.0));
    let orders = orders.shards(2, |key: &u32| key.to_le_bytes()).sink(move |_| sink.clone()).join().await.unwrap();
    let ack = orders.handle().submit((1, 1)).await.unwrap();
    advance(Duration::from_millis(100)).await;
    let leaving = tokio::spawn(orders.leave().into_future());
    advance(Duration::from_millis(100)).await;
    gate.open();
    leaving.await.unwrap().unwrap();
    ack.await.expect("it was written, and the record of that has committed");
    assert_eq!(recorder.ops(), [(1, 1)]);
}
