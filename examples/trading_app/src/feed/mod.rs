//! Where market data comes from. In come settings, out come chunks of ticks, simulated or from a file, until the end or
//! until it is told to stop. Next room: `trader`.

mod age;
mod calendar;
mod decimals;
mod encoding;
mod head;
mod header;
mod layout;
mod lines;
mod names;
mod pace;
mod replay;
mod row;
mod sides;
mod sim;
#[cfg(test)]
mod testing;
mod time_columns;
mod times;
mod turnover;

use std::{fmt, mem, thread, time::Duration};

use serde::Serialize;
use tokio::{
    sync::mpsc::{Receiver, Sender, channel},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{Error, progress::Progress, settings::Settings, tick::Tick};
use pace::Pace;
use replay::{Replay, Rows};

/// Ticks that came together, and rows that are no ticks.
#[derive(Debug, Default)]
pub struct Chunk {
    pub ticks: Vec<Tick>,
    pub bad: Vec<BadRow>,
}

/// A row of a file that could not be read.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BadRow {
    pub line: u64,
    pub problem: String,
}

impl fmt::Display for BadRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.problem)
    }
}

/// The feed as its reader holds it.
pub struct Feed {
    /// What it is, for people.
    pub title: String,
    /// Whether the first bad row is the end, and so an error that is told there.
    pub strict: bool,
    chunks: Receiver<Result<Chunk, Error>>,
}

/// Chunks that are ready before they are asked for. Few, so that a slow database slows the feed down.
const AHEAD: usize = 2;

impl Feed {
    /// Starts the feed, and says what it is. It ends when `stop` is canceled; what it has sent by then can still be read.
    pub fn start(settings: &Settings, stop: CancellationToken, progress: &Progress) -> Result<Self, Error> {
        let (out, chunks) = channel(AHEAD);
        let title = match &settings.replay.file {
            None => {
                let title = format!("simulated feed, {} pairs, seed {}", settings.sim.pairs, settings.seed);
                progress.say(&title);
                tokio::spawn(sim::run(settings.sim.clone(), settings.seed, out, stop));
                title
            }
            Some(file) => {
                let replay = Replay::open(file, &settings.replay)?;
                let title = format!("replay of {}", file.display());
                progress.say(&format!("{title}\n{}", replay.found()));
                let (read, rows) = channel(AHEAD);
                // A thread of its own: files are read by blocking calls, and parsing takes time.
                thread::Builder::new().name("replay".to_owned()).spawn(move || replay.send_to(&read))?;
                tokio::spawn(paced(rows, out, Pace::new(settings.replay.speed), stop, progress.clone()));
                title
            }
        };
        Ok(Self { title, strict: settings.replay.strict, chunks })
    }

    /// The next chunk; `None` at the end.
    pub async fn next(&mut self) -> Option<Result<Chunk, Error>> {
        self.chunks.recv().await
    }
}

/// A row that is due later than this is told: no market pauses for so long, but a clock that is wrong does.
const LONG: Duration = Duration::from_secs(4 * 86_400);

/// Passes rows on when they are due.
async fn paced(
    mut rows: Receiver<Result<Rows, Error>>,
    out: Sender<Result<Chunk, Error>>,
    mut pace: Pace,
    stop: CancellationToken,
    progress: Progress,
) {
    while let Some(Some(rows)) = stop.run_until_cancelled(rows.recv()).await {
        let chunk = match rows {
            Ok(Rows { ticks, bad }) => {
                let mut due = Chunk { ticks: Vec::with_capacity(ticks.len()), bad };
                for (line, tick) in ticks {
                    if let Some(wait) = pace.wait(tick.time_ns) {
                        let before = mem::take(&mut due);
                        if out.send(Ok(before)).await.is_err() {
                            return;
                        }
                        let left = wait.saturating_duration_since(Instant::now());
                        if left > LONG {
                            let days = (left.as_secs_f64() / 86_400.0).round();
                            progress.say(&format!("line {line}: is due in {days} days, and waited for"));
                        }
                        if stop.run_until_cancelled(sleep_until(wait)).await.is_none() {
                            return;
                        }
                    }
                    due.ticks.push(tick);
                }
                Ok(due)
            }
            Err(error) => Err(error),
        };
        if out.send(chunk).await.is_err() {
            return;
        }
    }
}
