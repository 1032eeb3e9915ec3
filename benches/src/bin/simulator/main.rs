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

    /// Fixed sizes to compare with; the powers of two from 1 to 16,384 unless given.
    #[arg(long, value_delimiter = ',')]
    sizes: Vec<usize>,

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
    report_adaptive(&judgement);
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
    let mut sizes = cli.sizes.clone();
    if sizes.is_empty() {
        sizes = (0..=14).map(|power| 1 << power).collect();
    }
    let (mut loads, mut length) = (LOADS.to_vec(), Duration::from_secs(cli.seconds));
    if cli.short {
        chosen.retain(|entry| ["linear", "knee", "refused over 300", "noisy"].contains(&entry.name));
        sizes = vec![16, 256, 4096];
        loads = vec![Load::Trickle, Load::Poisson(0.8), Load::Poisson(1.1)];
        length = Duration::from_secs(10);
    }
    let mut policies: Vec<Policy> = sizes.into_iter().map(Policy::Fixed).collect();
    policies.extend([Policy::Natural, Policy::Adaptive]);
    Ok(Grid { models: chosen, loads, policies, seeds: cli.seeds.clone(), length })
}

/// Prints where the adaptive size is worse than natural batching, and its figures.
fn report_adaptive(judgement: &Judgement<'_>) {
    let against = judgement.against(Policy::Adaptive, Policy::Natural);
    let mut table = Table::new(["model", "load", "throughput lost to natural", "mean time", "worse"]);
    for (cell, against) in against.iter().filter(|(_, against)| against.is_worse() || against.throughput > 0.01) {
        table = table.row([
            cell.model.into(),
            cell.load.name(),
            format!("{:.1} %", against.throughput * 100.0),
            format!("{:+.1} %", against.time * 100.0),
            if against.is_worse() { "yes".into() } else { "within the spread".into() },
        ]);
    }
    println!("Cells in which the adaptive size loses more than 1 % to natural batching, or is worse:\n\n{table}");
    println!("The ten cells in which it loses most to the best fixed size:\n");
    println!("{}", table_of_cells(judgement, judgement.worst(Policy::Adaptive, 10).into_iter()));
    let share = |count: usize| count as f64 / against.len().max(1) as f64;
    let slower = against.iter().filter(|(_, against)| against.is_slower()).count();
    let worse = against.iter().filter(|(_, against)| against.is_worse()).count();
    let most = against.iter().map(|(_, against)| against.throughput).fold(0.0, f64::max);
    let moved =
        judgement.cells.iter().filter(|cell| judgement.outcome(cell, Policy::Adaptive).cap_moved >= 1.5).count();
    println!("figure adaptive_lost_mean {:.4}", judgement.lost_mean_and_worst(Policy::Adaptive).0);
    println!("figure adaptive_slower_cells {:.4}", share(slower));
    println!("figure adaptive_worse_cells {:.4}", share(worse));
    println!("figure adaptive_vs_natural_worst {most:.4}");
    println!("figure adaptive_cap_moved_cells {:.4}", moved as f64 / judgement.cells.len().max(1) as f64);
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

/// A row per cell: natural batching and the adaptive size beside the best fixed size.
fn table_of_cells<'a>(judgement: &Judgement<'_>, cells: impl Iterator<Item = &'a Cell>) -> Table {
    let mut table = Table::new([
        "model",
        "load",
        "seed",
        "best size",
        "ops/s",
        "mean",
        "natural, ops/s",
        "mean",
        "adaptive, ops/s",
        "mean",
        "p99",
        "largest",
    ]);
    for cell in cells {
        let (size, best) = judgement.best(cell);
        let (natural, adaptive) = (judgement.outcome(cell, Policy::Natural), judgement.outcome(cell, Policy::Adaptive));
        table = table.row([
            cell.model.into(),
            cell.load.name(),
            cell.seed.to_string(),
            size.name(),
            format!("{:.0}", best.throughput),
            format!("{:.0?}", best.mean),
            format!("{:.0}", natural.throughput),
            format!("{:.0?}", natural.mean),
            format!("{:.0}", adaptive.throughput),
            format!("{:.0?}", adaptive.mean),
            format!("{:.0?}", adaptive.p99),
            format!("{:.0?}", adaptive.max),
        ]);
    }
    table
}
