//! What every row is given: a runtime, a size, a folder. In come the options of the command line. Next room: `rows`.

use std::{env, fs, path::PathBuf, time::Duration};

use tokio::runtime::{Builder, Runtime};

use crate::Error;

/// A variant is measured for so long in each round, at full scale.
const ROUND: Duration = Duration::from_millis(200);

/// Enough for quartiles, few enough for all rows to be done in minutes.
const ROUNDS: usize = 15;

/// Threads of the runtime that the variants run on.
const WORKERS: usize = 2;

/// What every row is given.
#[derive(Debug)]
pub struct Bench {
    /// Two workers; every variant that needs a runtime runs on this one.
    pub runtime: Runtime,
    /// 1 for figures that mean something, less for a look or a smoke test.
    pub scale: f64,
    pub rounds: usize,
    /// Where charts go, and files that are measured: on the disk of the build, and not in a file system in memory.
    pub folder: PathBuf,
}

impl Bench {
    pub fn new(scale: f64, rounds: Option<usize>) -> Result<Self, Error> {
        let runtime = Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build()?;
        // The binary is in target/release.
        let target = env::current_exe()?.parent().and_then(|release| release.parent()).map(PathBuf::from);
        let folder = target.unwrap_or_else(env::temp_dir).join("bench");
        fs::create_dir_all(&folder)?;
        let rounds = rounds.unwrap_or(if scale < 0.1 { 2 } else { ROUNDS }).max(1);
        Ok(Self { runtime, scale, rounds, folder })
    }

    /// How long a variant is measured in each round.
    pub fn round(&self) -> Duration {
        ROUND.mul_f64(self.scale)
    }

    /// A number of ops that is `full` at full scale.
    pub fn sized(&self, full: u64) -> u64 {
        ((full as f64 * self.scale) as u64).max(1)
    }
}
