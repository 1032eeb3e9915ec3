//! Proves promise 2: no batch, no number of writes and no buffer above its cap, and a full buffer never lingers.

use futures::FutureExt;
use roundlot::{
    Batcher, Limits, SendError,
    testing::{Recorder, until_idle},
};

use crate::{AGES, at_once};

/// Goal: a full buffer never sits out its linger, also while a part of the room is only reserved. Method: one permit is
/// held for good, more senders than there is room wait in line, and no time may pass until all are in.
#[tokio::test(start_paused = true)]
async fn senders_in_line_do_not_sit_out_the_linger_while_somebody_holds_a_permit() {
    // Guards: pressure is told once, when a sender begins to wait; later it depends on `nodes.len()`, which never reaches
    // max_pending while a permit is held. The second half of the line waits for the linger (or for ever).
    let sink = Recorder::new();
    let (desk, _worker) = Batcher::new(sink.clone()).limits(Limits::new(100).linger(AGES).max_pending(3)).spawn();
    let _held = desk.reserve().await.unwrap();
    let senders: Vec<_> = (0..6u32)
        .map(|op| {
            let desk = desk.clone();
            tokio::spawn(async move { desk.send(op).await })
        })
        .collect();
    for sender in senders {
        at_once(sender).await.unwrap().unwrap();
    }
}

/// Goal: `max_pending` is hard when it is lowered while permits are out. Method: three permits are reserved, the limit
/// becomes one, the permits are dropped, and only one op may get in.
#[tokio::test(start_paused = true)]
async fn permits_dropped_after_max_pending_was_lowered_do_not_make_room_above_it() {
    // Guards: a dropped `Permit` adds its room back without paying the debt that the lowered limit has left.
    let sink = Recorder::new();
    let limits = Limits::new(100).linger(AGES).max_pending(3);
    let (desk, _worker) = Batcher::new(sink.clone()).limits(limits.clone()).spawn();
    desk.pause();
    let permits = [desk.reserve().await.unwrap(), desk.reserve().await.unwrap(), desk.reserve().await.unwrap()];
    desk.set_limits(limits.max_pending(1)).unwrap();
    until_idle().await;
    drop(permits);
    let taken = (0..3u32).filter(|op| desk.try_send(*op).is_ok()).count();
    until_idle().await;
    assert_eq!((taken, desk.stats().waiting), (1, 1));
}

/// Goal: a panic of the caller's own iterator costs no room. Method: `send_all` of an iterator that panics half way, and
/// then the whole buffer must still be there.
#[tokio::test(start_paused = true)]
async fn an_iterator_that_panics_in_send_all_takes_no_room_with_it() {
    // Guards: the room taken for the chunk so far is forgotten when the iterator unwinds.
    let sink = Recorder::new();
    let (desk, _worker) = Batcher::new(sink.clone()).limits(Limits::new(100).linger(AGES).max_pending(10)).spawn();
    let ops = (0..10u32).inspect(|op| assert!(*op < 5, "the iterator panics"));
    let panicked = std::panic::AssertUnwindSafe(desk.send_all(ops)).catch_unwind().await;
    assert!(panicked.is_err());
    desk.pause();
    until_idle().await;
    let taken = desk.stats().waiting;
    let mut more = 0;
    while desk.try_send(9).is_ok() {
        more += 1;
    }
    assert_eq!(taken + more, 10);
    assert!(matches!(desk.try_send(9), Err(SendError::Full(9))));
}
