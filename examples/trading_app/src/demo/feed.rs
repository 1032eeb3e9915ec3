//! The source of market data of the demo: a simulation or a recorded file. [`Feed`] runs either as a task that is at
//! most [`AHEAD`] chunks ahead, and accounts for the rows of a file. `trader` reads it.

use std::thread;

use serde::Serialize;
use tokio::sync::mpsc::{Receiver, channel};
use tokio_util::sync::CancellationToken;

use super::{
    chunk::{BadRow, Chunk},
    format,
    progress::Progress,
    replay::{Pace, Replay, paced},
    settings::Settings,
    sim,
};
use crate::bot::{Error, tick::Tick, trader::Source};

/// A running feed, as its reader holds it.
pub struct Feed {
    /// Description for people.
    pub title: String,
    pub log: RowLog,
    /// Whether the first bad row ends the run with an error. The error names the row, which is then not reported.
    strict: bool,
    chunks: Receiver<Result<Chunk, Error>>,
    progress: Progress,
}

/// Rows read so far.
#[derive(Debug, Default, Serialize)]
pub struct RowLog {
    pub rows: u64,
    pub bad_rows: u64,
    /// The first [`MAX_RETAINED`] bad rows.
    pub bad: Vec<BadRow>,
}

/// Number of chunks that are ready before the trader asks. The number is small, so that a slow database slows the feed
/// down.
const AHEAD: usize = 2;

/// Maximum number of bad rows that are reported one by one. A misunderstood file has millions.
const MAX_REPORTED: u64 = 20;

/// Maximum number of bad rows that are kept for the report, some megabytes. All bad rows are counted.
const MAX_RETAINED: usize = 10_000;

impl Feed {
    /// Starts the feed, and prints its description. A canceled `stop` ends the feed; chunks sent before can still
    /// be read.
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
                // The reader has its own thread, since it blocks on files and parsing takes time.
                thread::Builder::new().name("replay".to_owned()).spawn(move || replay.send_to(&read))?;
                tokio::spawn(paced(rows, out, Pace::new(settings.replay.speed), stop, progress.clone()));
                title
            }
        };
        let (log, strict) = (RowLog::default(), settings.replay.strict);
        Ok(Self { title, log, strict, chunks, progress: progress.clone() })
    }
}

impl Source for Feed {
    async fn next(&mut self) -> Option<Result<Vec<Tick>, Error>> {
        let chunk = self.chunks.recv().await?;
        Some(chunk.map(|Chunk { ticks, bad }| {
            self.log.note_bad(bad, |message| {
                if !self.strict {
                    self.progress.say(message);
                }
            });
            self.log.rows += ticks.len() as u64;
            ticks
        }))
    }
}

impl RowLog {
    /// Counts bad rows and reports them: the first one by one, later ones by one line per chunk.
    fn note_bad(&mut self, bad: Vec<BadRow>, report: impl Fn(&str)) {
        let all = bad.len();
        let (mut unreported, mut last) = (0, None);
        for (i, row) in bad.into_iter().enumerate() {
            self.bad_rows += 1;
            if self.bad_rows <= MAX_REPORTED {
                report(&row.to_string());
            } else {
                unreported += 1;
                last = (i + 1 == all).then(|| row.to_string());
            }
            if self.bad.len() < MAX_RETAINED {
                self.bad.push(row);
            }
        }
        if let Some(last) = last {
            report(&format!("{} more bad rows, the last of them: {last}", format::count(unreported)));
        }
    }
}
