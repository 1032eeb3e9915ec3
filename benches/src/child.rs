//! A row in a process of its own, where no other row has left its memory. In comes the name of a job, out comes the number
//! that it printed.

use std::{env, process::Command};

use crate::Error;

/// The hidden option by which the bench calls itself.
pub const OPTION: &str = "--child";

/// Runs a job of [`answer`](crate::rows::child_answer) in a child and returns its number.
pub fn ask(job: &str, size: u64) -> Result<f64, Error> {
    let output = Command::new(env::current_exe()?).args([OPTION, job, &size.to_string()]).output()?;
    if !output.status.success() {
        return Err(format!("{job}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}
