//! Tests of conflation: one op per key waits, its callers share its fate, and a netted pair is never sent.

use roundlot::{
    Ack, Batcher, CutBy, End, Handle, Limits, Stages,
    stage::{self, Merge},
    testing::{Flaky, Gate, Recorder, advance, until_idle},
};

use crate::{AGES, at_once, conserved, down, eventually, ms, refused, took};

/// The key, and a value.
type Op = (char, u32);

fn latest() -> Stages<Op> {
    Stages::new().conflate_by(|op: &Op| op.0, stage::latest)
}

async fn submitted(desk: &Handle<Op>, ops: impl IntoIterator<Item = Op>) -> Vec<Ack> {
    let mut acks = Vec::new();
    for op in ops {
        acks.push(desk.submit(op).await.unwrap());
    }
    acks
}

/// Returns the end of each op, and whether its caller has a receipt.
async fn told(acks: Vec<Ack>) -> Vec<(End, bool)> {
    let mut told = Vec::new();
    for ack in acks {
        let outcome = eventually(ack.outcome()).await;
        told.push((outcome.end, outcome.result.is_ok()));
    }
    told
}

/// Goal: the latest value of a key is sent, once, and all callers hear its outcome. Method: three values of one key and
/// one of another; the sink takes them, and then it refuses them.
#[tokio::test(start_paused = true)]
async fn callers_of_conflated_ops_share_the_fate_of_the_survivor() {
    for fails in [false, true] {
        let sink = Recorder::new();
        let flaky = Flaky::new(sink.clone()).fail_ops(move |op: &Op| (fails && op.0 == 'a').then(refused));
        let (desk, _worker) = Batcher::new(flaky).stages(latest()).limits((10, AGES)).spawn();
        let acks = submitted(&desk, [('a', 1), ('b', 1), ('a', 2), ('a', 3)]).await;
        let _ = at_once(desk.flush()).await.unwrap();
        let last = if fails { End::Refused } else { End::Delivered };
        let expected = [(End::Conflated, !fails), (End::Delivered, true), (End::Conflated, !fails), (last, !fails)];
        assert_eq!(told(acks).await, expected);
        assert_eq!(sink.ops().last(), Some(&('b', 1)));
        assert_eq!(desk.stats().conflation_rate(), 0.5);
        conserved(&desk.stats());
    }
}

/// Goal: an op in flight is never merged into. Method: a newer value comes while the first is written; both are sent.
#[tokio::test(start_paused = true)]
async fn an_op_in_flight_is_not_merged_into() {
    let sink = Recorder::new();
    let gate = Gate::new(sink.clone());
    let (desk, _worker) = Batcher::new(gate.clone()).stages(latest()).limits(10).spawn();
    desk.send(('a', 1)).await.unwrap();
    gate.reached(1).await;
    desk.send_all([('a', 2), ('a', 3)]).await.unwrap();
    gate.open();
    let _ = at_once(desk.flush()).await.unwrap();
    assert_eq!(sink.batches(), [[('a', 1)], [('a', 3)]]);
}

/// Goal: the survivor keeps the linger clock of the first. Method: an update every 4 ms under a linger of 10 ms.
#[tokio::test(start_paused = true)]
async fn the_survivor_keeps_the_linger_clock() {
    let sink = Recorder::new();
    let (desk, _worker) = Batcher::new(sink.clone()).stages(latest()).limits((10, ms(10))).spawn();
    for value in 0..3 {
        desk.send(('a', value)).await.unwrap();
        advance(ms(4)).await;
    }
    took(ms(0), sink.wait_for(1)).await;
    assert_eq!((sink.ops(), sink.cuts()), (vec![('a', 2)], vec![CutBy::Linger]));
    assert_eq!(desk.stats().in_buffer.max, ms(10));
}

/// Goal: keys live within a partition. Method: the same key in two partitions.
#[tokio::test(start_paused = true)]
async fn the_same_key_in_another_partition_is_another_key() {
    let sink = Recorder::new();
    let stages = Stages::new().partition_by(|op: &Op| op.1 % 2).conflate_by(|op: &Op| op.0, stage::latest);
    let (desk, _worker) = Batcher::new(sink.clone()).stages(stages).limits((10, AGES)).spawn();
    desk.send_all([('a', 1), ('a', 2), ('a', 3)]).await.unwrap();
    let _ = at_once(desk.flush()).await.unwrap();
    assert_eq!(sink.ops(), [('a', 3), ('a', 2)]);
}

/// Goal: an op without a key is never merged. Method: `None` for one of two kinds.
#[tokio::test(start_paused = true)]
async fn an_op_without_a_key_is_not_merged() {
    let sink = Recorder::new();
    let stages = Stages::new().conflate_by(|op: &Op| (op.0 == 'a').then_some(()), stage::first);
    let (desk, _worker) = Batcher::new(sink.clone()).stages(stages).limits((10, AGES)).spawn();
    desk.send_all([('x', 1), ('a', 2), ('x', 3), ('a', 4)]).await.unwrap();
    let _ = at_once(desk.flush()).await.unwrap();
    assert_eq!(sink.ops(), [('x', 1), ('a', 2), ('x', 3)]);
}

/// Goal: the callers of both ops share the fate of the survivor, also when it is the older one. Method: `stage::first`.
#[tokio::test(start_paused = true)]
async fn callers_share_the_fate_of_an_older_survivor_too() {
    let sink = Recorder::new();
    let stages = Stages::new().conflate_by(|op: &Op| op.0, stage::first);
    let (desk, _worker) = Batcher::new(sink.clone()).stages(stages).limits((10, AGES)).spawn();
    let acks = submitted(&desk, [('a', 1), ('a', 2)]).await;
    let report = at_once(desk.flush()).await.unwrap();
    assert_eq!((sink.ops(), report.outcomes.delivered, report.outcomes.conflated), (vec![('a', 1)], 1, 1));
    assert!(told(acks).await.into_iter().all(|(_, has_receipt)| has_receipt));
}

/// An order, its cancel, or a change of it: 1, 2 and more.
fn trade(waiting: Op, newer: Op) -> Merge<Op> {
    match newer.1 {
        2 => Merge::Net,
        9 => Merge::Apart { waiting, newer },
        _ => Merge::Into(newer),
    }
}

/// Goal: a cancel nets with the order that still waits; both callers are told, and with them those whose ops had been
/// merged into it. Method: an order, a change, its cancel; another order goes on, and the key is free for a new one.
#[tokio::test(start_paused = true)]
async fn an_order_and_its_cancel_are_netted_and_both_are_told() {
    let sink = Recorder::new();
    let stages = Stages::new().conflate_by(|op: &Op| op.0, trade);
    let (desk, _worker) = Batcher::new(sink.clone()).stages(stages).limits((10, AGES)).spawn();
    let acks = submitted(&desk, [('a', 1), ('b', 1), ('a', 3), ('a', 2), ('a', 4)]).await;
    let report = at_once(desk.flush()).await.unwrap();
    assert_eq!(sink.ops(), [('b', 1), ('a', 4)]);
    assert_eq!(
        (report.outcomes.netted, report.outcomes.conflated, report.outcomes.delivered, report.is_ok()),
        (2, 1, 2, true)
    );
    let expected = [
        (End::Conflated, false),
        (End::Delivered, true),
        (End::Netted, false),
        (End::Netted, false),
        (End::Delivered, true),
    ];
    assert_eq!(told(acks).await, expected);
}

/// Goal: an order that backs off, nothing of which has landed, nets too. Method: its write fails, and the cancel comes
/// during the backoff, or while the write goes on.
#[tokio::test(start_paused = true)]
async fn a_cancel_nets_with_an_order_that_failed() {
    for while_in_flight in [false, true] {
        let sink = Recorder::new();
        let gate = Gate::new(Flaky::new(sink.clone()).fail(down()));
        let stages = Stages::new().conflate_by(|op: &Op| op.0, trade);
        let (desk, _worker) = Batcher::new(gate.clone()).stages(stages).limits(10).spawn();
        let mut acks = submitted(&desk, [('a', 1)]).await;
        gate.reached(1).await;
        if !while_in_flight {
            gate.open();
            until_idle().await;
        }
        acks.extend(submitted(&desk, [('a', 2)]).await);
        gate.open();
        assert_eq!(at_once(desk.flush()).await.unwrap().outcomes.netted, 2);
        assert_eq!(told(acks).await, [(End::Netted, false); 2]);
        assert!(sink.is_empty());
    }
}

/// Goal: ops that cannot be merged wait apart, in order, and a later op meets the newer one; each caller hears of its
/// own op. Method: a value, one apart, and an update of the latter; then the first is withdrawn.
#[tokio::test(start_paused = true)]
async fn after_merge_keeps_both_the_next_op_merges_with_the_newer_one() {
    let sink = Recorder::new();
    let stages = Stages::new().conflate_by(|op: &Op| op.0, trade);
    let (desk, _worker) = Batcher::new(sink.clone()).stages(stages).limits((10, AGES)).spawn();
    let acks = submitted(&desk, [('a', 1), ('b', 1), ('a', 9), ('a', 4)]).await;
    let _ = at_once(desk.flush()).await.unwrap();
    assert_eq!(sink.batches(), [vec![('a', 1), ('b', 1)], vec![('a', 4)]]);
    let expected = [(End::Delivered, true), (End::Delivered, true), (End::Conflated, true), (End::Delivered, true)];
    assert_eq!(told(acks).await, expected);
}

/// Goal: when one of two ops apart leaves, the other owns the key. Method: the older or the newer one is withdrawn; an
/// update merges with the op that is left.
#[tokio::test(start_paused = true)]
async fn the_key_follows_the_remaining_op_when_its_pair_is_withdrawn() {
    for withdrawn in [1, 9] {
        let sink = Recorder::new();
        let stages = Stages::new().conflate_by(|op: &Op| op.0, trade);
        let (desk, _worker) = Batcher::new(sink.clone()).stages(stages).limits((10, AGES)).spawn();
        desk.send_all([('a', 1), ('a', 9)]).await.unwrap();
        assert_eq!(at_once(desk.withdraw(move |op| op.1 == withdrawn)).await.unwrap(), [('a', withdrawn)]);
        desk.send(('a', 4)).await.unwrap();
        let report = at_once(desk.flush()).await.unwrap();
        assert_eq!((sink.ops(), report.outcomes.conflated), (vec![('a', 4)], 1));
    }
}

/// Goal: an update that makes the survivor urgent makes it leave. Method: an op that lingers becomes a stop-loss.
#[tokio::test(start_paused = true)]
async fn an_urgent_update_makes_the_survivor_leave_at_once() {
    let sink = Recorder::new();
    let (desk, _worker) = Batcher::new(sink.clone())
        .stages(latest().urgent_by(|op: &Op| op.1 > 100))
        .limits(Limits::new(10).linger(AGES))
        .spawn();
    desk.send_all([('a', 1), ('b', 1)]).await.unwrap();
    until_idle().await;
    assert!(sink.is_empty());
    desk.send(('a', 101)).await.unwrap();
    at_once(sink.wait_for(2)).await;
    assert_eq!((sink.ops(), sink.cuts()), (vec![('a', 101), ('b', 1)], vec![CutBy::Urgent]));
}

/// Goal: the rules are the same where thousands of ops wait. Method: 10,000 keys wait and each is updated, by itself
/// and in chunks. The key of one update cannot be told.
#[tokio::test(start_paused = true)]
async fn the_latest_value_is_sent_while_thousands_of_keys_wait() {
    let sink = Recorder::new();
    let key = |op: &(u32, u32)| {
        assert_ne!(*op, (7, 2), "a bad op");
        op.0
    };
    let stages = Stages::new().partition_by(|op: &(u32, u32)| op.0 % 3).conflate_by(key, stage::latest);
    let limits = Limits::new(10_000).linger(AGES);
    let (desk, _worker) = Batcher::new(sink.clone()).stages(stages).limits(limits).spawn();
    for value in 0..3 {
        for key in 0..5_000 {
            desk.send((key, value)).await.unwrap();
        }
        desk.send_all((5_000..10_000).map(|key| (key, value))).await.unwrap();
        until_idle().await;
    }
    let _ = at_once(desk.flush()).await.unwrap();
    let mut sent = sink.ops();
    sent.sort_unstable();
    let latest = (0..10_000).map(|key| (key, if key == 7 { 1 } else { 2 }));
    assert!(sent.into_iter().eq(latest));
    assert_eq!((desk.stats().outcomes.refused, desk.stats().outcomes.conflated), (1, 19_999));
    conserved(&desk.stats());
}
