//! The run that is recorded: two logs in one file, senders that tell what was confirmed, and sinks.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use roundlot::{
    AckError, Batch, End, Limits, Retry, Settled, Sink, SinkError, Stages,
    durable::{Durable, File, JoinError, Joined},
    sink::{sqlite::LogTable, table::Table},
    stage::Merge,
};
use serde::{Deserialize, Serialize};

use crate::{
    facts::{Journal, To},
    random::Random,
};

/// An op of either log. Ops of one key that wait together become one, with all their numbers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) key: u64,
    pub(crate) numbers: Vec<u64>,
    padding: String,
}

/// More than the writes or syncs that fail in a row.
const MAX_TRIES: usize = 20;

/// The first number of a key.
pub(crate) const OF_KEY: u64 = 1000;

/// Orders with these numbers are refused.
pub(crate) fn is_refused(number: u64) -> bool {
    number % 7 == 3
}

/// A destination that is neither transactional nor idempotent.
struct Venue {
    journal: Journal,
    writes: AtomicUsize,
}

impl Sink<Order> for Venue {
    async fn write(&self, batch: &mut Batch<Order>) -> Result<Settled, SinkError> {
        if self.writes.fetch_add(1, Ordering::Relaxed) % 5 == 3 {
            return Err(SinkError::transient("not now"));
        }
        let settled = batch.settle_each(|order| {
            if order.numbers.iter().any(|number| is_refused(*number)) {
                return Err(SinkError::refused("such orders are refused"));
            }
            let numbers: Vec<String> = order.numbers.iter().map(u64::to_string).collect();
            self.journal.tell(format_args!("arrived {}", numbers.join(" ")));
            Ok(())
        });
        Ok(settled)
    }
}

pub(crate) struct Logs {
    pub(crate) orders: Joined<Order>,
    pub(crate) rows: Joined<Order>,
}

pub(crate) fn database(folder: &Path) -> PathBuf {
    folder.join("log.db")
}

impl Logs {
    pub(crate) async fn join(folder: &Path, journal: &Journal) -> Result<Self, JoinError> {
        let file = File::at(database(folder));
        let retry = Retry::exponential(Duration::from_micros(10), Duration::from_micros(20));
        let merge = |mut waiting: Order, newer: Order| {
            waiting.numbers.extend(newer.numbers);
            Merge::Into(waiting)
        };
        let recipe = move || {
            let stages = Stages::new().partition_by(|order: &Order| order.key);
            stages.conflate_by(|order: &Order| order.key.is_multiple_of(2).then_some(order.key), merge)
        };
        let journal = journal.clone();
        let orders = Durable::new("orders", file.clone())
            .stages(recipe)
            .limits(Limits::new(4))
            .retry(retry.clone())
            .sink(move |_| Venue { journal: journal.clone(), writes: AtomicUsize::new(0) })
            .join()
            .await?;
        let table = Table::<Order>::new("rows")
            .integer("number", |order| order.numbers.first().map_or(-1, |number| *number as i64))
            .text("padding", |order| &order.padding)
            .create_if_missing();
        let table = LogTable::new(table).map_err(|error| JoinError::Open(error.to_string()))?;
        let joined = Durable::new("rows", file).limits(Limits::new(8)).retry(retry);
        match joined.sink(move |term| table.sink(term)).join().await {
            Ok(rows) => Ok(Self { orders, rows }),
            Err(error) => {
                // The file is closed before it is judged.
                let _ = orders.leave().await;
                Err(error)
            }
        }
    }

    pub(crate) async fn leave(self) {
        let _ = futures::future::join(self.orders.leave().into_future(), self.rows.leave().into_future()).await;
    }
}

/// The size of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    /// Senders of each log.
    pub(crate) senders: u64,
    /// Ops of each sender before and after the middle of a run.
    pub(crate) ops: u64,
    /// Bytes of the largest ops.
    pub(crate) bytes: usize,
}

impl Size {
    pub(crate) fn of(random: &mut Random) -> Self {
        let bytes = if random.one_in(3) { 9000 } else { 100 };
        Self { senders: 1 + random.below(3) as u64, ops: 1 + random.below(3) as u64, bytes }
    }
}

/// Runs a workload in a folder. It ends as a program does, or goes on after a restart, as the seed says.
pub(crate) async fn run(folder: &Path, random: &mut Random, size: Size) {
    let journal = Journal::open(folder);
    let mut logs = join(folder, &journal).await;
    send(&logs, &journal, random, size, 0).await;
    if random.one_in(2) {
        pause(&logs, &journal, random, size).await;
    }
    if random.one_in(2) {
        logs.leave().await;
        logs = join(folder, &journal).await;
    }
    send(&logs, &journal, random, size, 2 * size.ops).await;
    letters(&logs, &journal).await;
    if random.one_in(16) {
        wait_until_idle(folder).await;
    }
    logs.leave().await;
}

/// Joins the logs, again and again as long as the disk fails.
async fn join(folder: &Path, journal: &Journal) -> Logs {
    let mut tries = 0;
    loop {
        match Logs::join(folder, journal).await {
            Ok(logs) => return logs,
            Err(JoinError::Open(_)) if tries < MAX_TRIES => tries += 1,
            Err(error) => panic!("a log that was not harmed: {error}"),
        }
    }
}

/// Sends ops with numbers from `from` on by several senders at once, and waits for their outcomes.
async fn send(logs: &Logs, journal: &Journal, random: &mut Random, size: Size, from: u64) {
    let mut sending = Vec::new();
    for (to, key) in [To::Orders, To::Rows].into_iter().flat_map(|to| (0..size.senders).map(move |key| (to, key))) {
        let desk = if to == To::Orders { logs.orders.handle() } else { logs.rows.handle() };
        let (journal, bytes) = (journal.clone(), random.below(size.bytes));
        sending.push(async move {
            let mut ending = Vec::new();
            for number in (0..size.ops).map(|i| key * OF_KEY + from + i) {
                let order = Order { key, numbers: vec![number], padding: "x".repeat(bytes) };
                // An op in doubt is under way all the same; the judge looks at the confirmed ones.
                let Ok(ack) = desk.submit(order).await else { continue };
                journal.tell(format_args!("confirmed {} {number} {}", to.name(), ack.id()));
                let journal = journal.clone();
                ending.push(async move {
                    let outcome = ack.outcome().await;
                    journal.tell(format_args!("ended {} {number} {}", to.name(), kind(&outcome.result)));
                });
            }
            futures::future::join_all(ending).await;
        });
    }
    futures::future::join_all(sending).await;
}

/// How an op ended, in one word.
pub(crate) fn kind<R>(result: &Result<R, AckError>) -> &'static str {
    match result {
        Ok(_) => "delivered",
        Err(AckError::Refused(_)) => "refused",
        Err(AckError::InDoubt(_)) => "in_doubt",
        Err(AckError::Exhausted(_)) => "exhausted",
        Err(_) => "other",
    }
}

async fn pause(logs: &Logs, journal: &Journal, random: &mut Random, size: Size) {
    let desk = logs.orders.handle();
    if desk.pause().await.is_err() {
        return;
    }
    journal.tell(format_args!("paused"));
    let resuming = async {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        journal.tell(format_args!("resuming"));
        // Ops that were sent while paused wait for this.
        let _ = desk.resume().await;
    };
    futures::future::join(send(logs, journal, random, size, size.ops), resuming).await;
}

async fn letters(logs: &Logs, journal: &Journal) {
    let letters = logs.orders.dead_letters();
    let Ok(found) = letters.list(100).await else { return };
    // One in doubt may have arrived.
    let refused = found.into_iter().filter(|(_, letter)| letter.end() == End::Refused);
    for (i, (id, _)) in refused.enumerate().take(3) {
        journal.tell(format_args!("touching {id}"));
        if i % 2 == 0 {
            if letters.discard(id).await == Ok(true) {
                journal.tell(format_args!("discarded {id}"));
            }
        } else if let Ok(Some(new)) = letters.requeue(id).await {
            journal.tell(format_args!("requeued {new}"));
        }
    }
    let _ = logs.orders.handle().flush().await;
}

/// Waits until the writer has tidied up, which it tells by a sync of the mark.
async fn wait_until_idle(folder: &Path) {
    let syncs = || {
        let (mut names, mut syncs) = (crate::record::Names::default(), 0);
        for event in crate::record::read(folder) {
            names.learn(&event);
            if let crate::record::Event::Sync { inode } = event {
                syncs += usize::from(names.of(inode).ends_with("-mark"));
            }
        }
        syncs
    };
    let before = syncs();
    for _ in 0..1000 {
        if syncs() > before {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A folder in memory, where syncs cost nothing.
pub(crate) fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let made = tempfile::Builder::new().prefix("roundlot-power-").suffix(".power").tempdir_in(place);
    made.unwrap_or_else(|error| panic!("no folder: {error}"))
}

/// The runtime of one thread of a campaign.
pub(crate) fn runtime() -> Arc<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    Arc::new(runtime.unwrap_or_else(|error| panic!("no runtime: {error}")))
}
