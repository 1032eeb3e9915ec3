//! A log with arbitrary rows is refused, or all that waits in it ends and stays so. No task of a batcher panics.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::sealed;
use crate::{
    Batch, Settled, Sink, SinkError, Stages,
    durable::{
        Durable, Handle, Joined, OnUndecodable,
        bytes::Reader,
        error::JoinError,
        frame::{Entry, Frame, MAX_COUNT, MAX_NUMBER, Packer},
        intent::{Intent, IntentOp},
        log::{
            Purge, rules,
            store::{LetterRow, OutcomeRow, ProducerRow, ShardRow, Store, Stored},
        },
    },
    rules::outcome::{End, OpId},
    sink::Guarantee,
    testing::MemoryLog,
};

/// The shard of the only log.
const SHARD: u32 = 0;

/// Rows of a log, at most.
const MAX_ROWS: usize = 64;

/// More than any pause of a leader, on a clock that is paused.
const PATIENCE: Duration = Duration::from_secs(3600);

/// A destination that accepts everything, and counts it.
#[derive(Clone)]
struct Counts {
    guarantee: Guarantee,
    written: Arc<Mutex<u64>>,
}

impl Sink<u32> for Counts {
    async fn write(&self, batch: &mut Batch<u32>) -> Result<Settled, SinkError> {
        *self.written.lock().unwrap_or_else(PoisonError::into_inner) += batch.len() as u64;
        Ok(batch.accept_all())
    }

    fn guarantee(&self) -> Guarantee {
        self.guarantee
    }
}

/// Writes rows of a log from bytes, joins it, and lets what waits end.
pub fn recover(bytes: &[u8]) -> bool {
    let Some((settings, rows)) = bytes.split_first() else { return false };
    let log = MemoryLog::new();
    if log.change(|store| write_rows(store, rows)).is_none() {
        return false;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let is_read = runtime.expect("a runtime").block_on(async {
        match tokio::time::timeout(PATIENCE, join(&log, *settings)).await.expect("join ends") {
            Ok(orders) => {
                let found = end_all(orders).await;
                let again = join(&log, *settings).await.expect("it was joined before");
                assert_eq!(again.stats().recovered, 0, "{found} ops have ended");
                again.leave().await.expect("it has joined");
                true
            }
            Err(error) => {
                assert!(!error.to_string().contains("panicked"), "{error}");
                false
            }
        }
    });
    // Requests that a leader makes later, or no leader makes. An error says that the log is damaged.
    log.change(|store| drop(later(store)));
    is_read
}

async fn join(log: &MemoryLog, settings: u8) -> Result<Joined<u32>, JoinError> {
    let guarantee = if settings & 1 == 0 { Guarantee::Unknown } else { Guarantee::Idempotent };
    let on_undecodable = if settings & 2 == 0 { OnUndecodable::Hold } else { OnUndecodable::Refuse };
    let merges = settings & 4 != 0;
    let stages = move || {
        let sum = |one: u32, other: u32| Some(one.wrapping_add(other));
        if merges { Stages::new().conflate_by(|op: &u32| op % 4, sum) } else { Stages::new() }
    };
    let sink = Counts { guarantee, written: Arc::default() };
    let orders = Durable::new("fuzz", log.clone()).stages(stages).on_undecodable(on_undecodable);
    orders.sink(move |_| sink.clone()).join().await
}

/// Lets all ops end, and compares what is counted. Returns how many there were.
async fn end_all(orders: Joined<u32>) -> u64 {
    let desk: Handle<u32> = orders.handle();
    desk.send(7).await.expect("the log takes ops");
    tokio::time::timeout(PATIENCE, desk.flush()).await.expect("all ops end").expect("it has joined");
    for producer in [0, 1, 7, MAX_NUMBER] {
        let id = OpId::new(producer, 0, 1);
        desk.outcome(id).await.expect("it has joined");
    }
    orders.dead_letters().list(MAX_ROWS).await.expect("it has joined");
    let stats = orders.leave().await.expect("it has joined");
    assert_eq!((stats.waiting, stats.in_flight), (0, 0));
    assert_eq!(stats.recovered + stats.accepted, stats.outcomes.total() + stats.repeats, "each op ends once");
    stats.recovered
}

fn later(store: &mut dyn Store) -> Stored<()> {
    rules::begin(store, SHARD)?;
    let frames: Vec<u64> = rules::read(store, SHARD, 0)?.iter().map(|frame| frame.first).collect();
    rules::compact(store, SHARD, &frames)?;
    for letter in store.letters(SHARD, None, MAX_ROWS)? {
        rules::requeue(store, SHARD, (letter.producer, letter.number), (9, letter.number), 0)?;
    }
    rules::doubt_all(store, SHARD)?;
    let purge = Purge { before: u64::MAX, now: u64::MAX, ..Purge::default() };
    rules::purge(store, SHARD, &purge).map(drop)
}

/// Writes rows as bytes tell, with the checksums that engines would compare. `None` if the bytes end within a row.
fn write_rows(store: &mut dyn Store, bytes: &[u8]) -> Option<()> {
    rules::join(store, "fuzz", 1).ok()?;
    let (mut reader, mut shard) = (Reader::new(bytes), ShardRow::default());
    for _ in 0..MAX_ROWS {
        if reader.is_at_end() {
            break;
        }
        write_row(store, &mut reader, &mut shard)?;
        store.put_shard(SHARD, &shard).ok()?;
    }
    Some(())
}

fn write_row(store: &mut dyn Store, reader: &mut Reader<'_>, shard: &mut ShardRow) -> Option<()> {
    let kind = reader.byte()?;
    match kind % 9 {
        0 => {
            let frame = sealed(reader.bytes()?.1);
            let count = Frame::count_of(&frame).filter(|count| *count > 0).unwrap_or(1);
            return push(store, shard, count, &frame);
        }
        1 => {
            let mut packer = Packer::new(1);
            for (byte, number) in reader.bytes()?.1.iter().zip(shard.next + 1..) {
                let entry = Entry { producer: 1, number, handle: 0, may_repeat: byte & 0x80 != 0, withdraws: false };
                packer.push(entry, (byte & 0x7f).to_string().as_bytes());
            }
            let frame = packer.seal(shard.next + 1, 1_600_000_000_000_000_000, 0);
            if frame.count > 0 {
                return push(store, shard, frame.count, &frame.bytes);
            }
        }
        2 => store.put_intent(SHARD, number(reader)?, reader.bytes()?.1).ok()?,
        3 => {
            let (count, alone) = (reader.byte()?, reader.byte()? & 1 == 1);
            let mut op = || {
                let (first, second) = (number(reader)?, number(reader)?);
                let positions = if first < second { vec![first, second] } else { vec![first] };
                let op = (second % 3 == 0).then(|| second.to_string().into_bytes());
                Some(IntentOp { positions, attempts: (second % 5) as u32, op })
            };
            let ops = (0..count % 8).map(|_| op()).collect::<Option<Vec<_>>>()?;
            store.put_intent(SHARD, u64::from(count), &Intent { alone, schema: 0, ops }.encode()).ok()?;
        }
        4 => store.put_settled(SHARD, number(reader)?, number(reader)?).ok()?,
        5 => shard.cursor = number(reader)?,
        6 => {
            let (frame, first, floor) = (number(reader)?, number(reader)?, number(reader)?);
            let row = ProducerRow { frame, first, floor, claimed: number(reader)? };
            store.put_producer(SHARD, u64::from(kind), &row).ok()?;
        }
        7 => {
            let (producer, first, count) = (u64::from(reader.byte()?), number(reader)?, number(reader)?);
            let end = End::ALL[usize::from(kind) % End::ALL.len()].name();
            let (lengths, result) = (reader.bytes()?.1.to_vec(), reader.bytes()?.1.to_vec());
            let row = OutcomeRow { producer, first, count, end, attempts: 1, at: 0, schema: 0, result, lengths };
            store.put_outcome(SHARD, &row).ok()?;
        }
        _ => {
            let (number, schema) = (number(reader)?, u32::from(reader.byte()?));
            let (op, error) = (reader.bytes()?.1.to_vec(), reader.bytes()?.1.to_vec());
            let (end, position) = (End::Refused.name(), None);
            let row = LetterRow { producer: 1, number, position, op, schema, end, attempts: 1, error, at: 0 };
            store.put_letter(SHARD, &row).ok()?;
        }
    }
    Some(())
}

/// Adds a frame behind the others, as long as the log has positions.
fn push(store: &mut dyn Store, shard: &mut ShardRow, count: u64, frame: &Arc<[u8]>) -> Option<()> {
    if shard.next + MAX_COUNT < MAX_NUMBER {
        let count = count.min(MAX_COUNT);
        store.put_frame(SHARD, shard.next, count, frame).ok()?;
        shard.next += count;
    }
    Some(())
}

/// A number as engines have it, which are signed.
fn number(reader: &mut Reader<'_>) -> Option<u64> {
    Some(reader.varint()? & MAX_NUMBER)
}
