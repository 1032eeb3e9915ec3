//! [`run()`]: one simulation. A producer sends what arrives, a real batcher cuts, and a sink sleeps as long as the model says.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use fastrand::Rng;
use hdrhistogram::Histogram;
use roundlot::{Batch, Batcher, CapReason, Limits, Retry, Settled, Sink, SinkError, SizeStats, Stages};
use tokio::{
    runtime::Builder,
    time::{Instant, sleep, sleep_until},
};

use super::{
    arrivals::Arrivals,
    model::{Model, Reply, Write},
};

/// How the batcher chooses the size of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// At most so many ops.
    Fixed(usize),
    /// Natural batching under a cap that is not meant to be reached.
    Natural,
    /// The same, with [`Limits::adaptive`].
    Adaptive,
}

/// The cap of natural batching, and the largest fixed size.
pub(super) const LARGEST: usize = 16_384;

impl Policy {
    /// The name in tables.
    pub fn name(self) -> String {
        match self {
            Self::Fixed(size) => size.to_string(),
            Self::Natural => "natural".into(),
            Self::Adaptive => "adaptive".into(),
        }
    }

    fn limits(self) -> Limits {
        match self {
            Self::Fixed(size) => Limits::new(size),
            Self::Natural => Limits::new(LARGEST),
            Self::Adaptive => Limits::new(LARGEST).adaptive(true),
        }
    }
}

/// The result of one simulation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// Ops that landed per second of the simulation.
    pub throughput: f64,
    /// Time from `send` to settled, of the ops that landed.
    pub mean: Duration,
    pub p50: Duration,
    pub p99: Duration,
    pub max: Duration,
    pub writes: u64,
    /// The largest cap between comparisons in the last third of the simulation, divided by the smallest one.
    pub cap_moved: f64,
}

/// An op: when it was sent, and the partition that it is for.
#[derive(Debug, Clone, Copy)]
struct Op {
    sent: Duration,
    partition: usize,
}

/// The destination: a model behind a sink.
struct Destination {
    state: Mutex<State>,
    start: Instant,
    /// The end of the simulation. Ops that land later do not count.
    end: Duration,
}

struct State {
    model: Box<dyn Model>,
    rng: Rng,
    in_flight: usize,
    writes: u64,
    /// Milliseconds from send to settled.
    times: Histogram<u64>,
}

impl Destination {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }
}

/// The sink that the batcher owns.
struct Simulated {
    destination: Arc<Destination>,
    page: Option<usize>,
}

impl Sink<Op> for Simulated {
    async fn write(&self, batch: &mut Batch<Op>) -> Result<Settled, SinkError> {
        let (takes, reply) = {
            let state = &mut *self.destination.state();
            let write = Write { size: batch.len(), at: self.destination.now(), others: state.in_flight };
            state.in_flight += 1;
            state.writes += 1;
            state.model.write(&write, &mut state.rng)
        };
        sleep(takes).await;
        let (mut state, now) = (self.destination.state(), self.destination.now());
        state.in_flight -= 1;
        match reply {
            Reply::Accepted => {
                if now <= self.destination.end {
                    for op in batch.iter() {
                        state.times.saturating_record((now - op.sent).as_millis() as u64);
                    }
                }
                Ok(batch.accept_all())
            }
            Reply::Failed => Err(SinkError::transient("a simulated failure")),
            Reply::TooLarge => Err(SinkError::too_large("a simulated limit")),
            Reply::TooLargeOver(limit) => Err(SinkError::too_large_over(limit)),
            Reply::Unanswered => Err(SinkError::ambiguous("a simulated gateway gave up")),
            Reply::Throttled(pause) => Err(SinkError::throttled(pause)),
        }
    }

    fn page(&self) -> Option<usize> {
        self.page
    }
}

/// The caps that were seen while no sizes were compared.
#[derive(Debug, Default)]
struct CapRange(Option<(u64, u64)>);

impl CapRange {
    fn see(&mut self, size: SizeStats) {
        if size.reason != CapReason::Test {
            let (least, most) = self.0.unwrap_or((size.cap, size.cap));
            self.0 = Some((least.min(size.cap), most.max(size.cap)));
        }
    }

    fn ratio(&self) -> f64 {
        self.0.map_or(1.0, |(least, most)| most as f64 / least.max(1) as f64)
    }
}

/// Simulates one batcher for `length`, learning included.
pub fn run(policy: Policy, model: Box<dyn Model>, arrivals: Arrivals, length: Duration, seed: u64) -> Outcome {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime of one thread needs next to nothing");
    runtime.block_on(simulate(policy, model, arrivals, length, seed))
}

async fn simulate(
    policy: Policy,
    model: Box<dyn Model>,
    mut arrivals: Arrivals,
    length: Duration,
    seed: u64,
) -> Outcome {
    let (partitions, page) = (model.partitions(), model.page());
    let times = Histogram::new_with_bounds(1, 3_600_000, 3).expect("the bounds are valid");
    let state = State { model, rng: Rng::with_seed(seed), in_flight: 0, writes: 0, times };
    let start = Instant::now();
    let destination = Arc::new(Destination { state: Mutex::new(state), start, end: length });
    let stages = if partitions == 1 { Stages::new() } else { Stages::new().partition_by(|op: &Op| op.partition) };
    let limits = policy.limits().max_pending(4 * LARGEST).max_in_flight(partitions);
    let (desk, worker) = Batcher::new(Simulated { destination: Arc::clone(&destination), page })
        .stages(stages)
        .limits(limits)
        .retry(Retry::default().max_attempts(u32::MAX).seed(seed))
        .idempotent()
        .spawn();
    let mut caps = CapRange::default();
    let producer = async {
        let mut next = 0;
        for ms in 0.. {
            sleep_until(start + Duration::from_millis(ms)).await;
            let (count, sent) = (arrivals.count(ms), destination.now());
            if ms % 100 == 0 && sent > length * 2 / 3 {
                caps.see(desk.stats().size);
            }
            if count > 0 {
                let ops = (next..next + count).map(|number| Op { sent, partition: number % partitions });
                next += count;
                if desk.send_all(ops.collect::<Vec<_>>()).await.is_err() {
                    return;
                }
            }
        }
    };
    let _is_over = tokio::time::timeout(length, producer).await;
    let _summary = worker.shutdown().within(Duration::ZERO).await;
    let state = destination.state();
    let percentile = |share| Duration::from_millis(state.times.value_at_quantile(share));
    Outcome {
        throughput: state.times.len() as f64 / length.as_secs_f64(),
        mean: Duration::from_secs_f64(state.times.mean() / 1000.0),
        p50: percentile(0.5),
        p99: percentile(0.99),
        max: Duration::from_millis(state.times.max()),
        writes: state.writes,
        cap_moved: caps.ratio(),
    }
}
