//! Kills a process with SIGKILL while it sends, again and again, on the same file. What its calls confirmed and what arrived at
//! the destination come out of it by a pipe, which outlives it.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
};

use roundlot::{
    AckError, Batch, Limits, OpId, Settled, Sink, SinkError, Stages,
    durable::{Durable, File, Joined, OpStatus},
    sink::Guarantee,
    stage::Merge,
};
use serde::{Deserialize, Serialize};

/// Set for the process that is killed: the path of the log, and what the process is to do.
const LOG: &str = "ROUNDLOT_TEST_LOG";
const TASK: &str = "ROUNDLOT_TEST_TASK";

/// Processes killed per kind of sink.
const KILLS: u64 = 8;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Order {
    key: u8,
    numbers: Vec<u64>,
}

/// A destination that says what arrives, in the order of the pipe.
struct Pipe {
    is_idempotent: bool,
}

fn say(line: std::fmt::Arguments<'_>) {
    let mut out = std::io::stdout().lock();
    // One line is one write, so that a kill leaves no half of it.
    out.write_all(format!("\n# {line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

impl Sink<Order> for Pipe {
    async fn write(&self, batch: &mut Batch<Order>) -> Result<Settled, SinkError> {
        for order in batch.pending() {
            for number in &order.numbers {
                say(format_args!("arrived {number}"));
            }
        }
        tokio::task::yield_now().await;
        Ok(batch.accept_all())
    }

    fn guarantee(&self) -> Guarantee {
        if self.is_idempotent { Guarantee::Idempotent } else { Guarantee::Unknown }
    }
}

async fn join(path: &Path, is_idempotent: bool) -> Joined<Order> {
    let merge = |mut waiting: Order, newer: Order| {
        waiting.numbers.extend(newer.numbers);
        Merge::Into(waiting)
    };
    Durable::new("orders", File::at(path))
        .stages(move || Stages::new().conflate_by(|order: &Order| (order.key < 4).then_some(order.key), merge))
        .limits(Limits::new(20))
        .sink(move |_| Pipe { is_idempotent })
        .join()
        .await
        .unwrap()
}

/// The process that is killed. Sends until then.
async fn send(path: &Path, is_idempotent: bool, life: u64) {
    let orders = join(path, is_idempotent).await;
    let senders = (0..6_u64).map(|sender| {
        let desk = orders.handle();
        tokio::spawn(async move {
            for i in 0.. {
                let number = (life * 10 + sender) * 1_000_000 + i;
                let order = Order { key: (i % 8) as u8, numbers: vec![number] };
                let ack = desk.submit(order).await.unwrap();
                say(format_args!("accepted {number} {}", ack.id()));
            }
        })
    });
    futures::future::join_all(senders.collect::<Vec<_>>()).await;
}

/// The last process: ends all that waits, and tells what became of each op.
async fn finish(path: &Path, is_idempotent: bool, ids: &str) {
    let orders = join(path, is_idempotent).await;
    let desk = orders.handle();
    desk.flush().await.unwrap();
    for line in ids.lines() {
        let id: OpId = line.parse().unwrap();
        match desk.outcome(id).await.unwrap() {
            OpStatus::Ended(outcome) => {
                let became = match outcome.result {
                    Ok(()) => "delivered".to_owned(),
                    Err(AckError::InDoubt(_)) => "in_doubt".to_owned(),
                    Err(error) => format!("{error:?}"),
                };
                say(format_args!("became {id} {became}"));
            }
            status => say(format_args!("became {id} {status:?}")),
        }
    }
    orders.leave().await.unwrap();
}

#[test]
#[ignore = "the process that the test below starts and kills"]
fn child() {
    let (Ok(path), Ok(task)) = (std::env::var(LOG), std::env::var(TASK)) else {
        return;
    };
    let (path, words) = (Path::new(&path), task.split(' ').collect::<Vec<_>>());
    let is_idempotent = words[1] == "idempotent";
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    match words[0] {
        "send" => runtime.block_on(send(path, is_idempotent, words[2].parse().unwrap())),
        _ => runtime.block_on(finish(path, is_idempotent, &std::fs::read_to_string(words[2]).unwrap())),
    }
}

fn start(path: &Path, task: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill::child", "--ignored", "--nocapture", "--test-threads", "1"])
        .env(LOG, path)
        .env(TASK, task)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The words of the processes.
#[derive(Debug, Default)]
struct Journal {
    accepted: BTreeMap<u64, String>,
    arrived: BTreeMap<u64, u64>,
    became: BTreeMap<String, String>,
}

impl Journal {
    fn note(&mut self, line: &str) -> bool {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["#", "accepted", number, id] => drop(self.accepted.insert(number.parse().unwrap(), id.to_owned())),
            ["#", "arrived", number] => *self.arrived.entry(number.parse().unwrap()).or_default() += 1,
            ["#", "became", id, ..] => drop(self.became.insert(id.to_owned(), words[3..].join(" "))),
            _ => return false,
        }
        true
    }
}

/// Goal: kill -9 loses nothing that was accepted, and repeats nothing at a sink that is not idempotent. Method: kill after so
/// many lines, which are never the same number, and judge by what came out of the pipe.
#[test]
fn a_killed_process_loses_nothing() {
    for kind in ["unknown", "idempotent"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("orders.db");
        let mut journal = Journal::default();
        for life in 1..=KILLS {
            let mut child = start(&path, &format!("send {kind} {life}"));
            let lines = BufReader::new(child.stdout.take().unwrap()).lines();
            let mut left = 50 + life * 137 % 700;
            for line in lines {
                left -= u64::from(journal.note(&line.unwrap_or_default()) && left > 0);
                if left == 0 {
                    // SIGKILL. What it has written until then is still read.
                    child.kill().unwrap();
                }
            }
            assert_eq!(child.wait().unwrap().code(), None, "it was killed, and did not end by itself");
        }
        let ids = folder.path().join("ids");
        std::fs::write(&ids, journal.accepted.values().map(|id| format!("{id}\n")).collect::<String>()).unwrap();
        let mut child = start(&path, &format!("finish {kind} {}", ids.display()));
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            journal.note(&line.unwrap());
        }
        assert!(child.wait().unwrap().success());
        assert!(journal.accepted.len() as u64 > KILLS * 20, "{} ops were accepted", journal.accepted.len());
        let mut in_doubt = 0;
        for (number, id) in &journal.accepted {
            let times = journal.arrived.get(number).copied().unwrap_or(0);
            assert!(times <= 1 || kind == "idempotent", "op {number} arrived {times} times");
            match (&*journal.became[id], times) {
                ("delivered", 1..) => {}
                ("in_doubt", _) if kind == "unknown" => in_doubt += 1,
                (became, times) => panic!("op {number} is {became}, and arrived {times} times"),
            }
        }
        println!("{kind}: {} accepted, {in_doubt} in doubt", journal.accepted.len());
    }
}
