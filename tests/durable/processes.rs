//! Several processes on one file, which are killed and stopped while all of them send. What their calls confirmed comes out by pipes, and
//! the rows of the sink tell what arrived.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use roundlot::{
    AckError, Batch, Limits, Settled, Sink, SinkError, Stages,
    durable::{Durable, File, Joined, Term, Transaction},
    sink::Guarantee,
    stage,
};

/// Set for a process that a test starts: the path of the log, and what the process is to do.
const LOG: &str = "ROUNDLOT_TEST_NODES_LOG";
const TASK: &str = "ROUNDLOT_TEST_NODES_TASK";

/// How long no process may say anything. All of them may wait for one that has just begun.
const SILENCE: Duration = Duration::from_secs(60);

/// Partition and number.
type Op = (u32, u64);

/// A process stops itself in its transaction if a file with this ending is beside the log, and ends it when the file is gone.
const STOP: &str = "stop";

/// Writes rows into the log's own file.
struct Rows(Term);

impl Sink<Op> for Rows {
    async fn write(&self, batch: &mut Batch<Op>) -> Result<Settled, SinkError> {
        let (shard, epoch) = (self.0.shard(), self.0.epoch());
        let insert = move |transaction: &mut Transaction<'_>, batch: &mut Batch<Op>| {
            let database = transaction.sqlite()?;
            database.execute("CREATE TABLE IF NOT EXISTS arrivals (key, number, shard, epoch)", [])?;
            let mut insert = database.prepare_cached("INSERT INTO arrivals VALUES (?1, ?2, ?3, ?4)")?;
            for (key, number) in batch.pending() {
                insert.execute((*key, *number as i64, shard, epoch as i64))?;
            }
            let stop = database.path().map(|path| Path::new(path).with_extension(STOP)).filter(|stop| stop.exists());
            if let Some(stop) = stop {
                signal(std::process::id(), "-STOP");
                // The signal may meet another thread first, and this one some time later.
                while stop.exists() {
                    thread::yield_now();
                }
            }
            Ok(batch.accept_all())
        };
        self.0.transaction(batch, insert).await
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::Transactional
    }
}

/// SIGSTOP or SIGCONT.
fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").args([name, &pid.to_string()]).status().unwrap();
    assert!(sent.success());
}

async fn join(path: &Path, shards: u16) -> Joined<Op> {
    let stages = || {
        let apart = |waiting, newer| stage::Merge::Apart { waiting, newer };
        Stages::new().partition_by(|op: &Op| op.0).conflate_by(|op: &Op| op.0, apart)
    };
    let orders = Durable::new("orders", File::at(path)).stages(stages);
    orders.shards(shards, |key: &u32| key.to_le_bytes()).limits(Limits::new(50)).sink(Rows).join().await.unwrap()
}

fn say(line: std::fmt::Arguments<'_>) {
    let mut out = std::io::stdout().lock();
    // One line is one write, so that a kill leaves no half of it.
    out.write_all(format!("\n# {line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

/// Sends until it is killed.
async fn send(path: &Path, shards: u16, life: u64) {
    let orders = join(path, shards).await;
    let senders = (0..6).map(|sender: u64| {
        let desk = orders.handle();
        tokio::spawn(async move {
            for i in 0.. {
                let number = (life * 10 + sender) * 1_000_000 + i;
                let ack = desk.submit((sender as u32, number)).await.unwrap();
                say(format_args!("accepted {number}"));
                match ack.await {
                    Err(AckError::Withdrawn) => say(format_args!("withdrawn {number}")),
                    ended => {
                        ended.unwrap();
                        say(format_args!("ended {number}"));
                    }
                }
            }
        })
    });
    futures::future::join_all(senders.collect::<Vec<_>>()).await;
}

#[test]
#[ignore = "the process that the tests below start and kill"]
fn child() {
    let (Ok(path), Ok(task)) = (std::env::var(LOG), std::env::var(TASK)) else {
        return;
    };
    let (path, words) = (Path::new(&path), task.split(' ').collect::<Vec<_>>());
    tracing_subscriber::fmt().with_max_level(tracing::Level::WARN).with_ansi(false).with_writer(std::io::stdout).init();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(send(path, words[0].parse().unwrap(), words[1].parse().unwrap()));
}

/// A process, whose words come by a channel.
struct Node {
    child: Child,
    reader: Option<thread::JoinHandle<()>>,
}

impl Node {
    fn start(path: &Path, shards: u16, life: u64, words: &mpsc::Sender<(u64, String)>) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "processes::child", "--ignored", "--nocapture", "--test-threads", "1"])
            .env(LOG, path)
            .env(TASK, format!("{shards} {life}"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (out, words) = (child.stdout.take().unwrap(), words.clone());
        let reader = thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                // The test may be over.
                let _ = words.send((life, line));
            }
        });
        Self { child, reader: Some(reader) }
    }

    fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// SIGKILL. What it has said until then is read.
    fn kill(&mut self) {
        self.child.kill().unwrap();
        assert_eq!(self.child.wait().unwrap().code(), None, "it was killed, and did not end by itself");
        self.reader.take().unwrap().join().unwrap();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // A test that fails leaves no process behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Default)]
struct Journal {
    accepted: BTreeSet<u64>,
    ended: BTreeSet<u64>,
    withdrawn: BTreeSet<u64>,
}

impl Journal {
    fn note(&mut self, line: &str) -> bool {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["#", "accepted", number] => drop(self.accepted.insert(number.parse().unwrap())),
            ["#", "withdrawn", number] => drop(self.withdrawn.insert(number.parse().unwrap())),
            ["#", "ended", number] => drop(self.ended.insert(number.parse().unwrap())),
            _ => return false,
        }
        true
    }

    /// Notes what the processes say, until one of them, or any, has said so much.
    fn hear(&mut self, words: &mpsc::Receiver<(u64, String)>, mut lines: u64, from: Option<u64>) {
        while lines > 0 {
            let (life, line) = words.recv_timeout(SILENCE).expect("the processes go on");
            lines -= u64::from(self.note(&line) && from.is_none_or(|from| from == life));
        }
    }

    /// Compares with the rows.
    fn judge(&self, path: &Path) {
        let database = rusqlite::Connection::open(path).unwrap();
        let mut rows = database.prepare("SELECT key, number, shard, epoch FROM arrivals ORDER BY rowid").unwrap();
        let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as u64, row.get(2)?, row.get(3)?)));
        let (mut arrived, mut last, mut epochs) = (BTreeSet::new(), BTreeMap::new(), BTreeMap::new());
        let mut terms = BTreeSet::new();
        for row in rows.unwrap() {
            let (key, number, shard, epoch): (u32, u64, u16, i64) = row.unwrap();
            assert!(arrived.insert(number), "{number} was written twice");
            let sender = number / 1_000_000;
            assert!(
                last.insert((sender, key), number).is_none_or(|last| last < number),
                "{number} came after a later one"
            );
            assert!(
                epochs.insert(shard, epoch).is_none_or(|last| last <= epoch),
                "an older term wrote after a newer one"
            );
            terms.insert((shard, epoch));
        }
        let lost: Vec<_> =
            self.accepted.difference(&arrived).filter(|number| !self.withdrawn.contains(number)).collect();
        assert!(lost.is_empty(), "accepted, and lost: {lost:?}");
        assert!(self.withdrawn.is_disjoint(&arrived), "withdrawn, and written");
        assert!(self.ended.is_subset(&arrived));
        println!("{} accepted, {} arrived in {} terms", self.accepted.len(), arrived.len(), terms.len());
    }
}

/// Ends all that waits.
fn finish(path: &Path, shards: u16) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let orders = join(path, shards).await;
        orders.handle().flush().await.unwrap();
        assert_eq!(orders.stats().waiting, 0);
        orders.leave().await.unwrap();
    });
}

/// Goal: kill -9 of any of several processes on a file loses nothing that was accepted, writes nothing twice and nothing out of order,
/// and the others go on. Method: three processes; one is killed after so many words, or stopped for so many words of the others, and
/// another one begins in its place.
#[test]
fn processes_that_die_or_stop_lose_nothing() {
    const FAULTS: u64 = 12;
    for shards in [1, 4] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("orders.db");
        let (say, words) = mpsc::channel();
        let mut journal = Journal::default();
        let mut nodes: BTreeMap<u64, Node> =
            (1..=3).map(|life| (life, Node::start(&path, shards, life, &say))).collect();
        for fault in 1..=FAULTS {
            journal.hear(&words, 40 + fault * 137 % 300, None);
            let (life, mut node) = nodes.pop_first().unwrap();
            if fault % 4 == 3 {
                // The shards that it leads wait, if it leads any; the others go on. It may be stopped in a transaction, which all wait for.
                node.signal("-STOP");
                let others = (0..300).map_while(|_| words.recv_timeout(Duration::from_millis(300)).ok());
                others.for_each(|(_, line)| {
                    journal.note(&line);
                });
                node.signal("-CONT");
                journal.hear(&words, 20, Some(life));
            }
            node.kill();
            let life = fault + 3;
            nodes.insert(life, Node::start(&path, shards, life, &say));
            journal.hear(&words, 20, Some(life));
        }
        nodes.values_mut().for_each(Node::kill);
        words.try_iter().for_each(|(_, line)| {
            journal.note(&line);
        });
        finish(&path, shards);
        journal.judge(&path);
    }
}

/// Goal: a process withdraws what others have sent to a shard that one of these leads, and none of it is written. Method: two processes
/// that send; a third one pauses them and withdraws the ops of each sender, and the rest goes on.
#[test]
fn a_process_withdraws_what_others_have_sent() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.db");
    let (say, words) = mpsc::channel();
    let mut journal = Journal::default();
    let mut nodes = vec![Node::start(&path, 1, 1, &say)];
    journal.hear(&words, 20, Some(1));
    nodes.push(Node::start(&path, 1, 2, &say));
    journal.hear(&words, 20, Some(2));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let handed_back: BTreeSet<u64> = runtime.block_on(async {
        let orders = join(&path, 1).await;
        let desk = orders.handle();
        desk.pause().await.unwrap();
        let mut handed_back = BTreeSet::new();
        // Each of six senders of a process has one op on its way. All of them come in a pause.
        while handed_back.len() < 12 {
            for sender in 0..6_u32 {
                let ops = desk.withdraw_key(sender).await.unwrap();
                assert!(ops.iter().all(|op| op.0 == sender));
                handed_back.extend(ops.iter().map(|(_, number)| *number));
            }
            assert!(!desk.is_leading());
        }
        desk.resume().await.unwrap();
        orders.leave().await.unwrap();
        handed_back
    });
    journal.hear(&words, 60, Some(1));
    journal.hear(&words, 60, Some(2));
    nodes.iter_mut().for_each(Node::kill);
    words.try_iter().for_each(|(_, line)| {
        journal.note(&line);
    });
    finish(&path, 1);
    assert!(journal.withdrawn.is_subset(&handed_back));
    assert!(!journal.withdrawn.is_empty(), "their callers hear of it");
    journal.withdrawn.extend(handed_back);
    journal.judge(&path);
}

/// Goal: while a process is stopped in its transaction the others write nothing, and name it; when it goes on, or dies, they go on, too.
/// Method: a leader that stops itself between its rows and the commit, and another process that waits for it.
#[test]
fn a_process_that_is_stopped_in_its_transaction_is_named() {
    for dies in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("orders.db");
        let (say, words) = mpsc::channel();
        let mut journal = Journal::default();
        let mut leader = Node::start(&path, 1, 1, &say);
        journal.hear(&words, 20, Some(1));
        let mut other = Node::start(&path, 1, 2, &say);
        journal.hear(&words, 20, Some(2));
        std::fs::write(path.with_extension(STOP), "").unwrap();
        loop {
            let (life, line) = words.recv_timeout(SILENCE).expect("the other process warns");
            journal.note(&line);
            if line.contains("another process keeps a log from being written") {
                assert!(life == 2 && line.contains(&leader.child.id().to_string()), "{line}");
                break;
            }
        }
        let arrived = || {
            let database = rusqlite::Connection::open(&path).unwrap();
            database.query_row("SELECT count(*) FROM arrivals", [], |row| row.get::<_, i64>(0)).unwrap()
        };
        let before = arrived();
        assert!(words.recv_timeout(Duration::from_millis(500)).is_err(), "no op is accepted, and none ends");
        assert_eq!(arrived(), before);
        std::fs::remove_file(path.with_extension(STOP)).unwrap();
        if dies {
            leader.kill();
        } else {
            leader.signal("-CONT");
            journal.hear(&words, 20, Some(1));
            leader.kill();
        }
        journal.hear(&words, 20, Some(2));
        other.kill();
        words.try_iter().for_each(|(_, line)| {
            journal.note(&line);
        });
        finish(&path, 1);
        journal.judge(&path);
    }
}
