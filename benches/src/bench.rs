//! The context of a run: a runtime, a scale, a number of rounds and a folder. `main` makes it, each row borrows it.

use std::{env, fs, path::PathBuf, time::Duration};

use tokio::runtime::{Builder, Runtime};

use crate::Error;

/// The time for which a variant is measured in each round at full scale: long enough to average over many batches.
const ROUND: Duration = Duration::from_millis(200);

/// The number of rounds by default: enough for quartiles, and few enough for all rows to end in minutes.
const ROUNDS: usize = 15;

/// The number of worker threads of the runtime: as many as the machine of the results has cores.
const WORKERS: usize = 2;

/// The context that every row is given; nothing in it changes after [`Bench::new`].
#[derive(Debug)]
pub struct Bench {
    /// The runtime of all variants that need one, with two workers. The rows `rules` and `keys` have their own, of one
    /// thread.
    pub runtime: Runtime,
    /// The factor on times and sizes: 1 for valid figures, less for a preview or a smoke test.
    pub scale: f64,
    /// The number of timed rounds, at least 1.
    pub rounds: usize,
    /// The folder of charts and of measured files. It is on the disk of the build, not in a file system in memory.
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

    /// The time for which a variant is measured in each round.
    pub fn round(&self) -> Duration {
        ROUND.mul_f64(self.scale)
    }

    /// Scales a number of ops, which is `full` at scale 1; never returns less than 1.
    pub fn sized(&self, full: u64) -> u64 {
        ((full as f64 * self.scale) as u64).max(1)
    }
}
