//! Tests of the live page in headless Chromium, with the app behind it.
//!
//! The tests need `chromium`, `chromedriver`, a built trading app and the built example `mounted` of the board: `tests/run.sh` provides them and runs the tests.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod alive;
mod app;
mod board;
mod browser;
mod buttons;
mod glance;
mod restart;
