//! The program as a user starts it.

use std::{
    os::unix::fs::PermissionsExt,
    process::{Command, Output},
};

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

/// Goal: the same for a log on NATS servers, which are killed, shut down and cut off, too. Method: the program with each kind, on a cluster.
#[test]
#[ignore = "needs the programs of PostgreSQL and nats-server, 2.14 or later"]
fn faults_of_nats_servers_break_no_promise() {
    let args = ["--nats", "--faults", "19", "--every", "500ms", "--orders", "100", "--lease", "400ms"];
    let output = nodes(&args);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let kinds = ["kill a NATS server of 1", "shut down a NATS server of 1", "kill all NATS servers of 1"];
    for kind in
        kinds.into_iter().chain(["cut NATS off from 1", "cut the answers of NATS to 1", "fail over the server of 1"])
    {
        assert!(text.contains(kind), "{text}");
    }
    for line in ["lost 0", "doubled 0", "reordered 0", "stale 0"] {
        assert!(text.lines().any(|other| other == line), "{text}");
    }
}

/// Goal: the program says where nats-server is to be had before it starts anything. Method: names of a program that is not there, and of
/// one that tells another version.
#[test]
fn a_nats_server_that_is_missing_or_too_old_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let old = folder.path().join("nats-server");
    std::fs::write(&old, "#!/bin/sh\necho 'nats-server: v2.9.10'\n").expect("a file");
    std::fs::set_permissions(&old, std::fs::Permissions::from_mode(0o755)).expect("a program");
    for (path, reason) in [(folder.path().join("none"), "No such file"), (old, "is too old: nats-server: v2.9.10")] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nodes"));
        let output = command.arg("--nats").env("ROUNDLOT_NATS_SERVER", path).output().expect("the program is there");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && text.contains(reason) && text.contains("2.14 or later"), "{text}");
    }
}

/// Goal: NATS servers of a URL are not used without a ledger.
#[test]
fn nats_servers_of_a_url_need_a_ledger() {
    let output = nodes(&["--nats", "nats://127.0.0.1:1"]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("--ledger"));
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
