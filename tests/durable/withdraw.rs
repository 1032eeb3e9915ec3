//! Ops that a process withdraws by their key while another one leads, and ops of a transactional sink that are withdrawn.

use std::{collections::BTreeSet, time::Duration};

use roundlot::{
    AckError, End, Limits, Stages,
    durable::{Durable, Handle, Joined, OpStatus, Stats, WithdrawKeyError},
    stage,
    testing::{Gate, MemoryFailure, MemoryLog, Recorder, until_idle},
};

use crate::{
    nodes::{Rows, rows},
    venue::Keyed,
};

type Op = (u32, u32);

/// Joins with stages that keep ops of a key apart.
async fn join(log: &MemoryLog, recorder: &Recorder<Op>) -> Joined<Op> {
    let sink = Keyed(recorder.clone());
    let stages = || Stages::new().conflate_by(|op: &Op| op.0, |waiting, newer| stage::Merge::Apart { waiting, newer });
    let orders = Durable::new("orders", log.clone()).stages(stages).limits(Limits::new(10).max_pending(8));
    orders.sink(move |_| sink.clone()).join().await.unwrap()
}

fn conserved(stats: &Stats) {
    let came = stats.accepted + stats.recovered + stats.received;
    let went = stats.outcomes.total() + stats.repeats + stats.handed_over + stats.waiting + stats.in_flight;
    assert_eq!(came, went, "{stats:?}");
}

/// Sends an op, and then a request for its key, which is on its way when this returns.
async fn begin(desk: &Handle<Op>, key: u32) -> tokio::task::JoinHandle<Result<Vec<Op>, WithdrawKeyError>> {
    let desk = desk.clone();
    let call = tokio::spawn(async move { desk.withdraw_key(key).await });
    tokio::time::sleep(Duration::from_millis(1)).await;
    call
}

/// Goal: a follower withdraws what all processes have sent under a key, and nothing else, though nothing is sent and its buffer is full;
/// all callers hear of it, and all permits come back. Method: two processes in a pause, and a follower without a permit.
#[tokio::test(start_paused = true)]
async fn a_follower_withdraws_by_a_key() {
    let (log, recorder) = (MemoryLog::new().sync_time(Duration::from_millis(1)), Recorder::new());
    let leader = join(&log, &recorder).await;
    let follower = join(&log.another_process(), &recorder).await;
    let (of_leader, of_follower) = (leader.handle(), follower.handle());
    of_follower.pause().await.unwrap();
    let mut acks = vec![of_leader.submit((1, 0)).await.unwrap(), of_follower.submit((1, 1)).await.unwrap()];
    of_leader.send((2, 2)).await.unwrap();
    acks.push(of_leader.submit((1, 3)).await.unwrap());
    for i in 4..11 {
        of_follower.send((3, i)).await.unwrap();
    }
    let full = tokio::time::timeout(Duration::from_secs(60), of_follower.send((3, 11))).await;
    assert!(full.is_err(), "the follower has no permit");

    assert!(of_follower.withdraw_key(7_u32).await.unwrap().is_empty());
    assert_eq!(of_follower.withdraw_key(1_u32).await.unwrap(), [(1, 0), (1, 1), (1, 3)]);
    for ack in acks {
        assert!(matches!(ack.await, Err(AckError::Withdrawn)));
    }
    assert!(of_follower.withdraw_key(1_u32).await.unwrap().is_empty());
    // The leader needs no request in the log.
    let before = log.transactions();
    assert_eq!(of_leader.withdraw_key(2_u32).await.unwrap(), [(2, 2)]);
    assert_eq!(log.transactions(), before + 1);
    assert!(matches!(of_follower.withdraw_key("one").await, Err(WithdrawKeyError::WrongKey(_))));
    assert!(recorder.is_empty());

    of_follower.resume().await.unwrap();
    of_follower.flush().await.unwrap();
    let sent: Vec<u32> = recorder.ops().iter().map(|op| op.1).collect();
    assert_eq!(sent, (4..11).collect::<Vec<_>>());
    for desk in [&of_leader, &of_follower] {
        for i in 100..120 {
            tokio::time::timeout(Duration::from_secs(60), desk.submit((4, i))).await.unwrap().unwrap().await.unwrap();
        }
    }
    let stats = [of_leader.stats(), of_follower.stats()];
    stats.iter().for_each(conserved);
    assert_eq!(stats.map(|stats| stats.waiting), [0, 0]);
    assert_eq!(of_leader.stats().outcomes[End::Withdrawn], 4, "requests are no ops");
    assert_eq!(of_follower.stats().outcomes[End::Withdrawn], 1, "of its own");
    of_follower.pause().await.unwrap();
    for desk in [&of_follower, &of_leader] {
        for i in 0..8 {
            desk.send((5, i)).await.unwrap();
        }
        let more = tokio::time::timeout(Duration::from_secs(60), desk.send((5, 8))).await;
        assert!(more.is_err(), "each process has as many permits as before");
    }
}

/// Goal: a request takes effect at its place in the log and once, whatever fails: what came before is handed back to the process that
/// asked, what comes after is sent. Method: each failure at each of the next transactions, which the follower or the leader begins, or
/// the next leader, which is the follower or a third process.
#[tokio::test(start_paused = true)]
async fn a_request_keeps_its_place_whatever_fails() {
    use MemoryFailure::{CrashAfter, CrashBefore, Refused, UnknownLost, UnknownStored};
    let mut has_died = [false, false];
    for failure in [Refused, UnknownStored, UnknownLost, CrashBefore, CrashAfter] {
        for (offset, has_spare) in (0..8).flat_map(|offset| [(offset, false), (offset, true)]) {
            let (log, recorder) = (MemoryLog::new().sync_time(Duration::from_millis(10)), Recorder::new());
            let leader = join(&log, &recorder).await;
            let _spare = if has_spare { Some(join(&log.another_process(), &recorder).await) } else { None };
            let follower = join(&log.another_process(), &recorder).await;
            let (of_leader, of_follower) = (leader.handle(), follower.handle());
            of_leader.pause().await.unwrap();
            let before = of_leader.submit((1, 0)).await.unwrap().id();
            of_follower.send((1, 1)).await.unwrap();
            of_follower.send((2, 2)).await.unwrap();
            let first = log.transactions();
            log.fail_at(first + offset, failure);
            let call = begin(&of_follower, 1).await;
            let after = of_follower.submit((1, 3)).await;
            let withdrawn = tokio::time::timeout(Duration::from_secs(60), call).await.unwrap().unwrap();
            tokio::time::sleep(Duration::from_secs(2)).await;
            has_died[0] |= leader.handle().is_closed() || of_leader.outcome(before).await.is_err();
            has_died[1] |= withdrawn.is_err();
            if let Ok(ops) = &withdrawn {
                assert_eq!(ops, &[(1, 0), (1, 1)], "{failure:?} of transaction {offset}");
            } else {
                assert!(matches!(failure, CrashBefore | CrashAfter));
            }

            // Where the failure is still to come, nothing is left of the test.
            if log.transactions() <= first + offset {
                continue;
            }
            let last = join(&log.another_process(), &recorder).await;
            last.handle().resume().await.unwrap();
            last.handle().flush().await.unwrap();
            let sent: BTreeSet<u32> = recorder.ops().iter().map(|op| op.1).collect();
            assert_eq!(sent.len(), recorder.len(), "nothing is sent twice");
            assert!(sent.contains(&2));
            assert!(sent.contains(&3) || after.is_err(), "{failure:?} of transaction {offset}");
            let OpStatus::Ended(outcome) = last.handle().outcome(before).await.unwrap() else { panic!("it waits") };
            assert_eq!(outcome.end == End::Withdrawn, !sent.contains(&0));
            assert!(withdrawn.is_err() || (!sent.contains(&0) && !sent.contains(&1)));
            conserved(&last.stats());
        }
    }
    assert_eq!(has_died, [true, true], "each of the two has died");
}

/// Goal: a process that leaves or dies while it waits has asked all the same: its ops are withdrawn, and never sent. A caller that gives up
/// keeps no later one from asking. Method: the end of a process before the leader has told the log; many calls that are dropped.
#[tokio::test(start_paused = true)]
async fn a_request_outlives_its_caller() {
    for dies in [false, true] {
        let (log, recorder) = (MemoryLog::new().sync_time(Duration::from_millis(100)), Recorder::new());
        let other = log.another_process();
        let leader = join(&log, &recorder).await;
        let follower = join(&other, &recorder).await;
        let desk = follower.handle();
        desk.pause().await.unwrap();
        let id = desk.submit((1, 0)).await.unwrap().id();
        let call = begin(&desk, 1).await;
        tokio::time::sleep(Duration::from_millis(150)).await;
        if dies {
            other.crash();
        } else {
            follower.leave().await.unwrap();
        }
        let told = tokio::time::timeout(Duration::from_secs(60), call).await.expect("the caller hears of it");
        assert!(matches!(told.unwrap(), Err(WithdrawKeyError::Left(_))));
        assert!(matches!(desk.withdraw_key(1_u32).await, Err(WithdrawKeyError::Left(_))));
        leader.handle().resume().await.unwrap();
        leader.handle().flush().await.unwrap();
        let OpStatus::Ended(outcome) = leader.handle().outcome(id).await.unwrap() else { panic!("it waits") };
        assert_eq!((outcome.end, recorder.len()), (End::Withdrawn, 0));
        conserved(&leader.stats());
    }
    let (log, recorder) = (MemoryLog::new().sync_time(Duration::from_millis(1)), Recorder::new());
    let leader = join(&log, &recorder).await;
    let follower = join(&log.another_process(), &recorder).await;
    let desk = follower.handle();
    for _ in 0..300 {
        begin(&desk, 1).await.abort();
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(desk.withdraw_key(1_u32).await.unwrap().is_empty());
    desk.flush().await.unwrap();
    leader.leave().await.unwrap();
}

/// Goal: an op under way is not withdrawn, and a sink that is stuck holds no request up. Method: a gate that is shut.
#[tokio::test(start_paused = true)]
async fn an_op_under_way_is_not_withdrawn() {
    let (log, gate) = (MemoryLog::new(), Gate::new(Recorder::<Op>::new()));
    let join = |log: MemoryLog| {
        let (sink, stages) = (Keyed(gate.clone()), || Stages::new().conflate_by(|op: &Op| op.0, stage::latest));
        Durable::new("orders", log).stages(stages).limits(Limits::new(1)).sink(move |_| sink.clone()).join()
    };
    let leader = join(log.clone()).await.unwrap();
    let follower = join(log.another_process()).await.unwrap();
    let desk = follower.handle();
    let under_way = desk.submit((1, 0)).await.unwrap();
    until_idle().await;
    let waiting = [desk.submit((1, 1)).await.unwrap(), desk.submit((1, 2)).await.unwrap()];
    assert_eq!(desk.withdraw_key(1_u32).await.unwrap(), [(1, 2)], "as it is merged");
    for ack in waiting {
        assert!(matches!(ack.await, Err(AckError::Withdrawn)));
    }
    gate.open();
    under_way.await.unwrap();
    desk.flush().await.unwrap();
    conserved(&leader.stats());
}

/// Goal: ops that are more than one answer holds come back in order, all of them. Method: twenty megabytes.
#[tokio::test(start_paused = true)]
async fn many_ops_take_several_requests() {
    let log = MemoryLog::new();
    let join = |log: MemoryLog| {
        let stages = || {
            Stages::new().conflate_by(|op: &String| op.len(), |waiting, newer| stage::Merge::Apart { waiting, newer })
        };
        Durable::new("texts", log).stages(stages).sink(move |_| Recorder::<String>::new()).join()
    };
    let leader = join(log.clone()).await.unwrap();
    let follower = join(log.another_process()).await.unwrap();
    let desk = follower.handle();
    desk.pause().await.unwrap();
    let ops: Vec<String> = (10..30).map(|i| format!("{i}{}", "x".repeat(1_000_000))).collect();
    leader.handle().send_all(ops.clone()).await.unwrap();
    assert!(desk.withdraw_key(1_000_002_usize).await.unwrap() == ops);
    assert_eq!(leader.stats().outcomes[End::Withdrawn], 20);
}

/// Goal: an op without bytes is withdrawn all the same, and the caller hears that it can't have it. Method: a merge whose result JSON has
/// no form for.
#[tokio::test(start_paused = true)]
async fn an_op_without_bytes_is_not_sent() {
    let (log, recorder) = (MemoryLog::new(), Recorder::<(u32, f64)>::new());
    let join = |log: MemoryLog| {
        let sink = Keyed(recorder.clone());
        let ratio = |one: (u32, f64), other: (u32, f64)| Some((one.0, one.1 / other.1));
        let stages = move || Stages::new().conflate_by(|op: &(u32, f64)| op.0, ratio);
        Durable::new("ratios", log).stages(stages).sink(move |_| sink.clone()).join()
    };
    let leader = join(log.clone()).await.unwrap();
    let follower = join(log.another_process()).await.unwrap();
    let desk = follower.handle();
    desk.pause().await.unwrap();
    leader.handle().send_all([(1, 0.0), (2, 3.0), (1, 0.0)]).await.unwrap();
    assert_eq!(desk.withdraw_key(2_u32).await.unwrap(), [(2, 3.0)]);
    assert_eq!(desk.withdraw_key(1_u32).await, Err(WithdrawKeyError::Unreadable));
    desk.resume().await.unwrap();
    desk.flush().await.unwrap();
    assert!(recorder.is_empty());
    assert_eq!(leader.stats().outcomes[End::Withdrawn], 2);
}

/// Goal: an op that was withdrawn does not come back, after a crash, behind a newer one of its partition that a transaction has written.
/// Method: a withdrawal whose record fails once, and is due to be tried again when the newer op is due; a crash after some transaction.
#[tokio::test(start_paused = true)]
async fn a_withdrawn_op_does_not_come_back_behind_a_newer_one() {
    for (wait, crash_at) in (0..25).flat_map(|wait| (1..4).map(move |crash_at| (wait, crash_at))) {
        let log = MemoryLog::new().sync_time(Duration::from_millis(1));
        let join = || {
            let stages = || Stages::new().partition_by(|op: &Op| op.0);
            let limits = Limits::new(10).linger(Duration::from_millis(20));
            Durable::new("orders", log.clone()).stages(stages).limits(limits).sink(Rows).join()
        };
        let orders = join().await.unwrap();
        let desk = orders.handle();
        desk.send_all([(1, 0), (1, 1)]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(wait)).await;
        log.fail_at(log.transactions(), MemoryFailure::Refused);
        log.fail_at(log.transactions() + crash_at, MemoryFailure::CrashAfter);
        let _ = desk.withdraw(|op| op.1 == 0).await;
        let flushed = tokio::time::timeout(Duration::from_secs(60), desk.flush()).await;
        assert!(flushed.is_ok(), "the newer op is sent, or the process dies");
        drop(orders);
        // The crash may be still to come.
        let Ok(orders) = join().await else { continue };
        let Ok(_) = orders.handle().flush().await else { continue };
        let written: Vec<u64> = rows(&log).iter().map(|row| row[1]).collect();
        assert!(written.is_sorted() && written.contains(&1), "{written:?}, {wait} ms, transaction {crash_at}");
    }
}
