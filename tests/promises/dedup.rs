//! Tests of deduplication: a repeat within the window is not queued, and its caller shares the fate of the first op.

use std::time::Duration;

use roundlot::{
    Ack, Batcher, End, Handle, Limits, Stages, stage,
    testing::{Flaky, Gate, Recorder, advance, until_idle},
};

use crate::{AGES, at_once, conserved, eventually, ms, refused};

/// The key, and a number.
type Op = (char, u32);

fn window(time: Duration) -> Stages<Op> {
    Stages::new().dedup_by(|op: &Op| op.0, time)
}

async fn submit(desk: &Handle<Op, u32>, op: Op) -> Ack<u32> {
    eventually(desk.submit(op)).await.unwrap()
}

/// Returns a sink whose receipts are the numbers of the ops.
fn numbered() -> Recorder<Op, u32> {
    Recorder::with_receipts(|op: &Op| op.1)
}

/// Goal: a repeat learns the fate of the first, whether it comes before, during or after the write, and whatever that
/// fate is. Method: a repeat at each of these times; a sink that accepts, and one that refuses.
#[tokio::test(start_paused = true)]
async fn a_repeat_shares_the_fate_of_the_first_before_during_and_after_its_write() {
    for fails in [false, true] {
        let sink = numbered();
        let gate = Gate::new(Flaky::new(sink.clone()).fail_ops(move |_| fails.then(refused)));
        let (desk, _worker) = Batcher::new(gate.clone()).stages(window(AGES)).limits((10, ms(5))).spawn();
        let first = submit(&desk, ('a', 1)).await;
        let mut repeats = vec![submit(&desk, ('a', 2)).await];
        gate.reached(1).await;
        repeats.push(submit(&desk, ('a', 3)).await);
        gate.open();
        let first = eventually(first.outcome()).await;
        repeats.push(submit(&desk, ('a', 4)).await);
        for repeat in repeats {
            let outcome = at_once(repeat.outcome()).await;
            assert_eq!((outcome.end, outcome.attempts), (End::Deduplicated, 1));
            match (outcome.result, &first.result) {
                (Ok(receipt), Ok(_)) => assert_eq!(receipt, 1),
                (Err(error), Err(other)) => assert_eq!(error.chain(), other.chain()),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((sink.len(), desk.stats().outcomes.deduplicated), (usize::from(!fails), 3));
        conserved(&desk.stats());
    }
}

/// Goal: the window counts from the first, and a repeat does not prolong it. Method: a window of 100 ms, a repeat at 60
/// and at 99, and a new one at 100.
#[tokio::test(start_paused = true)]
async fn the_window_counts_from_the_first_and_repeats_do_not_prolong_it() {
    let sink = numbered();
    let (desk, _worker) = Batcher::new(sink.clone()).stages(window(ms(100))).limits(10).spawn();
    let mut ends = Vec::new();
    for (number, wait) in [(0, 60), (1, 39), (2, 1), (3, 99), (4, 1), (5, 0)] {
        ends.push(at_once(submit(&desk, ('a', number)).await.outcome()).await.end);
        advance(ms(wait)).await;
    }
    let (new, repeat) = (End::Delivered, End::Deduplicated);
    assert_eq!(ends, [new, repeat, repeat, new, repeat, new]);
    assert_eq!(sink.ops(), [('a', 0), ('a', 3), ('a', 5)]);
}

/// Goal: a window that ends while the first is still unsettled lets the next through, and the first one's repeats still
/// hear of it. Method: a first that hangs at a gate for longer than its window.
#[tokio::test(start_paused = true)]
async fn a_window_may_end_before_its_first_is_settled() {
    let sink = numbered();
    let gate = Gate::new(sink.clone());
    let (desk, _worker) = Batcher::new(gate.clone()).stages(window(ms(50))).limits(10).spawn();
    let first = submit(&desk, ('a', 1)).await;
    let repeat = submit(&desk, ('a', 2)).await;
    advance(ms(50)).await;
    let next = submit(&desk, ('a', 3)).await;
    let its_repeat = submit(&desk, ('a', 4)).await;
    until_idle().await;
    gate.open();
    for (ack, end, receipt) in [
        (first, End::Delivered, 1),
        (repeat, End::Deduplicated, 1),
        (next, End::Delivered, 3),
        (its_repeat, End::Deduplicated, 3),
    ] {
        let outcome = at_once(ack.outcome()).await;
        assert_eq!((outcome.end, outcome.result.unwrap()), (end, receipt));
    }
}

/// Goal: keys live within a partition, and `None` is no key. Method: the same key in two partitions, and ops without
/// one.
#[tokio::test(start_paused = true)]
async fn dedup_keys_are_per_partition_and_none_is_no_key() {
    let sink = numbered();
    let stages =
        Stages::new().partition_by(|op: &Op| op.1 % 2).dedup_by(|op: &Op| (op.0 != 'x').then_some(op.0), Duration::MAX);
    let (desk, _worker) = Batcher::new(sink.clone()).stages(stages).limits((10, AGES)).spawn();
    desk.send_all([('a', 1), ('a', 2), ('a', 3), ('a', 4), ('x', 5), ('x', 7)]).await.unwrap();
    let report = at_once(desk.flush()).await.unwrap();
    assert_eq!(sink.batches(), [vec![('a', 1), ('x', 5), ('x', 7)], vec![('a', 2)]]);
    assert_eq!((report.outcomes.delivered, report.outcomes.deduplicated), (4, 2));
}

/// Goal: a repeat shares the fate of a first that was merged into another op, or netted. Method: dedup by number and
/// conflation by key; the first is replaced before its repeat comes, and then it is netted.
#[tokio::test(start_paused = true)]
async fn a_repeat_of_an_op_that_was_merged_or_netted_shares_its_fate() {
    for nets in [false, true] {
        let sink = numbered();
        let merge = move |waiting: Op, newer: Op| if nets { None } else { stage::latest(waiting, newer) };
        let stages = Stages::new().dedup_by(|op: &Op| op.1, AGES).conflate_by(|op: &Op| op.0, merge);
        let (desk, _worker) = Batcher::new(sink.clone()).stages(stages).limits((10, AGES)).spawn();
        let mut acks = Vec::new();
        for op in [('a', 1), ('a', 2), ('a', 1)] {
            acks.push(submit(&desk, op).await);
        }
        let _ = at_once(desk.flush()).await.unwrap();
        acks.push(submit(&desk, ('a', 2)).await);
        let mut told = Vec::new();
        for ack in acks {
            let outcome = at_once(ack.outcome()).await;
            told.push((outcome.end, outcome.result.ok()));
        }
        let expected = if nets {
            [(End::Netted, None), (End::Netted, None), (End::Deduplicated, None), (End::Deduplicated, None)]
        } else {
            [
                (End::Conflated, Some(2)),
                (End::Delivered, Some(2)),
                (End::Deduplicated, Some(2)),
                (End::Deduplicated, Some(2)),
            ]
        };
        assert_eq!(told, expected);
        assert_eq!(sink.ops(), if nets { vec![] } else { vec![('a', 2)] });
    }
}

/// Goal: a repeat needs room only until it is recognized. Method: a buffer of two that is paused, and ten repeats.
#[tokio::test(start_paused = true)]
async fn repeats_take_no_room() {
    let limits = Limits::new(10).linger(AGES).max_pending(2);
    let (desk, _worker) = Batcher::new(numbered()).stages(window(AGES)).limits(limits).spawn();
    desk.pause().await.unwrap();
    for number in 0..10 {
        at_once(desk.send(('a', number))).await.unwrap();
    }
    until_idle().await;
    assert_eq!((desk.stats().waiting, desk.stats().outcomes.deduplicated), (1, 9));
}
