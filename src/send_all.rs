//! Many ops at once: room and the lock are taken for a chunk at a time. In come ops, out goes a chunk after the other, and
//! whatever could not be taken. Next room: `command`.

use std::iter::Peekable;

use tokio::task::coop;

use crate::{
    accumulator::Arrival,
    command::Command,
    error::{SendAllError, SendError},
    handle::Handle,
    inbox::Inbox,
    moment::Moment,
};

/// Ops per chunk: enough to make room and lock cheap, few enough to let others in between.
const CHUNK: usize = 128;

/// See [`Handle::send_all`].
pub(crate) async fn send_all<T, R>(
    handle: &Handle<T, R>,
    mut ops: Peekable<impl Iterator<Item = T>>,
) -> Result<(), SendAllError<T>> {
    let mut chunk = Vec::with_capacity(CHUNK.min(ops.size_hint().0));
    while ops.peek().is_some() {
        // Whoever always finds room yields now and then, so that the task can take in what was sent.
        coop::consume_budget().await;
        let at = Moment::now();
        // The first op of a chunk waits for room; the others come along as far as there is some.
        let pass = match handle.room_for_one().await {
            Ok(pass) => pass,
            Err(barred) => return Err(not_taken(ops, barred.error(()))),
        };
        let mut room = Room { inbox: &handle.inbox, permits: usize::from(pass.paid) };
        if pass.paid {
            room.add_what_there_is(CHUNK - 1);
        }
        let size = room.permits.max(1);
        while chunk.len() < size
            && let Some(op) = ops.next_if(|op| !handle.is_too_heavy(op))
        {
            chunk.push(Command::Op { arrival: Arrival { op, at, ack: None }, paid: pass.paid });
        }
        let taken = chunk.len();
        if let Err(barred) = handle.inbox.push_all(&mut chunk, pass) {
            let back = chunk.into_iter().filter_map(Command::into_op);
            return Err(not_taken(back.chain(ops), barred.error(())));
        }
        room.permits = room.permits.saturating_sub(taken);
        if taken < size && ops.peek().is_some() {
            return Err(not_taken(ops, SendError::TooHeavy(())));
        }
    }
    Ok(())
}

/// Room that is taken and not used yet. It is given back whatever happens: the caller's iterator may panic.
struct Room<'a, T, R> {
    inbox: &'a Inbox<T, R>,
    permits: usize,
}

impl<T, R> Room<'_, T, R> {
    /// Takes more, as far as there is some right now.
    fn add_what_there_is(&mut self, most: usize) {
        let more = self.inbox.room.available_permits().min(most);
        // Somebody else may have been faster; then one at a time will do.
        if let Ok(permits) = self.inbox.room.try_acquire_many(more as u32) {
            permits.forget();
            self.permits += more;
        }
    }
}

impl<T, R> Drop for Room<'_, T, R> {
    fn drop(&mut self) {
        self.inbox.free(self.permits);
    }
}

fn not_taken<T>(ops: impl Iterator<Item = T>, reason: SendError<()>) -> SendAllError<T> {
    SendAllError { rest: ops.collect(), reason }
}
