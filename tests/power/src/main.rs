//! Power loss, full disks and flipped bits under the log of a durable batcher. The program starts itself again with a library
//! preloaded that records and disturbs what SQLite and the log write.
//!
//! ```text
//! roundlot-power power FROM TO [ONE_IN]      seeds: cut at each write, or at one in so many
//! roundlot-power controls FROM TO [ONE_IN]   seeds: disks that do not sync, all the time or once
//! roundlot-power full FROM TO [ONE_IN]       seeds: a failing disk from each write on, or from one in so many
//! roundlot-power flips FROM TO [FLIPS]       seeds: bits flipped in each
//! roundlot-power short                       all of it, in less than a minute
//! ```

mod controls;
mod disk;
mod facts;
mod flips;
mod full;
mod judge;
mod power;
mod random;
mod record;
mod work;

use std::{
    env, fs,
    ops::Range,
    process::{Command, ExitCode},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use random::Random;

/// Set for the process that has the library preloaded.
const PRELOADED: &str = "ROUNDLOT_POWER_PRELOADED";

fn main() -> ExitCode {
    if env::var_os(PRELOADED).is_none() {
        return start_again();
    }
    let words: Vec<String> = env::args().skip(1).collect();
    let number = |i: usize, default: u64| words.get(i).and_then(|word| word.parse().ok()).unwrap_or(default);
    let failures = match words.first().map(String::as_str) {
        Some("power") => power_of(number(1, 0)..number(2, 1000), number(3, 1) as usize),
        Some("controls") => controls_of(number(1, 0)..number(2, 10), number(3, 1) as usize),
        Some("full") => full_of(number(1, 0)..number(2, 1), number(3, 1) as usize),
        Some("flips") => flips_of(number(1, 0)..number(2, 100), number(3, 100) as usize),
        Some("short") => power_of(0..20, 4) + controls_of(0..6, 2) + full_of(0..1, 8) + flips_of(0..20, 50),
        _ => {
            eprintln!("power | controls | full | flips FROM TO [COUNT], or short");
            return ExitCode::FAILURE;
        }
    };
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Compiles the library, and starts this program with it.
fn start_again() -> ExitCode {
    let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("no folder: {error}"));
    let library = folder.path().join("shim.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/shim.c");
    let built =
        Command::new("cc").args(["-O2", "-Wall", "-shared", "-fPIC", source, "-lpthread", "-o"]).arg(&library).status();
    assert!(built.is_ok_and(|status| status.success()), "cc failed");
    let this = env::current_exe().unwrap_or_else(|error| panic!("no program: {error}"));
    let run = Command::new(this).args(env::args_os().skip(1)).env("LD_PRELOAD", &library).env(PRELOADED, "1").status();
    let run = run.unwrap_or_else(|error| panic!("not started: {error}"));
    let _ = fs::remove_dir_all(folder.path());
    if run.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Threads of the campaign that waits more than it works.
const PATIENT_THREADS: usize = 16;

/// Runs something for each seed, on all cores. Returns what it returned, in no order.
fn for_each_seed<V: Send>(seeds: Range<u64>, run: impl Fn(u64) -> V + Sync) -> Vec<V> {
    on_threads(thread::available_parallelism().map_or(1, usize::from), seeds, run)
}

fn on_threads<V: Send>(threads: usize, seeds: Range<u64>, run: impl Fn(u64) -> V + Sync) -> Vec<V> {
    let (next, results) = (AtomicU64::new(seeds.start), Mutex::new(Vec::new()));
    let worker = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            let result = run(seed);
            results.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(result);
        }
    };
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(worker);
        }
    });
    results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn power_of(seeds: Range<u64>, one_in: usize) -> u64 {
    let count = seeds.end - seeds.start;
    let results = for_each_seed(seeds, |seed| {
        let cutting = async {
            let run = power::record(seed, None).await;
            power::cut_everywhere(&run, &mut Random::new(seed ^ 0xC07), one_in).await
        };
        let result = work::runtime().block_on(cutting);
        if let Err((event, wrong)) = &result {
            println!("seed {seed}, behind event {event}: {wrong}");
        }
        result
    });
    let mut counts = power::Counts::default();
    let failures = results.iter().filter(|result| result.is_err()).count() as u64;
    results.into_iter().flatten().for_each(|of_seed| counts.add(of_seed));
    let power::Counts { cuts, again, confirmed } = counts;
    println!(
        "power: {count} seeds, {cuts} cuts, {again} during recoveries, {confirmed} confirmed ops judged, {failures} wrong"
    );
    failures
}

/// Returns how many runs were not found to be wrong that are.
fn controls_of(seeds: Range<u64>, one_in: usize) -> u64 {
    let results = for_each_seed(seeds, |seed| {
        work::runtime().block_on(async {
            let (run, mut random) = (power::record(seed, None).await, Random::new(seed ^ 0xC01));
            (controls::without_syncs(&run, &mut random).await, controls::without_one(&run, &mut random, one_in).await)
        })
    });
    let unseen = results.iter().filter(|(is_found, _)| !is_found).count() as u64;
    println!("controls: {} of {} runs without syncs were found", results.len() as u64 - unseen, results.len());
    let mut failures = unseen;
    for (i, kind) in controls::KINDS.iter().enumerate() {
        let count = |of: fn(&controls::Found) -> [u64; 2]| results.iter().map(|(_, found)| of(found)[i]).sum::<u64>();
        let (planted, found) = (count(|found| found.planted), count(|found| found.found));
        println!("controls: {found} of {planted} runs without the sync before \"{kind}\" were found");
        // The fact behind a sync may be due to the sync before it.
        failures += u64::from(2 * found < planted || found == 0);
    }
    failures
}

fn full_of(seeds: Range<u64>, one_in: usize) -> u64 {
    let mut failures = 0;
    for seed in seeds {
        let length = work::runtime().block_on(full::length(seed));
        for fault in full::FAULTS {
            let places = 0..(length / one_in) as u64;
            let results = on_threads(PATIENT_THREADS, places, |place| {
                let at = place as usize * one_in;
                let result = work::runtime().block_on(full::run(seed, fault, at));
                if let Err(wrong) = &result {
                    println!("seed {seed}, {fault} at {at}: {wrong}");
                }
                result
            });
            let wrong = results.iter().filter(|result| result.is_err()).count() as u64;
            println!("{fault}: seed {seed}, {} places, {wrong} wrong", results.len());
            failures += wrong;
        }
    }
    failures
}

fn flips_of(seeds: Range<u64>, flips: usize) -> u64 {
    let results = for_each_seed(seeds, |seed| {
        let counts = work::runtime().block_on(flips::flip(seed, flips));
        counts.wrong.iter().for_each(|wrong| println!("{wrong}"));
        counts
    });
    let sum = |of: fn(&flips::Counts) -> u64| results.iter().map(of).sum::<u64>();
    let (flips, refused) = (sum(|counts| counts.flips), sum(|counts| counts.refused));
    let wrong = sum(|counts| counts.wrong.len() as u64);
    println!("flips: {flips}, {refused} refused, {wrong} wrong");
    wrong
}
