//! Three node processes share a log, and one leads each shard. Every few seconds a leader is killed, stopped or restarted. A
//! journal of what calls confirmed is compared with the rows that arrived: nothing may be lost, doubled, reordered or stale.
//!
//! `cargo run --release -p nodes`

mod board;
mod destination;
mod disturb;
mod fault;
mod fleet;
mod idle;
mod journal;
mod network;
mod node;
mod op;
mod part;
mod place;
mod ports;
mod private;
mod process;
mod server;
mod show;
mod site;
mod times;
mod word;

use std::{path::PathBuf, process::ExitCode, sync::atomic::Ordering::SeqCst, thread, time::Duration};

use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use fault::Fault;
use journal::Broken;
use node::NodeArgs;
use part::Part;
use server::Server;
use show::{IS_INTERRUPTED, Length, Show};
use site::Sites;

/// The reason why the demonstration or a node failed.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Node processes that share a log, and die.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    task: Option<Task>,

    /// How long the nodes are disturbed.
    #[arg(long, default_value_t = 30)]
    seconds: u64,

    /// Ends after so many faults, and not after a time.
    #[arg(long)]
    faults: Option<u64>,

    /// Time between two faults, such as 3s or 500ms.
    #[arg(long, default_value = "3s", value_parser = humantime::parse_duration)]
    every: Duration,

    /// Only faults of this kind, such as kill or "cut off".
    #[arg(long, value_name = "KIND")]
    only: Option<Fault>,

    /// How long a node must be silent before others lead its shards, with --postgres, such as 1s.
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration)]
    lease: Duration,

    /// Node processes.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(2..=16))]
    nodes: u64,

    /// Shards of the log.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u16).range(1..=64))]
    shards: u16,

    /// Orders per second and node. Prices come besides.
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u64).range(1..))]
    orders: u64,

    /// The sinks write to a venue that knows no terms, and not in transactions of the log.
    #[arg(long, conflicts_with = "postgres")]
    venue: bool,

    /// The log is in PostgreSQL: on the server of this URL, in a database that is made for it, or on a private one that is killed,
    /// cut off and failed over, too. The program itself reaches it without TLS.
    #[arg(long, value_name = "URL", num_args = 0..=1, default_missing_value = "", conflicts_with_all = ["log", "without_locks"])]
    postgres: Option<String>,

    /// Shows what the fence of PostgreSQL is for: the sinks write to a venue that knows no terms, so that a leader that was stopped
    /// finishes its call after another one has taken over.
    #[arg(long, requires = "postgres")]
    without_fence: bool,

    /// Removes the files of the locks again and again, so that several nodes lead a shard at once.
    #[arg(long)]
    without_locks: bool,

    /// Runs the controls as well: without locks and fence the destination must see what it must not, or the run is void.
    #[arg(long, requires = "faults", conflicts_with_all = ["venue", "without_locks", "without_fence", "log", "only"])]
    controls: bool,

    /// Lets the nodes have nothing to do for so long, such as 10m, and says what has grown.
    #[arg(long, value_parser = humantime::parse_duration, conflicts_with_all = ["venue", "without_locks", "without_fence", "faults"])]
    idle: Option<Duration>,

    /// File of the log, which must not exist; one in a temporary folder unless given.
    #[arg(long)]
    log: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Is a node. The demonstration starts them.
    #[command(hide = true)]
    Node(NodeArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match &cli.task {
        Some(Task::Node(args)) => node(args.clone()).map(|()| true),
        None => demonstrate(&cli),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("nodes: {error}");
            ExitCode::FAILURE
        }
    }
}

fn node(args: NodeArgs) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let done = runtime.block_on(node::run(args));
    // A read of the standard input can't be cancelled.
    runtime.shutdown_background();
    done
}

/// Whether all promises were kept.
fn demonstrate(cli: &Cli) -> Result<bool, Failure> {
    watch_signals()?;
    if let Some(log) = cli.log.as_ref().filter(|log| log.exists()) {
        return Err(format!("{} exists, and the journals would not fit its ops", log.display()).into());
    }
    let server = cli.postgres.as_deref().map(|url| match url {
        "" => Server::start(cli.nodes as usize),
        url => Ok(Server::at(url)),
    });
    let mut sites = Sites::new(server.transpose()?)?;
    let shown = show(cli, &mut sites);
    // A show without the fence is there to break promises.
    if matches!(shown, Ok(is_kept) if is_kept || cli.without_fence) || IS_INTERRUPTED.load(SeqCst) {
        sites.remove()?;
    } else {
        println!("the logs are kept: {}", sites.keep().join(", "));
    }
    shown
}

fn show(cli: &Cli, sites: &mut Sites) -> Result<bool, Failure> {
    let site = sites.next(cli.log.as_deref())?;
    let part = Part { has_venue: cli.venue || cli.without_fence, has_locks: !cli.without_locks };
    if let Some(time) = cli.idle {
        return idle::run(Show::begin(part.plan(cli, &site), part.has_locks)?, &site.log, time);
    }
    let length = cli.faults.map_or(Length::Time(Duration::from_secs(cli.seconds)), Length::Faults);
    let is_kept = part.run(cli, &site, length)? == Broken::default();
    drop(site);
    Ok(is_kept && (!cli.controls || part::controls(cli, sites, cli.faults.unwrap_or(0))?))
}

/// Ends the show by SIGINT and SIGTERM.
fn watch_signals() -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let signals = || Ok::<_, Failure>((signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?));
    let (mut interrupt, mut terminate) = runtime.block_on(async { signals() })?;
    thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        IS_INTERRUPTED.store(true, SeqCst);
    });
    Ok(())
}
