#![doc = include_str!("../README.md")]

mod accumulator;
mod ack;
mod actor;
mod batch;
mod batcher;
mod command;
mod dead_letter;
mod error;
mod flush;
mod handle;
mod limits;
pub mod market;
mod meter;
mod moment;
mod panics;
mod permit;
mod retry;
mod send_all;
pub mod sink;
pub mod stage;
mod stats;
mod stream;
#[cfg(feature = "testing")]
pub mod testing;
mod timer;
mod worker;
mod write;

pub use ack::{Ack, AckError, End, Outcome};
pub use batch::{Batch, CutBy, Pending, Settled};
pub use batcher::Batcher;
pub use dead_letter::DeadLetter;
pub use error::{Closed, SendAllError, SendError, SetLimitsError, TrySendError, WorkerGone};
pub use flush::FlushReport;
pub use handle::Handle;
pub use limits::{Limits, LimitsError, Overflow};
pub use permit::Permit;
pub use retry::Retry;
pub use sink::{BoxSink, ErrorKind, Sink, SinkError, from_futures, from_service, sink_fn};
pub use stage::Stages;
pub use stats::{Cuts, Stats, Times};
pub use stream::{BatchExt, Batched};
pub use worker::{Returned, Shutdown, Summary, Worker, WorkerFuture};
