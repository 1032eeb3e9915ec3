//! Three node processes share a log, and one leads each shard. Every few seconds a leader is killed, stopped or restarted. A
//! journal of what calls confirmed is compared with the rows that arrived: nothing may be lost, doubled, reordered or stale.
//!
//! `cargo run --release -p nodes`

mod board;
mod fault;
mod fleet;
mod journal;
mod node;
mod op;
mod show;
mod times;
mod word;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};

use board::{Board, summary};
use fleet::Plan;
use journal::Broken;
use node::NodeArgs;
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
    println!("{} nodes share {}", cli.nodes, log.display());
    let length = cli.faults.map_or(Length::Time(Duration::from_secs(cli.seconds)), Length::Faults);
    let mut board = Board::new();
    let plan = Plan { nodes: cli.nodes as usize, log: log.clone(), shards: cli.shards, orders: cli.orders };
    let mut show = Show::begin(plan)?;
    show.run(length, cli.every, &mut board)?;
    let (broken, seen) = show.end(&log, &mut board)?;
    board.clear();
    let faults: Vec<String> = seen.faults.iter().map(|(fault, count)| format!("{fault} {count}")).collect();
    println!("\n{}", summary(&seen).join("\n"));
    println!("faults: {}", if faults.is_empty() { "none".to_owned() } else { faults.join(", ") });
    println!("dead letters: {}", seen.journal.given_up());
    println!("handover {}", seen.handovers);
    let Broken { lost, doubled, reordered, stale } = broken;
    println!("lost {lost}\ndoubled {doubled}\nreordered {reordered}\nstale {stale}\ntakeover {}", seen.takeovers);
    if broken != Broken::default() {
        println!("the log is kept: {}", log.display());
        let _ = folder.keep();
    }
    Ok(broken == Broken::default())
}
