//! Tests of the live page in headless Chromium, with the app behind it.
//!
//! They need `chromium`, `chromedriver` and a trading app that is built: `tests/run.sh` sees to it and runs them.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod alive;
mod app;
mod browser;
mod buttons;
mod restart;
