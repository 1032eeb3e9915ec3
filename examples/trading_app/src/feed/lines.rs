//! A file as lines, and a line as fields. In come bytes of any kind, out come numbered records or what is wrong with
//! them. Next room: `layout`, which knows what the fields mean.
//!
//! Each line is split by itself: a quote that is never closed spoils its line, and not the rest of the file.

use std::io::{self, BufRead, Read};

use csv::{ReaderBuilder, StringRecord};

/// Longer lines are no market data. A limit keeps a file without line ends from filling the memory.
const MAX_LINE: u64 = 1 << 16;

/// The lines of a file that are not blank, with their numbers from 1 on.
pub struct Lines<R> {
    input: R,
    bytes: Vec<u8>,
    number: u64,
}

impl<R: BufRead> Lines<R> {
    pub fn new(input: R) -> Self {
        Self { input, bytes: Vec::new(), number: 0 }
    }

    /// The next line with its number, and what is wrong with it, if it is no text.
    pub fn next(&mut self) -> io::Result<Option<(u64, Result<&str, &'static str>)>> {
        loop {
            self.bytes.clear();
            if self.input.by_ref().take(MAX_LINE).read_until(b'\n', &mut self.bytes)? == 0 {
                return Ok(None);
            }
            self.number += 1;
            if self.bytes.len() as u64 == MAX_LINE && self.bytes.last() != Some(&b'\n') {
                self.input.skip_until(b'\n')?;
                return Ok(Some((self.number, Err("the line is too long"))));
            }
            if self.number == 1 && self.bytes.starts_with(b"\xef\xbb\xbf") {
                self.bytes.drain(..3);
            }
            if !self.bytes.trim_ascii().is_empty() {
                break;
            }
        }
        let text = str::from_utf8(&self.bytes).map(|text| text.trim_end_matches(['\n', '\r']));
        Ok(Some((self.number, text.map_err(|_| "the line is not UTF-8 text"))))
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
    // Quotes are rare: what they mean is left to those who know.
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
        while let Some((number, line)) = lines.next().unwrap() {
            all.push((number, line.map(str::to_owned)));
        }
        all
    }

    #[test]
    fn lines_keep_their_numbers_whatever_is_between_them() {
        let ok = |text: &str| Ok(text.to_owned());
        assert_eq!(
            lines(b"\xef\xbb\xbfa,b\r\n\n  \n1,2\n\xff\n3,4"),
            [(1, ok("a,b")), (4, ok("1,2")), (5, Err("the line is not UTF-8 text")), (6, ok("3,4"))]
        );
        assert_eq!(lines(b""), []);
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
