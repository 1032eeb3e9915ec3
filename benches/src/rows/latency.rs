//! The row `latency`: the time of an op from `send` to the sink at 10,000 ops/s, against a bare loop of `recv`.
//!
//! Natural batching has no linger, so roundlot should add only its own work.

use std::{
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use futures::executor::block_on;
use hdrhistogram::Histogram;
use roundlot::{Batch, Batcher, Handle, Limits, Settled, Sink, SinkError};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

use super::Row;
use crate::{
    Error,
    bench::Bench,
    chart::{Bar, Chart},
    op::Op,
    peers::{BATCH, SLOTS},
    report::{Report, Table, digits},
    statistics::{Summary, paired_ratio},
};

pub(super) const ROW: Row = Row { name: "latency", about: "time from send to the sink at 10,000 ops/s", run };

/// The time between ops: 10,000 ops/s, far below what either variant can take.
const PERIOD: Duration = Duration::from_micros(100);

/// The number of ops that a task sends per tick, since the runtime's timer has a resolution of 1 ms.
const PER_TICK: u64 = 10;

/// The number of ops per variant and round.
const OPS: u64 = 6_000;

/// The kind of sender.
#[derive(Clone, Copy)]
enum Pace {
    /// A thread of its own, with one op each 100 µs.
    Thread,
    /// A task of the same runtime, with ten ops each millisecond.
    Task,
}

/// Name, sender, and whether roundlot is measured.
const VARIANTS: [(&str, Pace, bool); 4] = [
    ("bare recv loop, from a thread", Pace::Thread, false),
    ("roundlot, from a thread", Pace::Thread, true),
    ("bare recv loop, from a task", Pace::Task, false),
    ("roundlot, from a task", Pace::Task, true),
];

fn run(bench: &Bench) -> Result<Report, Error> {
    let ops = bench.sized(OPS).next_multiple_of(PER_TICK);
    let mut medians: [Vec<f64>; 4] = Default::default();
    let mut all = [(); 4].map(|()| histogram());
    for round in 0..bench.rounds {
        for turn in 0..VARIANTS.len() {
            let i = (round + turn) % VARIANTS.len();
            let (_, pace, ours) = VARIANTS[i];
            let times = if ours { through_roundlot(bench, pace, ops) } else { through_recv(bench, pace, ops) };
            medians[i].push(times.value_at_quantile(0.5) as f64);
            all[i].add(times)?;
        }
    }
    let head = ["variant", "median µs", "quartiles of the rounds", "p90", "p99", "p99.9"];
    let (mut table, mut bars) = (Table::new(head), Vec::new());
    for (((name, ..), medians), times) in VARIANTS.iter().zip(&medians).zip(&all) {
        let at = |quantile| digits(times.value_at_quantile(quantile) as f64 / 1000.0);
        let of = Summary::of(medians);
        let [median, low, high] = [of.median, of.low, of.high].map(|ns| ns / 1000.0);
        let spread = format!("{} .. {}", digits(low), digits(high));
        table = table.row([(*name).into(), digits(median), spread, at(0.9), at(0.99), at(0.999)]);
        bars.push(Bar { name: (*name).into(), value: median, low, high });
    }
    let chart = Chart { title: "median, in µs".into(), bars };
    let by_task = paired_ratio(&medians[3], &medians[2]);
    let report = Report { table, charts: vec![chart], ..Report::default() };
    Ok(report
        .note("From a thread: one op each 100 µs, so that each op finds the task asleep; the figure is of these.")
        .note("From a task of the runtime: ten ops each millisecond, which is what the runtime's timer can do.")
        .note(format!("From a task the ratio of the medians is {by_task:.2}: such an op crosses no thread."))
        .figure("latency_vs_recv", paired_ratio(&medians[1], &medians[0])))
}

/// A histogram from 1 ns to 10 s with three significant digits.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 10_000_000_000, 3).expect("the bounds make sense")
}

/// A record of the latency of ops, filled as a sink or by the bare loop. Clones share the histogram.
#[derive(Clone)]
struct Times {
    /// The zero of `Op::sent_ns`.
    start: Instant,
    seen: Arc<Mutex<Histogram<u64>>>,
}

impl Times {
    fn start() -> Self {
        Self { start: Instant::now(), seen: Arc::new(Mutex::new(histogram())) }
    }

    fn now(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    fn op(&self, id: u64) -> Op {
        Op { sent_ns: self.now(), ..Op::numbered(id) }
    }

    fn note(&self, ops: &[Op]) {
        let now = self.now();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        ops.iter().for_each(|op| seen.saturating_record(now - op.sent_ns));
    }

    fn end(&self, ops: u64) -> Histogram<u64> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        assert_eq!(seen.len(), ops, "ops that arrived");
        seen.clone()
    }
}

impl Sink<Op> for Times {
    async fn write(&self, batch: &mut Batch<Op>) -> Result<Settled, SinkError> {
        self.note(batch.ops());
        Ok(batch.accept_all())
    }
}

/// The sending side of either variant.
enum Desk {
    Roundlot(Handle<Op>),
    Raw(mpsc::Sender<Op>),
}

impl Desk {
    async fn send(&self, op: Op) {
        match self {
            Self::Roundlot(desk) => desk.send(op).await.expect("the batcher runs"),
            Self::Raw(desk) => desk.send(op).await.expect("the loop runs"),
        }
    }
}

fn through_roundlot(bench: &Bench, pace: Pace, ops: u64) -> Histogram<u64> {
    let times = Times::start();
    let inside = bench.runtime.enter();
    let (desk, worker) = Batcher::new(times.clone()).limits(Limits::new(BATCH).max_in_flight(1)).spawn();
    drop(inside);
    pace.send(bench, Desk::Roundlot(desk), ops, times.clone());
    bench.runtime.block_on(async { worker.shutdown().await }).expect("the batcher ends by itself");
    times.end(ops)
}

fn through_recv(bench: &Bench, pace: Pace, ops: u64) -> Histogram<u64> {
    let times = Times::start();
    let (desk, mut inbox) = mpsc::channel(SLOTS);
    let seen = times.clone();
    let consumer = bench.runtime.spawn(async move {
        while let Some(op) = inbox.recv().await {
            seen.note(&[op]);
        }
    });
    pace.send(bench, Desk::Raw(desk), ops, times.clone());
    bench.runtime.block_on(consumer).expect("the loop does not panic");
    times.end(ops)
}

impl Pace {
    /// Sends all ops at this pace and drops the desk.
    fn send(self, bench: &Bench, desk: Desk, ops: u64, times: Times) {
        match self {
            Self::Thread => from_thread(&desk, ops, &times),
            Self::Task => {
                let task = bench.runtime.spawn(from_task(desk, ops, times));
                bench.runtime.block_on(task).expect("the producer does not panic");
            }
        }
    }
}

fn from_thread(desk: &Desk, ops: u64, times: &Times) {
    let start = Instant::now();
    for i in 0..ops {
        let due = start + PERIOD * i as u32;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        block_on(desk.send(times.op(i)));
    }
}

async fn from_task(desk: Desk, ops: u64, times: Times) {
    let mut tick = interval(PERIOD * PER_TICK as u32);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for i in 0..ops {
        if i.is_multiple_of(PER_TICK) {
            tick.tick().await;
        }
        desk.send(times.op(i)).await;
    }
}
