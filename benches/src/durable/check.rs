//! Kills a job in the middle, and counts in its files what it had confirmed.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
    sync::atomic::Ordering,
    thread,
    time::Duration,
};

use super::{
    CONFIRMED, TELL, empty, jobs,
    shim::{Place, Shim},
};
use crate::{Error, child};

pub(super) const FIND_ROWS: &str = "durable find rows";
pub(super) const FIND_LAST_ROW: &str = "durable find the last row";
pub(super) const FIND_QUEUE: &str = "durable find in persistent-queue";
pub(super) const FIND_OURS: &str = "durable find in the log";

/// Prints what is confirmed, again and again. Runs in the job.
pub(super) fn tell() {
    loop {
        println!("{}", CONFIRMED.load(Ordering::Acquire));
        thread::sleep(Duration::from_millis(2));
    }
}

/// The number of lines that a job prints, at least, before it is killed; the last one is not 0.
const LINES: usize = 50;

/// Kills a job with SIGKILL, and returns how many ops it had confirmed, and how many a second process finds.
///
/// # Errors
///
/// If fewer ops are found than were confirmed, or if none was.
pub fn survives(shim: &Shim, place: &Place, job: &str) -> Result<(f64, f64), Error> {
    empty(&place.folder)?;
    let mut command = shim.command(job, 60_000, place)?;
    let mut running = command.env(TELL, "1").stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(running.stdout.take().ok_or("no way out")?).lines();
    let (mut told, mut last) = (0, "0".to_owned());
    while told < LINES || last == "0" {
        last = lines.next().ok_or("the job has confirmed nothing")??;
        told += 1;
    }
    running.kill()?;
    running.wait()?;
    // Later lines count as well.
    let last = lines.map_while(Result::ok).filter(|line| line.parse::<f64>().is_ok()).last().unwrap_or(last);
    let confirmed: f64 = last.parse()?;
    let finder = match job {
        jobs::ROWS_DELETED => FIND_LAST_ROW,
        jobs::QUEUE => FIND_QUEUE,
        jobs::SEND | jobs::SEND_ALL | jobs::SEND_ALL_CALLS => FIND_OURS,
        _ => FIND_ROWS,
    };
    let found = child::ask_all(&mut shim.command(finder, 0, place)?)?.first().copied().unwrap_or(0.0);
    if confirmed > 0.0 && found >= confirmed {
        Ok((confirmed, found))
    } else {
        Err(format!("{job} had confirmed {confirmed} ops when it was killed, and {found} are in its files").into())
    }
}
