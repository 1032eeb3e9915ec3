//! Tests of outages: the whole file takes nothing, so no op fails. Nothing lands during an outage, and everything lands
//! after it.

use std::{
    fs,
    io::{Seek, SeekFrom, Write},
    path::Path,
    process::Command,
    time::Duration,
};

use roundlot::{
    Batch, Batcher, ErrorKind, Limits, Retry, Sink, SinkError,
    sink::{
        sqlite::{Sqlite, SqliteSink},
        table::Table,
    },
};

use crate::{File, Trade, file, keyed, mapping, trades, write};

/// Writes a batch that must not land at all, and returns the one error of all its ops.
async fn outage(sink: &SqliteSink<Trade>, ops: Vec<Trade>) -> SinkError {
    let mut batch = Batch::for_test(ops);
    sink.write(&mut batch).await.map(drop).unwrap();
    let errors: Vec<_> = (0..batch.len()).map(|i| batch.verdict(i).unwrap().unwrap_err().clone()).collect();
    for error in &errors {
        assert!(error.is_outage() && error.kind() == ErrorKind::Outage, "{error:?}");
    }
    errors[0].clone()
}

fn says(error: &SinkError, what: &str) {
    assert!(
        error.chain().starts_with("the destination is away: ") && error.chain().contains(what),
        "{}",
        error.chain()
    );
}

/// Goal: a lock held elsewhere costs nothing but time. Method: another connection holds it and then lets go.
#[tokio::test]
async fn a_locked_database_is_an_outage_and_nothing_lands() {
    let file = file();
    let sink = Sqlite::file(&file).busy_timeout(Duration::ZERO).open(keyed()).await.unwrap();
    let other = file.connect();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    says(&outage(&sink, trades(0..300)).await, "another connection holds the lock, nothing was written");
    assert!(file.ids().is_empty());

    other.execute_batch("ROLLBACK").unwrap();
    assert!(write(&sink, trades(0..300)).await.is_empty());
    assert_eq!(file.ids().len(), 300);
}

/// Goal: a full file refuses no op, keeps what was there, and takes the same ops once there is room. Method: a cap on the
/// pages of the file, and rows that another connection deletes.
#[tokio::test]
async fn a_full_file_is_an_outage_and_nothing_of_the_batch_lands() {
    let file = file();
    let sink = Sqlite::file(&file).max_pages(40).open(keyed()).await.unwrap();
    assert!(write(&sink, trades(0..3000)).await.is_empty());
    for _ in 0..3 {
        let error = outage(&sink, trades(3000..13_000)).await;
        says(&error, "the disk is full or the file is at its page limit, nothing was written");
    }
    assert_eq!(file.ids(), (0..3000).collect::<Vec<_>>());
    assert!(write(&sink, trades(3000..3010)).await.is_empty(), "what fits is still taken");

    file.execute("DELETE FROM trades WHERE id < 2900");
    assert!(write(&sink, trades(3010..5000)).await.is_empty());
    sink.close().await.unwrap();
    assert_eq!(file.ids(), (2900..5000).collect::<Vec<_>>());
    assert_eq!(file.query("PRAGMA integrity_check"), ["ok"]);
}

/// Goal: a damaged file makes no dead letters, and the sink goes on when it has been put right. Method: all pages but the
/// first are overwritten; then a sound copy is put in its place.
#[tokio::test]
async fn a_damaged_file_is_an_outage_until_it_is_put_right() {
    let file = file();
    let table = || mapping().key(["symbol", "id"]).create_if_missing();
    let sink = SqliteSink::open(&file, table()).await.unwrap();
    assert!(write(&sink, trades(0..1000)).await.is_empty());
    sink.close().await.unwrap();
    let copy = file.path.with_extension("copy");
    fs::copy(&file, &copy).unwrap();
    let mut raw = fs::OpenOptions::new().write(true).open(&file).unwrap();
    let length = raw.metadata().unwrap().len();
    raw.seek(SeekFrom::Start(4096)).unwrap();
    raw.write_all(&vec![0x5a; length as usize - 4096]).unwrap();
    drop(raw);

    let sink = SqliteSink::open(&file, table()).await.unwrap();
    for _ in 0..2 {
        says(&outage(&sink, trades(5000..5010)).await, "the database file is damaged, nothing was written");
    }
    fs::rename(&copy, &file).unwrap();
    assert!(write(&sink, trades(5000..5010)).await.is_empty());
    assert_eq!(file.query("SELECT count(*) FROM trades"), ["1010"]);
    assert_eq!(file.query("PRAGMA integrity_check"), ["ok"]);
}

/// Goal: no row is accepted into a file that is gone. Method: the file is moved away and back; what was accepted before is
/// in the file that was moved, and nothing is made in its place.
#[cfg(unix)]
#[tokio::test]
async fn a_file_that_was_moved_is_an_outage_until_it_is_back() {
    let file = file();
    let away = file.path.with_extension("away");
    let sink = SqliteSink::open(&file, keyed()).await.unwrap();
    for round in 0..3_i64 {
        let ids = |from: i64| round * 100 + from..round * 100 + from + 10;
        assert!(write(&sink, trades(ids(0))).await.is_empty());
        fs::rename(&file, &away).unwrap();
        says(
            &outage(&sink, trades(ids(50))).await,
            "the database file or its log was moved, replaced or deleted, nothing was",
        );
        says(&outage(&sink, trades(ids(50))).await, "unable to open database file");
        assert!(!file.path.exists());
        let moved = File { path: away.clone(), _folder: tempfile::tempdir().unwrap() };
        assert_eq!(moved.ids().len(), round as usize * 20 + 10);
        fs::rename(&away, &file).unwrap();
        assert!(write(&sink, trades(ids(50))).await.is_empty());
    }
    assert_eq!(file.ids().len(), 60);
    sink.close().await.unwrap();
    assert_eq!(file.query("PRAGMA integrity_check"), ["ok"]);
}

/// Goal: a file that was deleted, or replaced by another, is found out at once. Method: the next one gets the rows that
/// were accepted since, and the table only where creating it was asked for.
#[cfg(unix)]
#[tokio::test]
async fn a_file_that_was_deleted_is_an_outage_until_there_is_another() {
    for creates in [true, false] {
        let file = file();
        let create = "CREATE TABLE trades (id INTEGER PRIMARY KEY, symbol TEXT, price TEXT)";
        file.execute(create);
        let sink = SqliteSink::open(&file, if creates { keyed() } else { mapping() }).await.unwrap();
        assert!(write(&sink, trades(0..10)).await.is_empty());
        fs::remove_file(&file).unwrap();
        outage(&sink, trades(10..20)).await;
        outage(&sink, trades(10..20)).await;
        fs::write(&file, "").unwrap();
        if !creates {
            says(&outage(&sink, trades(10..20)).await, "there is no table");
            file.execute(create);
        }
        assert!(write(&sink, trades(10..20)).await.is_empty());
        assert_eq!(file.ids(), (10..20).collect::<Vec<_>>());
    }
}

/// Goal: a log that was deleted takes no accepted row with it. Method: the rows of the log are in the file as soon as
/// the sink has noticed; a program that is killed then would find them there.
#[cfg(unix)]
#[tokio::test]
async fn a_log_that_was_deleted_is_an_outage_and_its_rows_are_saved() {
    let file = file();
    let sink = SqliteSink::open(&file, keyed()).await.unwrap();
    assert!(write(&sink, trades(0..10)).await.is_empty());
    fs::remove_file(file.path.with_extension("db-wal")).unwrap();
    says(&outage(&sink, trades(10..20)).await, "the database file or its log was moved, replaced or deleted");
    assert!(write(&sink, trades(10..20)).await.is_empty());
    sink.close().await.unwrap();
    assert_eq!(file.ids(), (0..20).collect::<Vec<_>>());
    assert_eq!(file.query("PRAGMA integrity_check"), ["ok"]);
}

/// Goal: no row is reported as landed in a file that was moved during the write. Method: a closure of a later row moves
/// the file after the transaction has begun, which is when the lock is taken.
#[cfg(unix)]
#[tokio::test]
async fn a_file_that_is_moved_during_a_write_leaves_it_in_doubt() {
    let file = file();
    let (path, away) = (file.path.clone(), file.path.with_extension("away"));
    let leave = move |id: &i64| {
        if *id == 299 {
            let other = rusqlite::Connection::open(&path).unwrap();
            other.busy_timeout(Duration::ZERO).unwrap();
            while other.execute_batch("BEGIN IMMEDIATE").is_ok() {
                other.execute_batch("ROLLBACK").unwrap();
            }
            fs::rename(&path, &away).unwrap();
        }
        *id
    };
    let table = Table::new("trades").integer("id", leave).key(["id"]).create_if_missing();
    let sink = Sqlite::file(&file).busy_timeout(Duration::from_secs(600)).open(table).await.unwrap();
    let mut batch = Batch::for_test((0..300).collect());
    sink.write(&mut batch).await.map(drop).unwrap();
    for i in 0..300 {
        let error = batch.verdict(i).unwrap().unwrap_err();
        assert!(error.is_outage() && error.kind() == ErrorKind::Ambiguous, "{error:?}");
    }
    says(&sink.close().await.unwrap_err(), "moved, replaced or deleted");
}

/// Goal: closing the sink reports that accepted rows may be gone. Method: the file is deleted before.
#[cfg(unix)]
#[tokio::test]
async fn closing_a_file_that_was_deleted_is_an_error() {
    let file = file();
    let sink = SqliteSink::open(&file, keyed()).await.unwrap();
    assert!(write(&sink, trades(0..10)).await.is_empty());
    fs::remove_file(&file).unwrap();
    says(&sink.close().await.unwrap_err(), "moved, replaced or deleted");
}

/// Goal: an outage costs a batcher no op. Method: ops are sent into a full file until some have come back. Then another
/// connection makes room, and all land once, in order, with nothing refused or in doubt.
#[tokio::test]
async fn a_batcher_waits_until_a_full_file_has_room() {
    let file = file();
    let sink = Sqlite::file(&file).max_pages(40).open(keyed()).await.unwrap();
    assert!(write(&sink, trades(0..5000)).await.is_empty());
    let patient = Retry::exponential(Duration::from_millis(1), Duration::from_millis(5)).max_attempts(u32::MAX);
    let (desk, worker) = Batcher::new(sink).limits(Limits::new(500)).retry(patient).spawn();
    desk.send_all(trades(5000..9000)).await.unwrap();
    let tried = desk.stats().batches;
    while desk.stats().batches < tried + 30 {
        tokio::task::yield_now().await;
    }
    assert!(desk.stats().waiting > 0, "the file is full");
    file.execute("DELETE FROM trades WHERE id < 5000");
    let report = desk.flush().await.unwrap();
    assert!(report.is_ok(), "{report:?}");
    worker.shutdown().await.unwrap();
    assert_eq!(file.ids(), (5000..9000).collect::<Vec<_>>());
}

const CHILD: &str = "ROUNDLOT_SQLITE_FULL";

/// Runs a test of this file again in a shell. The shell prepares the full disk in the folder that it and the child are
/// given.
fn child(test: &str, shell: &[&str], prepare: &str, folder: &Path) {
    let script = format!("{prepare} && exec \"$0\" \"$@\"");
    let this = std::env::current_exe().unwrap();
    let mut command = Command::new(shell[0]);
    command.args(&shell[1..]).args(["-c", &script]).arg(this);
    command.args(["--exact", test, "--include-ignored", "--nocapture"]);
    let output = command.env(CHILD, folder).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

/// Whether the ops land by the fifth try. Only an outage may make a try fail.
async fn lands(sink: &SqliteSink<Trade>, ops: Vec<Trade>) -> bool {
    for _ in 0..5 {
        let failed = write(sink, ops.clone()).await;
        if failed.is_empty() {
            return true;
        }
        assert!(failed.len() == ops.len() && failed.iter().all(|op| op.kind == ErrorKind::Outage), "{:?}", failed[0]);
    }
    false
}

/// Writes until the disk is full, which the log can be before the database is, and again when there is room.
async fn fill_and_go_on(folder: &Path, make_room: impl FnOnce()) {
    let file = File { path: folder.join("trades.db"), _folder: tempfile::tempdir().unwrap() };
    let sink = SqliteSink::open(&file, keyed()).await.unwrap();
    let ops = |round| trades(round * 1000..(round + 1) * 1000);
    let mut full = 0;
    while lands(&sink, ops(full)).await {
        full += 1;
        assert!(full < 1000, "the disk is small");
    }
    make_room();
    for round in full..full + 20 {
        assert!(lands(&sink, ops(round)).await);
    }
    sink.close().await.unwrap();
    assert_eq!(file.ids(), (0..(full + 20) * 1000).collect::<Vec<_>>(), "all of it, once, in order");
    assert_eq!(file.query("PRAGMA integrity_check"), ["ok"]);
}

/// Goal: a file that cannot grow refuses nothing, loses nothing, doubles nothing. Method: a child process with a limit on
/// the size of its files, so that writes fail in the middle of a commit; `prlimit` lifts it.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_file_that_cannot_grow_is_an_outage() {
    let Some(folder) = std::env::var_os(CHILD) else {
        let folder = tempfile::tempdir().unwrap();
        let name = "outages::a_file_that_cannot_grow_is_an_outage";
        return child(name, &["sh"], "trap '' XFSZ && ulimit -S -f 3000", folder.path());
    };
    let make_room = || {
        let id = std::process::id().to_string();
        let lifted = Command::new("prlimit").args(["--pid", &id, "--fsize=unlimited:"]).status().unwrap();
        assert!(lifted.success());
    };
    fill_and_go_on(Path::new(&folder), make_room).await;
}

/// The same on a disk that is full, in a file system of 6 MB that only the child sees.
#[cfg(target_os = "linux")]
#[tokio::test]
#[ignore = "mounts a small file system: needs root"]
async fn a_full_disk_is_an_outage() {
    let Some(folder) = std::env::var_os(CHILD) else {
        let folder = tempfile::tempdir().unwrap();
        let mount =
            format!("mount -t tmpfs -o size=6m none \"${CHILD}\" && head -c 4000000 /dev/zero > \"${CHILD}/filler\"");
        return child("outages::a_full_disk_is_an_outage", &["unshare", "-m", "sh"], &mount, folder.path());
    };
    let folder = Path::new(&folder);
    fill_and_go_on(folder, || fs::remove_file(folder.join("filler")).unwrap()).await;
}
