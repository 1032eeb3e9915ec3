//! Runs a scenario of this program under callgrind and returns its instructions per op. `main` calls it.

use std::{env, fs, process::Command};

use roundlot_bench::Error;
use tempfile::TempDir;

use crate::scenario::{OPS_PER_ROUND, Scenario};

/// The number of rounds of the short run. The long run has twice as many; the difference excludes start and growth.
const ROUNDS: u64 = 20;

/// The pattern of the function inside of which callgrind counts. Both ways of mangling keep its name readable.
const COUNTED: &str = "*in_the_count*";

/// Counts instructions per op, as those of a long run less those of a short one.
pub(crate) fn per_op(scenario: Scenario) -> Result<f64, Error> {
    let (short, long) = (instructions(scenario, ROUNDS)?, instructions(scenario, 2 * ROUNDS)?);
    let more = long.checked_sub(short).filter(|more| *more > 0).ok_or("the longer run took no more instructions")?;
    Ok(more as f64 / (ROUNDS * OPS_PER_ROUND) as f64)
}

fn instructions(scenario: Scenario, rounds: u64) -> Result<u64, Error> {
    let folder = TempDir::new()?;
    let out = folder.path().join("callgrind.out");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", &format!("--toggle-collect={COUNTED}")])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(env::current_exe()?)
        .args(["--run", scenario.name, &rounds.to_string()])
        .output()
        .map_err(|error| format!("valgrind: {error}"))?;
    if !output.status.success() {
        return Err(format!("{}: {}", scenario.name, String::from_utf8_lossy(&output.stderr)).into());
    }
    let text = fs::read_to_string(out)?;
    let totals = text.lines().find_map(|line| line.strip_prefix("totals:")).ok_or("callgrind wrote no totals")?;
    Ok(totals.trim().parse()?)
}
