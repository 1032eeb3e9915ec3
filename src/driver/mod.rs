//! Ring 2, the drivers: tasks, channels and timers around the rules. They hold no rule of their own.

pub(crate) mod actor;
pub(crate) mod clock;
pub(crate) mod handle;
pub(crate) mod inbox;
pub(crate) mod metrics;
mod mutex;
mod reply;
pub(crate) mod shared_bucket;
pub(crate) mod stream;
pub(crate) mod timer;
mod wake;
pub(crate) mod worker;
