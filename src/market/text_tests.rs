//! Tests of `text`: which letters are allowed, and that inline bytes compare and hash as texts do.

use std::hash::DefaultHasher;

use super::*;

fn text(text: &str) -> Text<36> {
    Text::new(text, Letters::Name).expect("valid in this test")
}

fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Goal: each rule has its own reason. Method: the shortest text that breaks it, at both ends of the length.
#[test]
fn each_rule_is_checked() {
    for letters in [Letters::Token, Letters::Name] {
        let new = |text: &str| Text::<36>::new(text, letters);
        assert_eq!(new(""), Err(Reason::Empty));
        assert_eq!(new(&"1".repeat(37)), Err(Reason::TooLong { max: 36, len: 37 }));
        assert_eq!(new("1").expect("valid").as_str(), "1");
        assert_eq!(new(&"1".repeat(36)).expect("valid").as_str(), "1".repeat(36));
        for bad in ['\t', '\n', '\r', '\0', '\x1f', '\x7f', ',', '"', '\'', '`'] {
            assert_eq!(new(&format!("AB{bad}C")), Err(Reason::BadLetter { at: 2, letter: bad }), "{bad:?}");
        }
    }
}

#[test]
fn all_other_printable_ascii_is_allowed() {
    let allowed = (b'!'..=b'~').filter(|byte| !b",\"'`".contains(byte));
    for byte in allowed {
        let one = char::from(byte).to_string();
        assert_eq!(text(&one).as_str(), one);
        assert_eq!(Text::<36>::new(&one, Letters::Token), Ok(text(&one)));
    }
}

/// Goal: ids stay what every venue takes. Method: what a name may have and a token may not.
#[test]
fn blanks_and_unicode_are_for_names() {
    assert_eq!(Text::<36>::new("A B", Letters::Token), Err(Reason::BadLetter { at: 1, letter: ' ' }));
    assert_eq!(Text::<36>::new("Aé", Letters::Token), Err(Reason::BadLetter { at: 1, letter: 'é' }));
    for name in ["A B", "A   B", "Aé", "币安人生", "Ω", "🚀", "नमस्ते", "e\u{301}"] {
        assert_eq!(text(name).as_str(), name);
    }
    for name in [" ", " A", "A ", "  "] {
        assert_eq!(Text::<36>::new(name, Letters::Name), Err(Reason::OuterBlank), "{name:?}");
    }
}

/// Goal: no name holds what cannot be seen. Method: one of each kind between two letters, and each white space and
/// control character that the standard library knows.
#[test]
fn what_is_not_seen_is_refused() {
    let kinds = "\u{ad}\u{200b}\u{200d}\u{200e}\u{202e}\u{2066}\u{2060}\u{feff}\u{fe0f}\u{3164}\u{e0041}\u{fffd}";
    let others = "\u{e000}\u{fdd0}\u{1fffe}\u{10ffff}\u{f0000}\u{180e}\u{1d173}\u{2800}\u{a0}\u{2028}";
    let blank = |letter: &char| *letter != ' ' && (letter.is_whitespace() || letter.is_control());
    for letter in kinds.chars().chain(others.chars()).chain(('\0'..=char::MAX).filter(blank)) {
        let found = Text::<36>::new(&format!("é{letter}B"), Letters::Name);
        assert_eq!(found, Err(Reason::BadLetter { at: 2, letter }), "{letter:?}");
    }
}

/// Goal: decoding by hand is what the standard library does. Method: each letter there is.
#[test]
fn letters_are_decoded_as_the_standard_library_does() {
    let mut bytes = [0; 4];
    for letter in '\0'..=char::MAX {
        let text = letter.encode_utf8(&mut bytes);
        assert_eq!(letter_at(text.as_bytes(), 0), (letter, text.len()));
    }
}

/// Goal: inline bytes order like strings. Method: all pairs of texts that share prefixes.
#[test]
fn the_order_is_that_of_strings() {
    // Texts that end at, before and behind the ends of the parts that are compared.
    let stems = [FIRST - 1, FIRST, SECOND - 1, SECOND].map(|len| "A".repeat(len));
    let long = stems.iter().flat_map(|stem| ["", "A", "B", "é", "é!"].map(|end| format!("{stem}{end}")));
    let short =
        ["!", "A", "A A", "AA", "AB", "B", "BA", "a", "~", "~~~~~~~~", "é", "é!", "币", "🚀"].map(str::to_owned);
    let all: Vec<String> = short.into_iter().chain(long).collect();
    for a in &all {
        for b in &all {
            assert_eq!(text(a).cmp(&text(b)), a.cmp(b), "{a} {b}");
            assert_eq!(text(a) == text(b), a == b);
        }
    }
}

#[test]
fn equal_texts_hash_alike_and_pairs_do_not_run_together() {
    assert_eq!(hash(text("BTC")), hash(text("BTC")));
    assert_ne!(hash(text("BTC")), hash(text("BTD")));
    assert_ne!(hash((text("AB"), text("C"))), hash((text("A"), text("BC"))));
    for len in SECOND - 1..=36 {
        let (one, other) = ("A".repeat(len), "A".repeat(len - 1) + "B");
        assert_eq!(hash(text(&one)), hash(text(&one)));
        assert_ne!(hash(text(&one)), hash(text(&other)), "{len}");
    }
}

#[test]
fn numbers_become_their_digits() {
    for number in [0, 7, 10, 99, 100, 1_000_000_007, u64::MAX - 1, u64::MAX] {
        let made = Text::<36>::from_number(number);
        assert_eq!(made.as_str(), number.to_string());
        assert_eq!(Ok(made), Text::new(&number.to_string(), Letters::Token), "no trace of how it was made");
    }
}
