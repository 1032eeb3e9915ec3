//! Tests of `head`: lines above the rows of a file, and their encoding.

use super::*;
use crate::demo::replay::testing::{good, none, opened, read, refused, rows, set};

const ROWS: &str = "1704704400000,BTCUSD,42000.5,0.1,buy\n1704704401000,BTCUSD,42001.5,0.2,sell\n";

/// Returns the line numbers of the rows, all of them good.
fn lines(text: impl AsRef<[u8]>) -> Vec<u64> {
    rows(&none(), "x.csv", text).into_iter().map(|(line, row)| row.map(|_| line).unwrap()).collect()
}

#[test]
fn prose_above_the_header_is_skipped_and_reported() {
    let header = "time,symbol,price,qty,side";
    for (above, first) in [
        ("https://www.example.com/data\n", 3),
        ("# made by hand; with care, and love\n#\n", 4),
        ("Trades of BTCUSD, as exported\n\nPlease read the terms\n", 5),
        ("Report\nVenue: X, Account: Y, All\n", 4),
        ("", 2),
    ] {
        let text = format!("{above}{header}\n{ROWS}");
        assert_eq!(lines(&text), [first, first + 1], "{above}");
        let found = opened(&none(), "x.csv", &text).unwrap().found();
        assert_eq!(found.contains("no rows and no header: line 1"), first > 2, "{found}");
    }
    assert_eq!(lines(format!("#{header}\n{ROWS}")), [2, 3]);
    assert_eq!(lines(format!("sep=;\n{}", format!("{header}\n{ROWS}").replace(',', ";"))), [3, 4]);
    let skipped = set("skip_lines = 2");
    let text = format!("1,2,3,4,5\n1,2,3,4,5\n{header}\n{ROWS}");
    assert_eq!(rows(&skipped, "x.csv", text).iter().map(|(line, _)| *line).collect::<Vec<_>>(), [4, 5]);
}

#[test]
fn a_delimiter_behind_each_row_hides_no_header() {
    let named = set("time = \"zeit\"\nsymbol = \"name\"\nprice = \"kurs\"");
    assert_eq!(good(&named, "x.csv", "zeit;name;kurs\n1704704400000;A;1,5;\n1704704400000;A;1,5;\n").len(), 2);
}

/// Goal: no row is taken for a header. Method: files without a header, in all forms that could hide it.
#[test]
fn a_row_is_never_taken_for_the_header() {
    let by_number = "time = 1\nsymbol = 2\nprice = 3\nquantity = 4\nside = 5\n";
    assert_eq!(good(&set(by_number), "x.csv", ROWS).len(), 2);
    assert!(refused(&set(&format!("{by_number}header = true")), "x.csv", ROWS).contains("line 1 is a row"));
    for dates in ["01/13/2024 9:30 AM", "08-Jan-2024", "2024.01.08 00:05", "20240108 000001123"] {
        let text = format!("{dates},BTC\u{df},x\n{dates},BTC,1\n{dates},BTC,1\n");
        let read = read(&set("time = 1\nsymbol = 2\nprice = 3"), "x.csv", text);
        assert_eq!((read.len(), read[0].is_err()), (3, true), "{dates}");
    }
    let words = opened(&set("time = 1\nsymbol = 2\nprice = 3"), "x.csv", "a,b,c\n1704704400000,BTC,1\n").unwrap();
    assert!(words.found().contains("the header: line 1"), "what may have been a row is told: {}", words.found());
    let short = "1704704400000,BTCUSD\n";
    let read = read(&none(), "x.csv", format!("{short}time,symbol,price,qty,side\n{ROWS}"));
    assert!(read[0].is_err(), "what has a value in it is a row, if a bad one: {read:?}");
}

#[test]
fn a_torn_header_is_still_a_header() {
    let text = b"time;symbol;price;qty;W\xe4hrung\n1704704400000;BTCEUR;38500.25;0.5;EUR\n1704704400100;BTCEUR;38500.75;0.5;EUR\n";
    assert_eq!(lines(text), [2, 3]);
    assert!(opened(&none(), "x.csv", text).unwrap().found().contains("the header is not UTF-8 text: line 1"));
    for header in ["header = true", ""] {
        let read = read(&set(&format!("{header}\ntime = 1\nsymbol = 2\nprice = 3")), "x.csv", text);
        assert!(read.iter().all(Result::is_ok), "{read:?}");
    }
    let foreign = b"\xca\xb1\xbc\xe4;\xb4\xfa\xc2\xeb;\xbc\xdb\xb8\xf1\n1704704400000;BTC;1\n1704704400100;BTC;2\n";
    assert!(refused(&none(), "x.csv", foreign).contains("line 1: the line is not UTF-8 text"));
    assert_eq!(good(&set("header = true\ntime = 1\nsymbol = 2\nprice = 3"), "x.csv", foreign).len(), 2);
    let read = read(&set("time = 1\nsymbol = 2\nprice = 3"), "x.csv", foreign);
    assert_eq!(read.iter().map(Result::is_ok).collect::<Vec<_>>(), [false, true, true]);
}

#[test]
fn files_come_in_several_encodings() {
    let text = format!("\u{feff}time,symbol,price,qty,side\r\n{}", ROWS.replace('\n', "\r\n"));
    let utf_16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(lines(&text), [2, 3]);
    assert_eq!(lines(utf_16), [2, 3]);
    let unmarked: Vec<u8> = text.encode_utf16().skip(1).flat_map(u16::to_le_bytes).collect();
    assert!(refused(&none(), "x.csv", unmarked).contains("zero bytes"));
    assert!(refused(&none(), "x.csv", b"\x1f\x8b\x08\0\0").contains("gzip"));
}

#[test]
fn the_delimiter_is_what_most_lines_agree_on() {
    let of = |text: &str| {
        let line = |(text, number): (&str, u64)| Line { number, text: text.to_owned(), problem: None };
        delimiter_of(&text.lines().zip(1..).map(line).collect::<Vec<_>>())
    };
    for (text, expected) in [
        ("a;b;c", ';'),
        ("a\tb", '\t'),
        ("a|b", '|'),
        ("a", ','),
        ("a, b and c; d\nx;y;z\n1;2,5;3", ';'),
        ("1;38500,25;0,5\n2;38501,25;0,5", ';'),
        ("a,b,c,d,e;f\n1,2,3,4,5;6", ','),
        ("# a;b;c\nx,y\n1,2", ','),
    ] {
        assert_eq!(of(text), expected, "{text}");
    }
}
