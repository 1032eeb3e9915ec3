//! A thread with a channel of the standard library and `recv_timeout`, as in many tutorials.
//!
//! Producers are threads, since a blocking `send` would block a worker of the runtime.

use std::{
    sync::mpsc::{RecvTimeoutError, sync_channel},
    thread,
    time::Instant,
};

use super::{BATCH, LINGER, SLOTS};
use crate::{load::Load, op::Op, target::Target};

/// Sends ops one by one.
pub fn send(load: Load) {
    let target = Target::default();
    let (desk, inbox) = sync_channel(SLOTS);
    thread::scope(|scope| {
        for share in load.shares() {
            let desk = desk.clone();
            scope.spawn(move || share.for_each(|i| desk.send(Op::numbered(i)).expect("the other end is there")));
        }
        drop(desk);
        let mut batch = Vec::with_capacity(BATCH);
        let mut deadline = Instant::now() + LINGER;
        loop {
            let received = inbox.recv_timeout(deadline.saturating_duration_since(Instant::now()));
            if let Ok(op) = received {
                batch.push(op);
            }
            if batch.len() == BATCH || received.is_err() {
                target.take(&batch);
                batch.clear();
                deadline = Instant::now() + LINGER;
            }
            if received == Err(RecvTimeoutError::Disconnected) {
                break;
            }
        }
    });
    target.check(load.ops);
}
