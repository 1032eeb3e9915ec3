//! The time from `join` until all that waits is settled, and that of reading and decoding the same file once.

use std::time::Instant;

use roundlot::{
    Limits, Stages,
    durable::{Codec, Durable, File, Json, Term},
    sink::Guarantee,
    stage,
};

use super::{CHUNK, Order, file, open, ours::Receipts, runtime};
use crate::Error;

pub const FILL: &str = "durable recovery, fill";
pub const READ: &str = "durable recovery, read";
pub const RECOVER: &str = "durable recovery";

const FILE: &str = "log.db";

/// Ops for each key: a million ops have 100,000 keys.
const OPS_PER_KEY: u64 = 10;

fn receipts(term: Term) -> Receipts {
    Receipts { term, guarantee: Guarantee::Transactional }
}

fn limits(ops: u64) -> Limits {
    Limits::new(CHUNK as usize).max_pending(ops as usize + 1)
}

/// Makes a file in which so many ops wait, whatever their keys.
pub(super) fn fill(ops: u64) -> Result<Vec<f64>, Error> {
    runtime(2)?.block_on(async {
        let durable = Durable::new("bench", File::at(file(FILE)?)).limits(limits(ops)).sink(receipts);
        let joined = durable.join().await?;
        let desk = joined.handle();
        desk.pause().await?;
        desk.send_all((0..ops).map(Order::numbered)).await?;
        joined.leave().await?;
        Ok(Vec::new())
    })
}

/// Reads all frames with a bare connection and decodes the ops in them. Returns the seconds that it took.
pub(super) fn read(ops: u64) -> Result<Vec<f64>, Error> {
    let connection = open(&file(FILE)?)?;
    let start = Instant::now();
    let mut orders: Vec<Order> = Vec::new();
    let mut frames = connection.prepare("SELECT bytes FROM roundlot_frames ORDER BY first")?;
    let mut rows = frames.query([])?;
    while let Some(row) = rows.next()? {
        decode(row.get_ref(0)?.as_blob()?, &mut orders).ok_or("a frame that the bench can't read")??;
    }
    let seconds = start.elapsed().as_secs_f64();
    if orders.len() as u64 == ops { Ok(vec![seconds]) } else { Err(format!("{} of {ops} ops", orders.len()).into()) }
}

/// Joins, and waits until all ops are settled. Returns the seconds that it took.
pub(super) fn recover(ops: u64) -> Result<Vec<f64>, Error> {
    runtime(2)?.block_on(async {
        let keys = ops.div_ceil(OPS_PER_KEY);
        let start = Instant::now();
        let durable = Durable::new("bench", File::at(file(FILE)?))
            .stages(move || Stages::new().conflate_by(move |order: &Order| Some(order.id % keys), stage::latest))
            .limits(limits(ops))
            .sink(receipts);
        let joined = durable.join().await?;
        let desk = joined.handle();
        desk.resume().await?;
        desk.flush().await?;
        let seconds = start.elapsed().as_secs_f64();
        let outcomes = desk.stats().outcomes;
        joined.leave().await?;
        if (outcomes.delivered, outcomes.delivered + outcomes.conflated) != (keys, ops) {
            return Err(format!("of {ops} ops of {keys} keys: {outcomes:?}").into());
        }
        Ok(vec![seconds])
    })
}

/// Decodes the ops of a frame, whose format `src/durable/frame.rs` tells. `None` if the frame ends too early.
fn decode(frame: &[u8], orders: &mut Vec<Order>) -> Option<Result<(), Error>> {
    let mut rest = frame.get(1..frame.len().checked_sub(8)?)?;
    let (_producer, _number) = (varint(&mut rest)?, varint(&mut rest)?);
    rest = rest.get(8..)?;
    let (_schema, count) = (varint(&mut rest)?, varint(&mut rest)?);
    for _ in 0..count {
        let (&flags, behind) = rest.split_first()?;
        rest = behind;
        // A number, a producer and a handle, where they are not what one expects.
        for flag in [1, 2, 8] {
            if flags & flag != 0 {
                varint(&mut rest)?;
            }
        }
        let length = usize::try_from(varint(&mut rest)?).ok()?;
        let (bytes, behind) = rest.split_at_checked(length)?;
        rest = behind;
        match Json.decode(bytes, 0) {
            Ok(order) => orders.push(order),
            Err(error) => return Some(Err(error)),
        }
    }
    Some(Ok(()))
}

fn varint(from: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = from.split_first()?;
        *from = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}
