//! The row `rules`: all three rules without the actor, against a `VecDeque`, in CPU time of one thread.

use std::{
    collections::VecDeque,
    hint::black_box,
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use roundlot::{BatchExt, Limits, Stages};
use tokio::runtime::{Builder, Runtime};

use super::Row;
use crate::{
    Error,
    bench::Bench,
    clock::{Span, thread_cpu},
    measure::{Variant, measure_fixed, named},
    op::{Op, mix},
    peers::{ours, rules_by_hand::ByHand, rules_in_full::InFull},
    report::Report,
};

pub(super) const ROW: Row = Row { name: "rules", about: "the three rules alone, in CPU time, against a VecDeque", run };

/// The number of ops in a run; all are made before the clock starts.
const OPS: u64 = 400_000;

/// The most ops in a batch.
const BATCH: usize = 1000;

/// The number of waiting ops at which roundlot's stream without a linger hands a batch over.
const WAITING: usize = 4 * BATCH;

const BY_HAND: &str = "the three rules by hand";
const IN_FULL: &str = "the same with what is owed to each op";
const DEEP_FIFO: &str = "VecDeque, 65,536 wait";
const DEEP: &str = "roundlot, three stages, 65,536 wait";

fn run(bench: &Bench) -> Result<Report, Error> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let runtime = &runtime;
    let ops = mix(bench.sized(OPS) as usize);
    let ops = ops.as_slice();
    let variants = vec![
        Variant::timed("VecDeque", |_| fifo(ops, WAITING)),
        Variant::timed("roundlot, three stages", |_| batched(runtime, ops, ours::stages(), Limits::new(BATCH))),
        Variant::timed(BY_HAND, |_| by_hand(ops)),
        Variant::timed(IN_FULL, |_| in_full(ops)),
        Variant::timed("roundlot, no stages", |_| batched(runtime, ops, Stages::new(), Limits::new(BATCH))),
        Variant::timed(DEEP_FIFO, |_| fifo(ops, ours::DEFAULT_PENDING)),
        Variant::timed(DEEP, |_| batched(runtime, ops, ours::stages(), Limits::new(BATCH).linger(Duration::MAX))),
    ];
    let results = measure_fixed(bench, variants, ops.len() as u64);
    let by_hand = named(&results, BY_HAND).cpu_against(named(&results, "VecDeque"));
    let in_full = named(&results, IN_FULL).cpu_against(named(&results, "VecDeque"));
    let deep = named(&results, DEEP).cpu_against(named(&results, DEEP_FIFO));
    let report = Report::of(&results)
        .left_out("all peers", "none has these rules")
        .note(
            "Time is CPU time of the one thread. All of it counts: taking the op from a Vec made beforehand, holding it, \
             taking it out of its batch, dropping it. Batches have at most 1,000 ops.",
        )
        .note("About 4,000 ops wait at a time, in both: that is when a partitioned stream without a linger hands a batch over.")
        .note(format!(
            "By hand, with the same hash table, and without verdicts, retries, deadlines or limits, the \
             multiple is {by_hand:.2}."
        ))
        .note(format!(
            "With what is owed to each op, as far as src/peers/rules_in_full.rs has it, and all types known to the \
             compiler, it is {in_full:.2}."
        ))
        .note(format!("With 65,536 waiting, which a linger without end comes to, the multiple is {deep:.2}."));
    Ok(report
        .figure("rules_vs_fifo", named(&results, "roundlot, three stages").cpu_against(named(&results, "VecDeque"))))
}

/// Pushes ops to a queue, and drains a batch as soon as `waiting` ops wait.
fn fifo(ops: &[Op], waiting: usize) -> (u64, Span) {
    let ops = ops.to_vec();
    let mut out = 0;
    let (total, clock) = (ops.len() as u64, Clock::start());
    let mut queue = VecDeque::new();
    let mut leave = |queue: &mut VecDeque<Op>| {
        let size = BATCH.min(queue.len());
        for op in queue.drain(..size) {
            black_box(op);
            out += 1;
        }
    };
    for op in ops {
        queue.push_back(op);
        if queue.len() == waiting {
            leave(&mut queue);
        }
    }
    while !queue.is_empty() {
        leave(&mut queue);
    }
    let span = clock.stop();
    assert_eq!(out, total, "ops that came out");
    (total, span)
}

/// Pushes ops to the rules by hand, and cuts the partition whose turn it is as soon as [`WAITING`] ops wait.
fn by_hand(ops: &[Op]) -> (u64, Span) {
    let ops = ops.to_vec();
    let (mut out, mut conflated) = (0, 0);
    let (total, clock) = (ops.len() as u64, Clock::start());
    let mut rules = ByHand::default();
    let mut leave = |rules: &mut ByHand| {
        for op in rules.cut(BATCH) {
            black_box(op);
            out += 1;
        }
    };
    for op in ops {
        conflated += u64::from(rules.push(op));
        if rules.waiting() == WAITING {
            leave(&mut rules);
        }
    }
    while rules.waiting() > 0 {
        leave(&mut rules);
    }
    let span = clock.stop();
    assert_eq!(out + conflated, total, "ops that came out or were superseded");
    (total, span)
}

/// Pushes ops to the rules in full, and cuts the best partition as soon as [`WAITING`] ops wait.
fn in_full(ops: &[Op]) -> (u64, Span) {
    let ops = ops.to_vec();
    let mut out = 0;
    let (total, clock) = (ops.len() as u64, Clock::start());
    let mut rules = InFull::default();
    // A counter stands in for the clock. It advances once per cut and costs nothing.
    let mut now = 0;
    let mut leave = |rules: &mut InFull, now: &mut u64| {
        *now += 1;
        let mut cut = rules.cut(BATCH, *now).expect("something waits");
        for op in cut.ops.drain(..) {
            black_box(op);
            out += 1;
        }
        rules.settle(cut);
    };
    for op in ops {
        rules.push(op, now);
        if rules.counts().waiting == WAITING {
            leave(&mut rules, &mut now);
        }
    }
    while rules.counts().waiting > 0 {
        leave(&mut rules, &mut now);
    }
    let span = clock.stop();
    assert_eq!(out + rules.counts().conflated, total, "ops that came out or were superseded");
    (total, span)
}

/// Runs ops through roundlot's batched stream.
fn batched(runtime: &Runtime, ops: &[Op], stages: Stages<Op>, limits: Limits) -> (u64, Span) {
    let ops = ops.to_vec();
    let (total, clock) = (ops.len() as u64, Clock::start());
    let mut batches = stream::iter(ops).batched(stages, limits);
    let mut out = 0;
    runtime.block_on(async {
        while let Some(batch) = batches.next().await {
            for op in batch {
                black_box(op);
                out += 1;
            }
        }
    });
    let span = clock.stop();
    assert_eq!(out + batches.stats().outcomes.conflated, total, "ops that came out or were superseded");
    (total, span)
}

/// The CPU time of this thread and the wall clock at the start. The figures are of the CPU time.
struct Clock(u64, Instant);

impl Clock {
    fn start() -> Self {
        Self(thread_cpu(), Instant::now())
    }

    fn stop(self) -> Span {
        Span { wall: self.1.elapsed(), cpu: Duration::from_nanos(thread_cpu() - self.0) }
    }
}
