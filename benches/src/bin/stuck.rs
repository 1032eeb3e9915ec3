//! A durable batcher whose sink is stuck, while ten times as many prices are sent at it as may be pending. Prints how much it
//! accepts until callers wait, and the memory and the file that this takes; then the sink goes on.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use clap::Parser;
use roundlot::{
    Batch, Limits, Settled, Sink, SinkError, Stages,
    durable::{Durable, File, Handle, Joined},
    sink::Guarantee,
    stage,
};
use roundlot_bench::{Error, bench::Bench, machine};
use tokio::sync::watch;

/// A symbol, and the number of the price.
type Price = (u32, u64);

/// Prices in one call of `send_all`.
const CHUNK: u64 = 1000;

/// Callers wait when nothing has been accepted for so long: a hundred times what a slow sync takes.
const STANDSTILL: Duration = Duration::from_secs(20);

/// Sends prices at a durable batcher whose sink is stuck.
#[derive(Debug, Parser)]
struct Cli {
    /// `max_pending`.
    #[arg(long, default_value_t = 1_000_000)]
    max_pending: u64,

    /// Prices to send.
    #[arg(long, default_value_t = 10_000_000)]
    prices: u64,

    /// Symbols that the prices are of.
    #[arg(long, default_value_t = 100)]
    symbols: u64,

    /// Keeps every price, instead of the latest of each symbol.
    #[arg(long)]
    every: bool,
}

/// A destination that takes nothing until it is opened.
#[derive(Clone)]
struct Stuck {
    is_open: watch::Receiver<bool>,
    written: Arc<AtomicU64>,
}

impl Sink<Price> for Stuck {
    async fn write(&self, batch: &mut Batch<Price>) -> Result<Settled, SinkError> {
        self.is_open.clone().wait_for(|is_open| *is_open).await.map_err(SinkError::transient)?;
        self.written.fetch_add(batch.pending().len() as u64, Relaxed);
        Ok(batch.accept_all())
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::Idempotent
    }
}

/// Sizes at one moment.
struct Sample {
    accepted: u64,
    waiting: u64,
    resident: f64,
    /// Bytes of the database and its WAL.
    file: u64,
}

impl Sample {
    fn take(desk: &Handle<Price>, path: &Path) -> Result<Self, Error> {
        let stats = desk.stats();
        let wal = path.with_extension("db-wal");
        let file = [path, &wal].into_iter().filter_map(|path| fs::metadata(path).ok()).map(|file| file.len()).sum();
        Ok(Self { accepted: stats.accepted, waiting: stats.waiting, resident: machine::resident()?, file })
    }

    fn print(&self, what: &str, since: Instant) {
        let Self { accepted, waiting, resident, file } = self;
        let (mebibyte, seconds) = (f64::from(1 << 20), since.elapsed().as_secs_f64());
        let (resident, file) = (resident / mebibyte, *file as f64 / mebibyte);
        println!(
            "{seconds:>6.1} s {what:<22} accepted {accepted:>9}, waiting {waiting:>8}, RSS {resident:>7.1} MiB, file {file:>7.1} MiB"
        );
    }
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<(), Error> {
    let Bench { runtime, folder, .. } = Bench::new(1.0, None)?;
    println!("{}", machine::describe());
    let folder = tempfile::TempDir::new_in(folder)?;
    runtime.block_on(stand(cli, folder.path().join("prices.db")))
}

async fn stand(cli: &Cli, path: PathBuf) -> Result<(), Error> {
    let (open, is_open) = watch::channel(false);
    let sink = Stuck { is_open, written: Arc::default() };
    let (written, every) = (Arc::clone(&sink.written), cli.every);
    let stages = move || match every {
        true => Stages::new(),
        false => Stages::new().conflate_by(|price: &Price| price.0, stage::latest),
    };
    let prices: Joined<Price> = Durable::new("prices", File::at(&path))
        .stages(stages)
        .limits(Limits::new(1000).max_pending(cli.max_pending as usize))
        .sink(move |_| sink.clone())
        .join()
        .await?;
    let desk = prices.handle();
    let since = Instant::now();
    Sample::take(&desk, &path)?.print("before", since);
    let has_sent = Arc::new(AtomicBool::new(false));
    let sending = tokio::spawn(send(desk.clone(), cli.prices, cli.symbols, Arc::clone(&has_sent)));
    let mut peak = until_it_stands(&desk, &path, &has_sent, since).await?;
    if has_sent.load(Relaxed) {
        println!("all prices were accepted: nothing is shown of the bound");
    }
    open.send(true)?;
    let opened = Instant::now();
    while !sending.is_finished() {
        peak = peak.max(machine::resident()?);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    sending.await??;
    desk.flush().await?;
    let end = Sample::take(&desk, &path)?;
    peak = peak.max(end.resident);
    end.print("all settled", since);
    println!(
        "{} of {} prices were written, {:.1} s after the sink went on; peak RSS {:.1} MiB",
        written.load(Relaxed),
        cli.prices,
        opened.elapsed().as_secs_f64(),
        peak / f64::from(1 << 20)
    );
    prices.leave().await?;
    Ok(())
}

async fn send(desk: Handle<Price>, prices: u64, symbols: u64, has_sent: Arc<AtomicBool>) -> Result<(), Error> {
    let mut next = 0;
    while next < prices {
        let until = (next + CHUNK).min(prices);
        desk.send_all((next..until).map(|price| ((price % symbols) as u32, price))).await?;
        next = until;
    }
    has_sent.store(true, Relaxed);
    Ok(())
}

/// Waits until nothing is accepted any more. Returns the most memory on the way.
async fn until_it_stands(
    desk: &Handle<Price>,
    path: &Path,
    has_sent: &AtomicBool,
    since: Instant,
) -> Result<f64, Error> {
    let (mut peak, mut accepted, mut moved, mut shown) = (0_f64, 0, Instant::now(), Instant::now());
    while moved.elapsed() < STANDSTILL && !has_sent.load(Relaxed) {
        let sample = Sample::take(desk, path)?;
        peak = peak.max(sample.resident);
        if sample.accepted > accepted {
            (accepted, moved) = (sample.accepted, Instant::now());
        }
        if shown.elapsed() > Duration::from_secs(5) {
            sample.print("", since);
            shown = Instant::now();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Sample::take(desk, path)?.print("callers wait", since);
    println!("peak RSS while the sink is stuck: {:.1} MiB", peak / f64::from(1 << 20));
    Ok(peak)
}
