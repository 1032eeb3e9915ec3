//! Ring 1, the rules: synchronous, with no task, no channel and no clock. `now` comes in, a deadline goes out. Drivers call
//! them; they call nothing but the functions of the user.

pub(crate) mod accumulator;
pub(crate) mod adaptive;
pub(crate) mod batch;
pub(crate) mod config;
pub(crate) mod outcome;
pub(crate) mod panics;
pub(crate) mod quota;
pub(crate) mod seconds;
pub(crate) mod stable_hash;
pub mod stage;
pub(crate) mod stats;
pub(crate) mod time;
