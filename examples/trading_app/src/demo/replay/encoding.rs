//! The bytes of a file as UTF-8. UTF-16 is known by its mark; compressed files are refused by theirs.

use std::{
    collections::VecDeque,
    io::{self, BufRead, BufReader, Read},
};

/// A text of any known encoding, to be read by lines.
pub type Input = Box<dyn BufRead + Send>;

/// First bytes of compressed files, and their kind.
const COMPRESSED: [(&[u8], &str); 5] = [
    (b"\x1f\x8b", "gzip"),
    (b"PK\x03\x04", "zip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"BZh", "bzip2"),
    (b"PAR1", "Parquet"),
];

/// Detects the encoding and decodes it.
pub fn decoded(file: impl Read + Send + 'static) -> io::Result<Input> {
    let mut input = BufReader::new(file);
    let first = input.fill_buf()?;
    if let Some((_, kind)) = COMPRESSED.iter().find(|(mark, _)| first.starts_with(mark)) {
        return Err(io::Error::other(format!("it is no text but {kind}: unpack it first")));
    }
    let is_big = first.starts_with(b"\xfe\xff");
    if is_big || first.starts_with(b"\xff\xfe") {
        return Ok(Box::new(BufReader::new(Utf16 { input, is_big, rest: Vec::new(), ready: VecDeque::new() })));
    }
    Ok(Box::new(input))
}

/// UTF-16 as UTF-8. Halves without their other half become U+FFFD.
struct Utf16<R> {
    input: R,
    /// Whether the larger byte comes first.
    is_big: bool,
    /// Bytes that do not yet make a whole letter.
    rest: Vec<u8>,
    ready: VecDeque<u8>,
}

impl<R: Read> Utf16<R> {
    /// Reads until there is a letter; returns `false` at the end.
    fn refill(&mut self) -> io::Result<bool> {
        let mut chunk = [0; 4096];
        let got = self.input.read(&mut chunk)?;
        self.rest.extend_from_slice(&chunk[..got]);
        let unit = |pair: &[u8]| {
            let pair = [pair[0], pair[1]];
            if self.is_big { u16::from_be_bytes(pair) } else { u16::from_le_bytes(pair) }
        };
        let mut units: Vec<u16> = self.rest.chunks_exact(2).map(unit).collect();
        // The first half of a surrogate pair waits for the second.
        if got > 0 && units.last().is_some_and(|last| (0xd800..0xdc00).contains(last)) {
            units.pop();
        }
        self.rest.drain(..units.len() * 2);
        for letter in char::decode_utf16(units) {
            let letter = letter.unwrap_or(char::REPLACEMENT_CHARACTER);
            self.ready.extend(letter.encode_utf8(&mut [0; 4]).as_bytes());
        }
        Ok(got > 0)
    }
}

impl<R: Read> Read for Utf16<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.ready.is_empty() && self.refill()? {}
        self.ready.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: Vec<u8>) -> io::Result<String> {
        let mut text = String::new();
        decoded(io::Cursor::new(bytes))?.read_to_string(&mut text)?;
        Ok(text)
    }

    /// Goal: each letter survives, wherever a read ends. Method: surrogate pairs across the ends of chunks.
    #[test]
    fn utf_16_is_read_by_its_mark() {
        for padding in 0..3 {
            let expected = format!("\u{feff}{}{}\n", "x".repeat(padding), "币🚀,1".repeat(2000));
            let units: Vec<u16> = expected.encode_utf16().collect();
            let big = units.iter().flat_map(|unit| unit.to_be_bytes()).collect();
            let little = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
            assert_eq!(text(big).unwrap(), expected);
            assert_eq!(text(little).unwrap(), expected);
        }
        assert_eq!(text(b"\xff\xfe\x00\xd8a\x00b".to_vec()).unwrap(), "\u{feff}\u{fffd}a");
    }

    #[test]
    fn compressed_files_are_named() {
        assert!(text(b"\x1f\x8b\x08".to_vec()).unwrap_err().to_string().contains("gzip"));
        assert_eq!(text(b"a,b\n".to_vec()).unwrap(), "a,b\n");
        assert_eq!(text(Vec::new()).unwrap(), "");
    }
}
