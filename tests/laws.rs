//! The promises as laws, under random operations, failures, cancellations and clock steps, against a naive model.
//!
//! The rules by themselves are compared with an exact model next to their code. These tests run them inside the actor
//! and the stream, on a paused clock, through the public API.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{FutureExt, StreamExt};
use proptest::{prelude::*, test_runner::FileFailurePersistence};
use roundlot::{
    Ack, AckError, Batch, BatchExt, Batcher, Bucket, CutBy, End, ErrorKind, Handle, Limits, Overflow, Quota, Retry,
    Settled, Sink, SinkError, Stages, Stats, stage,
    testing::{advance, until_idle},
};
use tokio::time::Instant;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[derive(Debug, Clone)]
struct Op {
    /// Unique, and in order of sending.
    id: u64,
    part: u8,
    key: Option<u8>,
    level: u8,
    weight: usize,
    urgent: bool,
}

#[derive(Debug, Clone)]
struct Recipe {
    partition: bool,
    conflate: bool,
    priority: bool,
    limits: Limits,
    attempts: u32,
    idempotent: bool,
    bisect: bool,
    quota: Option<Allowance>,
}

/// Limits of the sink within each window.
#[derive(Debug, Clone, Copy)]
struct Allowance {
    ops: u64,
    /// Ops of one partition.
    ops_of_part: u64,
    calls: u64,
    window: u64,
    paced: bool,
}

impl Allowance {
    fn quota(self, recipe: &Recipe) -> Quota<Op> {
        let bucket = |limit| {
            let bucket = Bucket::rolling(limit, ms(self.window)).jitter(Duration::ZERO);
            if self.paced { bucket } else { bucket.unpaced() }
        };
        let quota = Quota::new()
            .bucket("weight", bucket(self.ops * 4))
            .cost("weight", |op: &Op| op.weight as u64)
            .bucket("ops", bucket(self.ops))
            .bucket("calls", bucket(self.calls).per_call(1))
            .reserve(0.2, |op| op.urgent);
        if recipe.partition { quota.bucket("part", bucket(self.ops_of_part).by(|op: &Op| op.part)) } else { quota }
    }

    /// Whether writes were within it: when each began, and its ops.
    fn holds(self, writes: &[(Instant, Vec<Op>)]) -> bool {
        writes.iter().all(|(now, _)| {
            let within = || writes.iter().filter(|(at, _)| at <= now && *now - *at < ms(self.window));
            let ops = || within().flat_map(|(_, ops)| ops);
            let most_of_a_part = (0..3).map(|part| ops().filter(|op| op.part == part).count()).max();
            ops().count() as u64 <= self.ops
                && ops().map(|op| op.weight as u64).sum::<u64>() <= self.ops * 4
                && within().count() as u64 <= self.calls
                && most_of_a_part.unwrap_or(0) as u64 <= self.ops_of_part
        })
    }
}

impl Recipe {
    fn stages(&self) -> Stages<Op> {
        let mut stages = Stages::new().urgent_by(|op: &Op| op.urgent).weigh_by(|op: &Op| op.weight);
        if self.partition {
            stages = stages.partition_by(|op| op.part);
        }
        if self.conflate {
            stages = stages.conflate_by(|op| op.key, stage::latest);
        }
        if self.priority {
            stages = stages.priority_by(|op| op.level);
        }
        stages
    }

    fn part(&self, op: &Op) -> u8 {
        if self.partition { op.part } else { 0 }
    }

    /// Returns the key of conflation.
    fn key(&self, op: &Op) -> Option<(u8, u8)> {
        op.key.filter(|_| self.conflate).map(|key| (self.part(op), key))
    }
}

#[derive(Debug, Clone)]
enum Step {
    Send(Op),
    Submit(Op),
    SendAll(Vec<Op>),
    /// A send that is dropped if it does not finish at once.
    Canceled(Op),
    Advance(u64),
    Idle,
    Flush,
    AbandonFlush,
    Withdraw(u8),
    Pause,
    Resume,
    SetMaxItems(usize),
}

/// The reaction of the sink to its next write.
#[derive(Debug, Clone, Copy)]
enum Deed {
    Accept,
    /// Accepts after this many milliseconds.
    Slow(u64),
    Fail(ErrorKind),
    LoseConnection,
    /// Accepts some ops and fails the rest.
    Partly(ErrorKind),
    Unanswered,
    Panic,
}

/// A sink that follows a script, and records the batches that it saw.
#[derive(Clone)]
struct Scripted {
    recipe: Recipe,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    script: Vec<Deed>,
    writes: usize,
    /// Each batch: the reason of its cut, and its ops.
    batches: Vec<(CutBy, Vec<Op>)>,
    /// When each of them was written.
    times: Vec<Instant>,
    accepted: Vec<u64>,
    in_flight: usize,
    parts_in_flight: HashSet<u8>,
    problems: Vec<String>,
}

impl Scripted {
    /// Checks the laws of a batch, and takes its deed from the script.
    fn begin(&self, batch: &Batch<Op, u64>) -> Deed {
        let mut seen = self.seen.lock().unwrap();
        let limits = &self.recipe.limits;
        seen.in_flight += 1;
        let parts: HashSet<u8> = batch.iter().map(|op| self.recipe.part(op)).collect();
        let weight: usize = batch.iter().map(|op| op.weight).sum();
        let mut check = |ok: bool, law: &str| {
            if !ok {
                let batch: Vec<_> = batch.iter().cloned().collect();
                seen.problems.push(format!("{law}: {batch:?}"));
            }
        };
        check(!batch.is_empty(), "never an empty batch");
        check(batch.len() <= MAX_ITEMS, "no batch above max_items");
        check(weight <= 12, "no batch above max_weight");
        check(parts.len() == 1, "a batch never mixes partitions");
        if self.recipe.priority {
            let sorted = batch.iter().is_sorted_by(|a, b| a.level >= b.level || self.recipe.conflate);
            check(sorted, "greater levels first");
        }
        let keys: Vec<_> = batch.iter().filter_map(|op| self.recipe.key(op)).collect();
        check(keys.iter().collect::<HashSet<_>>().len() == keys.len(), "one op per key");
        let part = *parts.iter().next().unwrap_or(&0);
        let alone = seen.parts_in_flight.insert(part);
        if !alone {
            seen.problems.push("two batches of one partition in flight".into());
        }
        if seen.in_flight > limits_in_flight(limits) {
            seen.problems.push("more writes than max_in_flight".into());
        }
        seen.batches.push((batch.cut_by(), batch.iter().cloned().collect()));
        seen.times.push(Instant::now());
        let deed = seen.script.get(seen.writes).copied().unwrap_or(Deed::Accept);
        seen.writes += 1;
        deed
    }

    fn accept(&self, batch: &mut Batch<Op, u64>, some: impl Fn(&Op) -> bool) {
        let mut seen = self.seen.lock().unwrap();
        let open: Vec<usize> = batch.pending().indexed().filter(|(_, op)| some(op)).map(|(i, _)| i).collect();
        for i in open {
            seen.accepted.push(batch[i].id);
            let id = batch[i].id;
            batch.accept(i, id);
        }
    }
}

/// A guard that frees the partition however the write ends.
struct InFlight(Arc<Mutex<Seen>>, u8);

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut seen = self.0.lock().unwrap();
        seen.in_flight -= 1;
        seen.parts_in_flight.remove(&self.1);
    }
}

fn limits_in_flight(_: &Limits) -> usize {
    3
}

/// Maximum of `max_items` in any run: steps change the limit, but never above this.
const MAX_ITEMS: usize = 6;

impl Sink<Op, u64> for Scripted {
    async fn write(&self, batch: &mut Batch<Op, u64>) -> Result<Settled, SinkError> {
        let deed = self.begin(batch);
        let _in_flight = InFlight(Arc::clone(&self.seen), self.recipe.part(&batch[0]));
        match deed {
            Deed::Accept => {}
            Deed::Slow(time) => tokio::time::sleep(ms(time)).await,
            Deed::Fail(kind) => return Err(kind.into()),
            Deed::LoseConnection => return Err(SinkError::connection_lost("scripted")),
            Deed::Partly(kind) => {
                self.accept(batch, |op| op.id % 2 == 0);
                return Err(kind.into());
            }
            Deed::Unanswered => {
                self.accept(batch, |op| op.id % 3 == 0);
                return batch.settled();
            }
            Deed::Panic => panic!("scripted"),
        }
        self.accept(batch, |_| true);
        batch.settled()
    }
}

/// The test's record of the ops it has sent.
#[derive(Default)]
struct Model {
    sent: BTreeMap<u64, Op>,
    acks: Vec<(u64, Ack<u64>)>,
    withdrawn: Vec<u64>,
    withdrawn_in_doubt: u64,
    /// Ids of the ops that were not accepted, or whose send was dropped.
    canceled: HashSet<u64>,
}

async fn take(step: Step, desk: &Handle<Op, u64>, model: &mut Model) -> Result<(), TestCaseError> {
    match step {
        Step::Send(op) => {
            model.sent.insert(op.id, op.clone());
            // A paused batcher with a full buffer would wait for ever.
            if tokio::time::timeout(ms(500), desk.send(op.clone())).await.is_err() {
                model.canceled.insert(op.id);
            }
        }
        Step::Submit(op) => {
            model.sent.insert(op.id, op.clone());
            match tokio::time::timeout(ms(500), desk.submit(op.clone())).await {
                Ok(ack) => model.acks.push((op.id, ack.unwrap())),
                Err(_) => drop(model.canceled.insert(op.id)),
            }
        }
        Step::SendAll(ops) => {
            model.sent.extend(ops.iter().map(|op| (op.id, op.clone())));
            let before = desk.stats().accepted;
            if tokio::time::timeout(ms(500), desk.send_all(ops.clone())).await.is_err() {
                let taken = (desk.stats().accepted - before) as usize;
                model.canceled.extend(ops[taken..].iter().map(|op| op.id));
            }
        }
        Step::Canceled(op) => {
            let id = op.id;
            model.sent.insert(id, op.clone());
            if desk.send(op).now_or_never().is_none() {
                model.canceled.insert(id);
            }
        }
        Step::Advance(time) => advance(ms(time)).await,
        Step::Idle => until_idle().await,
        Step::Flush => {
            let before = desk.stats();
            if let Ok(report) = tokio::time::timeout(ms(2000), desk.flush()).await {
                let after = desk.stats();
                let settled = after.ended();
                prop_assert!(settled >= before.accepted, "a flush left ops of before it unsettled: {after:?}");
                prop_assert!(report.unwrap().total() <= settled);
            }
        }
        Step::AbandonFlush => drop(desk.flush().now_or_never()),
        Step::Withdraw(part) => {
            let before = desk.stats();
            let gone = desk.withdraw(move |op| op.part == part).await.unwrap();
            prop_assert!(gone.iter().all(|op| op.part == part));
            model.withdrawn.extend(gone.iter().map(|op| op.id));
            // A returned op that may have landed already is in doubt.
            let after = desk.stats();
            model.withdrawn_in_doubt += gone.len() as u64 - (after.outcomes.withdrawn - before.outcomes.withdrawn);
        }
        Step::Pause => desk.pause().await.unwrap(),
        Step::Resume => desk.resume().await.unwrap(),
        Step::SetMaxItems(_) => {}
    }
    Ok(())
}

fn conserved(stats: &Stats) -> Result<(), TestCaseError> {
    prop_assert_eq!(stats.accepted, stats.ended() + stats.waiting + stats.in_flight, "not conserved: {:?}", stats);
    Ok(())
}

/// Runs the steps through an actor, and checks the laws on its record.
async fn run(recipe: Recipe, steps: Vec<Step>, script: Vec<Deed>) -> Result<(), TestCaseError> {
    let seen = Arc::new(Mutex::new(Seen { script, ..Seen::default() }));
    let sink = Scripted { recipe: recipe.clone(), seen: Arc::clone(&seen) };
    let letters = roundlot::testing::Recorder::<Letter>::new();
    let mut batcher = Batcher::new(sink)
        .stages(recipe.stages())
        .limits(recipe.limits.clone())
        .retry(Retry::exponential(ms(5), ms(40)).max_attempts(recipe.attempts).seed(1))
        .dead_letters(
            letters.clone().map(|letter: &roundlot::DeadLetter<Op>| Letter { id: letter.op.id, end: letter.end() }),
        );
    if recipe.idempotent {
        batcher = batcher.idempotent();
    }
    if recipe.bisect {
        batcher = batcher.bisect();
    }
    if let Some(allowance) = recipe.quota {
        batcher = batcher.quota(allowance.quota(&recipe));
    }
    let (desk, worker) = batcher.spawn();
    let mut model = Model::default();
    for step in steps {
        if let Step::SetMaxItems(items) = step {
            desk.set_limits(recipe.limits.clone().max_items(items)).unwrap();
            continue;
        }
        take(step, &desk, &mut model).await?;
        let stats = desk.stats();
        conserved(&stats)?;
        prop_assert!(stats.waiting + stats.in_flight <= recipe.limits.max_pending as u64, "{stats:?}");
    }
    desk.resume().await.unwrap();
    let summary = worker.shutdown().within(ms(60_000)).await.unwrap();
    let stats = summary.stats;
    conserved(&stats)?;
    prop_assert_eq!(stats.waiting + stats.in_flight, 0);
    prop_assert_eq!(stats.accepted as usize, model.sent.len() - model.canceled.len());
    prop_assert!(desk.is_closed());
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    prop_assert!(seen.problems.is_empty(), "{:?}", seen.problems);
    if let Some(allowance) = recipe.quota {
        let ops = seen.batches.iter().map(|(_, ops)| ops.clone());
        let writes: Vec<_> = seen.times.iter().copied().zip(ops).collect();
        let allowance = if recipe.partition { allowance } else { Allowance { ops_of_part: u64::MAX, ..allowance } };
        prop_assert!(allowance.holds(&writes), "more than the quota allows: {writes:?}");
    }
    let returned: Vec<u64> = summary.returned.iter().map(|returned| returned.op.id).collect();
    let letters = letters.ops();
    every_op_ended_once(&seen, &stats, &model, &letters, &returned)?;
    values_in_order(&recipe, &seen)?;
    answers_are_true(&seen, &mut model).await
}

#[derive(Debug, Clone)]
struct Letter {
    id: u64,
    end: End,
}

/// Checks conservation, op by op: no op is in two places, and the counts are those of the places.
fn every_op_ended_once(
    seen: &Seen,
    stats: &Stats,
    model: &Model,
    letters: &[Letter],
    returned: &[u64],
) -> Result<(), TestCaseError> {
    let of = |end: End| letters.iter().filter(|letter| letter.end == end).count() as u64;
    prop_assert_eq!(seen.accepted.len() as u64, stats.outcomes.delivered);
    prop_assert_eq!(of(End::InDoubt) + model.withdrawn_in_doubt, stats.outcomes.in_doubt);
    prop_assert_eq!((of(End::Refused), of(End::Exhausted)), (stats.outcomes.refused, stats.outcomes.exhausted));
    prop_assert_eq!(model.withdrawn.len() as u64, stats.outcomes.withdrawn + model.withdrawn_in_doubt);
    prop_assert_eq!(returned.len() as u64, stats.outcomes.returned);
    let letters = letters.iter().map(|letter| letter.id);
    let places = seen.accepted.iter().chain(&model.withdrawn).chain(returned).copied().chain(letters);
    let mut ids = HashSet::new();
    for id in places {
        prop_assert!(ids.insert(id), "op {id} ended twice");
        prop_assert!(!model.canceled.contains(&id), "op {id} was never accepted");
    }
    prop_assert_eq!(ids.len() as u64 + stats.outcomes.conflated, stats.accepted, "what is nowhere was conflated");
    Ok(())
}

/// Checks that no stale value follows a newer one. Within a partition and level, first writes are in order of arrival.
fn values_in_order(recipe: &Recipe, seen: &Seen) -> Result<(), TestCaseError> {
    let mut newest: HashMap<(u8, u8), u64> = HashMap::new();
    let mut last: HashMap<(u8, u8), u64> = HashMap::new();
    let mut known = HashSet::new();
    for op in seen.batches.iter().flat_map(|(_, ops)| ops) {
        if let Some(key) = recipe.key(op) {
            let newest = newest.entry(key).or_insert(op.id);
            prop_assert!(op.id >= *newest, "{op:?} was sent after {newest}");
            *newest = op.id;
        } else if known.insert(op.id) {
            let level = if recipe.priority { op.level } else { 0 };
            let last = last.entry((recipe.part(op), level)).or_insert(op.id);
            prop_assert!(op.id >= *last, "{op:?} overtook {last}");
            *last = op.id;
        }
    }
    Ok(())
}

/// Checks that each caller is told the truth.
async fn answers_are_true(seen: &Seen, model: &mut Model) -> Result<(), TestCaseError> {
    let accepted: HashSet<u64> = seen.accepted.iter().copied().collect();
    for (id, ack) in model.acks.drain(..) {
        let outcome = ack.outcome().await;
        match (outcome.end, outcome.result) {
            (End::Delivered, Ok(receipt)) => {
                prop_assert_eq!(receipt, id);
                prop_assert!(accepted.contains(&id));
            }
            (End::Conflated, Ok(survivor)) => {
                prop_assert!(!accepted.contains(&id), "a value that was superseded was sent");
                prop_assert!(survivor > id && accepted.contains(&survivor));
            }
            (End::Lost, _) | (_, Err(AckError::Lost)) => prop_assert!(false, "op {id} was lost"),
            (End::Conflated, Err(_)) => prop_assert!(!accepted.contains(&id)),
            (end, Ok(_)) => prop_assert!(false, "a receipt for an op that ended as {end:?}"),
            (end, Err(error)) => {
                prop_assert_eq!(end, error.end());
                prop_assert!(!accepted.contains(&id));
            }
        }
    }
    Ok(())
}

fn recipes() -> impl Strategy<Value = Recipe> {
    let linger = prop_oneof![Just(Duration::ZERO), (1u64..40).prop_map(ms), Just(Duration::MAX)];
    let allowance = (5u64..20, 5u64..20, 1u64..10, 20u64..400, any::<bool>())
        .prop_map(|(ops, ops_of_part, calls, window, paced)| Allowance { ops, ops_of_part, calls, window, paced });
    // The reserve keeps one call, so that at least two are needed.
    let allowance = allowance.prop_map(|allowance| Allowance { calls: allowance.calls + 1, ..allowance });
    let quota = prop::option::of(allowance);
    (any::<[bool; 6]>(), linger, 1usize..=MAX_ITEMS, 2usize..40, 1u32..4, quota).prop_map(
        |([partition, conflate, priority, idempotent, bisect, adaptive], linger, items, pending, attempts, quota)| {
            Recipe {
                partition,
                conflate,
                priority,
                limits: Limits::new(items)
                    .max_weight(12)
                    .linger(linger)
                    .max_pending(pending)
                    .max_in_flight(3)
                    .adaptive(adaptive),
                attempts,
                idempotent,
                bisect,
                quota,
            }
        },
    )
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let op = (0u8..3, prop::option::of(0u8..3), 0u8..3, 1usize..5, prop::bool::weighted(0.05))
        .prop_map(|(part, key, level, weight, urgent)| Op { id: 0, part, key, level, weight, urgent });
    let step = prop_oneof![
        8 => op.clone().prop_map(Step::Send),
        6 => op.clone().prop_map(Step::Submit),
        2 => prop::collection::vec(op.clone(), 0..20).prop_map(Step::SendAll),
        2 => op.prop_map(Step::Canceled),
        5 => (0u64..30).prop_map(Step::Advance),
        4 => Just(Step::Idle),
        1 => Just(Step::Flush),
        1 => Just(Step::AbandonFlush),
        1 => (0u8..3).prop_map(Step::Withdraw),
        1 => Just(Step::Pause),
        2 => Just(Step::Resume),
        1 => (1usize..=MAX_ITEMS).prop_map(Step::SetMaxItems),
    ];
    prop::collection::vec(step, 0..60).prop_map(numbered)
}

/// Numbers the ids in the order of sending, so that a newer op has a greater id.
fn numbered(mut steps: Vec<Step>) -> Vec<Step> {
    let mut ids = 0..;
    let mut number = |op: &mut Op| op.id = ids.next().unwrap();
    for step in &mut steps {
        match step {
            Step::Send(op) | Step::Submit(op) | Step::Canceled(op) => number(op),
            Step::SendAll(ops) => ops.iter_mut().for_each(&mut number),
            _ => {}
        }
    }
    steps
}

fn scripts() -> impl Strategy<Value = Vec<Deed>> {
    let kind = prop_oneof![
        4 => Just(ErrorKind::Transient),
        2 => Just(ErrorKind::Outage),
        1 => Just(ErrorKind::Throttled { retry_after: ms(25) }),
        2 => Just(ErrorKind::Ambiguous),
        2 => Just(ErrorKind::Refused),
        2 => Just(ErrorKind::TooLarge),
    ];
    let deed = prop_oneof![
        6 => Just(Deed::Accept),
        4 => (1u64..60).prop_map(Deed::Slow),
        4 => kind.clone().prop_map(Deed::Fail),
        3 => kind.prop_map(Deed::Partly),
        1 => Just(Deed::LoseConnection),
        1 => Just(Deed::Unanswered),
        1 => Just(Deed::Panic),
    ];
    prop::collection::vec(deed, 0..30)
}

fn on_a_paused_clock<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(future)
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config(400))]

    /// Goal: conservation, caps, order, flush, keep-latest and truthful answers, whatever happens. Method: random steps
    /// against a sink that does random things.
    #[test]
    fn the_actor_keeps_its_promises(recipe in recipes(), steps in steps(), script in scripts()) {
        on_a_paused_clock(run(recipe, steps, script))?;
    }

    /// Goal: a full buffer that evicts never makes a sender wait and never holds more than its bound. Method: bursts
    /// into a paused batcher, and a look at the remaining ops.
    #[test]
    fn eviction_keeps_the_bound_and_the_best(
        levels in prop::collection::vec(0u8..4, 1..80),
        pending in 1usize..20,
        lowest in any::<bool>(),
    ) {
        on_a_paused_clock(async {
            let overflow = if lowest { Overflow::EvictLowest } else { Overflow::EvictOldest };
            let sink = roundlot::testing::Recorder::<(usize, u8)>::new();
            let (desk, worker) = Batcher::new(sink.clone())
                .stages(Stages::new().priority_by(|op: &(usize, u8)| op.1))
                .limits(Limits::new(1000).max_pending(pending).overflow(overflow))
                .spawn();
            desk.pause().await.unwrap();
            let ops: Vec<(usize, u8)> = levels.iter().copied().enumerate().collect();
            for (i, op) in ops.iter().enumerate() {
                desk.send(*op).now_or_never().expect("never waits").unwrap();
                if i % 7 == 0 {
                    until_idle().await;
                    prop_assert!(desk.stats().waiting <= pending as u64);
                }
            }
            until_idle().await;
            // The naive model: the evicted op is the first of the lowest level, or the first of all.
            let mut left: Vec<(usize, u8)> = Vec::new();
            for op in ops {
                left.push(op);
                if left.len() > pending {
                    let victim = left.iter().min_by_key(|op| (if lowest { op.1 } else { 0 }, op.0)).copied();
                    left.retain(|op| Some(*op) != victim);
                }
            }
            desk.resume().await.unwrap();
            let stats = worker.shutdown().await.unwrap().stats;
            left.sort_by_key(|op| (std::cmp::Reverse(op.1), op.0));
            prop_assert_eq!(sink.ops(), left);
            prop_assert_eq!(stats.outcomes.evicted, levels.len().saturating_sub(pending) as u64);
            Ok(())
        })?;
    }

    /// Goal: the stages do the same on a stream: age from arrival, caps, keep-latest, order, nothing lost. Method: items
    /// at random times, and a naive account of each batch.
    #[test]
    fn a_stream_keeps_the_laws_of_the_batcher(
        recipe in recipes(),
        items in prop::collection::vec((0u64..15, 0u8..3, prop::option::of(0u8..3), 0u8..3, 1usize..5), 0..60),
    ) {
        on_a_paused_clock(batches_of_a_stream(recipe, items))?;
    }
}

async fn batches_of_a_stream(
    recipe: Recipe,
    items: Vec<(u64, u8, Option<u8>, u8, usize)>,
) -> Result<(), TestCaseError> {
    let start = Instant::now();
    let mut due = 0;
    let mut ops = Vec::new();
    for (id, (gap, part, key, level, weight)) in items.into_iter().enumerate() {
        due += gap;
        ops.push((due, Op { id: id as u64, part, key, level, weight, urgent: false }));
    }
    let source = futures::stream::iter(ops.clone()).then(move |(due, op)| async move {
        tokio::time::sleep_until(start + ms(due)).await;
        op
    });
    let mut batches = source.batched(recipe.stages(), recipe.limits.clone());
    let seen = Mutex::new(Seen::default());
    let arrival: HashMap<u64, u64> = ops.iter().map(|(due, op)| (op.id, *due)).collect();
    let end = due;
    while let Some(batch) = batches.next().await {
        let now = start.elapsed().as_millis() as u64;
        let weight: usize = batch.iter().map(|op| op.weight).sum();
        let parts: HashSet<u8> = batch.iter().map(|op| recipe.part(op)).collect();
        prop_assert!(!batch.is_empty() && batch.len() <= MAX_ITEMS && weight <= 12);
        prop_assert_eq!(parts.len(), 1);
        // The consumer is never held up, so no item is kept beyond its linger, or beyond the end of the stream.
        let oldest = batch.iter().map(|op| arrival[&op.id]).min().unwrap();
        if let Some(until) = Duration::from_millis(oldest).checked_add(recipe.limits_linger()) {
            prop_assert!(now <= until.as_millis() as u64 || now <= end, "{} after {:?}", now, until);
        }
        seen.lock().unwrap().batches.push((CutBy::Full, batch));
    }
    let seen = seen.into_inner().unwrap();
    values_in_order(&recipe, &seen)?;
    let emitted: u64 = seen.batches.iter().map(|(_, ops)| ops.len() as u64).sum();
    let stats = batches.stats();
    conserved(&stats)?;
    prop_assert_eq!(stats.accepted, ops.len() as u64);
    prop_assert_eq!(emitted, stats.outcomes.delivered);
    prop_assert_eq!(emitted + stats.outcomes.conflated, stats.accepted);
    // The latest value of each key is among what was emitted.
    let mut latest: HashMap<(u8, u8), u64> = HashMap::new();
    for (_, op) in &ops {
        if let Some(key) = recipe.key(op) {
            latest.insert(key, op.id);
        }
    }
    let emitted: HashSet<u64> = seen.batches.iter().flat_map(|(_, ops)| ops).map(|op| op.id).collect();
    prop_assert!(latest.values().all(|id| emitted.contains(id)), "a latest value is missing");
    Ok(())
}

impl Recipe {
    fn limits_linger(&self) -> Duration {
        // The settings are read back as a user would read them.
        let settings = toml::Table::try_from(&self.limits).unwrap();
        match settings["linger"].as_str().unwrap() {
            "max" => Duration::MAX,
            text => humantime::parse_duration(text).unwrap(),
        }
    }
}
