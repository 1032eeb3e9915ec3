//! How an op ends, and how its caller hears of it.

pub(crate) mod mutex;
pub(crate) mod reply;
pub(crate) mod undelivered;

pub use undelivered::{DeadLetter, Returned};
