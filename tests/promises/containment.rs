//! Tests of promise 9: a panic or hang of the user's code affects only the ops that it touched.

use std::{
    cell::Cell,
    cmp::Ordering,
    hash::{Hash, Hasher},
};

use roundlot::{
    Batch, Batcher, DeadLetter, End, ErrorKind, Limits, Retry, Sink, SinkError, Stages, sink_fn, stage,
    testing::{Flaky, Recorder, advance, until_idle},
};
use tokio_test::{assert_pending, task};

use crate::{AGES, at_once, conserved, down, ms, refused, secs, took};

/// The op over which the user's code panics.
const BAD: u32 = 13;

fn checked(op: &u32) -> u32 {
    assert_ne!(*op, BAD, "a bad op");
    *op
}

/// A key or a level that panics when it is hashed or compared, if it is the bad one.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Touchy(u32);

impl Hash for Touchy {
    fn hash<H: Hasher>(&self, state: &mut H) {
        checked(&self.0).hash(state);
    }
}

impl PartialOrd for Touchy {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Touchy {
    fn cmp(&self, other: &Self) -> Ordering {
        checked(&self.0).cmp(&checked(&other.0))
    }
}

/// Goal: a panic in a function of the stages ends the op it was called for, as refused, and no other. Method: each
/// function in turn panics over one op of four; all other ops are delivered, twice over.
#[tokio::test(start_paused = true)]
async fn a_panic_in_a_stage_refuses_its_op_and_no_other() {
    type Make = fn() -> Stages<u32>;
    let cases: [(&str, Make); 9] = [
        ("partition", || Stages::new().partition_by(checked)),
        ("hash of a partition", || Stages::new().partition_by(|op| Touchy(*op))),
        ("conflation", || Stages::new().conflate_by(checked, stage::latest)),
        ("dedup", || Stages::new().dedup_by(|op| Some(Touchy(*op)), ms(1))),
        ("priority", || Stages::new().priority_by(checked)),
        ("order of priorities", || Stages::new().priority_by(|op| Touchy(*op))),
        ("urgent", || Stages::new().urgent_by(|op| checked(op) == 0)),
        ("expiry", || Stages::new().expire_by(|op| Some(tokio::time::Instant::now() + secs(checked(op).into())))),
        ("weight", || Stages::new().weigh_by(|op| checked(op) as usize)),
    ];
    for (name, stages) in cases {
        let (sink, letters) = (Recorder::new(), Recorder::<u32>::new());
        let (desk, _worker) = Batcher::new(sink.clone())
            .stages(stages())
            .limits((100, AGES))
            .dead_letters(letters.clone().map(|letter: &DeadLetter<u32>| letter.op))
            .spawn();
        for round in 0..2 {
            advance(ms(2)).await;
            let good = desk.submit(1).await.unwrap();
            let bad = desk.submit(BAD).await.unwrap();
            desk.send_all([20, 3]).await.unwrap();
            let report = at_once(desk.flush()).await.unwrap();
            assert_eq!((report.outcomes.delivered, report.outcomes.refused), (3, 1), "{name}, round {round}");
            assert_eq!(at_once(good.outcome()).await.end, End::Delivered);
            let outcome = at_once(bad.outcome()).await;
            let error = outcome.result.unwrap_err().chain();
            assert!(outcome.end == End::Refused && error.contains("a bad op"), "{name}: {error}");
        }
        until_idle().await;
        assert_eq!((letters.ops(), desk.stats().panics), (vec![BAD; 2], 2), "{name}");
        conserved(&desk.stats());
    }
}

/// Goal: a panic while an op is put back, or is weighed after a merge, is contained as well. Method: key and weight
/// panic the second time that they are asked about the op.
#[tokio::test(start_paused = true)]
async fn a_panic_during_a_requeue_or_reweighing_refuses_its_op_and_no_other() {
    /// The op, and how often it may still be asked about.
    #[derive(Clone)]
    struct Op(u32, Cell<u32>);
    impl Op {
        fn ask(&self) -> u32 {
            self.1.set(self.1.get().checked_sub(1).expect("asked too often"));
            self.0
        }
    }
    let patient = |op| Op(op, Cell::new(u32::MAX));
    let sink = Recorder::<u32>::new();
    let (desk, _worker) = Batcher::new(Flaky::new(sink.clone()).fail(down()).map(|op: &Op| op.0))
        .stages(Stages::new().conflate_by(|op: &Op| op.ask(), stage::latest))
        .limits((2, AGES))
        .spawn();
    desk.send_all([Op(1, Cell::new(1)), patient(2)]).await.unwrap();
    sink.wait_for(1).await;
    until_idle().await;
    assert_eq!((sink.ops(), desk.stats().outcomes.refused), (vec![2], 1));
    desk.send_all([patient(1), patient(2)]).await.unwrap();
    at_once(sink.wait_for(3)).await;
    conserved(&desk.stats());
}

/// Goal: a merge that panics ends the two ops that it has used up, and the key is free again. Method: two ops of one
/// key, and one of another; then both keys again.
#[tokio::test(start_paused = true)]
async fn a_panic_in_a_merge_refuses_the_two_ops() {
    let sink = Recorder::new();
    let merge = |_: u32, newer: u32| -> Option<u32> { if newer == BAD { panic!("a bad op") } else { Some(newer) } };
    let (desk, _worker) = Batcher::new(sink.clone())
        .stages(Stages::new().conflate_by(|op: &u32| op % 10, merge))
        .limits((10, AGES))
        .spawn();
    let acks = [desk.submit(3).await.unwrap(), desk.submit(4).await.unwrap(), desk.submit(BAD).await.unwrap()];
    desk.send_all([23, 33]).await.unwrap();
    let report = at_once(desk.flush()).await.unwrap();
    assert_eq!((report.outcomes.delivered, report.outcomes.refused, report.outcomes.conflated), (2, 2, 1));
    assert_eq!(sink.ops(), [4, 33]);
    for (ack, end) in acks.into_iter().zip([End::Refused, End::Delivered, End::Refused]) {
        assert_eq!(at_once(ack.outcome()).await.end, end);
    }
    assert_eq!(desk.stats().panics, 1);
}

/// Goal: an op about which a predicate panics stays where it is; the other ops are withdrawn. Method: three ops.
#[tokio::test(start_paused = true)]
async fn a_panic_in_a_withdraw_predicate_leaves_its_op_in_the_buffer() {
    let sink = Recorder::new();
    let (desk, _worker) = Batcher::new(sink.clone()).limits((10, AGES)).spawn();
    desk.send_all([1, BAD, 2]).await.unwrap();
    assert_eq!(at_once(desk.withdraw(|op| checked(op) > 0)).await.unwrap(), [1, 2]);
    assert_eq!(at_once(desk.flush()).await.unwrap().outcomes.delivered, 1);
    assert_eq!((sink.ops(), desk.stats().panics), (vec![BAD], 1));
}

/// Goal: verdicts that were given before a panic stand. Method: a sink that accepts one op, refuses one, and panics.
#[tokio::test(start_paused = true)]
async fn verdicts_before_a_panic_in_the_sink_stand() {
    let sink = sink_fn(|batch: &mut Batch<u32>| {
        Box::pin(async move {
            batch.accept(0, ());
            batch.refuse(1, refused());
            checked(&BAD);
            Ok(batch.accept_all())
        })
    });
    let (desk, _worker) = Batcher::new(sink).limits((3, AGES)).spawn();
    desk.send_all(0..3).await.unwrap();
    let report = at_once(desk.flush()).await.unwrap();
    assert_eq!((report.outcomes.delivered, report.outcomes.refused, report.outcomes.in_doubt), (1, 1, 1));
    assert_eq!(desk.stats().panics, 1);
}

/// Goal: a hung sink stops neither intake, nor timers, statistics, withdrawals, flush commands, limits or a shutdown.
/// Method: one of two partitions hangs, and all of that is asked for.
#[tokio::test(start_paused = true)]
async fn a_hung_sink_stops_nothing_else() {
    let sink = Recorder::new();
    let flaky = Flaky::new(sink.clone()).hang(1);
    let limits = Limits::new(10).linger(ms(10)).max_in_flight(2);
    let stages = Stages::new().partition_by(|op: &u32| op / 10);
    let (desk, worker) = Batcher::new(flaky).stages(stages).limits(limits.clone()).spawn();
    desk.send(1).await.unwrap();
    advance(ms(10)).await;
    let start = tokio::time::Instant::now();
    desk.send_all([2, 20, 21]).await.unwrap();
    took(ms(10), sink.wait_for(2)).await;
    let mut flush = task::spawn(desk.flush());
    assert_pending!(flush.poll());
    desk.send(22).await.unwrap();
    assert_eq!(at_once(desk.withdraw(|op| *op == 22)).await.unwrap(), [22]);
    desk.set_limits(limits.linger(ms(5))).unwrap();
    desk.send(23).await.unwrap();
    took(ms(5), sink.wait_for(3)).await;
    until_idle().await;
    let stats = desk.stats();
    assert_eq!((stats.in_flight, stats.waiting, stats.outcomes.delivered, stats.outcomes.withdrawn), (1, 1, 3, 1));
    assert_eq!(start.elapsed(), ms(15));
    let summary = took(secs(1), worker.shutdown().within(secs(1)).into_future()).await.unwrap();
    assert_eq!(summary.returned.len(), 2);
    assert_eq!(at_once(flush).await.unwrap().outcomes.returned, 2);
}

/// Panics when a write that was given up on is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("dropped in the middle of a write");
    }
}

/// Goal: a sink whose future panics when it is dropped stops no task. Method: its first write exceeds the write
/// timeout; the next op must be written. Guards: panics outside of a poll.
#[tokio::test(start_paused = true)]
async fn a_panic_in_dropping_a_timed_out_write_stops_no_task() {
    let sink = sink_fn(|batch: &mut Batch<u32>| {
        Box::pin(async move {
            if batch[0] == 1 {
                let _bomb = Bomb;
                std::future::pending::<()>().await;
            }
            Ok(batch.accept_all())
        })
    });
    let (desk, _worker) = Batcher::new(sink).limits(Limits::new(1).write_timeout(ms(10))).spawn();
    let first = desk.submit(1).await.unwrap().outcome().await;
    assert_eq!(first.end, End::InDoubt);
    let second = desk.submit(2).await.expect("the batcher lives").outcome().await;
    assert_eq!(second.end, End::Delivered);
}

/// Goal: a sink for dead letters that is slow, fails, panics or hangs never stalls the main path. Method: each of them,
/// while every second op is refused. No accepted op may wait, and at the end each letter is in the summary or was
/// taken.
#[tokio::test(start_paused = true)]
async fn trouble_with_dead_letters_never_stalls_the_main_path() {
    type Trouble = fn(Flaky<Recorder<u32>, u32>) -> Flaky<Recorder<u32>, u32>;
    let troubles: [(&str, Trouble); 4] = [
        ("slow", |post| post.slow(secs(5))),
        ("failing", |post| post.fail_times(1000, SinkError::transient("down"))),
        ("panicking", |post| post.panic(1000)),
        ("hung", |post| post.hang(1)),
    ];
    for (name, trouble) in troubles {
        let taken = Recorder::new();
        let post = trouble(Flaky::new(taken.clone())).map(|letter: &DeadLetter<u32>| letter.op);
        let main = Flaky::new(Recorder::new()).fail_ops(|op| (op % 2 == 1).then(refused));
        let (desk, worker) = Batcher::new(main).limits(1).dead_letters(post).spawn();
        for op in 0..20 {
            let outcome = at_once(desk.submit(op).await.unwrap().outcome()).await;
            assert_eq!(outcome.end == End::Refused, op % 2 == 1, "{name}: {op}");
        }
        let summary = worker.shutdown().within(secs(3)).await.unwrap();
        let mut letters: Vec<u32> = summary.dead_letters.iter().map(|letter| letter.op).collect();
        letters.extend(taken.ops());
        letters.sort_unstable();
        assert_eq!(letters, (0..10).map(|op| 2 * op + 1).collect::<Vec<_>>(), "{name}");
        assert_eq!((summary.stats.outcomes.refused, summary.stats.dead_letters_lost), (10, 0), "{name}");
    }
}

/// Goal: a dead letter that its own sink does not take is in the summary, or counted. Method: a sink for letters that
/// refuses, and one that panics. Guards: letters have no letters of their own.
#[tokio::test(start_paused = true)]
async fn letters_that_their_sink_refuses_are_accounted_for() {
    for panics in [false, true] {
        let post = Flaky::new(Recorder::new());
        let post = if panics { post.panic(1) } else { post.fail(refused()) };
        let main = Flaky::new(Recorder::<u32>::new()).fail(refused());
        let letters = post.map(|letter: &DeadLetter<u32>| letter.op);
        let (desk, worker) = Batcher::new(main).retry(Retry::none()).dead_letters(letters).spawn();
        desk.send(7).await.unwrap();
        until_idle().await;
        let lost = desk.stats().dead_letters_lost;
        let summary = worker.shutdown().await.unwrap();
        let told = summary.dead_letters.len() as u64 + lost.max(summary.stats.dead_letters_lost);
        assert_eq!((summary.stats.outcomes.refused, told), (1, 1), "panics: {panics}");
    }
}

/// Goal: a sink cannot claim success for ops without a verdict. Method: it returns the proof that another batch gave.
#[tokio::test(start_paused = true)]
async fn settled_of_another_batch_delivers_no_op() {
    let sink = sink_fn(|_: &mut Batch<u32>| Box::pin(async move { Ok(Batch::<u32>::for_test(vec![1]).accept_all()) }));
    let (desk, _worker) = Batcher::new(sink).limits(1).spawn();
    assert_eq!(desk.submit(1).await.unwrap().outcome().await.end, End::InDoubt);
    assert_eq!(desk.stats().outcomes.delivered, 0);
}

/// Goal: a letter that its own sink loses is accounted for once. Method: such a sink, and a look at both places.
#[tokio::test(start_paused = true)]
async fn a_letter_that_its_sink_loses_comes_back_once() {
    let refusing = Flaky::new(Recorder::<u32>::new()).fail(SinkError::refused("never"));
    let losing = Flaky::new(Recorder::<DeadLetter<u32>>::new()).fail(ErrorKind::Lost.into());
    let (desk, worker) = Batcher::new(refusing).dead_letters(losing).spawn();
    desk.send(1).await.unwrap();
    let summary = worker.shutdown().await.unwrap();
    assert_eq!(summary.dead_letters.iter().map(|letter| letter.op).collect::<Vec<_>>(), [1]);
    assert_eq!(summary.stats.dead_letters_lost, 0);
}

/// Goal: no panic over an op's deadline is silent, and each question is asked once. Method: only the first call panics.
#[tokio::test(start_paused = true)]
async fn a_panic_over_a_deadline_counts_though_the_next_call_would_not_panic() {
    let panicked = Cell::new(false);
    let stages = Stages::new().expire_by(move |_: &u32| -> Option<std::time::Instant> {
        assert!(panicked.replace(true), "a bad op");
        None
    });
    let (desk, _worker) = Batcher::new(Recorder::new()).stages(stages).limits((100, AGES)).spawn();
    desk.send_all([BAD, 1]).await.unwrap();
    let report = at_once(desk.flush()).await.unwrap();
    assert_eq!((report.outcomes.refused, report.outcomes.delivered, desk.stats().panics), (1, 1, 1));
}

/// An error that panics or fails when it is shown; a failure panics as well wherever the error becomes a text.
#[derive(Debug)]
struct Speechless {
    panics: bool,
}

impl std::fmt::Display for Speechless {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        assert!(!self.panics, "no words");
        Err(std::fmt::Error)
    }
}

impl std::error::Error for Speechless {}

/// Goal: an error that cannot be shown costs no batcher. Method: such errors of each kind that is logged: a dead letter, a
/// retry, an outage; an op afterwards is delivered.
#[tokio::test(start_paused = true)]
async fn an_error_whose_display_panics_stops_no_batcher() {
    for panics in [true, false] {
        let flaky = roundlot::testing::Flaky::new(roundlot::testing::Recorder::new())
            .fail(roundlot::SinkError::refused(Speechless { panics }))
            .fail(roundlot::SinkError::transient(Speechless { panics }))
            .fail(roundlot::SinkError::outage(Speechless { panics }))
            .fail(roundlot::SinkError::connection_lost(Speechless { panics }));
        let (desk, _worker) = roundlot::Batcher::new(flaky).spawn();
        let mut delivered = 0;
        for op in 1..=4 {
            desk.send(op).await.unwrap();
            delivered += crate::eventually(desk.flush()).await.unwrap().outcomes.delivered;
        }
        assert_eq!(delivered, 2);
        crate::conserved(&desk.stats());
    }
}
