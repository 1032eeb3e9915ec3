//! The command line of the bench. Runs the chosen rows, prints a table per row, and ends with a line per figure.

use std::{process::ExitCode, time::Instant};

use clap::Parser;
use roundlot_bench::{
    Error,
    alloc::Counting,
    bench::Bench,
    machine,
    rows::{self, Row},
};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// roundlot beside its peers: the same job by each of them, in turns, and a table per job.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// The rows to run, by name or by the beginning of it; all of them unless given.
    rows: Vec<String>,

    /// Say which rows there are, and end.
    #[arg(long)]
    list: bool,

    /// Write a chart per row, as SVG, to target/bench.
    #[arg(long)]
    plot: bool,

    /// How long and how much to measure; below 1 the figures are for a look, at 0.01 for a smoke test.
    #[arg(long, default_value_t = 1.0, value_parser = scale)]
    scale: f64,

    /// How many rounds to measure.
    #[arg(long)]
    rounds: Option<usize>,

    /// A job for a process of its own, and its size; the bench calls itself with it.
    #[arg(long, hide = true, num_args = 2)]
    child: Vec<String>,
}

fn scale(text: &str) -> Result<f64, String> {
    let scale: f64 = text.parse().map_err(|_| "not a number")?;
    if (0.001..=10.0).contains(&scale) { Ok(scale) } else { Err("from 0.001 to 10".into()) }
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
    if let [job, size] = cli.child.as_slice() {
        rows::child_answer(job, size.parse()?)?.iter().for_each(|number| println!("{number}"));
        return Ok(());
    }
    let chosen = choose(&cli.rows)?;
    if cli.list {
        chosen.iter().for_each(|row| println!("{:<12} {}", row.name, row.about));
        return Ok(());
    }
    let bench = Bench::new(cli.scale, cli.rounds)?;
    let start = Instant::now();
    println!("{}* scale: {}, {} rounds\n", machine::describe(), bench.scale, bench.rounds);
    let mut figures = Vec::new();
    for row in chosen {
        let mut report = (row.run)(&bench)?;
        println!("### {}: {}\n\n{report}", row.name, row.about);
        if cli.plot {
            for chart in &mut report.charts {
                chart.title = format!("{}: {}", row.about, chart.title);
                let path = bench.folder.join(format!("{}.svg", row.name));
                chart.write(&path)?;
            }
        }
        figures.extend(report.figures);
    }
    if cli.plot {
        println!("Charts: target/bench/*.svg\n");
    }
    println!("{:.0} s, load after: {}\n", start.elapsed().as_secs_f64(), machine::load());
    figures.iter().for_each(|(name, value)| println!("figure {name} {value:.4}"));
    Ok(())
}

fn choose(names: &[String]) -> Result<Vec<Row>, Error> {
    let all = rows::all();
    if let Some(name) = names.iter().find(|name| !all.iter().any(|row| row.name.starts_with(name.as_str()))) {
        return Err(format!("there is no row {name}; --list says which there are").into());
    }
    // The whole name of a row selects that row alone. A prefix selects all rows whose names begin with it.
    let is_chosen = |row: &Row| {
        let exact = |name: &String| row.name == name;
        let begins = |name: &String| row.name.starts_with(name.as_str()) && !all.iter().any(|other| other.name == name);
        names.is_empty() || names.iter().any(|name| exact(name) || begins(name))
    };
    Ok(all.iter().filter(|row| is_chosen(row)).copied().collect())
}
