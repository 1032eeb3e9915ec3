//! Properties of all that reads what strangers wrote: each is a function of bytes, and panics where they do not hold. The fuzz targets of
//! `fuzz/` call them, and the tests, which feed them their seeds and mutations of these. Those of the log are in `durable::fuzzing`.
//!
//! Each function returns whether the bytes were readable, so that a test knows that its input gets behind the checks.

mod config;
#[cfg(test)]
pub(crate) mod harness;
#[cfg(any(feature = "durable", feature = "websocket"))]
mod json;
mod nouns;
#[cfg(test)]
mod tests;
#[cfg(feature = "postgres")]
mod url;
#[cfg(feature = "websocket")]
mod websocket;

pub use config::{Format, config};
#[cfg(any(feature = "durable", feature = "websocket"))]
pub use json::json;
pub use nouns::nouns;
#[cfg(feature = "postgres")]
pub use url::url;
#[cfg(feature = "websocket")]
pub use websocket::websocket;
