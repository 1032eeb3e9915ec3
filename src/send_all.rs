//! Many ops at once: room and the lock are taken for a chunk at a time. In come ops, out goes a chunk after the other, and
//! whatever could not be taken. Next room: `command`.

use std::iter::Peekable;

use crate::{
    accumulator::Arrival,
    error::{SendAllError, SendError},
    handle::Handle,
    timer::now,
};

/// Ops per chunk: enough to make room and lock cheap, few enough to let others in between.
const CHUNK: usize = 128;

/// See [`Handle::send_all`].
pub(crate) async fn send_all<T, R>(
    handle: &Handle<T, R>,
    mut ops: Peekable<impl Iterator<Item = T>>,
) -> Result<(), SendAllError<T>> {
    while ops.peek().is_some() {
        // The first op of a chunk waits for room; the others come along as far as there is some.
        let paid = match handle.room_for_one().await {
            Ok(paid) => paid,
            Err(barred) => return Err(not_taken(ops, barred.error(()))),
        };
        let room = 1 + if paid { more_room(handle) } else { 0 };
        let at = now();
        let mut chunk = Vec::with_capacity(room);
        let mut too_heavy = None;
        while chunk.len() < room
            && let Some(op) = ops.next()
        {
            match handle.weighed(op) {
                Ok(op) => chunk.push(Arrival { op, at, ack: None }),
                Err(error) => {
                    too_heavy = Some(error.into_inner());
                    break;
                }
            }
        }
        let taken = chunk.len();
        let refused = handle.inbox.push_all(chunk, paid);
        if paid {
            let used = if refused.is_ok() { taken } else { 0 };
            handle.inbox.room.add_permits(room - used);
        }
        if let Err((barred, chunk)) = refused {
            let back = chunk.into_iter().map(|arrival| arrival.op);
            return Err(not_taken(back.chain(too_heavy).chain(ops), barred.error(())));
        }
        if let Some(op) = too_heavy {
            return Err(not_taken(std::iter::once(op).chain(ops), SendError::TooHeavy(())));
        }
    }
    Ok(())
}

/// Takes room for the rest of a chunk, as far as there is some right now.
fn more_room<T, R>(handle: &Handle<T, R>) -> usize {
    let room = &handle.inbox.room;
    let more = room.available_permits().min(CHUNK - 1);
    // Somebody else may have been faster; then one at a time will do.
    match room.try_acquire_many(more as u32) {
        Ok(permits) => {
            permits.forget();
            more
        }
        Err(_) => 0,
    }
}

fn not_taken<T>(ops: impl Iterator<Item = T>, reason: SendError<()>) -> SendAllError<T> {
    SendAllError { rest: ops.collect(), reason }
}
