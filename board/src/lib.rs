#![doc = include_str!("../README.md")]

mod assets;
mod board;
mod buckets;
mod connections;
mod control;
mod errors;
mod event;
mod guard;
mod keys;
pub mod latency;
mod live;
mod panel;
mod sampler;
mod server;
mod socket;
#[cfg(test)]
mod tests;
mod watch;

pub use board::{Board, BoardError};
pub use connections::serve;
pub use control::{Action, Command, Control, flushed};
pub use errors::{Errors, Observed};
pub use live::{Live, Publisher};
pub use panel::{Panel, StopButton};
pub use watch::{Ended, Watch, Watched};
