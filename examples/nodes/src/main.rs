//! Three node processes share a log, and one leads each shard. Every few seconds a leader is killed, stopped or restarted. A
//! journal of what calls confirmed is compared with the rows that arrived: nothing may be lost, doubled, reordered or stale.
//!
//! `cargo run --release -p nodes`
//!
//! The log is in a file, with `--postgres` in PostgreSQL, and with `--nats` in NATS JetStream with its ledger in PostgreSQL. Servers are
//! started, disturbed and stopped as well, unless a URL names some.

mod board;
mod cluster;
mod destination;
mod disturb;
mod disturb_nats;
mod fault;
mod fleet;
mod idle;
mod journal;
mod monitoring;
mod nats;
mod nats_server;
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
mod wrong_clock;

use std::{path::PathBuf, process::ExitCode, sync::atomic::Ordering::SeqCst, thread, time::Duration};

use clap::{ArgGroup, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use fault::Fault;
use journal::Broken;
use nats::Nats;
use node::NodeArgs;
use part::Part;
use server::Server;
use show::{IS_INTERRUPTED, Length, Show};
use site::Sites;

/// The reason why the demonstration or a node failed.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Node processes that share a log, and die.
#[derive(Debug, Parser)]
#[command(version, group = ArgGroup::new("server").args(["postgres", "nats"]))]
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

    /// How long a node must be silent before others lead its shards, with --postgres or --nats, such as 1s.
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
    #[arg(long, conflicts_with = "server")]
    venue: bool,

    /// The log is in PostgreSQL: on the server of this URL, in a database that is made for it, or on a private one that is killed,
    /// cut off and failed over, too. The program itself reaches it without TLS.
    #[arg(long, value_name = "URL", num_args = 0..=1, default_missing_value = "", conflicts_with_all = ["log", "without_locks"])]
    postgres: Option<String>,

    /// The log is in NATS JetStream, and its ledger in PostgreSQL: on the NATS servers of this URL, or of several with commas between
    /// them, whose streams are kept; or on private ones that are killed, shut down and cut off, too. Without --ledger there is a private
    /// PostgreSQL server as well. Private NATS servers need the program nats-server, 2.14 or later, on the path or named by the variable
    /// ROUNDLOT_NATS_SERVER.
    #[arg(long, value_name = "URL", num_args = 0..=1, default_missing_value = "", conflicts_with_all = ["log", "without_locks"])]
    nats: Option<String>,

    /// The PostgreSQL server of the ledger, with --nats. NATS servers of a URL need it.
    #[arg(long, value_name = "URL", requires = "nats")]
    ledger: Option<String>,

    /// The monitoring ports of the NATS servers of a URL, such as http://127.0.0.1:8222, with commas between them. There nodes check
    /// that the servers sync what they confirm.
    #[arg(long, value_name = "URL", requires = "nats")]
    monitoring: Option<String>,

    /// Private NATS servers: one, or a cluster of three.
    #[arg(long, default_value = "3", value_parser = servers_of, requires = "nats")]
    servers: usize,

    /// Shows what the fence of PostgreSQL is for: the sinks write to a venue that knows no terms, so that a leader that was stopped
    /// finishes its call after another one has taken over.
    #[arg(long, requires = "server")]
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
    let (nats, server) = start_servers(cli)?;
    let mut sites = Sites::new(server, nats)?;
    let shown = show(cli, &mut sites);
    // A show without the fence is there to break promises.
    if matches!(shown, Ok(is_kept) if is_kept || cli.without_fence) || IS_INTERRUPTED.load(SeqCst) {
        sites.remove()?;
    } else {
        println!("the logs are kept: {}", sites.keep().join(", "));
    }
    shown
}

/// The servers of the log: those of a URL, or private ones.
fn start_servers(cli: &Cli) -> Result<(Option<Nats>, Option<Server>), Failure> {
    let nodes = cli.nodes as usize;
    let nats = match (cli.nats.as_deref(), &cli.ledger) {
        (None, _) => None,
        (Some(""), _) => Some(Nats::start(cli.servers, nodes)?),
        (Some(_), None) => return Err("--nats URL needs --ledger URL, the PostgreSQL server of the ledger".into()),
        (Some(urls), Some(_)) => Some(Nats::Named { urls: urls.to_owned(), monitoring: cli.monitoring.clone() }),
    };
    let url = if nats.is_some() { Some(cli.ledger.as_deref().unwrap_or_default()) } else { cli.postgres.as_deref() };
    let server = url.map(|url| if url.is_empty() { Server::start(nodes) } else { Ok(Server::at(url)) });
    Ok((nats, server.transpose()?))
}

/// Reads a number of private NATS servers. Streams have as many replicas.
fn servers_of(text: &str) -> Result<usize, String> {
    match text {
        "1" => Ok(1),
        "3" => Ok(3),
        _ => Err("one server, or three of a cluster".to_owned()),
    }
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
