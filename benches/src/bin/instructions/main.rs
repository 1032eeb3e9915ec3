//! The command line of the instruction counts: instructions per op of the hot paths, counted by callgrind.
//!
//! The counts do not depend on the load of the machine. The program compares them with the record, prints a table, and
//! fails if a count is above the margin. `tests/run.sh` calls it.

mod record;
mod scenario;
mod stand;
mod valgrind;

use std::process::ExitCode;

use clap::Parser;
use roundlot_bench::{Error, report::Table};

use record::{Record, Verdict};
use scenario::Scenario;

/// Counts the instructions per op of the hot paths, and compares them with those on record.
#[derive(Debug, Parser)]
struct Cli {
    /// The paths to count; all of them unless given.
    paths: Vec<String>,

    /// Write the record anew.
    #[arg(long)]
    record: bool,

    /// The path and the number of rounds to run under valgrind; the program starts itself with this option.
    #[arg(long, hide = true, num_args = 2)]
    run: Vec<String>,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<bool, Error> {
    if let [path, rounds] = cli.run.as_slice() {
        scenario::named(path)?.run(rounds.parse()?);
        return Ok(true);
    }
    let chosen: Vec<Scenario> = if cli.paths.is_empty() {
        scenario::ALL.to_vec()
    } else {
        cli.paths.iter().map(|path| scenario::named(path)).collect::<Result<_, _>>()?
    };
    let old = Record::read()?;
    let mut new = Record::of_this_compiler();
    let mut table = Table::new(["path", "instructions/op", "on record", "change", ""]);
    let mut has_failed = false;
    for scenario in chosen {
        let count = valgrind::per_op(scenario)?;
        let verdict = old.judge(scenario.name, count);
        has_failed |= verdict == Verdict::Worse;
        let recorded = old.count(scenario.name);
        table = table.row([
            scenario.name.into(),
            format!("{count:.1}"),
            recorded.map_or(String::new(), |count| format!("{count:.1}")),
            recorded.map_or(String::new(), |recorded| format!("{:+.1} %", (count / recorded - 1.0) * 100.0)),
            verdict.to_string(),
        ]);
        new.note(scenario.name, count);
    }
    println!("{table}");
    if cli.record {
        new.keep_from(&old).write()?;
        println!("recorded");
        return Ok(true);
    }
    if old.compiler != new.compiler {
        println!("The record is of {}, this is {}: a change may be the compiler's.", old.compiler, new.compiler);
    }
    if has_failed {
        println!("More than {} % above the record. If that is meant: --record", record::MARGIN_PERCENT);
    }
    Ok(!has_failed)
}
