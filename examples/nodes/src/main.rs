//! Three node processes share a log, and one leads each shard. Every few seconds a leader is killed, stopped or restarted. A
//! journal of what calls confirmed is compared with the rows that arrived: nothing may be lost, doubled, reordered or stale.
//!
//! `cargo run --release -p nodes`

mod board;
mod disturb;
mod fault;
mod fleet;
mod idle;
mod journal;
mod node;
mod op;
mod part;
mod process;
mod show;
mod times;
mod word;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};

use journal::Broken;
use node::NodeArgs;
use part::Part;
use show::{Length, Show};

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
    #[arg(long)]
    venue: bool,

    /// Removes the files of the locks again and again, so that several nodes lead a shard at once.
    #[arg(long)]
    without_locks: bool,

    /// Runs the controls as well: without locks and fence the destination must see what it must not, or the run is void.
    #[arg(long, requires = "faults", conflicts_with_all = ["venue", "without_locks", "log"])]
    controls: bool,

    /// Lets the nodes have nothing to do for so long, such as 10m, and says what has grown.
    #[arg(long, value_parser = humantime::parse_duration, conflicts_with_all = ["venue", "without_locks", "faults"])]
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
    let folder = tempfile::tempdir()?;
    let log = cli.log.clone().unwrap_or_else(|| folder.path().join("orders.db"));
    if log.exists() {
        return Err(format!("{} exists, and the journals would not fit its ops", log.display()).into());
    }
    let part = Part { has_venue: cli.venue, has_locks: !cli.without_locks };
    if let Some(time) = cli.idle {
        return idle::run(Show::begin(part.plan(cli, &log), part.has_locks)?, &log, time);
    }
    let length = cli.faults.map_or(Length::Time(Duration::from_secs(cli.seconds)), Length::Faults);
    let mut is_kept = part.run(cli, &log, length)? == Broken::default();
    if is_kept && cli.controls {
        is_kept = part::controls(cli, folder.path(), cli.faults.unwrap_or(0))?;
    }
    if !is_kept {
        println!("the logs are kept: {}", log.parent().unwrap_or(&log).display());
        let _ = folder.keep();
    }
    Ok(is_kept)
}
