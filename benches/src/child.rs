//! Jobs in a child process, whose memory and clock no other row has changed.
//!
//! The rows `memory`, `idle` and `fanout` call [`ask`]; the child is this program with a hidden option.

use std::{env, process::Command};

use crate::Error;

/// The hidden option of the command line with which the bench starts itself.
pub const OPTION: &str = "--child";

/// Runs a job of [`child_answer`](crate::rows::child_answer) in a child process and returns the number it printed.
pub fn ask(job: &str, size: u64) -> Result<f64, Error> {
    let output = Command::new(env::current_exe()?).args([OPTION, job, &size.to_string()]).output()?;
    if !output.status.success() {
        return Err(format!("{job}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}
