//! A recorded file. In comes a CSV file of any vendor, out come ticks in the order of the file, and its bad rows with
//! their line numbers. Next room: the feed's `paced`.

use std::{collections::VecDeque, fs::File, io::BufReader, mem, path::Path};

use csv::StringRecord;
use tokio::sync::mpsc::Sender;

use super::{
    BadRow, Chunk,
    layout::Layout,
    lines::{Lines, split},
};
use crate::{Error, settings, tick::Tick};

/// Rows that are looked at to find out what the columns are.
const SAMPLE: usize = 64;

/// Rows that are handed on together: enough to make that cheap, few enough to keep several stages busy.
const CHUNK: usize = 256;

/// A line that was split, or could not be.
type Line = (u64, Result<StringRecord, &'static str>);

pub struct Replay {
    lines: Lines<BufReader<File>>,
    delimiter: char,
    layout: Layout,
    /// Lines that were read to find the layout, and are still to be replayed.
    sample: VecDeque<Line>,
    strict: bool,
}

impl Replay {
    pub fn open(path: &Path, settings: &settings::Replay) -> Result<Self, Error> {
        let wrong = |problem: String| format!("cannot replay {}: {problem}", path.display());
        let file = File::open(path).map_err(|error| wrong(error.to_string()))?;
        let mut lines = Lines::new(BufReader::new(file));
        let mut delimiter = settings.delimiter;
        let mut sample = VecDeque::new();
        while sample.len() < SAMPLE
            && let Some(line) = next(&mut lines, &mut delimiter).map_err(|error| wrong(error.to_string()))?
        {
            sample.push_back(line);
        }
        let rows: Vec<StringRecord> = sample.iter().filter_map(|(_, row)| row.clone().ok()).collect();
        if let (true, Some((line, Err(problem)))) = (rows.is_empty(), sample.front()) {
            return Err(wrong(format!("no row could be read: line {line}: {problem}")).into());
        }
        let layout = Layout::of(settings, path, &rows).map_err(wrong)?;
        if layout.has_header
            && let Some(header) = sample.iter().position(|(_, row)| row.is_ok())
        {
            sample.remove(header);
        }
        if sample.is_empty() {
            return Err(wrong("no row could be read: there is none below the header".to_owned()).into());
        }
        let delimiter = delimiter.unwrap_or(',');
        Ok(Self { lines, delimiter, layout, sample, strict: settings.strict })
    }

    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The next row with its line number; `None` at the end of the file.
    fn next(&mut self) -> Result<Option<Result<Tick, BadRow>>, Error> {
        let line = match self.sample.pop_front() {
            Some(line) => Some(line),
            None => next(&mut self.lines, &mut Some(self.delimiter))?,
        };
        Ok(line.map(|(line, row)| {
            let tick = row.map_err(str::to_owned).and_then(|row| self.layout.tick(line, &row));
            tick.map_err(|problem| BadRow { line, problem })
        }))
    }

    /// Sends all rows, until nobody wants them any more. The thread that runs this waits while the channel is full.
    pub fn send_to(mut self, out: &Sender<Result<Chunk, Error>>) {
        let mut chunk = Chunk::default();
        loop {
            match self.next() {
                Ok(Some(Ok(tick))) => chunk.ticks.push(tick),
                Ok(Some(Err(bad))) => {
                    chunk.bad.push(bad);
                    if self.strict {
                        break;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    let _ = out.blocking_send(Ok(chunk)).and_then(|()| out.blocking_send(Err(error)));
                    return;
                }
            }
            if chunk.ticks.len() + chunk.bad.len() >= CHUNK && out.blocking_send(Ok(mem::take(&mut chunk))).is_err() {
                return;
            }
        }
        // If nobody takes it, the app has been told to stop.
        let _ = out.blocking_send(Ok(chunk));
    }
}

/// Reads and splits a line. The first one tells the delimiter, if nobody has.
fn next(lines: &mut Lines<BufReader<File>>, delimiter: &mut Option<char>) -> std::io::Result<Option<Line>> {
    let Some((number, line)) = lines.next()? else {
        return Ok(None);
    };
    let row = line.and_then(|line| {
        let delimiter = *delimiter.get_or_insert_with(|| most_frequent(line));
        let mut fields = StringRecord::new();
        split(line, delimiter, &mut fields).map(|()| fields)
    });
    Ok(Some((number, row)))
}

fn most_frequent(line: &str) -> char {
    [',', ';', '\t', '|'].into_iter().rev().max_by_key(|delimiter| line.matches(*delimiter).count()).unwrap_or(',')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_tells_the_delimiter() {
        for (line, expected) in [("a,b;c,d", ','), ("a;b;c", ';'), ("a\tb", '\t'), ("a|b", '|'), ("a", ',')] {
            assert_eq!(most_frequent(line), expected);
        }
    }
}
