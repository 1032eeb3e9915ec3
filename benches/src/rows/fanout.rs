//! The row `fanout`: the memory of a subscriber, and whether stuck subscribers slow down the feed or healthy ones.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use roundlot::{Batch, Fanout, Feed, Limits, Settled, Sink, SinkError, Subscription, Worker};
use tokio::{runtime::Builder, sync::Notify};

use super::Row;
use crate::{
    Error,
    bench::Bench,
    child,
    clock::{Span, Stopwatch},
    machine,
    measure::{Variant, measure_fixed, named},
    op::{Op, SYMBOLS},
    report::{Report, thousands},
};

pub(super) const ROW: Row = Row { name: "fanout", about: "one feed, many subscribers, some of them stuck", run };

/// The name of the memory job in the child process.
pub(super) const JOB: &str = "fanout";

/// The number of subscribers whose memory is measured: enough to make the memory of the runtime negligible.
const MANY: u64 = 10_000;

/// The number of symbols that a subscriber wants, of the 100 in the feed.
const WANTED: u32 = 20;

/// The number of updates per symbol before memory is measured, so that buffers have grown to their size.
const WARM_UP: u64 = 20;

/// The number of updates in a timed run, over all symbols.
const UPDATES: u64 = 2000;

const ALONE: &str = "roundlot, 1,000 subscribers";
const STUCK: &str = "roundlot, 1,000 of which 100 are stuck";
const FEWER: &str = "roundlot, 900 subscribers";

fn run(bench: &Bench) -> Result<Report, Error> {
    let variant = |name, healthy, stuck| {
        Variant::timed(name, move |ops| {
            let rounds = ops.div_ceil(SYMBOLS.into());
            let task = bench.runtime.spawn(publish(rounds, healthy, stuck));
            let span = bench.runtime.block_on(task).map_err(Error::from).and_then(|span| span);
            (rounds * u64::from(SYMBOLS), span.unwrap_or_else(|error| panic!("the row fanout failed: {error}")))
        })
    };
    let variants = vec![variant(ALONE, 1000, 0), variant(STUCK, 900, 100), variant(FEWER, 900, 0)];
    let results = measure_fixed(bench, variants, bench.sized(UPDATES));
    let many = bench.sized(MANY);
    let each = child::ask(JOB, many)? / many as f64;
    let [stuck, alone, fewer] = [STUCK, ALONE, FEWER].map(|name| named(&results, name));
    Ok(Report::of(&results)
        .note("An op is an update, 100 symbols in turn; each subscriber wants 20 of them and has a sink in memory.")
        .note("As fast as it goes: 100 updates, and the next when the hub has handed these on; until all have the last values.")
        .note("Those who are stuck never take their first batch, and nobody waits for them.")
        .note("What subscribers allocate when they are made is among the allocations.")
        .note(format!("Against the 900 by themselves, those with 100 stuck ones publish {:.2} times as fast.", stuck.speed_against(fewer)))
        .note(format!("{} subscribers who wait take {} bytes each: VmRSS of a process of its own.", thousands(many as f64), thousands(each)))
        .figure("fanout_feed_vs_alone", stuck.speed_against(alone))
        .figure("fanout_bytes_per_subscriber", each))
}

/// The state that all screens of a run share.
#[derive(Clone, Default)]
struct Screens {
    /// The number of the last update of each symbol.
    last: u64,
    /// Last updates that healthy screens have not received yet, over all screens and symbols.
    missing: Arc<AtomicU64>,
    /// Notified when `missing` becomes zero.
    complete: Arc<Notify>,
}

/// The sink of a subscriber. A stuck screen never finishes its first write.
struct Screen {
    screens: Screens,
    is_stuck: bool,
}

impl Sink<Op> for Screen {
    async fn write(&self, batch: &mut Batch<Op>) -> Result<Settled, SinkError> {
        if self.is_stuck {
            pending::<()>().await;
        }
        let screens = &self.screens;
        let last = batch.iter().filter(|op| op.id == screens.last).count() as u64;
        if last > 0 && screens.missing.fetch_sub(last, Relaxed) == last {
            screens.complete.notify_one();
        }
        Ok(batch.accept_all())
    }
}

type Subscriptions = Vec<Subscription<Op, u32>>;

/// Starts a feed and its subscribers, with stuck subscribers spread evenly among healthy ones.
///
/// `last` is the number of the last update of each symbol.
async fn start(
    healthy: u64,
    stuck: u64,
    last: u64,
) -> Result<(Feed<Op, u32>, Worker<Op>, Subscriptions, Screens), Error> {
    let (feed, worker) = Fanout::by(|op: &Op| op.symbol).spawn();
    let screens = Screens { last, ..Screens::default() };
    screens.missing.store(healthy * u64::from(WANTED), Relaxed);
    // The shutdown of a stuck subscriber times out after 1 ms, so the end of a run does not wait for it.
    let limits = Limits::new(1000).max_pending(4096).shutdown_timeout(Duration::from_millis(1));
    let mut subscriptions = Vec::new();
    for n in 0..healthy + stuck {
        let is_stuck = (n + 1) * stuck / (healthy + stuck) > n * stuck / (healthy + stuck);
        let screen = Screen { screens: screens.clone(), is_stuck };
        let first = (n as u32 * WANTED) % SYMBOLS;
        let subscribe = feed.subscribe(screen).limits(limits.clone()).stuck_after(Duration::from_secs(3600));
        subscriptions.push(subscribe.to(first..first + WANTED).start().await?);
    }
    Ok((feed, worker, subscriptions, screens))
}

/// Publishes one update of each symbol.
fn round(feed: &Feed<Op, u32>, id: u64) -> Result<(), Error> {
    for symbol in 0..SYMBOLS {
        feed.publish(Op { symbol, ..Op::numbered(id) }).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Publishes `rounds` updates of each symbol, and waits until all healthy subscribers have the last values.
async fn publish(rounds: u64, healthy: u64, stuck: u64) -> Result<Span, Error> {
    let (feed, worker, subscriptions, screens) = start(healthy, stuck, rounds).await?;
    let watch = Stopwatch::start();
    for id in 1..=rounds {
        round(&feed, id)?;
        feed.flush().await?;
    }
    screens.complete.notified().await;
    let span = watch.stop();
    let stats = feed.stats();
    assert_eq!(
        (stats.feed.outcomes.delivered, stats.missed, stats.stuck),
        (rounds * u64::from(SYMBOLS), 0, 0),
        "{stats:?}"
    );
    drop((feed, subscriptions));
    worker.join().await?;
    Ok(span)
}

/// Measures the resident memory of all subscribers together after [`WARM_UP`] rounds, in bytes. Runs in a child.
pub(super) fn in_child(subscribers: u64) -> Result<f64, Error> {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async move {
        tokio::spawn(async move {
            // A small feed first makes the runtime and the allocator reach their size.
            let warm = start(10, 0, 1).await?;
            round(&warm.0, 1)?;
            warm.3.complete.notified().await;
            let before = machine::resident()?;
            let (feed, worker, subscriptions, screens) = start(subscribers, 0, WARM_UP).await?;
            for id in 1..=WARM_UP {
                round(&feed, id)?;
                feed.flush().await?;
            }
            screens.complete.notified().await;
            let after = machine::resident()?;
            drop((feed, subscriptions));
            worker.join().await?;
            Ok(after - before)
        })
        .await?
    })
}
