//! Tests of files, streams and paths that the app cannot read or write: exit statuses and reasons.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    process::Stdio,
};

use crate::common::{App, QUICK, rows};

const REPLAY: &[&str] = &["--replay", "BTC.csv", "--speed", "0"];

#[test]
fn a_file_without_a_good_row_is_an_error() {
    let app = App::new();
    let cases: [(&[u8], &str); 4] = [
        (b"time_ms,price\n8.8.2024,1\nx,2\n", "no row could be read: line 2: time_ms \"8.8.2024\" is not a decimal"),
        (b"time_ms,price\n", "no row could be read: there is none below the header"),
        (b"\xff\n", "no row could be read: line 1: the line is not UTF-8"),
        (b"1,2,3\n", "cannot replay BTC.csv: set replay.time"),
    ];
    for (text, expected) in cases {
        fs::write(app.path("BTC.csv"), text).unwrap();
        let outcome = app.run(REPLAY);
        assert_eq!(outcome.code, Some(1), "{}", outcome.stderr);
        assert!(outcome.stderr.contains(expected), "{}", outcome.stderr);
    }
}

/// Goal: two runs do not share the database that each makes anew. Method: a second run while the first is running; the
/// first then has all its trades.
#[test]
fn the_usual_database_is_for_one_run_at_a_time() {
    let app = App::new();
    let arguments = ["--seconds", "2", "--report", "it.json", "--set", "progress=10ms"];
    let mut first = app.command(&[QUICK, &arguments].concat()).spawn().unwrap();
    let mut line = String::new();
    let mut stderr = BufReader::new(first.stderr.take().unwrap());
    while !line.contains("operations, ") {
        line.clear();
        assert_ne!(stderr.read_line(&mut line).unwrap(), 0);
    }
    let second = app.run(&["--seconds", "1"]);
    assert_eq!(second.code, Some(1));
    let expected = "error: trading_app.db is in use by another run; give --database";
    assert!(second.stderr.contains(expected), "{}", second.stderr);
    std::io::copy(&mut stderr, &mut std::io::sink()).unwrap();
    assert!(first.wait_with_output().unwrap().status.success());
    let trades = &app.report("it.json")["batchers"]["trades"]["delivered"];
    assert_eq!(rows(&app.path("trading_app.db")).len() as u64, *trades);
}

#[test]
fn a_report_that_cannot_be_written_is_an_error_at_the_start() {
    let app = App::new();
    let outcome = app.run(&["--seconds", "0", "--report", "no/such/folder/it.json"]);
    assert_eq!(outcome.code, Some(1));
    let expected = "error: cannot write the report to no/such/folder/it.json: ";
    assert!(outcome.stderr.contains(expected), "{}", outcome.stderr);
    assert!(!app.path("trading_app.db").exists());
}

/// Goal: a report replaces no file that the run needs. Method: the names of these files, however they are written.
#[test]
fn a_report_overwrites_no_other_file() {
    let app = App::new();
    let rows = "time_ms,price\n1,1\n";
    app.write("BTC.csv", rows);
    fs::create_dir(app.path("folder")).unwrap();
    let cases: [(&[&str], &str); 5] = [
        (&["--report", "BTC.csv"], "it is the file that is replayed"),
        (&["--report", "folder/../BTC.csv"], "it is the file that is replayed"),
        (&["--report", "trading_app.db"], "it is the database"),
        (&["--report", "./it.db", "--database", "sqlite:it.db"], "it is the database"),
        (&["--report", "folder"], "cannot write the report to folder: "),
    ];
    for (arguments, expected) in cases {
        let outcome = app.run(&[REPLAY, arguments].concat());
        assert_eq!(outcome.code, Some(1), "{arguments:?}");
        assert!(outcome.stderr.contains(expected), "{arguments:?}: {}", outcome.stderr);
    }
    assert_eq!(fs::read_to_string(app.path("BTC.csv")).unwrap(), rows);
    assert!(!app.path("trading_app.db").exists() && !app.path("it.db").exists());
}

/// Goal: a misunderstood file does not drown the messages. Method: a file of bad rows only.
#[test]
fn many_bad_rows_are_reported_in_few_lines() {
    let app = App::new();
    app.write("BTC.csv", &format!("time_ms,price\n1,1\n{}", "x,1\n".repeat(3000)));
    let outcome = app.run(&[REPLAY, &["--report", "it.json"]].concat());
    outcome.succeeded();
    assert!(outcome.stderr.lines().count() < 60, "{}", outcome.stderr);
    for words in ["line 3: ", "line 22: ", " more bad rows, the last of them: line 3002: "] {
        assert!(outcome.stderr.contains(words), "{words}: {}", outcome.stderr);
    }
    assert_eq!(app.report("it.json")["bad_rows"], 3000);
}

#[test]
fn settings_that_make_no_sense_are_named() {
    for (name, value) in [
        ("sim.pairs", "0"),
        ("sim.updates_per_second", "0"),
        ("venue.slow_percent", "101"),
        ("strategy.stop_percent", "101"),
    ] {
        let outcome = App::new().run(&["--set", &format!("{name}={value}")]);
        assert_eq!(outcome.code, Some(1));
        assert!(outcome.stderr.contains(&format!("{name}={value}: it must be at ")), "{}", outcome.stderr);
    }
}

/// Goal: a failing stream neither stops the trading nor loses the report unseen. Method: a device that is always full.
#[cfg(target_os = "linux")]
#[test]
fn streams_that_fail_are_told_apart() {
    let app = App::new();
    app.write("BTC.csv", "time_ms,price\n1,1\nx,1\n");
    let full = || Stdio::from(File::options().write(true).open("/dev/full").unwrap());
    let arguments = [QUICK, REPLAY, &["--log-filter", "trace"]].concat();
    let deaf = app.command(&arguments).stderr(full()).output().unwrap();
    assert_eq!(deaf.status.code(), Some(0));
    assert!(String::from_utf8(deaf.stdout).unwrap().contains("1 rows written"));
    let mute = app.command(&arguments).stdout(full()).output().unwrap();
    assert_eq!(mute.status.code(), Some(1));
    assert!(String::from_utf8(mute.stderr).unwrap().contains("error: cannot print the report: "));
}
