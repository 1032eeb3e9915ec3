//! Tests of signals: the app stops, and loses no op.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
};

use crate::common::{App, QUICK, rows};

pub fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

/// Reads the app's output until these words appear. No clock is used: the test waits as long as it takes.
pub fn wait_for(words: &str, lines: &mut impl BufRead) {
    let mut line = String::new();
    while !line.contains(words) {
        line.clear();
        assert_ne!(lines.read_line(&mut line).unwrap(), 0, "the app ended before it said {words:?}");
    }
}

/// Returns the command of the app, with the signals as a shell leaves them, independent of the process that runs the
/// tests.
fn command(app: &App, arguments: &[&str]) -> Command {
    let plain = app.command(arguments);
    let mut command = Command::new("/usr/bin/env");
    command.arg("--default-signal=HUP,INT,TERM").arg(plain.get_program()).args(plain.get_args());
    command.current_dir(app.path("")).env_clear();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

const ENDLESS: &[&str] = &["--seconds", "0", "--database", "it.db", "--report", "it.json", "--set", "progress=50ms"];

/// Sends signals to an endless run once it has traded, and compares its report with the database.
fn drains(signals: &[&str]) {
    let app = App::new();
    let mut child = command(&app, &[QUICK, ENDLESS].concat()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    for _ in 0..3 {
        wait_for("operations", &mut stderr);
    }
    signals.iter().for_each(|name| signal(&child, name));
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{signals:?}: {rest}");
    assert!(rest.contains("stopping"), "{rest}");
    assert!(String::from_utf8(output.stdout).unwrap().contains("send to verdict"));
    let trades = app.report("it.json")["batchers"]["trades"].clone();
    assert_eq!(trades["delivered"], trades["accepted"]);
    assert_eq!(trades["delivered"], rows(&app.path("it.db")).len());
}

/// Goal: neither Ctrl-C, a supervisor's SIGTERM nor a closed terminal loses an op.
#[test]
fn a_signal_stops_the_app_cleanly() {
    for name in ["-INT", "-TERM", "-HUP"] {
        drains(&[name]);
    }
}

/// Goal: a command that comes as two signals, as `timeout` sends it, is one. Method: the app is stopped while both
/// signals are sent, so that it receives them at once.
#[test]
fn two_signals_at_once_are_one_command() {
    drains(&["-STOP", "-TERM", "-INT", "-HUP", "-CONT"]);
}

/// Goal: the output of the app need not be read. Method: both readers are closed before it prints.
#[test]
fn the_app_survives_closed_output_pipes() {
    let app = App::new();
    let arguments = ["--seconds", "1", "--database", "it.db", "--report", "it.json", "--set", "progress=10ms"];
    let mut child = command(&app, &[QUICK, &arguments, &["--log-filter", "trace"]].concat()).spawn().unwrap();
    drop((child.stdout.take(), child.stderr.take()));
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let trades = app.report("it.json")["batchers"]["trades"].clone();
    assert_eq!(trades["delivered"], rows(&app.path("it.db")).len());
}

/// Goal: a user can end the drain early. Method: a venue that never answers, so that the drain takes for ever, and
/// repeated Ctrl-C. A signal that comes too soon has no further effect.
#[test]
fn a_later_signal_ends_the_app_at_once() {
    let app = App::new();
    let arguments = ["--seconds", "0", "--set", "venue.latency=1day", "--set", "drain=1day", "--set", "progress=50ms"];
    let mut child = command(&app, &arguments).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    wait_for("operations", &mut stderr);
    signal(&child, "-INT");
    wait_for("stopping", &mut stderr);
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None => signal(&child, "-INT"),
        }
    };
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("quit: ") && rest.contains(" operations were not settled"), "{rest}");
    assert_eq!(status.code(), Some(130));
}

/// Goal: a replay in recorded time can be stopped, and prints what it waits for. Method: a file whose second row is due
/// in a year.
#[test]
fn a_replay_that_waits_can_be_stopped() {
    let app = App::new();
    app.write("BTC.csv", "time_s,price\n0,1\n31536000,2\n");
    let arguments = ["--replay", "BTC.csv", "--report", "it.json", "--set", "progress=20ms"];
    let mut child = app.command(&[QUICK, &arguments].concat()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    wait_for("line 3: is due in 365 days, and waited for", &mut stderr);
    wait_for("operations", &mut stderr);
    signal(&child, "-INT");
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{rest}");
    assert_eq!(app.report("it.json")["rows"], 1);
}
