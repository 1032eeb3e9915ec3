//! Kills durable batchers, by `kill -9` at random times and at each step of their protocol, and judges by two journals that
//! roundlot does not write: the driver's, of what calls confirmed, and the destination's, of what arrived.
//!
//! `cargo run --release -p roundlot-campaign -- crashes --kills 150`

mod control;
mod destination;
mod driver;
mod failpoint;
mod journal;
mod judge;
mod op;
mod plan;
mod report;
mod rows;
mod said;
mod venue;
mod victim;
mod wire;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

use driver::Campaign;
use plan::Sort;
use report::Report;

/// The reason why a process of the campaign failed.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Kills durable batchers, and judges what is left.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Kills victims until one has broken a promise.
    Crashes {
        /// How many to kill.
        #[arg(long, default_value_t = 150)]
        kills: u64,

        /// Seed of all plans. The times at which threads run are not of it.
        #[arg(long, default_value_t = 1)]
        seed: u64,

        /// The sorts of destinations, all of them unless given.
        #[arg(long, value_enum)]
        sort: Vec<Sort>,

        /// Where the logs are kept; a temporary folder unless given.
        #[arg(long)]
        folder: Option<PathBuf>,

        /// The least number of hits of each step, below which the campaign fails.
        #[arg(long, default_value_t = 0)]
        least_hits: u64,
    },
    /// One life of a victim. The driver starts it.
    #[command(hide = true)]
    Victim { plan: PathBuf },
    /// The destination. The driver starts it.
    #[command(hide = true)]
    Destination {
        folder: PathBuf,
        #[arg(long, value_enum)]
        sort: Sort,
        #[arg(long)]
        seed: u64,
    },
}

fn main() -> ExitCode {
    let ran = match Cli::parse().task {
        Task::Crashes { kills, seed, sort, folder, least_hits } => crashes(kills, seed, sort, folder, least_hits),
        Task::Victim { plan } => victim::run(&plan),
        Task::Destination { folder, sort, seed } => destination::run(&folder, sort, seed),
    };
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn crashes(kills: u64, seed: u64, sorts: Vec<Sort>, folder: Option<PathBuf>, least_hits: u64) -> Result<(), Failure> {
    let sorts = if sorts.is_empty() { Sort::ALL.to_vec() } else { sorts };
    let temporary = tempfile::Builder::new().prefix("roundlot-campaign-").tempdir()?;
    let is_temporary = folder.is_none();
    let path = folder.unwrap_or_else(|| temporary.path().to_owned());
    let mut campaign = Campaign { sorts: sorts.clone(), kills, seed, folder: path, report: Report::new() };
    let ran = campaign.run();
    println!("seed {seed}\n{}", campaign.report);
    if let Err(error) = ran {
        if is_temporary {
            // The error names the log's own folder in it.
            let _ = temporary.keep();
        }
        return Err(format!("after {} kills: {error}", campaign.report.kills()).into());
    }
    let report = &campaign.report;
    if report.loaded() < 0.5 {
        return Err("fewer than half of the kills were under load".into());
    }
    if report.least_hits(&sorts) < least_hits {
        return Err(format!("a step was hit fewer than {least_hits} times").into());
    }
    Ok(())
}
