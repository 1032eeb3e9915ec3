//! Tests that keep the source pleasant to read: small files, small functions, a first line that names the file's
//! purpose.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Maximum number of lines in a file, so that it holds one concept.
const MAX_LINES: usize = 400;
/// Maximum number of lines in a function, so that it fits a page.
const MAX_FUNCTION_LINES: usize = 70;

fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    assert!(!found.is_empty());
    found
}

/// Goal: no file grows into a god file. Method: count lines.
#[test]
fn files_are_small() {
    for (path, text) in sources("src") {
        let lines = text.lines().count();
        assert!(lines <= MAX_LINES, "{} has {lines} lines", path.display());
    }
}

/// Goal: no function grows beyond a page. Method: from `fn` to the brace that closes at the same indentation.
#[test]
fn functions_are_small() {
    for folder in ["src", "board/src", "examples"] {
        for (path, text) in sources(folder) {
            let lines: Vec<&str> = text.lines().collect();
            for (start, line) in lines.iter().enumerate() {
                let code = line.trim_start();
                let is_function = ["fn ", "pub fn ", "pub(crate) fn ", "pub(super) fn ", "async fn ", "pub async fn "]
                    .iter()
                    .any(|prefix| code.starts_with(prefix));
                if !is_function || code.ends_with(';') || code.ends_with('}') {
                    continue;
                }
                let close = format!("{}}}", &line[..line.len() - code.len()]);
                let length = lines[start..].iter().position(|line| *line == close).map_or(0, |length| length + 1);
                assert!(length <= MAX_FUNCTION_LINES, "{}:{} has {length} lines", path.display(), start + 1);
            }
        }
    }
}

/// Goal: the first line of a file tells its purpose. Method: each file starts with a `//!` line.
#[test]
fn files_say_what_they_are() {
    for folder in ["src", "board/src", "examples", "tests"] {
        for (path, text) in sources(folder) {
            let first = text.lines().next().unwrap_or_default();
            assert!(first.starts_with("//!") || first.starts_with("#![doc"), "{} starts with {first}", path.display());
        }
    }
}

/// Goal: no unfinished work is left behind. Method: its usual marks, put together so that this file has none.
#[test]
fn nothing_is_left_to_do() {
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("todo", "!(")];
    for folder in ["src", "board/src", "examples", "tests"] {
        for (path, text) in sources(folder) {
            for mark in marks {
                assert!(!text.contains(mark), "{} has a {mark}", path.display());
            }
        }
    }
}

/// Returns the code of a file, without comments and without the tests at its end.
fn code(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let lines = code.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// Whether `word` stands in the code, not as a part of a longer name. A module, which ends in `::`, counts only at the
/// root or in this crate: `futures::sink::` is a module of another crate.
fn says(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        let (before, is_module) = (&code[..at], word.ends_with("::"));
        let is_own = before.ends_with("crate::") && !before.ends_with("_crate::");
        is_own || !before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || (c == ':' && is_module))
    })
}

/// Goal: the three rings hold: rules know no task, channel, metrics, log, clock or sink; sinks know no driver; nouns know
/// of the rules only what a merge gives back and what a key is. Method: the words by which they would know it.
#[test]
fn no_import_runs_from_a_lower_ring_to_a_higher_one() {
    let rules = [
        "tokio",
        "mpsc",
        "oneshot",
        "Mutex",
        "Waker",
        "metrics::",
        "tracing",
        "Instant::now",
        "driver::",
        "sink::",
        "market::",
        "fanout::",
    ];
    let rings = [
        ("rules", &rules[..]),
        ("sink", &["driver::", "batcher::", "fanout::", "market::"]),
        ("driver", &["batcher::", "fanout::", "market::", "testing::"]),
        ("market", &["driver::", "sink::", "fanout::", "batcher::", "testing::"]),
        ("testing", &["driver::", "fanout::", "batcher::", "market::"]),
        ("fanout", &["driver::"]),
        ("durable", &["market::", "fanout::"]),
    ];
    for (ring, banned) in rings {
        for (path, text) in sources(&format!("src/{ring}")) {
            let name = path.to_string_lossy();
            let code = code(&text);
            for word in banned {
                assert!(!says(&code, word), "{name} says {word}, which {ring} must not know");
            }
            if ring == "market" {
                let known = code.replace("rules::stage::Merge", "").replace("rules::stage::IntoKey", "");
                assert!(!says(&known, "rules::"), "{name} knows more of the rules than Merge and IntoKey");
            }
        }
    }
}

/// Folders whose comments are held to the rule for prose.
const PLAIN_PROSE: [&str; 5] = ["src", "board/src", "examples", "tests", "benches/src"];

/// First words that no comment line has: they begin a sentence without a noun.
const FORBIDDEN_OPENINGS: [&str; 14] = [
    "So many",
    "So much",
    "So long",
    "So often",
    "Who",
    "Whoever",
    "Of those",
    "Of them",
    "Of which",
    "By which",
    "Nobody",
    "Somebody",
    "In comes",
    "Next room",
];

/// First words that no comment has, though a later line of it may.
const FORBIDDEN_FIRST_WORDS: [&str; 5] = ["So", "What", "Of", "It", "Those"];

/// The text of a comment line, without its slashes.
fn comment(line: &str) -> Option<&str> {
    let text = line.trim_start().strip_prefix("//")?;
    Some(text.trim_start_matches(['/', '!']).trim_start())
}

/// The forbidden words that a comment line begins with. More are forbidden where it is the first one of its comment.
fn forbidden_opening(line: &str, is_first: bool) -> Option<&'static str> {
    let text = comment(line)?;
    let first_words = FORBIDDEN_FIRST_WORDS.into_iter().filter(|_| is_first);
    FORBIDDEN_OPENINGS.into_iter().chain(first_words).find(|words| {
        text.strip_prefix(words).is_some_and(|rest| !rest.starts_with(|next: char| next.is_alphanumeric()))
    })
}

/// Goal: a comment names its subject. Method: the openings of sentences that have none.
#[test]
fn comments_begin_with_a_subject() {
    for folder in PLAIN_PROSE {
        for (path, text) in sources(folder) {
            let mut is_first = true;
            for (number, line) in text.lines().enumerate() {
                let found = forbidden_opening(line, is_first);
                assert_eq!(found, None, "{}:{} begins so", path.display(), number + 1);
                is_first = comment(line).is_none();
            }
        }
    }
}

/// Goal: the test above finds what it is for. Method: lines that begin so, and lines that only look alike.
#[test]
fn a_forbidden_opening_is_found() {
    for line in
        ["/// So many ops.", "    // Whoever asks.", "//! Who: a caller.", "// Of them, one.", "//! In comes an op."]
    {
        assert!(forbidden_opening(line, false).is_some(), "{line}");
    }
    for line in
        ["/// Whole frames.", "let who = 1; // Who", "// Some ops", "// So that it ends", "/// Ops, of which one"]
    {
        assert_eq!(forbidden_opening(line, false), None, "{line}");
    }
    assert_eq!(forbidden_opening("/// What it is.", true), Some("What"));
    assert_eq!(forbidden_opening("/// What it is.", false), None);
}
