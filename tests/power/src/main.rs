//! Power loss, full disks and flipped bits under the log of a durable batcher. The program starts itself again with a library
//! preloaded that records and disturbs what SQLite and the log write.
//!
//! ```text
//! roundlot-power power FROM TO [ONE_IN]   seeds: cut at each write, or at one in so many
//! roundlot-power short                    all of it, in less than a minute
//! ```

mod disk;
mod facts;
mod judge;
mod power;
mod random;
mod record;
mod work;

use std::{
    env, fs,
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
        _ => {
            eprintln!("power FROM TO [ONE_IN] | short");
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
    let built = Command::new("cc").args(["-O2", "-Wall", "-shared", "-fPIC", source, "-lpthread", "-o"]).arg(&library).status();
    assert!(built.is_ok_and(|status| status.success()), "cc failed");
    let this = env::current_exe().unwrap_or_else(|error| panic!("no program: {error}"));
    let run = Command::new(this).args(env::args_os().skip(1)).env("LD_PRELOAD", &library).env(PRELOADED, "1").status();
    let run = run.unwrap_or_else(|error| panic!("not started: {error}"));
    let _ = fs::remove_dir_all(folder.path());
    if run.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs something for each seed, on all cores. Returns what it returned, in no order.
fn for_each_seed<V: Send>(seeds: std::ops::Range<u64>, run: impl Fn(u64) -> V + Sync) -> Vec<V> {
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
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(worker);
        }
    });
    results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn power_of(seeds: std::ops::Range<u64>, one_in: usize) -> u64 {
    let count = seeds.end - seeds.start;
    let results = for_each_seed(seeds, |seed| {
        let cutting = async {
            let run = power::record(seed, None).await;
            power::cut_everywhere(&run, &mut Random::new(seed ^ 0xC07), one_in).await
        };
        let result = work::runtime().block_on(cutting);
        if let Err((event, wrong)) = &result {
            println!("seed {seed}, behind event {event}: {wrong:?}");
        }
        result
    });
    let mut counts = power::Counts::default();
    let failures = results.iter().filter(|result| result.is_err()).count() as u64;
    results.into_iter().flatten().for_each(|of_seed| counts.add(of_seed));
    let power::Counts { cuts, again, confirmed } = counts;
    println!("power: {count} seeds, {cuts} cuts, {again} during recoveries, {confirmed} confirmed ops judged, {failures} wrong");
    failures
}
