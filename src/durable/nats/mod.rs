//! [`Nats`]: the engine that keeps the frames of a log in NATS JetStream (feature `durable-nats`). A ledger in PostgreSQL settles it, as it
//! does for a file.
//!
//! | file | holds |
//! |---|---|
//! | `settings` | what a user sets |
//! | `access` | how a process connects |
//! | `syncs` | whether the servers sync what they confirm |
//! | `streams` | the streams of a log, and requests to them |
//! | `fold` | which messages of a stream count, and their positions |
//! | `tombstone` | the message behind which frames of a process count for nothing |
//! | `shard` | how far this process has read a stream |
//! | `reader` | the task that reads it |
//! | `appender` | stores frames |
//! | `frames` | reads frames again, by their positions |
//! | `checkpoints` | where in the stream reading begins, in the ledger |
//! | `upkeep` | the task that moves that on |
//! | `heartbeat` | the task that shows that a process is alive, and takes leases |
//! | `join` | how a process joins |
//! | `outcomes` | tells other processes how their ops ended |
//! | `departures` | processes that leave or are removed |
//! | `log` | a log, as ingress and leaders see it |
//!
//! **A log is a fold over its stream.** JetStream stores messages and promises their order, and nothing else is asked of it: no dedupe
//! window, no expiry of messages, no transaction. Each process reads each stream and decides alike which messages are frames of the
//! log. An append is answered when the stream has synced the message and this process has read it.

mod access;
mod appender;
mod checkpoints;
mod departures;
mod fold;
mod frames;
mod heartbeat;
mod join;
mod log;
mod outcomes;
mod reader;
mod settings;
mod shard;
mod streams;
mod syncs;
mod tombstone;
mod upkeep;

use std::time::Duration;

pub use settings::Nats;

/// How long a server may take to answer a request.
const ANSWER: Duration = Duration::from_secs(2);

/// Bytes that a message must be able to have: a frame with the largest op.
const MIN_PAYLOAD: usize = super::frame::MAX_OP_BYTES + (16 << 10);
