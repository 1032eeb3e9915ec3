//! [`Said`]: the journal of the driver: what the victim tells before and after its calls, by a pipe that outlives it.

use std::io::Write;

use serde::{Deserialize, Serialize};

use crate::op::Op;

/// A line of the victim.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Said {
    /// The log was joined, with so many ops in it.
    Joined {
        recovered: u64,
        in_doubt: u64,
        paused: bool,
        at: u64,
    },
    /// An op is about to be sent; with its id, if it is sent under one.
    Sending {
        op: Op,
        id: Option<String>,
    },
    /// The call returned that sent the op of this number.
    Accepted {
        number: u64,
        id: Option<String>,
    },
    /// The call returned an error after which the op is not in the log.
    NotAccepted {
        number: u64,
        why: String,
    },
    /// Its ack told how the op ended.
    Ended {
        id: String,
        end: String,
    },
    /// An op is about to be sent again under its id, after a doubt or in a later life.
    SendingAgain {
        number: u64,
        id: String,
    },
    /// The id was refused as forgotten.
    Forgotten {
        number: u64,
        id: String,
    },
    /// `withdraw` returned an op that stands for these numbers.
    Withdrew {
        numbers: Vec<u64>,
    },
    /// `pause` returned at this time, and the destination has noted it.
    Paused {
        at: u64,
        under_way: u64,
    },
    /// `resume` is about to be called.
    Resuming {
        at: u64,
    },
    /// `resume` returned.
    Resumed,
    /// A dead letter is about to be sent again.
    Requeueing {
        id: String,
        number: u64,
    },
    /// The letter has a new id now.
    Requeued {
        id: String,
        number: u64,
        new: Option<String>,
    },
    /// A dead letter is about to be removed.
    Discarding {
        id: String,
        numbers: Vec<u64>,
    },
    Discarded {
        id: String,
        was_there: bool,
    },
    /// The last life's answer about an id: how it ended, or where it is.
    Became {
        id: String,
        status: String,
        has_ended: bool,
    },
    /// The last life's list of dead letters.
    Letter {
        id: String,
        numbers: Vec<u64>,
        end: String,
    },
    /// The log was drained by the last life.
    Drained {
        accepted: u64,
        recovered: u64,
        ended: u64,
        repeats: u64,
    },
    /// The log was left.
    Left,
}

/// Tells the driver. A line is written whole, before the next statement of its task.
pub(crate) fn say(said: &Said) {
    let mut line = serde_json::to_vec(said).unwrap_or_default();
    line.push(b'\n');
    let mut out = std::io::stdout().lock();
    if out.write_all(&line).and_then(|()| out.flush()).is_err() {
        // The driver is gone, and with it all reason to go on.
        std::process::exit(1);
    }
}
