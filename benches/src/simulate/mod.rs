//! A simulator of batch sizes: real batchers on a paused clock before destinations whose writes are sleeps.
//!
//! [`Model`] is a destination and [`Arrivals`] the load. [`run()`] simulates one batcher, [`sweep()`] all cells of a grid, and
//! [`Judgement`] compares the policies. A run is the same twice to the byte, given its seed.

mod arrivals;
mod judge;
mod later;
mod model;
mod quota;
mod run;
mod sweep;
mod zoo;

pub use arrivals::{ALL as LOADS, Arrivals, Load};
pub use judge::{Against, Judgement};
pub use model::{Model, Reply, Write, capacity};
pub use quota::{Forgets, Keeps, QuotaOutcome, Rule, Venue, run_quota, venues};
pub use run::{Outcome, Policy, run};
pub use sweep::{Cell, Grid, sweep};
pub use zoo::{Entry, models};
