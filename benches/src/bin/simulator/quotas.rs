//! The part of the simulator about quotas: venues with limits, with and without a quota that knows them.

use std::time::Duration;

use roundlot_bench::{
    report::Table,
    simulate::{Keeps, LOADS, Load, QuotaOutcome, Venue, run_quota, venues},
};

/// A venue under a load, without a quota, with an unpaced and with a paced one.
struct Cell {
    venue: Venue,
    load: Load,
    seed: u64,
    outcomes: [QuotaOutcome; 3],
}

/// Runs all cells, and prints the table and the figures.
pub(crate) fn run(seeds: &[u64], length: Duration, is_short: bool) {
    let loads = if is_short { vec![Load::Trickle, Load::Poisson(0.8), Load::Poisson(1.5)] } else { steady() };
    let mut cells = Vec::new();
    for venue in venues() {
        for &load in &loads {
            for &seed in seeds {
                let outcomes = [Keeps::Nothing, Keeps::Unpaced, Keeps::Paced]
                    .map(|keeps| run_quota(&venue, keeps, load, length, seed));
                cells.push(Cell { venue: venue.clone(), load, seed, outcomes });
            }
        }
    }
    println!("Quotas: {} cells of {} s\n", cells.len(), length.as_secs());
    println!("{}", table(&cells));
    figures(&cells, length);
}

/// Loads that stay the same: what a limit leaves is compared with what arrives.
fn steady() -> Vec<Load> {
    LOADS.into_iter().filter(|load| matches!(load, Load::Trickle | Load::Poisson(_))).collect()
}

fn table(cells: &[Cell]) -> Table {
    let head = [
        "venue",
        "load",
        "seed",
        "no quota: 429s",
        "mean",
        "unpaced: 429s",
        "mean",
        "quota: 429s",
        "mean",
        "p99",
        "used",
    ];
    cells.iter().fold(Table::new(head), |table, Cell { venue, load, seed, outcomes: [none, unpaced, paced] }| {
        table.row([
            venue.name.into(),
            load.name(),
            seed.to_string(),
            none.too_many.to_string(),
            format!("{:.0?}", none.mean),
            unpaced.too_many.to_string(),
            format!("{:.0?}", unpaced.mean),
            paced.too_many.to_string(),
            format!("{:.0?}", paced.mean),
            format!("{:.0?}", paced.p99),
            format!("{:.1} %", paced.used * 100.0),
        ])
    })
}

fn figures(cells: &[Cell], length: Duration) {
    let knows_all = |cell: &&Cell| !cell.venue.has_other_client && cell.venue.clock_ahead.is_zero();
    let too_many: u64 = cells.iter().filter(knows_all).map(|cell| cell.outcomes[2].too_many).sum();
    let later: u64 = cells.iter().map(|cell| cell.outcomes[2].too_many_later).sum();
    let is_over = |cell: &&Cell| matches!(cell.load, Load::Poisson(share) if share > 1.0);
    let used = |is_long: bool| {
        let window = |cell: &&Cell| {
            let longest = cell.venue.rules.iter().map(|rule| rule.window).max().unwrap_or_default();
            (longest >= Duration::from_secs(10)) == is_long && longest <= length
        };
        // Where calls alone are limited, the load is a share of what the destination takes, and not of the limit.
        let has_scarce_ops = |cell: &&Cell| !cell.venue.has_scarce_calls();
        let scarce = cells.iter().filter(knows_all).filter(is_over).filter(window).filter(has_scarce_ops);
        scarce.map(|cell| cell.outcomes[2].used).fold(f64::INFINITY, f64::min)
    };
    let ratios = |cells: &mut dyn Iterator<Item = &Cell>| {
        // Natural batching that keeps to the limit: without a quota there are hundreds of 429s, for which venues ban.
        cells.map(|cell| cell.outcomes[2].mean.as_secs_f64() / cell.outcomes[1].mean.as_secs_f64()).fold(0.0, f64::max)
    };
    let scarce = |cell: &&Cell| cell.venue.has_scarce_calls() && knows_all(cell);
    let is_loaded = |cell: &&Cell| matches!(cell.load, Load::Poisson(share) if share <= 1.1);
    let loaded = |has_symbols: bool| {
        let in_question = move |cell: &&Cell| (cell.venue.symbols > 1) == has_symbols;
        ratios(&mut cells.iter().filter(scarce).filter(is_loaded).filter(in_question))
    };
    let (time, time_of_symbols) = (loaded(false), loaded(true));
    let trickle = ratios(&mut cells.iter().filter(|cell| cell.load == Load::Trickle));
    println!("figure quota_429s {too_many}");
    println!("figure quota_429s_after_correction {later}");
    println!("figure quota_used_10s {:.4}", used(true));
    println!("figure quota_used {:.4}", used(false));
    println!("figure quota_mean_time_vs_natural {time:.4}");
    println!("figure quota_mean_time_vs_natural_8_symbols {time_of_symbols:.4}");
    println!("figure quota_mean_time_trickle {trickle:.4}");
}
