//! Recorded files. [`Replay`] reads a CSV file of any vendor as ticks in the order of the file, and bad rows with their
//! line numbers. `feed` opens it, and runs its reader in a thread and [`paced`] behind it.
//!
//! `encoding` makes text of bytes, `lines` makes fields of text, `head` finds the header, and `layout` finds the
//! meaning of the columns. `row` then reads each row by the layout alone.

mod age;
mod calendar;
mod decimals;
mod encoding;
mod head;
mod header;
mod layout;
mod lines;
#[cfg(test)]
mod mutation_tests;
mod names;
mod pace;
mod row;
mod sides;
#[cfg(test)]
mod testing;
mod time_columns;
mod times;
mod turnover;

use std::{fmt::Write as _, fs::File, mem, path::Path};

use csv::StringRecord;
use tokio::sync::mpsc::Sender;

use self::{
    age::{Age, Neighbors},
    encoding::Input,
    head::Head,
    layout::Layout,
    lines::{Line, Lines, split},
    times::Date,
};
pub use pace::{Pace, paced};

use crate::{
    bot::{Error, tick::Tick},
    demo::{chunk::BadRow, settings},
};

/// Number of first rows by which the layout is found.
const SAMPLE: usize = 256;

/// Number of rows per message to the next task: enough to make a message cheap, few enough to keep both tasks busy.
const CHUNK: usize = 256;

/// Ticks with the numbers of their lines, and bad rows.
#[derive(Debug, Default)]
pub struct Rows {
    pub ticks: Vec<(u64, Tick)>,
    pub bad: Vec<BadRow>,
}

/// A tick or the problem of its row, and the line number.
type Read = (u64, Result<Tick, String>);

/// A file whose first lines have been read to find the layout.
pub struct Replay {
    lines: Lines<Input>,
    layout: Layout,
    head: Head,
    neighbors: Neighbors,
    strict: bool,
}

impl Replay {
    pub fn open(path: &Path, settings: &settings::Replay) -> Result<Self, Error> {
        let wrong = |problem: String| format!("cannot replay {}: {problem}", path.display());
        let input = File::open(path).and_then(encoding::decoded).map_err(|error| wrong(error.to_string()))?;
        let mut lines = Lines::new(input);
        let mut sample: Vec<Line> = Vec::new();
        while sample.len() < SAMPLE
            && let Some(line) = lines.next().map_err(|error| wrong(error.to_string()))?
        {
            if line.number > settings.skip_lines {
                sample.push(line);
            }
        }
        let head = Head::of(settings, &sample);
        let rows: Vec<StringRecord> = head.rows.iter().filter_map(|(_, row)| row.clone().ok()).collect();
        let header = head.header.as_ref().map(|(_, names)| names);
        let (layout, neighbors) =
            understood(settings, path, header, &rows).map_err(|problem| wrong(because(&head, &rows, problem)))?;
        if let Some((line, names)) = &head.header
            && layout.tick(*line, names).is_ok()
        {
            return Err(wrong(format!("replay.header = true, and line {line} is a row")).into());
        }
        if head.rows.is_empty() {
            return Err(wrong("no row could be read: there is none below the header".to_owned()).into());
        }
        Ok(Self { lines, layout, head, neighbors, strict: settings.strict })
    }

    /// Describes the layout for people, so that a wrong guess is seen.
    pub fn found(&self) -> String {
        let mut found = self.layout.to_string();
        let (head, names) =
            (&self.head, |numbers: &[u64]| numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(", "));
        // Writing to a `String` never fails.
        if !head.prose.is_empty() {
            let _ = write!(found, "\n  no rows and no header: line {}", names(&head.prose));
        }
        match &head.header {
            Some((line, _)) if head.is_torn => {
                let _ = write!(found, "\n  the header is not UTF-8 text: line {line}");
            }
            Some((line, _)) if *line > 1 || !head.is_known => {
                let _ = write!(found, "\n  the header: line {line}");
            }
            _ => {}
        }
        if self.neighbors.is_old() {
            found.push_str(
                "\n  its times lie before 1990, and are stored as they are: see replay.time_unit if they are wrong",
            );
        }
        found
    }

    /// The next row with its line number; `None` at the end of the file.
    fn next(&mut self) -> Result<Option<Read>, Error> {
        let (number, row) = match self.head.rows.pop_front() {
            Some(row) => row,
            None => match self.lines.next()? {
                Some(line) => (line.number, fields(&line, self.head.delimiter)),
                None => return Ok(None),
            },
        };
        let tick = row.map_err(str::to_owned).and_then(|row| {
            let tick = self.layout.tick(number, &row)?;
            let time = self.neighbors.check(tick.time_ns);
            time.map_err(|problem| self.layout.wrong(&row, self.layout.times.column, &problem)).map(|()| tick)
        });
        Ok(Some((number, tick)))
    }

    /// Sends all rows, until the receiver is dropped. Blocks the thread while the channel is full.
    pub fn send_to(mut self, out: &Sender<Result<Rows, Error>>) {
        let mut rows = Rows::default();
        loop {
            match self.next() {
                Ok(Some((line, Ok(tick)))) => rows.ticks.push((line, tick)),
                Ok(Some((line, Err(problem)))) => {
                    rows.bad.push(BadRow { line, problem });
                    if self.strict {
                        break;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    let _ = out.blocking_send(Ok(rows)).and_then(|()| out.blocking_send(Err(error)));
                    return;
                }
            }
            if rows.ticks.len() + rows.bad.len() >= CHUNK && out.blocking_send(Ok(mem::take(&mut rows))).is_err() {
                return;
            }
        }
        // Fails only if the app is stopping.
        let _ = out.blocking_send(Ok(rows));
    }
}

/// Returns the layout, and the neighbors that the times of its rows are compared with.
fn understood(
    settings: &settings::Replay,
    path: &Path,
    header: Option<&StringRecord>,
    rows: &[StringRecord],
) -> Result<(Layout, Neighbors), String> {
    if header.is_none() && rows.is_empty() {
        return Err("it is empty".to_owned());
    }
    let age = Age::ours();
    let layout = Layout::of(settings, path, header, rows, age)?;
    let neighbors =
        Neighbors::new(age, &layout.sampled(rows)).of_one_day(matches!(layout.times.date, Date::Constant(_)));
    Ok((layout, neighbors))
}

/// Adds a likely cause to a problem: a first line that is no text.
fn because(head: &Head, rows: &[StringRecord], problem: String) -> String {
    match head.rows.front() {
        Some((line, Err(cause))) if rows.is_empty() => format!("no row could be read: line {line}: {cause}"),
        Some((line, Err(cause))) => format!("{problem} (line {line}: {cause})"),
        _ => problem,
    }
}

fn fields(line: &Line, delimiter: char) -> Result<StringRecord, &'static str> {
    let mut fields = StringRecord::new();
    match line.problem {
        Some(problem) => Err(problem),
        None => split(&line.text, delimiter, &mut fields).map(|()| fields),
    }
}

#[cfg(test)]
mod tests;
