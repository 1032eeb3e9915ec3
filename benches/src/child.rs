//! Jobs in a child process, whose memory and clock no other row has changed.
//!
//! The rows `memory`, `idle`, `fanout` and `durable` call it; the child is this program with a hidden option.

use std::{env, process::Command};

use crate::Error;

/// The hidden option of the command line with which the bench starts itself.
pub const OPTION: &str = "--child";

/// Runs a job of [`child_answer`](crate::rows::child_answer) in a child process and returns the number it printed.
pub fn ask(job: &str, size: u64) -> Result<f64, Error> {
    ask_all(&mut command(job, size)?)?.first().copied().ok_or_else(|| format!("{job} printed nothing").into())
}

/// Makes the command of a job, whose environment the caller may change.
pub fn command(job: &str, size: u64) -> Result<Command, Error> {
    let mut command = Command::new(env::current_exe()?);
    command.args([OPTION, job, &size.to_string()]);
    Ok(command)
}

/// Runs a job and returns the numbers it printed.
pub fn ask_all(command: &mut Command) -> Result<Vec<f64>, Error> {
    let output = command.output()?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    String::from_utf8(output.stdout)?.split_whitespace().map(|number| Ok(number.parse()?)).collect()
}
