//! The size of batches, as far as the destination decides it. [`BatchSize`] is the cap in force. Two searches move it: one by
//! failures, always, and one by the time of writes, where the user switched it on. The accumulator tells how each write ended,
//! and asks for the cap before each cut.

mod batch_size;
mod by_time;
mod halving;

pub(crate) use batch_size::{BatchSize, CapEvent};
pub(crate) use by_time::{Landing, Proof};
pub(crate) use halving::Failure;
