//! The program as a user starts it.

use std::process::{Command, Output};

fn nodes(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_nodes")).args(args).output().expect("the program is there")
}

/// Goal: nothing is lost, doubled, reordered or stale when each kind of fault has happened. Method: the program with one of each.
#[test]
fn faults_break_no_promise() {
    let output = nodes(&["--faults", "11", "--every", "500ms", "--orders", "100"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    for kind in ["kill two 1", "kill in a transaction 1", "rolling restart 1", "remove locks 1"] {
        assert!(text.contains(kind), "{text}");
    }
    for line in ["lost 0", "doubled 0", "reordered 0", "stale 0"] {
        assert!(text.lines().any(|other| other == line), "{text}");
    }
    assert!(text.contains("takeover p50"), "{text}");
}

#[test]
fn a_log_that_is_there_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("orders.db");
    std::fs::write(&log, "").expect("a file");
    let output = nodes(&["--log", log.to_str().expect("a path")]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("exists"));
}

/// Goal: nodes without anything to do write nothing, and no table of the log grows. Method: the program for some seconds, after work.
#[test]
fn idle_nodes_write_nothing() {
    let output = nodes(&["--idle", "3s"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("nothing has grown") && text.contains("roundlot_outcomes"), "{text}");
}
