//! Expiry while an intent is synced: what has expired when a write begins is not sent.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use roundlot::{
    AckError, Batch, End, Limits, Retry, Settled, Sink, SinkError, Stages,
    durable::{Durable, Handle, Joined, OpStatus},
    sink::Guarantee,
    testing::{MemoryFailure, MemoryLog, until_idle},
};

/// A key, a value, and when it expires, in milliseconds of the log's clock.
type Op = (u32, u32, Option<u64>);

const SYNC: Duration = Duration::from_millis(900);

/// A sink that keeps all that it can see of each batch.
#[derive(Clone)]
struct Seen {
    guarantee: Guarantee,
    batches: Arc<Mutex<Vec<Vec<Op>>>>,
    /// Writes that land and are not answered.
    unanswered: Arc<Mutex<u32>>,
    /// The log whose process dies when the sink is called next.
    dies: Arc<Mutex<Option<MemoryLog>>>,
}

impl Seen {
    fn new(guarantee: Guarantee) -> Self {
        Self { guarantee, batches: Arc::default(), unanswered: Arc::default(), dies: Arc::default() }
    }

    fn batches(&self) -> Vec<Vec<Op>> {
        self.batches.lock().unwrap().clone()
    }

    /// The keys of all ops that were seen, in order.
    fn keys(&self) -> Vec<u32> {
        self.batches().iter().flatten().map(|op| op.0).collect()
    }
}

impl Sink<Op> for Seen {
    async fn write(&self, batch: &mut Batch<Op>) -> Result<Settled, SinkError> {
        assert_eq!(batch.pending().len(), batch.len());
        self.batches.lock().unwrap().push(batch.iter().copied().collect());
        let dying = self.dies.lock().unwrap().take();
        if let Some(log) = dying {
            log.crash();
            std::future::pending::<()>().await;
        }
        let mut unanswered = self.unanswered.lock().unwrap();
        if *unanswered > 0 {
            *unanswered -= 1;
            return Err(SinkError::ambiguous("no answer"));
        }
        Ok(batch.accept_all())
    }

    fn guarantee(&self) -> Guarantee {
        self.guarantee
    }
}

/// The second with which the log's clock begins.
fn start() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)
}

fn stages() -> Stages<Op> {
    Stages::new().expire_at(|op: &Op| Some(start() + Duration::from_millis(op.2?)))
}

/// Ops of the same key are added up, and the newer one's time counts.
fn summing() -> Stages<Op> {
    stages().conflate_by(|op: &Op| op.0, |waiting: Op, newer: Op| Some((newer.0, waiting.1 + newer.1, newer.2)))
}

async fn join(log: &MemoryLog, sink: &Seen, stages: fn() -> Stages<Op>) -> Joined<Op> {
    let sink = sink.clone();
    Durable::new("orders", log.clone())
        .stages(stages)
        .limits(Limits::new(10).max_pending(4))
        .retry(Retry::exponential(Duration::from_millis(1), Duration::from_millis(1)))
        .sink(move |_| sink.clone())
        .join()
        .await
        .unwrap()
}

/// A moment of the log's clock so far ahead, in the unit of [`Op`].
fn at(log: &MemoryLog, ahead: u64) -> Option<u64> {
    Some(log.now().duration_since(start()).unwrap().as_millis() as u64 + ahead)
}

fn conserved(desk: &Handle<Op>) {
    let stats = desk.stats();
    assert_eq!(stats.accepted + stats.recovered, stats.outcomes.total() + stats.waiting + stats.in_flight, "{stats:?}");
}

/// Goal: an op that expires while its intent is synced is not shown to the sink, ends as expired, and gives its permit back; the
/// ops beside it are sent. Method: a disk that takes 900 ms for a sync, and a crash right after the outcome.
#[tokio::test(start_paused = true)]
async fn ops_that_expire_during_the_sync_are_left_out() {
    for guarantee in [Guarantee::Idempotent, Guarantee::Unknown] {
        let (log, sink) = (MemoryLog::new(), Seen::new(guarantee));
        let orders = join(&log, &sink, stages).await;
        let desk = orders.handle();
        desk.pause().await.unwrap();
        let mut acks = Vec::new();
        for op in [(1, 0, None), (2, 0, Some(1300)), (3, 0, Some(60_000)), (4, 0, Some(1200))] {
            acks.push(desk.submit(op).await.unwrap());
        }
        let log = log.sync_time(SYNC);
        // The batch is cut when the resume has committed, and its intent commits 900 ms later.
        desk.resume().await.unwrap();
        assert_eq!(at(&log, 0), Some(900));
        let mut ends = Vec::new();
        for ack in acks {
            ends.push(ack.outcome().await.end);
        }
        assert_eq!(ends, [End::Delivered, End::Expired, End::Delivered, End::Expired], "{guarantee:?}");
        assert_eq!(sink.batches().iter().map(Vec::len).collect::<Vec<_>>(), [2]);
        assert_eq!(sink.keys(), [1, 3]);
        conserved(&desk);
        assert_eq!((desk.stats().waiting, desk.stats().in_flight), (0, 0));
        log.crash();
        drop((orders, desk));
        until_idle().await;

        let orders = join(&log, &sink, stages).await;
        assert_eq!((orders.stats().recovered, orders.stats().in_doubt), (0, 0), "nothing is left");
        // As many as may be pending: no permit was lost.
        orders.handle().send_all((0..4).map(|key| (key, 0, None))).await.unwrap();
        orders.handle().flush().await.unwrap();
        assert_eq!(sink.keys().len(), 6);
    }
}

/// Goal: a batch of which all has expired is not sent, leaves no intent, and its partition goes on. Method: one op, and a newer one.
#[tokio::test(start_paused = true)]
async fn a_batch_that_has_expired_as_a_whole_is_not_sent() {
    let (log, sink) = (MemoryLog::new().sync_time(SYNC), Seen::new(Guarantee::Unknown));
    let orders = join(&log, &sink, stages).await;
    let desk = orders.handle();
    for round in 1..=3 {
        let ack = desk.submit((round, 0, at(&log, 1000))).await.unwrap();
        assert!(matches!(ack.await, Err(AckError::Expired)));
        assert!(sink.batches().is_empty());
    }
    let report = desk.flush().await.unwrap();
    assert_eq!(report.outcomes.expired, 3);
    desk.submit((4, 0, at(&log, 60_000))).await.unwrap().await.unwrap();
    assert_eq!(sink.keys(), [4]);
    conserved(&desk);
    log.crash();
    drop((orders, desk));
    until_idle().await;
    let stats = join(&log, &sink, stages).await.stats();
    assert_eq!((stats.recovered, stats.recovered_in_doubt), (0, 0));
}

/// Goal: an op that expires during the sync and may have landed before is not called expired, nor is it sent again. Method: an
/// attempt that was not answered.
#[tokio::test(start_paused = true)]
async fn an_op_that_may_have_landed_stays_in_doubt() {
    let (log, sink) = (MemoryLog::new(), Seen::new(Guarantee::Idempotent));
    let orders = join(&log, &sink, stages).await;
    let log = log.sync_time(SYNC);
    *sink.unanswered.lock().unwrap() = 1;
    let desk = orders.handle();
    // The first attempt is at 1.8 s. The second one would be at 2.7 s, when its intent has been synced.
    let ack = desk.submit((1, 0, Some(2000))).await.unwrap();
    assert_eq!(ack.outcome().await.end, End::InDoubt);
    assert!(at(&log, 0) >= Some(2700));
    assert_eq!(sink.keys(), [1]);
    assert_eq!(orders.dead_letters().list(10).await.unwrap().len(), 1);
    conserved(&desk);
    assert_eq!(desk.stats().in_doubt, 0);
}

/// Goal: the same for an op that an earlier process may have landed. Method: the process dies in the first attempt, and the op
/// expires while the next one syncs the intent of the second.
#[tokio::test(start_paused = true)]
async fn an_op_of_a_dead_process_stays_in_doubt() {
    const EXPIRES: u64 = 2300;
    let (log, sink) = (MemoryLog::new(), Seen::new(Guarantee::Idempotent));
    let orders = join(&log, &sink, stages).await;
    *sink.dies.lock().unwrap() = Some(log.clone());
    let id = orders.handle().submit((1, 0, Some(EXPIRES))).await.unwrap().id();
    log.crashed().await;
    drop(orders);
    until_idle().await;
    let log = log.sync_time(SYNC);
    let orders = join(&log, &sink, stages).await;
    let joined_at = at(&log, 0).unwrap();
    assert!(joined_at < EXPIRES && EXPIRES < joined_at + SYNC.as_millis() as u64, "{joined_at}");
    let desk = orders.handle();
    desk.flush().await.unwrap();
    let OpStatus::Ended(outcome) = desk.outcome(id).await.unwrap() else { panic!("it has ended") };
    assert_eq!((outcome.end, sink.keys()), (End::InDoubt, vec![1]));
    conserved(&desk);
}

/// Goal: a merged op expires by its own time, with all that it stands for. Method: sums of two ops each, one of which expires during
/// the sync, while a third op of its key comes.
#[tokio::test(start_paused = true)]
async fn merged_ops_expire_as_one() {
    let (log, sink) = (MemoryLog::new(), Seen::new(Guarantee::Unknown));
    let orders = join(&log, &sink, summing).await;
    let desk = orders.handle();
    desk.pause().await.unwrap();
    let mut acks = Vec::new();
    for op in [(1, 1, Some(60_000)), (2, 1, Some(1300)), (1, 2, Some(1300)), (2, 2, Some(60_000))] {
        acks.push(desk.submit(op).await.unwrap());
    }
    let log = log.sync_time(SYNC);
    desk.resume().await.unwrap();
    assert_eq!(at(&log, 0), Some(900));
    acks.push(desk.submit((1, 4, Some(60_000))).await.unwrap());
    let mut ends = Vec::new();
    for ack in acks {
        ends.push(ack.outcome().await.end);
    }
    assert_eq!(ends, [End::Conflated, End::Conflated, End::Expired, End::Delivered, End::Delivered]);
    let sums: Vec<(u32, u32)> = sink.batches().iter().flatten().map(|op| (op.0, op.1)).collect();
    assert_eq!(sums, [(2, 3), (1, 4)]);
    conserved(&desk);
}

/// Goal: a batch is not written while the wall clock is in doubt: it goes back, in order, certainly not sent, and is sent or expires
/// by the new time. Method: the clock jumps while the intent is synced; the process dies meanwhile, or not.
#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_during_the_sync_holds_the_batch() {
    for dies in [false, true] {
        let (log, sink) = (MemoryLog::new(), Seen::new(Guarantee::Unknown));
        let orders = join(&log, &sink, stages).await;
        let desk = orders.handle();
        desk.pause().await.unwrap();
        desk.send_all([(1, 0, None), (2, 0, Some(30_000)), (3, 0, Some(90_000))]).await.unwrap();
        let slow = log.clone().sync_time(SYNC);
        desk.resume().await.unwrap();
        tokio::time::sleep(SYNC / 2).await;
        log.set_wall(log.now() + Duration::from_secs(60));
        let newer = desk.submit((4, 0, None)).await.unwrap();
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(sink.batches().is_empty(), "the clock is in doubt");
        conserved(&desk);
        assert_eq!((desk.stats().waiting, desk.stats().in_flight, desk.stats().in_doubt), (4, 0, 0));
        if dies {
            log.crash();
            drop((orders, desk, newer, slow));
            until_idle().await;
            let orders = join(&log, &sink, stages).await;
            assert_eq!((orders.stats().recovered, orders.stats().recovered_in_doubt), (4, 0));
            orders.handle().flush().await.unwrap();
            assert_eq!(orders.stats().outcomes.expired, 1);
        } else {
            newer.await.unwrap();
            desk.flush().await.unwrap();
            assert_eq!(desk.stats().outcomes.expired, 1);
            conserved(&desk);
        }
        assert_eq!(sink.keys(), [1, 3, 4], "dies: {dies}");
    }
}

/// Goal: what was left out is settled as often as the log fails. Method: each transaction in turn is refused, or has no known result,
/// or the process dies at it.
#[tokio::test(start_paused = true)]
async fn expiry_during_the_sync_survives_failures_of_the_log() {
    use MemoryFailure::{CrashAfter, CrashBefore, Refused, UnknownLost, UnknownStored};
    let mut crashes = 0;
    for failure in [Refused, UnknownLost, UnknownStored, CrashBefore, CrashAfter] {
        for number in 0..6 {
            let (log, sink) = (MemoryLog::new(), Seen::new(Guarantee::Unknown));
            let orders = join(&log, &sink, stages).await;
            let desk = orders.handle();
            let (watched, log) = (log.clone(), log.sync_time(SYNC));
            let (accepted, ended) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
            log.fail_at(log.transactions() + number, failure);
            let work = async {
                for op in [(1, 0, Some(1500)), (2, 0, Some(600_000))] {
                    let ack = desk.submit(op).await.unwrap();
                    accepted.lock().unwrap().push(ack.id());
                    let end = ack.outcome().await.end;
                    ended.lock().unwrap().push(end);
                }
            };
            let died = tokio::select! {
                biased;
                () = watched.crashed() => true,
                () = work => false,
            };
            crashes += u32::from(died);
            let (accepted, ended) = (accepted.lock().unwrap().clone(), ended.lock().unwrap().clone());
            if died {
                log.crash();
                drop((orders, desk));
                until_idle().await;
                let orders = join(&log, &sink, stages).await;
                orders.handle().flush().await.unwrap();
                for (id, op) in accepted.iter().zip(1..) {
                    let status = orders.handle().outcome(*id).await.unwrap();
                    let OpStatus::Ended(outcome) = status else { panic!("{failure:?} at {number}: {status:?}") };
                    let is_right = match (op, outcome.end) {
                        (1, End::Expired) => true,
                        // Its process died with the intent in the log, and the sink can't tell.
                        (_, End::InDoubt) => true,
                        (2, end) => end == End::Delivered,
                        _ => false,
                    };
                    assert!(is_right, "{failure:?} at {number}: op {op} is {}", outcome.end);
                }
                conserved(&orders.handle());
            } else {
                assert_eq!(ended[0], End::Expired, "{failure:?} at {number}");
                // The settlement of what was sent may be the one that is lost.
                let may_doubt = failure == UnknownLost && ended[1] == End::InDoubt;
                assert!(ended[1] == End::Delivered || may_doubt, "{failure:?} at {number}: {}", ended[1]);
                conserved(&desk);
            }
            assert!(!sink.keys().contains(&1), "{failure:?} at {number}");
        }
    }
    assert!(crashes >= 8, "{crashes}");
}
