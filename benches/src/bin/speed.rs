//! Puts a run of the bench on record: into `benches/README.md`, and as a table into the README of the crate.
//!
//! ```sh
//! cargo run --release -p roundlot-bench > target/bench.txt
//! cargo run -p roundlot-bench --bin speed -- target/bench.txt
//! ```
//!
//! Without a file it writes the table anew from the run that is on record.

use std::{fs, path::Path, process::ExitCode};

use roundlot_bench::{Error, speed};

fn main() -> ExitCode {
    match write(std::env::args().nth(1).as_deref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("speed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write(run: Option<&str>) -> Result<(), Error> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (bench, readme) = (folder.join("README.md"), folder.join("../README.md"));
    let mut record = fs::read_to_string(&bench)?;
    if let Some(run) = run {
        record = speed::recorded(&record, &fs::read_to_string(run)?)?;
        fs::write(&bench, &record)?;
    }
    fs::write(&readme, speed::readme(&fs::read_to_string(&readme)?, &record)?)?;
    Ok(())
}
