//! The accumulator against a naive model of the same rules. Both take the same random steps, and must cut the same batches for
//! the same reasons at the same moments, and count the same ends.

pub(crate) mod cases;
pub(crate) mod model;
mod model_settle;
mod tokens;

use std::time::Duration;

use proptest::{prelude::*, test_runner::FileFailurePersistence};

use super::*;
use crate::rules::{
    batch::{ErrorKind, SinkError},
    outcome::End,
    stats::flush::{Cursor, FlushCaller, FlushReport},
};

use cases::{Meeting, Op, Recipe, Rest, THROTTLE, merge, retry, verdict};
use model::Model;
use tokens::Tokens;

#[derive(Debug, Clone)]
enum Step {
    Push(Vec<Op>),
    Wait(u64),
    Cut,
    /// Settles one of the batches in flight: a verdict per op, and one for the rest.
    Settle(usize, Vec<u8>, Rest),
    Withdraw(u8),
    Flush,
    Pause(bool),
    Press,
    Close,
}

fn error(rest: Rest) -> SinkError {
    match rest {
        Rest::Transient => SinkError::transient("later"),
        Rest::Ambiguous | Rest::AmbiguousAgain => SinkError::ambiguous("a probe"),
        Rest::TooLarge => SinkError::too_large("half of it"),
        Rest::Throttled => ErrorKind::Throttled { retry_after: THROTTLE }.into(),
        Rest::Outage => SinkError::outage("away"),
        Rest::ConnectionLost => SinkError::connection_lost("cut"),
        _ => SinkError::refused("never"),
    }
}

fn settle(
    accumulator: &mut Accumulator<Op, (), u64>,
    mut cut: Box<Cut<Op, (), u64>>,
    verdicts: &[u8],
    rest: Rest,
    now: Timestamp,
) {
    for i in 0..cut.batch.len() {
        match verdict(verdicts, i) {
            None => {}
            Some(Rest::Accept) => cut.batch.accept(i, ()),
            Some(Rest::AmbiguousAgain) => cut.batch.retry(i, error(Rest::AmbiguousAgain)),
            Some(failure) => cut.batch.refuse(i, error(failure)),
        }
    }
    let written = match rest {
        Rest::Accept => {
            let _ = cut.batch.accept_all();
            Written::Answered
        }
        Rest::Panicked => Written::Panicked("ouch".into()),
        Rest::Aborted => Written::Aborted,
        failure => Written::Failed(error(failure)),
    };
    accumulator.settle(cut, written, now);
}

fn stages(recipe: &Recipe, start: Timestamp) -> Stages<Op> {
    if recipe.plain {
        return Stages::new();
    }
    let mut stages = Stages::new().urgent_by(|op: &Op| op.urgent).weigh_by(|op: &Op| op.weight);
    stages.expiry = Some(Box::new(move |op: &Op| start.checked_add(Duration::from_millis(op.expires?))));
    if recipe.partition {
        stages = stages.partition_by(|op| op.part);
    }
    if recipe.conflate {
        stages = stages.conflate_by(|op| op.key, merge);
    }
    if let Some(window) = recipe.dedup {
        stages = stages.dedup_by(|op| op.dup, Duration::from_millis(window));
    }
    if recipe.priority {
        stages = stages.priority_by(|op| op.level);
    }
    if let Some(after) = recipe.aging.filter(|_| recipe.priority) {
        stages = stages.aging(Duration::from_millis(after));
    }
    stages
}

/// The caller of a flush that does not listen.
#[derive(Debug)]
struct NotTold;

impl FlushCaller for NotTold {
    fn is_gone(&self) -> bool {
        false
    }

    fn tell(self: Box<Self>, _: FlushReport, _: Cursor) {}
}

/// Both have counted the same, and no op is missing.
fn compare(real: &Accumulator<Op, (), u64>, model: &Model) -> Result<(), TestCaseError> {
    let stats = real.stats();
    prop_assert_eq!(stats.accepted, model.accepted);
    prop_assert_eq!(stats.in_outage, model.outage.is_some());
    prop_assert_eq!(stats.accepted, stats.ended() + stats.waiting + stats.in_flight, "not conserved: {:?}", stats);
    for end in End::ALL {
        prop_assert_eq!(stats.outcomes[end], model.ends.get(&end).copied().unwrap_or(0), "{:?}", end);
    }
    Ok(())
}

/// Hands both the same ops, as one run.
fn push(
    real: &mut Accumulator<Op, (), u64>,
    model: &mut Model,
    tokens: &mut Tokens,
    mut ops: Vec<Op>,
    at: Timestamp,
    now: Duration,
) {
    if model.recipe.plain {
        ops = ops.into_iter().map(Op::plain).collect();
    }
    for op in &ops {
        model.push(op.clone(), now.as_millis() as u64);
        model.forget_idle();
    }
    let run = Run { count: ops.len() as u32, at, has_permit: true, has_tokens: true, open_to: 0 };
    let mut issued = tokens.issue(ops.len());
    real.accept(run, &mut Arrivals::drain(&mut ops, &mut issued), at);
}

/// Takes the same steps with both, comparing as it goes.
fn run(recipe: &Recipe, steps: &[Step]) -> Result<(), TestCaseError> {
    let start = Timestamp::some();
    let policy = Policy {
        backoff: retry(recipe).start(),
        idempotent: recipe.idempotent,
        is_certain: false,
        bisect: recipe.bisect,
        page: recipe.page,
    };
    let mut real = Accumulator::<Op, (), u64>::new(stages(recipe, start), &recipe.limits, policy);
    let mut model = Model::new(recipe);
    let mut tokens = Tokens::default();
    let mut cuts: Vec<Box<Cut<Op, (), u64>>> = Vec::new();
    let mut now = Duration::ZERO;
    for step in steps {
        let at = start.checked_add(now).expect("a run is short");
        match step.clone() {
            Step::Push(ops) => push(&mut real, &mut model, &mut tokens, ops, at, now),
            Step::Wait(ms) => now += Duration::from_millis(ms),
            Step::Cut => {
                let cut = real.cut(at);
                let seen =
                    cut.as_ref().map(|cut| (cut.batch.cut_by(), cut.batch.iter().map(|op| op.id).collect::<Vec<_>>()));
                prop_assert_eq!(&seen, &model.cut(now));
                if let Some(cut) = cut {
                    let weight: usize = cut.batch.iter().map(|op| op.weight).sum();
                    prop_assert!((1..=recipe.limits.max_items).contains(&cut.batch.len()));
                    prop_assert!(weight <= recipe.limits.weight());
                    cuts.push(cut);
                } else {
                    prop_assert_eq!(real.deadline(at).map(|until| until.since(start)), model.deadline(now));
                }
            }
            Step::Settle(which, verdicts, rest) if !cuts.is_empty() => {
                let which = which % cuts.len();
                settle(&mut real, cuts.remove(which), &verdicts, rest, at);
                model.settle(which, &verdicts, rest, now);
            }
            Step::Settle(..) => {}
            Step::Withdraw(part) => {
                let gone: Vec<u32> = real.withdraw(|op| op.part == part, at).into_iter().map(|op| op.id).collect();
                prop_assert_eq!(gone, model.withdraw(part));
            }
            Step::Flush => {
                real.flush(Flush { since: Default::default(), caller: Box::new(NotTold) });
                real.flushed();
                model.flush_below = model.next_seq;
            }
            Step::Pause(paused) => {
                real.set_paused(paused);
                model.paused = paused;
            }
            Step::Press => {
                real.press();
                model.pressure_below = model.next_seq;
            }
            Step::Close => {
                real.close();
                model.closing = true;
            }
        }
        model.forget_idle();
        compare(&real, &model)?;
        tokens.check(&mut real)?;
    }
    let end = start.checked_add(now).expect("a run is short");
    cuts.into_iter().for_each(|cut| real.settle(cut, Written::Aborted, end));
    real.return_waiting(end);
    tokens.check_all(&mut real)
}

pub(crate) fn ops() -> impl Strategy<Value = Op> {
    let meeting = prop_oneof![
        4 => Just(Meeting::Replace), 1 => Just(Meeting::Yield), 2 => Just(Meeting::Net), 1 => Just(Meeting::Apart)
    ];
    (
        0..u32::MAX,
        0u8..4,
        prop::option::of(0u8..3),
        prop::option::weighted(0.2, 0u8..3),
        0u8..4,
        1usize..6,
        prop::bool::weighted(0.1),
        prop::option::weighted(0.2, 0u64..200),
        meeting,
    )
        .prop_map(|(id, part, key, dup, level, weight, urgent, expires, meeting)| Op {
            id,
            part,
            key,
            dup,
            level,
            weight,
            urgent,
            expires,
            meeting,
        })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let rest = prop_oneof![
        4 => Just(Rest::Accept),
        2 => Just(Rest::Transient),
        1 => Just(Rest::Ambiguous),
        1 => Just(Rest::Refused),
        1 => Just(Rest::TooLarge),
        1 => Just(Rest::Throttled),
        1 => Just(Rest::Outage),
        1 => Just(Rest::ConnectionLost),
        1 => Just(Rest::Panicked),
        1 => Just(Rest::Aborted),
    ];
    let step = prop_oneof![
        12 => prop::collection::vec(ops(), 1..4).prop_map(Step::Push),
        4 => (0u64..40).prop_map(Step::Wait),
        6 => Just(Step::Cut),
        4 => (0usize..8, prop::collection::vec(0u8..8, 0..6), rest).prop_map(|(which, v, rest)| Step::Settle(which, v, rest)),
        1 => (0u8..4).prop_map(Step::Withdraw),
        1 => Just(Step::Flush),
        1 => any::<bool>().prop_map(Step::Pause),
        1 => Just(Step::Press),
    ];
    (prop::collection::vec(step, 0..120), any::<bool>()).prop_map(|(mut steps, close)| {
        if close {
            steps.insert(steps.len() * 2 / 3, Step::Close);
        }
        steps
    })
}

pub(crate) fn recipes() -> impl Strategy<Value = Recipe> {
    let linger = prop_oneof![Just(0u64), 1u64..50, Just(u64::MAX)];
    let limits = (1usize..6, 5usize..12, linger, 3usize..30, 1usize..4, any::<bool>());
    let limits = limits.prop_map(|(items, weight, linger, pending, in_flight, adaptive)| {
        let linger = if linger == u64::MAX { Duration::MAX } else { Duration::from_millis(linger) };
        let limits = Limits::new(items).max_weight(weight).linger(linger).max_pending(pending);
        limits.max_in_flight(in_flight).adaptive(adaptive)
    });
    (
        (any::<bool>(), any::<bool>(), prop::option::of(1u64..100), any::<bool>(), prop::option::of(1u64..60)),
        limits,
        (1u32..5, prop::option::of(1u64..80), any::<bool>(), any::<bool>(), prop::option::weighted(0.2, 1usize..4)),
        prop::bool::weighted(0.2),
    )
        .prop_map(
            |(
                (partition, conflate, dedup, priority, aging),
                limits,
                (max_attempts, give_up_after, idempotent, bisect, page),
                plain,
            )| {
                if plain {
                    let limits = Limits { max_weight: None, ..limits };
                    let (partition, conflate, dedup, priority, aging) = (false, false, None, false, None);
                    return Recipe {
                        plain,
                        partition,
                        conflate,
                        dedup,
                        priority,
                        aging,
                        limits,
                        max_attempts,
                        give_up_after,
                        idempotent,
                        bisect,
                        page,
                    };
                }
                Recipe {
                    plain,
                    partition,
                    conflate,
                    dedup,
                    priority,
                    aging: aging.filter(|_| priority),
                    limits,
                    max_attempts,
                    give_up_after,
                    idempotent,
                    bisect,
                    page,
                }
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1500,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    /// Goal: all rules hold across each other. Method: random recipes and steps, compared with the naive model.
    #[test]
    fn the_rules_agree_with_the_naive_model(recipe in recipes(), steps in steps()) {
        run(&recipe, &steps)?;
    }
}
