//! Hostile input to a log in a file: a file that is none, or of another version; ops that the codec does not read; a second program.

use std::{
    fs,
    path::{Path, PathBuf},
};

use roundlot::{
    End, OpId,
    durable::{Codec, CodecError, Durable, File, JoinError, Joined, Json, OnUndecodable, OpStatus, SendError},
    testing::Recorder,
};
use rusqlite::Connection;

/// A codec of a program of some version: it writes schema `writes`, and reads the schemas from `reads` on.
#[derive(Debug, Clone, Copy)]
struct Version {
    writes: u32,
    reads: u32,
}

const OLD: Version = Version { writes: 1, reads: 1 };
const NEW: Version = Version { writes: 2, reads: 2 };
/// The next program, which reads what all have written.
const BOTH: Version = Version { writes: 2, reads: 1 };

impl<V> Codec<V> for Version
where
    Json: Codec<V>,
{
    fn encode(&self, value: &V, to: &mut Vec<u8>) -> Result<(), CodecError> {
        Json.encode(value, to)
    }

    fn decode(&self, bytes: &[u8], schema: u32) -> Result<V, CodecError> {
        Json.decode(bytes, schema)
    }

    fn schema(&self) -> u32 {
        self.writes
    }

    fn reads(&self, schema: u32) -> bool {
        (self.reads..=self.writes).contains(&schema)
    }
}

async fn join(
    path: &Path,
    version: Version,
    policy: OnUndecodable,
    to: &Recorder<u32>,
) -> Result<Joined<u32>, JoinError> {
    let sink = to.clone();
    let orders = Durable::new("orders", File::at(path)).codec(version).on_undecodable(policy);
    orders.sink(move |_| sink.clone()).join().await
}

async fn plain(path: &Path) -> Result<Joined<u32>, JoinError> {
    join(path, OLD, OnUndecodable::Hold, &Recorder::new()).await
}

fn refused(joined: Result<Joined<u32>, JoinError>) -> String {
    joined.expect_err("it is refused").to_string()
}

/// Leaves a log in a file, in which an op waits.
async fn with_an_op(folder: &Path) -> PathBuf {
    let path = folder.join("orders.db");
    let orders = plain(&path).await.unwrap();
    orders.handle().pause().await.unwrap();
    orders.handle().send(7).await.unwrap();
    orders.leave().await.unwrap();
    path
}

async fn recovers_its_op(path: &Path) {
    let orders = plain(path).await.unwrap();
    assert_eq!(orders.stats().recovered, 1);
    orders.leave().await.unwrap();
}

/// Goal: a file of another version is refused, the error names both, and nothing of it is changed. Method: an older and a newer
/// format, then the right one again.
#[tokio::test]
async fn a_file_of_another_version_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = with_an_op(folder.path()).await;
    let set = |format: u32| {
        let database = Connection::open(&path).unwrap();
        database.execute("UPDATE roundlot_meta SET value = ?1 WHERE key = 'format'", [format]).unwrap();
    };
    for format in [1, 99] {
        set(format);
        let error = refused(plain(&path).await);
        assert!(error.contains(&format!("has format {format}, and this version reads 4")), "{error}");
    }
    set(4);
    recovers_its_op(&path).await;
}

/// Goal: a log keeps its number of shards. Method: it is joined with another one, then with its own.
#[tokio::test]
async fn a_file_with_other_shards_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = with_an_op(folder.path()).await;
    let stages = || roundlot::Stages::new().partition_by(|op: &u32| *op);
    let sharded = Durable::new("orders", File::at(&path)).stages(stages).shards(4, |key: &u32| key.to_le_bytes());
    let error = refused(sharded.sink(|_| Recorder::new()).join().await);
    assert_eq!(error, "the log has 1 shards, not 4");
    recovers_its_op(&path).await;
}

/// Goal: a program that can't read an op holds the shard, and one that can goes on with nothing lost. Method: an older op waits; a
/// newer program joins; the next one reads both.
#[tokio::test]
async fn a_schema_that_is_not_read_holds_the_shard() {
    let folder = tempfile::tempdir().unwrap();
    let path = with_an_op(folder.path()).await;
    let recorder = Recorder::new();
    let error = refused(join(&path, NEW, OnUndecodable::Hold, &recorder).await);
    assert!(error.contains("op 1-0-1: its schema 1 is none that the codec reads"), "{error}");
    let orders = join(&path, BOTH, OnUndecodable::Hold, &recorder).await.unwrap();
    let desk = orders.handle();
    desk.send(8).await.unwrap();
    desk.resume().await.unwrap();
    desk.flush().await.unwrap();
    assert_eq!(recorder.ops(), [7, 8]);
    orders.leave().await.unwrap();
}

/// Goal: an op that can't be read becomes a dead letter with its bytes and its id, others flow, and a program that reads it sends it.
/// Method: an older op waits; a newer program refuses it; the next one requeues it.
#[tokio::test]
async fn a_schema_that_is_not_read_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = with_an_op(folder.path()).await;
    let (recorder, id) = (Recorder::new(), "1-0-1".parse::<OpId>().unwrap());
    let orders = join(&path, NEW, OnUndecodable::Refuse, &recorder).await.unwrap();
    let desk = orders.handle();
    desk.resume().await.unwrap();
    desk.send(8).await.unwrap();
    let report = desk.flush().await.unwrap();
    assert_eq!((report.outcomes.delivered, report.others.refused, recorder.ops()), (1, 1, vec![8]));
    let OpStatus::Ended(outcome) = desk.outcome(id).await.unwrap() else { panic!("it has ended") };
    assert_eq!(outcome.end, End::Refused);
    assert!(orders.dead_letters().list(9).await.unwrap().is_empty(), "this program can't read it");
    orders.leave().await.unwrap();
    let database = Connection::open(&path).unwrap();
    let letter = "SELECT id || ' ' || op || ' ' || ended FROM roundlot_dead_letters";
    assert_eq!(database.query_row(letter, [], |row| row.get::<_, String>(0)).unwrap(), "1-0-1 7 refused");
    drop(database);

    let orders = join(&path, BOTH, OnUndecodable::Refuse, &recorder).await.unwrap();
    let letters = orders.dead_letters();
    let listed = letters.list(9).await.unwrap();
    assert_eq!(listed.iter().map(|(id, letter)| (*id, letter.op)).collect::<Vec<_>>(), [(id, 7)]);
    letters.requeue(id).await.unwrap().expect("the letter is there");
    orders.handle().flush().await.unwrap();
    assert_eq!(recorder.ops(), [8, 7]);
    orders.leave().await.unwrap();
}

/// Goal: an op that comes while a program runs, and which it can't read, holds the shard as well. Method: the dead letter of an older
/// program is requeued.
#[tokio::test]
async fn a_requeued_op_that_is_not_read_holds_the_shard() {
    let folder = tempfile::tempdir().unwrap();
    let path = with_an_op(folder.path()).await;
    let (recorder, id) = (Recorder::new(), "1-0-1".parse::<OpId>().unwrap());
    let orders = join(&path, NEW, OnUndecodable::Refuse, &recorder).await.unwrap();
    orders.handle().resume().await.unwrap();
    orders.handle().flush().await.unwrap();
    orders.leave().await.unwrap();
    let orders = join(&path, NEW, OnUndecodable::Hold, &recorder).await.unwrap();
    let new = orders.dead_letters().requeue(id).await.unwrap().expect("the letter is there");
    orders.handle().send(8).await.unwrap();
    while orders.handle().is_leading() {
        tokio::task::yield_now().await;
    }
    orders.leave().await.unwrap();
    assert!(recorder.is_empty());
    let orders = join(&path, BOTH, OnUndecodable::Hold, &recorder).await.unwrap();
    orders.handle().flush().await.unwrap();
    assert_eq!(recorder.ops(), [7, 8]);
    assert!(orders.handle().outcome(new).await.unwrap().is_ended());
    orders.leave().await.unwrap();
}

/// Goal: an op that the codec could not read again is not accepted, and harms no other one. Method: numbers that JSON does not have.
#[tokio::test]
async fn an_op_that_json_can_not_hold_is_given_back() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Recorder::new();
    let sink = recorder.clone();
    let orders = Durable::new("orders", File::at(folder.path().join("orders.db")));
    let orders = orders.sink(move |_| sink.clone()).join::<(), _>().await.unwrap();
    let desk = orders.handle();
    for price in [f64::NAN, f64::INFINITY] {
        let error = desk.send((1, Some(price))).await.unwrap_err();
        assert!(matches!(error, SendError::Encode { op: (1, Some(_)), .. }), "{error}");
    }
    let price = 90_072.066_666_666_67_f64;
    desk.send_all([(2, Some(price)), (3, None)]).await.unwrap();
    desk.flush().await.unwrap();
    assert_eq!(recorder.ops(), [(2, Some(price)), (3, None)]);
    orders.leave().await.unwrap();
}

/// Goal: an id that no log gives is not accepted, since no log could read it again. Method: the largest number.
#[tokio::test]
async fn an_id_that_no_log_gives_is_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let path = with_an_op(folder.path()).await;
    let orders = plain(&path).await.unwrap();
    let desk = orders.handle();
    for id in ["1-0-18446744073709551615", "2-0-9223372036854775807", "18446744073709551615-0-1", "1-9-1"] {
        let id: OpId = id.parse().unwrap();
        assert!(matches!(desk.outcome(id).await.unwrap(), OpStatus::Forgotten), "{id}");
        assert!(matches!(desk.send_as(id, 9).await, Err(SendError::Forgotten { op: 9, .. })), "{id}");
        assert_eq!(orders.dead_letters().requeue(id).await.unwrap(), None);
        assert!(!orders.dead_letters().discard(id).await.unwrap());
    }
    orders.leave().await.unwrap();
    recovers_its_op(&path).await;
}

/// Goal: what is no log is refused and not changed; an empty file is a new one, but not in the place of a log. Method: a text, a
/// folder, folders in the place of the files beside it, an empty file.
#[tokio::test]
async fn files_that_are_no_log_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let text = "not a database, but long enough to be read as one".repeat(100);
    fs::write(at("text"), &text).unwrap();
    let error = refused(plain(&at("text")).await);
    assert!(error.contains("file is not a database"), "{error}");
    assert_eq!(fs::read_to_string(at("text")).unwrap(), text);
    for name in ["folder", "orders.db-lock", "orders.db-mark"] {
        fs::create_dir(at(name)).unwrap();
        let error = refused(plain(&at(name.split('-').next().unwrap())).await);
        assert!(error.contains("directory"), "{error}");
        fs::remove_dir(at(name)).unwrap();
    }
    assert!(refused(plain(Path::new("/")).await).contains("names no file"));

    fs::write(at("empty"), "").unwrap();
    plain(&at("empty")).await.unwrap().leave().await.unwrap();
    let path = with_an_op(folder.path()).await;
    fs::write(&path, "").unwrap();
    let error = refused(plain(&path).await);
    assert!(error.contains("ends at commit 0") && error.contains("it is a backup"), "{error}");
}

/// Goal: a file that may not be written is refused, and works once it may be. Method: its mode.
#[cfg(unix)]
#[tokio::test]
async fn a_file_without_permission_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = with_an_op(folder.path()).await;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
    if fs::OpenOptions::new().write(true).open(&path).is_ok() {
        return println!("left out: root may write every file");
    }
    let error = refused(plain(&path).await);
    assert!(error.contains("Permission denied"), "{error}");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    recovers_its_op(&path).await;
}

/// Goal: a file has one lock, whatever names it has. Method: a link to it, to its folder, and to nothing.
#[cfg(unix)]
#[tokio::test]
async fn a_link_is_the_file_that_it_names() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    let path = with_an_op(folder.path()).await;
    let at = |name: &str| folder.path().join(name);
    symlink(&path, at("link")).unwrap();
    symlink(folder.path(), at("same")).unwrap();
    for link in [at("link"), at("same").join("orders.db")] {
        recovers_its_op(&link).await;
        let orders = plain(&path).await.unwrap();
        assert!(matches!(plain(&link).await, Err(JoinError::InUse(_))));
        orders.leave().await.unwrap();
    }
    assert!(!at("link-lock").exists());
    // Made by its link, the file would have its lock beside that.
    symlink(at("none"), at("to_nothing")).unwrap();
    let error = refused(plain(&at("to_nothing")).await);
    assert!(error.contains("a link to a file that is not there"), "{error}");
    assert!(!at("none").exists() && !at("to_nothing-lock").exists());
}

/// The program that has the file of the test below. Says so, and waits for the end of its input.
#[cfg(unix)]
#[test]
#[ignore = "the process that the test below starts"]
fn holder() {
    let Some(path) = std::env::var_os("ROUNDLOT_TEST_HELD") else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let file = File::at(&path);
        let file = if std::env::var_os("ROUNDLOT_TEST_EXCLUSIVE").is_some() { file.exclusive() } else { file };
        let recorder = Recorder::<u32>::new();
        let orders = Durable::new("orders", file).codec(OLD).sink(move |_| recorder.clone()).join().await.unwrap();
        println!("\nhas the file");
        tokio::task::spawn_blocking(|| std::io::stdin().lines().count()).await.unwrap();
        orders.leave().await.unwrap();
    });
}

/// A process that has the file.
#[cfg(unix)]
fn other_process(path: &Path, is_exclusive: bool) -> (std::process::Child, impl Sized) {
    use std::{
        io::{BufRead, BufReader},
        process::{Command, Stdio},
    };
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "hostile::holder", "--ignored", "--nocapture", "--test-threads", "1"]);
    child.env("ROUNDLOT_TEST_HELD", path).stdin(Stdio::piped()).stdout(Stdio::piped());
    if is_exclusive {
        child.env("ROUNDLOT_TEST_EXCLUSIVE", "1");
    }
    let mut child = child.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "has the file"), "the other process has not joined");
    // The process must be able to say more.
    (child, lines)
}

/// Goal: a second program shares the file, and leads when the first one is gone. Method: a process that is killed, and one that leaves.
#[cfg(unix)]
#[tokio::test]
async fn a_second_program_shares_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = with_an_op(folder.path()).await;
    for is_killed in [true, false] {
        let (mut child, _says) = other_process(&path, false);
        let second = plain(&path).await.unwrap();
        assert!(!second.handle().is_leading());
        second.leave().await.unwrap();
        if is_killed {
            child.kill().unwrap();
        }
        drop(child.stdin.take());
        assert_eq!(child.wait().unwrap().success(), !is_killed);
        recovers_its_op(&path).await;
    }
}

/// Goal: a program that wants the file for itself shares it with no other one, whichever comes first, and the error names the other
/// process. Method: a process with each wish, and this one with the other.
#[cfg(unix)]
#[tokio::test]
async fn an_exclusive_file_is_not_shared() {
    let folder = tempfile::tempdir().unwrap();
    let path = with_an_op(folder.path()).await;
    for is_exclusive in [true, false] {
        let (mut child, _says) = other_process(&path, is_exclusive);
        let file = File::at(&path);
        let file = if is_exclusive { file } else { file.exclusive() };
        let recorder = Recorder::<u32>::new();
        let joined = Durable::new("orders", file).codec(OLD).sink(move |_| recorder.clone()).join().await;
        assert!(matches!(joined, Err(JoinError::InUse(_))));
        let error = refused(joined);
        assert!(error.contains(&child.id().to_string()), "{error}");
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
        recovers_its_op(&path).await;
    }
}
