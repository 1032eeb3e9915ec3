//! Tests of promise 9 for code that runs without being called: destructors of ops, keys, receipts and sinks, and the
//! clone of a receipt. A panic there ends where it happens; the batcher lives, and callers hear how their ops ended.

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
};

use roundlot::{
    AckError, Batch, Batcher, End, Limits, Overflow, Settled, Sink, SinkError, Stages,
    testing::{Flaky, Recorder, until_idle},
};

use crate::{AGES, at_once, conserved, ms, refused};

/// A value that panics when it is dropped, except during a panic, which would end the program.
#[derive(Debug)]
struct Bomb(u32);

impl Drop for Bomb {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("the destructor of {}", self.0);
        }
    }
}

impl PartialEq for Bomb {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Bomb {}

impl Hash for Bomb {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

/// A sink that accepts every op; the receipt is its number.
struct Numbers;

impl Sink<Bomb, u32> for Numbers {
    async fn write(&self, batch: &mut Batch<Bomb, u32>) -> Result<Settled, SinkError> {
        Ok(batch.accept_all_with(|_, op| op.0))
    }
}

/// Goal: an op whose destructor panics is delivered like any other. Method: ops with and without acks, with no stages and
/// with some, more than one to a batch.
#[tokio::test(start_paused = true)]
async fn ops_that_panic_when_dropped_are_delivered() {
    for stages in [Stages::new(), Stages::new().partition_by(|op: &Bomb| op.0 % 2)] {
        let (desk, _worker) = Batcher::new(Numbers).stages(stages).limits((10, AGES)).spawn();
        desk.send_all((0..5).map(Bomb)).await.unwrap();
        let ack = desk.submit(Bomb(5)).await.unwrap();
        assert_eq!(at_once(desk.flush()).await.unwrap().outcomes.delivered, 6);
        assert_eq!(at_once(ack).await.unwrap(), 5);
        assert!(desk.stats().panics > 0);
        conserved(&desk.stats());
    }
}

/// Goal: the same for each other way in which the batcher drops an op. Method: repeats, netted pairs, expired and evicted
/// ops, dropped dead letters, and withdrawn ops whose caller has gone; an op afterwards is delivered.
#[tokio::test(start_paused = true)]
async fn ops_that_panic_when_dropped_end_as_they_should() {
    let sink = Flaky::new(Numbers).fail_ops(|op: &Bomb| (op.0 == 99).then(refused));
    let start = tokio::time::Instant::now();
    let stages = Stages::new()
        .dedup_by(|op: &Bomb| (op.0 < 10).then_some(op.0), ms(50))
        .conflate_by(
            |op: &Bomb| (10..20).contains(&op.0).then_some(0),
            |waiting: Bomb, newer: Bomb| {
                // The drops inside a merge function are outside the promise: this one forgets both ops.
                std::mem::forget((waiting, newer));
                None
            },
        )
        .expire_by(move |op| (op.0 == 20).then_some(start));
    let limits = Limits::new(10).linger(AGES).max_pending(4).overflow(Overflow::EvictOldest);
    let (desk, _worker) = Batcher::new(sink).stages(stages).limits(limits).spawn();
    let repeats = [desk.submit(Bomb(1)).await.unwrap(), desk.submit(Bomb(1)).await.unwrap()];
    desk.send_all([10, 11, 20, 99].map(Bomb)).await.unwrap();
    let report = at_once(desk.flush()).await.unwrap();
    assert_eq!(
        (report.outcomes.deduplicated, report.outcomes.netted, report.outcomes.expired, report.outcomes.refused),
        (1, 2, 1, 1)
    );
    for ack in repeats {
        assert_eq!(at_once(ack).await.unwrap(), 1);
    }
    desk.pause().await.unwrap();
    desk.send_all((30..36).map(Bomb)).await.unwrap();
    let mut withdraw = tokio_test::task::spawn(desk.withdraw(|op| op.0 == 35));
    assert!(withdraw.poll().is_pending());
    drop(withdraw);
    until_idle().await;
    desk.resume().await.unwrap();
    let report = at_once(desk.flush()).await.unwrap();
    assert_eq!(report.outcomes.evicted, 2);
    let last = desk.submit(Bomb(40)).await.unwrap();
    assert_eq!(at_once(desk.flush()).await.unwrap().outcomes.delivered, 1);
    assert_eq!(at_once(last).await.unwrap(), 40);
    conserved(&desk.stats());
}

/// Goal: a key that panics when it is dropped costs nothing. Method: such keys of partitions and of conflation.
#[tokio::test(start_paused = true)]
async fn keys_that_panic_when_dropped_cost_nothing() {
    let stages = Stages::new().partition_by(|op: &u32| Arc::new(Bomb(op % 2)));
    let (desk, worker) = Batcher::new(Recorder::new()).stages(stages).limits((10, AGES)).spawn();
    for op in 0..400 {
        desk.send(op).await.unwrap();
        assert_eq!(at_once(desk.flush()).await.unwrap().outcomes.delivered, 1);
    }
    drop(desk);
    assert_eq!(worker.join().await.unwrap().stats.outcomes.delivered, 400);
}

/// A receipt that panics when it is copied or dropped.
#[derive(Debug)]
struct Receipt(#[expect(dead_code, reason = "only its destructor matters")] Bomb);

impl Clone for Receipt {
    fn clone(&self) -> Self {
        panic!("the clone of a receipt")
    }
}

struct Receipts;

impl Sink<u32, Receipt> for Receipts {
    async fn write(&self, batch: &mut Batch<u32, Receipt>) -> Result<Settled, SinkError> {
        Ok(batch.accept_all_with(|_, op| Receipt(Bomb(*op))))
    }
}

/// Goal: no caller hears "lost" of an op that landed, whatever its receipt does. Method: two callers share the fate of
/// one op, so that the receipt has to be copied; others have gone, so that it is dropped.
#[tokio::test(start_paused = true)]
async fn receipts_that_panic_lose_no_op() {
    let stages = Stages::new().dedup_by(|op: &u32| (*op < 10).then_some(*op), ms(50));
    let (desk, _worker) = Batcher::new(Receipts).stages(stages).limits((10, AGES)).spawn();
    let first = desk.submit(1).await.unwrap();
    let repeat = desk.submit(1).await.unwrap();
    drop(desk.submit(10).await.unwrap());
    desk.send(11).await.unwrap();
    let alone = desk.submit(12).await.unwrap();
    assert_eq!(at_once(desk.flush()).await.unwrap().outcomes.delivered, 4);
    std::mem::forget(at_once(alone).await.unwrap());
    let mut ends = Vec::new();
    for ack in [first, repeat, desk.submit(1).await.unwrap()] {
        let outcome = at_once(ack.outcome()).await;
        ends.push(outcome.end);
        match outcome.result {
            Ok(receipt) => std::mem::forget(receipt),
            Err(error) => assert!(matches!(error, AckError::InDoubt(_)), "{error:?}"),
        }
    }
    assert_eq!(ends, [End::Delivered, End::Deduplicated, End::Deduplicated]);
    assert!(desk.stats().panics > 0);
    conserved(&desk.stats());
}

struct FragileSink(#[expect(dead_code, reason = "only its destructor matters")] Bomb);

impl Sink<u32> for FragileSink {
    async fn write(&self, batch: &mut Batch<u32>) -> Result<Settled, SinkError> {
        Ok(batch.accept_all())
    }
}

/// Goal: a sink that panics when it is dropped costs no summary.
#[tokio::test(start_paused = true)]
async fn a_sink_that_panics_when_dropped_costs_no_summary() {
    let (desk, worker) = Batcher::new(FragileSink(Bomb(0))).spawn();
    desk.send(1).await.unwrap();
    let summary = worker.shutdown().await.unwrap();
    assert_eq!(summary.stats.outcomes.delivered, 1);
}
