//! The size of batches, as far as the destination's answers decide it. The accumulator tells it how each write ended, and asks
//! for the cap before each cut.

mod halving;

pub(crate) use halving::{BatchSize, Failure};
