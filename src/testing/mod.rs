//! Sinks and clock steps for tests of programs that use roundlot (feature `testing`). They record, fail, or hold
//! writes; the test keeps a clone of each sink.
//!
//! * [`Recorder`] keeps what it is written, with when and why.
//! * [`Flaky`] fails, panics, hangs or forgets its verdicts as scripted, and passes on the rest.
//! * [`Gate`] holds writes back until the test lets them through, and counts them.
//! * [`outcome`] and [`dead_letter`] make what a batcher would hand back, without one.
//! * [`until_idle`] lets the batcher do what it can do now; [`advance`] lets time pass, timer by timer.
//!
//! All three sinks are cheap to clone: the batcher gets one, the test keeps the other. They nest, and most tests want
//! `Gate` or `Flaky` around a `Recorder`. `Batch::for_test` and `Batch::verdict` test an own sink without a batcher.
//! Use `#[tokio::test(start_paused = true)]`: a linger of an hour then costs no time, and recorded times are exact.
//!
//! # Examples
//!
//! ```
//! use std::time::Duration;
//! use roundlot::{Batcher, CutBy, Limits, SinkError, testing::{Flaky, Recorder, advance, until_idle}};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let recorder = Recorder::new();
//! let flaky = Flaky::new(recorder.clone()).fail(SinkError::refused("market is closed"));
//! let (desk, worker) =
//!     Batcher::new(flaky.clone()).limits(Limits::new(2).linger(Duration::from_millis(10))).spawn();
//!
//! desk.send("lost").await?;
//! advance(Duration::from_millis(10)).await; // the linger passes, and the first write is refused
//! assert_eq!((flaky.writes(), recorder.len()), (1, 0));
//!
//! desk.send("a").await?;
//! desk.send("b").await?;
//! desk.send("c").await?;
//! until_idle().await; // no time passes: "a" and "b" fill a batch, "c" waits for more ops
//! assert_eq!(recorder.batches(), [["a", "b"]]);
//! assert_eq!(recorder.cuts(), [CutBy::Full]);
//!
//! drop(desk);
//! worker.join().await?;
//! assert_eq!(recorder.ops(), ["a", "b", "c"]);
//! assert!(recorder.is_closed());
//! # Ok(())
//! # }
//! ```

mod clock;
mod flaky;
mod gate;
mod recorder;
mod results;

#[cfg(feature = "durable")]
pub use crate::durable::memory::{MemoryFailure, MemoryLog};
pub use clock::{advance, until_idle};
pub use flaky::Flaky;
pub use gate::Gate;
pub use recorder::{Recorder, Written};
pub use results::{dead_letter, outcome};
