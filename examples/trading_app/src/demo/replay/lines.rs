//! A file as lines, and a line as fields: numbered records, or the problem of a line. `head` and `layout` find the
//! meaning of the fields.
//!
//! Each line is split by itself: a quote that is never closed spoils its own line only.

use std::{
    io::{self, BufRead, Read},
    str,
};

use csv::{ReaderBuilder, StringRecord};

/// Maximum length of a line in bytes. Longer lines are no market data, and a file without line ends must not fill the
/// memory.
const MAX_LINE: u64 = 1 << 16;

/// A line with its number from 1 on, and its problem if it is no text. Its readable part is then shown.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    pub number: u64,
    pub text: String,
    pub problem: Option<&'static str>,
}

/// The lines of a file that are not blank.
pub struct Lines<R> {
    input: R,
    bytes: Vec<u8>,
    number: u64,
}

impl<R: BufRead> Lines<R> {
    pub fn new(input: R) -> Self {
        Self { input, bytes: Vec::new(), number: 0 }
    }

    /// The next line.
    pub fn next(&mut self) -> io::Result<Option<Line>> {
        loop {
            self.bytes.clear();
            if self.input.by_ref().take(MAX_LINE).read_until(b'\n', &mut self.bytes)? == 0 {
                return Ok(None);
            }
            self.number += 1;
            if self.bytes.len() as u64 == MAX_LINE && self.bytes.last() != Some(&b'\n') {
                self.input.skip_until(b'\n')?;
                return Ok(Some(self.line("", Some("the line is too long"))));
            }
            if self.number == 1 && self.bytes.starts_with(b"\xef\xbb\xbf") {
                self.bytes.drain(..3);
            }
            if !self.bytes.trim_ascii().is_empty() {
                break;
            }
        }
        let text = String::from_utf8_lossy(&self.bytes);
        let text = text.trim_end_matches(['\n', '\r']);
        let problem = match text {
            _ if str::from_utf8(&self.bytes).is_err() => Some("the line is not UTF-8 text"),
            text if text.contains('\0') => Some("the line has zero bytes, as UTF-16 without a mark has them"),
            text if text.contains('\r') => Some("the line has a carriage return in it"),
            _ => None,
        };
        Ok(Some(self.line(text, problem)))
    }

    fn line(&self, text: &str, problem: Option<&'static str>) -> Line {
        Line { number: self.number, text: text.to_owned(), problem }
    }
}

/// Splits a line into its fields.
pub fn split(line: &str, delimiter: char, fields: &mut StringRecord) -> Result<(), &'static str> {
    fields.clear();
    if !line.contains('"') {
        line.split(delimiter).for_each(|field| fields.push_field(field.trim()));
        return Ok(());
    }
    if line.matches('"').count() % 2 == 1 {
        return Err("a quote is not closed");
    }
    // Lines with quotes are rare, and left to the csv crate.
    let mut reader = ReaderBuilder::new()
        .has_headers(false)
        .delimiter(u8::try_from(delimiter).map_err(|_| "the delimiter is not ASCII")?)
        .buffer_capacity(line.len())
        .from_reader(line.as_bytes());
    reader.read_record(fields).map_err(|_| "the line is no CSV")?;
    fields.trim();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(bytes: &[u8]) -> Vec<(u64, Result<String, &'static str>)> {
        let mut lines = Lines::new(bytes);
        let mut all = Vec::new();
        while let Some(Line { number, text, problem }) = lines.next().unwrap() {
            all.push((number, problem.map_or(Ok(text), Err)));
        }
        all
    }

    #[test]
    fn lines_keep_their_numbers_across_blank_and_skipped_lines() {
        let ok = |text: &str| Ok(text.to_owned());
        assert_eq!(
            lines(b"\xef\xbb\xbfa,b\r\n\n  \n1,2\n\xff\n3,4"),
            [(1, ok("a,b")), (4, ok("1,2")), (5, Err("the line is not UTF-8 text")), (6, ok("3,4"))]
        );
        assert_eq!(lines(b""), []);
        let problems: Vec<bool> = lines(b"a\rb\nc\0\n\xff\n").into_iter().map(|(_, line)| line.is_err()).collect();
        assert_eq!(problems, [true, true, true]);
    }

    #[test]
    fn a_line_without_end_is_skipped() {
        let mut bytes = vec![b'x'; 3 * MAX_LINE as usize];
        bytes.extend(b"\n1,2\n");
        assert_eq!(lines(&bytes), [(1, Err("the line is too long")), (2, Ok("1,2".to_owned()))]);
    }

    #[test]
    fn fields_are_trimmed_and_unquoted() {
        let mut fields = StringRecord::new();
        let cases: [(&str, char, &[&str]); 4] = [
            ("1, 2 ,,x", ',', &["1", "2", "", "x"]),
            ("1;2,5", ';', &["1", "2,5"]),
            (r#""BTC","14,41","a""b ""#, ',', &["BTC", "14,41", "a\"b"]),
            ("\"1\"\t2", '\t', &["1", "2"]),
        ];
        for (line, delimiter, expected) in cases {
            assert_eq!(split(line, delimiter, &mut fields), Ok(()));
            assert_eq!(fields.iter().collect::<Vec<_>>(), expected, "{line}");
        }
        assert_eq!(split("1,\"2", ',', &mut fields), Err("a quote is not closed"));
    }
}
