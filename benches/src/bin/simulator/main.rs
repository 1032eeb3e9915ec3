//! The simulator: batch sizes before simulated destinations, on a paused clock. Prints tables and figures.

mod quotas;

use std::{process::ExitCode, time::Duration};

use clap::Parser;
use roundlot_bench::{
    Error,
    report::Table,
    simulate::{Cell, Grid, Judgement, LOADS, Load, Policy, models, sweep},
};

/// Simulates batch sizes before destinations of many kinds, each for a minute of simulated time.
#[derive(Debug, Parser)]
struct Cli {
    /// The models to simulate, by name or by the beginning of it; all of them unless given.
    models: Vec<String>,

    /// Simulated seconds per run.
    #[arg(long, default_value_t = 60)]
    seconds: u64,

    /// Seeds of luck and arrivals; each is a run of its own.
    #[arg(long, value_delimiter = ',', default_value = "1")]
    seeds: Vec<u64>,

    /// A smoke test: few models, loads and sizes, ten seconds each.
    #[arg(long)]
    short: bool,

    /// Simulates quotas, and not sizes.
    #[arg(long)]
    quotas: bool,

    /// Prints every cell.
    #[arg(long)]
    cells: bool,
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
    if cli.quotas {
        quotas::run(&cli.seeds, Duration::from_secs(cli.seconds), cli.short);
        return Ok(());
    }
    let grid = grid(cli)?;
    let cells = sweep(&grid);
    let judgement = Judgement { policies: &grid.policies, cells: &cells };
    println!("{} cells of {} s\n", cells.len(), grid.length.as_secs());
    if cli.cells {
        println!("{}", table_of_cells(&judgement, cells.iter()));
    }
    println!("{}", table_of_policies(&judgement));
    println!("The ten cells in which natural batching loses most:\n");
    println!("{}", table_of_cells(&judgement, judgement.worst(Policy::Natural, 10).into_iter()));
    let failing = |cell: &&Cell| FAILING.contains(&cell.model);
    let worst = cells.iter().filter(failing).map(|cell| judgement.lost(cell, Policy::Natural)).fold(0.0, f64::max);
    println!("figure natural_lost_mean {:.4}", judgement.lost_mean_and_worst(Policy::Natural).0);
    println!("figure halving_lost_worst {worst:.4}");
    Ok(())
}

/// Models before which large batches fail.
const FAILING: [&str; 4] = ["refused over 300", "limit told", "failures grow", "gateway"];

fn grid(cli: &Cli) -> Result<Grid, Error> {
    let mut chosen = models();
    if !cli.models.is_empty() {
        chosen.retain(|entry| cli.models.iter().any(|name| entry.name.starts_with(name.as_str())));
    }
    if chosen.is_empty() {
        return Err(format!("there is no model {}", cli.models.join(", ")).into());
    }
    let mut sizes: Vec<usize> = (0..=14).map(|power| 1 << power).collect();
    let (mut loads, mut length) = (LOADS.to_vec(), Duration::from_secs(cli.seconds));
    if cli.short {
        chosen.retain(|entry| ["linear", "knee", "refused over 300", "noisy"].contains(&entry.name));
        sizes = vec![16, 256, 4096];
        loads = vec![Load::Trickle, Load::Poisson(0.8), Load::Poisson(1.1)];
        length = Duration::from_secs(10);
    }
    let mut policies: Vec<Policy> = sizes.into_iter().map(Policy::Fixed).collect();
    policies.push(Policy::Natural);
    Ok(Grid { models: chosen, loads, policies, seeds: cli.seeds.clone(), length })
}

/// A row per policy: what it loses to the best fixed size.
fn table_of_policies(judgement: &Judgement<'_>) -> Table {
    let mut table = Table::new(["policy", "lost, mean", "lost, worst", "cells that lose over 5 %"]);
    for &policy in judgement.policies {
        let (mean, worst) = judgement.lost_mean_and_worst(policy);
        let many = judgement.cells.iter().filter(|cell| judgement.lost(cell, policy) > 0.05).count();
        table = table.row([
            policy.name(),
            format!("{:.1} %", mean * 100.0),
            format!("{:.1} %", worst * 100.0),
            many.to_string(),
        ]);
    }
    table
}

/// A row per cell: natural batching beside the best fixed size.
fn table_of_cells<'a>(judgement: &Judgement<'_>, cells: impl Iterator<Item = &'a Cell>) -> Table {
    let mut table =
        Table::new(["model", "load", "seed", "best size", "ops/s", "mean", "natural, ops/s", "mean", "p99", "largest"]);
    for cell in cells {
        let (size, best) = judgement.best(cell);
        let natural = judgement.outcome(cell, Policy::Natural);
        table = table.row([
            cell.model.into(),
            cell.load.name(),
            cell.seed.to_string(),
            size.name(),
            format!("{:.0}", best.throughput),
            format!("{:.0?}", best.mean),
            format!("{:.0}", natural.throughput),
            format!("{:.0?}", natural.mean),
            format!("{:.0?}", natural.p99),
            format!("{:.0?}", natural.max),
        ]);
    }
    table
}
