//! The machine of the measurement, as read from /proc and the compiler. `main` prints it at the head of the results.

use std::{fs, process::Command, thread};

use crate::Error;

/// Describes CPU, cores, kernel, compiler and load, a line each.
pub fn describe() -> String {
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let lines = [
        ("CPU", cpu()),
        ("cores", cores.to_string()),
        ("kernel", read("/proc/sys/kernel/osrelease")),
        ("compiler", said_by("rustc", "--version")),
        ("load before", load()),
    ];
    lines.map(|(name, value)| format!("* {name}: {value}\n")).concat()
}

/// The load averages of the last 1, 5 and 15 minutes.
pub fn load() -> String {
    read("/proc/loadavg").split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

/// The resident memory of this process, in bytes.
pub fn resident() -> Result<f64, Error> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? * 1024.0)
}

/// The first line that a program prints, or `unknown` if it does not run or prints nothing.
pub fn said_by(program: &str, argument: &str) -> String {
    let said = Command::new(program).arg(argument).output().ok();
    let text = said.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    text.and_then(|text| text.lines().next().map(String::from)).unwrap_or_else(|| "unknown".into())
}

fn cpu() -> String {
    let info = read("/proc/cpuinfo");
    let line = info.lines().find(|line| line.starts_with("model name"));
    line.and_then(|line| line.split(':').nth(1)).map_or_else(|| "unknown".into(), |name| name.trim().into())
}

fn read(path: &str) -> String {
    fs::read_to_string(path).map_or_else(|_| "unknown".into(), |text| text.trim().into())
}
