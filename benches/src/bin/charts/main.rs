//! The charts of the guide's chapter on limits, from simulations on a paused clock: the same to the byte each time.
//!
//! `cargo run --release -p roundlot-bench --bin charts` prints them; with `--write` it writes them into the chapter.

use std::{fs, path::Path, process::ExitCode, time::Duration};

use roundlot_bench::simulate::{
    Arrivals, Keeps, Load, Model, Outcome, Policy, Venue, capacity, models, run, run_quota, venues,
};

/// Simulated time of a run.
const LENGTH: Duration = Duration::from_secs(60);
const SEED: u64 = 1;

/// Characters of the longest bar.
const WIDTH: usize = 40;

/// The chapter, below the package's folder.
const CHAPTER: &str = "../src/guide/limits.md";

/// A line of a chart: its label, the length of its bar, and what stands behind that.
struct Bar {
    label: String,
    value: f64,
    text: String,
}

/// A chart by the name that the chapter knows it by.
struct Chart {
    name: &'static str,
    title: &'static str,
    bars: Vec<Bar>,
}

impl Chart {
    /// The chart as Markdown, between the lines that mark it in the chapter.
    fn markdown(&self) -> String {
        let label = self.bars.iter().map(|bar| bar.label.chars().count()).max().unwrap_or(0);
        let most = self.bars.iter().map(|bar| bar.value).fold(f64::MIN_POSITIVE, f64::max);
        let lines = self.bars.iter().map(|Bar { label: name, value, text }| {
            let length = (value / most * WIDTH as f64).round() as usize;
            format!("{name:>label$}  {} {text}\n", "#".repeat(length))
        });
        let lines: String = lines.collect();
        format!("<!-- chart: {} -->\n```text\n{}\n\n{lines}```\n<!-- end -->\n", self.name, self.title)
    }
}

fn model(name: &str) -> fn() -> Box<dyn Model> {
    let entry = models().into_iter().find(|entry| entry.name == name);
    entry.expect("the zoo has it").make
}

fn outcome(name: &str, policy: Policy, share: f64) -> Outcome {
    let make = model(name);
    let arrivals = Arrivals::new(Load::Poisson(share), capacity(&make, SEED).0, LENGTH.as_millis() as u64, SEED);
    run(policy, make(), arrivals, LENGTH, SEED)
}

/// Ops per write of natural batching, which grow with the load.
fn natural() -> Chart {
    let bars = [0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95].map(|share| {
        let Outcome { throughput, mean, writes, .. } = outcome("linear", Policy::Natural, share);
        let size = throughput * LENGTH.as_secs_f64() / writes.max(1) as f64;
        Bar {
            label: format!("{:.0} %", share * 100.0),
            value: size,
            text: format!("{size:.0}, {} ms", mean.as_millis()),
        }
    });
    Chart {
        name: "natural",
        title: "Ops per batch and mean time, by load; a write takes 5 ms and 0.1 ms per op",
        bars: bars.into(),
    }
}

/// Throughput before a destination that takes more time per op in large batches.
fn adaptive() -> Chart {
    let policies = [Policy::Fixed(128), Policy::Fixed(512), Policy::Fixed(4096), Policy::Natural, Policy::Adaptive];
    let name = |policy| match policy {
        Policy::Fixed(size) => format!("max_items {size}"),
        Policy::Natural => "no cap".to_owned(),
        Policy::Adaptive => "adaptive".to_owned(),
    };
    let bars = policies.map(|policy| {
        let throughput = outcome("knee", policy, 1.1).throughput;
        Bar { label: name(policy), value: throughput, text: format!("{throughput:.0}") }
    });
    Chart {
        name: "adaptive",
        title: "Ops per second under a load of 110 %; beyond 500 ops a write takes more time per op",
        bars: bars.into(),
    }
}

/// Mean times of a venue that allows 20 calls in a second, and its refusals.
fn quota() -> Chart {
    let venue: Option<Venue> = venues().into_iter().find(|venue| venue.name == "20 calls in 1 s, 8 symbols");
    let venue = venue.expect("there is such a venue");
    let keeps = [("no quota", Keeps::Nothing), ("unpaced", Keeps::Unpaced), ("a quota", Keeps::Paced)];
    let bars = keeps.map(|(label, keeps)| {
        let outcome = run_quota(&venue, keeps, Load::Poisson(0.8), LENGTH, SEED);
        let text = format!("{} ms, {} answers of 429", outcome.mean.as_millis(), outcome.too_many);
        Bar { label: label.to_owned(), value: outcome.mean.as_secs_f64(), text }
    });
    Chart {
        name: "quota",
        title: "Mean time, and answers of 429 in a minute; 8 symbols, 20 calls allowed in a second",
        bars: bars.into(),
    }
}

/// The chapter with these charts in place of its own, or the name of one that it lacks.
fn with_charts(chapter: &str, charts: &[Chart]) -> Result<String, &'static str> {
    charts.iter().try_fold(chapter.to_owned(), |chapter, chart| {
        let (before, rest) = chapter.split_once(&format!("<!-- chart: {} -->\n", chart.name)).ok_or(chart.name)?;
        let (_, after) = rest.split_once("<!-- end -->\n").ok_or(chart.name)?;
        Ok(format!("{before}{}{after}", chart.markdown()))
    })
}

fn main() -> ExitCode {
    let charts = [natural(), adaptive(), quota()];
    if !std::env::args().any(|argument| argument == "--write") {
        charts.iter().for_each(|chart| println!("{}", chart.markdown()));
        return ExitCode::SUCCESS;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(CHAPTER);
    let written = fs::read_to_string(&path)
        .map_err(|error| error.to_string())
        .and_then(|chapter| with_charts(&chapter, &charts).map_err(|name| format!("no place for the chart {name}")))
        .and_then(|chapter| fs::write(&path, chapter).map_err(|error| error.to_string()));
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("charts: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the guide shows what the simulator says. Method: the chapter with its charts written anew is the same.
    #[test]
    fn the_chapter_is_up_to_date() {
        let chapter = include_str!("../../../../src/guide/limits.md");
        let charts = [natural(), adaptive(), quota()];
        assert_eq!(with_charts(chapter, &charts).as_deref(), Ok(chapter), "--write makes it so");
    }
}
