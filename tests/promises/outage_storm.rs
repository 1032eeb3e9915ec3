//! Tests of random outages: concurrent writes, partitions, conflation, expiry, retries, pauses, withdrawals and new
//! limits, in front of a destination that comes and goes. No op is lost, no caller waits for ever, and the task does
//! not spin.

use std::{
    collections::HashMap,
    future::IntoFuture,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use proptest::prelude::*;
use roundlot::{Batch, Batcher, End, Limits, Overflow, Retry, Settled, Sink, SinkError, Stages};
use tokio::time::{Instant, sleep};

use crate::{conserved, eventually, ms, secs};

/// Answer of the destination to a write. The list of answers is used by number of the write, and starts again at its
/// end.
#[derive(Debug, Clone, Copy)]
enum Answer {
    Land,
    Away,
    AwayByOp,
    /// The first op lands, and the destination fails after it.
    AwayMidway,
    LandAndLose,
    Lose,
    Transient,
    Refuse,
    TooLarge,
    Throttle,
    Panic,
}

#[derive(Clone)]
struct Destination {
    script: Arc<Vec<(Answer, u64)>>,
    writes: Arc<AtomicUsize>,
    /// Number of times that each op has landed.
    landed: Arc<Mutex<HashMap<u32, u32>>>,
    healed: Arc<AtomicU64>,
}

impl Sink<u32> for Destination {
    async fn write(&self, batch: &mut Batch<u32>) -> Result<Settled, SinkError> {
        let number = self.writes.fetch_add(1, Ordering::Relaxed);
        let (answer, slow) = self.script[number % self.script.len()];
        sleep(ms(slow)).await;
        let answer = if self.healed.load(Ordering::Relaxed) > 0 { Answer::Land } else { answer };
        let away = || SinkError::outage("away");
        let ops: Vec<u32> = batch.ops().to_vec();
        let land = |ops: &[u32]| {
            let mut landed = self.landed.lock().unwrap();
            ops.iter().for_each(|op| *landed.entry(*op).or_default() += 1);
        };
        match answer {
            Answer::Land => {
                land(&ops);
                Ok(batch.accept_all())
            }
            Answer::Away => Err(away()),
            Answer::AwayByOp => {
                (0..ops.len()).for_each(|i| batch.refuse(i, away()));
                batch.settled()
            }
            Answer::AwayMidway => {
                land(&ops[..1]);
                batch.accept(0, ());
                Err(away())
            }
            Answer::LandAndLose => {
                land(&ops);
                Err(SinkError::connection_lost("cut"))
            }
            Answer::Lose => Err(SinkError::connection_lost("cut")),
            Answer::Transient => Err(SinkError::transient("later")),
            Answer::Refuse => Err(SinkError::refused("no")),
            Answer::TooLarge => Err(SinkError::too_large("half")),
            Answer::Throttle => Err(SinkError::throttled(ms(300))),
            Answer::Panic => panic!("ouch"),
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Submit(u8),
    Send(u8),
    Wait(u64),
    Pause,
    Resume,
    Withdraw,
    Flush,
    Limits(usize, usize, u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (1u8..6).prop_map(Step::Submit),
        4 => (1u8..20).prop_map(Step::Send),
        6 => (0u64..3000).prop_map(Step::Wait),
        1 => Just(Step::Pause),
        1 => Just(Step::Resume),
        1 => Just(Step::Withdraw),
        2 => Just(Step::Flush),
        1 => (1usize..6, 1usize..40, 0u8..3).prop_map(|(items, pending, policy)| Step::Limits(items, pending, policy)),
    ];
    prop::collection::vec(step, 1..40)
}

fn script() -> impl Strategy<Value = Vec<(Answer, u64)>> {
    let answer = prop_oneof![
        3 => Just(Answer::Land), 4 => Just(Answer::Away), 2 => Just(Answer::AwayByOp), 2 => Just(Answer::AwayMidway),
        1 => Just(Answer::LandAndLose), 1 => Just(Answer::Lose), 1 => Just(Answer::Transient), 1 => Just(Answer::Refuse),
        1 => Just(Answer::TooLarge), 1 => Just(Answer::Throttle), 1 => Just(Answer::Panic),
    ];
    prop::collection::vec((answer, prop_oneof![Just(0u64), 1u64..2000]), 1..12)
}

fn limits(items: usize, pending: usize, policy: u8, in_flight: usize) -> Limits {
    let overflow = [Overflow::Wait, Overflow::Reject, Overflow::EvictOldest][policy as usize % 3];
    Limits::new(items).linger(ms(5)).max_pending(pending).max_in_flight(in_flight).overflow(overflow)
}

#[derive(Debug, Clone)]
struct Recipe {
    partition: bool,
    conflate: bool,
    expire: bool,
    idempotent: bool,
    bisect: bool,
    give_up: Option<u64>,
    base: u64,
    in_flight: usize,
    shutdown: bool,
}

async fn run(recipe: Recipe, script: Vec<(Answer, u64)>, steps: Vec<Step>) {
    let start = Instant::now();
    let destination = Destination {
        script: Arc::new(script),
        writes: Arc::default(),
        landed: Arc::default(),
        healed: Arc::default(),
    };
    let mut stages = Stages::new();
    if recipe.partition {
        stages = stages.partition_by(|op: &u32| op % 3);
    }
    if recipe.conflate {
        stages = stages.conflate_by(|op: &u32| op.is_multiple_of(5).then_some(op % 10), |_, newer| Some(newer));
    }
    if recipe.expire {
        stages = stages.expire_by(move |op| op.is_multiple_of(7).then_some((start + secs(4)).into_std()));
    }
    let mut retry = Retry::exponential(ms(recipe.base), secs(2)).max_attempts(3).seed(1);
    if let Some(give_up) = recipe.give_up {
        retry = retry.give_up_after(ms(give_up));
    }
    let mut batcher =
        Batcher::new(destination.clone()).stages(stages).limits(limits(4, 30, 0, recipe.in_flight)).retry(retry);
    if recipe.idempotent {
        batcher = batcher.idempotent();
    }
    if recipe.bisect {
        batcher = batcher.bisect();
    }
    let (desk, worker) = batcher.spawn();
    let (mut next, mut callers, mut senders, mut flushes) = (0, Vec::new(), Vec::new(), Vec::new());
    for step in steps {
        match step {
            Step::Submit(count) => {
                for _ in 0..count {
                    next += 1;
                    let (desk, op) = (desk.clone(), next);
                    callers.push(tokio::spawn(async move {
                        match desk.submit(op).await {
                            Ok(ack) => Some((op, ack.outcome().await)),
                            Err(_) => None,
                        }
                    }));
                }
            }
            Step::Send(count) => {
                for _ in 0..count {
                    next += 1;
                    let (desk, op) = (desk.clone(), next);
                    senders.push(tokio::spawn(async move { desk.send(op).await.is_ok() }));
                }
            }
            Step::Wait(time) => sleep(ms(time)).await,
            Step::Pause => eventually(desk.pause()).await.unwrap(),
            Step::Resume => eventually(desk.resume()).await.unwrap(),
            Step::Withdraw => {
                eventually(desk.withdraw(|op| op.is_multiple_of(2))).await.unwrap();
            }
            Step::Flush => {
                let desk = desk.clone();
                flushes.push(tokio::spawn(async move { desk.flush().await.unwrap() }));
            }
            Step::Limits(items, pending, policy) => {
                desk.set_limits(limits(items, pending, policy, recipe.in_flight)).unwrap();
            }
        }
        tokio::task::yield_now().await;
        conserved(&desk.stats());
        let since = start.elapsed().as_millis() as usize;
        let writes = destination.writes.load(Ordering::Relaxed);
        // A millisecond a freeze at least; each op may have attempts and splits of its own.
        assert!(writes <= since + 60 * next as usize + 100, "{writes} writes in {since} ms");
    }
    eventually(desk.resume()).await.unwrap();
    if recipe.shutdown {
        let summary = eventually(worker.shutdown().within(secs(3)).into_future()).await.unwrap();
        conserved(&summary.stats);
        assert_eq!(summary.stats.waiting + summary.stats.in_flight, 0);
        assert_eq!(summary.stats.outcomes.returned, summary.returned.len() as u64);
    } else {
        destination.healed.store(1, Ordering::Relaxed);
        let _ = eventually(desk.flush()).await.unwrap();
    }
    for sender in senders {
        eventually(sender).await.unwrap();
    }
    for flush in flushes {
        let _ = eventually(flush).await.unwrap();
    }
    let mut acks = Vec::new();
    for caller in callers {
        acks.extend(eventually(caller).await.unwrap());
    }
    if !recipe.shutdown {
        let _ = eventually(desk.flush()).await.unwrap();
        let stats = desk.stats();
        conserved(&stats);
        assert_eq!((stats.waiting, stats.in_flight), (0, 0));
        let last = eventually(desk.submit(u32::MAX)).await.unwrap();
        assert_eq!(eventually(last.outcome()).await.end, End::Delivered);
        assert!(!desk.stats().in_outage);
    }
    let landed = destination.landed.lock().unwrap();
    for (op, outcome) in acks {
        let times = landed.get(&op).copied().unwrap_or(0);
        match outcome.end {
            End::Delivered => assert!(times >= 1, "{op} is said to have landed"),
            End::InDoubt | End::Conflated | End::Returned => {}
            end => assert_eq!(times, 0, "{op} has landed, and is told {end:?}"),
        }
        assert!(recipe.idempotent || times <= 1, "{op} has landed {times} times");
        assert!(outcome.attempts <= 3, "{op}: {} attempts", outcome.attempts);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Goal: the promises hold in any outage. Method: random programs in front of random destinations; the outcome of
    /// each caller is compared with the ops that landed.
    #[test]
    fn all_promises_hold_in_random_outages(
        script in script(),
        steps in steps(),
        (partition, conflate, expire, idempotent, bisect) in any::<(bool, bool, bool, bool, bool)>(),
        give_up in prop::option::of(0u64..5000),
        base in prop_oneof![Just(0u64), 1u64..200],
        in_flight in 1usize..5,
        shutdown in any::<bool>(),
    ) {
        let recipe = Recipe { partition, conflate, expire, idempotent, bisect, give_up, base, in_flight, shutdown };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(run(recipe, script, steps));
    }
}
