//! The beginning of a file: lines of prose, the header, and the delimiter. [`Head`] compares lines with those that
//! follow, so that neither a line of prose nor a row is taken for the header.

use std::collections::VecDeque;

use csv::StringRecord;

use super::{
    lines::{Line, split},
    names,
};
use crate::demo::settings::Replay;

/// The beginning of a file.
#[derive(Debug)]
pub struct Head {
    pub delimiter: char,
    /// Line number of the header, and its names.
    pub header: Option<(u64, StringRecord)>,
    /// Whether the header has letters that are no UTF-8.
    pub is_torn: bool,
    /// Whether a time and a price are among the names of the header.
    pub is_known: bool,
    /// Numbers of the lines that are neither header nor rows.
    pub prose: Vec<u64>,
    /// The first rows, or the problem of the line.
    pub rows: VecDeque<(u64, Result<StringRecord, &'static str>)>,
}

/// A line among the first of a file.
struct Sampled<'a> {
    line: &'a Line,
    fields: Result<StringRecord, &'static str>,
}

impl Head {
    /// Reads the first lines of a file.
    pub fn of(settings: &Replay, lines: &[Line]) -> Self {
        let mut prose: Vec<u64> = Vec::new();
        let mut delimiter = settings.delimiter;
        // Spreadsheets name the delimiter in a line of its own.
        let lines = match lines.first().and_then(|line| line.text.strip_prefix("sep=")?.chars().next()) {
            Some(said) => {
                prose.push(lines[0].number);
                delimiter = delimiter.or(Some(said));
                &lines[1..]
            }
            None => lines,
        };
        let delimiter = delimiter.unwrap_or_else(|| delimiter_of(lines));
        let sampled: Vec<Sampled<'_>> = lines.iter().map(|line| Sampled::new(line, delimiter)).collect();
        let width = usual(sampled.iter().filter(|line| !line.is_comment()).map(Sampled::filled));
        let first = sampled.iter().position(|line| !line.may_be_prose(width)).unwrap_or(0);
        let (before, from) = sampled.split_at(first);
        let found = header(settings, before, from, width);
        let is_header = |line: &Sampled<'_>| found.as_ref().is_some_and(|(header, ..)| *header == line.line.number);
        let mut rows = VecDeque::new();
        for line in before.iter().filter(|line| !is_header(line)) {
            // Words in several fields are prose if they stand above a header. Without a header they may be a row, and
            // so may a line with values.
            let is_prose = match &found {
                Some(_) => line.width() < 2 || !line.has_values(),
                None => line.width() < 2 && !line.has_values(),
            };
            if is_prose || line.is_comment() {
                prose.push(line.line.number);
            } else {
                rows.push_back(line.row());
            }
        }
        rows.extend(from.iter().filter(|line| !is_header(line)).map(Sampled::row));
        let is_known = sampled.iter().any(|line| is_header(line) && line.is_known());
        let is_torn = found.as_ref().is_some_and(|(.., is_torn)| *is_torn);
        Self { delimiter, header: found.map(|(number, names, _)| (number, names)), is_torn, is_known, prose, rows }
    }
}

impl<'a> Sampled<'a> {
    fn new(line: &'a Line, delimiter: char) -> Self {
        let mut fields = StringRecord::new();
        Self { line, fields: split(&line.text, delimiter, &mut fields).map(|()| fields) }
    }

    fn width(&self) -> usize {
        self.fields.as_ref().map_or(0, StringRecord::len)
    }

    /// The fields without empty ones at the end, which come from a delimiter behind each row.
    fn filled(&self) -> usize {
        self.fields
            .iter()
            .flatten()
            .collect::<Vec<_>>()
            .iter()
            .rposition(|field| !field.is_empty())
            .map_or(0, |at| at + 1)
    }

    fn is_comment(&self) -> bool {
        self.line.text.starts_with('#')
    }

    fn has_values(&self) -> bool {
        self.fields.as_ref().is_ok_and(|fields| fields.iter().any(names::is_value))
    }

    /// Whether a line before all rows may be neither row nor header: a comment, or fewer fields than rows have.
    fn may_be_prose(&self, width: usize) -> bool {
        self.is_comment() || (self.line.problem.is_none() && self.width() < width && !self.is_known())
    }

    /// Whether a time and a price are among the names of the line.
    fn is_known(&self) -> bool {
        let knows = |known: &[&str]| {
            let is_known = |name: &str| known.contains(&names::without_unit(names::without_scale(name).0).0);
            self.fields.iter().flatten().any(|name| is_known(&names::snake(name)))
        };
        knows(names::PRICE) && (knows(names::TIME) || knows(names::DATE))
    }

    fn row(&self) -> (u64, Result<StringRecord, &'static str>) {
        let fields = match self.line.problem {
            Some(problem) => Err(problem),
            None => self.fields.clone(),
        };
        (self.line.number, fields)
    }

    /// Returns the names of the line, without the mark of a comment.
    fn names(&self) -> Option<(u64, StringRecord, bool)> {
        let fields = self.fields.as_ref().ok()?;
        // Names are shown on a terminal, where control characters would act as commands.
        let shown = |name: &str| name.trim_start_matches('#').trim().replace(char::is_control, "\u{fffd}");
        let names: StringRecord = fields.iter().map(shown).collect::<Vec<String>>().into();
        Some((self.line.number, names, self.line.problem.is_some()))
    }
}

/// Finds the header, if there is one: the first line of the rows, or a comment right above them.
fn header(
    settings: &Replay,
    before: &[Sampled<'_>],
    from: &[Sampled<'_>],
    width: usize,
) -> Option<(u64, StringRecord, bool)> {
    if settings.header == Some(false) {
        return None;
    }
    let first = from.first()?;
    let has_values = first.fields.is_err() || first.has_values();
    let comment = before.last().filter(|line| line.is_comment() && line.width() >= width && line.is_known());
    if let Some(comment) = comment.filter(|_| has_values) {
        return comment.names();
    }
    let rows: Vec<StringRecord> = from.iter().filter_map(|line| line.row().1.ok()).collect();
    // The first line of a dump that is known by its shape may be broken, and is no header for the dump.
    let is_header = match (settings.header, first.line.problem.is_some()) {
        (Some(is_header), _) => is_header,
        (None, true) => !has_values && first.is_known(),
        (None, false) => !has_values && (names::shape(&rows).is_none() || first.is_known()),
    };
    if is_header { first.names() } else { None }
}

/// The most frequent width; the largest of equally frequent ones.
fn usual(widths: impl Iterator<Item = usize>) -> usize {
    let widths: Vec<usize> = widths.collect();
    let times = |width: &usize| (widths.iter().filter(|other| *other == width).count(), *width);
    widths.iter().copied().max_by_key(times).unwrap_or(0)
}

/// Returns the separator by which most lines have the same number of fields. A comma is often decimal, so another
/// separator has preference, unless it splits a line into much fewer fields.
fn delimiter_of(lines: &[Line]) -> char {
    let score = |delimiter: char| {
        let fields: Vec<Sampled<'_>> = lines.iter().map(|line| Sampled::new(line, delimiter)).collect();
        let widths = || fields.iter().filter(|line| !line.is_comment()).map(Sampled::width).filter(|width| *width > 1);
        let width = usual(widths());
        (delimiter, widths().filter(|other| *other == width).count(), width)
    };
    let scores = ['\t', ';', '|', ','].map(score);
    let most = scores.iter().map(|(_, lines, _)| *lines).max().unwrap_or(0);
    let best: Vec<_> = scores.into_iter().filter(|(_, lines, _)| *lines == most && most > 0).collect();
    let widest = best.iter().map(|(.., width)| *width).max().unwrap_or(0);
    best.iter().find(|(.., width)| width * 2 > widest).map_or(',', |(delimiter, ..)| *delimiter)
}

#[cfg(test)]
#[path = "head_tests.rs"]
mod tests;
