//! The log in a file: what survives, what is refused, what a person can read.

use std::{fs, path::Path, time::Duration};

use roundlot::{
    Batch, End, Limits, SinkError, Stages,
    durable::{Durable, File, JoinError, Joined, OpStatus},
    sink_fn,
    testing::{Flaky, Gate, Recorder},
};
use rusqlite::Connection;

use crate::venue::Keyed;

type Op = (u32, String);

async fn join(path: &Path, sink: &Recorder<Op>) -> Result<Joined<Op>, JoinError> {
    let sink = sink.clone();
    Durable::new("orders", File::at(path)).sink(move |_| sink.clone()).join().await
}

fn op(number: u32) -> Op {
    (number, format!("order {number}"))
}

/// Goal: an op that stands for others stays whole in the log when its write is given up. Method: ops merge, the batcher leaves
/// during two writes, so that a record of the first is made during the end of the second, and the next one sends again what was
/// sent.
#[tokio::test]
async fn a_merged_op_whose_write_is_given_up_stays_whole() {
    type Op = (u32, u32);
    let folder = tempfile::tempdir().unwrap();
    let (path, recorder) = (folder.path().join("orders.db"), Recorder::new());
    let gate = Gate::new(recorder.clone());
    let join = async || {
        let stages = || {
            let merge = |old: Op, new: Op| Some((old.0, old.1 + new.1));
            Stages::new().partition_by(|op: &Op| op.0).conflate_by(|op: &Op| op.0, merge)
        };
        let (sink, limits) = (Keyed(gate.clone()), Limits::new(10).max_in_flight(2));
        let durable = Durable::new("orders", File::at(&path)).stages(stages).limits(limits);
        durable.sink(move |_| sink.clone()).join().await.unwrap()
    };
    let orders = join().await;
    let desk = orders.handle();
    desk.pause().await.unwrap();
    let first = desk.submit((1, 1)).await.unwrap().id();
    let second = desk.submit((1, 10)).await.unwrap().id();
    desk.send_all([(2, 2), (2, 20)]).await.unwrap();
    desk.resume().await.unwrap();
    gate.reached(2).await;
    orders.leave().within(Duration::ZERO).await.unwrap();

    gate.open();
    let orders = join().await;
    let desk = orders.handle();
    assert_eq!((desk.stats().recovered, desk.stats().recovered_in_doubt), (4, 2));
    desk.flush().await.unwrap();
    let mut arrived = recorder.ops();
    arrived.sort_unstable();
    assert_eq!(arrived, [(1, 11), (2, 22)]);
    for (id, expected) in [(first, End::Conflated), (second, End::Delivered)] {
        let OpStatus::Ended(outcome) = desk.outcome(id).await.unwrap() else { panic!("it has ended") };
        assert_eq!(outcome.end, expected);
    }
    orders.leave().await.unwrap();
}

/// Goal: what waits, what has ended and what is dead is in the file, and people can read it. Method: each of them, a restart,
/// and the views.
#[tokio::test]
async fn a_file_keeps_what_was_confirmed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.db");
    let recorder = Recorder::new();
    let flaky = Flaky::new(recorder.clone()).fail(SinkError::refused("no such symbol"));
    let sink = flaky.clone();
    let orders = Durable::new("orders", File::at(&path)).sink(move |_| sink.clone()).join().await.unwrap();
    let desk = orders.handle();
    let refused = desk.submit(op(1)).await.unwrap();
    let refused = (refused.id(), refused.outcome().await.end);
    assert_eq!(refused.1, End::Refused);
    desk.submit(op(2)).await.unwrap().await.unwrap();
    desk.pause().await.unwrap();
    desk.send_all((3..2503).map(op)).await.unwrap();
    let stats = orders.leave().await.unwrap();
    assert_eq!((stats.accepted, stats.waiting, stats.outcomes.total()), (2502, 2500, 2));

    let reader = Connection::open(&path).unwrap();
    let one = |sql: &str| reader.query_row(sql, [], |row| row.get::<_, String>(0)).unwrap();
    assert_eq!(one("SELECT log || ' ' || waiting || ' ' || paused FROM roundlot_summary"), "orders 2500 1");
    assert_eq!(one("SELECT op FROM roundlot_dead_letters"), "[1,\"order 1\"]");
    assert_eq!(one("SELECT group_concat(ended) FROM roundlot_ended"), "refused,delivered");
    drop(reader);
    #[cfg(unix)]
    for file in ["orders.db", "orders.db-lock", "orders.db-mark"] {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(folder.path().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }

    let orders = join(&path, &recorder).await.unwrap();
    let desk = orders.handle();
    assert_eq!((desk.stats().recovered, desk.stats().paused), (2500, true));
    assert!(matches!(desk.outcome(refused.0).await.unwrap(), OpStatus::Ended(outcome) if outcome.end == End::Refused));
    desk.resume().await.unwrap();
    desk.flush().await.unwrap();
    assert_eq!(recorder.ops(), (2..2503).map(op).collect::<Vec<_>>());
    orders.leave().await.unwrap();
    let reader = Connection::open(&path).unwrap();
    let one = |sql: &str| reader.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(one("SELECT count(*) FROM roundlot_frames"), 0);
    assert_eq!(one("SELECT count(*) FROM roundlot_intents"), 0);
    assert_eq!(one("SELECT count(*) FROM roundlot_ended"), 2502);
    assert!(one("SELECT count(*) FROM roundlot_outcomes") < 60, "outcomes that are alike share a row");
}

/// Goal: one commit serves all callers that wait, and all logs of a file. Method: count the commits of 64 senders.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_are_shared() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.db");
    let recorder = Recorder::new();
    let orders = join(&path, &recorder).await.unwrap();
    let sink = recorder.clone();
    let quotes = Durable::new("quotes", File::at(&path)).sink(move |_| sink.clone()).join().await.unwrap();
    let senders = (0..64).map(|sender| {
        let desk = if sender % 2 == 0 { orders.handle() } else { quotes.handle() };
        tokio::spawn(async move {
            for number in 0..20 {
                desk.send(op(sender * 20 + number)).await.unwrap();
            }
        })
    });
    for sender in senders.collect::<Vec<_>>() {
        sender.await.unwrap();
    }
    let commits = orders.stats().commits;
    assert!(commits < 640, "{commits} commits for 1,280 ops");
    orders.handle().flush().await.unwrap();
    quotes.handle().flush().await.unwrap();
    assert_eq!(recorder.len(), 1280);
    orders.leave().await.unwrap();
    quotes.handle().send(op(7)).await.unwrap();
    quotes.leave().await.unwrap();
}

/// Goal: a file that can't be trusted is refused, and a second batcher too. Method: each case.
#[tokio::test]
async fn files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.db");
    let recorder = Recorder::new();
    let orders = join(&path, &recorder).await.unwrap();
    assert!(matches!(join(&path, &recorder).await, Err(JoinError::InUse(_))));
    orders.handle().send(op(1)).await.unwrap();
    orders.handle().flush().await.unwrap();
    orders.leave().await.unwrap();

    // Another process opens it, as far as the kernel can tell, and is waited for.
    let lock = fs::File::open(folder.path().join("orders.db-lock")).unwrap();
    lock.lock().unwrap();
    let joining = tokio::spawn({
        let (path, recorder) = (path.clone(), recorder.clone());
        async move { join(&path, &recorder).await }
    });
    tokio::task::yield_now().await;
    drop(lock);
    joining.await.unwrap().unwrap().leave().await.unwrap();

    let backup = fs::read(&path).unwrap();
    let orders = join(&path, &recorder).await.unwrap();
    orders.handle().send(op(2)).await.unwrap();
    orders.leave().await.unwrap();
    let newest = fs::read(&path).unwrap();
    fs::write(&path, backup).unwrap();
    let error = join(&path, &recorder).await.unwrap_err();
    assert!(matches!(&error, JoinError::Unsafe(why) if why.contains("it is a backup")), "{error}");
    fs::write(&path, newest).unwrap();
    join(&path, &recorder).await.unwrap().leave().await.unwrap();

    let database = Connection::open(&path).unwrap();
    database.execute("UPDATE roundlot_shards SET cursor = cursor + 1", []).unwrap();
    let error = join(&path, &recorder).await.unwrap_err();
    assert!(error.to_string().contains("checksum"), "{error}");
    database.execute("UPDATE roundlot_meta SET value = 99 WHERE key = 'format'", []).unwrap();
    let error = join(&path, &recorder).await.unwrap_err();
    assert!(matches!(&error, JoinError::Unsafe(why) if why.contains("format 99")), "{error}");
    fs::write(folder.path().join("text"), "not a database, but long enough to be read as one".repeat(100)).unwrap();
    assert!(join(&folder.path().join("text"), &recorder).await.is_err());
    assert!(join(&folder.path().join("no such folder/orders.db"), &recorder).await.is_err());
}

/// Goal: a codec that can't read what waits is told so. Method: ops of another type.
#[tokio::test]
async fn ops_that_cannot_be_read_hold_the_shard() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.db");
    let recorder = Recorder::new();
    let orders = join(&path, &recorder).await.unwrap();
    orders.handle().pause().await.unwrap();
    orders.handle().send(op(1)).await.unwrap();
    orders.leave().await.unwrap();
    let numbers = || sink_fn(|batch: &mut Batch<u32>| Box::pin(async move { Ok(batch.accept_all()) }));
    let joined = Durable::new("orders", File::at(&path)).sink(move |_| numbers()).join().await;
    assert!(matches!(joined, Err(JoinError::Unreadable(_))));
    let orders = join(&path, &recorder).await.unwrap();
    orders.handle().resume().await.unwrap();
    orders.handle().flush().await.unwrap();
    assert_eq!(recorder.ops(), [op(1)]);
}

/// Goal: a full file takes nothing more, and can drain. Method: the least cap, a destination that is shut, then open.
#[tokio::test]
async fn a_full_file_can_drain() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.db");
    let gate = Gate::new(Recorder::new());
    gate.shut();
    let sink = gate.clone();
    let orders = Durable::new("orders", File::at(&path).max_bytes(1))
        .limits(Limits::new(1000).max_pending(1_000_000))
        .append_timeout(Duration::from_millis(200))
        .sink(move |_| sink.clone())
        .join()
        .await
        .unwrap();
    let desk = orders.handle();
    let large = |number| (number, "x".repeat(100_000));
    let mut sent = 0;
    // A slow disk may let a send be in doubt, too.
    while desk.send(large(sent)).await.is_ok() || desk.stats().log_bytes < 12_000_000 {
        sent += 1;
    }
    assert!(sent < 200, "{sent} ops of 100 kB are more than the cap of 16 MiB");
    gate.open();
    desk.flush().await.unwrap();
    // The frame that found no room is tried again now and then, and those behind it wait for it.
    while desk.send(op(1)).await.is_err() {}
    desk.flush().await.unwrap();
    let stats = orders.leave().await.unwrap();
    assert_eq!((stats.waiting, stats.outcomes.delivered), (0, stats.accepted));
}

/// Goal: a backup in the place of the file repeats nothing at a sink that is not idempotent. Method: its op is sent after the
/// backup was made.
#[tokio::test]
async fn a_restored_backup_repeats_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.db");
    let recorder = Recorder::new();
    let orders = join(&path, &recorder).await.unwrap();
    orders.handle().pause().await.unwrap();
    orders.handle().send(op(1)).await.unwrap();
    orders.leave().await.unwrap();
    let backup = fs::read(&path).unwrap();
    let orders = join(&path, &recorder).await.unwrap();
    orders.handle().resume().await.unwrap();
    orders.handle().flush().await.unwrap();
    orders.leave().await.unwrap();
    assert_eq!(recorder.ops(), [op(1)]);

    fs::write(&path, backup).unwrap();
    assert!(matches!(join(&path, &recorder).await, Err(JoinError::Unsafe(_))));
    let sink = recorder.clone();
    let file = File::at(&path).restored();
    let orders = Durable::new("orders", file).sink(move |_| sink.clone()).join().await.unwrap();
    let report = orders.handle().flush().await.unwrap();
    assert_eq!((report.others.in_doubt, recorder.len()), (1, 1));
    assert_eq!(orders.dead_letters().list(9).await.unwrap()[0].1.op, op(1));
    orders.leave().await.unwrap();
    join(&path, &recorder).await.unwrap().leave().await.unwrap();
}

/// Goal: one op that waits does not keep the bytes of all others of its frame. Method: frames of which one op each stays, over two
/// restarts, then the rest.
#[tokio::test]
async fn frames_with_few_ops_left_are_made_smaller() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.db");
    let recorder = Recorder::new();
    let op = |number: u32| (number, "x".repeat(100));
    let bytes = |path: &Path| {
        let reader = Connection::open(path).unwrap();
        reader
            .query_row("SELECT coalesce(sum(length(bytes)), 0) FROM roundlot_frames", [], |row| row.get::<_, i64>(0))
            .unwrap()
    };
    let orders = join(&path, &recorder).await.unwrap();
    let desk = orders.handle();
    desk.pause().await.unwrap();
    desk.send_all((0..10_000).map(op)).await.unwrap();
    let whole = bytes(&path);
    assert!(whole > 1_000_000);
    assert_eq!(desk.withdraw(|op| op.0 % 1000 != 500).await.unwrap().len(), 9990);
    desk.send(op(10_000)).await.unwrap(); // behind the compaction
    while bytes(&path) > 10_000 {
        desk.send(op(10_001)).await.unwrap();
        desk.withdraw(|op| op.0 == 10_001).await.unwrap();
    }
    orders.leave().await.unwrap();
    let orders = join(&path, &recorder).await.unwrap();
    assert_eq!(orders.handle().stats().recovered, 11);
    orders.leave().await.unwrap();
    let orders = join(&path, &recorder).await.unwrap();
    orders.handle().resume().await.unwrap();
    orders.handle().flush().await.unwrap();
    assert_eq!(recorder.ops(), (0..11).map(|i| op(if i < 10 { 1000 * i + 500 } else { 10_000 })).collect::<Vec<_>>());
    orders.leave().await.unwrap();
    assert_eq!(bytes(&path), 0);
}

/// Goal: a reader that stays makes callers wait at the cap, keeps nothing that was accepted from being settled, and leaves no trace.
/// Method: a log at its least cap, a reader with an old state, and ops until it is full.
#[tokio::test]
async fn a_reader_that_stays_fills_the_log_and_harms_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.db");
    let recorder = Recorder::new();
    let sink = recorder.clone();
    let orders = Durable::new("orders", File::at(&path).max_bytes(1))
        .append_timeout(Duration::from_millis(500))
        .sink(move |_| sink.clone())
        .join()
        .await
        .unwrap();
    let desk = orders.handle();
    let op = |number: u32| (number, "x".repeat(100_000));
    desk.send(op(0)).await.unwrap();
    desk.flush().await.unwrap();
    let reader = Connection::open(&path).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM roundlot_frames").unwrap();
    desk.pause().await.unwrap();
    let mut accepted = 1;
    while desk.send(op(accepted)).await.is_ok() {
        accepted += 1;
        assert!(accepted < 200, "the cap is 16 MiB");
    }
    desk.resume().await.unwrap();
    // The op in doubt waits for room, and so none of it is in the log.
    while recorder.len() < accepted as usize {
        tokio::task::yield_now().await;
    }
    assert!(fs::metadata(folder.path().join("orders.db-wal")).unwrap().len() > 5_000_000);
    reader.execute_batch("COMMIT").unwrap();
    desk.flush().await.unwrap();
    desk.send(op(accepted + 1)).await.unwrap();
    desk.flush().await.unwrap();
    assert!(recorder.len() > accepted as usize);
    while fs::metadata(folder.path().join("orders.db-wal")).unwrap().len() > 4_500_000 {
        tokio::task::yield_now().await;
    }
    orders.leave().await.unwrap();
}

/// Goal: dead letters take no more than their share, and the shard holds rather than to lose one. Method: refused ops until it
/// holds, by an ordinary sink and by a transactional one; then letters are discarded.
#[tokio::test]
async fn dead_letters_have_a_share_of_the_file() {
    struct Refuses(Option<roundlot::durable::Term>);

    impl roundlot::Sink<Op> for Refuses {
        async fn write(&self, batch: &mut Batch<Op>) -> Result<roundlot::Settled, SinkError> {
            let refuse = |batch: &mut Batch<Op>| batch.settle_each(|_| Err(SinkError::refused("no")));
            match &self.0 {
                Some(term) => term.transaction(batch, move |_, batch| Ok(refuse(batch))).await,
                None => Ok(refuse(batch)),
            }
        }

        fn guarantee(&self) -> roundlot::sink::Guarantee {
            let guarantee = self.0.as_ref().map(|_| roundlot::sink::Guarantee::Transactional);
            guarantee.unwrap_or_default()
        }
    }

    for is_transactional in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("orders.db");
        let sink = move |term| Refuses(Some(term).filter(|_| is_transactional));
        let limits = Limits::new(1);
        let orders =
            Durable::new("orders", File::at(&path).max_bytes(1)).limits(limits).sink(sink).join().await.unwrap();
        let desk = orders.handle();
        for number in 0..20 {
            desk.send((number, "x".repeat(100_000))).await.unwrap();
        }
        let letters = orders.dead_letters();
        // A share of 1 MiB holds ten of them, and the eleventh goes over it.
        while letters.list(20).await.unwrap().len() < 11 {
            tokio::task::yield_now().await;
        }
        assert_eq!(letters.list(20).await.unwrap().len(), 11);
        let first: Vec<_> = letters.list(11).await.unwrap().into_iter().map(|(id, _)| id).collect();
        for id in first {
            assert!(letters.discard(id).await.unwrap());
        }
        desk.flush().await.unwrap();
        assert_eq!(desk.stats().outcomes[End::Refused], 20);
        assert_eq!(letters.list(20).await.unwrap().len(), 9);
        orders.leave().await.unwrap();
    }
}

/// Goal: a file that has lost a part is refused, and the reason is named. Method: the file is cut off at several places, its WAL
/// loses its end, one of its tables, a row of an index.
#[tokio::test]
async fn files_that_have_lost_a_part_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.db");
    let recorder = Recorder::new();
    let orders = join(&path, &recorder).await.unwrap();
    orders.handle().pause().await.unwrap();
    orders.handle().send_all((0..2000).map(op)).await.unwrap();
    let copies: Vec<(String, Vec<u8>)> = ["orders.db", "orders.db-wal", "orders.db-mark"]
        .into_iter()
        .map(|name| (name.to_owned(), fs::read(folder.path().join(name)).unwrap()))
        .collect();
    orders.leave().await.unwrap();

    // As a process that was killed has left them.
    let other = folder.path().join("other");
    let put = |of: &dyn Fn(&str, &mut Vec<u8>)| {
        let _ = fs::remove_dir_all(&other);
        fs::create_dir(&other).unwrap();
        for (name, bytes) in &copies {
            let mut bytes = bytes.clone();
            of(name, &mut bytes);
            fs::write(other.join(name), bytes).unwrap();
        }
    };
    let killed = other.join("orders.db");
    put(&|_, _| {});
    join(&killed, &recorder).await.unwrap().leave().await.unwrap();
    put(&|name, bytes| {
        if name.ends_with("-wal") {
            bytes.truncate(bytes.len() - 1);
        }
    });
    let error = join(&killed, &recorder).await.unwrap_err();
    assert!(error.to_string().contains("ends before what was confirmed"), "{error}");

    let whole = fs::read(&path).unwrap();
    for pages in 1..whole.len() / 4096 {
        fs::write(&path, &whole[..pages * 4096]).unwrap();
        let error = join(&path, &recorder).await.unwrap_err();
        assert!(error.to_string().contains("malformed"), "{pages} pages: {error}");
    }
    for sql in ["DROP TABLE roundlot_outcomes", "DELETE FROM roundlot_logs"] {
        fs::write(&path, &whole).unwrap();
        Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        let error = join(&path, &recorder).await.unwrap_err();
        assert!(matches!(&error, JoinError::Unsafe(_) | JoinError::Open(_)), "{sql}: {error}");
    }
    fs::write(&path, &whole).unwrap();
    let orders = join(&path, &recorder).await.unwrap();
    assert_eq!(orders.stats().recovered, 2000);
    orders.leave().await.unwrap();
    Connection::open(&path).unwrap().execute_batch("DELETE FROM roundlot_frames").unwrap();
    let error = join(&path, &recorder).await.unwrap_err();
    assert!(matches!(&error, JoinError::Unreadable(why) if why.contains("no frame holds position 0")), "{error}");
}
