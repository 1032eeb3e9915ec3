//! The cost of the same work unbatched, measured after the run: a [`Sample`] of its operations goes one at a time to
//! sinks of the same kind. `observer` takes the sample, `main` measures, the report shows both.

use std::{
    fs,
    path::{Path, PathBuf},
    process,
    time::Duration,
};

use roundlot::{
    Batch, Batcher, DeadLetter, Limits, Sink, Stages,
    market::{PriceUpdate, TradeOp},
    sink::sqlite::SqliteSink,
    sink_fn,
};
use serde::Serialize;
use tokio::time::{Instant, timeout};

use crate::{
    bot::{
        self, Error,
        portfolio::Portfolio,
        tick::{self, Tick},
        venue::PaperVenue,
    },
    demo::{meter::Metered, settings::Settings},
};

/// The first operations of each batcher, as they were sent.
pub struct Sample {
    limit: usize,
    prices: Vec<PriceUpdate>,
    orders: Vec<TradeOp>,
    trades: Vec<Tick>,
}

/// Cost of operations.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cost {
    /// Number of ops that were handed in.
    pub operations: u64,
    /// Number of ops in all calls. A retried op counts again, and an op that was never sent does not count.
    pub sent: u64,
    pub calls: u64,
    /// Time of all calls together, in seconds. Calls may overlap, as the limits of the batcher allow.
    pub sink_seconds: f64,
    /// Time from the first operation to the last verdict, in seconds.
    pub seconds: f64,
}

#[derive(Debug, Serialize)]
pub struct Unbatched {
    pub prices: Cost,
    pub orders: Cost,
    /// Cost for a file; `None` for a server, since the app makes no scratch table on a server that it does not own.
    pub trades: Option<Cost>,
}

impl Cost {
    /// The mean time of a call, in seconds. Zero without calls.
    pub fn per_call(&self) -> f64 {
        self.sink_seconds / self.calls.max(1) as f64
    }

    /// The time of all calls, in seconds, divided by the ops in them. Zero without ops.
    pub fn per_sent(&self) -> f64 {
        self.sink_seconds / self.sent.max(1) as f64
    }
}

impl Sample {
    pub fn new(limit: usize) -> Self {
        Self { limit, prices: Vec::new(), orders: Vec::new(), trades: Vec::new() }
    }

    pub fn take(&mut self, ticks: &[Tick], updates: &[PriceUpdate]) {
        fill(&mut self.trades, self.limit, ticks);
        fill(&mut self.prices, self.limit, updates);
    }

    pub fn take_orders(&mut self, ops: &[TradeOp]) {
        fill(&mut self.orders, self.limit, ops);
    }
}

fn fill<T: Clone>(sample: &mut Vec<T>, limit: usize, ops: &[T]) {
    let room = limit.saturating_sub(sample.len()).min(ops.len());
    sample.extend_from_slice(&ops[..room]);
}

/// Maximum time by which the measurement delays the report.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs the sample again, each operation in a call of its own: to the portfolio as it is now, to a new venue with the
/// same seed, to a scratch file beside the database. Returns `None` if there is nothing to measure, or it fails.
pub async fn measure(
    sample: Sample,
    settings: &Settings,
    portfolio: &Portfolio,
    database: Option<&Path>,
) -> Option<Unbatched> {
    if sample.prices.is_empty() || sample.orders.is_empty() {
        return None;
    }
    let measured = timeout(PATIENCE, again(sample, settings, portfolio, database)).await;
    let measured = measured.unwrap_or_else(|_| Err("it took too long".into()));
    measured.inspect_err(|error| tracing::warn!(%error, "the unbatched cost was not measured")).ok()
}

async fn again(
    sample: Sample,
    settings: &Settings,
    portfolio: &Portfolio,
    database: Option<&Path>,
) -> Result<Unbatched, Error> {
    let prices = one_at_a_time(portfolio.copy(), Stages::new(), &settings.prices.limits, sample.prices).await?;
    // Ops alone would soon meet the limits of the venue, and waiting is not what is measured.
    let unlimited = bot::settings::Venue { limits: None, ..settings.venue.clone() };
    let venue = PaperVenue::new(unlimited, settings.seed);
    // The ops of one order keep their order; orders of a symbol may overtake each other.
    let by_order = Stages::new().partition_by(TradeOp::conflation_key);
    let orders = one_at_a_time(venue, by_order, &settings.orders.batcher.limits, sample.orders).await?;
    let trades = match database.map(Scratch::beside) {
        Some(scratch) => {
            let sink = SqliteSink::open(&scratch.path, tick::table()).await?;
            Some(one_at_a_time(sink, Stages::new(), &settings.trades.limits, sample.trades).await?)
        }
        None => None,
    };
    Ok(Unbatched { prices, orders, trades })
}

async fn one_at_a_time<T, R, S>(sink: S, stages: Stages<T>, limits: &Limits, ops: Vec<T>) -> Result<Cost, Error>
where
    T: Send + Sync + 'static,
    R: Clone + Send + 'static,
    S: Sink<T, R>,
{
    let operations = ops.len() as u64;
    let (sink, meter) = Metered::new(sink);
    let limits = limits.clone().max_items(1).linger(Duration::ZERO);
    // The run has already counted its refusals.
    let ignore = sink_fn(|letters: &mut Batch<DeadLetter<T>>| Box::pin(async { Ok(letters.accept_all()) }));
    let batcher = Batcher::new(sink).name("unbatched").stages(stages).limits(limits);
    let (handle, worker) = batcher.dead_letters(ignore).try_spawn()?;
    let began = Instant::now();
    handle.send_all(ops).await?;
    let _report = handle.flush().await?;
    let seconds = began.elapsed().as_secs_f64();
    let _summary = worker.shutdown().await?;
    let (sent, calls, sink_seconds) = (meter.ops(), meter.calls(), meter.time().as_secs_f64());
    Ok(Cost { operations, sent, calls, sink_seconds, seconds })
}

/// A database that is removed after use.
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    fn beside(database: &Path) -> Self {
        let mut name = database.as_os_str().to_owned();
        name.push(format!(".unbatched-{}", process::id()));
        Self { path: name.into() }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        for end in ["", "-wal", "-shm"] {
            let mut path = self.path.as_os_str().to_owned();
            path.push(end);
            // The last two files exist only after a crash.
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use roundlot::testing::Recorder;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_operation_is_a_call() {
        let recorder = Recorder::<u8>::new();
        let limits = Limits::new(500).linger(Duration::from_secs(9));
        let cost = one_at_a_time(recorder.clone(), Stages::new(), &limits, vec![1, 2, 3]).await.unwrap();
        assert_eq!(recorder.batches(), [[1], [2], [3]]);
        assert_eq!((cost.operations, cost.sent, cost.calls, cost.seconds), (3, 3, 3, 0.0));
    }

    #[test]
    fn a_sample_is_the_first_op_of_its_kind() {
        let mut sample = vec![1, 2];
        fill(&mut sample, 4, &[3, 4, 5]);
        fill(&mut sample, 4, &[6]);
        assert_eq!(sample, [1, 2, 3, 4]);
    }
}
