//! Tests that the page of telemetry, `src/telemetry.md`, tells all that a run emits and nothing else, and that alerts and
//! dashboard ask only for what stands there.
#![cfg(unix)] // a run renames the files of databases that are open
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod batchers;
mod config;
mod durable;
mod page;
mod record;
mod sinks;
mod sizes;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use metrics::Unit;
use page::Page;
use record::{Emitted, Metric, Site};
use tokio::runtime::{Builder, Runtime};

/// Events that no run of this test emits, each with the reason.
const ELSEWHERE: [(&str, &str); 31] = [
    ("the WAL of a log can't be moved into it", "takes a disk that fails"),
    ("a reader keeps the WAL of a log from being reset", "takes a log of some megabytes"),
    ("a commit has no known result: the log is opened again", "takes a disk that fails"),
    ("the log can't be opened again", "takes a disk that fails"),
    ("the mark of a log can't be written", "takes a disk that fails"),
    ("the mark of a log can't be synced", "takes a disk that fails"),
    ("the file of a log can't be made smaller", "takes a disk that fails"),
    ("the file of a log was not closed properly", "takes a disk that fails"),
    ("another process keeps a log from being written", "takes a process that is stopped"),
    ("the other processes of a log can't be seen", "takes a disk that fails"),
    ("the logs of this process can't be noted for the others", "takes a disk that fails"),
    ("other processes are heard once a second: there is no socket", "takes a path that is too long"),
    ("this process can't lead a shard", "takes a disk that fails"),
    ("the processes of a log can't queue", "takes a disk that fails, under two processes"),
    ("dead letters can't be read", "takes a log that is damaged while it is used"),
    ("a process can't renew its leases", "takes a PostgreSQL server"),
    ("this process was silent for an hour and was removed from the log: join again", "takes a PostgreSQL server"),
    ("a process that died was removed from the log", "takes a PostgreSQL server"),
    ("a process has left without saying so", "takes a PostgreSQL server"),
    ("the log went back: accepted ops are lost", "takes a server that has lost what it confirmed"),
    ("a session held a lock while its client said nothing, and was ended", "takes a PostgreSQL server"),
    ("a server of NATS is connected", "takes a NATS server"),
    ("the client of NATS tells of an event", "takes a NATS server"),
    ("a monitoring port of NATS can't be asked", "takes a NATS server"),
    ("the stream of a shard is read again", "takes a NATS server"),
    ("the stream of a shard can't be read", "takes a NATS server"),
    ("the stream has lost what was read from it", "takes a NATS server"),
    ("a checkpoint is made later", "takes a NATS server"),
    ("a process that died is removed later", "takes a NATS server"),
    ("a connection to PostgreSQL ended", "takes a PostgreSQL server"),
    ("the server was not told that a statement is given up, it will find out by itself", "takes a PostgreSQL server"),
];

fn runtime(is_paused: bool) -> Runtime {
    Builder::new_current_thread().enable_all().start_paused(is_paused).build().unwrap()
}

/// Everything that one run of the whole library emits.
fn emitted() -> &'static Emitted {
    static EMITTED: OnceLock<Emitted> = OnceLock::new();
    EMITTED.get_or_init(|| {
        let emitted = Emitted::install();
        runtime(true).block_on(async {
            batchers::cuts().await;
            batchers::failures().await;
            batchers::stages().await;
            batchers::quotas().await;
            batchers::callers(&emitted).await;
            batchers::outages(&emitted).await;
            batchers::dead_letters().await;
            sizes::failures(&emitted).await;
            sizes::unclear(&emitted).await;
            sizes::times(&emitted).await;
            sinks::feed().await;
            sinks::websockets().await;
            durable::memory().await;
            durable::doubts(&emitted).await;
            durable::clocks().await;
        });
        // The thread of SQLite takes real time, so the clock is not paused.
        runtime(false).block_on(sinks::databases(&emitted));
        runtime(false).block_on(durable::files());
        emitted
    })
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The text of a file of this repository.
fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Code of the library by file, without the lines of its comments.
fn sources() -> BTreeMap<PathBuf, String> {
    let (mut files, mut folders) = (BTreeMap::new(), vec![root().join("src")]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = read(&path);
                let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
                files.insert(path.clone(), code.collect::<Vec<_>>().join("\n"));
            }
        }
    }
    files
}

/// Asserts that two sets are the same, and names what one of them lacks.
#[track_caller]
fn same<T: Ord + std::fmt::Debug>(what: &str, emitted: &BTreeSet<T>, documented: &BTreeSet<T>) {
    let unknown: Vec<_> = emitted.difference(documented).collect();
    let missing: Vec<_> = documented.difference(emitted).collect();
    assert!(unknown.is_empty(), "{what}: emitted, and not on the page: {unknown:#?}");
    assert!(missing.is_empty(), "{what}: on the page, and not emitted: {missing:#?}");
}

/// Goal: the page has every metric with its kind, unit and labels, and no other. Method: a run in which each one moves,
/// compared with the tables.
#[test]
fn each_metric_is_on_the_page_and_moves() {
    let page = Page::read();
    let emitted = emitted().metrics();
    same("metrics", &emitted.keys().cloned().collect(), &page.metrics.keys().cloned().collect());
    for (name, metric) in emitted.iter() {
        let row = &page.metrics[name];
        let Metric { kind, unit, is_described, labels, has_moved } = metric;
        assert_eq!(*kind, row.kind, "kind of {name}");
        same(&format!("labels of {name}"), &labels.keys().cloned().collect(), &row.labels);
        let expected = match unit {
            Some(Unit::Seconds) => row.unit == "seconds",
            Some(Unit::Bytes) => row.unit == "bytes",
            Some(Unit::Count) => {
                let counted = ["ops", "batches", "changes", "panics", "outages", "messages", "frames", "connections"];
                counted.contains(&&*row.unit) || ["units", "reports", "pauses", "terms"].contains(&&*row.unit)
            }
            _ => ["0 or 1", "ratio"].contains(&&*row.unit),
        };
        assert!(expected, "unit of {name}: {unit:?} and {}", row.unit);
        assert!(is_described, "{name} has no description for the exporter");
        assert!(*has_moved || row.is_of_letters, "{name} never moved");
    }
}

/// Goal: the page has every value of the labels `end`, `cut_by` and `reason`. Method: the values whose series moved.
#[test]
fn each_value_of_a_label_is_on_the_page_and_moves() {
    let page = Page::read();
    let emitted = emitted().metrics();
    let labels = [
        ("roundlot_ops_ended_total", "end"),
        ("roundlot_batches_total", "cut_by"),
        ("roundlot_batch_cap_reason", "reason"),
    ];
    for (metric, label) in labels {
        let (moved, unmoved) = &emitted[metric].labels[label];
        same(label, moved, &page.labels[label]);
        same(label, &moved.union(unmoved).cloned().collect(), &page.labels[label]);
    }
}

/// Goal: the page has the span with its level and fields, and what its outcome may be. Method: writes that end in each way.
#[test]
fn each_span_is_on_the_page_and_emitted() {
    let page = Page::read();
    same("spans", &emitted().spans(), &page.spans);
    let outcomes = emitted().outcomes();
    for outcome in &page.labels["outcome"] {
        assert!(outcomes.contains(outcome), "no span with the outcome {outcome}: {outcomes:?}");
    }
    assert!(outcomes.contains("refused: no"), "an error is written out");
}

/// Goal: the page has every event with its level and fields, and no other. Method: a run in which each one happens, but
/// for a few that take a server.
#[test]
fn each_event_is_on_the_page_and_emitted() {
    let page = Page::read();
    let is_elsewhere = |site: &Site| ELSEWHERE.iter().any(|(message, _)| *message == site.name);
    let elsewhere: BTreeSet<Site> = page.events.iter().filter(|site| is_elsewhere(site)).cloned().collect();
    assert_eq!(elsewhere.len(), ELSEWHERE.len(), "an event that is emitted elsewhere is on the page");
    let emitted = emitted().events();
    assert!(!emitted.iter().any(is_elsewhere), "an event is emitted after all");
    same("events", &emitted, &page.events.difference(&elsewhere).cloned().collect());
}

/// Goal: no event, span or metric is added without the page, also where no run of these tests comes by. Method: the
/// messages and the number of descriptions in the source.
#[test]
fn the_source_emits_only_what_is_on_the_page() {
    let page = Page::read();
    let (mut messages, mut spans, mut described, mut registered) = (BTreeSet::new(), 0, 0, 0);
    for (path, code) in sources() {
        for level in ["trace", "debug", "info", "warn", "error"] {
            for (at, _) in code.match_indices(&format!("{level}!(")) {
                let call = call(&code[at..]);
                let message = call.rsplit('"').nth(1).unwrap_or_default();
                let has_message = messages.insert((level.to_owned(), message.to_owned())) && !message.is_empty();
                assert!(has_message, "{}: {call} has no message of its own", path.display());
            }
        }
        spans += code.matches("span!(").count();
        for kind in ["counter!(", "gauge!(", "histogram!("] {
            let descriptions = code.matches(&format!("describe_{kind}")).count();
            described += descriptions;
            registered += code.matches(kind).count() - descriptions;
        }
        for forbidden in ["#[instrument", "event!("] {
            assert!(!code.contains(forbidden), "{} has {forbidden}, which this test does not read", path.display());
        }
    }
    let documented = page.events.iter().map(|event| (event.level.clone(), event.name.clone()));
    same("messages", &messages, &documented.collect());
    assert_eq!(spans, page.spans.len());
    assert_eq!((registered, described), (page.metric_rows, page.metric_rows));
}

/// A macro's call up to the parenthesis that closes it. Strings hold no unbalanced ones.
fn call(code: &str) -> &str {
    let mut depth = 0;
    for (at, c) in code.char_indices() {
        depth += i32::from(c == '(') - i32::from(c == ')');
        if c == ')' && depth == 0 {
            return &code[..=at];
        }
    }
    code
}
