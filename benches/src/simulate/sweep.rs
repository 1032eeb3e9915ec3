//! [`sweep()`]: every model under every load with every policy, on as many threads as there are cores.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use super::{
    arrivals::{Arrivals, Load},
    model::capacity,
    run::{Outcome, Policy, run},
    zoo::Entry,
};

/// The simulations of a sweep.
pub struct Grid {
    pub models: Vec<Entry>,
    pub loads: Vec<Load>,
    pub policies: Vec<Policy>,
    pub seeds: Vec<u64>,
    pub length: Duration,
}

/// A model under a load with one seed, and the outcome of each policy.
#[derive(Debug, Clone)]
pub struct Cell {
    pub model: &'static str,
    pub load: Load,
    pub seed: u64,
    /// In the order of [`Grid::policies`].
    pub outcomes: Vec<Outcome>,
}

/// Runs all simulations of a grid. Cells are in the order of models, loads and seeds.
pub fn sweep(grid: &Grid) -> Vec<Cell> {
    let capacities: Vec<f64> = grid.models.iter().map(|entry| capacity(&entry.make, 1).0).collect();
    let mut jobs = Vec::new();
    for (entry, capacity) in grid.models.iter().zip(capacities) {
        for &load in &grid.loads {
            jobs.extend(grid.seeds.iter().map(|&seed| (entry, capacity, load, seed)));
        }
    }
    let (next, cells) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some((number, &(entry, capacity, load, seed))) = {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    jobs.get(number).map(|job| (number, job))
                } {
                    let outcomes = grid.policies.iter().map(|policy| {
                        let arrivals = Arrivals::new(load, capacity, grid.length.as_millis() as u64, seed);
                        run(*policy, (entry.make)(), arrivals, grid.length, seed)
                    });
                    let cell = Cell { model: entry.name, load, seed, outcomes: outcomes.collect() };
                    cells.lock().unwrap_or_else(PoisonError::into_inner).push((number, cell));
                }
            });
        }
    });
    let mut cells = cells.into_inner().unwrap_or_else(PoisonError::into_inner);
    cells.sort_unstable_by_key(|(number, _)| *number);
    cells.into_iter().map(|(_, cell)| cell).collect()
}
