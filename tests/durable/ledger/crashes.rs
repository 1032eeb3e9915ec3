//! A process that dies at each step of the protocol, one life after the other, on the same file and the same database. What its
//! calls confirmed comes out of it by a pipe; what arrived is in a table.

use std::{
    collections::BTreeMap,
    fmt,
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use roundlot::{
    Batch, End, Limits, OpId, Retry, Settled, Sink, SinkError,
    durable::{Durable, File, Joined, OpStatus, Term},
    sink::Guarantee,
};
use tokio_postgres::Transaction;
use tracing::field::{Field, Visit};
use tracing_subscriber::{Layer, layer::SubscriberExt};

use super::Place;

/// Set for the process that dies: the path of the log, the URL of its ledger, and what the process is to do.
const LOG: &str = "ROUNDLOT_TEST_LEDGER_LOG";
const URL: &str = "ROUNDLOT_TEST_LEDGER_URL";
const TASK: &str = "ROUNDLOT_TEST_LEDGER_TASK";

/// Steps from one death to the next; 1 in a long run, by the variable.
const STEPS: u64 = 9;
const STEPS_VARIABLE: &str = "ROUNDLOT_TEST_LEDGER_STEPS";

/// Ops of one life. Each tenth is refused until it is allowed, and then requeued.
const OPS: i64 = 40;

fn is_odd_one(op: i64) -> bool {
    op % 10 == 7
}

/// Inserts ops, and refuses those that are not allowed.
struct Landing(Term);

impl Sink<i64> for Landing {
    async fn write(&self, batch: &mut Batch<i64>) -> Result<Settled, SinkError> {
        let work = async |transaction: &mut Transaction<'_>, batch: &mut Batch<i64>| {
            let allowed = transaction.query("SELECT op FROM allowed", &[]).await?;
            let allowed: Vec<i64> = allowed.iter().map(|row| row.get(0)).collect();
            for i in batch.pending_indexes() {
                if is_odd_one(batch[i]) && !allowed.contains(&batch[i]) {
                    batch.refuse(i, SinkError::refused("not allowed"));
                }
            }
            let ops: Vec<i64> = batch.pending().copied().collect();
            transaction.execute("INSERT INTO landed SELECT unnest($1::bigint[])", &[&ops]).await?;
            Ok(batch.accept_all())
        };
        self.0.postgres(batch, work).await
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::Transactional
    }
}

/// Ends the process at a step.
struct DieAt {
    step: u64,
    seen: AtomicU64,
}

struct IsStep(bool);

impl Visit for IsStep {
    fn record_debug(&mut self, field: &Field, _: &dyn fmt::Debug) {
        self.0 |= field.name() == "step";
    }
}

impl<S: tracing::Subscriber> Layer<S> for DieAt {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        let mut is_step = IsStep(false);
        event.record(&mut is_step);
        if is_step.0 && self.seen.fetch_add(1, Ordering::SeqCst) + 1 == self.step {
            std::process::abort();
        }
    }
}

fn say(line: fmt::Arguments<'_>) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("\n# {line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

async fn join(file: File) -> Joined<i64> {
    Durable::new("orders", file)
        .limits(Limits::new(4).max_in_flight(2))
        .retry(Retry::exponential(Duration::from_millis(1), Duration::from_millis(5)))
        .sink(Landing)
        .join()
        .await
        .unwrap()
}

/// One life: sends, pauses, resumes, requeues what was refused, and leaves.
async fn live(file: File, url: &str, life: i64) {
    let database = super::connect(url).await;
    let orders = join(file).await;
    let desk = orders.handle();
    desk.resume().await.unwrap();
    let mut acks = Vec::new();
    for op in (life * OPS..).take(OPS as usize) {
        let ack = desk.submit(op).await.unwrap();
        say(format_args!("accepted {op} {}", ack.id()));
        acks.push((op, ack));
        if op % OPS == OPS / 2 {
            desk.pause().await.unwrap();
            desk.resume().await.unwrap();
        }
    }
    for (op, ack) in acks {
        let end = ack.outcome().await.end;
        say(format_args!("ended {op} {end:?}"));
    }
    for (id, letter) in orders.dead_letters().list(100).await.unwrap() {
        database.execute("INSERT INTO allowed VALUES ($1) ON CONFLICT DO NOTHING", &[&letter.op]).await.unwrap();
        if orders.dead_letters().requeue(id).await.unwrap().is_some() {
            say(format_args!("requeued {}", letter.op));
        }
    }
    desk.flush().await.unwrap();
    orders.leave().await.unwrap();
    say(format_args!("left"));
}

#[test]
#[ignore = "the process that the test below starts"]
fn child() {
    let (Ok(path), Ok(url), Ok(task)) = (std::env::var(LOG), std::env::var(URL), std::env::var(TASK)) else {
        return;
    };
    let (life, step) = task.split_once(' ').unwrap();
    let dies = DieAt { step: step.parse().unwrap(), seen: AtomicU64::new(0) };
    let targets =
        tracing_subscriber::filter::Targets::new().with_target("roundlot::durable::step", tracing::Level::TRACE);
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(dies.with_filter(targets))).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(live(File::at(path).ledger(&url), &url, life.parse().unwrap()));
}

/// The words of the processes.
#[derive(Debug, Default)]
struct Journal {
    accepted: BTreeMap<i64, OpId>,
    ended: BTreeMap<i64, String>,
    requeued: Vec<i64>,
    has_left: bool,
}

impl Journal {
    fn note(&mut self, line: &str) {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["#", "accepted", op, id] => drop(self.accepted.insert(op.parse().unwrap(), id.parse().unwrap())),
            ["#", "ended", op, end] => drop(self.ended.insert(op.parse().unwrap(), end.to_owned())),
            ["#", "requeued", op] => self.requeued.push(op.parse().unwrap()),
            ["#", "left"] => self.has_left = true,
            _ => {}
        }
    }
}

/// Goal: no step is one at which a crash loses an op or repeats one. Method: life number n dies at its step number n, until one
/// takes fewer steps than that; then the table has each op once.
#[tokio::test]
#[ignore = "needs a PostgreSQL server: tests/run.sh starts one"]
async fn a_crash_at_each_step_does_no_harm() {
    let place = Place::new().await;
    place.execute("CREATE TABLE allowed (op bigint PRIMARY KEY)").await;
    let steps = std::env::var(STEPS_VARIABLE).map_or(STEPS, |steps| steps.parse().unwrap());
    let (mut journal, mut lives) = (Journal::default(), 0);
    while !journal.has_left {
        lives += 1;
        assert!(lives < 3000, "it never ends");
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "ledger::crashes::child", "--ignored", "--nocapture", "--test-threads", "1"])
            .env(LOG, place.path())
            .env(URL, &place.url)
            .env(TASK, format!("{lives} {}", lives * steps))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        BufReader::new(child.stdout.take().unwrap()).lines().for_each(|line| journal.note(&line.unwrap()));
        child.wait().unwrap();
    }
    assert!(lives > 30, "it died {lives} times");
    judge(&place, &journal).await;
    println!("{lives} lives, {} ops accepted, {} requeued", journal.accepted.len(), journal.requeued.len());
}

async fn judge(place: &Place, journal: &Journal) {
    let orders = join(place.file()).await;
    let desk = orders.handle();
    desk.resume().await.unwrap();
    desk.flush().await.unwrap();
    let mut landed: BTreeMap<i64, usize> = BTreeMap::new();
    place.landed().await.into_iter().for_each(|op| *landed.entry(op).or_default() += 1);
    assert!(landed.values().all(|times| *times == 1), "{landed:?}");
    let letters: Vec<i64> =
        orders.dead_letters().list(9999).await.unwrap().iter().map(|(_, letter)| letter.op).collect();
    for (op, id) in &journal.accepted {
        let OpStatus::Ended(outcome) = desk.outcome(*id).await.unwrap() else { panic!("{op} was accepted") };
        if let Some(end) = journal.ended.get(op) {
            assert_eq!(*end, format!("{:?}", outcome.end), "{op}");
        }
        let has_landed = landed.contains_key(op);
        match outcome.end {
            End::Delivered => assert!(has_landed, "{op} was delivered"),
            End::Refused => assert!(is_odd_one(*op) && has_landed != letters.contains(op), "{op} was refused"),
            // Given up, as one process after the other had died of it, and requeued.
            End::Exhausted => assert!(has_landed != letters.contains(op), "{op} was given up"),
            end => panic!("{op} ended as {end:?}"),
        }
    }
    assert!(journal.requeued.iter().all(|op| landed.contains_key(op)), "what was requeued is there");
    assert!(landed.len() >= journal.accepted.len() - letters.len());
    orders.leave().await.unwrap();
}
